//! What a worker's thread does: it makes its handler object, passes batches to it, and answers what waits for them.

mod errands;
mod steps;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::time::Duration;
use std::time::Instant;

use handler_sdk::Answer;
use handler_sdk::Error as HandlerError;
use handler_sdk::abi::instance::CallError;
use handler_sdk::abi::instance::HostServices;
use handler_sdk::abi::instance::Outcome;

use super::ModelCall;
use super::Request;
use super::ServeError;
use super::WorkerState;
use super::audience::Audience;
use super::job::Job;
use super::job::Output;
use super::job::Reply;
use super::job::Task;
use super::loader::Alarm;
use super::profile::Recording;
use super::queue::Gate;
use super::queue::Queue;
use super::queue::Taken;
use super::worker::InHand;
use super::worker::NotMade;
use super::worker::Shared;
use super::worker::WorkerPlan;
use crate::model::InferenceMode;
use crate::model::set_threads;
use crate::plugin::Library;
use crate::plugin::LibraryInstance;
use crate::plugin::Verb;

/// The thread's own side.
pub(super) struct Work {
    plan: Arc<WorkerPlan>,
    library: Arc<Library>,
    shared: Arc<Shared>,
    /// `None` after a panic, until a fresh one is made.
    instance: Option<LibraryInstance>,
    /// Time of the batch in hand that was spent in the handler's code.
    in_handler: Duration,
    /// Of the batch in hand, where somebody asks for a profile.
    recording: Option<Recording>,
    /// What an operation of libtorch may use on this thread.
    threads: usize,
}

// === impl Work ===

impl Work {
    pub(super) fn new(plan: Arc<WorkerPlan>, library: Arc<Library>, shared: Arc<Shared>) -> Self {
        Self { plan, library, shared, instance: None, in_handler: Duration::ZERO, recording: None, threads: 0 }
    }

    /// Until its gate is shut, or its queue closed and empty.
    pub(super) fn run(&mut self, queue: &Arc<Queue>, gate: &Gate, ready: &mpsc::Sender<Result<(), NotMade>>) {
        let began = Instant::now();
        self.set_threads();
        let made = self.enter().and_then(|()| self.make_instance()).inspect(|()| self.warm_up());
        let is_made = made.is_ok();
        if is_made {
            self.plan.metrics.worker_loaded(self.shared.number, began.elapsed());
            self.shared.set(WorkerState::Ready);
        }
        // Whoever started the worker may have stopped waiting; then the gate is shut too.
        let _ = ready.send(made);
        if is_made {
            loop {
                match queue.take(&self.plan.batcher, gate, || self.shared.summons()) {
                    Taken::Batch(jobs) => {
                        if !self.serve(jobs, queue, gate) {
                            return;
                        }
                    }
                    Taken::ToPrepare(job) => {
                        if !self.prepare(job, queue, gate) {
                            return;
                        }
                    }
                    Taken::Errand => {
                        if !self.run_errand() {
                            return;
                        }
                    }
                    Taken::End => break,
                }
            }
        }
        self.shared.set(WorkerState::Ended);
    }

    /// Answers a batch; `false` where the watchdog has answered it, so that this worker has been replaced.
    fn serve(&mut self, mut jobs: Vec<Job>, queue: &Queue, gate: &Gate) -> bool {
        let now = Instant::now();
        let prepared: Vec<_> = jobs.iter_mut().map(|job| job.prepared.take()).collect();
        let has_steps = jobs.first().is_some_and(Job::has_steps);
        let (tasks, waiting): (Vec<Task>, Vec<_>) =
            jobs.into_iter().map(|job| (job.task, (job.reply, now.saturating_duration_since(job.arrived)))).unzip();
        let waited = waiting.iter().map(|(_, queued)| *queued);
        self.recording = Recording::begin(&self.plan.profiler, tasks.iter().map(Task::request), waited, now);
        *self.shared.lock() = Some(InHand { since: now, waiting, _preparing: None });
        self.plan.metrics.batch_taken(tasks.len());
        self.set_threads();
        self.in_handler = Duration::ZERO;
        // A profile shows a batch from its beginning.
        let is_in_steps = self.recording.is_none() && has_steps && gate.has_steps();
        if is_in_steps && (gate.has_idle_preparer() || prepared.iter().any(Option::is_some)) {
            return self.serve_in_steps(tasks, prepared, now, queue, gate);
        }
        drop(prepared);
        // A call of the model comes alone.
        let replies = match &tasks[..] {
            [Task::Model(call)] => {
                let reply = self.call_model(call);
                self.in_handler = now.elapsed();
                vec![reply]
            }
            _ => self.answer(&tasks.iter().filter_map(Task::request).collect::<Vec<_>>(), 0),
        };
        // Whoever has read an answer finds its profile, too.
        let recording = self.recording.take();
        let traced = recording.map(|recording| recording.end(self.plan.generation, self.shared.number));
        // Explanations, and calls of the model alone, take other times.
        if has_steps && replies.iter().all(Result::is_ok) {
            self.plan.batcher.pace.learn(tasks.len(), now.elapsed());
        }
        self.look_for_steps(gate);
        let is_wanted = self.end_batch(&tasks, replies, now);
        if let (true, Some(traced)) = (is_wanted, traced) {
            self.plan.profiler.keep(traced);
        }
        is_wanted
    }

    /// Sends the replies to a batch that was taken then; `false` where the watchdog has answered it.
    fn end_batch(&mut self, tasks: &[Task], replies: Vec<Reply>, taken: Instant) -> bool {
        let Some(batch) = self.shared.lock().take() else {
            return false;
        };
        // Counted first: whoever has read an answer finds it counted.
        self.plan.tally.entry.answered(batch.waiting.len());
        let ids = || tasks.iter().filter_map(Task::request).map(|request| request.id.as_str());
        self.plan.metrics.batch_computed(taken.elapsed(), self.in_handler, ids);
        for (reply, (reply_to, queued)) in replies.into_iter().zip(batch.waiting) {
            reply_to.send(reply, queued);
        }
        true
    }

    /// Calls the model without the handler, whose object isn't touched.
    fn call_model(&self, call: &ModelCall) -> Reply {
        let plan = &self.plan;
        let _mode = InferenceMode::enter();
        let signature = plan.signature.as_ref().ok_or_else(|| {
            HandlerError::bad_request(
                "the model that serves now can't be called without its handler: send the request again",
            )
        });
        let observed = self.recording.as_ref().map(|recording| recording.observe(&plan.services, 1));
        let services = observed.as_ref().map_or(&plan.services as &dyn HostServices, |observed| observed);
        match signature.and_then(|signature| call.run(signature, services)) {
            Ok(outputs) => Ok(Output::ByModel(outputs)),
            Err(error) => {
                if error.status() >= 500 {
                    tracing::error!(
                        model = %plan.model, version = %plan.version, generation = %plan.generation, worker = self.shared.number,
                        %error, "the model failed"
                    );
                }
                Err(classify(error))
            }
        }
    }

    /// One reply for each request; `first` is the place in the batch of the first of them.
    ///
    /// Where a call of several fails as a whole, each is tried alone, so that only the culprit fails; one whose answer has begun can't be.
    ///
    /// Empty where the watchdog has answered the batch meanwhile: nobody waits for more.
    fn answer(&mut self, requests: &[&Request], first: usize) -> Vec<Reply> {
        match self.shared.lock().as_mut() {
            Some(batch) => batch.since = Instant::now(),
            None => return Vec::new(),
        }
        let (outcomes, result) = match self.call(requests, first) {
            Ok(called) => called,
            Err(error) => {
                let plan = &self.plan;
                tracing::error!(
                    model = %plan.model, version = %plan.version, generation = %plan.generation, worker = self.shared.number,
                    %error, "no fresh handler object could be made; the next batch tries again"
                );
                let error = HandlerError::new(error.log_text());
                return requests.iter().map(|_| Err(ServeError::Handler(error.clone()))).collect();
            }
        };
        self.replies(outcomes, result, requests, first)
    }

    fn replies(
        &mut self,
        outcomes: Vec<Outcome>,
        result: Result<(), CallError>,
        requests: &[&Request],
        first: usize,
    ) -> Vec<Reply> {
        let failure = result.err().map(|error| self.take_failure(error, requests.len()));
        self.replies_after(outcomes, failure.as_ref(), requests, first)
    }

    fn replies_after(
        &mut self,
        outcomes: Vec<Outcome>,
        failure: Option<&HandlerError>,
        requests: &[&Request],
        first: usize,
    ) -> Vec<Reply> {
        outcomes
            .into_iter()
            .zip(requests)
            .zip(first..)
            .flat_map(|((outcome, &request), place)| match (outcome, failure) {
                (Some(outcome), _) => {
                    let outcome = outcome.and_then(|answer| self.of_allowed_size(answer));
                    vec![outcome.map(Output::ByHandler).map_err(|error| self.request_failed(request, error))]
                }
                (None, Some(_)) if requests.len() > 1 && !self.has_begun(place) => self.answer(&[request], place),
                (None, Some(error)) => vec![Err(classify(error.clone()))],
                (None, None) => vec![Err(ServeError::WorkerDied)],
            })
            .collect()
    }

    /// TorchServe's own words begin the text, since its clients may look for them.
    fn of_allowed_size(&self, answer: Answer) -> Result<Answer, HandlerError> {
        let (size, most) = (answer.body.len(), self.plan.max_response_size);
        if size <= most {
            return Ok(answer);
        }
        let text = format!("Worker died. The answer has {size} bytes, and max_response_size allows {most}.");
        Err(HandlerError::with_status(500, text))
    }

    fn has_begun(&self, place: usize) -> bool {
        let in_hand = self.shared.lock();
        let reply = in_hand.as_ref().and_then(|batch| batch.waiting.get(place));
        reply.is_some_and(|(reply, _)| reply.has_begun())
    }

    fn make_missing_instance(&mut self) -> Result<(), NotMade> {
        if self.instance.is_some() { Ok(()) } else { self.make_instance() }
    }

    fn call(&mut self, requests: &[&Request], first: usize) -> Result<(Vec<Outcome>, Result<(), CallError>), NotMade> {
        self.make_missing_instance()?;
        let instance =
            self.instance.as_mut().ok_or_else(|| HandlerError::new("there is no handler object; this is a bug"))?;
        let services = &self.plan.services;
        let observed = self.recording.as_ref().map(|recording| recording.observe(services, requests.len()));
        let began = Instant::now();
        let called = {
            // Explanations may need gradients, which inference mode doesn't keep; a batch holds no other requests beside them.
            let keeps_gradients = requests.first().is_some_and(|request| request.verb == Verb::Explain);
            let _mode = (!keeps_gradients).then(InferenceMode::enter);
            let clients = Audience { shared: &self.shared, first, response_timeout: self.plan.response_timeout };
            let services = observed.as_ref().map_or(services as &dyn HostServices, |observed| observed);
            instance.handle(requests, services, &clients)
        };
        if let Some(observed) = observed {
            observed.end(called.1.is_err());
        }
        self.in_handler += began.elapsed();
        match &called.1 {
            Err(CallError::Panicked(_)) => self.count_panic(),
            _ => self.plan.tally.entry.call_came_back(),
        }
        Ok(called)
    }

    /// Rings once in a row of panics, when it gets too long.
    fn count_panic(&self) {
        let plan = &self.plan;
        let row = plan.tally.entry.call_panicked();
        let is_too_long = plan.tally.panic_limit.is_some_and(|limit| row == u64::from(limit));
        if is_too_long && plan.tally.entry.rings_first() {
            let (model, version) = (plan.model.clone(), plan.version.clone());
            // A registry that is gone has nothing to roll back.
            let _ = plan.tally.alarm.send(Alarm::Panics { model, version, generation: plan.generation });
        }
    }

    fn enter(&self) -> Result<(), NotMade> {
        self.plan.weights.as_ref().map_or(Ok(()), |model| model.enter_thread().map_err(HandlerError::new))
    }

    /// Where workers came or went, each has another share of the cores.
    fn set_threads(&mut self) {
        let threads = self.plan.threads.load(Ordering::Relaxed);
        if threads != self.threads {
            set_threads(threads);
            self.threads = threads;
        }
    }

    /// Runs the model once with a batch of each size, so that no request waits while libtorch prepares for it on this thread.
    fn warm_up(&self) {
        let (plan, Some(model)) = (&self.plan, &self.plan.weights) else { return };
        if let Some(tuning) = model.tuning() {
            plan.batcher.pace.verified(&tuning.batches);
        }
        let _mode = InferenceMode::enter();
        if let Err(error) = model.warm_up(&plan.batcher.pace.sizes()) {
            tracing::warn!(
                model = %plan.model, version = %plan.version, generation = %plan.generation, worker = self.shared.number,
                %error, "the model fails on a larger batch than the handler's self-test sends"
            );
        }
    }

    fn make_instance(&mut self) -> Result<(), NotMade> {
        let plan = &self.plan;
        let _mode = InferenceMode::enter();
        let mut instance = self
            .library
            .instantiate(&plan.handler, &plan.services)
            .map_err(|error| HandlerError::new(error.to_string()))?;
        let failed = |step: &'static str| {
            move |error| match error {
                CallError::Failed(error) | CallError::Panicked(error) => error.context(step),
            }
        };
        instance.initialize(&plan.context, &plan.services).map_err(failed("initialize"))?;
        // On this thread and this device: libtorch prepares itself for each, and no request should wait for that.
        instance.self_test(&plan.services.rehearsing()).map_err(failed("self_test"))?;
        self.shared.hands_over_state.store(instance.state_version().is_some(), Ordering::Release);
        self.instance = Some(instance);
        Ok(())
    }

    /// Logs a failed call, and lets go of an object that panicked: it may be in any state.
    fn take_failure(&mut self, error: CallError, requests: usize) -> HandlerError {
        let (error, what) = match error {
            CallError::Failed(error) => (error, "the handler failed"),
            CallError::Panicked(error) => {
                self.instance = None;
                (error, "the handler panicked; a fresh object takes its place")
            }
        };
        let plan = &self.plan;
        tracing::error!(
            model = %plan.model, version = %plan.version, generation = %plan.generation, worker = self.shared.number,
            requests, %error, "{what}"
        );
        error
    }

    fn request_failed(&self, request: &Request, error: HandlerError) -> ServeError {
        // What a handler doesn't do is no failure of it.
        if error.status() >= 500 && error.status() != 501 {
            let plan = &self.plan;
            tracing::warn!(
                model = %plan.model, version = %plan.version, generation = %plan.generation, worker = self.shared.number,
                request = request.id, %error, "the handler failed for one request"
            );
        }
        classify(error)
    }
}

/// A device without memory is told apart by the words of libtorch's error: it has no other mark.
fn classify(error: HandlerError) -> ServeError {
    // What the handler worded for the client stands as it is.
    if !error.is_worded() && is_out_of_resources(error.log_text()) {
        ServeError::OutOfResources(error)
    } else {
        ServeError::Handler(error)
    }
}

pub(super) fn is_out_of_resources(text: &str) -> bool {
    ["CUDA", "out of memory", "can't allocate memory"].iter().any(|words| text.contains(words))
}
