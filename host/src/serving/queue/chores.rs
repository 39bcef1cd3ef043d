//! What is done for a batch before and after it is computed: jobs leave the queue to be prepared and come back to their place, and outputs wait for whoever answers with them.
//!
//! Only a generation whose handler has steps that can be called one by one does so, and nothing it has prepared is there for another.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use super::Gate;
use super::OPEN;
use super::Queue;
use super::SHUT;
use super::State;
use crate::plugin::Prepared;
use crate::serving::batcher::Batcher;
use crate::serving::job::Job;
use crate::serving::job::ReplyTo;
use crate::serving::job::Task;

/// What a thread beside the workers does next.
#[derive(Debug)]
pub(in crate::serving) enum Chore {
    /// To be put back afterwards.
    Prepare(Job),
    Finish(Computed),
    End,
}

/// A batch that has its outputs, and no answers yet.
#[derive(Debug)]
pub(in crate::serving) struct Computed {
    pub(in crate::serving) tasks: Vec<Task>,
    pub(in crate::serving) outputs: Vec<Prepared>,
    pub(in crate::serving) waiting: Vec<(ReplyTo, Duration)>,
    /// When a worker took the batch.
    pub(in crate::serving) taken: Instant,
    /// Time that was spent in the handler's code.
    pub(in crate::serving) in_handler: Duration,
}

/// Batches of one generation that are to be finished, and how many threads wait for one; changed under the queue's lock.
#[derive(Debug, Default)]
pub(in crate::serving) struct Finishing {
    computed: VecDeque<Computed>,
    pub(super) idle: usize,
}

/// A job that is out of its queue for a while; it counts as waiting until this is dropped.
#[derive(Debug)]
pub(in crate::serving) struct Preparing(Arc<Queue>);

/// So many batches are prepared ahead at most.
const BATCHES_AHEAD: usize = 2;

// === impl Queue ===

impl Queue {
    /// Waits for a job to prepare or a batch to finish; the end comes as it does for workers, once nothing is left to finish.
    pub(in crate::serving) fn take_chore(&self, batcher: &Batcher, gate: &Gate) -> Chore {
        let mut state = self.lock();
        loop {
            if let Some(computed) = gate.finishing().computed.pop_front() {
                return Chore::Finish(computed);
            }
            match gate.turn.load(Ordering::Acquire) {
                SHUT => return Chore::End,
                OPEN => {}
                _ => {
                    state = self.turned.wait(state).unwrap_or_else(PoisonError::into_inner);
                    continue;
                }
            }
            state.drop_unwanted(Instant::now());
            // Workers that wait for no more than a request are on their way to the first ones.
            let spoken_for = if batcher.policy().delay.is_none() { state.idle } else { 0 };
            if let Some(job) = state.take_to_prepare(spoken_for, batcher, gate) {
                if state.idle_preparers > 0 {
                    self.chores.notify_one();
                }
                return Chore::Prepare(job);
            }
            if state.is_over() {
                return Chore::End;
            }
            state.idle_preparers += 1;
            gate.finishing().idle += 1;
            state = self.chores.wait(state).unwrap_or_else(PoisonError::into_inner);
            gate.finishing().idle -= 1;
            state.idle_preparers -= 1;
        }
    }

    /// Puts a job that was taken out back to its place.
    ///
    /// Where its generation serves no longer, what it has prepared is left out.
    pub(in crate::serving) fn put_back(&self, mut job: Job, gate: &Gate) {
        let mut state = self.lock();
        if gate.turn.load(Ordering::Acquire) != OPEN {
            job.prepared = None;
        }
        if let (true, Some(error)) = (state.refuses_all, state.refusing.clone()) {
            drop(state);
            job.prepared = None;
            return job.refuse(error);
        }
        let place = state.jobs.partition_point(|other| (other.urgency, other.arrived) <= (job.urgency, job.arrived));
        state.jobs.insert(place, job);
        let calls = state.calls_one();
        drop(state);
        if calls {
            self.changed.notify_one();
        }
    }

    /// Leaves a batch to a thread that waits for one; it comes back where there is none.
    pub(in crate::serving) fn leave_to_finish(&self, computed: Computed, gate: &Gate) -> Result<(), Computed> {
        let _state = self.lock();
        let mut finishing = gate.finishing();
        if finishing.computed.len() >= finishing.idle || gate.turn.load(Ordering::Acquire) != OPEN {
            return Err(computed);
        }
        finishing.computed.push_back(computed);
        drop(finishing);
        self.chores.notify_one();
        Ok(())
    }

    /// Counts a job as waiting that was taken out to be prepared.
    pub(in crate::serving) fn preparing(self: &Arc<Self>) -> Preparing {
        Preparing(Arc::clone(self))
    }
}

// === impl State ===

impl State {
    /// The first job that nobody has prepared, beyond so many at the head and not too far from it.
    pub(super) fn take_to_prepare(&mut self, spoken_for: usize, batcher: &Batcher, gate: &Gate) -> Option<Job> {
        if !gate.has_steps() {
            return None;
        }
        let ahead = (BATCHES_AHEAD * batcher.most()).saturating_sub(self.preparing);
        let mut places = self.jobs.iter().take(ahead).skip(spoken_for);
        let place = spoken_for + places.position(|job| job.has_steps() && job.prepared.is_none())?;
        self.preparing += 1;
        self.jobs.remove(place)
    }

    /// How many of the first jobs a worker would take now: where others prepare, the first of all, and those that they have prepared.
    pub(super) fn ready(&self, alike: usize, batcher: &Batcher, gate: &Gate) -> usize {
        let has_preparers = self.preparing > 0 || self.idle_preparers > 0;
        let are_prepared = has_preparers && gate.has_steps() && batcher.policy().delay.is_none();
        if !are_prepared || !self.jobs.front().is_some_and(Job::has_steps) {
            return alike;
        }
        1 + self.jobs.iter().take(alike).skip(1).filter(|job| job.prepared.is_some()).count()
    }

    /// The first so many that are ready; those between them stay where they are.
    pub(super) fn take_ready(&mut self, count: usize) -> Vec<Job> {
        let mut taken = Vec::with_capacity(count);
        let mut place = 0;
        while taken.len() < count && place < self.jobs.len() {
            let is_ready = place == 0 && taken.is_empty() || self.jobs[place].prepared.is_some();
            match is_ready.then(|| self.jobs.remove(place)).flatten() {
                Some(job) => taken.push(job),
                None => place += 1,
            }
        }
        taken
    }

    /// Under the lock, so that nothing of a generation is left when its threads end.
    pub(super) fn forget_prepared(&mut self) {
        self.jobs.iter_mut().for_each(|job| job.prepared = None);
    }
}

// === impl Preparing ===

impl Drop for Preparing {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.preparing -= 1;
        // Workers of a closed queue wait for the last one.
        if state.refusing.is_some() {
            self.0.changed.notify_all();
            self.0.chores.notify_all();
        }
    }
}
