//! The steps of a handler one by one: a request is prepared while others are in the model, and answered while the next ones are.

use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use handler_sdk::Error as HandlerError;
use handler_sdk::abi::instance::CallError;

use super::Work;
use super::classify;
use crate::model::InferenceMode;
use crate::model::set_threads;
use crate::plugin::LibraryInstance;
use crate::plugin::Prepared;
use crate::serving::Request;
use crate::serving::WorkerState;
use crate::serving::audience::Audience;
use crate::serving::job::Job;
use crate::serving::job::Reply;
use crate::serving::job::ReplyTo;
use crate::serving::job::Task;
use crate::serving::queue::Chore;
use crate::serving::queue::Computed;
use crate::serving::queue::Gate;
use crate::serving::queue::Queue;
use crate::serving::worker::InHand;
use crate::serving::worker::Shared;
use crate::serving::worker::WorkerPlan;

// === impl Work ===

impl Work {
    /// What a thread does that isn't a worker: it prepares and finishes with an object of its own, until its gate is shut, or its queue closed and empty.
    pub(in crate::serving) fn run_chores(&mut self, queue: &Arc<Queue>, gate: &Gate) {
        // The cores are the workers'.
        set_threads(1);
        if let Err(error) = self.enter().and_then(|()| self.make_instance()) {
            let plan = &self.plan;
            tracing::error!(
                model = %plan.model, version = %plan.version, generation = %plan.generation, %error,
                "no handler object could be made to prepare requests; the workers prepare them"
            );
            return self.shared.set(WorkerState::Ended);
        }
        self.shared.set(WorkerState::Ready);
        loop {
            let goes_on = match queue.take_chore(&self.plan.batcher, gate) {
                Chore::Prepare(job) => self.prepare(job, queue, gate),
                Chore::Finish(computed) => self.finish(computed),
                Chore::End => break,
            };
            if !goes_on {
                return;
            }
        }
        self.shared.set(WorkerState::Ended);
    }

    /// Lets others prepare requests, once it is known that the handler allows it.
    pub(super) fn look_for_steps(&self, gate: &Gate) {
        let Some(instance) = &self.instance else { return };
        // State is in one object; so are all steps of a request then.
        let may_part = !self.plan.keeps_on_device && instance.state_version().is_none();
        if !gate.has_steps() && may_part && instance.has_steps() {
            gate.found_steps();
        }
    }

    /// Prepares a job and puts it back; `false` where the watchdog has answered it, so that this thread has been replaced.
    pub(super) fn prepare(&mut self, job: Job, queue: &Arc<Queue>, gate: &Gate) -> bool {
        let now = Instant::now();
        let Job { task, arrived, deadline, urgency, reply, prepared: _ } = job;
        let waiting = vec![(reply, now.saturating_duration_since(arrived))];
        *self.shared.lock() = Some(InHand { since: now, waiting, _preparing: Some(queue.preparing()) });
        let prepared = self.prepare_task(&task, 0);
        let Some(mut in_hand) = self.shared.lock().take() else {
            return false;
        };
        if let Some((reply, queued)) = in_hand.waiting.pop() {
            match prepared {
                Ok(prepared) => {
                    queue.put_back(Job { task, arrived, deadline, urgency, reply, prepared: Some(prepared) }, gate);
                }
                Err(error) => self.answer_alone((reply, queued), error),
            }
        }
        true
    }

    /// Answers a batch whose steps are called one by one; some of its requests may be prepared.
    ///
    /// `false` where the watchdog has answered it, so that this worker has been replaced.
    pub(super) fn serve_in_steps(
        &mut self,
        mut tasks: Vec<Task>,
        prepared: Vec<Option<Prepared>>,
        taken: Instant,
        queue: &Queue,
        gate: &Gate,
    ) -> bool {
        let mut batch = Vec::with_capacity(tasks.len());
        for prepared in prepared {
            let place = batch.len();
            match prepared.map_or_else(|| self.prepare_task(&tasks[place], place), Ok) {
                Ok(prepared) => batch.push(prepared),
                // The others go on without it.
                Err(error) => {
                    tasks.remove(place);
                    let Some(waiting) = self.shared.lock().as_mut().map(|batch| batch.waiting.remove(place)) else {
                        return false;
                    };
                    self.answer_alone(waiting, error);
                }
            }
        }
        match self.shared.lock().as_mut() {
            Some(in_hand) => in_hand.since = Instant::now(),
            None => return false,
        }
        if batch.is_empty() {
            return self.shared.lock().take().is_some();
        }
        let inferred = self.step(|instance, plan, _| instance.infer(&mut batch, &plan.services));
        self.plan.batcher.pace.learn(tasks.len(), taken.elapsed());
        if let Err(error) = inferred {
            let failure = self.take_failure(error, tasks.len());
            let replies = self.answer_each(&tasks, &failure);
            return self.end_batch(&tasks, replies, taken);
        }
        let Some(in_hand) = self.shared.lock().take() else {
            return false;
        };
        let in_handler = self.in_handler;
        let computed = Computed { tasks, outputs: batch, waiting: in_hand.waiting, taken, in_handler };
        match queue.leave_to_finish(computed, gate) {
            Ok(()) => true,
            Err(computed) => self.finish(computed),
        }
    }

    /// Answers with what a batch has given; `false` as above.
    fn finish(&mut self, computed: Computed) -> bool {
        let Computed { tasks, outputs, waiting, taken, in_handler } = computed;
        self.in_handler = in_handler;
        *self.shared.lock() = Some(InHand { since: Instant::now(), waiting, _preparing: None });
        let requests: Vec<&Request> = tasks.iter().filter_map(Task::request).collect();
        let mut outcomes = Vec::new();
        let result = self.step(|instance, plan, shared| {
            let clients = Audience { shared, first: 0, response_timeout: plan.response_timeout };
            let (given, result) = instance.finish(&requests, outputs, &plan.services, &clients);
            outcomes = given;
            result
        });
        outcomes.resize(requests.len(), None);
        let replies = self.replies(outcomes, result, &requests, 0);
        self.end_batch(&tasks, replies, taken)
    }

    /// `place` is that of its client in the batch in hand.
    fn prepare_task(&mut self, task: &Task, place: usize) -> Result<Prepared, HandlerError> {
        let request = task.request().ok_or_else(|| HandlerError::new("this can't be prepared; this is a bug"))?;
        let prepared = self.step(|instance, plan, shared| {
            let clients = Audience { shared, first: place, response_timeout: plan.response_timeout };
            instance.prepare(request, &plan.services, &clients)
        });
        prepared.map_err(|error| self.take_failure(error, 1))
    }

    /// Runs one step; an object that is gone is made anew before.
    fn step<T>(
        &mut self,
        run: impl FnOnce(&mut LibraryInstance, &WorkerPlan, &Shared) -> Result<T, CallError>,
    ) -> Result<T, CallError> {
        self.make_missing_instance().map_err(CallError::Failed)?;
        let Some(instance) = &mut self.instance else {
            return Err(CallError::Failed(HandlerError::new("there is no handler object; this is a bug")));
        };
        let began = Instant::now();
        let done = {
            let _mode = InferenceMode::enter();
            run(instance, &self.plan, &self.shared)
        };
        self.in_handler += began.elapsed();
        match &done {
            Err(CallError::Panicked(_)) => self.count_panic(),
            _ => self.plan.tally.entry.call_came_back(),
        }
        done
    }

    /// After a call for all of them has failed: each is tried alone, so that only the culprit fails.
    fn answer_each(&mut self, tasks: &[Task], failure: &HandlerError) -> Vec<Reply> {
        let requests: Vec<&Request> = tasks.iter().filter_map(Task::request).collect();
        let outcomes = vec![None; requests.len()];
        self.replies_after(outcomes, Some(failure), &requests, 0)
    }

    fn answer_alone(&self, (reply, queued): (ReplyTo, Duration), error: HandlerError) {
        self.plan.tally.entry.answered(1);
        reply.send(Err(classify(error)), queued);
    }
}
