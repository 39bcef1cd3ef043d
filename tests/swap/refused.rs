//! Builds that can't serve: the one before goes on, the reason is shown, and nothing is left behind.

use std::fs;

use super::setup;
use crate::support::Archive;
use crate::support::Server;
use crate::support::build_of;
use crate::support::fixture;
use crate::support::mark_of;
use crate::support::says;
use crate::support::with_bytes;

const MODEL: &str = "breaks_by_build";
const FILE: &str = "libbreaks_by_build.so";

/// Asserts that a reload is refused for these reasons, that everybody is told, and that build 0 goes on serving.
#[track_caller]
fn is_refused(server: &Server, parts: &[&str]) {
    let (before, serving) = (server.generations(MODEL)[0]["generation"].as_u64().unwrap(), server.serving(MODEL));
    let counted = server.metric("sconce_swaps_total", &["outcome=\"refused\""]);
    let copies = server.copies();
    let message = server.reload(MODEL).error(409, "SwapRefusedException");
    says(&message, parts);
    assert_eq!(server.predict(MODEL, "").body, mark_of(0));

    let refused = &server.generations(MODEL)[0];
    assert_eq!((refused["state"].as_str(), refused["trigger"].as_str()), (Some("refused"), Some("reload")));
    let number = refused["generation"].as_u64().unwrap();
    assert!(number > before, "{refused:#}");
    let reason = refused["reason"].as_str().unwrap();
    assert_eq!(message, format!("generation {number} is refused: {reason}"));
    assert_eq!(refused["requests"], 0);

    let description = server.describe(MODEL);
    assert_eq!((description["status"].as_str(), description["generation"].as_u64()), (Some("READY"), Some(serving)));
    assert_eq!(description["refused"]["generation"], number);
    assert_eq!(description["refused"]["reason"], reason);
    let line = server.logged(&["ERROR", "swap refused", &format!("generation={number} ")]);
    says(&line, &[&format!("model={MODEL} "), &format!("still_serving={serving}")]);
    says(&line.replace("\\\"", "\""), parts);
    let now = server.metric("sconce_swaps_total", &["outcome=\"refused\""]);
    assert_eq!(now - counted, 1);
    server.comes_to_rest();
    // The one that serves and `echo`.
    server.maps_libraries(2);
    assert_eq!(server.copies(), copies);
}

#[test]
fn whatever_is_wrong_the_one_before_serves_on() {
    let server = setup("breaks-by-build", "startupTimeout: 100\n").start();
    let library = fixture("breaks-by-build");
    let good = fs::read(&library).unwrap();
    let unharmed = "the server itself is unharmed";
    let damaged = "is a library that is damaged or cut short";
    let no_library = "no library in";
    let cases: [(Vec<u8>, &[&str]); 11] = [
        (build_of(&library, 2), &["was killed by signal 11 (segmentation fault) in initialize", unharmed]),
        (build_of(&library, 3), &["was killed by signal 6", "in initialize", unharmed]),
        (build_of(&library, 5), &["initialize failed: vocabulary.txt is not in the archive", "mend the handler"]),
        (build_of(&library, 6), &["self_test failed: two and two gave five", "sconce check"]),
        // A copy that lacks its last bytes, and a file that is half written.
        (good[..good.len() - 100].to_vec(), &[no_library, FILE, damaged, "build or copy it again"]),
        (good[..good.len() / 2].to_vec(), &[no_library, FILE, damaged, "build or copy it again"]),
        (Vec::new(), &[no_library, FILE, "is not a shared library for Linux"]),
        (b"int main() {}\n".to_vec(), &[no_library, FILE, "is not a shared library for Linux"]),
        (with_bytes(&good, b"\npanic=unwind", b" \npanic=abort"), &[FILE, "panic = \"abort\"", "remove that line"]),
        (
            with_bytes(&good, b"sconce handler library\nabi=1.", b"sconce handler library\nabi=2."),
            &[FILE, "for ABI 2.", "this host has ABI 1.", "update the host"],
        ),
        (fs::read(fixture("panics")).unwrap(), &[no_library, "has a handler named \"breaks_by_build\"", "has panics"]),
    ];
    for (content, parts) in cases {
        server.put_library(FILE, &content);
        is_refused(&server, parts);
    }
    // Written over where it lies: the server has mapped a copy of its own.
    server.put_library(FILE, &good);
    let before = server.serving(MODEL);
    server.swap(MODEL);
    server.retired(MODEL, before);
    fs::write(server.plugins().join(FILE), &good[..good.len() / 2]).unwrap();
    is_refused(&server, &[no_library, FILE, damaged]);
    // A file that is gone is no reason to stop serving either.
    fs::remove_file(server.plugins().join(FILE)).unwrap();
    is_refused(&server, &[no_library, "libecho.so has echo"]);
    server.put_library(FILE, &build_of(&library, 1));
    server.swap(MODEL);
    assert_eq!(server.predict(MODEL, "").body, mark_of(1));
    assert!(server.describe(MODEL)["refused"].is_null(), "what is past is in the list of generations");
    server.still_serves();
}

#[test]
fn a_build_that_hangs_is_stopped() {
    let server = setup("breaks-by-build", "startupTimeout: 100\n").start();
    server.put_library(FILE, &build_of(&fixture("breaks-by-build"), 4));
    Archive::new(MODEL, MODEL).config("startupTimeout: 2\n").pack(&server.store());
    is_refused(&server, &["initialize took longer than 2s and was stopped", "raise startupTimeout"]);
    assert_eq!(server.describe(MODEL)["startupTimeout"], 100, "the archive's settings are refused with it");
    server.still_serves();
}

#[test]
fn an_archive_that_cant_be_opened_or_is_another_version_is_refused() {
    let server = setup("breaks-by-build", "").start();
    let archive = server.store().join("breaks_by_build.mar");
    let whole = fs::read(&archive).unwrap();
    fs::write(&archive, &whole[..whole.len() / 2]).unwrap();
    is_refused(&server, &["breaks_by_build.mar"]);
    Archive::new(MODEL, MODEL).version("2.0").pack(&server.store());
    is_refused(&server, &["breaks_by_build.mar holds version 2.0 now, and version 1.0 is served"]);
}

#[test]
fn good_and_bad_in_turns_serve_what_is_good() {
    let server = setup("breaks-by-build", "").start();
    let library = fixture("breaks-by-build");
    let [good, bad] = [0, 5].map(|number| build_of(&library, number));
    for _ in 0..20 {
        server.put_library(FILE, &bad);
        is_refused(&server, &["vocabulary.txt is not in the archive"]);
        server.put_library(FILE, &good);
        server.swap(MODEL);
        assert_eq!(server.predict(MODEL, "").body, mark_of(0));
    }
    server.comes_to_rest();
    server.maps_libraries(2);
    server.still_serves();
}
