//! The metrics, for Prometheus to fetch.

use axum::body::Body;
use axum::extract::RawQuery;
use axum::extract::State;
use axum::http::Response;
use axum::http::header;
use axum::response::IntoResponse;
use utoipa_axum::router::UtoipaMethodRouterExt;
use utoipa_axum::routes;

use super::Api;
use super::document::Routes;
use super::document::also_at;
use super::error::ApiError;
use super::error::Form;

pub(super) fn routes() -> Routes {
    Routes::default().routes(also_at(routes!(metrics).map(|route| route.fallback(metrics)), &["/metrics/{*rest}"]))
}

/// The metrics in Prometheus's text form, whatever the method of the request and the rest of the path are.
#[utoipa::path(
    get,
    path = "/metrics",
    operation_id = "metrics",
    params(("name[]" = Option<Vec<String>>, Query, description = "The names of the metrics that are wanted; all, where none is given.")),
    responses(
        (status = 200, description = "The metrics.", body = String, content_type = "text/plain; version=0.0.4; charset=utf-8"),
        (status = 500, description = "The metrics can't be written.", body = Form),
    )
)]
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
