//! KServe's first protocol: `/v1/models/NAME:predict`, `:explain`, and whether a model is ready.

use std::sync::Arc;

use axum::Extension;
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
use utoipa::OpenApi;
use utoipa::ToSchema;

use super::Call;
use super::answer;
use super::described;
use super::read;
use crate::http::Api;
use crate::http::document;
use crate::http::document::Document;
use crate::http::document::Routes;
use crate::http::document::View;
use crate::http::error;
use crate::http::error::ApiError;
use crate::http::error::Form;
use crate::http::reply;
use crate::serving::EndpointState;
use crate::serving::Verb;
use crate::serving::WorkerState;

#[derive(Debug, Serialize, ToSchema)]
struct Readiness<'a> {
    name: &'a str,
    ready: bool,
}

/// All paths begin so, for a path's segment is either literal or a parameter to its end.
const PATH: &str = "/v1/models/{target}";

/// What can be asked of a model.
#[derive(OpenApi)]
#[openapi(paths(predict, explain))]
struct Asking;

/// What can be read of it.
#[derive(OpenApi)]
#[openapi(paths(status))]
struct Readable;

pub(super) fn routes() -> Routes {
    let mut asking = Asking::openapi();
    described::describe(&mut asking.paths);
    document::describe_options(&mut asking.paths);
    let mut description = Readable::openapi();
    description.merge(asking);
    Routes::with_openapi(description).route(PATH, any(ask))
}

/// For an address where no model is asked.
pub(crate) fn status_routes() -> Routes {
    Routes::with_openapi(Readable::openapi()).route(PATH, get(status))
}

/// `NAME:predict`, `NAME:explain`, or a name alone.
async fn ask(
    State(api): State<Api>,
    Extension(document): Extension<Arc<Document>>,
    Path(target): Path<String>,
    request: Request,
) -> Response<Body> {
    // What follows the verb doesn't matter, as in TorchServe.
    match target.split_once(':') {
        Some((model, rest)) if rest.starts_with("predict") || rest.starts_with("explain") => {
            match (request.method(), rest.starts_with("predict")) {
                (&Method::OPTIONS, _) => document.answer(&api, View::Inference, model, None),
                (_, true) => predict(&api, model, request).await,
                (_, false) => explain(&api, model, request).await,
            }
        }
        _ if matches!(*request.method(), Method::GET | Method::HEAD) => status(State(api), Path(target)).await,
        _ => error::method_not_allowed().await.into_response(),
    }
}

/// Asks a model for a prediction, by KServe's first protocol.
#[utoipa::path(post, path = "/v1/models/{model_name}:predict", operation_id = "v1_predict")]
async fn predict(api: &Api, model: &str, request: Request) -> Response<Body> {
    ask_for(api, model, Verb::Predict, request).await
}

/// Asks a model to explain its prediction, by KServe's first protocol.
#[utoipa::path(
    post,
    path = "/v1/models/{model_name}:explain",
    operation_id = "v1_explain",
    responses((status = 501, description = "The model's handler explains nothing.", body = Form))
)]
async fn explain(api: &Api, model: &str, request: Request) -> Response<Body> {
    ask_for(api, model, Verb::Explain, request).await
}

async fn ask_for(api: &Api, model: &str, verb: Verb, request: Request) -> Response<Body> {
    let (head, fields) = match read(api, request).await {
        Ok(read) => read,
        Err(refusal) => return refusal,
    };
    let call = Call { model: model.to_owned(), version: None, verb: Some(verb), url_path: None, fields };
    answer(api, head, call).await
}

/// Says whether a model is ready, by KServe's first protocol.
#[utoipa::path(
    get,
    path = "/v1/models/{model_name}",
    operation_id = "v1_status",
    responses((status = 200, description = "Whether its default version is ready.", body = Readiness))
)]
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
