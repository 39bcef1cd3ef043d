//! The requests that wait for one endpoint: bounded, the most urgent first, and among equals the first that came.
//!
//! The queue belongs to the endpoint, not to a generation: when workers are replaced, nothing that waits is touched.

mod chores;
mod gate;
mod lull;

use std::collections::VecDeque;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::ServeError;
use super::batcher::Batcher;
use super::batcher::Decision;
use super::batcher::View;
use super::job::Job;
pub(super) use chores::Chore;
pub(super) use chores::Computed;
pub(super) use chores::Preparing;
pub(super) use gate::Gate;
use gate::NOT_YET;
use gate::OPEN;
use gate::PAUSED;
use gate::SHUT;
use lull::Lull;

#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    /// A job came, or a gate was turned.
    changed: Condvar,
    /// A gate was turned. Who waits behind one that isn't open waits here: it must not be woken in place of one that would take the job.
    turned: Condvar,
    /// There is something to prepare or to finish. Those who do that wait here: they must not be woken in place of a worker.
    chores: Condvar,
    lull: Lull,
}

#[derive(Debug)]
struct State {
    /// By urgency, then by arrival.
    jobs: VecDeque<Job>,
    limits: QueueLimits,
    /// Jobs that were taken out to be prepared, and come back.
    preparing: usize,
    /// Workers that wait for a job.
    idle: usize,
    /// How many of them were called and aren't up yet: each call is one into the kernel, and a second one for the same worker does nothing.
    called: usize,
    /// Jobs that come at the same time are to share the call of a worker.
    shares_calls: bool,
    /// Threads that wait for something to prepare or to finish.
    idle_preparers: usize,
    /// What is said to every further job.
    refusing: Option<ServeError>,
    /// Whether that is said to those that come back, too.
    refuses_all: bool,
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

/// What a worker does next.
#[derive(Debug)]
pub(super) enum Taken {
    Batch(Vec<Job>),
    /// A job to prepare and to put back, while the batch isn't full.
    ToPrepare(Job),
    Errand,
    End,
}

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
        let state = State {
            jobs: VecDeque::new(),
            limits,
            preparing: 0,
            idle: 0,
            called: 0,
            shares_calls: false,
            idle_preparers: 0,
            refusing: None,
            refuses_all: false,
        };
        Self {
            state: Mutex::new(state),
            changed: Condvar::new(),
            turned: Condvar::new(),
            chores: Condvar::new(),
            lull: Lull::default(),
        }
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
        if state.shares_calls {
            return Ok(Pushed::CallLeft);
        }
        self.call_for(state);
        Ok(Pushed::Called)
    }

    /// Makes the call that was left, where it is still of use.
    pub(super) fn call(&self) {
        let state = self.lock();
        if !state.jobs.is_empty() {
            self.call_for(state);
        }
    }

    /// Calls a worker, and who might prepare the job for it, where they sleep.
    fn call_for(&self, mut state: MutexGuard<'_, State>) {
        let (calls, has_idle_preparer) = (state.calls_one(), state.idle_preparers > 0);
        drop(state);
        if calls {
            self.changed.notify_one();
        }
        if has_idle_preparer {
            self.chores.notify_one();
        }
    }

    /// Waits for a batch, or for a summons. The end comes once the gate is shut, or once the queue refuses further jobs and is empty.
    ///
    /// What nobody waits for any more is left out: jobs whose client has gone are dropped, those past their deadline answered so.
    pub(super) fn take(&self, batcher: &Batcher, gate: &Gate, summons: impl Fn() -> Option<Summons>) -> Taken {
        let shares_calls = batcher.shares_calls();
        if shares_calls && self.lull.gives_way() {
            // Whoever answers connections brings in first what has come meanwhile: it makes this batch larger.
            std::thread::yield_now();
        }
        let mut state = self.lock();
        self.lull.learn(!state.jobs.is_empty());
        state.shares_calls = shares_calls;
        loop {
            let summons = summons();
            match gate.turn.load(Ordering::Acquire) {
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
            let ready = state.ready(alike, batcher, gate);
            let decision = match batcher.decide(View { now, waiting: ready, oldest, idle: state.idle + 1 }) {
                // Nothing more will come to wait for, or it would have to wait behind one that can't go along.
                Decision::WaitUntil(_) if closed || alike < state.jobs.len() || state.leads_alone() => {
                    Decision::Take(alike)
                }
                decision => decision,
            };
            if let Decision::WaitUntil(_) = decision
                && let Some(job) = state.take_to_prepare(0, batcher, gate)
            {
                return Taken::ToPrepare(job);
            }
            state.idle += usize::from(!matches!(decision, Decision::Take(_)));
            state = match decision {
                Decision::Take(count) => {
                    let jobs =
                        if ready < alike { state.take_ready(count) } else { state.jobs.drain(..count).collect() };
                    if !state.jobs.is_empty() {
                        self.call_for(state);
                    }
                    return Taken::Batch(jobs);
                }
                Decision::Wait if state.is_over() => {
                    state.idle -= 1;
                    self.chores.notify_all();
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

    /// Lets the workers look whether they are summoned.
    pub(super) fn wake_workers(&self) {
        // Under the lock, as a turn of a gate.
        let _state = self.lock();
        self.wake();
    }

    fn wake(&self) {
        self.changed.notify_all();
        self.turned.notify_all();
        self.chores.notify_all();
    }

    /// Refuses further jobs with this error; what waits is still served.
    pub(super) fn close(&self, error: ServeError) {
        self.lock().refusing = Some(error);
        self.changed.notify_all();
        self.chores.notify_all();
    }

    /// Refuses further jobs, and answers what waits with the same error.
    pub(super) fn refuse_all(&self, error: &ServeError) {
        let jobs = {
            let mut state = self.lock();
            state.refusing = Some(error.clone());
            state.refuses_all = true;
            state.forget_prepared();
            std::mem::take(&mut state.jobs)
        };
        self.changed.notify_all();
        self.chores.notify_all();
        jobs.into_iter().for_each(|job| job.refuse(error.clone()));
    }

    pub(super) fn status(&self) -> QueueStatus {
        let state = self.lock();
        let waiting = state.waiting();
        QueueStatus { remaining: state.limits.capacity.saturating_sub(waiting), waiting, idle: state.idle }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl State ===

impl State {
    fn is_full(&self) -> bool {
        let waiting = self.waiting();
        waiting >= self.limits.capacity || (self.limits.tickets && waiting >= self.idle)
    }

    /// Whether a worker is to be called for a job: one that is up, or on its way, looks by itself.
    fn calls_one(&mut self) -> bool {
        let calls = self.called < self.idle;
        self.called += usize::from(calls);
        calls
    }

    /// Those that are being prepared wait for their batch, too.
    fn waiting(&self) -> usize {
        self.jobs.len() + self.preparing
    }

    /// Whether nothing will come any more.
    fn is_over(&self) -> bool {
        self.refusing.is_some() && self.waiting() == 0
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
