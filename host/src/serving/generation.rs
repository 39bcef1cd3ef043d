//! One library, its handler objects and its worker threads, serving one model.

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::mpsc;
use std::time::Duration;
use std::time::Instant;

use super::EndpointSettings;
use super::LoadError;
use super::Signature;
use super::WorkerState;
use super::hand_over::Errand;
use super::queue::Gate;
use super::queue::Queue;
use super::record::Entry;
use super::record::GenerationState;
use super::record::Step;
use super::source::Build;
use super::worker::NotMade;
use super::worker::Worker;
use super::worker::WorkerPlan;
use super::worker::WorkerStatus;
use crate::config::Unload;
use crate::ids::GenerationId;
use crate::plugin::Library;
use crate::plugin::Residue;
use crate::plugin::own_thread;

/// Code at work. Its threads run nothing but this generation.
#[derive(Debug)]
pub struct Generation {
    build: Build,
    plan: Arc<WorkerPlan>,
    queue: Arc<Queue>,
    gate: Arc<Gate>,
    crew: Mutex<Crew>,
    /// Where the author's file lies now: one that was only renamed is no reason to swap.
    found_at: Mutex<PathBuf>,
    /// `None` once it is retired.
    library: Mutex<Option<Arc<Library>>>,
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

/// The workers, and what went wrong with those before them.
#[derive(Debug, Default)]
struct Crew {
    workers: Vec<Worker>,
    next_number: usize,
    /// Attempts to start a worker since the last one that got ready.
    attempts: u32,
    last_attempt: Option<Instant>,
    /// All are told to end, and none takes their place.
    is_dismissed: bool,
    /// Since when there have been too few workers.
    short_since: Option<Instant>,
}

/// A handler that hangs again and again would fill the process with threads.
const MOST_STUCK: usize = 16;

/// Before the second attempt to start a worker; each further one waits twice as long, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

// === impl Generation ===

impl Generation {
    /// Starts the workers and waits until each has its handler initialised; they take no request before the queue is handed to them.
    ///
    /// If one fails, or isn't ready in time, all end, and the reason is returned.
    pub(super) fn start(code: GenerationCode, plan: WorkerPlan, queue: Arc<Queue>) -> Result<Self, LoadError> {
        let generation = Self {
            found_at: Mutex::new(code.build.library.source().to_owned()),
            build: code.build,
            plan: Arc::new(plan),
            queue,
            gate: Arc::default(),
            crew: Mutex::default(),
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

    /// Answers for workers whose call has taken too long, and starts others in place of those that are gone.
    ///
    /// The error says that there is no worker left and that no further one is tried.
    pub(super) fn look_after_workers(&self, now: Instant) -> Result<(), String> {
        let plan = &self.plan;
        let mut crew = self.lock();
        if crew.is_dismissed {
            return Ok(());
        }
        for worker in crew.workers.extract_if(.., |worker| worker.is_finished()) {
            worker.join_finished();
        }
        for worker in &crew.workers {
            if worker.give_up_if_late(now, plan.response_timeout) {
                tracing::error!(
                    model = %plan.model, version = %plan.version, generation = %plan.generation, worker = worker.number(),
                    limit = ?plan.response_timeout, "the handler takes longer than responseTimeout; another worker takes its place"
                );
            } else if worker.is_late_to_start(self.settings().startup_timeout) {
                tracing::error!(
                    model = %plan.model, version = %plan.version, generation = %plan.generation, worker = worker.number(),
                    limit = ?self.settings().startup_timeout, "the handler takes longer than startupTimeout to get ready"
                );
            }
        }
        let at_work = crew.workers.iter().filter(|worker| worker.is_at_work()).count();
        if at_work >= self.settings().min_workers {
            // One that is still getting ready has proved nothing.
            if crew.workers.iter().all(|worker| worker.status().state != WorkerState::Loading) {
                crew.attempts = 0;
                crew.short_since = None;
            }
            return Ok(());
        }
        let stuck = crew.workers.len() - at_work;
        let short_for = now.saturating_duration_since(*crew.short_since.get_or_insert(now));
        if at_work == 0 && stuck >= MOST_STUCK {
            return Err(format!(
                "{stuck} calls of the handler hang, and no further worker is started: mend the handler"
            ));
        }
        if at_work == 0 && short_for >= self.settings().max_retry_timeout {
            return Err(format!(
                "no worker could be started for {} s; the log says why",
                self.settings().max_retry_timeout.as_secs()
            ));
        }
        if stuck < MOST_STUCK && crew.may_try(now) {
            for _ in at_work..self.settings().min_workers {
                // It tells the log itself why it can't get ready.
                if let Err(error) = self.add_worker(&mut crew, mpsc::channel().0) {
                    tracing::error!(model = %plan.model, version = %plan.version, %error, "no worker could be started");
                }
            }
        }
        Ok(())
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
        tracing::info!(
            model = %self.plan.model, version = %self.plan.version, generation = %self.id(), library = %residue, "retired"
        );
        entry.write(|record| {
            record.state = GenerationState::Retired;
            record.residue = Some(residue);
        });
    }

    fn start_workers(&self) -> Result<(), LoadError> {
        let limit = self.settings().startup_timeout;
        let end = Instant::now() + limit;
        let (ready, made) = mpsc::channel();
        for _ in 0..self.settings().min_workers {
            self.add_worker(&mut self.lock(), ready.clone())?;
        }
        let (handler, library) = (self.build.handler.clone(), self.build.library.source().to_owned());
        for _ in 0..self.settings().min_workers {
            match made.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    return Err(LoadError::Initialize { handler, library, reason: error.log_text().to_owned() });
                }
                Err(_) => {
                    return Err(LoadError::StartupTimedOut { handler, library, limit });
                }
            }
        }
        Ok(())
    }

    fn add_worker(&self, crew: &mut Crew, ready: mpsc::Sender<Result<(), NotMade>>) -> Result<(), LoadError> {
        let library = self.library.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(library) = library else {
            return Err(LoadError::Retired);
        };
        let (plan, queue, gate) = (Arc::clone(&self.plan), Arc::clone(&self.queue), Arc::clone(&self.gate));
        let worker = Worker::start(crew.next_number, plan, library, queue, gate, ready).map_err(LoadError::Thread)?;
        crew.next_number += 1;
        crew.workers.push(worker);
        Ok(())
    }

    /// Joins what ends within `limit` for each step, and leaves the rest behind.
    fn join_workers(&self, limit: Duration) {
        let plan = &self.plan;
        let workers = {
            let mut crew = self.lock();
            crew.is_dismissed = true;
            std::mem::take(&mut crew.workers)
        };
        let begin = Instant::now();
        let left = workers.into_iter().filter_map(|worker| (!worker.join(begin, limit)).then_some(())).count();
        if left > 0 {
            tracing::warn!(
                model = %plan.model, version = %plan.version, generation = %plan.generation, workers = left,
                "a handler never came back from a call"
            );
        }
    }

    fn lock(&self) -> MutexGuard<'_, Crew> {
        self.crew.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Crew ===

impl Crew {
    /// Whether enough time has passed since the last attempt; if so, this is the next one.
    fn may_try(&mut self, now: Instant) -> bool {
        let pause = match self.attempts {
            0 => Duration::ZERO,
            attempts => (FIRST_PAUSE * 2_u32.saturating_pow(attempts - 1).min(1024)).min(LONGEST_PAUSE),
        };
        let may = self.last_attempt.is_none_or(|last| now.saturating_duration_since(last) >= pause);
        if may {
            self.attempts += 1;
            self.last_attempt = Some(now);
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_are_spaced_further_and_further() {
        let start = Instant::now();
        let mut crew = Crew::default();
        let tries: Vec<u64> = (0..8000).filter(|&millis| crew.may_try(start + Duration::from_millis(millis))).collect();
        assert_eq!(tries, [0, 500, 1500, 3500, 7500]);
    }
}
