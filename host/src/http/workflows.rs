//! Workflows: TorchServe has switched them off and kept their routes, whose answers its clients know.

use axum::Router;
use axum::body::Body;
use axum::extract::Path;
use axum::http::Response;
use axum::http::StatusCode;
use axum::routing::any;
use axum::routing::get;
use serde::Serialize;

use super::Api;
use super::error::ApiError;
use super::reply;

#[derive(Debug, Serialize)]
struct WorkflowList {
    /// There are none, and never will be.
    workflows: [(); 0],
}

/// Asking a workflow.
pub(super) fn inference_routes() -> Router<Api> {
    Router::new().route("/wfpredict/{workflow}", any(not_found)).route("/wfpredict/{workflow}/{*rest}", any(not_found))
}

pub(super) fn management_routes() -> Router<Api> {
    Router::new()
        .route("/workflows", get(list).post(register))
        .route("/workflows/{workflow}", get(not_found).delete(not_found))
}

async fn list() -> Response<Body> {
    reply::json(StatusCode::OK, &WorkflowList { workflows: [] })
}

async fn register() -> ApiError {
    ApiError::bad_request("Registering new workflows is disabled.")
}

async fn not_found(Path(names): Path<Vec<(String, String)>>) -> ApiError {
    let name = names.into_iter().next().map(|(_, value)| value);
    ApiError::workflow_not_found(&name.unwrap_or_default())
}
