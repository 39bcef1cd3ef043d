//! What changes what is served: register, scale, set the default version, unregister.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::body::to_bytes;
use axum::extract::Path;
use axum::extract::State;
use axum::extract::rejection::PathRejection;
use axum::http::Response;
use axum::http::StatusCode;
use axum::http::Uri;
use axum::response::IntoResponse;
use axum::routing::delete;
use axum::routing::post;
use axum::routing::put;
use serde::Deserialize;

use super::Api;
use super::error;
use super::error::ApiError;
use super::management::Target;
use super::parameters::Parameters;
use super::reply;
use super::types::Status;
use crate::serving::LookupError;
use crate::serving::Registration;
use crate::serving::Registry;
use crate::serving::Scale;
use crate::serving::ScaleError;
use crate::serving::StartError;

/// One version of a model, which a path names.
#[derive(Debug, Deserialize)]
struct Version {
    model: String,
    version: String,
}

/// The parameters of a registration are short; a longer body is something else.
const LARGEST_BODY: usize = 1 << 20;

const IN_PROGRESS: &str = "Processing worker updates...";

pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/models", post(register))
        .route("/models/{model}", put(scale).delete(unregister))
        .route("/models/{model}/{version}", put(scale).merge(delete(unregister)))
        .route("/models/{model}/{version}/set-default", put(set_default))
}

async fn register(State(api): State<Api>, request: axum::extract::Request) -> Response<Body> {
    if !api.model_api {
        return error::method_not_allowed().await.into_response();
    }
    let (head, body) = request.into_parts();
    let Ok(body) = to_bytes(body, LARGEST_BODY).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    let parameters = match Parameters::of_request(&head.uri, &head.headers, &body) {
        Ok(parameters) => parameters,
        Err(error) => return error.into_response(),
    };
    let Some(url) = parameters.text("url") else {
        return ApiError::bad_request("Parameter url is required.").into_response();
    };
    if parameters.switch("s3_sse_kms", false) {
        return ApiError::bad_request(
            "s3_sse_kms is not supported: give a pre-signed URL of the archive, or put the archive into the model store.",
        )
        .into_response();
    }
    let number = |name| parameters.count(name).and_then(|count| usize::try_from(count).ok());
    let registration = Registration {
        url: url.to_owned(),
        name: parameters.filled("model_name"),
        handler: parameters.filled("handler"),
        runtime: parameters.filled("runtime"),
        batch_size: number("batch_size"),
        // A delay of 0 means that nobody waits, so it is a value here.
        max_batch_delay: parameters
            .number("max_batch_delay")
            .and_then(|millis| u64::try_from(millis).ok())
            .map(Duration::from_millis),
        workers: parameters.number("initial_workers").map(|workers| usize::try_from(workers).unwrap_or(0)),
        response_timeout: parameters.count("response_timeout").map(Duration::from_secs),
        startup_timeout: parameters.count("startup_timeout").map(Duration::from_secs),
    };
    let is_synchronous = parameters.switch("synchronous", true);
    let registry = Arc::clone(&api.registry);
    // It goes on even if the client hangs up meanwhile; no code of a plugin runs on that thread.
    off_the_event_loop(move || take_in(&registry, registration, is_synchronous)).await
}

fn take_in(registry: &Arc<Registry>, registration: Registration, is_synchronous: bool) -> Response<Body> {
    let endpoint = match registry.take_in(registration) {
        Ok(endpoint) => endpoint,
        Err(error) => return ApiError::from(error).into_response(),
    };
    let (name, version) = (endpoint.name(), endpoint.version());
    let workers = endpoint.settings().scale.min;
    if workers == 0 {
        return ok(format!(
            "Model \"{name}\" Version: {version} registered with 0 initial workers. Use scale workers API to add workers for the model."
        ));
    }
    if !is_synchronous {
        let (registry, endpoint) = (Arc::clone(registry), Arc::clone(&endpoint));
        // Its failure is in the log.
        drop(tokio::task::spawn_blocking(move || registry.serve(&endpoint)));
        return reply::json(StatusCode::ACCEPTED, &Status::new(IN_PROGRESS));
    }
    match registry.serve_or_take_out(&endpoint) {
        Ok(()) => ok(format!("Model \"{name}\" Version: {version} registered with {workers} initial workers")),
        Err(StartError::Failed(reason)) => {
            ApiError::no_workers(name.as_str(), Some(version.as_str()), &reason).into_response()
        }
        Err(error @ StartError::Unregistered { .. }) => ApiError::conflict(error.to_string()).into_response(),
    }
}

async fn scale(State(api): State<Api>, target: Result<Path<Target>, PathRejection>, uri: Uri) -> Response<Body> {
    let Target { model, version } = match target {
        Ok(Path(target)) => target,
        Err(rejection) => return ApiError::bad_request(rejection.body_text()).into_response(),
    };
    let parameters = Parameters::of_query(&uri);
    let version = version.or_else(|| parameters.filled("model_version"));
    let min = parameters.number("min_worker").unwrap_or(1);
    let max = parameters.number("max_worker").unwrap_or(min);
    let (Ok(min), Ok(max)) = (usize::try_from(min), usize::try_from(max)) else {
        return ApiError::bad_request("min_worker and max_worker cannot be less than 0.").into_response();
    };
    // Now, while this is the client's latest word.
    let wish = match api.registry.wish(&model, version.as_deref(), Scale { min, max }) {
        Ok(wish) => wish,
        Err(error) => return ApiError::from(error).into_response(),
    };
    let registry = Arc::clone(&api.registry);
    if parameters.switch("synchronous", false) {
        return off_the_event_loop(move || match registry.grant(&wish) {
            Ok(()) => {
                let of_version = version.map(|version| format!(", version: {version}")).unwrap_or_default();
                ok(format!("Workers scaled to {min} for model: {model}{of_version}"))
            }
            Err(ScaleError::Failed(error)) => {
                ApiError::no_workers(&model, version.as_deref(), &error.to_string()).into_response()
            }
            Err(error) => ApiError::from(error).into_response(),
        })
        .await;
    }
    drop(tokio::task::spawn_blocking(move || {
        if let Err(error) = registry.grant(&wish) {
            tracing::error!(%model, version, %error, "the number of workers stays as it was");
        }
    }));
    reply::json(StatusCode::ACCEPTED, &Status::new(IN_PROGRESS))
}

async fn set_default(State(api): State<Api>, target: Result<Path<Version>, PathRejection>) -> Response<Body> {
    let Version { model, version } = match target {
        Ok(Path(target)) => target,
        Err(rejection) => return ApiError::bad_request(rejection.body_text()).into_response(),
    };
    match api.registry.set_default(&model, &version) {
        Ok(()) => ok(format!("Default version successfully updated for model \"{model}\" to \"{version}\"")),
        // The one place where TorchServe words it so.
        Err(error @ LookupError::Version { .. }) => ApiError::from(error)
            .worded(format!("Model version {version} does not exist for model {model}"))
            .into_response(),
        Err(error) => ApiError::from(error).into_response(),
    }
}

async fn unregister(State(api): State<Api>, target: Result<Path<Target>, PathRejection>) -> Response<Body> {
    if !api.model_api {
        return error::method_not_allowed().await.into_response();
    }
    let Target { model, version } = match target {
        Ok(Path(target)) => target,
        Err(rejection) => return ApiError::bad_request(rejection.body_text()).into_response(),
    };
    let registry = Arc::clone(&api.registry);
    off_the_event_loop(move || match registry.unregister(&model, version.as_deref()) {
        Ok(()) => ok(format!("Model \"{model}\" unregistered")),
        Err(error) => ApiError::from(error).into_response(),
    })
    .await
}

fn ok(status: String) -> Response<Body> {
    reply::json(StatusCode::OK, &Status::new(status))
}

/// Runs what blocks where nobody else waits for it.
async fn off_the_event_loop(work: impl FnOnce() -> Response<Body> + Send + 'static) -> Response<Body> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| ApiError::internal("The request panicked; this is a bug.").into_response())
}
