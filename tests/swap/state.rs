//! State that passes from the objects of the old code to those of the new.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use super::setup;
use crate::support::Archive;
use crate::support::build_of;
use crate::support::fixture;
use crate::support::says;

const MODEL: &str = "counts_requests";
const FILE: &str = "libcounts_requests.so";

#[test]
fn state_passes_from_code_to_code() {
    let server = setup("counts-requests", "").start();
    let library = fixture("counts-requests");
    let count = || server.predict(MODEL, "").ok().parse::<u64>().unwrap();
    assert_eq!([count(), count(), count()], [1, 2, 3]);
    server.put_library(FILE, &build_of(&library, 1));
    let generation = server.swap(MODEL);
    assert!(generation["milliseconds"]["hand_over"].is_f64(), "{generation:#}");
    assert_eq!(count(), 4);

    // What can't take it over is refused, and the old code goes on with it.
    server.put_library(FILE, &build_of(&library, 3));
    let message = server.reload(MODEL).error(409, "SwapRefusedException");
    says(&message, &["can't take over the state of the one before: build 3 begins at nothing", "mend import_state"]);
    assert_eq!(count(), 5);

    server.put_library(FILE, &build_of(&library, 4));
    server.swap(MODEL);
    assert_eq!(count(), 6);
    server.still_serves();
}

#[test]
fn no_request_is_counted_twice_or_not_at_all_while_state_passes() {
    let server = setup("counts-requests", "").start();
    let library = fixture("counts-requests");
    let done = AtomicBool::new(false);
    let sent: usize = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut sent = 0;
                    while !done.load(Ordering::Relaxed) {
                        server.predict(MODEL, "").ok();
                        sent += 1;
                    }
                    sent
                })
            })
            .collect();
        for round in 0..20 {
            server.put_library(FILE, &build_of(&library, 10 + round % 2));
            server.swap(MODEL);
        }
        done.store(true, Ordering::Relaxed);
        clients.into_iter().map(|client| client.join().unwrap()).sum()
    });
    assert_eq!(server.predict(MODEL, "").ok(), (sent + 1).to_string());
}

#[test]
fn what_hangs_while_it_tells_its_state_goes_without_it() {
    let server = setup("counts-requests", "responseTimeout: 1\n").start();
    let library = fixture("counts-requests");
    server.put_library(FILE, &build_of(&library, 5));
    server.swap(MODEL);
    assert_eq!(server.predict(MODEL, "").ok(), "1");
    server.put_library(FILE, &build_of(&library, 6));
    server.swap(MODEL);
    server.logged(&["ERROR", "the old handler hangs in export_state", "the new one begins without its state"]);
    assert_eq!(server.predict(MODEL, "").ok(), "1");
    server.still_serves();
}

#[test]
fn fewer_workers_take_over_the_state_of_all() {
    let server = setup("counts-requests", "minWorkers: 3\nmaxWorkers: 3\n").start();
    for _ in 0..30 {
        server.predict(MODEL, "").ok();
    }
    Archive::new(MODEL, MODEL).config("minWorkers: 1\nmaxWorkers: 1\n").pack(&server.store());
    server.swap(MODEL);
    assert_eq!(server.predict(MODEL, "").ok(), "31");
}
