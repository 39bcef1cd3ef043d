//! What is said to who speaks no HTTP, or says too much at once.
//!
//! Hyper answers a head that it can't take by itself, with a status alone; TorchServe's clients know an error in JSON.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::task::Poll;
use std::task::ready;

use axum::response::IntoResponse;
use bytes::Buf;
use bytes::Bytes;
use futures_util::FutureExt;
use http_body_util::BodyExt;
use hyper::rt::Read;
use hyper::rt::ReadBufCursor;
use hyper::rt::Write;

use super::error::ApiError;
use super::reply;
use super::reply::RequestId;

/// A connection on which, until a request was understood, anything that hyper says is replaced by an error in our form.
#[derive(Debug)]
pub(super) struct Introduced<I> {
    io: I,
    understood: Understood,
    /// What is left to be said of the error, once it has begun.
    refusal: Option<Bytes>,
}

/// Whether a request on a connection has reached the routes.
#[derive(Debug, Clone, Default)]
pub(super) struct Understood(Arc<AtomicBool>);

// === impl Understood ===

impl Understood {
    pub(super) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

// === impl Introduced ===

impl<I> Introduced<I> {
    pub(super) fn new(io: I, understood: Understood) -> Self {
        Self { io, understood, refusal: None }
    }
}

impl<I: Read + Unpin> Read for Introduced<I> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl<I: Write + Unpin> Write for Introduced<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.understood.get() {
            return Pin::new(&mut this.io).poll_write(cx, bytes);
        }
        let rest = this.refusal.get_or_insert_with(refusal);
        while !rest.is_empty() {
            match ready!(Pin::new(&mut this.io).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => rest.advance(count),
            }
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.understood.get() {
            return Pin::new(&mut self.io).poll_write_vectored(cx, slices);
        }
        let first = slices.iter().find(|slice| !slice.is_empty());
        self.poll_write(cx, first.map_or(&[], |slice| slice))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// The error as it goes over the wire.
fn refusal() -> Bytes {
    let mut error = ApiError::bad_request("Invalid HTTP message.").into_response();
    reply::set_headers(&mut error, RequestId::new());
    let (head, body) = error.into_parts();
    // It is in memory as a whole.
    let body = body.collect().now_or_never().and_then(Result::ok).map(|body| body.to_bytes()).unwrap_or_default();
    let mut text =
        format!("HTTP/1.1 {}\r\nconnection: close\r\ncontent-length: {}\r\n", head.status, body.len()).into_bytes();
    for (name, value) in &head.headers {
        if name != axum::http::header::CONTENT_LENGTH {
            text.extend_from_slice(name.as_str().as_bytes());
            text.extend_from_slice(b": ");
            text.extend_from_slice(value.as_bytes());
            text.extend_from_slice(b"\r\n");
        }
    }
    text.extend_from_slice(b"\r\n");
    text.extend_from_slice(&body);
    text.into()
}
