//! One version of one model: its queue, its settings, and the generation that serves it now.

use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Instant;
use std::time::SystemTime;

use arc_swap::ArcSwap;

use super::EndpointSettings;
use super::Generation;
use super::LoadError;
use super::QueueStatus;
use super::Request;
use super::ServeError;
use super::Served;
use super::job::Done;
use super::job::Job;
use super::queue::Queue;
use super::record::Entry;
use super::record::GenerationRecord;
use super::record::GenerationState;
use super::record::History;
use super::source::Build;
use super::source::Source;
use super::worker::WorkerStatus;
use crate::ids::GenerationId;
use crate::ids::ModelName;
use crate::ids::ModelVersion;
use crate::metrics::AskedVersion;
use crate::metrics::ModelMetrics;

#[derive(Debug)]
pub struct Endpoint {
    name: ModelName,
    version: ModelVersion,
    loaded_at_startup: bool,
    registered: SystemTime,
    queue: Arc<Queue>,
    /// How the current generation is served; read by every request.
    settings: ArcSwap<EndpointSettings>,
    state: Mutex<State>,
    /// A generation has answered all it had.
    drained: Condvar,
    /// Held from the first step of a swap to its last: there is one at a time.
    swapping: Mutex<()>,
    metrics: ModelMetrics,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    /// The generation that has the queue; it stays in place when it is given up, until another takes over.
    current: Option<Arc<Generation>>,
    /// What `current` is made from, or what it will be.
    source: Arc<Source>,
    /// An archive that came later and misses its library: it is tried again when a library comes.
    wanted: Option<Arc<Source>>,
    /// What has served before, the latest last, kept for a rollback.
    before: Vec<Build>,
    /// Generations that finish what they have in hand.
    retiring: usize,
    history: History,
}

#[derive(Debug)]
enum Phase {
    /// Requests wait in the queue.
    Loading,
    Ready,
    /// With the reason, for people.
    Failed {
        reason: String,
        since: Instant,
    },
    Closed,
}

/// How many of the generations before are kept for a rollback: each keeps its archive's files and its library's on disk.
const KEPT_FOR_ROLLBACK: usize = 3;

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
    /// The generation that was made after this one and refused, with the reason.
    pub refused: Option<(GenerationId, String)>,
    pub workers: Vec<WorkerStatus>,
    pub queue: QueueStatus,
}

// === impl Endpoint ===

impl Endpoint {
    pub(super) fn new(
        name: ModelName,
        version: ModelVersion,
        source: Source,
        loaded_at_startup: bool,
        metrics: ModelMetrics,
    ) -> Self {
        let queue = Arc::new(Queue::new(source.settings.queue_capacity));
        let settings = ArcSwap::new(Arc::clone(&source.settings));
        let state = State {
            phase: Phase::Loading,
            current: None,
            source: Arc::new(source),
            wanted: None,
            before: Vec::new(),
            retiring: 0,
            history: History::default(),
        };
        Self {
            name,
            version,
            loaded_at_startup,
            registered: SystemTime::now(),
            queue,
            settings,
            state: Mutex::new(state),
            drained: Condvar::new(),
            swapping: Mutex::default(),
            metrics,
        }
    }

    /// Takes a request in and waits for its answer, for as long as the client does.
    ///
    /// It is refused at once where the queue is full, where no worker will ever come, or where the server is closing.
    pub async fn predict(&self, asked: AskedVersion, request: Request) -> Result<handler_sdk::Answer, ServeError> {
        self.metrics.request_accepted(asked);
        let answer = self.ask(asked, request).await;
        answer.inspect_err(|error| self.metrics.request_failed(error.failure()))
    }

    async fn ask(&self, asked: AskedVersion, request: Request) -> Result<handler_sdk::Answer, ServeError> {
        let started = Instant::now();
        let (job, answer) = Job::new(request, self.settings.load().client_timeout);
        let deadline = job.deadline;
        self.queue.push(job)?;
        let done = match deadline {
            Some(deadline) => {
                tokio::time::timeout_at(deadline.into(), answer).await.map_err(|_| ServeError::Expired)?
            }
            None => answer.await,
        };
        // A worker that goes without a word drops its end.
        let Done { reply, queued } = done.map_err(|_| ServeError::WorkerDied)?;
        if reply.is_ok() {
            self.metrics.request_answered(asked, started.elapsed(), queued);
        }
        reply
    }

    pub fn name(&self) -> &ModelName {
        &self.name
    }

    pub fn version(&self) -> &ModelVersion {
        &self.version
    }

    /// The archive as the operator named it.
    pub fn url(&self) -> String {
        self.source().url.clone()
    }

    pub fn loaded_at_startup(&self) -> bool {
        self.loaded_at_startup
    }

    /// When the endpoint was made.
    pub fn registered(&self) -> SystemTime {
        self.registered
    }

    /// How the current generation is served.
    pub fn settings(&self) -> Arc<EndpointSettings> {
        self.settings.load_full()
    }

    /// The runtime that the manifest names: `python`, `python3` or `LSP`.
    pub fn runtime(&self) -> &'static str {
        self.source().package.manifest.runtime.as_str()
    }

    pub fn status(&self) -> EndpointStatus {
        let state = self.lock();
        let (name, error) = match &state.phase {
            Phase::Loading => (EndpointState::Loading, None),
            Phase::Ready => (EndpointState::Ready, None),
            Phase::Failed { reason, .. } => (EndpointState::Failed, Some(reason.clone())),
            Phase::Closed => (EndpointState::Failed, Some("the server is shutting down".to_owned())),
        };
        let generation = state.current.as_ref().filter(|_| name == EndpointState::Ready);
        let latest = state.history.iter().next_back().map(|entry| entry.read());
        // One whose worker hangs is stuck, and refused all the same.
        let refused =
            latest.filter(|record| record.published.is_none() && record.reason.is_some() && generation.is_some());
        EndpointStatus {
            state: name,
            error,
            generation: generation.map(|generation| generation.id()),
            refused: refused.map(|record| (record.id, record.reason.unwrap_or_default())),
            workers: generation.map(|generation| generation.workers()).unwrap_or_default(),
            queue: self.queue.status(),
        }
    }

    /// The generations so far, the latest first.
    pub fn generations(&self) -> Vec<GenerationRecord> {
        self.lock().history.iter().rev().map(|entry| entry.read()).collect()
    }

    /// How many generations are in each of the states in which something of them runs.
    pub(super) fn generations_alive(&self) -> impl Iterator<Item = (GenerationState, usize)> {
        let states: Vec<_> = self.lock().history.iter().map(|entry| entry.state()).collect();
        GenerationState::ALIVE
            .into_iter()
            .map(move |state| (state, states.iter().filter(|&&other| other == state).count()))
    }

    /// Whether the endpoint speaks for a healthy server: it is served, or on its way, or has failed only a while ago.
    pub fn is_healthy(&self) -> bool {
        let state = self.lock();
        match &state.phase {
            Phase::Loading | Phase::Ready => true,
            Phase::Failed { since, .. } => since.elapsed() < state.source.settings.max_retry_timeout,
            Phase::Closed => false,
        }
    }

    pub(super) fn served(&self) -> Served {
        let state = self.lock();
        let build = state.current.as_ref().map(|generation| generation.build());
        // Before there is a generation of it the archive's own word counts.
        let by_name = match (&state.wanted, build) {
            (Some(wanted), _) => wanted.names_a_plugin(),
            (None, Some(build)) => build.by_name,
            (None, None) => state.source.names_a_plugin(),
        };
        Served {
            name: self.name.clone(),
            version: self.version.clone(),
            ready: matches!(state.phase, Phase::Ready) && state.wanted.is_none(),
            archive: state.source.path().to_owned(),
            library: state
                .current
                .as_ref()
                .filter(|generation| generation.build().by_name)
                .map(|generation| generation.found_at()),
            by_name,
        }
    }

    pub(super) fn source(&self) -> Arc<Source> {
        Arc::clone(&self.lock().source)
    }

    /// The archive that serves, or the one after it that misses its library.
    pub(super) fn latest(&self) -> Arc<Source> {
        let state = self.lock();
        Arc::clone(state.wanted.as_ref().unwrap_or(&state.source))
    }

    /// This archive misses its library; `None` where nothing is missing.
    pub(super) fn want(&self, source: Option<&Arc<Source>>) {
        let mut state = self.lock();
        state.wanted = source.filter(|source| !Arc::ptr_eq(source, &state.source)).cloned();
    }

    /// The generation that takes requests now.
    pub(super) fn serving(&self) -> Option<Arc<Generation>> {
        let state = self.lock();
        state.current.clone().filter(|_| matches!(state.phase, Phase::Ready))
    }

    /// What has served before, and would again after a rollback.
    pub(super) fn before(&self) -> Option<Build> {
        self.lock().before.last().cloned()
    }

    pub(super) fn queue(&self) -> Arc<Queue> {
        Arc::clone(&self.queue)
    }

    /// Waits until no other swap of this endpoint is under way.
    pub(super) fn one_swap_at_a_time(&self) -> MutexGuard<'_, ()> {
        self.swapping.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A generation is on its way.
    pub(super) fn begin(&self, entry: Arc<Entry>) {
        self.lock().history.push(entry);
    }

    /// The queue is the generation's from now on, and the one that had it is returned to be retired; refused where the endpoint was closed meanwhile.
    pub(super) fn publish(&self, generation: Arc<Generation>) -> Result<Option<Arc<Generation>>, LoadError> {
        let mut state = self.lock();
        if matches!(state.phase, Phase::Closed) {
            return Err(LoadError::Closed);
        }
        let old = state.current.take();
        generation.take_over(old.as_deref());
        generation.entry().write(|record| {
            record.state = GenerationState::Serving;
            record.published = Some(SystemTime::now());
        });
        if generation.entry().trigger().goes_back() {
            state.before.pop();
        } else if let Some(old) = &old {
            state.before.push(old.build().clone());
            let surplus = state.before.len().saturating_sub(KEPT_FOR_ROLLBACK);
            state.before.drain(..surplus);
        }
        if let Some(old) = &old {
            old.entry().write(|record| record.state = GenerationState::Draining);
            state.retiring += 1;
        }
        state.source = Arc::clone(&generation.build().source);
        state.wanted = None;
        self.settings.store(Arc::clone(&state.source.settings));
        state.current = Some(generation);
        state.phase = Phase::Ready;
        Ok(old)
    }

    /// The generation that [`publish`](Self::publish) gave back has answered all it had.
    pub(super) fn drained(&self) {
        self.lock().retiring -= 1;
        self.drained.notify_all();
    }

    /// Nobody will serve; what waits, and whatever still comes, is told so.
    pub(super) fn fail(&self, reason: String) {
        let mut state = self.lock();
        if !matches!(state.phase, Phase::Closed) {
            // One that fails again has failed since the first time.
            let since = match state.phase {
                Phase::Failed { since, .. } => since,
                _ => Instant::now(),
            };
            state.phase = Phase::Failed { reason, since };
            self.queue.refuse_all(&ServeError::NoWorker);
        }
    }

    /// Answers for handlers that hang, and replaces workers that are gone.
    pub(super) fn look_after_workers(&self, now: Instant) {
        let Some(generation) = self.serving() else { return };
        if let Err(reason) = generation.look_after_workers(now) {
            let is_current = self.serving().is_some_and(|serving| Arc::ptr_eq(&serving, &generation));
            if is_current {
                tracing::error!(model = %self.name, version = %self.version, "model no longer served: {reason}");
                self.fail(reason);
            }
        }
    }

    /// Takes no further requests, answers those it has, then ends its workers. Blocks until that is done.
    pub(super) fn close(&self) {
        self.queue.close(ServeError::ShuttingDown);
        let generation = {
            let mut state = self.lock();
            state.phase = Phase::Closed;
            state.current.clone()
        };
        if let Some(generation) = generation {
            generation.finish();
        }
        self.queue.refuse_all(&ServeError::ShuttingDown);
        let mut state = self.lock();
        while state.retiring > 0 {
            state = self.drained.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
