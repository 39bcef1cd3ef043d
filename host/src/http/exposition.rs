//! The metrics, for Prometheus to fetch.

use axum::body::Body;
use axum::extract::State;
use axum::http::Response;
use axum::http::header;
use axum::response::IntoResponse;
use utoipa_axum::router::UtoipaMethodRouterExt;
use utoipa_axum::routes;

use super::Api;
use super::document::Routes;
use super::error::ApiError;
use super::error::Form;

pub(super) fn routes() -> Routes {
    Routes::default().routes(routes!(metrics).map(|route| route.fallback(metrics)))
}

/// The metrics in Prometheus's text form, whatever the method of the request is.
#[utoipa::path(
    get,
    path = "/metrics",
    operation_id = "metrics",
    responses(
        (status = 200, description = "All metrics.", body = String, content_type = "text/plain; version=0.0.4; charset=utf-8"),
        (status = 500, description = "The metrics can't be written.", body = Form),
    )
)]
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
