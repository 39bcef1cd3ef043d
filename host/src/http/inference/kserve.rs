//! KServe's first protocol: `/v1/models/NAME:predict`, `:explain`, and whether a model is ready.

use axum::Router;
use axum::body::Body;
use axum::extract::Path;
use axum::extract::Request;
use axum::extract::State;
use axum::http::Method;
use axum::http::Response;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::any;
use axum::routing::get;
use serde::Serialize;

use super::Call;
use super::answer;
use super::read;
use crate::http::Api;
use crate::http::error;
use crate::http::error::ApiError;
use crate::http::reply;
use crate::serving::EndpointState;
use crate::serving::Verb;
use crate::serving::WorkerState;

#[derive(Debug, Serialize)]
struct Readiness<'a> {
    name: &'a str,
    ready: bool,
}

const MODEL: &str = "/v1/models/{target}";

pub(super) fn routes() -> Router<Api> {
    Router::new().route(MODEL, any(ask))
}

/// For an address where no model is asked.
pub(crate) fn status_routes() -> Router<Api> {
    Router::new().route(MODEL, get(status))
}

/// `NAME:predict`, `NAME:explain`, or a name alone.
async fn ask(State(api): State<Api>, Path(target): Path<String>, request: Request) -> Response<Body> {
    // What follows the verb doesn't matter, as in TorchServe.
    let verb = match target.split_once(':') {
        Some((_, rest)) if rest.starts_with("predict") => Verb::Predict,
        Some((_, rest)) if rest.starts_with("explain") => Verb::Explain,
        _ if matches!(*request.method(), Method::GET | Method::HEAD) => {
            return status(State(api), Path(target)).await;
        }
        _ => return error::method_not_allowed().await.into_response(),
    };
    let (head, fields) = match read(&api, request).await {
        Ok(read) => read,
        Err(refusal) => return refusal,
    };
    let model = target.split(':').next().unwrap_or_default().to_owned();
    answer(&api, &head, Call { model, version: None, verb: Some(verb), url_path: None, fields }).await
}

async fn status(State(api): State<Api>, Path(name): Path<String>) -> Response<Body> {
    match api.registry.find(&name, None) {
        Ok(endpoint) => {
            let status = endpoint.status();
            let has_worker = status.workers.iter().any(|worker| worker.state == WorkerState::Ready);
            let ready = status.state == EndpointState::Ready && has_worker;
            reply::json(StatusCode::OK, &Readiness { name: &name, ready })
        }
        Err(error) => ApiError::from(error).into_response(),
    }
}
