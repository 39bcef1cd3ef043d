//! The one table from what went wrong to what a client reads.
//!
//! What the client reads and what the log gets are different texts: a handler's own words go out only where it meant them for the client.

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::http::Response;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde::Serialize;
use utoipa::ToSchema;

use super::reply;
use crate::serving::ArchiveFault;
use crate::serving::LoadError;
use crate::serving::LookupError;
use crate::serving::ProfileError;
use crate::serving::RegisterError;
use crate::serving::ScaleError;
use crate::serving::ServeError;
use crate::serving::SwapError;
use crate::serving::UnregisterError;

/// An error as a client reads it: status, TorchServe's name for its kind, and a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ApiError {
    status: StatusCode,
    kind: &'static str,
    message: String,
}

/// The form in which clients read it.
#[derive(Serialize, ToSchema)]
#[schema(as = Error)]
pub(super) struct Form {
    /// The status of the answer.
    code: u16,
    /// TorchServe's name for what went wrong.
    #[serde(rename = "type")]
    kind: &'static str,
    message: String,
}

const BAD_REQUEST: &str = "BadRequestException";
const INTERNAL: &str = "InternalServerException";
const MODEL_NOT_FOUND: &str = "ModelNotFoundException";
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

    pub(super) fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "ConflictStatusException", message)
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

    /// TorchServe's status for a wrong or missing token.
    pub(super) fn invalid_key(message: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "InvalidKeyException", message)
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
            ServeError::Unregistered => LookupError::Model { name: name.to_owned() }.into(),
            // Too late to be read: it ends an answer that has begun.
            ServeError::SlowClient => {
                Self::new(StatusCode::REQUEST_TIMEOUT, TIMEOUT, "The answer was read too slowly.")
            }
            ServeError::WorkerDied => Self::internal("Worker died."),
            ServeError::OutOfResources(_) => Self::new(StatusCode::INSUFFICIENT_STORAGE, INTERNAL, "Out of resources"),
            ServeError::Handler(error) => {
                let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                let kind = if status == StatusCode::BAD_REQUEST { BAD_REQUEST } else { INTERNAL };
                Self::new(status, kind, error.client_text())
            }
        }
    }

    /// Of a model whose workers can't be started; `reason` for the operator.
    pub(super) fn no_workers(name: &str, version: Option<&str>, reason: &str) -> Self {
        // A device without memory is told apart by the words of libtorch's error: it has no other mark.
        let is_out_of_memory = ["out of memory", "can't allocate memory"].iter().any(|words| reason.contains(words));
        let status = match is_out_of_memory {
            true => StatusCode::INSUFFICIENT_STORAGE,
            false => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let version = version.unwrap_or("null");
        Self::new(status, INTERNAL, format!("Failed to start workers for model {name} version: {version}: {reason}"))
    }

    /// The same with other words.
    pub(super) fn worded(self, message: String) -> Self {
        Self { message, ..self }
    }

    /// Of a request for what a model says of itself.
    pub(super) fn describing(error: &ServeError, name: &str, version: Option<&str>) -> Self {
        match error {
            ServeError::NoWorker => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                UNAVAILABLE,
                format!(
                    "Model \"{name}\" has no worker to serve describe request. Please use scale workers API to add workers."
                ),
            ),
            error => Self::serving(error, name, version),
        }
    }

    pub(super) fn workflow_not_found(name: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "WorkflowNotFoundException", format!("Workflow not found: {name}"))
    }

    /// Of a client that sends its request too slowly.
    pub(super) fn request_timeout(message: impl Into<String>) -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, TIMEOUT, message)
    }

    fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self { status, kind, message: message.into() }
    }
}

impl From<PathRejection> for ApiError {
    fn from(rejection: PathRejection) -> Self {
        Self::bad_request(rejection.body_text())
    }
}

impl From<LookupError> for ApiError {
    fn from(error: LookupError) -> Self {
        let kind = match error {
            LookupError::Model { .. } => MODEL_NOT_FOUND,
            LookupError::Version { .. } => "ModelVersionNotFoundException",
        };
        Self::new(StatusCode::NOT_FOUND, kind, error.to_string())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response<Body> {
        let form = Form { code: self.status.as_u16(), kind: self.kind, message: self.message };
        reply::json(self.status, &form)
    }
}

impl From<SwapError> for ApiError {
    fn from(error: SwapError) -> Self {
        match error {
            SwapError::Lookup(error) => error.into(),
            SwapError::Refused { .. } => Self::new(StatusCode::CONFLICT, "SwapRefusedException", error.to_string()),
            SwapError::NoWorkers { .. } => Self::new(StatusCode::CONFLICT, "NoWorkersException", error.to_string()),
            SwapError::NothingBefore { .. } => {
                Self::new(StatusCode::CONFLICT, "NoGenerationBeforeException", error.to_string())
            }
        }
    }
}

impl From<ProfileError> for ApiError {
    fn from(error: ProfileError) -> Self {
        match error {
            ProfileError::UnderWay { .. } => Self::conflict(error.to_string()),
        }
    }
}

impl From<RegisterError> for ApiError {
    fn from(error: RegisterError) -> Self {
        let (status, kind) = match &error {
            RegisterError::Runtime(_) | RegisterError::TooManyWorkers => (StatusCode::BAD_REQUEST, BAD_REQUEST),
            RegisterError::NoStore => (StatusCode::NOT_FOUND, MODEL_NOT_FOUND),
            RegisterError::Archive { fault, .. } => match fault {
                ArchiveFault::NotFound => (StatusCode::NOT_FOUND, MODEL_NOT_FOUND),
                ArchiveFault::Invalid => (StatusCode::BAD_REQUEST, "InvalidModelException"),
                ArchiveFault::Download => (StatusCode::BAD_REQUEST, "DownloadArchiveException"),
                ArchiveFault::Internal => (StatusCode::INTERNAL_SERVER_ERROR, INTERNAL),
            },
            RegisterError::Load(LoadError::AlreadyServed { name, version }) => {
                let message = format!("Model version {version} is already registered for model {name}");
                return Self::conflict(message);
            }
            RegisterError::Load(LoadError::Closed) => (StatusCode::SERVICE_UNAVAILABLE, UNAVAILABLE),
            RegisterError::Load(_) => (StatusCode::INTERNAL_SERVER_ERROR, INTERNAL),
        };
        Self::new(status, kind, error.to_string())
    }
}

impl From<ScaleError> for ApiError {
    fn from(error: ScaleError) -> Self {
        match error {
            ScaleError::Lookup(error) => error.into(),
            ScaleError::MaxBelowMin | ScaleError::TooMany => Self::bad_request(error.to_string()),
            ScaleError::Failed(_) => Self::internal(error.to_string()),
        }
    }
}

impl From<UnregisterError> for ApiError {
    fn from(error: UnregisterError) -> Self {
        let (status, kind) = match error {
            UnregisterError::Lookup(error) => return error.into(),
            UnregisterError::IsDefault { .. } => (StatusCode::FORBIDDEN, "InvalidModelVersionException"),
            UnregisterError::TimedOut { .. } => (StatusCode::REQUEST_TIMEOUT, TIMEOUT),
        };
        Self::new(status, kind, error.to_string())
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
            (ServeError::SlowClient, 408, TIMEOUT, "too slowly"),
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

    #[test]
    fn without_a_store_nothing_can_be_registered() {
        let shown = ApiError::from(RegisterError::NoStore);
        assert_eq!((shown.status.as_u16(), shown.kind), (404, MODEL_NOT_FOUND));
        assert_eq!(shown.message, "Model store has not been configured.");
    }
}
