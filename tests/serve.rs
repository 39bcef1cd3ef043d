//! A model that echoes, over every way a request can come.

use std::io::Read;
use std::io::Write;
use std::net::TcpListener;
use std::net::TcpStream;

use sconce::config::ServerConfig;
use serde_json::Value;
use serde_json::json;

use crate::support::Archive;
use crate::support::Sent;
use crate::support::Server;
use crate::support::Setup;
use crate::support::first_party;
use crate::support::fixture;
use crate::support::multipart;
use crate::support::patience;
use crate::support::says;

#[test]
fn every_kind_of_body_reaches_the_handler() {
    let server = Setup::with_echo().start();
    let all_bytes: Vec<u8> = (0..=u8::MAX).collect();
    for (request, expected) in [
        (Sent::body(&all_bytes), &all_bytes[..]),
        (Sent::body(&all_bytes).content_type("application/octet-stream"), &all_bytes),
        (Sent::body("[1, ").content_type("application/json"), b"[1, "),
        (Sent::body("gr\u{fc}n").content_type("text/plain; charset=utf-8"), "gr\u{fc}n".as_bytes()),
        (Sent::body(""), b""),
        (Sent::body("data=a%20b&other=c").content_type("application/x-www-form-urlencoded"), b"a b"),
        (multipart(&[("data", "image/png", &all_bytes)]), &all_bytes),
        (multipart(&[("body", "", b"plain"), ("other", "", b"x")]), b"plain"),
        (Sent::body("put").method("PUT"), b"put"),
        (Sent::body("patch").method("PATCH"), b"patch"),
        (Sent::get(), b""),
        (Sent::get().method("DELETE"), b""),
    ] {
        let answer = server.send("echo", &request);
        assert_eq!((answer.status, answer.body.as_slice()), (200, expected), "{request:?}");
        assert_eq!(answer.header("content-type"), None);
        assert_eq!(answer.header("content-length"), Some(expected.len().to_string().as_str()));
    }
    for path in ["/predictions/echo/", "/predictions/%65cho", "/predictions/echo/1.0", "/predictions/echo/1.0/a/b"] {
        assert_eq!(server.inference(path, &Sent::body("x")).ok(), "x", "{path}");
    }
}

#[test]
fn the_handler_sees_fields_headers_and_the_id() {
    let server =
        Setup::new().plugin(&fixture("request-teller")).model(&Archive::new("teller", "request_teller")).start();
    let told = |request: &Sent| {
        let answer = server.send("teller/1.0/rest/of/path", request);
        assert_eq!(answer.header("content-type"), Some("application/json"));
        let told = answer.json();
        assert_eq!(told["id"].as_str(), answer.header("x-request-id"));
        told
    };
    let form = multipart(&[("data", "image/png", b"first"), ("note", "", b"n"), ("data", "text/plain", b"last")])
        .header("X-Mixed-Case", "kept")
        .header("x-request-id", "the client's own");
    let first = told(&form);
    assert_eq!(first["fields"], json!([["note", null, "n"], ["data", "text/plain", "last"]]));
    let header = |told: &Value, name: &str| {
        let headers = told["headers"].as_array().unwrap();
        let found = headers.iter().rev().find(|pair| pair[0].as_str().unwrap().eq_ignore_ascii_case(name));
        found.map(|pair| pair[1].as_str().unwrap().to_owned())
    };
    assert_eq!(header(&first, "x-mixed-case").as_deref(), Some("kept"));
    assert_eq!(header(&first, "url_path").as_deref(), Some("rest/of/path"));

    let second = told(&Sent::body("[1]").content_type("application/json; charset=utf-8"));
    assert_eq!(second["fields"], json!([["body", "application/json", "[1]"]]));
    assert_ne!(first["id"], second["id"]);
    assert_ne!(first["id"], "the client's own");
}

#[test]
fn every_answer_has_the_contract_s_headers() {
    let server = Setup::with_echo().start();
    let answers = [
        server.predict("echo", "x"),
        server.predict("nobody", "x"),
        server.inference("/ping", &Sent::get()),
        server.management("/models", &Sent::get()),
    ];
    let mut ids = Vec::new();
    for answer in &answers {
        assert_eq!(answer.header("pragma"), Some("no-cache"));
        assert_eq!(answer.header("cache-control"), Some("no-cache; no-store, must-revalidate, private"));
        assert_eq!(answer.header("expires"), Some("Thu, 01 Jan 1970 00:00:00 UTC"));
        let id = answer.header("x-request-id").unwrap().to_owned();
        assert_eq!((id.len(), id.matches('-').count()), (36, 4), "{id} is no UUID");
        assert!(!ids.contains(&id), "{id} came twice");
        ids.push(id);
    }
}

#[test]
fn what_is_not_there_is_404_and_a_wrong_method_405() {
    let server = Setup::with_echo().start();
    let message = server.predict("nobody", "x").error(404, "ModelNotFoundException");
    assert_eq!(message, "Model not found: nobody");
    let message = server.predict("echo/2.0", "x").error(404, "ModelVersionNotFoundException");
    assert_eq!(message, "Model version: 2.0 does not exist for model: echo");
    for path in ["/models/nobody", "/models/nobody/all", "/models/nobody/1.0"] {
        server.management(path, &Sent::get()).error(404, "ModelNotFoundException");
    }
    server.management("/models/echo/7", &Sent::get()).error(404, "ModelVersionNotFoundException");
    for path in ["/predictions", "/predict/echo", "/models", "/metrics"] {
        let answer = server.inference(path, &Sent::get());
        let message = answer.error(404, "ResourceNotFoundException");
        assert_eq!(message, "Requested resource is not found, please refer to API document.");
    }
    for answer in [server.management("/models", &Sent::body("")), server.inference("/", &Sent::get())] {
        let message = answer.error(405, "MethodNotAllowedException");
        assert_eq!(message, "Requested method is not allowed, please refer to API document.");
    }
    // The form to the letter: TorchServe's clients compare it.
    assert_eq!(
        server.predict("nobody", "").text(),
        "{\n  \"code\": 404,\n  \"type\": \"ModelNotFoundException\",\n  \"message\": \"Model not found: nobody\"\n}\n"
    );
    server.still_serves();
}

#[test]
fn versions_are_served_side_by_side() {
    let teller = |name: &str, version: &str| {
        Archive::new("shouter", "shouter")
            .version(version)
            .file(name)
            .config(&format!("handler:\n  ending: \" {version}\"\n"))
    };
    let server = Setup::new()
        .plugin(&fixture("third-party"))
        .model(&teller("b.mar", "1.0"))
        .model(&teller("a.mar", "2.0"))
        .models("b.mar,a.mar")
        .start();
    assert_eq!(server.predict("shouter", "hi").ok(), "HI 1.0", "the first one is the default");
    assert_eq!(server.predict("shouter/1.0", "hi").ok(), "HI 1.0");
    assert_eq!(server.predict("shouter/2.0", "hi").ok(), "HI 2.0");
    let all = server.management("/models/shouter/all", &Sent::get()).json();
    let versions: Vec<_> = all.as_array().unwrap().iter().map(|version| &version["modelVersion"]).collect();
    assert_eq!(versions, ["1.0", "2.0"]);
}

#[test]
fn a_version_that_is_served_already_is_refused() {
    let server =
        Setup::with_echo().model(&Archive::new("echo", "echo").file("again.mar")).models("echo.mar,again.mar").start();
    server.logged(&["again.mar", "version 1.0 of model echo is served already", "give this one another version"]);
    server.still_serves();
}

#[test]
fn a_model_takes_the_name_it_is_given() {
    let server = Setup::with_echo().models("renamed=echo.mar").start();
    assert_eq!(server.predict("renamed", "x").ok(), "x");
    server.predict("echo", "x").error(404, "ModelNotFoundException");
}

#[test]
fn a_model_is_described_and_listed() {
    let echo = |name: &str| Archive::new(name, "echo");
    let server = Setup::with_echo()
        .model(
            &echo("bravo").config("batchSize: 4\nmaxBatchDelay: 7\nminWorkers: 2\nmaxWorkers: 3\nresponseTimeout: 9\n"),
        )
        .model(&echo("alpha"))
        .start();
    let described = server.describe("bravo");
    let pid = described["workers"][0]["pid"].clone();
    for (key, value) in [
        ("modelName", json!("bravo")),
        ("modelVersion", json!("1.0")),
        ("modelUrl", json!("bravo.mar")),
        ("runtime", json!("python")),
        ("minWorkers", json!(2)),
        ("maxWorkers", json!(3)),
        ("batchSize", json!(4)),
        ("maxBatchDelay", json!(7)),
        ("responseTimeout", json!(9)),
        ("startupTimeout", json!(120)),
        ("deviceType", json!("cpu")),
        ("loadedAtStartup", json!(true)),
        ("jobQueueStatus", json!({"remainingCapacity": 100, "pendingRequests": 0})),
        ("status", json!("READY")),
    ] {
        assert_eq!(described[key], value, "{key} in {described:#}");
    }
    let workers = described["workers"].as_array().unwrap();
    assert_eq!(workers.len(), 2);
    for worker in workers {
        assert_eq!((&worker["status"], &worker["gpu"], &worker["pid"]), (&json!("READY"), &json!(false), &pid));
        assert!(worker["memoryUsage"].as_u64().unwrap() > 1 << 20, "{worker}");
        let time = worker["startTime"].as_str().unwrap();
        assert!(time.ends_with('Z') && time.len() == "2018-10-02T13:44:53.034Z".len(), "{time}");
    }

    let list = |query: &str| server.management(&format!("/models{query}"), &Sent::get()).json();
    let models = |names: &[&str]| -> Vec<Value> {
        let row = |name: &&str| json!({"modelName": name, "modelUrl": format!("{name}.mar")});
        names.iter().map(row).collect()
    };
    assert_eq!(list(""), json!({"models": models(&["alpha", "bravo", "echo"])}));
    assert_eq!(list("?limit=2"), json!({"nextPageToken": "2", "models": models(&["alpha", "bravo"])}));
    assert_eq!(list("?limit=2&next_page_token=2"), json!({"models": models(&["echo"])}));
    assert_eq!(list("?limit=many"), json!({"models": models(&["alpha", "bravo", "echo"])}));
}

#[test]
fn a_body_over_the_limit_is_413_and_the_limit_itself_is_not() {
    const LIMIT: usize = 100_000;
    let server = Setup::with_echo().property("max_request_size", &LIMIT.to_string()).start();
    let exact = "x".repeat(LIMIT);
    assert_eq!(server.predict("echo", &exact).ok(), exact);
    // By hand: a server may answer, and close, while the body is still on its way.
    let announced = format!("POST /predictions/echo HTTP/1.1\r\nhost: h\r\ncontent-length: {}\r\n\r\n", LIMIT + 1);
    let chunk = "x".repeat(LIMIT + 1);
    let chunked = format!(
        "POST /predictions/echo HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{chunk}\r\n0\r\n\r\n",
        chunk.len()
    );
    for request in [announced, chunked] {
        let answer = speak(&server, request.as_bytes());
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 413 "), "{answer}");
        assert_eq!(body, "", "nothing in it, as TorchServe answers");
        server.still_serves();
    }
}

#[test]
fn broken_http_harms_nobody() {
    let server = Setup::with_echo().start();
    let answer = speak(&server, b"\x16\x03\x01 this is no HTTP\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer:?}");
    says(&answer, &["\"type\": \"BadRequestException\"", "\"message\": \"Invalid HTTP message.\""]);
    // A client that goes in the middle of its body.
    let mut leaving = connect(&server);
    leaving.write_all(b"POST /predictions/echo HTTP/1.1\r\nhost: h\r\ncontent-length: 100\r\n\r\nonly this").unwrap();
    drop(leaving);
    for (content_type, body) in [
        ("multipart/form-data", "no boundary"),
        ("multipart/form-data; boundary=x", "--x\r\ncontent-disposition: form-data; name=\"data\"\r\n\r\ncut sho"),
    ] {
        let answer = server.send("echo", &Sent::body(body).content_type(content_type));
        says(&answer.error(400, "BadRequestException"), &["multipart body is not well-formed"]);
    }
    server.still_serves();
}

#[test]
fn requests_are_counted() {
    let server = Setup::with_echo().start();
    for _ in 0..3 {
        server.predict("echo", "x").ok();
    }
    server.predict("nobody", "x");
    let metrics = server.metrics();
    assert_eq!(metrics.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let text = metrics.ok();
    let count = text
        .lines()
        .find(|line| line.starts_with("ts_inference_requests_total{") && line.contains("model_name=\"echo\""))
        .and_then(|line| line.rsplit(' ').next());
    assert_eq!(count, Some("3"), "{text}");
    assert!(!text.contains("nobody"), "what clients make up is no label: {text}");
}

#[test]
fn the_ports_are_torchserve_s_unless_told_otherwise() {
    let config = ServerConfig::default();
    let addresses = [config.inference_address, config.management_address, config.metrics_address];
    assert_eq!(
        addresses.map(|address| address.to_string()),
        ["http://127.0.0.1:8080", "http://127.0.0.1:8081", "http://127.0.0.1:8082"]
    );
}

#[test]
fn a_port_that_is_taken_ends_the_start_with_its_number() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let output = Setup::with_echo().property("inference_address", &format!("http://127.0.0.1:{port}")).run_to_end();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    says(&text, &["can't listen on", &port, "choose another port", "Address already in use"]);
}

#[test]
fn a_wrong_configuration_ends_the_start_with_its_line() {
    let output = Setup::with_echo().property("inference_address", "ftp://127.0.0.1:0").run_to_end();
    assert_eq!(output.status.code(), Some(1));
    says(&String::from_utf8_lossy(&output.stderr), &["config.properties", "inference_address", "ftp://127.0.0.1:0"]);
}

#[test]
fn what_is_asked_for_and_not_there_is_told_and_the_rest_served() {
    let server = Setup::with_echo().plugin(&first_party("echo")).models("missing.mar,../echo.mar,echo.mar").start();
    server.logged(&["Model not found at: missing.mar"]);
    server.logged(&["Relative path is not allowed in url: ../echo.mar"]);
    server.still_serves();
}

fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(patience())).unwrap();
    stream
}

/// Sends these bytes, and gives all that comes until the server closes.
fn speak(server: &Server, bytes: &[u8]) -> String {
    let mut stream = connect(server);
    // The server may have enough before all is sent.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = stream.read(&mut buffer) {
        answer.extend_from_slice(&buffer[..read]);
    }
    String::from_utf8_lossy(&answer).into_owned()
}
