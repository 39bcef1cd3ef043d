//! One library, its handler objects and its worker threads, serving one model.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::mpsc;
use std::time::Duration;
use std::time::Instant;

use super::LoadError;
use super::WorkerState;
use super::queue::Gate;
use super::queue::Queue;
use super::worker::NotMade;
use super::worker::Worker;
use super::worker::WorkerPlan;
use super::worker::WorkerStatus;
use crate::ids::GenerationId;

/// Code at work. Its threads run nothing but this generation.
#[derive(Debug)]
pub struct Generation {
    plan: Arc<WorkerPlan>,
    queue: Arc<Queue>,
    gate: Arc<Gate>,
    size: GenerationSize,
    crew: Mutex<Crew>,
}

/// How many workers, and how long each may take to get ready.
#[derive(Debug, Clone, Copy)]
pub(super) struct GenerationSize {
    pub(super) workers: usize,
    pub(super) startup_timeout: Duration,
    /// For how long workers that can't be replaced are started again.
    pub(super) max_retry_timeout: Duration,
}

/// The workers, and what went wrong with those before them.
#[derive(Debug, Default)]
struct Crew {
    workers: Vec<Worker>,
    next_number: usize,
    /// Attempts to start a worker since the last one that got ready.
    attempts: u32,
    last_attempt: Option<Instant>,
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
    /// Starts the workers and waits until each has its handler initialised; they take no request before [`open`](Self::open).
    ///
    /// If one fails, or isn't ready in time, all end, and the reason is returned.
    pub(super) fn start(plan: WorkerPlan, queue: Arc<Queue>, size: GenerationSize) -> Result<Self, LoadError> {
        let generation = Self { plan: Arc::new(plan), queue, gate: Arc::default(), size, crew: Mutex::default() };
        let started = generation.start_workers();
        if let Err(error) = started {
            generation.queue.shut_gate(&generation.gate);
            // After a failure the others are about to end; after a time-out one is stuck, and waiting once more is of no use.
            generation.join_workers(match error {
                LoadError::StartupTimedOut { .. } => Duration::ZERO,
                _ => size.startup_timeout,
            });
            return Err(error);
        }
        Ok(generation)
    }

    /// Lets the workers take requests.
    pub(super) fn open(&self) {
        self.queue.open_gate(&self.gate);
    }

    pub fn id(&self) -> GenerationId {
        self.plan.generation
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
        for worker in crew.workers.extract_if(.., |worker| worker.is_finished()) {
            worker.join_finished();
        }
        for worker in &crew.workers {
            if worker.give_up_if_late(now, plan.response_timeout) {
                tracing::error!(
                    model = %plan.model, version = %plan.version, generation = %plan.generation, worker = worker.number(),
                    limit = ?plan.response_timeout, "the handler takes longer than responseTimeout; another worker takes its place"
                );
            } else if worker.is_late_to_start(self.size.startup_timeout) {
                tracing::error!(
                    model = %plan.model, version = %plan.version, generation = %plan.generation, worker = worker.number(),
                    limit = ?self.size.startup_timeout, "the handler takes longer than startupTimeout to get ready"
                );
            }
        }
        let at_work = crew.workers.iter().filter(|worker| worker.is_at_work()).count();
        if at_work >= self.size.workers {
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
        if at_work == 0 && short_for >= self.size.max_retry_timeout {
            return Err(format!(
                "no worker could be started for {} s; the log says why",
                self.size.max_retry_timeout.as_secs()
            ));
        }
        if stuck < MOST_STUCK && crew.may_try(now) {
            for _ in at_work..self.size.workers {
                // It tells the log itself why it can't get ready.
                if let Err(error) = self.add_worker(&mut crew, mpsc::channel().0) {
                    tracing::error!(model = %plan.model, version = %plan.version, %error, "no worker could be started");
                }
            }
        }
        Ok(())
    }

    /// Waits until the workers have emptied a closed queue and ended.
    pub(super) fn drain(&self) {
        self.open();
        self.join_workers(self.plan.response_timeout);
    }

    fn start_workers(&self) -> Result<(), LoadError> {
        let limit = self.size.startup_timeout;
        let end = Instant::now() + limit;
        let (ready, made) = mpsc::channel();
        for _ in 0..self.size.workers {
            self.add_worker(&mut self.lock(), ready.clone())?;
        }
        let (handler, library) = (self.plan.handler.clone(), self.plan.library.source().to_owned());
        for _ in 0..self.size.workers {
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
        let (plan, queue, gate) = (Arc::clone(&self.plan), Arc::clone(&self.queue), Arc::clone(&self.gate));
        let worker = Worker::start(crew.next_number, plan, queue, gate, ready).map_err(LoadError::Thread)?;
        crew.next_number += 1;
        crew.workers.push(worker);
        Ok(())
    }

    /// Joins what ends within `limit` for each step, and leaves the rest behind.
    fn join_workers(&self, limit: Duration) {
        let plan = &self.plan;
        let workers = std::mem::take(&mut self.lock().workers);
        let left = workers.into_iter().filter_map(|worker| (!worker.join(limit)).then_some(())).count();
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
