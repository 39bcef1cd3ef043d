//! Errors in the protocol's form, `{"error": "…"}`; TorchServe's three keys follow, for its clients know these paths too.

use axum::body::Body;
use axum::http::Response;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde::Serialize;
use utoipa::ToSchema;

use super::super::body::BadBody;
use super::super::error;
use super::super::error::ApiError;
use super::super::reply;

/// An error of a request to the protocol's paths.
#[derive(Debug)]
pub(super) enum ProtocolError {
    /// Of a body that isn't read to its end: answered as everywhere, and the connection closed.
    Unread(BadBody),
    Other(ApiError),
}

/// The form in which clients read it.
#[derive(Serialize, ToSchema)]
#[schema(as = ProtocolError)]
pub(super) struct Form {
    /// The same as `message`: the protocol's own key.
    error: String,
    /// The status of the answer.
    code: u16,
    /// TorchServe's name for what went wrong.
    #[serde(rename = "type")]
    kind: &'static str,
    message: String,
}

// === impl ProtocolError ===

impl ProtocolError {
    pub(super) fn method_not_allowed() -> Self {
        error::wrong_method().into()
    }
}

impl From<ApiError> for ProtocolError {
    fn from(error: ApiError) -> Self {
        Self::Other(error)
    }
}

impl From<BadBody> for ProtocolError {
    fn from(error: BadBody) -> Self {
        match error {
            BadBody::TooLarge | BadBody::TooSlow(_) => Self::Unread(error),
            BadBody::Other(error) => Self::Other(error),
        }
    }
}

impl IntoResponse for ProtocolError {
    fn into_response(self) -> Response<Body> {
        let error = match self {
            Self::Unread(error) => return error.into_response(),
            Self::Other(error) => error,
        };
        let status: StatusCode = error.status();
        let (kind, message) = (error.kind(), error.message().to_owned());
        reply::json(status, &Form { error: message.clone(), code: status.as_u16(), kind, message })
    }
}
