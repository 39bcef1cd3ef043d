//! The requests that wait for one endpoint: bounded, the most urgent first, and among equals the first that came.
//!
//! The queue belongs to the endpoint, not to a generation: when workers are replaced, nothing that waits is touched.

use std::collections::VecDeque;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::ServeError;
use super::batcher::Batcher;
use super::batcher::Decision;
use super::batcher::View;
use super::job::Job;

#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    /// A job came, or a gate was turned.
    changed: Condvar,
    /// A gate was turned. Who waits behind one that isn't open waits here: it must not be woken in place of one that would take the job.
    turned: Condvar,
}

#[derive(Debug)]
struct State {
    /// By urgency, then by arrival.
    jobs: VecDeque<Job>,
    limits: QueueLimits,
    /// Workers that wait for a job.
    idle: usize,
    /// How many of them were called and aren't up yet: each call is one into the kernel, and a second one for the same worker does nothing.
    called: usize,
    /// A batch takes no longer than calling a worker does.
    is_quick: bool,
    /// What is said to every further job.
    refusing: Option<ServeError>,
}

/// What became of the workers that sleep when a job was taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pushed {
    /// One was called, where that was of use.
    Called,
    /// The call is left to the caller: jobs that come at the same time can share one.
    CallLeft,
}

/// What a queue takes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueLimits {
    /// The most jobs that wait.
    pub capacity: usize,
    /// Whether a job is taken in only for a worker that waits for it.
    pub tickets: bool,
}

/// What a worker is called away for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Summons {
    /// To be run while its gate isn't open.
    Errand,
    /// It is to end, whatever its gate is.
    Leave,
}

/// Whether the workers of a generation take batches; changed only by the queue that they take from, which wakes them.
#[derive(Debug, Default)]
pub(super) struct Gate(AtomicU8);

/// What a worker does next.
#[derive(Debug)]
pub(super) enum Taken {
    Batch(Vec<Job>),
    Errand,
    End,
}

/// Before the generation is published.
const NOT_YET: u8 = 0;
const OPEN: u8 = 1;
/// Between two generations.
const PAUSED: u8 = 3;
/// The workers are to end.
const SHUT: u8 = 2;

/// How full a queue is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueStatus {
    pub remaining: usize,
    pub waiting: usize,
    /// Workers that wait for a request.
    pub idle: usize,
}

// === impl Queue ===

impl Queue {
    pub(super) fn new(limits: QueueLimits) -> Self {
        let state = State { jobs: VecDeque::new(), limits, idle: 0, called: 0, is_quick: false, refusing: None };
        Self { state: Mutex::new(state), changed: Condvar::new(), turned: Condvar::new() }
    }

    /// Takes a job in, or says why not; calls a worker.
    pub(super) fn push(&self, job: Job) -> Result<(), ServeError> {
        if self.push_first(job)? == Pushed::CallLeft {
            self.call();
        }
        Ok(())
    }

    /// Takes a job in, or says why not.
    pub(super) fn push_first(&self, job: Job) -> Result<Pushed, ServeError> {
        let mut state = self.lock();
        if let Some(error) = &state.refusing {
            return Err(error.clone());
        }
        if state.is_full() {
            // Places that nobody waits for any more are free.
            state.drop_unwanted(Instant::now());
        }
        if state.is_full() {
            let capacity = state.limits.capacity;
            return Err(if state.limits.tickets { ServeError::NoTicket } else { ServeError::QueueFull { capacity } });
        }
        let place = state.jobs.partition_point(|other| other.urgency <= job.urgency);
        state.jobs.insert(place, job);
        if state.is_quick {
            return Ok(Pushed::CallLeft);
        }
        let calls = state.calls_one();
        drop(state);
        if calls {
            self.changed.notify_one();
        }
        Ok(Pushed::Called)
    }

    /// Makes the call that was left, where it is still of use.
    pub(super) fn call(&self) {
        let calls = {
            let mut state = self.lock();
            !state.jobs.is_empty() && state.calls_one()
        };
        if calls {
            self.changed.notify_one();
        }
    }

    /// Waits for a batch, or for a summons. The end comes once the gate is shut, or once the queue refuses further jobs and is empty.
    ///
    /// What nobody waits for any more is left out: jobs whose client has gone are dropped, those past their deadline answered so.
    pub(super) fn take(&self, batcher: &Batcher, gate: &Gate, summons: impl Fn() -> Option<Summons>) -> Taken {
        let mut state = self.lock();
        state.is_quick = batcher.is_quick();
        loop {
            let summons = summons();
            match gate.0.load(Ordering::Acquire) {
                SHUT => return Taken::End,
                _ if summons == Some(Summons::Leave) => {
                    // What woke it may have been a job.
                    self.changed.notify_one();
                    return Taken::End;
                }
                NOT_YET | PAUSED if summons.is_some() => return Taken::Errand,
                NOT_YET | PAUSED => {
                    state = self.turned.wait(state).unwrap_or_else(PoisonError::into_inner);
                    continue;
                }
                _ => {}
            }
            let closed = state.refusing.is_some();
            let now = Instant::now();
            state.drop_unwanted(now);
            let oldest = state.jobs.front().map(|job| job.arrived);
            let alike = state.alike(batcher.most());
            let decision = match batcher.decide(View { now, waiting: alike, oldest, idle: state.idle + 1 }) {
                // Nothing more will come to wait for, or it would have to wait behind one that can't go along.
                Decision::WaitUntil(_) if closed || alike < state.jobs.len() || state.leads_alone() => {
                    Decision::Take(alike)
                }
                decision => decision,
            };
            state.idle += usize::from(!matches!(decision, Decision::Take(_)));
            state = match decision {
                Decision::Take(count) => {
                    let jobs = state.jobs.drain(..count).collect();
                    if !state.jobs.is_empty() && state.calls_one() {
                        self.changed.notify_one();
                    }
                    return Taken::Batch(jobs);
                }
                Decision::Wait if closed => {
                    state.idle -= 1;
                    return Taken::End;
                }
                Decision::Wait => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Decision::WaitUntil(end) => {
                    let waited = self.changed.wait_timeout(state, end - now);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
            state.idle -= 1;
            // Whatever woke it, it looks for a job, which is all that the call was for.
            state.called = state.called.saturating_sub(1);
        }
    }

    /// Lets the workers behind this gate take batches.
    pub(super) fn open_gate(&self, gate: &Gate) {
        self.turn(gate, OPEN);
    }

    /// Keeps the workers behind this gate from further batches.
    pub(super) fn pause_gate(&self, gate: &Gate) {
        self.turn(gate, PAUSED);
    }

    /// Ends the workers behind this gate, each after the batch it has in hand.
    pub(super) fn shut_gate(&self, gate: &Gate) {
        self.turn(gate, SHUT);
    }

    /// The one step in which the queue changes hands: who waits behind the first gate ends, who waits behind the second begins.
    ///
    /// What waits is untouched; a queue that refused jobs takes them again.
    pub(super) fn hand_over(&self, from: Option<&Gate>, to: &Gate, limits: QueueLimits) {
        let mut state = self.lock();
        if let Some(from) = from {
            from.0.store(SHUT, Ordering::Release);
        }
        to.0.store(OPEN, Ordering::Release);
        state.limits = limits;
        state.refusing = None;
        self.wake();
    }

    fn turn(&self, gate: &Gate, to: u8) {
        // Under the lock: a worker that has looked at the gate and not yet begun to wait must not miss this.
        let _state = self.lock();
        gate.0.store(to, Ordering::Release);
        self.wake();
    }

    /// Lets the workers look whether they are summoned.
    pub(super) fn wake_workers(&self) {
        // Under the lock, as a turn of a gate.
        let _state = self.lock();
        self.wake();
    }

    fn wake(&self) {
        self.changed.notify_all();
        self.turned.notify_all();
    }

    /// Refuses further jobs with this error; what waits is still served.
    pub(super) fn close(&self, error: ServeError) {
        self.lock().refusing = Some(error);
        self.changed.notify_all();
    }

    /// Refuses further jobs, and answers what waits with the same error.
    pub(super) fn refuse_all(&self, error: &ServeError) {
        let jobs = {
            let mut state = self.lock();
            state.refusing = Some(error.clone());
            std::mem::take(&mut state.jobs)
        };
        self.changed.notify_all();
        jobs.into_iter().for_each(|job| job.refuse(error.clone()));
    }

    pub(super) fn status(&self) -> QueueStatus {
        let state = self.lock();
        let waiting = state.jobs.len();
        QueueStatus { remaining: state.limits.capacity.saturating_sub(waiting), waiting, idle: state.idle }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl State ===

impl State {
    fn is_full(&self) -> bool {
        let waiting = self.jobs.len();
        waiting >= self.limits.capacity || (self.limits.tickets && waiting >= self.idle)
    }

    /// Whether a worker is to be called for a job: one that is up, or on its way, looks by itself.
    fn calls_one(&mut self) -> bool {
        let calls = self.called < self.idle;
        self.called += usize::from(calls);
        calls
    }

    /// How many jobs at the head can go into one batch, at most `size`.
    fn alike(&self, size: usize) -> usize {
        let Some(first) = self.jobs.front() else { return 0 };
        let others = self.jobs.iter().skip(1).take(size.saturating_sub(1));
        1 + others.take_while(|job| first.goes_with(job)).count()
    }

    /// Whether the job at the head can't share a batch with any other.
    fn leads_alone(&self) -> bool {
        self.jobs.front().is_some_and(|job| !job.goes_with(job))
    }

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
mod tests;
