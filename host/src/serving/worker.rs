//! A worker: one thread with one handler object, which takes batches from the queue and answers them.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;

use handler_sdk::ContextInfo;
use handler_sdk::Error as HandlerError;
use handler_sdk::abi::instance::CallError;
use handler_sdk::abi::instance::Outcome;

use super::Request;
use super::ServeError;
use super::batcher::BatchPolicy;
use super::job::Job;
use super::job::Reply;
use super::job::ReplyTo;
use super::loader::Alarm;
use super::loader::Tally;
use super::queue::Gate;
use super::queue::Queue;
use crate::ids::GenerationId;
use crate::ids::ModelName;
use crate::ids::ModelVersion;
use crate::model::InferenceMode;
use crate::plugin::Library;
use crate::plugin::LibraryInstance;
use crate::plugin::Services;
use crate::plugin::clear_stack;
use crate::plugin::own_thread;

/// What all workers of a generation share.
#[derive(Debug)]
pub(super) struct WorkerPlan {
    pub(super) model: ModelName,
    pub(super) version: ModelVersion,
    pub(super) generation: GenerationId,
    pub(super) handler: String,
    pub(super) context: ContextInfo,
    pub(super) services: Services,
    pub(super) policy: BatchPolicy,
    /// How long one call may take before its worker is replaced.
    pub(super) response_timeout: Duration,
    pub(super) tally: Tally,
}

/// A thread at work, seen from outside.
#[derive(Debug)]
pub(super) struct Worker {
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

/// What a worker is doing, for those who describe the model.
#[derive(Debug, Clone)]
pub struct WorkerStatus {
    pub number: usize,
    pub started: SystemTime,
    pub state: WorkerState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerState {
    Loading,
    Ready,
    /// Its call has taken too long; another worker has taken its place.
    Stuck,
    Ended,
}

#[derive(Debug)]
struct Shared {
    number: usize,
    started: SystemTime,
    state: AtomicU8,
    /// The batch in hand; whoever takes it out answers it, the worker itself or the watchdog.
    in_hand: Mutex<Option<InHand>>,
}

#[derive(Debug)]
struct InHand {
    since: Instant,
    waiting: Vec<(ReplyTo, Duration)>,
}

/// The thread's own side.
struct Work {
    plan: Arc<WorkerPlan>,
    library: Arc<Library>,
    shared: Arc<Shared>,
    /// `None` after a panic, until a fresh one is made.
    instance: Option<LibraryInstance>,
}

/// The reason why a handler object isn't there.
pub(super) type NotMade = HandlerError;

/// Between two looks at a thread that is to end: the standard library knows no join with a time limit.
const JOIN_PAUSE: Duration = Duration::from_millis(2);

// === impl Worker ===

impl Worker {
    /// Starts the thread; `ready` hears once whether its handler could be made and initialised.
    pub(super) fn start(
        number: usize,
        plan: Arc<WorkerPlan>,
        library: Arc<Library>,
        queue: Arc<Queue>,
        gate: Arc<Gate>,
        ready: mpsc::Sender<Result<(), NotMade>>,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            number,
            started: SystemTime::now(),
            state: AtomicU8::new(WorkerState::Loading as u8),
            in_hand: Mutex::default(),
        });
        let name = format!("{}-{number}", plan.model);
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name(name).spawn(move || {
            own_thread();
            let mut work = Work { plan, library, shared: of_thread, instance: None };
            work.run(&queue, &gate, &ready);
            // The object is dropped here, on the thread that made it, and then the thread's hold on its code.
            drop(work);
            clear_stack();
        })?;
        Ok(Self { shared, thread })
    }

    pub(super) fn status(&self) -> WorkerStatus {
        WorkerStatus { number: self.shared.number, started: self.shared.started, state: self.shared.state() }
    }

    pub(super) fn number(&self) -> usize {
        self.shared.number
    }

    /// Answers for a worker whose call has taken too long; from then on it counts as stuck.
    pub(super) fn give_up_if_late(&self, now: Instant, limit: Duration) -> bool {
        let late = {
            let mut in_hand = self.shared.lock();
            in_hand.take_if(|batch| now.saturating_duration_since(batch.since) >= limit)
        };
        let Some(batch) = late else {
            return false;
        };
        self.shared.set(WorkerState::Stuck);
        for (reply, queued) in batch.waiting {
            reply.send(Err(ServeError::TimedOut { limit }), queued);
        }
        true
    }

    /// Waits for the thread's end, or until one step of it (a batch, making the handler, dropping it) has taken longer than `limit`; `false` where it was left behind.
    pub(super) fn join(self, limit: Duration) -> bool {
        let mut since = Instant::now();
        while !self.thread.is_finished() {
            let now = Instant::now();
            if self.has_batch() {
                since = now;
            }
            let is_late = now.saturating_duration_since(since) >= limit || self.give_up_if_late(now, limit);
            if is_late || self.shared.state() == WorkerState::Stuck {
                return false;
            }
            std::thread::park_timeout(JOIN_PAUSE);
        }
        self.join_finished();
        true
    }

    fn has_batch(&self) -> bool {
        self.shared.lock().is_some()
    }

    /// Whether its handler wasn't made in time; from then on it counts as stuck.
    pub(super) fn is_late_to_start(&self, limit: Duration) -> bool {
        let late = self.shared.state() == WorkerState::Loading
            && self.shared.started.elapsed().is_ok_and(|elapsed| elapsed >= limit);
        if late {
            self.shared.set(WorkerState::Stuck);
        }
        late
    }

    /// Whether it serves, or is about to.
    pub(super) fn is_at_work(&self) -> bool {
        !self.thread.is_finished() && matches!(self.shared.state(), WorkerState::Loading | WorkerState::Ready)
    }

    /// Whether the thread has ended, so that it can be joined.
    pub(super) fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Joins a thread that has ended.
    pub(super) fn join_finished(self) {
        if self.thread.join().is_err() {
            tracing::error!(worker = self.shared.number, "a worker thread panicked; this is a bug");
        }
    }
}

// === impl Work ===

impl Work {
    fn run(&mut self, queue: &Queue, gate: &Gate, ready: &mpsc::Sender<Result<(), NotMade>>) {
        let made = self.make_instance();
        let is_made = made.is_ok();
        if is_made {
            self.shared.set(WorkerState::Ready);
        }
        // Whoever started the worker may have stopped waiting; then the gate is shut too.
        let _ = ready.send(made);
        if is_made {
            while let Some(jobs) = queue.take(self.plan.policy, gate) {
                if !self.serve(jobs) {
                    return;
                }
            }
        }
        self.shared.set(WorkerState::Ended);
    }

    /// Answers a batch; `false` where the watchdog has answered it, so that this worker has been replaced.
    fn serve(&mut self, jobs: Vec<Job>) -> bool {
        let now = Instant::now();
        let (requests, waiting): (Vec<Request>, Vec<_>) =
            jobs.into_iter().map(|job| (job.request, (job.reply, now.saturating_duration_since(job.arrived)))).unzip();
        *self.shared.lock() = Some(InHand { since: now, waiting });
        let replies = self.answer(&requests.iter().collect::<Vec<_>>());
        let Some(batch) = self.shared.lock().take() else {
            return false;
        };
        // Counted first: whoever has read an answer finds it counted.
        self.plan.tally.entry.answered(batch.waiting.len());
        for (reply, (reply_to, queued)) in replies.into_iter().zip(batch.waiting) {
            reply_to.send(reply, queued);
        }
        true
    }

    /// One reply for each request. Where a call of several fails as a whole, each is tried alone, so that only the culprit fails.
    ///
    /// Empty where the watchdog has answered the batch meanwhile: nobody waits for more.
    fn answer(&mut self, requests: &[&Request]) -> Vec<Reply> {
        match self.shared.lock().as_mut() {
            Some(batch) => batch.since = Instant::now(),
            None => return Vec::new(),
        }
        let (outcomes, result) = match self.call(requests) {
            Ok(called) => called,
            Err(error) => {
                let plan = &self.plan;
                tracing::error!(
                    model = %plan.model, version = %plan.version, generation = %plan.generation, worker = self.shared.number,
                    %error, "no fresh handler object could be made; the next batch tries again"
                );
                let error = HandlerError::new(error.log_text());
                return vec![Err(ServeError::Handler(error)); requests.len()];
            }
        };
        let failure = result.err().map(|error| self.take_failure(error, requests.len()));
        outcomes
            .into_iter()
            .zip(requests)
            .flat_map(|(outcome, &request)| match (outcome, &failure) {
                (Some(outcome), _) => vec![outcome.map_err(|error| self.request_failed(request, error))],
                (None, Some(_)) if requests.len() > 1 => self.answer(&[request]),
                (None, Some(error)) => vec![Err(classify(error.clone()))],
                (None, None) => vec![Err(ServeError::WorkerDied)],
            })
            .collect()
    }

    fn call(&mut self, requests: &[&Request]) -> Result<(Vec<Outcome>, Result<(), CallError>), NotMade> {
        if self.instance.is_none() {
            self.make_instance()?;
        }
        let instance =
            self.instance.as_mut().ok_or_else(|| HandlerError::new("there is no handler object; this is a bug"))?;
        let called = {
            let _mode = InferenceMode::enter();
            instance.handle(requests, &self.plan.services)
        };
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
        if plan.tally.panic_limit.is_some_and(|limit| row == u64::from(limit)) {
            let (model, version) = (plan.model.clone(), plan.version.clone());
            // A registry that is gone has nothing to roll back.
            let _ = plan.tally.alarm.send(Alarm::Panics { model, version, generation: plan.generation });
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
        instance.self_test(&plan.services).map_err(failed("self_test"))?;
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
        if error.status() >= 500 {
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
    let text = error.log_text();
    // What the handler worded for the client stands as it is.
    if error.is_worded() {
        ServeError::Handler(error)
    } else if text.contains("CUDA") || text.contains("out of memory") || text.contains("can't allocate memory") {
        ServeError::OutOfResources(error)
    } else {
        ServeError::Handler(error)
    }
}

// === impl Shared ===

impl Shared {
    fn set(&self, state: WorkerState) {
        self.state.store(state as u8, Ordering::Release);
    }

    fn state(&self) -> WorkerState {
        let state = self.state.load(Ordering::Acquire);
        [WorkerState::Loading, WorkerState::Ready, WorkerState::Stuck]
            .into_iter()
            .find(|&known| known as u8 == state)
            .unwrap_or(WorkerState::Ended)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<InHand>> {
        self.in_hand.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
