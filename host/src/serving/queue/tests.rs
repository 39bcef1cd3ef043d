//! Queues on their own, with jobs that nobody computes.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::serving::BatchPolicy;
use crate::serving::ModelCall;
use crate::serving::Request;
use crate::serving::Urgency;
use crate::serving::Verb;
use crate::serving::job::Task;

const ONE: BatchPolicy = policy(1, Duration::ZERO);
const NINE: QueueLimits = QueueLimits { capacity: 9, tickets: false };

const fn policy(size: usize, delay: Duration) -> BatchPolicy {
    BatchPolicy { size: Some(size), delay: Some(delay), target_latency: None }
}

fn job(limit: Option<Duration>) -> (Job, tokio::sync::oneshot::Receiver<crate::serving::job::Done>) {
    Job::new(Request::default(), Urgency::default(), limit)
}

fn take(queue: &Queue, policy: BatchPolicy, gate: &Gate) -> Option<usize> {
    match queue.take(&Batcher::new(policy), gate, || None) {
        Taken::Batch(jobs) => Some(jobs.len()),
        Taken::ToPrepare(_) => panic!("nothing is known of steps"),
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
    let patient = policy(8, Duration::from_secs(3600));
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
    assert!(matches!(queue.take(&Batcher::new(ONE), &gate, || Some(Summons::Errand)), Taken::Errand));
    queue.open_gate(&gate);
    assert!(matches!(queue.take(&Batcher::new(ONE), &gate, || Some(Summons::Errand)), Taken::Batch(_)));
    queue.pause_gate(&gate);
    assert!(matches!(queue.take(&Batcher::new(ONE), &gate, || Some(Summons::Errand)), Taken::Errand));
    queue.shut_gate(&gate);
    assert!(matches!(queue.take(&Batcher::new(ONE), &gate, || Some(Summons::Errand)), Taken::End));
}

#[test]
fn a_summoned_worker_leaves_and_the_others_go_on() {
    let queue = Queue::new(NINE);
    let (waiting, _reply) = job(None);
    queue.push(waiting).unwrap();
    let gate = open(&queue);
    assert!(matches!(queue.take(&Batcher::new(ONE), &gate, || Some(Summons::Leave)), Taken::End));
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
    let all = policy(9, Duration::ZERO);
    let Taken::Batch(jobs) = queue.take(&Batcher::new(all), &open(&queue), || None) else { panic!("there are jobs") };
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
    let patient = policy(8, Duration::from_secs(3600));
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

fn quick() -> Batcher {
    let batcher = Batcher::new(ONE);
    batcher.pace.learn(1, Duration::from_micros(1));
    batcher
}

#[test]
fn the_call_is_left_only_while_the_handler_is_quick() {
    let queue = Queue::new(NINE);
    let gate = open(&queue);
    let slow = Batcher::new(ONE);
    slow.pace.learn(1, Duration::from_millis(1));
    for (batcher, pushed) in
        [(&Batcher::new(ONE), Pushed::Called), (&quick(), Pushed::CallLeft), (&slow, Pushed::Called)]
    {
        let (waiting, _reply) = job(None);
        queue.push(waiting).unwrap();
        assert!(matches!(queue.take(batcher, &gate, || None), Taken::Batch(_)));
        let (next, _next_reply) = job(None);
        assert_eq!(queue.push_first(next), Ok(pushed));
        queue.refuse_all(&ServeError::NoWorker);
        queue.hand_over(None, &gate, NINE);
    }
}

#[test]
fn no_job_is_forgotten_whoever_sleeps() {
    let queue = Arc::new(Queue::new(NINE));
    let gate = Arc::new(open(&queue));
    let worker = |batcher: Batcher| {
        let (queue, gate) = (Arc::clone(&queue), Arc::clone(&gate));
        std::thread::spawn(move || {
            while let Taken::Batch(jobs) = queue.take(&batcher, &gate, || None) {
                jobs.into_iter().for_each(|job| job.refuse(ServeError::NoTicket));
            }
        })
    };
    let workers = [worker(quick()), worker(quick()), worker(Batcher::new(ONE))];
    let client = || {
        let queue = Arc::clone(&queue);
        std::thread::spawn(move || {
            for _ in 0..500 {
                let (asked, reply) = job(None);
                queue.push(asked).unwrap();
                // With nobody else to wake a worker, one that was forgotten would never be answered.
                assert!(matches!(reply.blocking_recv().unwrap().reply, Err(ServeError::NoTicket)));
            }
        })
    };
    let clients = [client(), client(), client(), client()];
    clients.into_iter().for_each(|client| client.join().unwrap());
    queue.close(ServeError::ShuttingDown);
    workers.into_iter().for_each(|worker| worker.join().unwrap());
}

#[test]
fn a_job_that_is_prepared_counts_as_waiting_and_comes_back_to_its_place() {
    let queue = Arc::new(Queue::new(NINE));
    let gate = open(&queue);
    let batcher = Batcher::new(policy(3, Duration::from_secs(3600)));
    let (mut replies, urgencies) = (Vec::new(), [3, 3, 0]);
    for urgency in urgencies {
        let (job, reply) = Job::new(Request::default(), Urgency::new(urgency), None);
        replies.push(reply);
        queue.push(job).unwrap();
    }
    gate.found_steps();
    let Chore::Prepare(job) = queue.take_chore(&batcher, &gate) else { panic!("nothing to prepare") };
    let preparing = queue.preparing();
    assert_eq!((job.urgency, queue.status().waiting), (Urgency::new(0), 3));
    queue.put_back(job, &gate);
    drop(preparing);
    assert_eq!(queue.status().waiting, 3);
    let Taken::Batch(jobs) = queue.take(&batcher, &gate, || None) else { panic!("no batch") };
    let order: Vec<_> = jobs.iter().map(|job| job.urgency).collect();
    assert_eq!(order, [0, 3, 3].map(Urgency::new));
}

#[test]
fn a_job_that_comes_back_to_a_failed_endpoint_is_refused() {
    let queue = Arc::new(Queue::new(NINE));
    let gate = open(&queue);
    gate.found_steps();
    let (waiting, mut reply) = job(None);
    queue.push(waiting).unwrap();
    let batcher = Batcher::new(ONE);
    let Chore::Prepare(job) = queue.take_chore(&batcher, &gate) else { panic!("nothing to prepare") };
    let preparing = queue.preparing();
    queue.refuse_all(&ServeError::NoWorker);
    queue.put_back(job, &gate);
    drop(preparing);
    assert!(matches!(reply.try_recv().unwrap().reply, Err(ServeError::NoWorker)));
    // And whoever prepares has come to its end, as the workers have.
    assert!(matches!(queue.take_chore(&batcher, &gate), Chore::End));
}
