//! The metrics, for Prometheus to fetch.

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::Response;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::any;

use super::Api;
use super::error::ApiError;

pub(super) fn routes() -> Router<Api> {
    Router::new().route("/metrics", any(metrics))
}

async fn metrics(State(api): State<Api>) -> Response<Body> {
    // It reads what is mapped, which takes a while where much is.
    let exposition = tokio::task::spawn_blocking(move || api.registry.exposition()).await;
    match exposition.unwrap_or_else(|_| Err("it panicked; this is a bug".to_owned())) {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "the metrics can't be written");
            ApiError::internal("The metrics can't be written; the server's log says why.").into_response()
        }
    }
}
