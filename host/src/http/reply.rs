//! The form of every answer: TorchServe's headers and its way of writing JSON.

use axum::body::Body;
use axum::body::Bytes;
use axum::http::HeaderName;
use axum::http::HeaderValue;
use axum::http::Response;
use axum::http::StatusCode;
use axum::http::header;
use axum::http::request::Parts;
use axum::response::IntoResponse;
use futures_util::StreamExt;
use futures_util::stream;
use handler_sdk::Answer;
use serde::Serialize;
use uuid::Uuid;

use super::error::ApiError;
use crate::serving::Pieces;
use crate::serving::ServeError;

/// What comes of a request; an error becomes an answer in the contract's form.
pub(super) type Reply = Result<Response<Body>, ApiError>;

/// The id of a request; the handler and the client see it as text.
#[derive(Debug, Clone, Copy)]
pub(super) struct RequestId(Uuid);

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

// === impl RequestId ===

impl RequestId {
    pub(super) fn new() -> Self {
        Self(Uuid::new_v4())
    }

    /// That which the entrance gave to a request.
    pub(super) fn of(head: &Parts) -> Self {
        head.extensions.get().copied().unwrap_or_else(Self::new)
    }

    pub(super) fn text(self) -> String {
        self.0.to_string()
    }

    fn header(self) -> Option<HeaderValue> {
        let mut text = Uuid::encode_buffer();
        HeaderValue::from_str(self.0.hyphenated().encode_lower(&mut text)).ok()
    }
}

/// The headers that every answer has.
pub(super) fn set_headers(response: &mut Response<Body>, id: RequestId) {
    let is_error = response.status().as_u16() >= 400;
    let headers = response.headers_mut();
    if is_error {
        // As in TorchServe. Part of the request may be unread, and would be taken for the next one.
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    if let Some(value) = id.header() {
        headers.insert(REQUEST_ID, value);
    }
    for (name, value) in [
        (header::PRAGMA, "no-cache"),
        (header::CACHE_CONTROL, "no-cache; no-store, must-revalidate, private"),
        (header::EXPIRES, "Thu, 01 Jan 1970 00:00:00 UTC"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

/// JSON with two spaces of indentation and a line's end, as TorchServe writes it.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    match pretty(value) {
        Ok(text) => json_text(status, text),
        Err(error) => {
            tracing::error!(%error, "an answer can't be written as JSON; this is a bug");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// What is written already.
pub(super) fn json_text(status: StatusCode, text: impl Into<Body>) -> Response<Body> {
    (status, [(header::CONTENT_TYPE, "application/json")], text.into()).into_response()
}

pub(super) fn pretty(value: &impl Serialize) -> serde_json::Result<String> {
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    Ok(text)
}

/// A handler's answer as it is; a header or status that HTTP can't carry is left out, and logged.
pub(super) fn answer(mut answer: Answer) -> Response<Body> {
    let body = std::mem::take(&mut answer.body);
    with_body(answer, Body::from(body))
}

/// An answer that comes in pieces, each a chunk. Where one is an error, which `broken` hears of, the body ends without its end, so that the client notices.
pub(super) fn in_pieces(
    mut first: Answer,
    pieces: Pieces,
    broken: impl FnOnce(&ServeError) + Send + 'static,
) -> Response<Body> {
    let body = Bytes::from(std::mem::take(&mut first.body));
    let others = stream::unfold((pieces, Some(broken)), async |(mut pieces, mut broken)| {
        let piece = pieces.next().await?;
        if let (Err(error), Some(broken)) = (&piece, broken.take()) {
            broken(error);
            // What came before it leaves first: the connection is cut where the error is met.
            tokio::task::yield_now().await;
        }
        Some((piece, (pieces, broken)))
    });
    with_body(first, Body::from_stream(stream::once(std::future::ready(Ok(body))).chain(others)))
}

/// The status that a handler set, or 500 where it can't end an answer: below 200 it only announces one, and 101 even gives the connection away.
pub(super) fn status(number: u16) -> StatusCode {
    let status = StatusCode::from_u16(number).ok().filter(|status| !status.is_informational());
    status.unwrap_or_else(|| {
        tracing::warn!(status = number, "a handler set a status that no answer of HTTP has; sent 500");
        StatusCode::INTERNAL_SERVER_ERROR
    })
}

fn with_body(answer: Answer, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status(answer.status);
    // With room for those of every answer.
    response.headers_mut().reserve(answer.headers.len() + 6);
    let content_type = answer.content_type.map(|value| (Ok(header::CONTENT_TYPE), value));
    let headers =
        answer.headers.into_iter().map(|(name, value)| (HeaderName::try_from(&name).map_err(|_| name), value));
    for (name, value) in headers.chain(content_type) {
        match (name, HeaderValue::from_str(&value)) {
            // The length is the body's own, and no handler knows how the body travels.
            (Ok(header::CONTENT_LENGTH | header::TRANSFER_ENCODING), _) => {}
            (Ok(header::CONTENT_TYPE), Ok(value)) => {
                response.headers_mut().insert(header::CONTENT_TYPE, value);
            }
            (Ok(name), Ok(value)) => {
                response.headers_mut().append(name, value);
            }
            (name, _) => {
                let name = name.as_ref().map_or_else(String::as_str, HeaderName::as_str);
                tracing::warn!(name, value, "a handler set a header that HTTP can't carry; left out");
            }
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handler_can_only_set_a_status_that_ends_an_answer() {
        for (number, sent) in
            [(200, 200), (404, 404), (599, 599), (99, 500), (100, 500), (101, 500), (103, 500), (0, 500)]
        {
            assert_eq!(status(number).as_u16(), sent, "{number}");
        }
    }
}
