//! The routes of the days before `/predictions`: `/NAME/predict` and `/NAME/VERSION/predict`.

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
use super::read_with_query;
use crate::http::Api;
use crate::http::document::Routes;
use crate::http::document::also_at;
use crate::http::document::deprecated;

#[derive(Debug, Deserialize)]
struct Target {
    #[serde(rename = "model_name")]
    model: String,
    #[serde(rename = "model_version")]
    version: Option<String>,
}

pub(super) fn routes() -> Routes {
    let predict =
        also_at(routes!(predict).map(|route| route.fallback(predict)), &["/{model_name}/{model_version}/predict"]);
    Routes::default().routes(asking_a_model(deprecated(predict)))
}

/// Asks a model for a prediction, as `/predictions` does; the parameters of the query are fields, too.
#[utoipa::path(post, path = "/{model_name}/predict", operation_id = "predict")]
async fn predict(State(api): State<Api>, Path(target): Path<Target>, request: Request) -> Response<Body> {
    let (head, fields) = match read_with_query(&api, request).await {
        Ok(read) => read,
        Err(refusal) => return refusal,
    };
    let call = Call { model: target.model, version: target.version, verb: None, url_path: None, fields };
    answer(&api, head, call).await
}
