//! What is served, and how: list and describe.

use axum::Router;
use axum::body::Body;
use axum::extract::Path;
use axum::extract::State;
use axum::extract::rejection::PathRejection;
use axum::http::Response;
use axum::http::StatusCode;
use axum::http::Uri;
use axum::response::IntoResponse;
use axum::routing::get;
use serde::Deserialize;

use super::Api;
use super::error::ApiError;
use super::parameters::Parameters;
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

async fn list(State(api): State<Api>, uri: Uri) -> Response<Body> {
    let parameters = Parameters::of_query(&uri);
    let number = |name| parameters.number(name).and_then(|number| usize::try_from(number).ok());
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

async fn describe(State(api): State<Api>, target: Result<Path<Target>, PathRejection>, uri: Uri) -> Response<Body> {
    let target = match target {
        Ok(Path(target)) => target,
        Err(rejection) => return ApiError::bad_request(rejection.body_text()).into_response(),
    };
    let name = target.model.as_str();
    let version = target.version.as_deref();
    let memory = resident_memory();
    if version == Some("all") {
        return match api.registry.versions(name) {
            Ok(endpoints) => {
                let all: Vec<_> = endpoints.iter().map(|endpoint| Description::of(endpoint, memory)).collect();
                reply::json(StatusCode::OK, &all)
            }
            Err(error) => ApiError::from(error).into_response(),
        };
    }
    let endpoint = match api.registry.find(name, version) {
        Ok(endpoint) => endpoint,
        Err(error) => return ApiError::from(error).into_response(),
    };
    let mut description = Description::of(&endpoint, memory);
    if Parameters::of_query(&uri).switch("customized", false) {
        match endpoint.describe().await {
            Ok(words) => description.customized_metadata = words,
            Err(error) => return ApiError::describing(&error, name, version).into_response(),
        }
    }
    reply::json(StatusCode::OK, &[description])
}
