//! One library, its handler objects and its worker threads, serving one model.

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use super::EndpointSettings;
use super::LoadError;
use super::QueueStatus;
use super::Scale;
use super::Signature;
use super::crew::Crew;
use super::hand_over::Errand;
use super::queue::Gate;
use super::queue::Queue;
use super::record::Entry;
use super::record::GenerationState;
use super::record::Step;
use super::source::Build;
use super::worker::Worker;
use super::worker::WorkerPlan;
use super::worker::WorkerStatus;
use crate::config::AutoscaleConfig;
use crate::config::Unload;
use crate::ids::GenerationId;
use crate::model::trim_memory;
use crate::plugin::Library;
use crate::plugin::Residue;
use crate::plugin::own_thread;

/// Code at work. Its threads run nothing but this generation.
#[derive(Debug)]
pub struct Generation {
    build: Build,
    pub(super) plan: Arc<WorkerPlan>,
    pub(super) queue: Arc<Queue>,
    pub(super) gate: Arc<Gate>,
    crew: Mutex<Crew>,
    autoscale: AutoscaleConfig,
    /// Where the author's file lies now: one that was only renamed is no reason to swap.
    found_at: Mutex<PathBuf>,
    /// `None` once it is retired.
    pub(super) library: Mutex<Option<Arc<Library>>>,
    unload: Unload,
}

/// The code of a generation.
#[derive(Debug)]
pub(super) struct GenerationCode {
    pub(super) build: Build,
    pub(super) library: Library,
    /// What becomes of the library in the end.
    pub(super) unload: Unload,
}

/// How many workers a generation begins with, and when their number changes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Staffing {
    pub(super) scale: Scale,
    pub(super) autoscale: AutoscaleConfig,
}

// === impl Generation ===

impl Generation {
    /// Starts the workers and waits until each has its handler initialised; they take no request before the queue is handed to them.
    ///
    /// If one fails, or isn't ready in time, all end, and the reason is returned.
    pub(super) fn start(
        code: GenerationCode,
        plan: WorkerPlan,
        queue: Arc<Queue>,
        staffing: Staffing,
    ) -> Result<Self, LoadError> {
        let generation = Self {
            found_at: Mutex::new(code.build.library.source().to_owned()),
            build: code.build,
            plan: Arc::new(plan),
            queue,
            gate: Arc::default(),
            crew: Mutex::new(Crew::new(staffing.scale)),
            autoscale: staffing.autoscale,
            library: Mutex::new(Some(Arc::new(code.library))),
            unload: code.unload,
        };
        if let Err(error) = generation.start_workers() {
            // After a failure the others are about to end; after a time-out one is stuck, and waiting once more is of no use.
            let limit = match error {
                LoadError::StartupTimedOut { .. } => Duration::ZERO,
                _ => generation.settings().startup_timeout,
            };
            generation.retire_unpublished(limit);
            return Err(error);
        }
        Ok(generation)
    }

    pub fn id(&self) -> GenerationId {
        self.plan.generation
    }

    pub(super) fn build(&self) -> &Build {
        &self.build
    }

    /// Where the author's file lies, as far as was seen.
    pub(super) fn found_at(&self) -> PathBuf {
        self.found_at.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn was_found_at(&self, path: &Path) {
        path.clone_into(&mut self.found_at.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(super) fn settings(&self) -> &EndpointSettings {
        &self.build.source.settings
    }

    pub(super) fn plan(&self) -> &WorkerPlan {
        &self.plan
    }

    /// Whether what its model runs on still computes.
    pub(super) fn has_device(&self) -> bool {
        self.plan.weights.as_ref().is_none_or(|model| model.works())
    }

    pub(super) fn autoscale(&self) -> AutoscaleConfig {
        self.autoscale
    }

    pub(super) fn queue_status(&self) -> QueueStatus {
        self.queue.status()
    }

    /// Lets the workers look whether they are summoned.
    pub(super) fn wake_workers(&self) {
        self.queue.wake_workers();
    }

    /// How its model is called without its handler; `None` where it has none that can be called.
    pub(super) fn signature(&self) -> Option<&Signature> {
        self.plan.signature.as_ref()
    }

    pub(super) fn entry(&self) -> &Entry {
        &self.plan.tally.entry
    }

    /// From now on the queue is this generation's, and no longer the other's.
    pub(super) fn take_over(&self, from: Option<&Self>) {
        let from = from.map(|generation| &*generation.gate);
        self.queue.hand_over(from, &self.gate, self.settings().queue);
    }

    pub fn workers(&self) -> Vec<WorkerStatus> {
        self.lock().workers.iter().map(Worker::status).collect()
    }

    /// The workers take nothing until they are resumed, each after the batch it has in hand.
    pub(super) fn pause(&self) {
        self.queue.pause_gate(&self.gate);
    }

    pub(super) fn resume(&self) {
        self.queue.open_gate(&self.gate);
    }

    /// Whether the handler takes part in a hand-over of state.
    pub(super) fn hands_over_state(&self) -> bool {
        self.lock().workers.iter().any(Worker::hands_over_state)
    }

    pub(super) fn worker_count(&self) -> usize {
        self.lock().workers.len()
    }

    /// Gives an errand to each worker that is at work, and tells how many got one; they run it while they take no batches.
    pub(super) fn send_errands(&self, mut errand: impl FnMut(usize) -> Option<Errand>) -> usize {
        let mut sent = 0;
        for (index, worker) in self.lock().workers.iter().enumerate().filter(|(_, worker)| worker.is_at_work()) {
            if let Some(errand) = errand(index) {
                worker.send(errand);
                sent += 1;
            }
        }
        self.queue.wake_workers();
        sent
    }

    /// Nobody waits for them any more; tells how many weren't begun.
    pub(super) fn give_up_errands(&self) -> usize {
        self.lock().workers.iter().filter(|worker| worker.give_up_errand()).count()
    }

    /// Lets the workers of a closed queue empty it, and waits for their end.
    pub(super) fn finish(&self) {
        self.queue.open_gate(&self.gate);
        self.join_workers(self.plan.response_timeout);
    }

    /// Ends the workers, each after the batch it has in hand, and waits for their threads.
    ///
    /// A thread that takes longer than `limit` for one step is left behind.
    pub(super) fn drain(&self, limit: Duration) {
        self.entry().step(Step::Drain, || {
            self.queue.shut_gate(&self.gate);
            self.join_workers(limit);
        });
    }

    /// Ends a generation that never served, and waits for that.
    pub(super) fn retire_unpublished(&self, limit: Duration) {
        self.drain(limit);
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name(format!("retire {}", self.id()));
            // Without a thread only the code stays.
            let _ = thread.spawn_scoped(scope, || {
                own_thread();
                self.let_go();
            });
        });
    }

    /// Lets go of the library of a drained generation, and tells what became of it.
    ///
    /// Call it on a thread that ends afterwards: the library's own clean-up runs on it.
    pub(super) fn let_go(&self) {
        let entry = self.entry();
        let library = self.library.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Who was left behind has the library, too.
        let Some(library) = library.and_then(|library| Arc::try_unwrap(library).ok()) else {
            let residue = Residue::InUse {
                bytes: self.build.library.mapped(),
                why: "a call of its handler never came back".to_owned(),
            };
            tracing::error!(
                model = %self.plan.model, version = %self.plan.version, generation = %self.id(), library = %residue, "stuck"
            );
            entry.write(|record| {
                record.state = GenerationState::Stuck;
                record.residue = Some(residue);
            });
            return;
        };
        let residue = entry.step(Step::Close, || library.close(self.unload));
        trim_memory();
        tracing::info!(
            model = %self.plan.model, version = %self.plan.version, generation = %self.id(), library = %residue, "retired"
        );
        entry.write(|record| {
            record.state = GenerationState::Retired;
            record.residue = Some(residue);
        });
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Crew> {
        self.crew.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
