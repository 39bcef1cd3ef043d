//! One version of one model: its queue, its settings, and the generation that serves it now.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Instant;
use std::time::SystemTime;

use super::EndpointSettings;
use super::Generation;
use super::QueueStatus;
use super::Request;
use super::ServeError;
use super::job::Done;
use super::job::Job;
use super::queue::Queue;
use super::worker::WorkerStatus;
use crate::archive::Package;
use crate::ids::GenerationId;
use crate::ids::ModelName;
use crate::ids::ModelVersion;
use crate::metrics::Metrics;

#[derive(Debug)]
pub struct Endpoint {
    name: ModelName,
    version: ModelVersion,
    /// The archive as the operator named it.
    url: String,
    loaded_at_startup: bool,
    registered: SystemTime,
    package: Package,
    settings: EndpointSettings,
    queue: Arc<Queue>,
    state: Mutex<State>,
    metrics: Metrics,
}

/// What an endpoint is made from.
#[derive(Debug)]
pub(super) struct EndpointSource {
    pub(super) name: ModelName,
    pub(super) version: ModelVersion,
    pub(super) url: String,
    pub(super) package: Package,
    pub(super) settings: EndpointSettings,
}

#[derive(Debug)]
enum State {
    /// Requests wait in the queue.
    Loading,
    Ready(Arc<Generation>),
    /// With the reason, for people.
    Failed {
        reason: String,
        since: Instant,
    },
}

/// Whether an endpoint is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndpointState {
    Loading,
    Ready,
    Failed,
}

/// What an endpoint is doing, for those who describe it.
#[derive(Debug, Clone)]
pub struct EndpointStatus {
    pub state: EndpointState,
    /// Why it isn't served.
    pub error: Option<String>,
    pub generation: Option<GenerationId>,
    pub workers: Vec<WorkerStatus>,
    pub queue: QueueStatus,
}

// === impl Endpoint ===

impl Endpoint {
    pub(super) fn new(source: EndpointSource, loaded_at_startup: bool, metrics: Metrics) -> Self {
        Self {
            name: source.name,
            version: source.version,
            url: source.url,
            loaded_at_startup,
            registered: SystemTime::now(),
            package: source.package,
            queue: Arc::new(Queue::new(source.settings.queue_capacity)),
            settings: source.settings,
            state: Mutex::new(State::Loading),
            metrics,
        }
    }

    /// Takes a request in and waits for its answer, for as long as the client does.
    ///
    /// It is refused at once where the queue is full, where no worker will ever come, or where the server is closing.
    pub async fn predict(&self, request: Request) -> Result<handler_sdk::Answer, ServeError> {
        let started = Instant::now();
        let (job, answer) = Job::new(request, self.settings.client_timeout);
        let deadline = job.deadline;
        self.queue.push(job)?;
        self.metrics.request_accepted(&self.name, &self.version);
        let done = match deadline {
            Some(deadline) => {
                tokio::time::timeout_at(deadline.into(), answer).await.map_err(|_| ServeError::Expired)?
            }
            None => answer.await,
        };
        // A worker that goes without a word drops its end.
        let Done { reply, queued } = done.map_err(|_| ServeError::WorkerDied)?;
        if reply.is_ok() {
            let total = started.elapsed().as_micros();
            self.metrics.request_answered(&self.name, &self.version, total, queued.as_micros());
        }
        reply
    }

    pub fn name(&self) -> &ModelName {
        &self.name
    }

    pub fn version(&self) -> &ModelVersion {
        &self.version
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn loaded_at_startup(&self) -> bool {
        self.loaded_at_startup
    }

    /// When the endpoint was made.
    pub fn registered(&self) -> SystemTime {
        self.registered
    }

    pub fn settings(&self) -> &EndpointSettings {
        &self.settings
    }

    /// The runtime that the manifest names: `python`, `python3` or `LSP`.
    pub fn runtime(&self) -> &'static str {
        self.package.manifest.runtime.as_str()
    }

    pub fn status(&self) -> EndpointStatus {
        let (state, error, generation, workers) = match &*self.lock() {
            State::Loading => (EndpointState::Loading, None, None, Vec::new()),
            State::Ready(generation) => (EndpointState::Ready, None, Some(generation.id()), generation.workers()),
            State::Failed { reason, .. } => (EndpointState::Failed, Some(reason.clone()), None, Vec::new()),
        };
        EndpointStatus { state, error, generation, workers, queue: self.queue.status() }
    }

    /// Whether the endpoint speaks for a healthy server: it is served, or on its way, or has failed only a while ago.
    pub fn is_healthy(&self) -> bool {
        match &*self.lock() {
            State::Loading | State::Ready(_) => true,
            State::Failed { since, .. } => since.elapsed() < self.settings.max_retry_timeout,
        }
    }

    pub(super) fn package(&self) -> &Package {
        &self.package
    }

    pub(super) fn queue(&self) -> Arc<Queue> {
        Arc::clone(&self.queue)
    }

    /// The generation serves from now on, unless the endpoint was closed meanwhile.
    pub(super) fn publish(&self, generation: Generation) {
        let mut state = self.lock();
        if matches!(*state, State::Loading) {
            generation.open();
            *state = State::Ready(Arc::new(generation));
        } else {
            drop(state);
            generation.drain();
        }
    }

    /// Nobody will serve; what waits, and whatever still comes, is told so.
    pub(super) fn fail(&self, reason: String) {
        *self.lock() = State::failed(reason);
        self.queue.refuse_all(&ServeError::NoWorker);
    }

    /// Answers for handlers that hang, and replaces workers that are gone.
    pub(super) fn look_after_workers(&self, now: Instant) {
        let generation = match &*self.lock() {
            State::Ready(generation) => Arc::clone(generation),
            State::Loading | State::Failed { .. } => return,
        };
        if let Err(reason) = generation.look_after_workers(now) {
            tracing::error!(model = %self.name, version = %self.version, "model no longer served: {reason}");
            self.fail(reason);
        }
    }

    /// Takes no further requests, answers those it has, then ends its workers. Blocks until that is done.
    pub(super) fn close(&self) {
        self.queue.close(ServeError::ShuttingDown);
        let state = std::mem::replace(&mut *self.lock(), State::failed("the server is shutting down".to_owned()));
        if let State::Ready(generation) = state {
            generation.drain();
        }
        self.queue.refuse_all(&ServeError::ShuttingDown);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn failed(reason: String) -> Self {
        Self::Failed { reason, since: Instant::now() }
    }
}
