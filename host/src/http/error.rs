//! The one table from what went wrong to what a client reads.
//!
//! What the client reads and what the log gets are different texts: a handler's own words go out only where it meant them for the client.

use axum::body::Body;
use axum::http::Response;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde::Serialize;

use super::reply;
use crate::serving::LookupError;
use crate::serving::ServeError;
use crate::serving::SwapError;

/// An error as a client reads it: status, TorchServe's name for its kind, and a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ApiError {
    status: StatusCode,
    kind: &'static str,
    message: String,
}

#[derive(Serialize)]
struct Form<'a> {
    code: u16,
    #[serde(rename = "type")]
    kind: &'a str,
    message: &'a str,
}

const BAD_REQUEST: &str = "BadRequestException";
const INTERNAL: &str = "InternalServerException";
const TIMEOUT: &str = "RequestTimeoutException";
const UNAVAILABLE: &str = "ServiceUnavailableException";

// === impl ApiError ===

impl ApiError {
    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, BAD_REQUEST, message)
    }

    pub(super) fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, INTERNAL, message)
    }

    pub(super) fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, UNAVAILABLE, message)
    }

    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    pub(super) fn kind(&self) -> &'static str {
        self.kind
    }

    pub(super) fn message(&self) -> &str {
        &self.message
    }

    /// Of a request to one model; `version` as the client named it.
    pub(super) fn serving(error: &ServeError, name: &str, version: Option<&str>) -> Self {
        let model = version
            .map_or_else(|| format!("Model \"{name}\""), |version| format!("Model \"{name}\" Version {version}"));
        match error {
            ServeError::ShuttingDown => Self::unavailable(
                "The server is shutting down and takes no further requests. Send this one again later.".to_owned(),
            ),
            ServeError::QueueFull { capacity } => Self::unavailable(format!(
                "{model} has no worker to serve inference request: all {capacity} places of its queue are taken. Send the request again later, or raise jobQueueSize or the number of workers."
            )),
            ServeError::NoTicket => Self::unavailable(format!(
                "{model} has no worker to serve inference request: all of them are busy, and useJobTicket lets nobody wait. Send the request again later, or raise the number of workers."
            )),
            ServeError::NoWorker => Self::unavailable(format!(
                "{model} has no worker to serve inference request. Please use scale workers API to add workers. \
                 Describe the model on the management address to see why it isn't served."
            )),
            ServeError::Expired => Self::new(
                StatusCode::GATEWAY_TIMEOUT,
                TIMEOUT,
                format!("{model} was too busy to answer within clientTimeoutInMills. Send the request again later."),
            ),
            ServeError::TimedOut { limit } => Self::internal(format!(
                "Worker died. {model}'s handler took longer than responseTimeout ({} s), and another worker takes its place.",
                limit.as_secs_f64()
            )),
            ServeError::WorkerDied => Self::internal("Worker died."),
            ServeError::OutOfResources(_) => Self::new(StatusCode::INSUFFICIENT_STORAGE, INTERNAL, "Out of resources"),
            ServeError::Handler(error) => {
                let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                let kind = if status == StatusCode::BAD_REQUEST { BAD_REQUEST } else { INTERNAL };
                Self::new(status, kind, error.client_text())
            }
        }
    }

    fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self { status, kind, message: message.into() }
    }
}

impl From<LookupError> for ApiError {
    fn from(error: LookupError) -> Self {
        let kind = match error {
            LookupError::Model { .. } => "ModelNotFoundException",
            LookupError::Version { .. } => "ModelVersionNotFoundException",
        };
        Self::new(StatusCode::NOT_FOUND, kind, error.to_string())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response<Body> {
        let form = Form { code: self.status.as_u16(), kind: self.kind, message: &self.message };
        reply::json(self.status, &form)
    }
}

impl From<SwapError> for ApiError {
    fn from(error: SwapError) -> Self {
        match error {
            SwapError::Lookup(error) => error.into(),
            SwapError::Refused { .. } => Self::new(StatusCode::CONFLICT, "SwapRefusedException", error.to_string()),
            SwapError::NothingBefore { .. } => {
                Self::new(StatusCode::CONFLICT, "NoGenerationBeforeException", error.to_string())
            }
        }
    }
}

pub(super) async fn not_found() -> ApiError {
    ApiError::new(
        StatusCode::NOT_FOUND,
        "ResourceNotFoundException",
        "Requested resource is not found, please refer to API document.",
    )
}

pub(super) async fn method_not_allowed() -> ApiError {
    wrong_method()
}

pub(super) fn wrong_method() -> ApiError {
    ApiError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "MethodNotAllowedException",
        "Requested method is not allowed, please refer to API document.",
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use handler_sdk::Error;

    use super::*;

    #[test]
    fn each_error_has_its_status_and_kind() {
        for (error, status, kind, text) in [
            (ServeError::ShuttingDown, 503, UNAVAILABLE, "shutting down"),
            (ServeError::QueueFull { capacity: 7 }, 503, UNAVAILABLE, "all 7 places"),
            (ServeError::NoTicket, 503, UNAVAILABLE, "useJobTicket"),
            (ServeError::NoWorker, 503, UNAVAILABLE, "Model \"m\" Version 2 has no worker to serve inference request."),
            (ServeError::Expired, 504, TIMEOUT, "clientTimeoutInMills"),
            (ServeError::TimedOut { limit: Duration::from_secs(1) }, 500, INTERNAL, "Worker died."),
            (ServeError::WorkerDied, 500, INTERNAL, "Worker died."),
            (ServeError::OutOfResources(Error::new("CUDA")), 507, INTERNAL, "Out of resources"),
            (ServeError::Handler(Error::bad_request("no picture")), 400, BAD_REQUEST, "no picture"),
            (ServeError::Handler(Error::with_status(422, "odd")), 422, INTERNAL, "odd"),
        ] {
            let shown = ApiError::serving(&error, "m", Some("2"));
            assert_eq!((shown.status.as_u16(), shown.kind), (status, kind), "{error}");
            assert!(shown.message.contains(text), "{:?} should say {text:?}", shown.message);
        }
    }

    #[test]
    fn the_log_s_words_stay_in_the_log() {
        let error = ServeError::Handler(Error::new("the key is hunter2"));
        let shown = ApiError::serving(&error, "m", None);
        assert_eq!(shown.message, "Prediction failed");
    }
}
