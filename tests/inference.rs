//! Everything that can be asked of a model: the routes and what they pass on, explanations, descriptions, answers in pieces.

use std::fs;
use std::io::Read;
use std::io::Write;
use std::net::TcpStream;
use std::thread;

use serde_json::Value;
use serde_json::json;

use crate::support::Archive;
use crate::support::Gate;
use crate::support::Sent;
use crate::support::Server;
use crate::support::Setup;
use crate::support::eventually;
use crate::support::fixture;
use crate::support::multipart;
use crate::support::patience;
use crate::support::says;

fn explains(config: &str) -> Server {
    let archive = Archive::new("explains", "explains").config(config);
    Setup::with_echo().plugin(&fixture("explains")).model(&archive).start()
}

#[test]
fn explanations_have_routes_of_their_own() {
    let server = explains("{}");
    let letters = |answer: crate::support::Answer| {
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(answer.ok(), "{\n  \"letters\": 5\n}");
    };
    for path in [
        "/explanations/explains",
        "/explanations/explains/",
        "/explanations/explains/1.0",
        "/explanations/explains/1.0/and/more",
        "/v1/models/explains:explain",
    ] {
        letters(server.inference(path, &Sent::body("seven")));
        letters(server.inference(path, &Sent::body("seven").method("PUT")));
    }
    // Where the path leaves it open, the client's header says it; elsewhere it counts for nothing.
    let asking = Sent::body("seven").header("explain", "True");
    for path in ["/models/explains/invoke", "/invocations?model_name=explains", "/explains/predict"] {
        letters(server.inference(path, &asking));
        assert_eq!(server.inference(path, &Sent::body("seven")).ok(), "SEVEN");
    }
    for path in ["/predictions/explains", "/v1/models/explains:predict"] {
        assert_eq!(server.inference(path, &asking).ok(), "SEVEN");
    }
    let unknown = server.inference("/explanations/nobody", &Sent::body("x"));
    assert_eq!(unknown.error(404, "ModelNotFoundException"), "Model not found: nobody");
    let unknown = server.inference("/explanations/explains/7", &Sent::body("x"));
    unknown.error(404, "ModelVersionNotFoundException");
}

#[test]
fn a_handler_without_explanations_says_so() {
    let server = Setup::with_echo().start();
    for path in ["/explanations/echo", "/v1/models/echo:explain"] {
        let message = server.inference(path, &Sent::body("why?")).error(501, "InternalServerException");
        says(&message, &["The handler of model \"echo\" has no explanations"]);
    }
    server.still_serves();
}

#[test]
fn a_handler_describes_itself_to_whoever_asks() {
    let server = explains("describe:\n  labels: 10\n");
    let asking = Sent::body("x").header("describe", "True");
    for path in ["/predictions/explains", "/explanations/explains", "/explains/predict", "/v1/models/explains:predict"]
    {
        let answer = server.inference(path, &asking);
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(answer.ok(), "{\n  \"labels\": 10\n}", "{path}");
    }
    assert_eq!(server.send("explains", &Sent::body("x").header("describe", "no")).ok(), "X");
    // One that has nothing to say.
    assert_eq!(server.send("echo", &asking).ok(), "null");
}

fn teller() -> Setup {
    Setup::with_echo().plugin(&fixture("request-teller")).model(&Archive::new("teller", "request_teller"))
}

/// What the handler was told under that name; fails where it came more than once.
fn header(told: &Value, name: &str) -> Option<String> {
    let headers = told["headers"].as_array().unwrap();
    let mut values = headers.iter().filter(|pair| pair[0] == name).map(|pair| pair[1].as_str().unwrap().to_owned());
    let value = values.next();
    assert_eq!(values.next(), None, "{name} came twice: {told}");
    value
}

#[test]
fn a_query_is_passed_on_by_the_routes_that_do_so() {
    let server = teller().start();
    let told = |path: &str, request: &Sent| server.inference(path, request).json();
    let form = multipart(&[("b", "", b"of the body")]);
    for path in ["/models/teller/invoke", "/teller/predict", "/teller/1.0/predict"] {
        let fields = &told(&format!("{path}?a=1&b=2&a=x%20y"), &form)["fields"];
        assert_eq!(fields, &json!([["a", null, "x y"], ["b", null, "of the body"]]), "{path}");
        let told = told(&format!("{path}/"), &Sent::body("[1]").content_type("application/json"));
        assert_eq!(told["fields"], json!([["body", "application/json", "[1]"]]));
        assert_eq!((header(&told, "url_path"), header(&told, "explain")), (None, None));
    }
    let named = told("/invocations?model_name=teller&k=v", &Sent::body("x"));
    assert_eq!(named["fields"], json!([["model_name", null, "teller"], ["k", null, "v"], ["body", null, "x"]]));
    for path in ["/predictions/teller?a=1", "/v1/models/teller:predict?a=1"] {
        assert_eq!(told(path, &Sent::body("x"))["fields"], json!([["body", null, "x"]]), "{path}");
    }
}

#[test]
fn the_server_s_own_headers_win() {
    let server = teller().start();
    let request = Sent::body("x").header("url_path", "a lie").header("explain", "True").header("X-Twice", "once");
    let told = server.inference("/predictions/teller/1.0/rest/of%2fit", &request).json();
    assert_eq!(header(&told, "url_path").as_deref(), Some("rest/of/it"));
    assert_eq!(header(&told, "explain").as_deref(), Some("False"));
    assert_eq!(header(&told, "x-twice").as_deref(), Some("once"), "names are in small letters");
    let told = server.inference("/v1/models/teller:predict", &Sent::body("x")).json();
    assert_eq!((header(&told, "url_path"), header(&told, "explain").as_deref()), (None, Some("False")));
}

#[test]
fn an_invocation_finds_its_model() {
    // Two at the start: somebody has to name one.
    let server = teller().start();
    let message = server.inference("/invocations", &Sent::body("x")).error(400, "BadRequestException");
    assert_eq!(message, "Parameter model_name is required.");
    let by_field = multipart(&[("model_name", "", b"echo"), ("data", "", b"by field")]);
    assert_eq!(server.inference("/invocations", &by_field).ok(), "by field");
    let unknown = server.inference("/invocations?model_name=nobody", &Sent::body("x"));
    unknown.error(404, "ModelNotFoundException");
    // One: it's that one.
    let server = Setup::with_echo().start();
    assert_eq!(server.inference("/invocations", &Sent::body("alone")).ok(), "alone");
}

#[test]
fn kserve_learns_whether_a_model_is_ready() {
    let server = Setup::with_echo().model(&Archive::new("broken", "nothing")).start();
    let get = Sent::get();
    for (name, ready) in [("echo", true), ("broken", false)] {
        let path = format!("/v1/models/{name}");
        for answer in [server.management(&path, &get), server.inference(&path, &get)] {
            assert_eq!(answer.ok(), format!("{{\n  \"name\": \"{name}\",\n  \"ready\": {ready}\n}}\n"));
        }
        for answer in [server.management(&path, &Sent::body("")), server.inference(&path, &Sent::body(""))] {
            answer.error(405, "MethodNotAllowedException");
        }
    }
    for answer in [server.management("/v1/models/nobody", &get), server.inference("/v1/models/nobody", &get)] {
        assert_eq!(answer.error(404, "ModelNotFoundException"), "Model not found: nobody");
    }
    assert_eq!(server.inference("/v1/models/echo:predict", &Sent::body("x").method("PATCH")).ok(), "x");
}

#[test]
fn workflows_are_switched_off() {
    let server = Setup::with_echo().start();
    for path in ["/wfpredict/w", "/WfPredict/w/", "/wfpredict/w/x"] {
        let message = server.inference(path, &Sent::body("x")).error(404, "WorkflowNotFoundException");
        assert_eq!(message, "Workflow not found: w");
    }
    server.inference("/wfpredict", &Sent::get()).error(404, "ResourceNotFoundException");
    assert_eq!(server.management("/workflows", &Sent::get()).ok(), "{\n  \"workflows\": []\n}\n");
    let register = server.management("/workflows?url=w.war", &Sent::body(""));
    assert_eq!(register.error(400, "BadRequestException"), "Registering new workflows is disabled.");
    for method in ["GET", "DELETE"] {
        let answer = server.management("/workflows/w", &Sent::get().method(method));
        assert_eq!(answer.error(404, "WorkflowNotFoundException"), "Workflow not found: w");
    }
    for (path, method) in [("/workflows", "PUT"), ("/workflows", "DELETE"), ("/workflows/w", "PUT")] {
        server.management(path, &Sent::body("").method(method)).error(405, "MethodNotAllowedException");
    }
}

#[test]
fn a_path_is_decoded_once_or_refused() {
    let server = Setup::with_echo().start();
    for path in ["/predictions/%65cho", "/predictions%2Fecho", "/predictions/echo//", "/predictions/echo%2f1.0"] {
        assert_eq!(server.inference(path, &Sent::body("x")).ok(), "x", "{path}");
    }
    let message = server.inference("/predictions/%2565cho", &Sent::body("x")).error(404, "ModelNotFoundException");
    assert_eq!(message, "Model not found: %65cho");
    for path in ["/predictions/ec%ho", "/predictions/echo%", "/predictions/%ff", "/%zz"] {
        let answer = speak(&server, &format!("POST {path} HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n"));
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("\r\nx-request-id: "), "{answer}");
        says(&answer, &["\"type\": \"BadRequestException\"", "The path is not well-formed"]);
    }
    let message = server.inference("/predictions//echo", &Sent::body("x")).error(404, "ModelNotFoundException");
    assert_eq!(message, "Model not found: ");
    for path in ["/predictions", "/explanations", "/v1/models", "/models/echo", "/models/echo/x"] {
        server.inference(path, &Sent::body("x")).error(404, "ResourceNotFoundException");
    }
    server.still_serves();
}

fn streams(config: &str) -> Server {
    Setup::with_echo().plugin(&fixture("streams")).model(&Archive::new("streams", "streams").config(config)).start()
}

/// A request to `streams`, on a connection of its own.
fn ask(server: &Server, lines: &str) -> TcpStream {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(patience())).unwrap();
    let head = format!(
        "POST /predictions/streams HTTP/1.1\r\nhost: h\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        lines.len()
    );
    stream.write_all((head + lines).as_bytes()).unwrap();
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

/// Sends these bytes, and gives all that comes until the server closes.
fn speak(server: &Server, request: &str) -> String {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(patience())).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    to_end(stream)
}

fn to_end(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    // A connection that is cut off ends here as well.
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn each_piece_is_a_chunk_and_comes_at_once() {
    let server = streams("{}");
    let gate = Gate::new();
    let _open = gate.opener();
    let mut stream = ask(&server, &format!("first one\nsend three\nwait {}\nsend five\nend last", gate.body()));
    let begun = read_until(&mut stream, "5\r\nthree\r\n");
    let (head, body) = begun.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 201 "), "{head}");
    says(head, &["transfer-encoding: chunked", "x-first: one", "x-request-id: ", "pragma: no-cache"]);
    assert!(!head.contains("content-length"), "{head}");
    assert_eq!(body, "3\r\none\r\n5\r\nthree\r\n");
    gate.open();
    assert_eq!(to_end(stream), "4\r\nfive\r\n4\r\nlast\r\n0\r\n\r\n");
    // Who takes no notice of chunks reads one body, and a handler may end with nothing.
    assert_eq!(server.predict("streams", "send a\nsend b").ok(), "ab");
    // Nothing sent ahead: an answer as any other.
    let whole = server.predict("streams", "end whole");
    assert_eq!((whole.ok().as_str(), whole.header("content-length")), ("whole", Some("5")));
}

#[test]
fn an_error_before_the_first_piece_is_an_answer_and_after_it_breaks_off() {
    let server = streams("{}");
    server.predict("streams", "fail").error(503, "InternalServerException");
    let broken = to_end(ask(&server, "send one\nfail"));
    assert!(broken.starts_with("HTTP/1.1 200 ") && broken.ends_with("3\r\none\r\n"), "no end: {broken:?}");
    assert!(server.try_predict("streams", "send one\nfail").is_err(), "a client must notice");
    server.logged(&["WARN", "broke off after its first piece", "model=streams", "told to fail"]);
    let count = "sconce_answers_broken_off_total{model_name=\"streams\",model_version=\"1.0\"} 2";
    eventually("the broken answers to be counted", || server.metrics().ok().contains(count).then_some(()));
    server.still_serves();
}

#[test]
fn one_that_breaks_off_leaves_its_batch_alone() {
    let server = streams("batchSize: 2\nmaxBatchDelay: 3600000\n");
    thread::scope(|scope| {
        let good = scope.spawn(|| server.predict("streams", "send one\nend two").ok());
        let bad = scope.spawn(|| server.try_predict("streams", "send one\nfail"));
        assert_eq!(good.join().unwrap(), "onetwo");
        assert!(bad.join().unwrap().is_err());
    });
}

#[test]
fn a_handler_learns_that_its_client_has_gone() {
    let server = streams("{}");
    let folder = Gate::new();
    for lines in ["", "send one\n"] {
        let stream = ask(&server, &format!("{lines}until-gone {}", folder.body()));
        folder.wait_for_a_call();
        drop(stream);
        assert_eq!(gone(&folder), "true");
    }
    server.still_serves();
}

#[test]
fn a_client_that_does_not_read_holds_no_worker_for_long() {
    let server = streams("responseTimeout: 1\n");
    let folder = Gate::new();
    let stream = ask(&server, &format!("flood {}", folder.body()));
    assert_eq!(gone(&folder), "true");
    // The same worker is free again, while that client still has its connection.
    assert_eq!(server.predict("streams", "end free").ok(), "free");
    let answer = to_end(stream);
    assert!(!answer.ends_with("0\r\n\r\n"), "what is lost isn't passed off as whole");
    assert!(!server.log().contains("another worker takes its place"));
}

/// What the handler found when it stopped.
fn gone(folder: &Gate) -> String {
    let file = std::path::Path::new(folder.body()).join("gone");
    let found = eventually("the handler to notice", || fs::read_to_string(&file).ok().filter(|text| !text.is_empty()));
    fs::remove_file(&file).unwrap();
    let _ = fs::remove_file(file.with_file_name("begun"));
    found
}

#[test]
fn a_client_s_time_limit_counts_to_the_first_piece() {
    let server = streams("clientTimeoutInMills: 1000\nmaxBatchDelay: 0\n");
    let gate = Gate::new();
    let _open = gate.opener();
    let mut stream = ask(&server, &format!("send one\nwait {}\nend two", gate.body()));
    read_until(&mut stream, "3\r\none\r\n");
    gate.wait_for_a_call();
    // It waits for the only worker until its own limit is over, and that of the first long since.
    server.predict("streams", "end late").error(504, "RequestTimeoutException");
    gate.open();
    assert_eq!(to_end(stream), "3\r\ntwo\r\n0\r\n\r\n");
}

#[test]
fn a_fresh_start_is_not_tried_for_an_answer_that_has_begun() {
    let server = streams("responseTimeout: 1\n");
    let gate = Gate::new();
    let _open = gate.opener();
    // The handler hangs after its first piece: the watchdog ends the answer.
    let stream = ask(&server, &format!("send one\nwait {}\nend two", gate.body()));
    let broken = to_end(stream);
    assert!(broken.ends_with("3\r\none\r\n"), "{broken:?}");
    server.logged(&["broke off after its first piece", "took longer than 1s"]);
    assert_eq!(server.predict("streams", "end served").ok(), "served");
}

#[test]
fn an_envelope_holds_many_inputs_and_their_outputs() {
    let start = |envelope: &str| {
        let archive = Archive::new("explains", "explains").config("describe:\n  labels: 10\n");
        Setup::with_echo().plugin(&fixture("explains")).model(&archive).property("service_envelope", envelope).start()
    };
    let body = json!({"instances": [{"data": "one"}, "three", {"b64": "c2V2ZW4="}]}).to_string();
    for (envelope, explained) in [("kserve", "explanations"), ("json", "predictions")] {
        let server = start(envelope);
        let answer = server.inference("/v1/models/explains:predict", &Sent::body(&body));
        assert_eq!(answer.header("content-type"), Some("application/json"));
        let predicted = json!({"predictions": ["ONE", "THREE", "SEVEN"]});
        assert_eq!(answer.ok(), format!("{predicted:#}"));
        assert_eq!(server.send("explains", &Sent::body(&body)).json(), predicted);
        let answer = server.inference("/v1/models/explains:explain", &Sent::body(&body));
        assert_eq!(answer.json(), json!({explained: [{"letters": 3}, {"letters": 5}, {"letters": 5}]}));
        let message = server.predict("explains", "one").error(400, "BadRequestException");
        says(&message, &["service_envelope", "`instances`"]);
        // One that can't be answered is the answer to all.
        let bad = json!({"instances": ["one", {"b64": "/w=="}]}).to_string();
        server.predict("explains", bad).error(400, "BadRequestException");
        let described = server.send("explains", &Sent::body("x").header("describe", "True"));
        assert_eq!(described.json(), json!({"labels": 10}));
    }
    assert_eq!(start("body").predict("explains", "as ever").ok(), "AS EVER");
}

#[test]
fn a_body_that_nobody_reads_is_not_taken_for_the_next_request() {
    let server = Setup::with_echo().start();
    let mut stream = TcpStream::connect(server.address()).unwrap();
    let smuggled = "GET /ping HTTP/1.1\r\nhost: h\r\n\r\n".repeat(20);
    let head = format!("POST /ping HTTP/1.1\r\nhost: h\r\ncontent-length: {}\r\n\r\n", smuggled.len());
    stream.write_all(format!("{head}{smuggled}").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    says(&answer, &["HTTP/1.1 200 OK\r\n", "connection: close\r\n", "Healthy"]);
    // One that was read leaves the connection as it is.
    assert_eq!(server.predict("echo", "x").header("connection"), None);
}
