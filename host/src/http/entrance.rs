//! What happens to every request of an address, whatever its route: it gets an id, its answer the headers that TorchServe sends, and it is counted.
//!
//! A request whose body nobody has read ends the connection, and its answer says so: the rest would be taken for the next request.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::task::Poll;

use axum::BoxError;
use axum::Router;
use axum::body::Body;
use axum::body::Bytes;
use axum::body::HttpBody;
use axum::extract::Request;
use axum::http::HeaderValue;
use axum::http::Response;
use axum::http::header;
use axum::response::IntoResponse;
use hyper::body::Incoming;
use tower::ServiceExt;

use super::document::Document;
use super::error::ApiError;
use super::path;
use super::reply;
use super::reply::RequestId;
use crate::metrics::Metrics;

/// What answers at one address.
#[derive(Clone)]
pub struct Entrance {
    pub(super) routes: Router,
    pub(super) metrics: Metrics,
    /// What the routes tell of themselves.
    pub(super) document: Option<Arc<Document>>,
}

/// A body that tells when it was read to its end.
struct Watched {
    body: Incoming,
    is_read: Arc<AtomicBool>,
}

// === impl Entrance ===

impl Entrance {
    pub(super) async fn answer(self, request: Request<Incoming>) -> Response<Body> {
        let id = RequestId::new();
        let metrics = self.metrics.clone();
        let mut response = self.pass_on(request, id).await;
        reply::set_headers(&mut response, id);
        metrics.responded(response.status().as_u16());
        response
    }

    async fn pass_on(self, request: Request<Incoming>, id: RequestId) -> Response<Body> {
        let is_read = (!request.body().is_end_stream()).then(Arc::<AtomicBool>::default);
        let mut request = request.map(|body| match &is_read {
            Some(is_read) => Body::new(Watched { body, is_read: Arc::clone(is_read) }),
            None => Body::empty(),
        });
        match path::normal(request.uri()) {
            Ok(None) => {}
            Ok(Some(uri)) => *request.uri_mut() = uri,
            Err(bad) => return ApiError::bad_request(bad.text()).into_response(),
        }
        request.extensions_mut().insert(id);
        if let Some(document) = self.document {
            request.extensions_mut().insert(document);
        }
        let Ok(mut response) = self.routes.oneshot(request).await;
        if is_read.is_some_and(|is_read| !is_read.load(Ordering::Acquire)) {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

impl fmt::Debug for Entrance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entrance").field("routes", &self.routes).finish_non_exhaustive()
    }
}

// === impl Watched ===

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, BoxError>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if matches!(frame, Poll::Ready(None)) || self.body.is_end_stream() {
            self.is_read.store(true, Ordering::Release);
        }
        frame.map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}
