//! The requests that wait for one endpoint: bounded, first come first served.
//!
//! The queue belongs to the endpoint, not to a generation: when workers are replaced, nothing that waits is touched.

use std::collections::VecDeque;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::ServeError;
use super::batcher::BatchPolicy;
use super::batcher::Decision;
use super::job::Job;

#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    capacity: usize,
}

#[derive(Debug, Default)]
struct State {
    jobs: VecDeque<Job>,
    closed: bool,
}

/// How full a queue is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueStatus {
    pub remaining: usize,
    pub waiting: usize,
}

// === impl Queue ===

impl Queue {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            state: Mutex::default(),
            changed: Condvar::new(),
            capacity,
        }
    }

    /// Takes a job in, or says why not.
    pub(super) fn push(&self, job: Job) -> Result<(), ServeError> {
        let mut state = self.lock();
        if state.closed {
            return Err(ServeError::ShuttingDown);
        }
        if state.jobs.len() >= self.capacity {
            return Err(ServeError::QueueFull {
                capacity: self.capacity,
            });
        }
        state.jobs.push_back(job);
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// Waits for a batch. `None` once `stop` is set, or once the queue is closed and empty.
    ///
    /// What nobody waits for any more is left out: jobs whose client has gone are dropped, those past their deadline answered so.
    pub(super) fn take(&self, policy: BatchPolicy, stop: &AtomicBool) -> Option<Vec<Job>> {
        let mut state = self.lock();
        loop {
            if stop.load(Ordering::Acquire) {
                return None;
            }
            let now = Instant::now();
            state.drop_unwanted(now);
            let oldest = state.jobs.front().map(|job| job.arrived);
            let decision = match policy.decide(now, state.jobs.len(), oldest) {
                // Nothing more will come to wait for.
                Decision::WaitUntil(_) if state.closed => Decision::Take(state.jobs.len()),
                decision => decision,
            };
            state = match decision {
                Decision::Take(count) => {
                    let jobs = state.jobs.drain(..count).collect();
                    if !state.jobs.is_empty() {
                        self.changed.notify_one();
                    }
                    return Some(jobs);
                }
                Decision::Wait if state.closed => return None,
                Decision::Wait => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Decision::WaitUntil(end) => {
                    let waited = self.changed.wait_timeout(state, end - now);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// Wakes every worker, so that it sees that it is to stop.
    pub(super) fn wake_all(&self) {
        // Under the lock: a worker that has looked at its flag and not yet begun to wait must not miss this.
        let _state = self.lock();
        self.changed.notify_all();
    }

    /// Takes no further jobs; what waits is still served.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Answers all that waits with an error.
    pub(super) fn refuse_all(&self, error: &ServeError) {
        let jobs: Vec<Job> = self.lock().jobs.drain(..).collect();
        jobs.into_iter().for_each(|job| job.refuse(error.clone()));
    }

    pub(super) fn status(&self) -> QueueStatus {
        let waiting = self.lock().jobs.len();
        QueueStatus {
            remaining: self.capacity.saturating_sub(waiting),
            waiting,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn drop_unwanted(&mut self, now: Instant) {
        if !self.jobs.iter().any(|job| job.is_abandoned() || job.is_expired(now)) {
            return;
        }
        for job in std::mem::take(&mut self.jobs) {
            if job.is_expired(now) {
                job.refuse(ServeError::Expired);
            } else if !job.is_abandoned() {
                self.jobs.push_back(job);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::serving::Request;

    const ONE: BatchPolicy = BatchPolicy {
        size: 1,
        delay: Duration::ZERO,
    };

    fn job(limit: Option<Duration>) -> (Job, tokio::sync::oneshot::Receiver<crate::serving::job::Done>) {
        Job::new(Request::default(), limit)
    }

    #[test]
    fn a_full_queue_refuses_at_once() {
        let queue = Queue::new(1);
        let (first, _first_reply) = job(None);
        let (second, _second_reply) = job(None);
        queue.push(first).unwrap();
        assert_eq!(queue.push(second), Err(ServeError::QueueFull { capacity: 1 }));
        assert_eq!(
            queue.status(),
            QueueStatus {
                remaining: 0,
                waiting: 1
            }
        );
    }

    #[test]
    fn a_closed_queue_serves_what_it_has() {
        let queue = Queue::new(9);
        let (first, _reply) = job(None);
        queue.push(first).unwrap();
        queue.close();
        let go_on = AtomicBool::new(false);
        let patient = BatchPolicy {
            size: 8,
            delay: Duration::from_secs(3600),
        };
        assert_eq!(queue.take(patient, &go_on).unwrap().len(), 1);
        assert!(queue.take(patient, &go_on).is_none());
        assert_eq!(queue.push(job(None).0), Err(ServeError::ShuttingDown));
    }

    #[test]
    fn the_unwanted_is_not_computed() {
        let queue = Queue::new(9);
        let (gone, reply) = job(None);
        drop(reply);
        let (expired, mut expired_reply) = job(Some(Duration::ZERO));
        let (wanted, _wanted_reply) = job(Some(Duration::from_secs(3600)));
        for job in [gone, expired, wanted] {
            queue.push(job).unwrap();
        }
        assert_eq!(queue.take(ONE, &AtomicBool::new(false)).unwrap().len(), 1);
        assert_eq!(queue.status().waiting, 0);
        assert!(matches!(
            expired_reply.try_recv().unwrap().reply,
            Err(ServeError::Expired)
        ));
    }

    #[test]
    fn a_stopped_worker_leaves_the_jobs_to_the_next() {
        let queue = Arc::new(Queue::new(9));
        let stop = Arc::new(AtomicBool::new(false));
        let worker = {
            let (queue, stop) = (Arc::clone(&queue), Arc::clone(&stop));
            std::thread::spawn(move || queue.take(ONE, &stop).map(|jobs| jobs.len()))
        };
        stop.store(true, Ordering::Release);
        queue.wake_all();
        assert_eq!(worker.join().unwrap(), None);
        let (waiting, _reply) = job(None);
        queue.push(waiting).unwrap();
        assert_eq!(queue.take(ONE, &AtomicBool::new(false)).unwrap().len(), 1);
    }
}
