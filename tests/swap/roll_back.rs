//! Back to what has served before, when somebody asks for it or when a new build panics.

use std::fs;

use super::setup;
use crate::support::Sent;
use crate::support::build_of;
use crate::support::eventually;
use crate::support::fixture;
use crate::support::mark_of;
use crate::support::put;
use crate::support::says;
use crate::support::swapped;

#[test]
fn each_rollback_goes_one_generation_back() {
    const MODEL: &str = "tells_its_build";
    const FILE: &str = "libtells_its_build.so";
    let server = setup("tells-its-build", "").start();
    let library = fixture("tells-its-build");
    for number in [1, 2] {
        server.put_library(FILE, &build_of(&library, number));
        server.swap(MODEL);
        assert_eq!(server.predict(MODEL, "").body, mark_of(number));
    }
    let generation = swapped(&server.roll_back(MODEL));
    assert_eq!((generation["trigger"].as_str(), generation["state"].as_str()), (Some("rollback"), Some("serving")));
    assert_eq!(server.predict(MODEL, "").body, mark_of(1), "though build 2 lies in the plugins path");
    // Back from the server's own copy.
    fs::remove_file(server.plugins().join(FILE)).unwrap();
    swapped(&server.roll_back(MODEL));
    assert_eq!(server.predict(MODEL, "").body, mark_of(0));
    let message = server.roll_back(MODEL).error(409, "NoGenerationBeforeException");
    says(&message, &["version 1.0 of model tells_its_build has no generation before"]);
    assert_eq!(server.predict(MODEL, "").body, mark_of(0));

    server.put_library(FILE, &build_of(&library, 2));
    server.swap(MODEL);
    assert_eq!(server.predict(MODEL, "").body, mark_of(2));
    assert_eq!(server.metric("sconce_swaps_total", &["outcome=\"rolled_back\""]), 2);
    assert_eq!(server.metric("sconce_swaps_total", &["outcome=\"swapped\""]), 3);
    server.comes_to_rest();
    server.maps_libraries(2);
    server.management("/models/nobody/rollback", &Sent::body("")).error(404, "ModelNotFoundException");
}

#[test]
fn three_generations_are_kept_to_go_back_to() {
    const MODEL: &str = "tells_its_build";
    let server = setup("tells-its-build", "").start();
    let library = fixture("tells-its-build");
    for number in 1..=5 {
        server.put_library("libtells_its_build.so", &build_of(&library, number));
        server.swap(MODEL);
    }
    for number in [4, 3, 2] {
        swapped(&server.roll_back(MODEL));
        assert_eq!(server.predict(MODEL, "").body, mark_of(number));
    }
    server.roll_back(MODEL).error(409, "NoGenerationBeforeException");
    assert_eq!(server.predict(MODEL, "").body, mark_of(2));
}

#[test]
fn a_build_that_only_panics_is_rolled_back_by_itself() {
    const MODEL: &str = "panics_by_build";
    let server = setup("panics-by-build", "").property("sconce_rollback_after_panics", "3").start();
    let good = server.serving(MODEL);
    server.put_library("libpanics_by_build.so", &build_of(&fixture("panics-by-build"), 2));
    let bad = server.swap(MODEL)["generation"].as_u64().unwrap();
    for _ in 0..2 {
        server.predict(MODEL, "").error(503, "InternalServerException");
        assert_eq!(server.serving(MODEL), bad, "twice in a row is borne");
    }
    server.predict(MODEL, "").error(503, "InternalServerException");
    eventually("the build before to answer", || (server.predict(MODEL, "").body == mark_of(0)).then_some(()));

    let now = server.serving(MODEL);
    assert!(now > bad && bad > good);
    assert_eq!(server.generation(MODEL, now)["trigger"], "panics");
    let panicked = server.retired(MODEL, bad);
    assert_eq!(panicked["reason"], "rolled back: it panicked 3 times in a row");
    let line = server.logged(&["ERROR", "rolled back: it panicked 3 times in a row"]);
    says(&line, &[&format!("model={MODEL} "), &format!("generation={bad} "), &format!("now={now}")]);
    // The bad file still lies there, and isn't taken again by itself.
    for _ in 0..20 {
        assert_eq!(server.predict(MODEL, "").body, mark_of(0));
    }
    assert_eq!(server.serving(MODEL), now);
    server.comes_to_rest();
    server.maps_libraries(2);
    server.still_serves();
}

#[test]
fn a_first_build_that_panics_has_nothing_to_go_back_to() {
    const MODEL: &str = "panics_by_build";
    let setup = setup("panics-by-build", "").property("sconce_rollback_after_panics", "2");
    put(&setup.plugins().join("libpanics_by_build.so"), &build_of(&fixture("panics-by-build"), 2));
    let server = setup.start();
    for _ in 0..5 {
        server.predict(MODEL, "").error(503, "InternalServerException");
    }
    server.logged(&["ERROR", "not rolled back, though it panicked 2 times in a row"]);
    assert_eq!(server.generations(MODEL).len(), 1);
    server.put_library("libpanics_by_build.so", &build_of(&fixture("panics-by-build"), 1));
    server.swap(MODEL);
    assert_eq!(server.predict(MODEL, "").body, mark_of(1));
}
