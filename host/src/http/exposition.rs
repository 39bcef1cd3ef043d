//! The metrics, for Prometheus to fetch.

use axum::Router;
use axum::body::Body;
use axum::extract::RawQuery;
use axum::extract::State;
use axum::http::Response;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::any;

use super::Api;
use super::error::ApiError;

pub(super) fn routes() -> Router<Api> {
    // Whatever follows, and whatever the method is.
    Router::new().route("/metrics", any(metrics)).route("/metrics/{*rest}", any(metrics))
}

async fn metrics(State(api): State<Api>, RawQuery(query): RawQuery) -> Response<Body> {
    let query = query.unwrap_or_default();
    let wanted = form_urlencoded::parse(query.as_bytes()).filter(|(key, _)| key == "name[]");
    let names: Vec<String> = wanted.map(|(_, name)| name.into_owned()).collect();
    // It reads what is mapped, which takes a while where much is.
    let exposition = tokio::task::spawn_blocking(move || api.registry.exposition(&names)).await;
    let exposition = exposition.map_err(|_| "it panicked; this is a bug".to_owned());
    match exposition.and_then(|text| text.map_err(|error| error.to_string())) {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "the metrics can't be written");
            ApiError::internal("The metrics can't be written; the server's log says why.").into_response()
        }
    }
}
