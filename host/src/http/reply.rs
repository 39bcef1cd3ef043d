//! The form of every answer: TorchServe's headers and its way of writing JSON.

use axum::body::Body;
use axum::extract::Request;
use axum::http::HeaderName;
use axum::http::HeaderValue;
use axum::http::Response;
use axum::http::StatusCode;
use axum::http::header;
use axum::middleware::Next;
use axum::response::IntoResponse;
use handler_sdk::Answer;
use serde::Serialize;

/// The id of a request, as the handler and the client see it.
#[derive(Debug, Clone)]
pub(super) struct RequestId(pub(super) String);

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Gives each request an id, and each answer the headers that TorchServe sends.
pub(super) async fn common_headers(mut request: Request, next: Next) -> Response<Body> {
    let id = uuid::Uuid::new_v4().to_string();
    let value = HeaderValue::from_str(&id).ok();
    request.extensions_mut().insert(RequestId(id));
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    if let Some(value) = value {
        headers.insert(REQUEST_ID, value);
    }
    for (name, value) in [
        (header::PRAGMA, "no-cache"),
        (header::CACHE_CONTROL, "no-cache; no-store, must-revalidate, private"),
        (header::EXPIRES, "Thu, 01 Jan 1970 00:00:00 UTC"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// JSON with two spaces of indentation and a line's end, as TorchServe writes it.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    match serde_json::to_string_pretty(value) {
        Ok(mut text) => {
            text.push('\n');
            (status, [(header::CONTENT_TYPE, "application/json")], text).into_response()
        }
        Err(error) => {
            tracing::error!(%error, "an answer can't be written as JSON; this is a bug");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// A handler's answer as it is; a header or status that HTTP can't carry is left out, and logged.
pub(super) fn answer(answer: Answer) -> Response<Body> {
    let mut response = Response::new(Body::from(answer.body));
    match StatusCode::from_u16(answer.status) {
        Ok(status) => *response.status_mut() = status,
        Err(_) => {
            tracing::warn!(status = answer.status, "a handler set a status that HTTP doesn't have; sent 500");
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        }
    }
    let content_type = answer.content_type.map(|value| (header::CONTENT_TYPE.to_string(), value));
    for (name, value) in answer.headers.into_iter().chain(content_type) {
        match (HeaderName::try_from(&name), HeaderValue::try_from(&value)) {
            // The length is the body's own, and no handler knows how the body travels.
            (Ok(name), _) if name == header::CONTENT_LENGTH || name == header::TRANSFER_ENCODING => {}
            (Ok(header::CONTENT_TYPE), Ok(value)) => {
                response.headers_mut().insert(header::CONTENT_TYPE, value);
            }
            (Ok(name), Ok(value)) => {
                response.headers_mut().append(name, value);
            }
            _ => tracing::warn!(name, value, "a handler set a header that HTTP can't carry; left out"),
        }
    }
    response
}
