//! What is served, and how: list and describe.

use axum::body::Body;
use axum::extract::Path;
use axum::extract::State;
use axum::extract::rejection::PathRejection;
use axum::http::Response;
use axum::http::StatusCode;
use axum::http::Uri;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa::openapi::path::Parameter;
use utoipa::openapi::path::ParameterIn;
use utoipa_axum::routes;

use super::Api;
use super::document::Kind;
use super::document::Routes;
use super::document::View;
use super::document::also_at;
use super::document::describing_its_model;
use super::document::query;
use super::error::ApiError;
use super::error::Form;
use super::parameters::Parameters;
use super::reply;
use super::reply::Reply;
use super::types::Description;
use super::types::ListedModel;
use super::types::ModelList;
use crate::metrics::resident_memory;

#[derive(Debug, Deserialize)]
pub(super) struct Target {
    #[serde(rename = "model_name")]
    pub(super) model: String,
    #[serde(rename = "model_version")]
    pub(super) version: Option<String>,
}

/// Which part of the list is wanted.
struct Paging;

/// How closely a model is described.
struct Depth;

/// The most models of one page, and how many there are where a client doesn't say.
const PAGE: usize = 100;

pub(super) fn routes() -> Routes {
    let describe = also_at(routes!(describe), &["/models/{model_name}/{model_version}"]);
    Routes::default().routes(routes!(list)).routes(describing_its_model(describe, View::Management))
}

/// Lists the registered models, by their default versions.
#[utoipa::path(
    get,
    path = "/models",
    operation_id = "listModels",
    params(Paging),
    responses((status = 200, description = "One page of the list.", body = ModelList))
)]
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

/// Describes a model: its default version, the version that the path names, or every version where that is `all`.
#[utoipa::path(
    get,
    path = "/models/{model_name}",
    operation_id = "describeModel",
    params(Depth),
    responses(
        (status = 200, description = "A list of versions, though it be of one.", body = Vec<Description>),
        (status = 503, description = "The model has no worker that could describe it.", body = Form),
    )
)]
async fn describe(State(api): State<Api>, target: Result<Path<Target>, PathRejection>, uri: Uri) -> Reply {
    let Path(target) = target?;
    let name = target.model.as_str();
    let version = target.version.as_deref();
    let memory = resident_memory();
    if version == Some("all") {
        let endpoints = api.registry.versions(name)?;
        let all: Vec<_> = endpoints.iter().map(|endpoint| Description::of(endpoint, memory)).collect();
        return Ok(reply::json(StatusCode::OK, &all));
    }
    let endpoint = api.registry.find(name, version)?;
    let mut description = Description::of(&endpoint, memory);
    if Parameters::of_query(&uri).switch("customized", false) {
        let words = endpoint.describe().await;
        description.customized_metadata = words.map_err(|error| ApiError::describing(&error, name, version))?;
    }
    Ok(reply::json(StatusCode::OK, &[description]))
}

impl IntoParams for Paging {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![
            query("limit", Kind::NumberOr(100), "The most models to list, at most 100."),
            query("next_page_token", Kind::NumberOr(0), "Where to go on: the `nextPageToken` of the page before."),
        ]
    }
}

impl IntoParams for Depth {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let customized = "Whether to ask the model's handler, too; not where all versions are described.";
        vec![query("customized", Kind::SwitchOr(false), customized)]
    }
}
