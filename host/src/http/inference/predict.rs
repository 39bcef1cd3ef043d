//! `/predictions` and `/explanations`, with what follows the version in the path.

use axum::body::Body;
use axum::extract::Path;
use axum::extract::Request;
use axum::extract::State;
use axum::http::Response;
use serde::Deserialize;
use utoipa_axum::router::UtoipaMethodRouterExt;
use utoipa_axum::routes;

use super::Call;
use super::answer;
use super::described::asking_a_model;
use super::read;
use crate::http::Api;
use crate::http::document::Routes;
use crate::http::document::also_at;
use crate::http::error::Form;
use crate::serving::Verb;

#[derive(Debug, Deserialize)]
struct Target {
    #[serde(rename = "model_name")]
    model: String,
    #[serde(rename = "model_version")]
    version: Option<String>,
    rest: Option<String>,
}

pub(super) fn routes() -> Routes {
    let predictions = also_at(
        routes!(predict).map(|route| route.fallback(predict)),
        &["/predictions/{model_name}/{model_version}", "/predictions/{model_name}/{model_version}/{*rest}"],
    );
    let explanations = also_at(
        routes!(explain).map(|route| route.fallback(explain)),
        &["/explanations/{model_name}/{model_version}", "/explanations/{model_name}/{model_version}/{*rest}"],
    );
    Routes::default().routes(asking_a_model(predictions)).routes(asking_a_model(explanations))
}

/// Asks a model for a prediction.
#[utoipa::path(post, path = "/predictions/{model_name}", operation_id = "predictions")]
async fn predict(State(api): State<Api>, Path(target): Path<Target>, request: Request) -> Response<Body> {
    ask(&api, target, Verb::Predict, request).await
}

/// Asks a model to explain its prediction.
#[utoipa::path(
    post,
    path = "/explanations/{model_name}",
    operation_id = "explanations",
    responses((status = 501, description = "The model's handler explains nothing.", body = Form))
)]
async fn explain(State(api): State<Api>, Path(target): Path<Target>, request: Request) -> Response<Body> {
    ask(&api, target, Verb::Explain, request).await
}

async fn ask(api: &Api, target: Target, verb: Verb, request: Request) -> Response<Body> {
    let (head, fields) = match read(api, request).await {
        Ok(read) => read,
        Err(refusal) => return refusal,
    };
    let call = Call {
        model: target.model,
        version: target.version,
        verb: Some(verb),
        url_path: Some(target.rest.unwrap_or_default()),
        fields,
    };
    answer(api, head, call).await
}
