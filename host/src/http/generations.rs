//! Hot swap over HTTP: reload, roll back, and what became of each generation.

use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;

use axum::extract::Path;
use axum::extract::State;
use axum::extract::rejection::PathRejection;
use axum::http::StatusCode;
use serde::Serialize;
use serde_json::Map;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use utoipa::ToSchema;
use utoipa_axum::routes;

use super::Api;
use super::document::Routes;
use super::document::also_at;
use super::error::ApiError;
use super::error::Form;
use super::management::Target;
use super::reply;
use super::reply::Reply;
use crate::ids::Digest;
use crate::serving::CodeRecord;
use crate::serving::GenerationRecord;
use crate::serving::ModelRecord;
use crate::serving::Registry;
use crate::serving::Residue;
use crate::serving::SwapError;
use crate::serving::Swapped;

/// The answer to a reload or a rollback.
#[derive(Debug, Serialize, ToSchema)]
struct SwapReply {
    /// `swapped`, or `unchanged` where what was asked for serves already.
    status: &'static str,
    /// The generation that now serves; only its number where nothing changed.
    generation: Value,
}

/// One generation.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct GenerationDescription {
    generation: u64,
    state: &'static str,
    /// `startup`, `library`, `archive`, `reload`, `rollback` or `panics`.
    trigger: &'static str,
    began: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    published: Option<String>,
    /// Why it was refused, or rolled back.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    reason: Option<String>,
    requests: u64,
    /// Of each step, in the order they were taken.
    #[schema(value_type = HashMap<String, f64>)]
    milliseconds: Map<String, Value>,
    /// The digest of the archive's content.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false)]
    package: Option<Digest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    library: Option<LibraryDescription>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    model: Option<ModelDescription>,
    /// What stayed of a retired one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    loaded: Option<LoadedDescription>,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct LibraryDescription {
    path: String,
    #[schema(value_type = String)]
    digest: Digest,
    handler: String,
    sdk: String,
    abi: String,
    rustc: String,
    target: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    libtorch: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ModelDescription {
    file: String,
    #[schema(value_type = String)]
    digest: Digest,
    device: String,
    tensors: usize,
    bytes: u64,
    /// Of the first weight: while it stays the same, the weights have not moved.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    address: Option<String>,
    /// Whether it was in memory before this generation.
    was_resident: bool,
    /// Whether a handler had written to the weights before this generation.
    was_changed: bool,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct LoadedDescription {
    mapped_bytes: u64,
    text: String,
}

pub(super) fn routes() -> Routes {
    Routes::default()
        .routes(also_at(routes!(reload), &["/models/{model_name}/{model_version}/reload"]))
        .routes(also_at(routes!(roll_back), &["/models/{model_name}/{model_version}/rollback"]))
        .routes(also_at(routes!(list), &["/models/{model_name}/{model_version}/generations"]))
}

/// Swaps a model's handler for the one that its archive or the plugins now have, losing no request.
#[utoipa::path(
    post,
    path = "/models/{model_name}/reload",
    operation_id = "reload",
    responses(
        (status = 200, description = "The new generation serves, or there was nothing new.", body = SwapReply),
        (status = 409, description = "The new generation was refused, and the old one goes on.", body = Form),
        (status = 500, description = "The swap failed.", body = Form),
    )
)]
async fn reload(State(api): State<Api>, target: Result<Path<Target>, PathRejection>) -> Reply {
    swap(api, target, Registry::reload).await
}

/// Swaps a model's handler for the one before, losing no request.
#[utoipa::path(
    post,
    path = "/models/{model_name}/rollback",
    operation_id = "rollBack",
    responses(
        (status = 200, description = "The handler before serves again.", body = SwapReply),
        (status = 409, description = "There was none before, or it was refused; the present one goes on.", body = Form),
        (status = 500, description = "The swap failed.", body = Form),
    )
)]
async fn roll_back(State(api): State<Api>, target: Result<Path<Target>, PathRejection>) -> Reply {
    swap(api, target, Registry::roll_back).await
}

async fn swap(
    api: Api,
    target: Result<Path<Target>, PathRejection>,
    verb: fn(&Registry, &str, Option<&str>) -> Result<Swapped, SwapError>,
) -> Reply {
    let Path(target) = target?;
    let registry = Arc::clone(&api.registry);
    // It goes on even if the client hangs up meanwhile; no code of a plugin runs on that thread.
    let swapped = tokio::task::spawn_blocking(move || verb(&registry, &target.model, target.version.as_deref())).await;
    let swapped = swapped.map_err(|_| ApiError::internal("the swap panicked; this is a bug"))??;
    let (status, generation) = match swapped {
        Swapped::Yes(record) => {
            ("swapped", serde_json::to_value(GenerationDescription::of(&record)).unwrap_or_default())
        }
        Swapped::Unchanged(generation) => ("unchanged", generation.0.into()),
    };
    Ok(reply::json(StatusCode::OK, &SwapReply { status, generation }))
}

/// Lists what became of each generation of a model.
#[utoipa::path(
    get,
    path = "/models/{model_name}/generations",
    operation_id = "listGenerations",
    responses((status = 200, description = "The generations.", body = Vec<GenerationDescription>))
)]
async fn list(State(api): State<Api>, target: Result<Path<Target>, PathRejection>) -> Reply {
    let Path(target) = target?;
    let endpoint = api.registry.find(&target.model, target.version.as_deref())?;
    let generations: Vec<_> = endpoint.generations().iter().map(GenerationDescription::of).collect();
    Ok(reply::json(StatusCode::OK, &generations))
}

// === impl GenerationDescription ===

impl GenerationDescription {
    fn of(record: &GenerationRecord) -> Self {
        Self {
            generation: record.id.0,
            state: record.state.as_str(),
            trigger: record.trigger.as_str(),
            began: time_of(record.began),
            published: record.published.map(time_of),
            reason: record.reason.clone(),
            requests: record.requests,
            milliseconds: record
                .steps
                .iter()
                .map(|(step, time)| (step.as_str().to_owned(), milliseconds(*time).into()))
                .collect(),
            package: record.package,
            library: record.code.as_ref().map(LibraryDescription::of),
            model: record.model.as_ref().map(ModelDescription::of),
            loaded: record.residue.as_ref().map(LoadedDescription::of),
        }
    }
}

impl LibraryDescription {
    fn of(code: &CodeRecord) -> Self {
        let note = &code.note;
        Self {
            path: code.library.display().to_string(),
            digest: code.digest,
            handler: code.handler.clone(),
            sdk: note.sdk.clone(),
            abi: format!("{}.{}", note.abi.0, note.abi.1),
            rustc: note.rustc.clone(),
            target: note.target.clone(),
            libtorch: note.libtorch.clone(),
        }
    }
}

impl ModelDescription {
    fn of(model: &ModelRecord) -> Self {
        Self {
            file: model.file.clone(),
            digest: model.digest,
            device: model.device.to_string(),
            tensors: model.footprint.tensors,
            bytes: model.footprint.bytes,
            address: model.footprint.address.map(|address| format!("{address:#x}")),
            was_resident: model.was_resident,
            was_changed: model.footprint.was_changed,
        }
    }
}

impl LoadedDescription {
    fn of(residue: &Residue) -> Self {
        Self { mapped_bytes: residue.bytes(), text: residue.to_string() }
    }
}

/// To a thousandth: what is finer is noise.
fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1_000_000.0).round() / 1000.0
}

fn time_of(time: SystemTime) -> String {
    OffsetDateTime::from(time).format(&Rfc3339).unwrap_or_default()
}
