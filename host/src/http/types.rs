//! The JSON that clients read, in TorchServe's names and order.

use std::borrow::Cow;
use std::time::SystemTime;

use handler_sdk::Device;
use serde::Serialize;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use utoipa::ToSchema;

use super::speed::BatchingDescription;
use super::speed::OptimizationDescription;
use crate::serving::Endpoint;
use crate::serving::EndpointState;
use crate::serving::WorkerState;

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Status {
    status: Cow<'static, str>,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ModelList {
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) next_page_token: Option<String>,
    pub(super) models: Vec<ListedModel>,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ListedModel {
    pub(super) model_name: String,
    pub(super) model_url: String,
}

/// One version of a model; what TorchServe doesn't say comes last.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Description {
    model_name: String,
    model_version: String,
    model_url: String,
    runtime: &'static str,
    min_workers: usize,
    max_workers: usize,
    batch_size: usize,
    /// Milliseconds.
    max_batch_delay: u128,
    /// Seconds, as the next two.
    response_timeout: u64,
    startup_timeout: u64,
    max_retry_timeout_in_sec: u64,
    client_timeout_in_mills: u128,
    parallel_type: &'static str,
    parallel_level: u32,
    device_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    device_ids: Option<Vec<u32>>,
    continuous_batching: bool,
    use_job_ticket: bool,
    use_venv: bool,
    stateful: bool,
    #[serde(rename = "sequenceMaxIdleMSec")]
    sequence_max_idle_m_sec: u32,
    #[serde(rename = "sequenceTimeoutMSec")]
    sequence_timeout_m_sec: u32,
    max_num_sequence: u32,
    max_sequence_job_queue_size: u32,
    loaded_at_startup: bool,
    workers: Vec<WorkerDescription>,
    job_queue_status: JobQueueStatus,
    /// What the handler says of itself, where that was asked for and it says something.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) customized_metadata: Option<Value>,
    /// `IDLE`, `LOADING`, `READY` or `FAILED`.
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    generation: Option<u64>,
    /// The generation after this one, which was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    refused: Option<Refused>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    batching: Option<BatchingDescription>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    optimization: Option<OptimizationDescription>,
}

#[derive(Debug, Serialize, ToSchema)]
struct Refused {
    generation: u64,
    reason: String,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct WorkerDescription {
    id: String,
    start_time: String,
    status: &'static str,
    memory_usage: u64,
    pid: u32,
    gpu: bool,
    gpu_usage: &'static str,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct JobQueueStatus {
    remaining_capacity: usize,
    pending_requests: usize,
}

/// TorchServe numbers workers by their ports, which begin here.
const FIRST_WORKER: usize = 9000;

const START_TIME: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");

// === impl Status ===

impl Status {
    pub(super) fn new(status: impl Into<Cow<'static, str>>) -> Self {
        Self { status: status.into() }
    }
}

// === impl Description ===

impl Description {
    /// `memory` is the server's, in bytes.
    pub(super) fn of(endpoint: &Endpoint, memory: u64) -> Self {
        let settings = endpoint.settings();
        let status = endpoint.status();
        let gpu = settings.device != Device::Cpu;
        let worker = |number: usize, started: SystemTime, state| WorkerDescription {
            id: (FIRST_WORKER + number).to_string(),
            start_time: OffsetDateTime::from(started).format(START_TIME).unwrap_or_default(),
            status: state,
            memory_usage: memory,
            pid: std::process::id(),
            gpu,
            gpu_usage: "N/A",
        };
        let mut workers: Vec<_> = status
            .workers
            .iter()
            .map(|status| worker(status.number, status.started, worker_state(status.state)))
            .collect();
        if status.state == EndpointState::Loading {
            workers.extend((0..settings.scale.min).map(|number| worker(number, endpoint.registered(), "LOADING")));
        }
        Self {
            model_name: endpoint.name().to_string(),
            model_version: endpoint.version().to_string(),
            model_url: endpoint.url().to_owned(),
            runtime: endpoint.runtime(),
            min_workers: settings.scale.min,
            max_workers: settings.scale.max,
            batch_size: settings.batch.asked_size(),
            max_batch_delay: settings.batch.longest_delay().as_millis(),
            response_timeout: settings.response_timeout.as_secs(),
            startup_timeout: settings.startup_timeout.as_secs(),
            max_retry_timeout_in_sec: settings.max_retry_timeout.as_secs(),
            client_timeout_in_mills: settings.client_timeout.map_or(0, |limit| limit.as_millis()),
            parallel_type: "",
            parallel_level: 0,
            device_type: if gpu { "gpu" } else { "cpu" },
            device_ids: settings.device_ids.clone(),
            continuous_batching: false,
            use_job_ticket: settings.queue.tickets,
            use_venv: false,
            stateful: false,
            sequence_max_idle_m_sec: 0,
            sequence_timeout_m_sec: 0,
            max_num_sequence: 0,
            max_sequence_job_queue_size: 0,
            loaded_at_startup: endpoint.loaded_at_startup(),
            workers,
            job_queue_status: JobQueueStatus {
                remaining_capacity: status.queue.remaining,
                pending_requests: status.queue.waiting,
            },
            customized_metadata: None,
            status: match status.state {
                EndpointState::Idle => "IDLE",
                EndpointState::Loading => "LOADING",
                EndpointState::Ready => "READY",
                EndpointState::Failed => "FAILED",
            },
            error: status.error,
            generation: status.generation.map(|generation| generation.0),
            refused: status.refused.map(|(generation, reason)| Refused { generation: generation.0, reason }),
            batching: endpoint.batching().map(BatchingDescription::of),
            optimization: endpoint.tuning().map(|tuning| OptimizationDescription::of(settings.optimization, &tuning)),
        }
    }
}

fn worker_state(state: WorkerState) -> &'static str {
    match state {
        WorkerState::Loading => "LOADING",
        WorkerState::Ready => "READY",
        WorkerState::Stuck | WorkerState::Ended => "UNLOADING",
    }
}
