//! Requests that are answered together, and those that wait.

use std::sync::Barrier;
use std::thread;

use crate::support::Answer;
use crate::support::Archive;
use crate::support::Gate;
use crate::support::Server;
use crate::support::Setup;
use crate::support::eventually;
use crate::support::fixture;
use crate::support::mark_of;
use crate::support::says;

/// Sends these at once, and gives the answers in their order.
fn at_once(server: &Server, model: &str, bodies: &[&str]) -> Vec<Answer> {
    let barrier = Barrier::new(bodies.len());
    let send = |body: &str| {
        barrier.wait();
        server.predict(model, body)
    };
    thread::scope(|scope| {
        let threads: Vec<_> = bodies.iter().map(|body| scope.spawn(|| send(body))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn a_full_batch_is_one_call_and_one_bad_request_of_it_fails_alone() {
    // So long a delay that only a full batch is called before the test's end.
    let config = "batchSize: 3\nmaxBatchDelay: 3600000\n";
    let server = Setup::with_echo()
        .plugin(&fixture("batch-size-teller"))
        .model(&Archive::new("teller", "batch_size_teller").config(config))
        .start();
    let answers = at_once(&server, "teller", &["a", "b", "c"]);
    assert!(answers.iter().all(|answer| answer.ok() == "3"), "{answers:?}");

    let answers = at_once(&server, "teller", &["a", "bad", "c"]);
    assert_eq!((answers[0].ok(), answers[2].ok()), ("3".to_owned(), "3".to_owned()));
    assert_eq!(answers[1].error(400, "BadRequestException"), "field `body` is bad");

    // Where the whole call fails, each is tried alone, and only the culprit fails.
    let answers = at_once(&server, "teller", &["a", "b", "poison"]);
    assert_eq!((answers[0].ok(), answers[1].ok()), ("1".to_owned(), "1".to_owned()));
    assert_eq!(answers[2].error(503, "InternalServerException"), "Prediction failed");
    server.logged(&["ERROR", "model=teller", "poisoned"]);
    server.still_serves();
}

#[test]
fn a_batch_that_isnt_full_is_called_after_the_delay() {
    let config = "batchSize: 64\nmaxBatchDelay: 20\n";
    let server = Setup::new()
        .plugin(&fixture("batch-size-teller"))
        .model(&Archive::new("teller", "batch_size_teller").config(config))
        .start();
    assert_eq!(server.predict("teller", "alone").ok(), "1");
}

/// A server whose model `waits` answers when it is told to.
fn waiting(config: &str) -> Server {
    Setup::with_echo().plugin(&fixture("waits")).model(&Archive::new("waits", "waits").config(config)).start()
}

#[test]
fn a_full_queue_refuses_at_once_and_loses_nobody() {
    let server = waiting("jobQueueSize: 1\nmaxBatchDelay: 0\n");
    let (first, second) = (Gate::new(), Gate::new());
    thread::scope(|scope| {
        let _open = (first.opener(), second.opener());
        let in_hand = scope.spawn(|| server.predict("waits", first.body()));
        first.wait_for_a_call();
        let queued = scope.spawn(|| server.predict("waits", second.body()));
        eventually("the queue to be full", || {
            (server.describe("waits")["jobQueueStatus"]["remainingCapacity"] == 0).then_some(())
        });
        let message = server.predict("waits", "no place").error(503, "ServiceUnavailableException");
        says(&message, &["Model \"waits\" has no worker to serve inference request", "all 1 places of its queue"]);
        // Another model has a queue of its own.
        server.still_serves();
        second.open();
        first.open();
        assert_eq!(in_hand.join().unwrap().body, mark_of(0));
        assert_eq!(queued.join().unwrap().body, mark_of(0));
    });
}

#[test]
fn a_client_s_time_limit_is_kept_and_nobody_computes_for_those_who_left() {
    let server = waiting("clientTimeoutInMills: 2000\nmaxBatchDelay: 0\n");
    let (first, second) = (Gate::new(), Gate::new());
    thread::scope(|scope| {
        let _open = (first.opener(), second.opener());
        let in_hand = scope.spawn(|| server.predict("waits", first.body()));
        first.wait_for_a_call();
        let queued = server.predict("waits", second.body());
        let message = queued.error(504, "RequestTimeoutException");
        says(&message, &["Model \"waits\"", "clientTimeoutInMills"]);
        // Answered while the only worker is still at the first one.
        in_hand.join().unwrap().error(504, "RequestTimeoutException");
    });
    // The worker is free again, and has not touched the second.
    let third = Gate::new();
    third.open();
    assert_eq!(server.predict("waits", third.body()).body, mark_of(0));
    assert!(!second.was_called());
    server.still_serves();
}
