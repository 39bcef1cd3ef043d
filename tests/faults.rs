//! Each way in which a plugin can be wrong: what is said of it, and that the others are served.

use std::fs;

use crate::support::Archive;
use crate::support::Sent;
use crate::support::Server;
use crate::support::Setup;
use crate::support::eventually;
use crate::support::fixture;
use crate::support::says;

/// Fixtures that never come to serve, with what is said of them: what is wrong, and what to do.
const NEVER_SERVED: [(&str, &[&str]); 16] = [
    (
        "not-a-plugin",
        &[
            "no library in",
            "has a handler named \"not_a_plugin\"",
            "libnot_a_plugin.so is a shared library and not a Sconce plugin",
            "call handler_sdk::export_handler! in it once",
        ],
    ),
    ("no-symbol", &["lacks the symbol", "build it again as a cdylib"]),
    ("wrong-abi", &["built with handler-sdk 2.0.0 for ABI 2.0", "this host has ABI 1.", "update the host"]),
    (
        "newer-sdk",
        &[
            "built with handler-sdk 1.99.0 for ABI 1.99",
            "this host has ABI 1.",
            "or build the plugin with a handler-sdk of ABI 1.",
        ],
    ),
    ("wrong-layout", &["has functions of another shape than this host's", "build it against handler-sdk 1."]),
    ("aborting", &["panic = \"abort\"", "remove that line from the profile in its Cargo.toml"]),
    (
        "fails-in-initialize",
        &["initialize failed: vocabulary.txt is not in the archive", "mend the handler", "sconce check"],
    ),
    ("panics-in-initialize", &["initialize failed: panicked: no time for this", "sconce check"]),
    (
        "segfaults-in-initialize",
        &["was killed by signal 11 (segmentation fault) in initialize", "the server itself is unharmed"],
    ),
    (
        "segfaults-at-load",
        &["was killed by signal 11 (segmentation fault) in opening the library", "the server itself is unharmed"],
    ),
    (
        "cant-open-twice",
        &[
            "was killed by signal 6 (abort) in opening it a second time (as a swap does)",
            "the server itself is unharmed",
        ],
    ),
    ("kills-itself", &["was killed by signal 9", "in initialize", "the server itself is unharmed"]),
    ("loops-in-initialize", &["initialize took longer than 2s and was stopped", "raise startupTimeout"]),
    ("prints-for-ever", &["initialize took longer than 2s and was stopped", "raise startupTimeout"]),
    ("fails-self-test", &["self_test failed: two and two gave five", "sconce check"]),
    ("no-such-plugin", &["no library in", "has a handler named \"no_such_plugin\"", "libecho.so has echo"]),
];

#[test]
fn what_cant_be_served_says_why_and_the_others_are_served() {
    let mut setup = Setup::with_echo();
    for (package, _) in NEVER_SERVED {
        let handler = package.replace('-', "_");
        // Far more than all but two need: a slow machine must not change what is said.
        let seconds = if ["loops-in-initialize", "prints-for-ever"].contains(&package) { 2 } else { 100 };
        if package != "no-such-plugin" {
            setup = setup.plugin(&fixture(package));
        }
        setup = setup.model(&Archive::new(&handler, &handler).config(&format!("startupTimeout: {seconds}\n")));
    }
    let server = setup.start();
    server.still_serves();
    for (package, parts) in NEVER_SERVED {
        let name = package.replace('-', "_");
        let why = server.failure(&name);
        says(&why, parts);
        if package != "no-such-plugin" {
            says(&why, &[&format!("lib{name}.so")]);
        }
        // The operator reads the same in the log, with the model's name.
        let line = server.logged(&["ERROR", "model not served", &format!("model={name} ")]);
        says(&line.replace("\\\"", "\""), &parts[..1]);
        // Clients are told that there is nobody, and where to look.
        let message = server.predict(&name, "x").error(503, "ServiceUnavailableException");
        says(&message, &[&format!("Model \"{name}\" has no worker"), "Describe the model"]);
    }
    server.still_serves();
}

#[test]
fn a_file_that_is_no_library_hinders_no_other() {
    let setup = Setup::with_echo();
    let whole = fs::read(fixture("panics")).unwrap();
    fs::write(setup.plugins().join("libcut.so"), &whole[..whole.len() / 2]).unwrap();
    fs::write(setup.plugins().join("libempty.so"), "").unwrap();
    fs::write(setup.plugins().join("libtext.so"), "this is no library").unwrap();
    let server = setup.model(&Archive::new("panics", "panics")).start();
    let why = server.failure("panics");
    says(&why, &["libcut.so is a library that is damaged or cut short", "build or copy it again"]);
    for name in ["libempty.so", "libtext.so"] {
        says(&why, &[&format!("{name} is not a shared library for Linux")]);
    }
    server.still_serves();
}

#[test]
fn one_name_in_two_libraries_is_refused_with_both() {
    let setup = Setup::with_echo().plugin(&fixture("panics"));
    fs::copy(fixture("panics"), setup.plugins().join("libpanics_copy.so")).unwrap();
    let server = setup.model(&Archive::new("panics", "panics")).start();
    says(
        &server.failure("panics"),
        &["handler \"panics\" is in two libraries", "libpanics.so", "libpanics_copy.so", "remove one of them"],
    );
    server.still_serves();
}

fn with(package: &str, config: &str) -> Server {
    let handler = package.replace('-', "_");
    Setup::with_echo().plugin(&fixture(package)).model(&Archive::new(&handler, &handler).config(config)).start()
}

#[test]
fn a_panic_fails_its_request_and_no_other() {
    let server = with("panics", "");
    for round in 0..3 {
        let message = server.predict("panics", "panic").error(503, "InternalServerException");
        assert_eq!(message, "Prediction failed", "the handler's own words are for the log");
        assert_eq!(server.predict("panics", format!("round {round}")).ok(), format!("round {round}"));
    }
    let line = server.logged(&["ERROR", "model=panics", "the handler panicked", "a fresh object takes its place"]);
    says(&line, &["this body is too much for me"]);
    assert_eq!(server.describe("panics")["workers"].as_array().unwrap().len(), 1);
    server.still_serves();
}

#[test]
fn too_few_answers_fail_the_call_with_both_numbers() {
    let server = with("too-few-answers", "");
    for _ in 0..2 {
        let message = server.predict("too_few_answers", "x").error(503, "InternalServerException");
        assert_eq!(message, "number of batch response mismatched");
    }
    server.logged(&["ERROR", "model=too_few_answers", "0 responses for a batch of 1"]);
    server.still_serves();
}

#[test]
fn a_call_past_the_response_timeout_is_answered_and_its_worker_replaced() {
    let server = with("sleeps", "responseTimeout: 1\n");
    let message = server.predict("sleeps", "sleep").error(500, "InternalServerException");
    says(&message, &["Worker died.", "longer than responseTimeout (1 s)"]);
    server.logged(&["ERROR", "model=sleeps", "another worker takes its place"]);
    // The first call still sleeps; the new worker answers.
    assert_eq!(server.predict("sleeps", "awake").ok(), "awake");
    server.still_serves();
}

#[test]
fn a_version_that_never_comes_to_serve_isn_t_the_default_one_for_long() {
    let setup = Setup::with_echo().plugin(&fixture("loops-in-initialize")).property("enable_model_api", "true");
    let loops = Archive::new("model", "loops_in_initialize").file("loops.mar");
    let server = setup
        .model(&loops)
        .model(&Archive::new("model", "echo").version("2.0").file("good.mar"))
        .models("none")
        .start();
    let register = |url: &str| {
        server.management(&format!("/models?url={url}&initial_workers=1&startup_timeout=2"), &Sent::body(""))
    };
    std::thread::scope(|scope| {
        let first = scope.spawn(|| register("loops.mar"));
        eventually("the first version", || {
            (server.management("/models/model", &Sent::get()).status == 200).then_some(())
        });
        assert_eq!(register("good.mar").status, 200);
        first.join().unwrap().error(500, "InternalServerException");
    });
    assert_eq!(server.predict("model", "x").ok(), "x");
    assert_eq!(server.management("/models/model/all", &Sent::get()).json().as_array().unwrap().len(), 1);
}
