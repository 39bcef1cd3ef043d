//! What a reload takes up: the same again, other settings, other weights, and what was never served before.

use super::setup;
use crate::support::Archive;
use crate::support::Sent;
use crate::support::build_of;
use crate::support::eventually;
use crate::support::fixture;
use crate::support::mark_of;
use crate::support::put;
use crate::support::says;
use crate::support::swapped;

const MODEL: &str = "tells_its_build";
const FILE: &str = "libtells_its_build.so";

#[test]
fn a_reload_makes_a_generation_even_of_the_same() {
    let server = setup("tells-its-build", "").start();
    let before = server.serving(MODEL);
    let generation = server.swap(MODEL);
    assert_eq!(generation["generation"].as_u64().unwrap(), server.serving(MODEL));
    assert!(server.serving(MODEL) > before);
    assert_eq!(generation["trigger"], "reload");
    for step in ["copy", "check", "trial", "open", "start", "publish"] {
        assert!(generation["milliseconds"][step].is_f64(), "{step}: {generation:#}");
    }
    let library = &generation["library"];
    assert!(library["path"].as_str().unwrap().ends_with(FILE), "{generation:#}");
    assert_eq!((library["handler"].as_str(), library["digest"].as_str().unwrap().len()), (Some(MODEL), 64));
    let old = server.retired(MODEL, before);
    assert_eq!(old["library"]["digest"], library["digest"]);
    assert_eq!(old["trigger"], "startup");
    assert!(old["milliseconds"]["drain"].is_f64() && old["milliseconds"]["close"].is_f64(), "{old:#}");

    // By version, too, and not where there is none of that name.
    let version = format!("/models/{MODEL}/1.0");
    assert_eq!(server.management(&format!("{version}/reload"), &Sent::body("")).status, 200);
    assert_eq!(server.management(&format!("{version}/generations"), &Sent::get()).json().as_array().unwrap().len(), 3);
    assert_eq!(server.predict(MODEL, "").body, mark_of(0));
    server.management("/models/nobody/reload", &Sent::body("")).error(404, "ModelNotFoundException");
    let other = server.management(&format!("/models/{MODEL}/2.0/reload"), &Sent::body(""));
    other.error(404, "ModelVersionNotFoundException");
}

#[test]
fn two_who_ask_at_once_are_served_one_after_the_other() {
    let server = setup("tells-its-build", "").start();
    let before = server.serving(MODEL);
    let mut made: Vec<u64> = std::thread::scope(|scope| {
        let asking: Vec<_> =
            (0..6).map(|_| scope.spawn(|| server.swap(MODEL)["generation"].as_u64().unwrap())).collect();
        asking.into_iter().map(|one| one.join().unwrap()).collect()
    });
    made.sort_unstable();
    made.dedup();
    assert_eq!(made.len(), 6, "each has made a generation of its own: {made:?}");
    assert_eq!(server.serving(MODEL), made[5]);
    for number in std::iter::once(before).chain(made[..5].iter().copied()) {
        server.retired(MODEL, number);
    }
}

#[test]
fn an_archive_and_a_library_that_change_together_are_both_taken_up() {
    let server = setup("tells-its-build", "").property("sconce_watch", "true").start();
    let library = fixture("tells-its-build");
    for round in 1..11 {
        Archive::new(MODEL, MODEL).config(&format!("batchSize: {}\n", round + 1)).pack(&server.store());
        server.put_library(FILE, &build_of(&library, round));
        // Whichever is seen first, neither brings the other's past back.
        eventually("both to be served", || {
            let batch = server.describe(MODEL)["batchSize"] == round + 1;
            (batch && server.predict(MODEL, "").body == mark_of(round)).then_some(())
        });
    }
}

#[test]
fn an_archive_s_new_settings_are_taken_up() {
    let server = setup("tells-its-build", "batchSize: 2\nminWorkers: 1\nmaxWorkers: 1\n").start();
    let package = server.generations(MODEL)[0]["package"].clone();
    let config = "batchSize: 8\nmaxBatchDelay: 7\nminWorkers: 3\nmaxWorkers: 3\njobQueueSize: 55\n";
    Archive::new(MODEL, MODEL).config(config).pack(&server.store());
    let generation = server.swap(MODEL);
    assert_ne!(generation["package"], package);
    let description = server.describe(MODEL);
    let number = |name: &str| description[name].as_u64().unwrap();
    assert_eq!(["batchSize", "maxBatchDelay", "minWorkers", "maxWorkers"].map(number), [8, 7, 3, 3], "{description:#}");
    assert_eq!(description["workers"].as_array().unwrap().len(), 3);
    assert_eq!(description["jobQueueStatus"]["remainingCapacity"], 55);
    assert_eq!(server.predict(MODEL, "x").body, [&mark_of(0)[..], b"x"].concat());

    // The settings go back with the rest.
    swapped(&server.roll_back(MODEL));
    assert_eq!(server.describe(MODEL)["batchSize"], 2);
    assert_eq!(server.describe(MODEL)["workers"].as_array().unwrap().len(), 1);
}

#[test]
fn what_was_never_served_is_brought_to_life() {
    const BREAKS: &str = "breaks_by_build";
    let setup = setup("breaks-by-build", "");
    let library = fixture("breaks-by-build");
    put(&setup.plugins().join("libbreaks_by_build.so"), &build_of(&library, 5));
    let server = setup.start();
    says(&server.failure(BREAKS), &["vocabulary.txt is not in the archive"]);
    server.predict(BREAKS, "").error(503, "ServiceUnavailableException");
    // Still the same.
    says(&server.reload(BREAKS).error(409, "SwapRefusedException"), &["vocabulary.txt is not in the archive"]);
    says(&server.failure(BREAKS), &["vocabulary.txt is not in the archive"]);
    server.predict(BREAKS, "").error(503, "ServiceUnavailableException");

    server.put_library("libbreaks_by_build.so", &build_of(&library, 1));
    server.swap(BREAKS);
    assert_eq!(server.predict(BREAKS, "").body, mark_of(1));
    let description = server.describe(BREAKS);
    assert_eq!(description["status"], "READY");
    assert!(description["error"].is_null() && description["refused"].is_null(), "{description:#}");
    server.roll_back(BREAKS).error(409, "NoGenerationBeforeException");
    eventually("the refused ones to be gone", || (server.metric("sconce_libraries_mapped", &[]) == 2).then_some(()));
}
