//! Profiles over HTTP: a request's or the next batches', in both formats, whatever happens meanwhile.

use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::sync::Barrier;

use serde_json::Value;

use crate::support::Answer;
use crate::support::Archive;
use crate::support::Gate;
use crate::support::Sent;
use crate::support::Server;
use crate::support::Setup;
use crate::support::eventually;
use crate::support::first_party;
use crate::support::fixture;
use crate::support::multipart;
use crate::support::says;

/// A trace in Chrome's format, whose structure is as it should be.
#[derive(Debug)]
pub(crate) struct Chrome(Value);

impl Chrome {
    /// Of an answer that succeeded.
    #[track_caller]
    pub(crate) fn of(answer: &Answer) -> Self {
        answer.ok();
        assert_eq!(answer.header("content-type"), Some("application/json"));
        Self::new(answer.json())
    }

    #[track_caller]
    fn new(file: Value) -> Self {
        let file = Self(file);
        file.assert_well_formed();
        file
    }

    pub(crate) fn other(&self) -> &Value {
        &self.0["otherData"]
    }

    fn events(&self) -> &[Value] {
        self.0["traceEvents"].as_array().unwrap()
    }

    /// The names of tracks and of the process.
    fn names(&self) -> Vec<&str> {
        let names = self.events().iter().filter(|event| event["ph"] == "M");
        names.map(|event| event["args"]["name"].as_str().unwrap()).collect()
    }

    /// What has a duration, of one category.
    pub(crate) fn of_category(&self, category: &str) -> Vec<&Value> {
        self.events().iter().filter(|event| event["ph"] == "X" && event["cat"] == category).collect()
    }

    /// The names of those.
    pub(crate) fn named(&self, category: &str) -> Vec<&str> {
        self.of_category(category).iter().map(|event| event["name"].as_str().unwrap()).collect()
    }

    /// Whether the one lies within the other.
    pub(crate) fn is_within(inner: &Value, outer: &Value) -> bool {
        let (begin, end) = place(inner);
        let (outer_begin, outer_end) = place(outer);
        inner["tid"] == outer["tid"] && begin >= outer_begin - GRAIN && end <= outer_end + GRAIN
    }

    /// Every event is a name or has a time, every track has a name, and on each one event lies within another or beside it, outer ones first.
    #[track_caller]
    fn assert_well_formed(&self) {
        let pid = self.events()[0]["pid"].as_u64().unwrap();
        let named: Vec<_> =
            self.events().iter().filter(|event| event["name"] == "thread_name").map(|event| &event["tid"]).collect();
        let mut open: Vec<&Value> = Vec::new();
        for event in self.events() {
            assert_eq!(event["pid"].as_u64(), Some(pid), "{event}");
            assert!(event["args"].is_object() && event["tid"].is_u64(), "{event}");
            match event["ph"].as_str().unwrap() {
                "M" => assert!(["process_name", "thread_name"].contains(&event["name"].as_str().unwrap()), "{event}"),
                "X" => {
                    assert!(named.contains(&&event["tid"]), "{event}");
                    assert!(!event["name"].as_str().unwrap().is_empty(), "{event}");
                    let (begin, end) = place(event);
                    assert!(begin >= 0.0 && end >= begin, "{event}");
                    open.retain(|outer| outer["tid"] == event["tid"] && place(outer).1 > begin + GRAIN);
                    let outer = open.last();
                    assert!(outer.is_none_or(|outer| Self::is_within(event, outer)), "{event} crosses {outer:?}");
                    open.push(event);
                }
                other => panic!("{other}"),
            }
        }
    }
}

/// Numbers of JSON are rounded.
const GRAIN: f64 = 0.0005;

/// When it begins and ends, in microseconds.
fn place(event: &Value) -> (f64, f64) {
    let (begin, took) = (event["ts"].as_f64().unwrap(), event["dur"].as_f64().unwrap());
    (begin, begin + took)
}

fn path(model: &str, query: &str) -> String {
    format!("/models/{model}/profile{query}")
}

fn profile(server: &Server, model: &str, request: &Sent) -> Answer {
    server.management(&path(model, ""), request)
}

fn with_measures() -> Setup {
    Setup::with_echo().plugin(&fixture("measures")).model(&Archive::new("measures", "measures"))
}

#[test]
fn a_request_s_trace_tells_its_queue_its_stages_and_its_answer() {
    let server = with_measures().start();
    let form = multipart(&[("data", "", b"a form")]);
    for (model, request) in [("measures", Sent::body("a body")), ("measures/1.0", form)] {
        let trace = Chrome::of(&profile(&server, model, &request));
        assert_eq!(trace.names()[0], "measures 1.0");
        says(trace.names()[1], &["worker 9000 of generation "]);
        assert_eq!(trace.names()[2], "queue before batch 1");
        assert_eq!(trace.named("queue"), ["queue"]);
        assert_eq!(trace.named("batch"), ["batch"]);
        assert_eq!(trace.named("handler"), ["handler"]);
        assert_eq!(trace.named("stage"), ["preprocess", "inference", "postprocess"]);
        let (batch, handler) = (trace.of_category("batch")[0], trace.of_category("handler")[0]);
        assert!(Chrome::is_within(handler, batch), "{trace:?}");
        assert!(trace.of_category("stage").iter().all(|stage| Chrome::is_within(stage, handler)), "{trace:?}");
        assert_eq!(place(trace.of_category("queue")[0]).1.round(), place(batch).0.round(), "it waited until then");
        let other = trace.other();
        assert_eq!(
            (&other["model"], &other["requests"], &other["answer"]["status"]),
            (&"measures".into(), &1.into(), &200.into())
        );
        let answer = server.predict("measures", "a body");
        assert!(other["answer"]["bytes"].as_u64().unwrap() > 0 && answer.status == 200, "{other}");
        assert_eq!(other["answer"]["contentType"].as_str(), answer.header("content-type"));
    }
    let table = server.management(&path("measures", "?format=table"), &Sent::body("a body"));
    assert_eq!(table.header("content-type"), Some("text/plain; charset=utf-8"));
    says(&table.ok(), &["measures 1.0, ", "1 batch, 1 request, answered 200 with", "Stage", "queue", "postprocess"]);
    server.still_serves();
}

#[test]
fn what_the_handler_refuses_is_traced_too() {
    let server = Setup::with_echo()
        .plugin(&fixture("panics"))
        .model(&Archive::new("panics", "panics"))
        .plugin(&fixture("measures"))
        .model(&Archive::new("measures", "measures"))
        .start();
    let trace = Chrome::of(&profile(&server, "measures", &Sent::body([0xff, 0xfe])));
    assert_eq!(trace.other()["answer"]["status"], 400, "{trace:?}");
    assert_eq!(trace.named("stage"), ["preprocess", "postprocess"], "nothing was left for inference");

    let status = server.predict("panics", "panic").status;
    let trace = Chrome::of(&profile(&server, "panics", &Sent::body("panic")));
    assert_eq!(trace.other()["answer"]["status"], status, "{trace:?}");
    assert_eq!(trace.of_category("handler")[0]["args"]["failed"], true, "{trace:?}");
    assert_eq!(server.predict("panics", "well").ok(), "well");
    server.still_serves();
}

#[test]
fn a_batch_that_fails_as_a_whole_shows_each_further_call() {
    let config = "batchSize: 3\nmaxBatchDelay: 3600000\n";
    let server = Setup::new()
        .plugin(&fixture("batch-size-teller"))
        .model(&Archive::new("teller", "batch_size_teller").config(config))
        .start();
    let barrier = Barrier::new(3);
    let answer = std::thread::scope(|scope| {
        for body in ["a", "b"] {
            let (server, barrier) = (&server, &barrier);
            scope.spawn(move || {
                barrier.wait();
                assert_eq!(server.predict("teller", body).ok(), "1");
            });
        }
        barrier.wait();
        profile(&server, "teller", &Sent::body("poison"))
    });
    let trace = Chrome::of(&answer);
    let calls: Vec<_> = trace
        .of_category("handler")
        .iter()
        .map(|call| (call["args"]["requests"].as_u64().unwrap(), call["args"]["failed"] == true))
        .collect();
    assert_eq!((calls.len(), calls[0]), (4, (3, true)), "{trace:?}");
    assert_eq!(calls[1..].iter().filter(|call| **call == (1, true)).count(), 1, "{trace:?}");
    assert_eq!((trace.other()["requests"].as_u64(), trace.named("queue").len()), (Some(3), 3));
    assert_eq!(trace.other()["answer"]["status"], 503);
}

#[test]
fn the_next_batches_are_traced_across_a_swap() {
    let server = Setup::with_echo().start();
    let trace = std::thread::scope(|scope| {
        let watching = scope.spawn(|| server.management(&path("echo", "?batches=4&timeout=60"), &Sent::get()));
        let reload = || server.management("/models/echo/reload", &Sent::body("")).ok();
        while !watching.is_finished() {
            assert_eq!(server.predict("echo", "x").ok(), "x");
            reload();
        }
        Chrome::of(&watching.join().unwrap())
    });
    assert_eq!(trace.other()["batches"], 4);
    assert_eq!(trace.other()["answer"], Value::Null);
    let workers: Vec<_> = trace.names().into_iter().filter(|name| name.starts_with("worker ")).collect();
    assert!(workers.len() > 1, "all of one generation: {workers:?}");
    assert_eq!(trace.named("batch").len(), 4);
    server.still_serves();
}

#[test]
fn one_is_profiled_at_a_time_until_its_client_has_gone() {
    let server = Setup::with_echo().plugin(&fixture("waits")).model(&Archive::new("waits", "waits")).start();
    let (first, second) = (Gate::new(), Gate::new());
    let busy = |request: &Sent| {
        let message = profile(&server, "waits", request).error(409, "ConflictStatusException");
        says(&message, &["Model \"waits\" Version 1.0 is being profiled", "one at a time"]);
    };
    std::thread::scope(|scope| {
        let _open = first.opener();
        let profiled = scope.spawn(|| profile(&server, "waits", &Sent::body(first.body())));
        first.wait_for_a_call();
        busy(&Sent::get());
        busy(&Sent::body(second.body()));
        assert!(!second.was_called(), "who is refused isn't predicted");
        assert_eq!(Chrome::of(&profile(&server, "echo", &Sent::body("x"))).named("batch").len(), 1);
        first.open();
        assert_eq!(Chrome::of(&profiled.join().unwrap()).other()["answer"]["bytes"], 16);
    });

    // Who hangs up is profiled no longer.
    let _open = second.opener();
    let mut client = TcpStream::connect(server.management_address()).unwrap();
    let body = second.body();
    write!(client, "POST {} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}", path("waits", ""), body.len())
        .unwrap();
    second.wait_for_a_call();
    busy(&Sent::get());
    drop(client);
    let answer = eventually("the profile to end with its client", || {
        let answer = server.management(&path("waits", "?timeout=1"), &Sent::get());
        (answer.status != 409).then_some(answer)
    });
    let message = answer.error(408, "RequestTimeoutException");
    says(&message, &["No batch of model \"waits\"", "within 1 s", "POST one to this path"]);
    second.open();
    Chrome::of(&profile(&server, "waits", &Sent::body(second.body())));
    server.still_serves();
}

#[test]
fn what_can_t_be_profiled_says_why() {
    let server = with_measures().plugin(&first_party("echo")).start();
    for request in [Sent::get(), Sent::body("x")] {
        profile(&server, "nobody", &request).error(404, "ModelNotFoundException");
        profile(&server, "echo/2.0", &request).error(404, "ModelVersionNotFoundException");
        let message = server.management(&path("echo", "?format=xml"), &request).error(400, "BadRequestException");
        assert_eq!(message, "format must be chrome or table, not \"xml\".");
    }
    for query in ["?batches=0", "?batches=101", "?timeout=never"] {
        server.management(&path("echo", query), &Sent::get()).error(400, "BadRequestException");
    }
    server.management("/models/echo?min_worker=0&synchronous=true", &Sent::body("").method("PUT")).ok();
    for request in [Sent::get(), Sent::body("x")] {
        let message = profile(&server, "echo", &request).error(503, "ServiceUnavailableException");
        says(&message, &["Model \"echo\"", "has no worker"]);
    }
    assert_eq!(profile(&server, "echo", &Sent::body("").method("DELETE")).status, 405);
    Chrome::of(&profile(&server, "measures", &Sent::body("x")));
}

#[test]
fn torchserve_s_variable_writes_the_trace_of_every_batch() {
    let folder = tempfile::tempdir().unwrap();
    let server = with_measures()
        .variable("ENABLE_TORCH_PROFILER", "TRUE")
        .variable("TMPDIR", folder.path().to_str().unwrap())
        .start();
    let written = |count: usize| {
        let of_model = folder.path().join("pytorch_profiler/measures");
        eventually("a file for each batch", || {
            let files: Vec<_> = fs::read_dir(&of_model).ok()?.map(|file| file.unwrap().path()).collect();
            let texts: Vec<_> = files.iter().map(|file| fs::read(file).unwrap()).collect();
            let traces: Vec<_> = texts.iter().filter_map(|text| serde_json::from_slice(text).ok()).collect();
            (traces.len() == count).then(|| {
                for file in &files {
                    let name = file.file_name().unwrap().to_str().unwrap();
                    assert!(name.starts_with("worker9000.") && name.ends_with(".pt.trace.json"), "{name}");
                }
                traces.into_iter().map(Chrome::new).collect::<Vec<_>>()
            })
        })
    };
    (0..3).for_each(|_| drop(server.predict("measures", "a body").ok()));
    for trace in written(3) {
        assert_eq!(trace.named("stage"), ["preprocess", "inference", "postprocess"]);
        assert_eq!((&trace.other()["model"], &trace.other()["answer"]), (&"measures".into(), &Value::Null));
    }
    // Who asks for one besides gets it all the same.
    assert_eq!(Chrome::of(&profile(&server, "measures", &Sent::body("b"))).other()["answer"]["status"], 200);
    written(4);
}
