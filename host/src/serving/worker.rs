//! A worker: one thread with one handler object, which takes batches from the queue and answers them.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;

use handler_sdk::ContextInfo;
use handler_sdk::Error as HandlerError;

use super::ServeError;
use super::Signature;
use super::batcher::Batcher;
use super::hand_over::Errand;
use super::job::ReplyTo;
use super::loader::Tally;
use super::profile::Profiler;
use super::queue::Gate;
use super::queue::Preparing;
use super::queue::Queue;
use super::queue::Summons;
use super::work::Work;
use crate::ids::GenerationId;
use crate::ids::ModelName;
use crate::ids::ModelVersion;
use crate::metrics::ModelMetrics;
use crate::model::Model;
use crate::plugin::Library;
use crate::plugin::Services;
use crate::plugin::clear_stack;
use crate::plugin::give_way;
use crate::plugin::own_thread;

/// What all workers of a generation share.
#[derive(Debug)]
pub(super) struct WorkerPlan {
    pub(super) model: ModelName,
    pub(super) version: ModelVersion,
    pub(super) generation: GenerationId,
    pub(super) handler: String,
    pub(super) context: ContextInfo,
    /// How the model is called without the handler; `None` where it can't be called.
    pub(super) signature: Option<Signature>,
    pub(super) services: Services,
    pub(super) metrics: ModelMetrics,
    pub(super) batcher: Batcher,
    /// The model itself; `None` where the archive has none.
    pub(super) weights: Option<Arc<dyn Model>>,
    /// How many threads an operation of libtorch may use on a worker's thread: the workers share the cores.
    pub(super) threads: AtomicUsize,
    /// Whether what passes between the steps may lie on a GPU, where each thread has a stream of its own: then all steps run on one thread.
    pub(super) keeps_on_device: bool,
    /// How long one call may take before its worker is replaced.
    pub(super) response_timeout: Duration,
    /// The largest answer of a handler, in bytes.
    pub(super) max_response_size: usize,
    pub(super) tally: Tally,
    /// Of the endpoint: whoever asks doesn't care which generation answers.
    pub(super) profiler: Arc<Profiler>,
}

/// What a thread of a generation does.
#[derive(Debug, Clone, Copy)]
pub(super) enum Role {
    /// Takes batches, and answers them.
    Worker,
    /// Prepares requests for the workers, and answers with what these have computed.
    Preparer,
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
pub(super) struct Shared {
    pub(super) number: usize,
    started: SystemTime,
    state: AtomicU8,
    /// The batch or errand in hand; whoever takes it out answers it, the worker itself or the watchdog.
    in_hand: Mutex<Option<InHand>>,
    errand: Mutex<Option<Errand>>,
    is_leaving: AtomicBool,
    pub(super) hands_over_state: AtomicBool,
}

#[derive(Debug)]
pub(super) struct InHand {
    pub(super) since: Instant,
    pub(super) waiting: Vec<(ReplyTo, Duration)>,
    /// Of a job that goes back to the queue.
    pub(super) _preparing: Option<Preparing>,
}

/// The reason why a handler object isn't there.
pub(super) type NotMade = HandlerError;

/// Between two looks at a thread that is to end: the standard library knows no join with a time limit.
const JOIN_PAUSE: Duration = Duration::from_millis(2);

// === impl Worker ===

impl Worker {
    /// Starts the thread; `ready` hears once whether its handler could be made and initialised.
    pub(super) fn start(
        (role, number): (Role, usize),
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
            errand: Mutex::default(),
            is_leaving: AtomicBool::new(false),
            hands_over_state: AtomicBool::new(false),
        });
        let name = match role {
            Role::Worker => format!("{}-{number}", plan.model),
            Role::Preparer => format!("{}-prepares-{number}", plan.model),
        };
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name(name).spawn(move || {
            own_thread();
            give_way();
            let mut work = Work::new(plan, library, of_thread);
            match role {
                Role::Worker => work.run(&queue, &gate, &ready),
                Role::Preparer => work.run_chores(&queue, &gate),
            }
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

    pub(super) fn hands_over_state(&self) -> bool {
        self.shared.hands_over_state.load(Ordering::Acquire)
    }

    /// Leaves an errand for the worker, in place of one that it hasn't begun.
    pub(super) fn send(&self, errand: Errand) {
        *self.shared.errand() = Some(errand);
    }

    /// Lets it end after the batch it has in hand; the queue's workers are to be woken for that.
    pub(super) fn dismiss(&self) {
        self.shared.is_leaving.store(true, Ordering::Release);
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

    /// Takes back an errand that wasn't begun, and tells whether it was so; one that was begun, and isn't done, counts as stuck.
    pub(super) fn give_up_errand(&self) -> bool {
        let mut errand = self.shared.errand();
        if errand.take().is_some() {
            return true;
        }
        if self.shared.lock().take_if(|batch| batch.waiting.is_empty()).is_some() {
            self.shared.set(WorkerState::Stuck);
        }
        false
    }

    /// Waits for the ends of the threads, or until one step of each (a batch, making the handler, dropping it) has taken longer than `limit`; tells how many were left behind.
    ///
    /// All are looked at in turn: nobody waits for a call that hangs because another one goes on.
    pub(super) fn join_all(workers: Vec<Self>, limit: Duration) -> usize {
        let begin = Instant::now();
        let mut ending: Vec<_> = workers.into_iter().map(|worker| (worker, begin)).collect();
        let mut left_behind = 0;
        loop {
            let now = Instant::now();
            for (worker, _) in ending.extract_if(.., |(worker, _)| worker.is_finished()) {
                worker.join_finished();
            }
            left_behind += ending.extract_if(.., |(worker, since)| worker.is_late_to_end(since, now, limit)).count();
            if ending.is_empty() {
                return left_behind;
            }
            std::thread::park_timeout(JOIN_PAUSE);
        }
    }

    /// Whether it is waited for no longer; its step began at `since`, or goes on now.
    fn is_late_to_end(&self, since: &mut Instant, now: Instant, limit: Duration) -> bool {
        if self.has_batch() {
            *since = now;
        }
        let is_late = now.saturating_duration_since(*since) >= limit || self.give_up_if_late(now, limit);
        is_late || self.shared.state() == WorkerState::Stuck
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
        let serves = matches!(self.shared.state(), WorkerState::Loading | WorkerState::Ready);
        serves && !self.thread.is_finished() && !self.shared.is_leaving.load(Ordering::Acquire)
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

// === impl Shared ===

impl Shared {
    pub(super) fn set(&self, state: WorkerState) {
        self.state.store(state as u8, Ordering::Release);
    }

    fn state(&self) -> WorkerState {
        let state = self.state.load(Ordering::Acquire);
        [WorkerState::Loading, WorkerState::Ready, WorkerState::Stuck]
            .into_iter()
            .find(|&known| known as u8 == state)
            .unwrap_or(WorkerState::Ended)
    }

    pub(super) fn summons(&self) -> Option<Summons> {
        if self.is_leaving.load(Ordering::Acquire) {
            return Some(Summons::Leave);
        }
        self.errand().is_some().then_some(Summons::Errand)
    }

    /// Takes the errand in hand, where there is one; whoever takes it out of there has done with it, the worker itself or who gives it up.
    pub(super) fn begin_errand(&self) -> Option<Errand> {
        let mut errand = self.errand();
        let begun = errand.take()?;
        *self.lock() = Some(InHand { since: Instant::now(), waiting: Vec::new(), _preparing: None });
        Some(begun)
    }

    pub(super) fn errand(&self) -> std::sync::MutexGuard<'_, Option<Errand>> {
        self.errand.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn lock(&self) -> std::sync::MutexGuard<'_, Option<InHand>> {
        self.in_hand.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
