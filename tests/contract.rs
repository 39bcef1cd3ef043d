//! The small print of TorchServe's contract: the form of answers, the order of fields, how parameters are read, what a connection does.

use std::fs;
use std::io::Read;
use std::io::Write;
use std::net::TcpStream;
use std::thread;

use serde_json::Value;
use serde_json::json;
use time::OffsetDateTime;
use time::macros::format_description;

use crate::support::Answer;
use crate::support::Archive;
use crate::support::Gate;
use crate::support::Sent;
use crate::support::Server;
use crate::support::Setup;
use crate::support::eventually;
use crate::support::first_party;
use crate::support::fixture;
use crate::support::patience;

/// Serves nothing yet, and lets clients register.
fn open() -> Setup {
    Setup::with_echo().property("enable_model_api", "true").models("none")
}

fn ask(server: &Server, method: &str, path: &str) -> Answer {
    server.management(path, &Sent::body("").method(method))
}

#[track_caller]
fn status(answer: &Answer, code: u16) -> String {
    assert_eq!(answer.status, code, "{}", answer.text());
    answer.json()["status"].as_str().unwrap().to_owned()
}

#[test]
fn json_has_two_spaces_and_a_line_s_end() {
    let server = Setup::with_echo().start();
    let get = Sent::get();
    for answer in [
        server.inference("/ping", &get),
        server.inference("/v2/health/live", &get),
        server.inference("/nothing", &get),
        server.management("/models", &get),
        server.management("/models/echo", &get),
        server.management("/v1/models/echo", &get),
        server.management("/models", &get.clone().method("PATCH")),
        server.metrics_api("/nothing", &get),
    ] {
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(answer.text(), format!("{:#}\n", answer.json()));
        assert_eq!(answer.header("content-length"), Some(answer.body.len().to_string().as_str()));
    }
}

#[test]
fn a_description_has_torchserve_s_fields_in_their_order() {
    let form = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
    let now = || OffsetDateTime::now_utc().format(form).unwrap();
    let before = now();
    let on_two = Archive::new("two", "echo").config("minWorkers: 2\nmaxWorkers: 2\ndeviceIds: [0, 1]\n");
    let server = Setup::with_echo().model(&on_two).start();
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
    let described = server.describe("echo");
    let expected = "modelName modelVersion modelUrl runtime minWorkers maxWorkers batchSize maxBatchDelay \
        responseTimeout startupTimeout maxRetryTimeoutInSec clientTimeoutInMills parallelType parallelLevel \
        deviceType continuousBatching useJobTicket useVenv stateful sequenceMaxIdleMSec sequenceTimeoutMSec \
        maxNumSequence maxSequenceJobQueueSize loadedAtStartup workers jobQueueStatus";
    // What TorchServe doesn't say comes behind.
    assert!(keys(&described).starts_with(expected), "{described:#}");
    for (key, value) in [
        ("clientTimeoutInMills", json!(0)),
        ("maxRetryTimeoutInSec", json!(300)),
        ("parallelType", json!("")),
        ("parallelLevel", json!(0)),
        ("continuousBatching", json!(false)),
        ("useJobTicket", json!(false)),
        ("useVenv", json!(false)),
        ("stateful", json!(false)),
        ("sequenceMaxIdleMSec", json!(0)),
        ("sequenceTimeoutMSec", json!(0)),
        ("maxNumSequence", json!(0)),
        ("maxSequenceJobQueueSize", json!(0)),
    ] {
        assert_eq!(described[key], value, "{key}");
    }
    let two = server.describe("two");
    assert!(keys(&two).contains("deviceType deviceIds continuousBatching"), "{two:#}");
    assert_eq!(two["deviceIds"], json!([0, 1]));
    let ids: Vec<_> = two["workers"].as_array().unwrap().iter().map(|worker| worker["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["9000", "9001"]);
    let worker = &described["workers"][0];
    assert_eq!(keys(worker), "id startTime status memoryUsage pid gpu gpuUsage");
    assert_eq!((&worker["gpuUsage"], worker["pid"].as_u64()), (&json!("N/A"), Some(u64::from(server.id()))));
    // In UTC, as its Z says: of one form and length, so that they can be compared as texts.
    let started = worker["startTime"].as_str().unwrap().to_owned();
    assert!(before <= started && started <= now(), "{before} {started} {}", now());
}

#[test]
fn parameters_are_read_as_java_reads_them() {
    let server = open().model(&Archive::new("other", "echo")).start();
    // Only `true` is true, in capitals or not; of several of one name the first counts.
    let register = |query: &str| ask(&server, "POST", &format!("/models?url=echo.mar&{query}"));
    status(&register("model_name=a&synchronous=TRUE"), 200);
    status(&register("model_name=b&synchronous=yes"), 202);
    eventually("the one in the background", || (server.describe("b")["status"] == "READY").then_some(()));
    status(
        &register("model_name=c&model_name=z&initial_workers=0&max_batch_delay=x&batch_size=0&response_timeout="),
        200,
    );
    let described = server.describe("c");
    let numbers = ["batchSize", "maxBatchDelay", "responseTimeout", "startupTimeout", "minWorkers"];
    assert_eq!(numbers.map(|key| described[key].as_u64().unwrap()), [1, 100, 120, 120, 0]);
    ask(&server, "GET", "/models/z").error(404, "ModelNotFoundException");

    // A JSON body has the same keys and the same defaults.
    let body = Sent::body(r#"{"url": "other.mar", "initial_workers": "1", "synchronous": true}"#);
    let answer = server.management("/models?url=nothing.mar", &body.content_type("application/json"));
    assert_eq!(status(&answer, 200), "Model \"other\" Version: 1.0 registered with 1 initial workers");
    assert_eq!(server.describe("other")["maxBatchDelay"], 100);
    // A form is not looked into.
    let form = Sent::body("url=echo.mar").content_type("application/x-www-form-urlencoded");
    let message = server.management("/models", &form).error(400, "BadRequestException");
    assert_eq!(message, "Parameter url is required.");

    // The version in the path wins over that in the query, and what has no effect has none.
    let scaled = ask(&server, "PUT", "/models/a/1.0?model_version=9&min_worker=2&synchronous=true");
    assert_eq!(status(&scaled, 200), "Workers scaled to 2 for model: a, version: 1.0");
    let scaled =
        ask(&server, "PUT", "/models/a?model_version=1.0&min_worker=1&number_gpu=4&timeout=-1&synchronous=True");
    assert_eq!(status(&scaled, 200), "Workers scaled to 1 for model: a, version: 1.0");
    assert_eq!(
        status(&ask(&server, "DELETE", "/models/a?synchronous=false&timeout=0"), 200),
        "Model \"a\" unregistered"
    );
    server.predict("a", "x").error(404, "ModelNotFoundException");
}

#[test]
fn other_methods_of_the_management_api_are_refused() {
    let server = open().models("all").start();
    for (method, path) in [
        ("PUT", "/models"),
        ("PATCH", "/models"),
        ("DELETE", "/models"),
        ("POST", "/models/echo"),
        ("PATCH", "/models/echo/1.0"),
        ("GET", "/models/echo/1.0/set-default"),
        ("POST", "/v1/models/echo"),
    ] {
        ask(&server, method, path).error(405, "MethodNotAllowedException");
    }
    ask(&server, "GET", "/Models").error(404, "ResourceNotFoundException");
}

#[test]
fn an_error_ends_the_connection_and_an_answer_keeps_it() {
    let server = Setup::with_echo().start();
    let mut stream = connect(&server);
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: h\r\n\r\n");
    for _ in 0..2 {
        stream.write_all(get("/ping").as_bytes()).unwrap();
        let answer = read_until(&mut stream, "}\n");
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("Healthy"), "{answer}");
        assert!(!answer.contains("connection: close"), "{answer}");
    }
    stream.write_all(get("/nothing").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 404 ") && answer.contains("connection: close\r\n"), "{answer}");
}

#[test]
fn a_client_that_asks_first_is_told_to_go_on() {
    let server = Setup::with_echo().start();
    let mut stream = connect(&server);
    let head = "POST /predictions/echo HTTP/1.1\r\nhost: h\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    assert!(read_until(&mut stream, "\r\n\r\n").starts_with("HTTP/1.1 100 "));
    stream.write_all(b"hello").unwrap();
    let answer = read_until(&mut stream, "hello");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[test]
fn ping_is_healthy_until_a_model_has_been_away_for_long() {
    let broken = Archive::new("broken", "nobody_has_this").config("maxRetryTimeoutInSec: 1\n");
    let server = Setup::with_echo().model(&broken).start();
    let ping = eventually("the server to be unhealthy", || {
        let ping = server.inference("/ping", &Sent::get());
        (ping.status != 200).then_some(ping)
    });
    assert_eq!((ping.status, ping.text().as_str()), (500, "{\n  \"status\": \"Unhealthy\"\n}\n"));
    assert_eq!(server.predict("echo", "the other one").ok(), "the other one");
    // One that fails for less than the five minutes that it has by default, and none at all.
    let broken = Archive::new("broken", "nobody_has_this");
    for server in [Setup::new().model(&broken).start(), Setup::new().models("none").start()] {
        for path in ["/ping", "/ping/", "/ping/any/thing"] {
            assert_eq!(status(&server.inference(path, &Sent::body("")), 200), "Healthy");
        }
    }
}

#[test]
fn a_registration_holds_up_nobody() {
    let setup = open().plugin(&fixture("loops-in-initialize")).models("echo.mar");
    let server = setup.model(&Archive::new("loops", "loops_in_initialize")).start();
    thread::scope(|scope| {
        let register =
            scope.spawn(|| ask(&server, "POST", "/models?url=loops.mar&initial_workers=1&startup_timeout=3"));
        eventually("it to be on its way", || (ask(&server, "GET", "/models/loops").status == 200).then_some(()));
        let described = server.describe("loops");
        assert_eq!((&described["status"], &described["workers"][0]["status"]), (&json!("LOADING"), &json!("LOADING")));
        server.still_serves();
        let unready = ask(&server, "GET", "/v1/models/loops").json();
        assert_eq!(unready, json!({"name": "loops", "ready": false}));
        let message = register.join().unwrap().error(500, "InternalServerException");
        assert!(message.starts_with("Failed to start workers for model loops version: 1.0"), "{message}");
    });
    ask(&server, "GET", "/models/loops").error(404, "ModelNotFoundException");
}

#[test]
fn unregistering_waits_only_so_long() {
    let setup = Setup::new().plugin(&first_party("echo")).plugin(&fixture("waits"));
    let server = setup
        .model(&Archive::new("waits", "waits"))
        .property("enable_model_api", "true")
        .property("unregister_model_timeout", "1")
        .start();
    let gate = Gate::new();
    thread::scope(|scope| {
        let _open = gate.opener();
        let in_hand = scope.spawn(|| server.predict("waits", gate.body()));
        gate.wait_for_a_call();
        let message = ask(&server, "DELETE", "/models/waits").error(408, "RequestTimeoutException");
        assert_eq!(message, "Timed out while cleaning resources: waits");
        // Nobody gets in any more, and who was in is answered.
        server.predict("waits", "late").error(404, "ModelNotFoundException");
        gate.open();
        assert_eq!(in_hand.join().unwrap().status, 200);
    });
}

#[test]
fn the_last_version_takes_its_model_with_it() {
    let server = open().start();
    for version in ["1.0", "2.0"] {
        let archive = Archive::new("m", "echo").version(version).file(&format!("m{version}.mar"));
        archive.pack(&server.store());
        status(&ask(&server, "POST", &format!("/models?url=m{version}.mar&initial_workers=0")), 200);
    }
    // Later ones don't become the default, and the list shows the default alone.
    assert_eq!(server.describe("m")["modelVersion"], "1.0");
    let list = ask(&server, "GET", "/models").json();
    assert_eq!(list["models"], json!([{"modelName": "m", "modelUrl": "m1.0.mar"}]));
    assert_eq!(status(&ask(&server, "DELETE", "/models/m/2.0"), 200), "Model \"m\" unregistered");
    assert_eq!(ask(&server, "GET", "/models/m/all").json().as_array().unwrap().len(), 1);
    status(&ask(&server, "DELETE", "/models/m"), 200);
    assert_eq!(ask(&server, "GET", "/models").json(), json!({"models": []}));
    // What an operator has put into the store stays.
    assert!(server.store().join("m1.0.mar").is_file());
}

#[test]
fn an_answer_over_the_limit_is_refused_and_its_worker_goes_on() {
    let server = Setup::with_echo().property("max_response_size", "1000").start();
    let exact = "x".repeat(1000);
    for _ in 0..2 {
        assert_eq!(server.predict("echo", &exact).ok(), exact);
        let message = server.predict("echo", "x".repeat(1001)).error(500, "InternalServerException");
        assert_eq!(message, "Worker died. The answer has 1001 bytes, and max_response_size allows 1000.");
    }
    assert_eq!(server.describe("echo")["workers"][0]["id"], "9000");
}

#[test]
fn a_body_that_is_too_large_has_an_id_and_is_counted() {
    let server = Setup::with_echo().property("max_request_size", "1000").start();
    let before = server.metric("Requests4XX", &[]);
    let mut stream = connect(&server);
    stream.write_all(b"POST /predictions/echo HTTP/1.1\r\nhost: h\r\ncontent-length: 1001\r\n\r\n").unwrap();
    let answer = read_until(&mut stream, "\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("\r\nx-request-id: "), "{answer}");
    assert_eq!(server.metric("Requests4XX", &[]), before + 1);
}

#[test]
fn a_description_that_never_comes_ends_in_time() {
    let sleeps = Archive::new("sleeps", "sleeps").config("responseTimeout: 1\n");
    let server = Setup::with_echo().plugin(&fixture("sleeps")).model(&sleeps).start();
    let message = ask(&server, "GET", "/models/sleeps?customized=true").error(500, "InternalServerException");
    assert!(message.starts_with("Worker died."), "{message}");
    assert_eq!(server.predict("sleeps", "awake").ok(), "awake");
}

#[test]
fn handlers_see_the_server_s_properties() {
    let teller = Archive::new("teller", "request_teller").config("batchSize: 3\nmaxBatchDelay: 1\n");
    let setup = Setup::new().plugin(&fixture("request-teller")).model(&teller);
    let server = setup.property("limit_max_image_pixels", "false").start();
    let told = server.predict("teller", "x").json();
    assert_eq!(told["properties"], json!(["sconce", env!("CARGO_PKG_VERSION"), "3", "false"]));
}

#[test]
fn what_a_killed_server_has_left_is_removed() {
    let setup = Setup::with_echo();
    let work = setup.store().parent().unwrap().join("work");
    // Beyond the numbers that processes have.
    let left = work.join("sconce-999999999-x");
    fs::create_dir_all(left.join("package")).unwrap();
    let server = setup.start();
    assert_eq!(work, server.work());
    assert!(!left.exists() && work.is_dir());
    server.still_serves();
}

#[test]
fn the_key_models_names_a_runtime() {
    let models = r#"{"echo":{"1.0":{"runtimeType":"python3"}},"other":{"1.0":{"runtimeType":"python3"}}}"#;
    let server = open().property("models", models).models("echo.mar").start();
    assert_eq!(server.describe("echo")["runtime"], "python3");
    // A client's own word wins.
    Archive::new("other", "echo").pack(&server.store());
    status(&ask(&server, "POST", "/models?url=other.mar&runtime=python"), 200);
    assert_eq!(server.describe("other")["runtime"], "python");
}

fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(patience())).unwrap();
    stream
}

/// Reads until these words have come, and gives all so far.
fn read_until(stream: &mut TcpStream, words: &str) -> String {
    let mut text = Vec::new();
    while !String::from_utf8_lossy(&text).contains(words) {
        let mut buffer = [0; 1024];
        let count = stream.read(&mut buffer).unwrap();
        assert_ne!(count, 0, "closed before {words:?}: {:?}", String::from_utf8_lossy(&text));
        text.extend_from_slice(&buffer[..count]);
    }
    String::from_utf8(text).unwrap()
}
