//! `/predictions` and `/explanations`, with what follows the version in the path.

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
use super::read;
use crate::http::Api;
use crate::serving::Verb;

#[derive(Debug, Deserialize)]
struct Target {
    model: String,
    version: Option<String>,
    rest: Option<String>,
}

pub(super) fn routes() -> Router<Api> {
    let mut routes = Router::new();
    for rest in ["/{model}", "/{model}/{version}", "/{model}/{version}/{*rest}"] {
        routes = routes
            .route(&format!("/predictions{rest}"), any(predict))
            .route(&format!("/explanations{rest}"), any(explain));
    }
    routes
}

async fn predict(State(api): State<Api>, Path(target): Path<Target>, request: Request) -> Response<Body> {
    ask(&api, target, Verb::Predict, request).await
}

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
    answer(api, &head, call).await
}
