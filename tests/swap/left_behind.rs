//! What a retired library leaves running: it stays mapped, and who reads of the generation is told why.

use super::setup;
use crate::support::Gate;
use crate::support::build_of;
use crate::support::eventually;
use crate::support::fixture;
use crate::support::says;

#[test]
fn a_thread_that_still_runs_keeps_its_code() {
    const MODEL: &str = "starts_a_thread";
    let server = setup("starts-a-thread", "").start();
    let gate = Gate::new();
    let first = server.serving(MODEL);
    assert_eq!(server.predict(MODEL, gate.body()).ok(), "started");
    let second = server.swap(MODEL)["generation"].as_u64().unwrap();
    let retired = server.retired(MODEL, first);
    let text = retired["loaded"]["text"].as_str().unwrap();
    says(text, &["bytes stay mapped", "its thread \"left-behind\"", "still runs"]);
    assert!(retired["loaded"]["mappedBytes"].as_u64().unwrap() > 0, "{retired:#}");
    server.logged(&["retired", &format!("generation={first} "), "left-behind"]);
    // Both, and `echo`.
    server.maps_libraries(3);
    assert!(server.threads().iter().any(|name| name == "left-behind"));

    // The thread runs on to its end in code that is still there.
    gate.open();
    eventually("the thread to end", || (!server.threads().iter().any(|name| name == "left-behind")).then_some(()));
    // One whose thread has ended before the swap goes.
    assert_eq!(server.predict(MODEL, gate.body()).ok(), "started");
    eventually("the thread to end", || (!server.threads().iter().any(|name| name == "left-behind")).then_some(()));
    server.swap(MODEL);
    assert_eq!(server.retired(MODEL, second)["loaded"]["text"], "unmapped");
    server.still_serves();
}

#[test]
fn a_call_that_never_comes_back_keeps_its_code() {
    const MODEL: &str = "waits";
    let server = setup("waits", "responseTimeout: 1\n").start();
    let gate = Gate::new();
    let first = server.serving(MODEL);
    std::thread::scope(|scope| {
        let _open = gate.opener();
        let hanging = scope.spawn(|| server.predict(MODEL, gate.body()));
        gate.wait_for_a_call();
        server.put_library("libwaits.so", &build_of(&fixture("waits"), 1));
        server.swap(MODEL);
        let message = hanging.join().unwrap().error(500, "InternalServerException");
        says(&message, &["Worker died.", "longer than responseTimeout (1 s)"]);
        let stuck = eventually("the old generation to be stuck", || {
            Some(server.generation(MODEL, first)).filter(|generation| generation["state"] == "stuck")
        });
        says(stuck["loaded"]["text"].as_str().unwrap(), &["stay mapped", "a call of its handler never came back"]);
        server.maps_libraries(3);
    });
    server.still_serves();
}
