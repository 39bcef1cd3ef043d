//! The routes by which SageMaker asks: `/invocations` for a container with one model, `/models/NAME/invoke` for one with many.

use std::collections::BTreeSet;

use axum::body::Body;
use axum::extract::Path;
use axum::extract::Request;
use axum::extract::State;
use axum::http::Response;
use axum::response::IntoResponse;
use utoipa_axum::router::UtoipaMethodRouterExt;
use utoipa_axum::routes;

use super::Call;
use super::answer;
use super::described;
use super::described::asking_a_model;
use super::read_with_query;
use crate::http::Api;
use crate::http::document::Routes;
use crate::http::error::ApiError;
use crate::serving::Field;

const MODEL_NAME: &str = "model_name";

pub(super) fn routes() -> Routes {
    let mut invocations = routes!(invocations).map(|route| route.fallback(invocations));
    described::describe(&mut invocations.1);
    Routes::default().routes(invocations).routes(asking_a_model(routes!(invoke).map(|route| route.fallback(invoke))))
}

/// Asks the model that the server was started with, or the one that is named, for a prediction.
#[utoipa::path(
    post,
    path = "/invocations",
    operation_id = "invocations",
    params(("model_name" = Option<String>, Query, nullable = false, description = "Name of the model; it may also be a field of the body."))
)]
async fn invocations(State(api): State<Api>, request: Request) -> Response<Body> {
    let (head, fields) = match read_with_query(&api, request).await {
        Ok(read) => read,
        Err(refusal) => return refusal,
    };
    let by_query = form_urlencoded::parse(head.uri.query().unwrap_or_default().as_bytes())
        .find(|(name, _)| name == MODEL_NAME)
        .map(|(_, value)| value.into_owned());
    let named = by_query.or_else(|| only_startup_model(&api)).or_else(|| by_field(&fields));
    let Some(model) = named.filter(|name| !name.is_empty()) else {
        return ApiError::bad_request("Parameter model_name is required.").into_response();
    };
    answer(&api, head, Call { model, version: None, verb: None, url_path: None, fields }).await
}

/// Asks a model for a prediction; the parameters of the query are fields, too.
#[utoipa::path(post, path = "/models/{model_name}/invoke", operation_id = "invoke")]
async fn invoke(State(api): State<Api>, Path(model): Path<String>, request: Request) -> Response<Body> {
    let (head, fields) = match read_with_query(&api, request).await {
        Ok(read) => read,
        Err(refusal) => return refusal,
    };
    answer(&api, head, Call { model, version: None, verb: None, url_path: None, fields }).await
}

/// The model that the server was started with, where there is only one.
fn only_startup_model(api: &Api) -> Option<String> {
    let endpoints = api.registry.list();
    let names: BTreeSet<_> =
        endpoints.iter().filter(|endpoint| endpoint.loaded_at_startup()).map(|endpoint| endpoint.name()).collect();
    names.first().filter(|_| names.len() == 1).map(|name| name.to_string())
}

fn by_field(fields: &[Field]) -> Option<String> {
    let field = fields.iter().find(|field| field.name == MODEL_NAME)?;
    Some(String::from_utf8_lossy(&field.bytes).into_owned())
}
