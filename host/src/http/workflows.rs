//! Workflows: TorchServe has switched them off and kept their routes, whose answers its clients know.

use axum::body::Body;
use axum::extract::Path;
use axum::http::Response;
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::UtoipaMethodRouterExt;
use utoipa_axum::routes;

use super::document::Routes;
use super::document::also_at;
use super::error::ApiError;
use super::error::Form;
use super::reply;

#[derive(Debug, Serialize, ToSchema)]
struct WorkflowList {
    /// There are none, and never will be.
    #[schema(value_type = Vec<Object>)]
    workflows: [(); 0],
}

/// What a path names, in its order.
type Names = Path<Vec<(String, String)>>;

/// Asking a workflow.
pub(super) fn inference_routes() -> Routes {
    let ask = routes!(ask).map(|route| route.fallback(ask));
    Routes::default().routes(also_at(ask, &["/wfpredict/{workflow_name}/{*rest}"]))
}

pub(super) fn management_routes() -> Routes {
    Routes::default().routes(routes!(list, register)).routes(routes!(describe, unregister))
}

/// Lists the workflows, of which there are none.
#[utoipa::path(
    get,
    path = "/workflows",
    operation_id = "listWorkflows",
    responses((status = 200, description = "An empty list.", body = WorkflowList))
)]
async fn list() -> Response<Body> {
    reply::json(StatusCode::OK, &WorkflowList { workflows: [] })
}

/// Refuses to register a workflow.
#[utoipa::path(
    post,
    path = "/workflows",
    operation_id = "registerWorkflow",
    responses((status = 400, description = "Always.", body = Form))
)]
async fn register() -> ApiError {
    ApiError::bad_request("Registering new workflows is disabled.")
}

/// Looks for a workflow to describe, in vain.
#[utoipa::path(
    get,
    path = "/workflows/{workflow_name}",
    operation_id = "describeWorkflow",
    responses((status = 404, description = "Always.", body = Form))
)]
async fn describe(names: Names) -> ApiError {
    not_found(names)
}

/// Looks for a workflow to unregister, in vain.
#[utoipa::path(
    delete,
    path = "/workflows/{workflow_name}",
    operation_id = "unregisterWorkflow",
    responses((status = 404, description = "Always.", body = Form))
)]
async fn unregister(names: Names) -> ApiError {
    not_found(names)
}

/// Looks for a workflow to ask, in vain, whatever the method of the request is.
#[utoipa::path(
    post,
    path = "/wfpredict/{workflow_name}",
    operation_id = "wfpredict",
    responses((status = 404, description = "Always.", body = Form))
)]
async fn ask(names: Names) -> ApiError {
    not_found(names)
}

fn not_found(Path(names): Names) -> ApiError {
    let name = names.into_iter().next().map(|(_, value)| value);
    ApiError::workflow_not_found(&name.unwrap_or_default())
}
