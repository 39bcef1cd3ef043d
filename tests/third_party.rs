//! Plugins as strangers build them: another folder, lock file, edition and optimisation level.

use crate::support::Archive;
use crate::support::Sent;
use crate::support::Setup;
use crate::support::fixture;
use crate::support::says;

#[test]
fn a_stranger_s_plugin_uses_all_that_the_host_offers() {
    let server = Setup::with_echo()
        .plugin(&fixture("third-party"))
        .model(&Archive::new("loud", "shouter").config("handler:\n  ending: \"?!\"\n"))
        .start();
    let answer = server.predict("loud", "hello");
    assert_eq!(answer.ok(), "HELLO?!", "the ending comes from model-config.yaml");
    assert_eq!(answer.header("x-loudness"), Some("11"));
    assert_eq!(answer.header("content-type"), None);

    let answer = server.send("loud", &Sent::body("tea").header("X-Wanted-Status", "418"));
    assert_eq!((answer.status, answer.text().as_str()), (418, "TEA?!"), "the body stays the handler's own");
    assert_eq!(answer.header("content-type"), Some("text/x-shout"));

    let message = server.predict("loud", b"\xff").error(400, "BadRequestException");
    says(&message, &["field `body` is not UTF-8 text"]);
    let message =
        server.send("loud", &Sent::body("x").header("x-wanted-status", "many")).error(503, "InternalServerException");
    assert_eq!(message, "Prediction failed");
    server.logged(&["WARN", "model=loud", "invalid digit found in string"]);

    server.logged(&["WARN", "handler", "model=loud", "shouting \"hello\" for loud"]);
    let metrics = server.metrics().ok();
    let metric = metrics.lines().find(|line| line.starts_with("shouted_letters") && line.contains("loud"));
    // hello, tea, and the x whose answer failed.
    assert!(metric.is_some_and(|line| line.ends_with(" 9")), "{metrics}");
}

#[test]
fn one_library_may_have_several_handlers() {
    let server = Setup::with_echo()
        .plugin(&fixture("two-handlers"))
        .model(&Archive::new("one", "says_one"))
        .model(&Archive::new("two", "the_other"))
        .start();
    assert_eq!(server.predict("one", "").ok(), "one");
    assert_eq!(server.predict("two", "").ok(), "two");
}

#[cfg(feature = "torch")]
#[test]
fn a_plugin_with_libtorch_in_it_is_served() {
    let server =
        Setup::with_echo().plugin(&fixture("torch-tensors")).model(&Archive::new("doubles", "torch_tensors")).start();
    let answer = server.predict("doubles", "[[1, 2.5], [3, -4]]");
    answer.ok();
    assert_eq!(answer.json(), serde_json::json!([[2.0, 5.0], [6.0, -8.0]]));
    says(&server.predict("doubles", "[[1], [2, 3]]").error(400, "BadRequestException"), &["unequal lengths"]);
    server.still_serves();
}
