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
use super::Scale;
use super::ServeError;
use super::Served;
use super::profile::Profiler;
use super::queue::Queue;
use super::record::Entry;
use super::record::GenerationRecord;
use super::record::GenerationState;
use super::record::History;
use super::settings::Asked;
use super::source::Build;
use super::source::Source;
use super::wish::Wishes;
use super::worker::WorkerStatus;
use crate::ids::GenerationId;
use crate::ids::ModelName;
use crate::ids::ModelVersion;
use crate::metrics::ModelMetrics;

#[derive(Debug)]
pub struct Endpoint {
    name: ModelName,
    version: ModelVersion,
    loaded_at_startup: bool,
    registered: SystemTime,
    pub(super) queue: Arc<Queue>,
    /// How the current generation is served; read by every request.
    pub(super) settings: ArcSwap<EndpointSettings>,
    /// `None` where no client has asked for anything.
    asked: Mutex<Option<Asked>>,
    state: Mutex<State>,
    /// A generation has answered all it had.
    pub(super) drained: Condvar,
    /// Held from the first step of a swap to its last: there is one at a time.
    swapping: Mutex<()>,
    wishes: Wishes,
    pub(super) metrics: ModelMetrics,
    pub(super) profiler: Arc<Profiler>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) phase: Phase,
    /// The generation that has the queue; it stays in place when it is given up, until another takes over.
    pub(super) current: Option<Arc<Generation>>,
    /// What `current` is made from, or what it will be.
    pub(super) source: Arc<Source>,
    /// An archive that came later and misses its library: it is tried again when a library comes.
    pub(super) wanted: Option<Arc<Source>>,
    /// What has served before, the latest last, kept for a rollback.
    pub(super) before: Vec<Build>,
    /// Generations that finish what they have in hand.
    pub(super) retiring: usize,
    pub(super) history: History,
}

#[derive(Debug)]
pub(super) enum Phase {
    /// No worker is wanted, and requests are refused.
    Idle,
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

/// Whether an endpoint is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndpointState {
    /// It has no workers, since nobody wants any.
    Idle,
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

/// Some errors of a GPU are its last word in a process.
const LOST_DEVICE: &str =
    "the model's device computes nothing any more, and will not until this process has ended: restart the server";

// === impl State ===

impl State {
    fn has_lost_its_device(&self) -> bool {
        self.current.as_ref().is_some_and(|generation| !generation.has_device())
    }
}

// === impl Endpoint ===

impl Endpoint {
    pub(super) fn new(
        name: ModelName,
        version: ModelVersion,
        source: Source,
        asked: Option<Asked>,
        loaded_at_startup: bool,
        metrics: ModelMetrics,
        profiler: Profiler,
    ) -> Self {
        let queue = Arc::new(Queue::new(source.settings.queue));
        let settings = ArcSwap::new(Arc::clone(&source.settings));
        let is_idle = source.settings.scale.is_none();
        if is_idle {
            queue.close(ServeError::NoWorker);
        }
        let state = State {
            phase: if is_idle { Phase::Idle } else { Phase::Loading },
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
            asked: Mutex::new(asked),
            state: Mutex::new(state),
            drained: Condvar::new(),
            swapping: Mutex::default(),
            wishes: Wishes::default(),
            metrics,
            profiler: Arc::new(profiler),
        }
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

    /// The runtime that a client asked for, or the manifest names: `python`, `python3` or `LSP`.
    pub fn runtime(&self) -> &'static str {
        self.source().runtime.as_str()
    }

    pub fn status(&self) -> EndpointStatus {
        let state = self.lock();
        let (name, error) = match &state.phase {
            Phase::Idle => (EndpointState::Idle, None),
            Phase::Loading => (EndpointState::Loading, None),
            Phase::Ready if state.has_lost_its_device() => (EndpointState::Failed, Some(LOST_DEVICE.to_owned())),
            Phase::Ready => (EndpointState::Ready, None),
            Phase::Failed { reason, .. } => (EndpointState::Failed, Some(reason.clone())),
            Phase::Closed => (EndpointState::Failed, Some(LoadError::Closed.to_string())),
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
            Phase::Ready => !state.has_lost_its_device(),
            Phase::Idle | Phase::Loading => true,
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

    /// Whether no worker is wanted.
    pub(super) fn is_idle(&self) -> bool {
        matches!(self.lock().phase, Phase::Idle)
    }

    /// Whether it was unregistered, or the server is shutting down.
    pub(super) fn is_closed(&self) -> bool {
        matches!(self.lock().phase, Phase::Closed)
    }

    pub(super) fn wishes(&self) -> &Wishes {
        &self.wishes
    }

    /// What a client has asked for.
    pub(super) fn asked(&self) -> Option<Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many workers a generation that is made from this source has.
    pub(super) fn scale(&self, source: &Source) -> Scale {
        self.asked().and_then(|asked| asked.scale).unwrap_or(source.settings.scale)
    }

    /// A client wants so many workers, whatever is swapped from now on.
    pub(super) fn ask_for(&self, scale: Scale) {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.get_or_insert_default().scale = Some(scale);
        let settings = self.settings();
        self.settings.store(Arc::new(EndpointSettings { scale, ..(*settings).clone() }));
    }

    /// The generation that has served last, whether it takes requests now or not.
    pub(super) fn current(&self) -> Option<Arc<Generation>> {
        self.lock().current.clone()
    }

    pub(super) fn profiler(&self) -> Arc<Profiler> {
        Arc::clone(&self.profiler)
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

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
