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
use super::batcher::BatchPolicy;
use super::batcher::Decision;
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
    /// What is said to every further job.
    refusing: Option<ServeError>,
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
        let state = State { jobs: VecDeque::new(), limits, idle: 0, refusing: None };
        Self { state: Mutex::new(state), changed: Condvar::new(), turned: Condvar::new() }
    }

    /// Takes a job in, or says why not.
    pub(super) fn push(&self, job: Job) -> Result<(), ServeError> {
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
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// Waits for a batch, or for a summons. The end comes once the gate is shut, or once the queue refuses further jobs and is empty.
    ///
    /// What nobody waits for any more is left out: jobs whose client has gone are dropped, those past their deadline answered so.
    pub(super) fn take(&self, policy: BatchPolicy, gate: &Gate, summons: impl Fn() -> Option<Summons>) -> Taken {
        let mut state = self.lock();
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
            let alike = state.alike(policy.size);
            let decision = match policy.decide(now, alike, oldest) {
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
                    if !state.jobs.is_empty() {
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
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::serving::ModelCall;
    use crate::serving::Request;
    use crate::serving::Urgency;
    use crate::serving::Verb;
    use crate::serving::job::Task;

    const ONE: BatchPolicy = BatchPolicy { size: 1, delay: Duration::ZERO };
    const NINE: QueueLimits = QueueLimits { capacity: 9, tickets: false };

    fn job(limit: Option<Duration>) -> (Job, tokio::sync::oneshot::Receiver<crate::serving::job::Done>) {
        Job::new(Request::default(), Urgency::default(), limit)
    }

    fn take(queue: &Queue, policy: BatchPolicy, gate: &Gate) -> Option<usize> {
        match queue.take(policy, gate, || None) {
            Taken::Batch(jobs) => Some(jobs.len()),
            Taken::Errand => panic!("there is no errand"),
            Taken::End => None,
        }
    }

    fn open(queue: &Queue) -> Gate {
        let gate = Gate::default();
        queue.open_gate(&gate);
        gate
    }

    #[test]
    fn nothing_is_taken_before_the_gate_opens() {
        let queue = Arc::new(Queue::new(NINE));
        let gate = Arc::new(Gate::default());
        let (waiting, _reply) = job(None);
        queue.push(waiting).unwrap();
        let worker = {
            let (queue, gate) = (Arc::clone(&queue), Arc::clone(&gate));
            std::thread::spawn(move || take(&queue, ONE, &gate))
        };
        assert_eq!(queue.status().waiting, 1);
        queue.open_gate(&gate);
        assert_eq!(worker.join().unwrap(), Some(1));
    }

    #[test]
    fn a_failed_endpoint_lets_nobody_wait() {
        let queue = Queue::new(NINE);
        let (waiting, mut reply) = job(None);
        queue.push(waiting).unwrap();
        queue.refuse_all(&ServeError::NoWorker);
        assert!(matches!(reply.try_recv().unwrap().reply, Err(ServeError::NoWorker)));
        assert_eq!(queue.push(job(None).0), Err(ServeError::NoWorker));
    }

    #[test]
    fn a_full_queue_refuses_at_once() {
        let queue = Queue::new(QueueLimits { capacity: 1, ..NINE });
        let (first, _first_reply) = job(None);
        let (second, _second_reply) = job(None);
        queue.push(first).unwrap();
        assert_eq!(queue.push(second), Err(ServeError::QueueFull { capacity: 1 }));
        assert_eq!(queue.status(), QueueStatus { remaining: 0, waiting: 1, idle: 0 });
    }

    #[test]
    fn a_closed_queue_serves_what_it_has() {
        let queue = Queue::new(NINE);
        let (first, _reply) = job(None);
        queue.push(first).unwrap();
        queue.close(ServeError::ShuttingDown);
        let go_on = open(&queue);
        let patient = BatchPolicy { size: 8, delay: Duration::from_secs(3600) };
        assert_eq!(take(&queue, patient, &go_on).unwrap(), 1);
        assert!(take(&queue, patient, &go_on).is_none());
        assert_eq!(queue.push(job(None).0), Err(ServeError::ShuttingDown));
    }

    #[test]
    fn the_unwanted_is_not_computed() {
        let queue = Queue::new(NINE);
        let (gone, reply) = job(None);
        drop(reply);
        let (expired, mut expired_reply) = job(Some(Duration::ZERO));
        let (wanted, _wanted_reply) = job(Some(Duration::from_secs(3600)));
        for job in [gone, expired, wanted] {
            queue.push(job).unwrap();
        }
        assert_eq!(take(&queue, ONE, &open(&queue)).unwrap(), 1);
        assert_eq!(queue.status().waiting, 0);
        assert!(matches!(expired_reply.try_recv().unwrap().reply, Err(ServeError::Expired)));
    }

    #[test]
    fn a_stopped_worker_leaves_the_jobs_to_the_next() {
        let queue = Arc::new(Queue::new(NINE));
        let gate = Arc::new(Gate::default());
        let worker = {
            let (queue, gate) = (Arc::clone(&queue), Arc::clone(&gate));
            std::thread::spawn(move || take(&queue, ONE, &gate))
        };
        queue.shut_gate(&gate);
        assert_eq!(worker.join().unwrap(), None);
        let (waiting, _reply) = job(None);
        queue.push(waiting).unwrap();
        assert_eq!(take(&queue, ONE, &open(&queue)).unwrap(), 1);
    }

    #[test]
    fn the_queue_changes_hands_in_one_step() {
        let queue = Arc::new(Queue::new(NINE));
        let (old, new) = (Arc::new(open(&queue)), Arc::new(Gate::default()));
        let worker = |gate: &Arc<Gate>| {
            let (queue, gate) = (Arc::clone(&queue), Arc::clone(gate));
            std::thread::spawn(move || take(&queue, ONE, &gate))
        };
        let (of_old, of_new) = (worker(&old), worker(&new));
        queue.hand_over(Some(&old), &new, QueueLimits { capacity: 1, ..NINE });
        assert_eq!(of_old.join().unwrap(), None);
        let (first, _reply) = job(None);
        queue.push(first).unwrap();
        assert_eq!(of_new.join().unwrap(), Some(1));
        assert_eq!(queue.status().remaining, 1);
    }

    #[test]
    fn a_job_wakes_one_who_may_take_it() {
        let queue = Arc::new(Queue::new(NINE));
        let closed: Vec<_> = (0..3).map(|_| Arc::new(Gate::default())).collect();
        let start = |gate: &Arc<Gate>, queue: &Arc<Queue>| {
            let (queue, gate) = (Arc::clone(queue), Arc::clone(gate));
            std::thread::spawn(move || take(&queue, ONE, &gate))
        };
        let waiting: Vec<_> = closed.iter().map(|gate| start(gate, &queue)).collect();
        let (served, heard) = std::sync::mpsc::channel();
        let gate = Arc::new(open(&queue));
        let worker = {
            let queue = Arc::clone(&queue);
            std::thread::spawn(move || while take(&queue, ONE, &gate).is_some_and(|_| served.send(()).is_ok()) {})
        };
        for _ in 0..100 {
            let (one, _reply) = job(None);
            queue.push(one).unwrap();
            // Were it passed to a worker behind a closed gate, nobody would take it.
            heard.recv_timeout(Duration::from_secs(60)).unwrap();
        }
        queue.close(ServeError::ShuttingDown);
        worker.join().unwrap();
        closed.iter().for_each(|gate| queue.shut_gate(gate));
        waiting.into_iter().for_each(|worker| assert_eq!(worker.join().unwrap(), None));
    }

    #[test]
    fn a_queue_that_refused_takes_jobs_from_the_next_generation_on() {
        let queue = Queue::new(NINE);
        queue.refuse_all(&ServeError::NoWorker);
        let gate = Gate::default();
        queue.hand_over(None, &gate, NINE);
        let (waiting, _reply) = job(None);
        queue.push(waiting).unwrap();
        assert_eq!(take(&queue, ONE, &gate).unwrap(), 1);
    }

    #[test]
    fn an_errand_is_run_while_no_batch_is_taken() {
        let queue = Queue::new(NINE);
        let (waiting, _reply) = job(None);
        queue.push(waiting).unwrap();
        let gate = Gate::default();
        assert!(matches!(queue.take(ONE, &gate, || Some(Summons::Errand)), Taken::Errand));
        queue.open_gate(&gate);
        assert!(matches!(queue.take(ONE, &gate, || Some(Summons::Errand)), Taken::Batch(_)));
        queue.pause_gate(&gate);
        assert!(matches!(queue.take(ONE, &gate, || Some(Summons::Errand)), Taken::Errand));
        queue.shut_gate(&gate);
        assert!(matches!(queue.take(ONE, &gate, || Some(Summons::Errand)), Taken::End));
    }

    #[test]
    fn a_summoned_worker_leaves_and_the_others_go_on() {
        let queue = Queue::new(NINE);
        let (waiting, _reply) = job(None);
        queue.push(waiting).unwrap();
        let gate = open(&queue);
        assert!(matches!(queue.take(ONE, &gate, || Some(Summons::Leave)), Taken::End));
        assert_eq!(take(&queue, ONE, &gate), Some(1));
    }

    #[test]
    fn the_most_urgent_goes_first_and_equals_in_their_order() {
        let queue = Queue::new(NINE);
        let mut replies = Vec::new();
        for (id, urgency) in [("a", 3), ("b", 5), ("c", 3), ("d", 0), ("e", 9)] {
            let request = Request { id: id.to_owned(), ..Request::default() };
            let (job, reply) = Job::new(request, Urgency::new(urgency), None);
            queue.push(job).unwrap();
            replies.push(reply);
        }
        let all = BatchPolicy { size: 9, delay: Duration::ZERO };
        let Taken::Batch(jobs) = queue.take(all, &open(&queue), || None) else { panic!("there are jobs") };
        let order: String = jobs.iter().map(|job| job.task.request().unwrap().id.as_str()).collect();
        assert_eq!(order, "dacbe");
    }

    #[test]
    fn requests_of_different_kinds_never_share_a_batch() {
        let queue = Queue::new(NINE);
        let mut replies = Vec::new();
        let verb = |verb| Task::from(Request { verb, ..Request::default() });
        for task in [
            verb(Verb::Predict),
            verb(Verb::Predict),
            verb(Verb::Explain),
            verb(Verb::Describe),
            verb(Verb::Describe),
            ModelCall::default().into(),
            ModelCall::default().into(),
            verb(Verb::Predict),
        ] {
            let (job, reply) = Job::new(task, Urgency::default(), None);
            queue.push(job).unwrap();
            replies.push(reply);
        }
        queue.close(ServeError::ShuttingDown);
        let gate = open(&queue);
        let patient = BatchPolicy { size: 8, delay: Duration::from_secs(3600) };
        let sizes: Vec<_> = std::iter::from_fn(|| take(&queue, patient, &gate)).collect();
        assert_eq!(sizes, [2, 1, 1, 1, 1, 1, 1]);
    }

    #[test]
    fn with_tickets_a_job_is_taken_in_only_for_an_idle_worker() {
        let queue = Arc::new(Queue::new(QueueLimits { tickets: true, ..NINE }));
        assert_eq!(queue.push(job(None).0), Err(ServeError::NoTicket));
        let gate = Arc::new(open(&queue));
        let worker = {
            let (queue, gate) = (Arc::clone(&queue), Arc::clone(&gate));
            std::thread::spawn(move || take(&queue, ONE, &gate))
        };
        while queue.status().idle == 0 {
            std::thread::yield_now();
        }
        let (accepted, _reply) = job(None);
        queue.push(accepted).unwrap();
        assert_eq!(worker.join().unwrap(), Some(1));
        assert_eq!(queue.push(job(None).0), Err(ServeError::NoTicket));
    }
}
