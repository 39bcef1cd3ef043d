//! A handler whose steps run apart: requests are prepared while others are in the model, and answered while the next ones are.

use std::fs;
use std::path::Path;
use std::thread;

use crate::support::Archive;
use crate::support::Gate;
use crate::support::Server;
use crate::support::Setup;
use crate::support::build_of;
use crate::support::eventually;
use crate::support::fixture;

/// One worker, so that whatever runs beside its call runs beside the worker.
fn server(config: &str) -> Server {
    let config = format!("minWorkers: 1\nmaxWorkers: 1\n{config}");
    let server = Setup::with_echo()
        .property("sconce_watch", "false")
        .property("sconce_unload", "unmap")
        .plugin(&fixture("steps"))
        .model(&Archive::new("steps", "steps").config(&config))
        .start();
    // After a first batch the server knows that the handler has steps.
    if !config.contains("maxBatchDelay") {
        assert_eq!(server.predict("steps", "").ok(), answer(0, 1));
    }
    server
}

/// Waits until the threads that prepare requests are there.
fn has_preparers(server: &Server, count: usize) {
    eventually("threads that prepare", || {
        let threads = server.threads();
        (threads.iter().filter(|name| name.starts_with("steps-prepares")).count() == count).then_some(())
    });
}

fn answer(build: u32, batch: usize) -> String {
    format!("sconce-build-{build:03} sconce-build-{build:03} {batch}")
}

fn order(step: &str, gate: &Gate) -> String {
    format!("{step} {}", gate.body())
}

fn calls(gate: &Gate) -> usize {
    fs::read(Path::new(gate.body()).join("begun")).unwrap().len()
}

#[test]
fn requests_are_prepared_side_by_side_while_the_model_runs() {
    let server = server("batchSize: 4\npreprocessWorkers: 3\n");
    has_preparers(&server, 3);
    let (running, gates) = (Gate::new(), [Gate::new(), Gate::new(), Gate::new()]);
    thread::scope(|scope| {
        let _open = (running.opener(), gates.each_ref().map(Gate::opener));
        let first = scope.spawn(|| server.predict("steps", order("inference", &running)));
        running.wait_for_a_call();
        let others = gates.each_ref().map(|gate| {
            let (server, body) = (&server, order("preprocess", gate));
            scope.spawn(move || server.predict("steps", body))
        });
        // None of them goes on before all have begun, and the only worker is in the model.
        gates.iter().for_each(Gate::wait_for_a_call);
        let queue = server.describe("steps")["jobQueueStatus"].clone();
        assert_eq!((queue["pendingRequests"].as_u64(), queue["remainingCapacity"].as_u64()), (Some(3), Some(97)));
        gates.iter().for_each(Gate::open);
        running.open();
        assert_eq!(first.join().unwrap().ok(), answer(0, 1));
        for other in others {
            let text = other.join().unwrap().ok();
            assert!(text.starts_with("sconce-build-000 sconce-build-000 "), "{text}");
        }
    });
    assert!(gates.iter().all(|gate| calls(gate) == 1), "each was prepared once");
    server.still_serves();
}

#[test]
fn answers_are_made_while_the_next_batch_is_in_the_model() {
    let server = server("preprocessWorkers: 3\n");
    has_preparers(&server, 3);
    let warm = [Gate::new(), Gate::new(), Gate::new()];
    thread::scope(|scope| {
        let _open = warm.each_ref().map(Gate::opener);
        for gate in &warm {
            let body = order("preprocess", gate);
            scope.spawn(|| server.predict("steps", body).ok());
        }
        // The worker has one of them; so that the threads beside it have been at work.
        warm.iter().for_each(Gate::wait_for_a_call);
    });
    let (finishing, running) = (Gate::new(), Gate::new());
    thread::scope(|scope| {
        let _open = (finishing.opener(), running.opener());
        let first = scope.spawn(|| server.predict("steps", order("postprocess", &finishing)));
        finishing.wait_for_a_call();
        let second = scope.spawn(|| server.predict("steps", order("inference", &running)));
        // The only worker calls the model while the first answer is being made.
        running.wait_for_a_call();
        running.open();
        assert_eq!(second.join().unwrap().ok(), answer(0, 1));
        finishing.open();
        assert_eq!(first.join().unwrap().ok(), answer(0, 1));
    });
}

#[test]
fn a_worker_prepares_what_waits_for_its_batch_to_fill() {
    let server = server("batchSize: 2\nmaxBatchDelay: 3600000\n");
    let pair = |body: String, wait: &dyn Fn()| {
        thread::scope(|scope| {
            let first = scope.spawn(|| server.predict("steps", body).ok());
            wait();
            let second = server.predict("steps", "").ok();
            [first.join().unwrap(), second]
        })
    };
    assert_eq!(pair(String::new(), &|| ()), [answer(0, 2), answer(0, 2)]);
    let gate = Gate::new();
    gate.open();
    // The other one comes only when this one is prepared.
    assert_eq!(pair(order("preprocess", &gate), &|| gate.wait_for_a_call()), [answer(0, 2), answer(0, 2)]);
    assert_eq!(calls(&gate), 1);
}

#[test]
fn what_the_old_code_has_prepared_never_reaches_the_new() {
    let server = server("preprocessWorkers: 2\n");
    has_preparers(&server, 2);
    let (running, prepared, preparing) = (Gate::new(), Gate::new(), Gate::new());
    let before = server.serving("steps");
    thread::scope(|scope| {
        let _open = (running.opener(), prepared.opener(), preparing.opener());
        let first = scope.spawn(|| server.predict("steps", order("inference", &running)));
        running.wait_for_a_call();
        let second = scope.spawn(|| server.predict("steps", order("preprocess", &prepared)));
        let third = scope.spawn(|| server.predict("steps", order("preprocess", &preparing)));
        prepared.wait_for_a_call();
        preparing.wait_for_a_call();
        prepared.open();
        server.put_library("libsteps.so", &build_of(&fixture("steps"), 1));
        server.swap("steps");
        assert_eq!(second.join().unwrap().ok(), answer(1, 1));
        // It comes back from the old code when the new serves.
        preparing.open();
        assert_eq!(third.join().unwrap().ok(), answer(1, 1));
        assert_eq!((calls(&prepared), calls(&preparing)), (2, 2), "once by each code");
        running.open();
        assert_eq!(first.join().unwrap().ok(), answer(0, 1));
    });
    assert_eq!(server.retired("steps", before)["loaded"]["text"], "unmapped");
}

#[test]
fn who_hangs_while_it_prepares_fails_alone() {
    let server = server("responseTimeout: 1\npreprocessWorkers: 1\n");
    has_preparers(&server, 1);
    let gates = [Gate::new(), Gate::new()];
    thread::scope(|scope| {
        let _open = gates.each_ref().map(Gate::opener);
        // One is the worker's, one the other thread's.
        let hanging = gates.each_ref().map(|gate| {
            let (server, body) = (&server, order("preprocess", gate));
            scope.spawn(move || server.predict("steps", body))
        });
        gates.iter().for_each(Gate::wait_for_a_call);
        for request in hanging {
            request.join().unwrap().error(500, "InternalServerException");
        }
        // Others have taken both places.
        assert_eq!(server.predict("steps", "").ok(), answer(0, 1));
        assert_eq!(server.describe("steps")["jobQueueStatus"]["pendingRequests"], 0);
        server.logged(&["ERROR", "model=steps", "the handler takes longer than responseTimeout"]);
    });
    server.still_serves();
}

#[test]
fn each_step_that_fails_fails_its_request_alone() {
    let server = server("batchSize: 8\npreprocessWorkers: 2\n");
    has_preparers(&server, 2);
    let running = Gate::new();
    let bodies = ["bad", "panic preprocess", "panic postprocess", "panic inference", "well", "done"];
    thread::scope(|scope| {
        let _open = running.opener();
        let first = scope.spawn(|| server.predict("steps", order("inference", &running)));
        running.wait_for_a_call();
        let answers = bodies.map(|body| {
            let server = &server;
            scope.spawn(move || server.predict("steps", body))
        });
        // What fails in its first step is answered while the model runs.
        let [bad, early, late, inside, well, done] = answers;
        assert_eq!(early.join().unwrap().error(503, "InternalServerException"), "Prediction failed");
        running.open();
        assert_eq!(bad.join().unwrap().error(400, "BadRequestException"), "it says so itself");
        for failed in [late, inside] {
            assert_eq!(failed.join().unwrap().error(503, "InternalServerException"), "Prediction failed");
        }
        for fine in [well, done] {
            let text = fine.join().unwrap().ok();
            assert!(text.starts_with("sconce-build-000 sconce-build-000 "), "{text}");
        }
        assert_eq!(first.join().unwrap().ok(), answer(0, 1));
    });
    server.still_serves();
}
