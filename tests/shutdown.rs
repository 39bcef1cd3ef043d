//! The end of a server: nobody who was let in goes without an answer.

use std::thread;

use rustix::process::Signal;

use crate::support::Archive;
use crate::support::Gate;
use crate::support::Server;
use crate::support::Setup;
use crate::support::eventually;
use crate::support::fixture;
use crate::support::mark_of;
use crate::support::says;

fn server() -> Server {
    Setup::with_echo().plugin(&fixture("waits")).model(&Archive::new("waits", "waits")).start()
}

fn ends_well(signal: Signal) {
    let server = server();
    let gate = Gate::new();
    thread::scope(|scope| {
        let _open = gate.opener();
        let in_flight = scope.spawn(|| server.predict("waits", gate.body()));
        gate.wait_for_a_call();
        server.signal(signal);
        let late = eventually("later requests to be refused", || {
            let answer = server.predict("echo", "late");
            (answer.status != 200).then_some(answer)
        });
        says(&late.error(503, "ServiceUnavailableException"), &["shutting down", "again later"]);
        gate.open();
        assert_eq!(in_flight.join().unwrap().body, mark_of(0));
    });
    let status = server.ended();
    assert_eq!(status.code(), Some(0), "{status}");
    server.logged(&["stopped"]);
}

#[test]
fn sigterm_answers_what_is_in_flight() {
    ends_well(Signal::TERM);
}

#[test]
fn sigint_answers_what_is_in_flight() {
    ends_well(Signal::INT);
}

#[test]
fn an_idle_server_ends_at_once() {
    let server = Setup::with_echo().start();
    server.still_serves();
    server.signal(Signal::TERM);
    assert_eq!(server.ended().code(), Some(0));
}

#[test]
fn a_second_signal_ends_a_server_that_waits() {
    let server = server();
    let gate = Gate::new();
    thread::scope(|scope| {
        let _open = gate.opener();
        let in_flight = scope.spawn(|| server.try_predict("waits", gate.body()));
        gate.wait_for_a_call();
        server.signal(Signal::TERM);
        server.logged(&["SIGTERM", "answering what was taken in"]);
        server.signal(Signal::TERM);
        let status = server.ended();
        assert_eq!(status.code(), Some(1), "{status}");
        assert!(in_flight.join().unwrap().is_err(), "nobody answered it");
    });
    server.logged(&["SIGTERM again: ended before all requests were answered"]);
}
