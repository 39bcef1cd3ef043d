//! One library, its handler objects and its worker threads, serving one model.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::time::Duration;
use std::time::Instant;

use super::LoadError;
use super::queue::Queue;
use super::worker::Worker;
use super::worker::WorkerPlan;
use super::worker::WorkerStatus;
use crate::ids::GenerationId;

/// Code at work. Its threads run nothing but this generation, and end before its library is let go.
#[derive(Debug)]
pub struct Generation {
    plan: Arc<WorkerPlan>,
    queue: Arc<Queue>,
    stop: Arc<AtomicBool>,
    workers: Mutex<Vec<Worker>>,
}

// === impl Generation ===

impl Generation {
    /// Starts the workers and waits until each has its handler initialised.
    ///
    /// If one fails, or isn't ready in time, all end, and the reason is returned.
    pub(super) fn start(plan: WorkerPlan, queue: Arc<Queue>, count: usize, limit: Duration) -> Result<Self, LoadError> {
        let generation = Self {
            plan: Arc::new(plan),
            queue,
            stop: Arc::default(),
            workers: Mutex::default(),
        };
        match generation.start_workers(count, limit) {
            Ok(()) => Ok(generation),
            Err(error) => {
                generation.stop_workers();
                // After a failure the others are about to end; after a time-out one is stuck, and waiting once more is of no use.
                generation.join_workers(if matches!(error, LoadError::StartupTimedOut { .. }) {
                    Duration::ZERO
                } else {
                    limit
                });
                Err(error)
            }
        }
    }

    fn start_workers(&self, count: usize, limit: Duration) -> Result<(), LoadError> {
        let end = Instant::now() + limit;
        let (ready, made) = mpsc::channel();
        for number in 0..count {
            self.add_worker(number, ready.clone())?;
        }
        let (handler, library) = (self.plan.handler.clone(), self.plan.library.source().to_owned());
        for _ in 0..count {
            match made.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    return Err(LoadError::Initialize {
                        handler,
                        library,
                        reason: error.log_text().to_owned(),
                    });
                }
                Err(_) => {
                    return Err(LoadError::StartupTimedOut {
                        handler,
                        library,
                        limit,
                    });
                }
            }
        }
        Ok(())
    }

    fn add_worker(
        &self,
        number: usize,
        ready: mpsc::Sender<Result<(), super::worker::NotMade>>,
    ) -> Result<(), LoadError> {
        let (plan, queue, stop) = (Arc::clone(&self.plan), Arc::clone(&self.queue), Arc::clone(&self.stop));
        let worker = Worker::start(number, plan, queue, stop, ready).map_err(LoadError::Thread)?;
        self.lock().push(worker);
        Ok(())
    }

    pub fn id(&self) -> GenerationId {
        self.plan.generation
    }

    pub fn workers(&self) -> Vec<WorkerStatus> {
        self.lock().iter().map(Worker::status).collect()
    }

    /// Answers for workers whose call has taken too long, and starts others in their place.
    pub(super) fn replace_late_workers(&self, now: Instant) {
        let back: Vec<Worker> = self.lock().extract_if(.., |worker| worker.has_come_back()).collect();
        back.into_iter().for_each(Worker::join_finished);
        let limit = self.plan.response_timeout;
        let late: Vec<usize> = {
            let workers = self.lock();
            let late = workers.iter().filter(|worker| worker.give_up_if_late(now, limit));
            late.map(Worker::number).collect()
        };
        if late.is_empty() {
            return;
        }
        let next = self
            .lock()
            .iter()
            .map(Worker::number)
            .max()
            .map_or(0, |number| number + 1);
        for (offset, number) in late.into_iter().enumerate() {
            let plan = &self.plan;
            tracing::error!(
                model = %plan.model, version = %plan.version, generation = %plan.generation, worker = number,
                ?limit, "the handler takes longer than responseTimeout; another worker takes its place"
            );
            // Nobody waits for this worker: the others go on meanwhile.
            if let Err(error) = self.add_worker(next + offset, mpsc::channel().0) {
                tracing::error!(model = %plan.model, %error, "no worker could be started in its place");
            }
        }
    }

    /// Waits until the workers have emptied a closed queue and ended.
    pub(super) fn drain(&self) {
        self.join_workers(self.plan.response_timeout);
    }

    /// Joins what ends within `limit` for each step, and leaves the rest behind.
    fn join_workers(&self, limit: Duration) {
        let plan = &self.plan;
        let workers = std::mem::take(&mut *self.lock());
        let left = workers
            .into_iter()
            .filter_map(|worker| (!worker.join(limit)).then_some(()))
            .count();
        if left > 0 {
            tracing::warn!(
                model = %plan.model, version = %plan.version, generation = %plan.generation, workers = left,
                "a handler never came back from a call; its library stays mapped"
            );
        }
    }

    fn stop_workers(&self) {
        self.stop.store(true, Ordering::Release);
        self.queue.wake_all();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Worker>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
