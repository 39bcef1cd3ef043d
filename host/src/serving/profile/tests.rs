//! Traces that are made up, in both forms, and what a recording makes of what a handler tells.

use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;

use handler_sdk::Level;
use handler_sdk::MetricKind;
use handler_sdk::abi::instance::HostServices;
use handler_sdk::abi::raw::RawDoor;
use handler_sdk::abi::raw::RawEvent;
use handler_sdk::abi::raw::RawGradients;
use serde_json::Value;
use serde_json::json;

use super::trace::Span;
use super::trace::SpanKind;
use super::trace::Trace;
use super::trace::TracedAnswer;
use super::trace::TracedBatch;
use super::trace::TracedRequest;
use crate::ids::GenerationId;
use crate::ids::ModelName;
use crate::ids::ModelVersion;
use crate::model::Operand;
use crate::model::Operator;
use crate::model::OperatorKind;
use crate::model::Operators;

fn micros(count: u64) -> Duration {
    Duration::from_micros(count)
}

fn tensor(shape: &[i64]) -> Operand {
    Operand::Tensor { dtype: "float32".to_owned(), shape: shape.to_vec() }
}

/// A batch of two requests, 1000 µs after the first of them had come, on a worker of this number.
fn batch(start: Instant, worker: usize) -> TracedBatch {
    let at = |count| start + micros(count);
    let span = |kind, name: &str, began, took| Span {
        kind,
        name: name.to_owned(),
        began: at(began),
        took: micros(took),
        requests: 2,
        has_failed: false,
    };
    let operator = |name: &str, began, took, depth, inputs: &[Operand]| Operator {
        name: name.to_owned(),
        kind: OperatorKind::Operator,
        began: at(began),
        took: micros(took),
        depth,
        inputs: inputs.to_vec(),
    };
    let request =
        |id: &str, arrived| TracedRequest { id: id.to_owned(), arrived: at(arrived), queued: micros(1000 - arrived) };
    let inputs = [tensor(&[2, 3]), tensor(&[4, 3]), Operand::Scalar];
    TracedBatch {
        generation: GenerationId(7),
        worker,
        requests: vec![request("one", 0), request("two", 400)],
        // In the order in which they ended.
        spans: vec![
            span(SpanKind::Stage, "preprocess", 1020, 100),
            span(SpanKind::Model, "forward", 1130, 500),
            span(SpanKind::Stage, "inference", 1120, 520),
            span(SpanKind::Handler, "handler", 1010, 700),
            span(SpanKind::Batch, "batch", 1000, 800),
        ],
        dropped_spans: 0,
        operators: Operators {
            list: vec![
                operator("aten::linear", 1150, 400, 0, &inputs),
                operator("aten::addmm", 1160, 300, 1, &inputs),
                operator(
                    "aten::cat",
                    1560,
                    50,
                    0,
                    &[Operand::Tensors(vec![tensor(&[2]), tensor(&[1])]), Operand::Other],
                ),
            ],
            dropped: 0,
        },
    }
}

fn trace(batches: Vec<TracedBatch>) -> Trace {
    let (model, version) = (ModelName::parse("mnist").unwrap(), ModelVersion::new("1.0"));
    let batches = batches.into_iter().map(Arc::new).collect();
    Trace { model, version, began: SystemTime::UNIX_EPOCH, batches, answer: None }
}

/// The events of a kind, as the file has them.
fn events(file: &Value, ph: &str) -> Vec<Value> {
    file["traceEvents"].as_array().unwrap().iter().filter(|event| event["ph"] == ph).cloned().collect()
}

#[test]
fn chrome_s_format_tells_tracks_times_and_shapes() {
    let start = Instant::now();
    let answer = TracedAnswer { status: 200, content_type: Some("application/json".to_owned()), bytes: 12 };
    let text = trace(vec![batch(start, 1)]).with_answer(answer).chrome().unwrap();
    let file: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(file["displayTimeUnit"], "ms");
    let other = &file["otherData"];
    assert_eq!(
        (&other["model"], &other["version"], &other["began"]),
        (&json!("mnist"), &json!("1.0"), &json!("1970-01-01T00:00:00Z"))
    );
    assert_eq!(other["answer"], json!({"status": 200, "contentType": "application/json", "bytes": 12}));
    assert_eq!((&other["batches"], &other["requests"], &other["operators"]), (&json!(1), &json!(2), &json!(3)));

    let pid = std::process::id();
    let named = |tid: u64, what: &str, name: &str| json!({"ph": "M", "name": what, "pid": pid, "tid": tid, "args": {"name": name}});
    assert_eq!(
        events(&file, "M"),
        [
            named(0, "process_name", "mnist 1.0"),
            named(1, "thread_name", "worker 9001 of generation 7"),
            named(2, "thread_name", "queue before batch 1"),
        ]
    );

    let all = events(&file, "X");
    let shown: Vec<_> = all
        .iter()
        .map(|event| {
            let text = |key: &str| event[key].as_str().unwrap();
            (
                text("name"),
                text("cat"),
                event["tid"].as_u64().unwrap(),
                event["ts"].as_f64().unwrap(),
                event["dur"].as_f64().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            ("batch", "batch", 1, 1000.0, 800.0),
            ("handler", "handler", 1, 1010.0, 700.0),
            ("preprocess", "stage", 1, 1020.0, 100.0),
            ("inference", "stage", 1, 1120.0, 520.0),
            ("forward", "model", 1, 1130.0, 500.0),
            ("aten::linear", "cpu_op", 1, 1150.0, 400.0),
            ("aten::addmm", "cpu_op", 1, 1160.0, 300.0),
            ("aten::cat", "cpu_op", 1, 1560.0, 50.0),
            ("queue", "queue", 2, 0.0, 1000.0),
            ("queue", "queue", 2, 400.0, 600.0),
        ]
    );
    assert_eq!(all[0]["args"], json!({"requests": 2, "ids": ["one", "two"]}));
    assert_eq!(
        all[5]["args"],
        json!({"Input Dims": [[2, 3], [4, 3], []], "Input type": ["float32", "float32", "Scalar"]})
    );
    assert_eq!(all[7]["args"], json!({"Input Dims": [[[2], [1]], []], "Input type": ["TensorList", ""]}));
    assert_eq!(all[9]["args"], json!({"request": "two"}));
}

#[test]
fn each_worker_has_a_track_and_each_batch_a_queue() {
    let start = Instant::now();
    let mut second = batch(start + micros(5000), 0);
    second.generation = GenerationId(8);
    let text = trace(vec![batch(start, 0), second, batch(start + micros(9000), 0)]).chrome().unwrap();
    let file: Value = serde_json::from_str(&text).unwrap();
    let names: Vec<_> =
        events(&file, "M").iter().map(|event| event["args"]["name"].as_str().unwrap().to_owned()).collect();
    assert_eq!(
        names,
        [
            "mnist 1.0",
            "worker 9000 of generation 7",
            "worker 9000 of generation 8",
            "queue before batch 1",
            "queue before batch 2",
            "queue before batch 3"
        ]
    );
    let batches: Vec<_> = events(&file, "X").into_iter().filter(|event| event["name"] == "batch").collect();
    let places: Vec<_> =
        batches.iter().map(|event| (event["tid"].as_u64().unwrap(), event["ts"].as_f64().unwrap())).collect();
    assert_eq!(places, [(1, 1000.0), (1, 10_000.0), (2, 6000.0)]);
}

#[test]
fn the_table_tells_stages_and_operators_by_their_own_time() {
    let start = Instant::now();
    let mut one = batch(start, 0);
    one.operators.dropped = 5;
    let table = trace(vec![one, batch(start + micros(5000), 0)]).table();
    let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    let expected = [
        "mnist 1.0, 1970-01-01T00:00:00Z, 2 batches, 4 requests",
        "5 calls came after there was no more room, and are left out.",
        "",
        "Stage Calls Total ms Mean ms Share",
        "-",
        "queue 4 3.200 0.800",
        "batch 2 1.600 0.800 100.00%",
        "handler 2 1.400 0.700 87.50%",
        "preprocess 2 0.200 0.100 12.50%",
        "inference 2 1.040 0.520 65.00%",
        "forward 2 1.000 0.500 62.50%",
        "",
        "Operator Self % Self ms Total % Total ms Mean ms Calls Input shapes",
        "-",
        "aten::addmm 66.67% 0.600 66.67% 0.600 0.300 2 [[2, 3], [4, 3], []]",
        "aten::linear 22.22% 0.200 88.89% 0.800 0.400 2 [[2, 3], [4, 3], []]",
        "aten::cat 11.11% 0.100 11.11% 0.100 0.050 2 [[[2], [1]], []]",
        "all 100.00% 0.900",
    ];
    assert_eq!(lines.len(), expected.len(), "{table}");
    for (line, expected) in lines.iter().zip(expected) {
        match expected {
            "-" => assert!(line.iter().all(|rule| rule.chars().all(|c| c == '-')), "{table}"),
            _ => assert_eq!(line.join(" "), expected, "{table}"),
        }
    }
    assert!(table.contains("\n    preprocess") && table.contains("\n      forward"), "{table}");
}

#[test]
fn a_call_within_the_same_call_is_counted_once_in_the_total() {
    let mut one = batch(Instant::now(), 0);
    let mut inner = one.operators.list[0].clone();
    (inner.took, inner.depth) = (micros(390), 1);
    one.operators.list[1].depth = 2;
    one.operators.list.insert(1, inner);
    let table = trace(vec![one]).table();
    let linear = table.lines().find(|line| line.starts_with("aten::linear")).unwrap();
    let columns: Vec<&str> = linear.split_whitespace().take(7).collect();
    assert_eq!(columns, ["aten::linear", "22.22%", "0.100", "88.89%", "0.400", "0.200", "2"], "{table}");
}

#[test]
fn without_operators_the_table_says_why() {
    let mut one = batch(Instant::now(), 0);
    one.operators = Operators::default();
    let table = trace(vec![one]).table();
    let why = if cfg!(feature = "torch") { "No operator of libtorch ran" } else { "built without libtorch" };
    assert!(table.contains(why), "{table}");
}

/// Services that take some time for each call.
struct Slow;

impl HostServices for Slow {
    fn log(&self, _: Level, _: &str) {}

    fn metric(&self, _: MetricKind, _: &str, _: f64, _: &str, _: &[(&str, &str)]) {}

    fn forward(
        &self,
        method: &str,
        _: &[RawEvent<'_>],
        _: RawDoor,
        _: &mut dyn FnMut(&RawEvent<'_>),
    ) -> Result<(), String> {
        let began = Instant::now();
        while began.elapsed() < micros(200) {
            std::hint::spin_loop();
        }
        if method == "forward" { Ok(()) } else { Err("there is no such method".to_owned()) }
    }

    fn weights(&self, _: RawDoor, _: &mut dyn FnMut(&RawEvent<'_>)) -> Result<(), String> {
        Ok(())
    }

    fn layer(
        &self,
        _: &str,
        _: &str,
        _: &[RawEvent<'_>],
        _: RawDoor,
        _: &mut dyn FnMut(&RawEvent<'_>),
    ) -> Result<(), String> {
        Ok(())
    }

    fn gradients(&self, _: &RawGradients<'_>, _: RawDoor, _: &mut dyn FnMut(&RawEvent<'_>)) -> Result<(), String> {
        Ok(())
    }
}

#[test]
fn all_that_a_handler_asks_of_its_model_is_passed_on() {
    let (_, spans) = super::recording::observed(&Slow, |services| {
        let asked = RawGradients { method: "forward".into(), layer: "".into(), target: 0, inputs: Default::default() };
        let results = [
            services.weights(RawDoor::PLAIN, &mut |_| {}),
            services.layer("forward", "embedding", &[], RawDoor::PLAIN, &mut |_| {}),
            services.gradients(&asked, RawDoor::PLAIN, &mut |_| {}),
        ];
        assert!(results.iter().all(Result::is_ok), "{results:?}");
    });
    let names: Vec<_> = spans.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(names, ["weights", "forward", "gradients", "handler"]);
}

#[test]
fn a_stage_lies_within_its_call_whatever_it_says_of_itself() {
    for milliseconds in [0.0, 0.05, 1e9, -1.0, f64::NAN, f64::INFINITY] {
        let (began, spans) = super::recording::observed(&Slow, |services| {
            let stage = |name| services.metric(MetricKind::Gauge, name, milliseconds, "ms", &[]);
            stage("ts_handler_preprocess");
            let forward = |method| services.forward(method, &[], RawDoor::PLAIN, &mut |_| {});
            assert!(forward("forward").is_ok() && forward("other").is_err());
            stage("ts_handler_inference");
            services.metric(MetricKind::Gauge, "of_its_own", 7.0, "ms", &[]);
            stage("ts_handler_postprocess");
        });
        let names: Vec<_> = spans.iter().map(|span| (span.kind, span.name.as_str(), span.has_failed)).collect();
        assert_eq!(
            names,
            [
                (SpanKind::Stage, "preprocess", false),
                (SpanKind::Model, "forward", false),
                (SpanKind::Model, "other", true),
                (SpanKind::Stage, "inference", false),
                (SpanKind::Stage, "postprocess", false),
                (SpanKind::Handler, "handler", false),
            ],
            "{milliseconds}"
        );
        let [preprocess, forward, other, inference, postprocess, handler] = &spans[..] else { unreachable!() };
        let within = |inner: &Span, outer: &Span| inner.began >= outer.began && inner.ended() <= outer.ended();
        assert!([preprocess, inference, postprocess].iter().all(|stage| within(stage, handler)), "{spans:?}");
        // One that says too little of itself may leave a call out, but not cut it.
        let says_enough = milliseconds == 1e9;
        for model in [forward, other] {
            let is_apart = !says_enough && model.ended() <= inference.began;
            assert!(within(model, inference) || is_apart, "{milliseconds}: {spans:?}");
        }
        assert!(began <= preprocess.began, "{spans:?}");
        assert!(preprocess.ended() <= inference.began && inference.ended() <= postprocess.began, "{spans:?}");
    }
}
