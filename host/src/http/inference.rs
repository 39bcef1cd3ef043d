//! Health and predictions.

use axum::Router;
use axum::body::Body;
use axum::extract::Path;
use axum::extract::State;
use axum::extract::rejection::PathRejection;
use axum::http::HeaderMap;
use axum::http::Method;
use axum::http::Response;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::any;
use serde::Deserialize;

use super::Api;
use super::body;
use super::error;
use super::error::ApiError;
use super::reply;
use super::reply::RequestId;
use super::types::Status;
use crate::metrics::AskedVersion;
use crate::serving::Request;
use crate::serving::Urgency;
use crate::serving::Verb;

/// Which model a path names.
#[derive(Debug, Deserialize)]
struct Target {
    model: String,
    version: Option<String>,
    /// What follows the version; handlers see it as the header `url_path`.
    rest: Option<String>,
}

pub(super) fn routes() -> Router<Api> {
    // TorchServe predicts whatever the method is.
    Router::new()
        .route("/ping", any(ping))
        .route("/ping/{*rest}", any(ping))
        .route("/predictions/{model}", any(predict))
        .route("/predictions/{model}/{version}", any(predict))
        .route("/predictions/{model}/{version}/{*rest}", any(predict))
}

async fn ping(State(api): State<Api>) -> Response<Body> {
    if api.registry.list().iter().all(|endpoint| endpoint.is_healthy()) {
        reply::json(StatusCode::OK, &Status::new("Healthy"))
    } else {
        reply::json(StatusCode::INTERNAL_SERVER_ERROR, &Status::new("Unhealthy"))
    }
}

async fn predict(
    State(api): State<Api>,
    target: Result<Path<Target>, PathRejection>,
    request: axum::extract::Request,
) -> Response<Body> {
    if request.method() == Method::OPTIONS {
        // A browser that asks what is allowed must not cost an inference.
        return error::method_not_allowed().await.into_response();
    }
    let target = match target {
        Ok(Path(target)) => target,
        Err(rejection) => return ApiError::bad_request(rejection.body_text()).into_response(),
    };
    let (head, body) = request.into_parts();
    // The body first: a client that is still sending wouldn't read an answer.
    let fields = match body::fields(&head.headers, body, api.max_request_size).await {
        Ok(fields) => fields,
        Err(error) => return error.into_response(),
    };
    let (name, version) = (target.model.as_str(), target.version.as_deref());
    let endpoint = match api.registry.find(name, version) {
        Ok(endpoint) => endpoint,
        Err(error) => return ApiError::from(error).into_response(),
    };
    let mut headers = names_and_values(&head.headers);
    headers.push(("url_path".to_owned(), target.rest.clone().unwrap_or_default()));
    headers.push(("explain".to_owned(), "False".to_owned()));
    let request = Request {
        verb: Verb::Predict,
        id: head.extensions.get::<RequestId>().map(|id| id.0.clone()).unwrap_or_default(),
        headers,
        fields,
    };
    let asked = if version.is_some() { AskedVersion::Named } else { AskedVersion::Default };
    match endpoint.predict(request, urgency(&head.headers), asked).await {
        Ok(answer) => reply::answer(answer),
        Err(error) => ApiError::serving(&error, name, version).into_response(),
    }
}

/// What the header `priority` says, in the form of RFC 9218: `u=0` for the most urgent to `u=7`.
fn urgency(headers: &HeaderMap) -> Urgency {
    let value = headers.get("priority").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let number = value.split(',').find_map(|item| item.trim().strip_prefix("u=")?.parse().ok());
    number.map_or_else(Urgency::default, Urgency::new)
}

/// The headers as handlers see them; one that isn't text is left out.
fn names_and_values(headers: &HeaderMap) -> Vec<(String, String)> {
    headers
        .iter()
        .filter_map(|(name, value)| Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned())))
        .collect()
}
