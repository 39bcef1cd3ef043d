//! The management API: models are registered, scaled, described, made the default and unregistered while the server serves.

mod scale;

use serde_json::Value;

use crate::support::Answer;
use crate::support::Archive;
use crate::support::Sent;
use crate::support::Server;
use crate::support::Setup;
use crate::support::eventually;
use crate::support::first_party;
use crate::support::fixture;
use crate::support::says;

/// A server that serves nothing yet and lets clients register: with the plugins of the echo and of `waits`.
fn setup() -> Setup {
    Setup::new()
        .plugin(&first_party("echo"))
        .plugin(&fixture("waits"))
        .property("enable_model_api", "true")
        .models("none")
}

fn ask(server: &Server, method: &str, path: &str) -> Answer {
    server.management(path, &Sent::body("").method(method))
}

#[track_caller]
fn status(answer: &Answer, code: u16) -> String {
    assert_eq!(answer.status, code, "{}", answer.text());
    answer.json()["status"].as_str().unwrap().to_owned()
}

fn workers(server: &Server, model: &str) -> usize {
    server.describe(model)["workers"].as_array().unwrap().len()
}

#[test]
fn a_model_lives_from_register_to_unregister() {
    let server = setup().model(&Archive::new("echo", "echo")).start();
    server.predict("echo", "x").error(404, "ModelNotFoundException");

    let registered = ask(&server, "POST", "/models?url=echo.mar");
    let expected = "Model \"echo\" Version: 1.0 registered with 1 initial workers";
    assert_eq!(status(&registered, 200), expected);
    assert_eq!(server.predict("echo", "one").ok(), "one");
    let description = server.describe("echo");
    assert_eq!((&description["minWorkers"], &description["maxWorkers"]), (&Value::from(1), &Value::from(1)));
    assert_eq!(description["loadedAtStartup"], false);

    let again = ask(&server, "POST", "/models?url=echo.mar").error(409, "ConflictStatusException");
    assert_eq!(again, "Model version 1.0 is already registered for model echo");

    let scaled = ask(&server, "PUT", "/models/echo?min_worker=3&synchronous=true");
    assert_eq!(status(&scaled, 200), "Workers scaled to 3 for model: echo");
    assert_eq!(workers(&server, "echo"), 3);
    let scaled = ask(&server, "PUT", "/models/echo/1.0?min_worker=1&max_worker=2&synchronous=true");
    assert_eq!(status(&scaled, 200), "Workers scaled to 1 for model: echo, version: 1.0");
    assert_eq!(workers(&server, "echo"), 2);
    assert_eq!(server.predict("echo", "two").ok(), "two");

    says(&server.metrics().ok(), &["model_name=\"echo\"", "W-9000-echo_1.0"]);
    assert_eq!(status(&ask(&server, "DELETE", "/models/echo"), 200), "Model \"echo\" unregistered");
    let metrics = server.metrics().ok();
    assert!(!metrics.contains("\"echo\"") && !metrics.contains("echo_1.0"), "{metrics}");
    server.predict("echo", "three").error(404, "ModelNotFoundException");
    let gone = ask(&server, "DELETE", "/models/echo").error(404, "ModelNotFoundException");
    assert_eq!(gone, "Model not found: echo");
    assert_eq!(status(&ask(&server, "POST", "/models?url=echo.mar"), 200), expected);
    assert_eq!(server.predict("echo", "four").ok(), "four");
}

#[test]
fn a_registration_says_what_it_wants_and_wins() {
    let yaml = "minWorkers: 2\nmaxWorkers: 2\nbatchSize: 8\nmaxBatchDelay: 7\nresponseTimeout: 9\n";
    let server = setup()
        .model(&Archive::new("echo", "nobody-has-this").config(yaml))
        .model(&Archive::new("plain", "echo"))
        .start();
    let asked = "url=echo.mar&model_name=other&handler=echo.py:handle&runtime=python3&batch_size=4&max_batch_delay=5&initial_workers=1&response_timeout=30&startup_timeout=40";
    let answer = ask(&server, "POST", &format!("/models?{asked}"));
    assert_eq!(status(&answer, 200), "Model \"other\" Version: 1.0 registered with 1 initial workers");
    let told = |model: &str| {
        let description = server.describe(model);
        let number = |key: &str| description[key].as_u64().unwrap();
        (
            [number("batchSize"), number("maxBatchDelay"), number("minWorkers"), number("maxWorkers")],
            [number("responseTimeout"), number("startupTimeout")],
            description["runtime"].as_str().unwrap().to_owned(),
        )
    };
    assert_eq!(told("other"), ([4, 5, 1, 1], [30, 40], "python3".to_owned()));
    assert_eq!(server.describe("other")["modelUrl"], "echo.mar");
    // What was asked for outlives a swap.
    assert_eq!(ask(&server, "POST", "/models/other/reload").status, 200);
    assert_eq!(told("other"), ([4, 5, 1, 1], [30, 40], "python3".to_owned()));
    assert_eq!(server.predict("other", "x").ok(), "x");

    // The same in a JSON body; what isn't said the archive says.
    let body = r#"{"url": "echo.mar", "model_name": "third", "handler": "echo", "batch_size": 3}"#;
    let answer = server.management("/models", &Sent::body(body).content_type("application/json"));
    assert_eq!(status(&answer, 200), "Model \"third\" Version: 1.0 registered with 2 initial workers");
    assert_eq!(told("third"), ([3, 7, 2, 2], [9, 120], "python".to_owned()));

    // What isn't a number counts as not given.
    let answer = ask(&server, "POST", "/models?url=plain.mar&batch_size=dd&initial_workers=0");
    assert_eq!(
        status(&answer, 200),
        "Model \"plain\" Version: 1.0 registered with 0 initial workers. Use scale workers API to add workers for the model."
    );
    assert_eq!(told("plain"), ([1, 100, 0, 0], [120, 120], "python".to_owned()));
}

#[test]
fn several_versions_live_side_by_side() {
    let server = setup()
        .model(&Archive::new("m", "echo").version("1.0").file("one.mar"))
        .model(&Archive::new("m", "request_teller").version("2.0").file("two.mar"))
        .plugin(&fixture("request-teller"))
        .start();
    for (url, version) in [("one.mar", "1.0"), ("two.mar", "2.0")] {
        let expected = format!("Model \"m\" Version: {version} registered with 1 initial workers");
        assert_eq!(status(&ask(&server, "POST", &format!("/models?url={url}")), 200), expected);
    }
    let default = || server.describe("m")["modelVersion"].as_str().unwrap().to_owned();
    assert_eq!(default(), "1.0");
    assert_eq!(server.predict("m", "x").ok(), "x");
    assert_ne!(server.predict("m/2.0", "x").ok(), "x");
    let all = ask(&server, "GET", "/models/m/all").json();
    assert_eq!(all.as_array().unwrap().len(), 2);

    let refused = ask(&server, "DELETE", "/models/m").error(403, "InvalidModelVersionException");
    assert_eq!(refused, "Cannot remove default version for model m");
    ask(&server, "DELETE", "/models/m/1.0").error(403, "InvalidModelVersionException");
    let unknown = ask(&server, "DELETE", "/models/m/3.0").error(404, "ModelVersionNotFoundException");
    assert_eq!(unknown, "Model version: 3.0 does not exist for model: m");

    let set = ask(&server, "PUT", "/models/m/2.0/set-default");
    assert_eq!(status(&set, 200), "Default version successfully updated for model \"m\" to \"2.0\"");
    assert_eq!(default(), "2.0");
    assert_ne!(server.predict("m", "x").ok(), "x");
    let unknown = ask(&server, "PUT", "/models/m/3.0/set-default").error(404, "ModelVersionNotFoundException");
    assert_eq!(unknown, "Model version 3.0 does not exist for model m");
    let unknown = ask(&server, "PUT", "/models/n/3.0/set-default").error(404, "ModelNotFoundException");
    assert_eq!(unknown, "Model not found: n");

    assert_eq!(ask(&server, "DELETE", "/models/m/1.0").status, 200);
    assert_eq!(ask(&server, "DELETE", "/models/m").status, 200);
    ask(&server, "GET", "/models/m").error(404, "ModelNotFoundException");
}

#[test]
fn what_can_t_be_registered_is_said() {
    let server = setup()
        .model(&Archive::new("echo", "echo"))
        .model(&Archive::new("lost", "nobody-has-this"))
        .model(&Archive::new("broken", "fails_in_initialize"))
        .plugin(&fixture("fails-in-initialize"))
        .start();
    for (path, code, kind, part) in [
        ("/models", 400, "BadRequestException", "Parameter url is required."),
        ("/models?url=", 404, "ModelNotFoundException", "empty url"),
        ("/models?url=../echo.mar", 404, "ModelNotFoundException", "Relative path is not allowed in url: ../echo.mar"),
        ("/models?url=none.mar", 404, "ModelNotFoundException", "Model not found at: none.mar"),
        ("/models?url=echo.mar&runtime=JAVA", 400, "BadRequestException", "Invalid RuntimeType value: JAVA"),
        ("/models?url=echo.mar&initial_workers=1025", 400, "BadRequestException", "cannot have more than 1024 workers"),
        ("/models?url=lost.mar", 500, "InternalServerException", "Failed to start workers for model lost version: 1.0"),
        ("/models?url=broken.mar", 500, "InternalServerException", "Failed to start workers for model broken"),
        ("/models?url=echo.mar&s3_sse_kms=true", 400, "BadRequestException", "s3_sse_kms is not supported"),
    ] {
        let message = ask(&server, "POST", path).error(code, kind);
        says(&message, &[part]);
    }
    let malformed = server.management("/models", &Sent::body("{").content_type("application/json"));
    says(&malformed.error(400, "BadRequestException"), &["not well-formed JSON"]);
    // Nothing of it stays.
    assert_eq!(ask(&server, "GET", "/models").json()["models"], serde_json::json!([]));

    // In the background it stays, and says why it isn't served.
    let answer = ask(&server, "POST", "/models?url=broken.mar&synchronous=false");
    assert_eq!(status(&answer, 202), "Processing worker updates...");
    eventually("the failure", || (server.describe("broken")["status"] == "FAILED").then_some(()));
    let failed = ask(&server, "PUT", "/models/broken?synchronous=true").error(500, "InternalServerException");
    says(&failed, &["Failed to start workers for model broken version: null"]);
    for (path, code, kind, part) in [
        ("/models/none", 404, "ModelNotFoundException", "Model not found: none"),
        ("/models/broken/9", 404, "ModelVersionNotFoundException", "Model version: 9 does not exist for model: broken"),
        ("/models/broken?model_version=9", 404, "ModelVersionNotFoundException", "Model version: 9"),
        (
            "/models/broken?min_worker=2&max_worker=1",
            400,
            "BadRequestException",
            "max_worker cannot be less than min_worker.",
        ),
        ("/models/broken?min_worker=1025", 400, "BadRequestException", "cannot have more than 1024 workers"),
        ("/models/broken?min_worker=-1", 400, "BadRequestException", "cannot be less than 0"),
    ] {
        let message = ask(&server, "PUT", path).error(code, kind);
        says(&message, &[part]);
    }
}

#[test]
fn without_leave_nothing_is_registered_or_unregistered() {
    let server = Setup::with_echo().start();
    for (method, path) in [("POST", "/models?url=echo.mar"), ("DELETE", "/models/echo"), ("DELETE", "/models/echo/1.0")]
    {
        ask(&server, method, path).error(405, "MethodNotAllowedException");
    }
    // The rest is allowed.
    assert_eq!(ask(&server, "PUT", "/models/echo?min_worker=2&synchronous=true").status, 200);
    assert_eq!(ask(&server, "PUT", "/models/echo/1.0/set-default").status, 200);
    server.still_serves();
}

#[test]
fn an_archive_is_fetched_and_goes_with_its_model() {
    let elsewhere = tempfile::tempdir().unwrap();
    let archive = Archive::new("echo", "echo").file("far.mar").pack(elsewhere.path());
    let url = format!("file://{}", archive.display());
    // Whoever serves all of the store must not take it for an archive that was put there.
    let server = setup().models("all").start();
    let register = format!("/models?url={url}");
    assert_eq!(ask(&server, "POST", &register).status, 200);
    assert_eq!(server.predict("echo", "x").ok(), "x");
    assert_eq!(server.describe("echo")["modelUrl"], url.as_str());
    assert!(server.store().join("far.mar").is_file());
    let message = ask(&server, "POST", &register).error(500, "InternalServerException");
    says(&message, &["Model file already exists far.mar"]);
    assert_eq!(ask(&server, "DELETE", "/models/echo").status, 200);
    eventually("the fetched file to go", || (!server.store().join("far.mar").exists()).then_some(()));
    for (url, code, kind, part) in [
        (
            format!("file://{}/none.mar", elsewhere.path().display()),
            400,
            "DownloadArchiveException",
            "Failed to download archive from",
        ),
        ("ftp://localhost/x.mar".to_owned(), 404, "ModelNotFoundException", ""),
    ] {
        says(&ask(&server, "POST", &format!("/models?url={url}")).error(code, kind), &[part]);
    }
    let strict = setup().property("allowed_urls", "https://models.example/.*").start();
    let message = ask(&strict, "POST", &register).error(404, "ModelNotFoundException");
    assert_eq!(message, format!("Given URL {url} does not match any allowed URL(s)"));
}

#[test]
fn a_handler_s_own_words_come_when_they_are_asked_for() {
    let explains = Archive::new("explains", "explains").config("describe:\n  labels: 10\n");
    let server = setup().plugin(&fixture("explains")).model(&explains).model(&Archive::new("echo", "echo")).start();
    for url in ["explains.mar", "echo.mar"] {
        assert_eq!(ask(&server, "POST", &format!("/models?url={url}")).status, 200);
    }
    let words = |path: &str| ask(&server, "GET", path).json()[0].get("customizedMetadata").cloned();
    assert_eq!(words("/models/explains?customized=true"), Some(serde_json::json!({"labels": 10})));
    for path in [
        "/models/explains",
        "/models/explains?customized=yes",
        "/models/explains/all?customized=true",
        "/models/echo?customized=true",
    ] {
        assert_eq!(words(path), None, "{path}");
    }
    assert_eq!(ask(&server, "PUT", "/models/explains?min_worker=0&synchronous=true").status, 200);
    let message = ask(&server, "GET", "/models/explains?customized=true").error(503, "ServiceUnavailableException");
    let expected =
        "Model \"explains\" has no worker to serve describe request. Please use scale workers API to add workers.";
    assert_eq!(message, expected);
}

#[test]
fn models_are_listed_page_by_page() {
    let server = setup().model(&Archive::new("echo", "echo")).start();
    for number in 0..5 {
        assert_eq!(
            ask(&server, "POST", &format!("/models?url=echo.mar&model_name=m{number}&initial_workers=0")).status,
            200
        );
    }
    let page = |query: &str| {
        let list = ask(&server, "GET", &format!("/models{query}")).json();
        let names =
            list["models"].as_array().unwrap().iter().map(|model| model["modelName"].as_str().unwrap().to_owned());
        (names.collect::<Vec<_>>().join(" "), list.get("nextPageToken").map(|token| token.as_str().unwrap().to_owned()))
    };
    let token = |text: &str| Some(text.to_owned());
    for (query, names, next) in [
        ("", "m0 m1 m2 m3 m4", None),
        ("?limit=2", "m0 m1", token("2")),
        ("?limit=2&next_page_token=2", "m2 m3", token("4")),
        ("?limit=2&next_page_token=4", "m4", None),
        // Where the last page is full there is no empty one after it.
        ("?limit=5", "m0 m1 m2 m3 m4", None),
        ("?limit=0", "", token("0")),
        ("?limit=1000", "m0 m1 m2 m3 m4", None),
        ("?limit=-1&next_page_token=-3", "m0 m1 m2 m3 m4", None),
        ("?next_page_token=9", "", None),
        ("?limit=x", "m0 m1 m2 m3 m4", None),
    ] {
        assert_eq!(page(query), (names.to_owned(), next), "{query}");
    }
}
