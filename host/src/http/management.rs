//! What is served, and how: list and describe.

use axum::Router;
use axum::body::Body;
use axum::extract::Path;
use axum::extract::RawQuery;
use axum::extract::State;
use axum::extract::rejection::PathRejection;
use axum::http::Response;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::get;
use serde::Deserialize;

use super::Api;
use super::error::ApiError;
use super::reply;
use super::types::Description;
use super::types::ListedModel;
use super::types::ModelList;
use crate::metrics::resident_memory;

#[derive(Debug, Deserialize)]
pub(super) struct Target {
    pub(super) model: String,
    pub(super) version: Option<String>,
}

/// The most models of one page, and how many there are where a client doesn't say.
const PAGE: usize = 100;

pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/models", get(list))
        .route("/models/{model}", get(describe))
        .route("/models/{model}/{version}", get(describe))
}

async fn list(State(api): State<Api>, RawQuery(query): RawQuery) -> Response<Body> {
    // As in TorchServe, the first value counts, and what isn't a number counts as not given.
    let query = query.unwrap_or_default();
    let number = |name: &str| {
        let value = form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name);
        value.and_then(|(_, text)| text.parse::<usize>().ok())
    };
    let limit = number("limit").filter(|&limit| limit <= PAGE).unwrap_or(PAGE);
    let offset = number("next_page_token").unwrap_or(0);
    let endpoints = api.registry.list();
    let end = offset.saturating_add(limit);
    let list = ModelList {
        next_page_token: (end < endpoints.len()).then(|| end.to_string()),
        models: endpoints
            .iter()
            .skip(offset)
            .take(limit)
            .map(|endpoint| ListedModel {
                model_name: endpoint.name().to_string(),
                model_url: endpoint.url().to_owned(),
            })
            .collect(),
    };
    reply::json(StatusCode::OK, &list)
}

async fn describe(State(api): State<Api>, target: Result<Path<Target>, PathRejection>) -> Response<Body> {
    let target = match target {
        Ok(Path(target)) => target,
        Err(rejection) => return ApiError::bad_request(rejection.body_text()).into_response(),
    };
    let name = target.model.as_str();
    let found = match target.version.as_deref() {
        Some("all") => api.registry.versions(name),
        version => api.registry.find(name, version).map(|endpoint| vec![endpoint]),
    };
    match found {
        Ok(endpoints) => {
            let memory = resident_memory();
            let descriptions: Vec<_> = endpoints.iter().map(|endpoint| Description::of(endpoint, memory)).collect();
            reply::json(StatusCode::OK, &descriptions)
        }
        Err(error) => ApiError::from(error).into_response(),
    }
}
