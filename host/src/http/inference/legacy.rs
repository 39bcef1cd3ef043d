//! The routes of the days before `/predictions`: `/NAME/predict` and `/NAME/VERSION/predict`.

use axum::Router;
use axum::body::Body;
use axum::extract::Path;
use axum::extract::Request;
use axum::extract::State;
use axum::http::Response;
use axum::routing::any;
use serde::Deserialize;

use super::Call;
use super::answer;
use super::read_with_query;
use crate::http::Api;

#[derive(Debug, Deserialize)]
struct Target {
    model: String,
    version: Option<String>,
}

pub(super) fn routes() -> Router<Api> {
    Router::new().route("/{model}/predict", any(predict)).route("/{model}/{version}/predict", any(predict))
}

async fn predict(State(api): State<Api>, Path(target): Path<Target>, request: Request) -> Response<Body> {
    let (head, fields) = match read_with_query(&api, request).await {
        Ok(read) => read,
        Err(refusal) => return refusal,
    };
    let call = Call { model: target.model, version: target.version, verb: None, url_path: None, fields };
    answer(&api, &head, call).await
}
