//! How many workers a model has: they come and go without a swap, and nothing that was taken in is lost.

use serde_json::Value;

use super::ask;
use super::setup;
use super::status;
use super::workers;
use crate::support::Archive;
use crate::support::Gate;
use crate::support::Setup;
use crate::support::eventually;
use crate::support::fixture;
use crate::support::says;

#[test]
fn a_model_without_workers_refuses_until_it_is_scaled() {
    let server = setup().model(&Archive::new("echo", "echo")).start();
    assert_eq!(ask(&server, "POST", "/models?url=echo.mar&initial_workers=0").status, 200);
    let message = server.predict("echo", "x").error(503, "ServiceUnavailableException");
    says(&message, &["Model \"echo\" has no worker to serve inference request. Please use scale workers API"]);
    assert_eq!(server.describe("echo")["status"], "IDLE");
    assert_eq!(workers(&server, "echo"), 0);
    says(&ask(&server, "POST", "/models/echo/reload").error(409, "NoWorkersException"), &["has no workers"]);

    // In the background, unless asked otherwise.
    assert_eq!(status(&ask(&server, "PUT", "/models/echo"), 202), "Processing worker updates...");
    eventually("a worker", || (workers(&server, "echo") == 1).then_some(()));
    assert_eq!(server.predict("echo", "x").ok(), "x");
    for round in 0..3 {
        assert_eq!(ask(&server, "PUT", "/models/echo?min_worker=0&synchronous=true").status, 200);
        assert_eq!(server.predict("echo", "x").status, 503, "round {round}");
        assert_eq!(ask(&server, "PUT", "/models/echo?min_worker=2&synchronous=true").status, 200);
        assert_eq!(server.predict("echo", "x").ok(), "x");
    }
    let generations = ask(&server, "GET", "/models/echo/generations").json();
    let triggers: Vec<_> = generations.as_array().unwrap().iter().map(|one| one["trigger"].as_str().unwrap()).collect();
    assert_eq!(triggers, ["scale"; 4]);
}

#[test]
fn no_archive_gets_more_workers_than_a_model_can_have() {
    let config = "minWorkers: 1\nmaxWorkers: 3000\n";
    let server = setup().model(&Archive::new("echo", "echo").config(config)).start();
    assert_eq!(ask(&server, "POST", "/models?url=echo.mar").status, 200);
    assert_eq!(server.describe("echo")["maxWorkers"], 1024);
    server.logged(&["more than a model can have", "max=3000"]);
}

#[test]
fn a_scale_outlives_a_swap() {
    let server = setup().model(&Archive::new("echo", "echo")).start();
    assert_eq!(ask(&server, "POST", "/models?url=echo.mar").status, 200);
    assert_eq!(ask(&server, "PUT", "/models/echo?min_worker=2&max_worker=3&synchronous=true").status, 200);
    assert_eq!(ask(&server, "POST", "/models/echo/reload").status, 200);
    let description = server.describe("echo");
    assert_eq!((&description["minWorkers"], &description["maxWorkers"]), (&Value::from(2), &Value::from(3)));
    assert_eq!(workers(&server, "echo"), 2);
    assert_eq!(ask(&server, "POST", "/models/echo/rollback").status, 200);
    assert_eq!(workers(&server, "echo"), 2);
}

#[test]
fn what_was_taken_in_is_answered_before_workers_go() {
    for verb in ["DELETE /models/waits", "PUT /models/waits?min_worker=0&synchronous=true"] {
        let server = setup().model(&Archive::new("waits", "waits")).start();
        assert_eq!(ask(&server, "POST", "/models?url=waits.mar").status, 200);
        let (first, second) = (Gate::new(), Gate::new());
        let openers = (first.opener(), second.opener());
        std::thread::scope(|scope| {
            let in_hand = scope.spawn(|| server.predict("waits", first.body()));
            first.wait_for_a_call();
            let queued = scope.spawn(|| server.predict("waits", second.body()));
            eventually("the second request to wait", || {
                (server.describe("waits")["jobQueueStatus"]["pendingRequests"] == 1).then_some(())
            });
            let (method, path) = verb.split_once(' ').unwrap();
            let done = scope.spawn(|| ask(&server, method, path));
            eventually("it to be on its way out", || {
                let described = ask(&server, "GET", "/models/waits");
                (described.status == 404 || described.json()[0]["status"] == "IDLE").then_some(())
            });
            assert!([404, 503].contains(&server.predict("waits", "late").status), "nobody else gets in any more");
            assert!(!done.is_finished(), "{verb} must wait for the answers");
            drop(openers);
            assert_eq!(in_hand.join().unwrap().status, 200, "{verb}");
            assert_eq!(queued.join().unwrap().status, 200, "{verb}");
            assert_eq!(done.join().unwrap().status, 200, "{verb}");
        });
    }
}

#[test]
fn workers_follow_the_load_between_min_and_max() {
    let server = Setup::new()
        .plugin(&fixture("waits"))
        .model(&Archive::new("waits", "waits").config("minWorkers: 1\nmaxWorkers: 3\n"))
        .property("sconce_scale_up_after_ms", "20")
        .property("sconce_scale_down_after_ms", "20")
        .start();
    assert_eq!(workers(&server, "waits"), 1);
    let gates: Vec<Gate> = (0..4).map(|_| Gate::new()).collect();
    std::thread::scope(|scope| {
        let openers: Vec<_> = gates.iter().map(Gate::opener).collect();
        for gate in &gates {
            scope.spawn(|| assert_eq!(server.predict("waits", gate.body()).status, 200));
        }
        // All but the fourth, which has no fourth worker.
        eventually("three calls", || (gates.iter().filter(|gate| gate.was_called()).count() == 3).then_some(()));
        assert_eq!(workers(&server, "waits"), 3);
        drop(openers);
    });
    eventually("one worker again", || (workers(&server, "waits") == 1).then_some(()));
    assert_eq!(server.describe("waits")["maxWorkers"], 3);
}

#[test]
fn an_archive_that_changes_while_there_are_no_workers_is_what_they_serve_then() {
    let archive = |size: usize| Archive::new("echo", "echo").config(&format!("batchSize: {size}\n"));
    let server = setup().model(&archive(2)).start();
    assert_eq!(ask(&server, "POST", "/models?url=echo.mar&initial_workers=0").status, 200);
    let batch_size = || server.describe("echo")["batchSize"].as_u64().unwrap();
    assert_eq!(batch_size(), 2);
    archive(4).pack(&server.store());
    eventually("the new archive", || (batch_size() == 4).then_some(()));
    assert_eq!(ask(&server, "PUT", "/models/echo?synchronous=true").status, 200);
    assert_eq!((batch_size(), server.predict("echo", "x").ok()), (4, "x".to_owned()));
}
