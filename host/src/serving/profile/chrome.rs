//! A trace as a file of Chrome's trace event format, which ui.perfetto.dev and chrome://tracing open.
//!
//! Names of members that other tools look for, as `Input Dims`, are those of PyTorch's own profiler.

use std::cmp::Reverse;
use std::time::Duration;
use std::time::Instant;

use serde::Serialize;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::trace::FIRST_WORKER;
use super::trace::Span;
use super::trace::Trace;
use super::trace::TracedBatch;
use crate::model::Operand;
use crate::model::Operator;
use crate::model::OperatorKind;
use crate::model::Runtime;

/// All of it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct File {
    display_time_unit: &'static str,
    /// What is known besides; viewers show it as it is.
    other_data: Value,
    trace_events: Vec<Event>,
}

#[derive(Debug, Serialize)]
struct Event {
    /// `M`: a name. `X`: something with a beginning and a duration.
    ph: &'static str,
    name: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    cat: &'static str,
    pid: u32,
    tid: usize,
    /// In microseconds, as the duration is.
    #[serde(skip_serializing_if = "Option::is_none")]
    ts: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dur: Option<f64>,
    args: Map<String, Value>,
}

/// A track of the picture: a worker, or the queue before a batch.
struct Track {
    pid: u32,
    tid: usize,
    start: Instant,
}

// === impl Trace ===

impl Trace {
    /// As JSON in Chrome's trace event format.
    pub fn chrome(&self) -> serde_json::Result<String> {
        let pid = std::process::id();
        let start = self.start().unwrap_or_else(Instant::now);
        let mut events = Vec::new();
        let process = Track { pid, tid: 0, start };
        events.push(process.named("process_name", format!("{} {}", self.model, self.version)));
        let mut tid = 0;
        let mut track = || {
            tid += 1;
            Track { pid, tid, start }
        };
        for ((generation, worker), batches) in self.workers() {
            let track = track();
            let name = format!("worker {} of generation {generation}", FIRST_WORKER + worker);
            events.push(track.named("thread_name", name));
            batches.into_iter().for_each(|batch| track.put_batch(batch, &mut events));
        }
        // A track for each batch: what waits for different ones may begin and end in any order.
        for (index, batch) in self.batches.iter().enumerate() {
            let track = track();
            events.push(track.named("thread_name", format!("queue before batch {}", index + 1)));
            let mut waits: Vec<_> = batch.requests.iter().collect();
            waits.sort_by_key(|request| request.arrived);
            events.extend(waits.into_iter().map(|request| {
                let args = Map::from_iter([("request".to_owned(), Value::from(request.id.as_str()))]);
                track.event("queue", "queue", request.arrived, request.queued, args)
            }));
        }
        serde_json::to_string(&File { display_time_unit: "ms", other_data: self.other_data(), trace_events: events })
    }

    fn other_data(&self) -> Value {
        let answer = self
            .answer
            .as_ref()
            .map(|answer| json!({"status": answer.status, "contentType": answer.content_type, "bytes": answer.bytes}));
        json!({
            "model": self.model.as_str(),
            "version": self.version.as_str(),
            "began": OffsetDateTime::from(self.began).format(&Rfc3339).unwrap_or_default(),
            "batches": self.batches.len(),
            "requests": self.requests(),
            "answer": answer,
            "operators": self.operators(),
            "dropped": self.dropped(),
            "libtorch": Runtime::libtorch_version(),
        })
    }
}

// === impl Track ===

impl Track {
    fn named(&self, what: &str, name: String) -> Event {
        Event {
            ph: "M",
            name: what.to_owned(),
            cat: "",
            pid: self.pid,
            tid: self.tid,
            ts: None,
            dur: None,
            args: Map::from_iter([("name".to_owned(), Value::from(name))]),
        }
    }

    fn event(&self, name: &str, cat: &'static str, began: Instant, took: Duration, args: Map<String, Value>) -> Event {
        Event {
            ph: "X",
            name: name.to_owned(),
            cat,
            pid: self.pid,
            tid: self.tid,
            ts: Some(microseconds(began.saturating_duration_since(self.start))),
            dur: Some(microseconds(took)),
            args,
        }
    }

    /// What lies within another event comes after it.
    fn put_batch(&self, batch: &TracedBatch, events: &mut Vec<Event>) {
        let spans = batch.spans.iter().map(|span| {
            let event = self.event(&span.name, span.kind.as_str(), span.began, span.took, span_args(span, batch));
            ((span.began, span.kind.depth(), 0, Reverse(span.took)), event)
        });
        let operators = batch.operators.list.iter().map(|one| {
            let event = self.event(&one.name, category(one.kind), one.began, one.took, operator_args(one));
            ((one.began, usize::MAX, one.depth, Reverse(one.took)), event)
        });
        let mut all: Vec<_> = spans.chain(operators).collect();
        all.sort_by_key(|(place, _)| *place);
        events.extend(all.into_iter().map(|(_, event)| event));
    }
}

/// As PyTorch's own profiler calls them.
fn category(kind: OperatorKind) -> &'static str {
    match kind {
        OperatorKind::Operator | OperatorKind::Backward | OperatorKind::Script => "cpu_op",
        OperatorKind::Named => "user_annotation",
    }
}

fn span_args(span: &Span, batch: &TracedBatch) -> Map<String, Value> {
    let mut args = Map::new();
    args.insert("requests".to_owned(), span.requests.into());
    if span.kind.depth() == 0 {
        let ids: Vec<_> = batch.requests.iter().map(|request| request.id.as_str()).collect();
        args.insert("ids".to_owned(), ids.into());
    }
    if span.has_failed {
        args.insert("failed".to_owned(), true.into());
    }
    args
}

fn operator_args(operator: &Operator) -> Map<String, Value> {
    let mut args = Map::new();
    if !operator.inputs.is_empty() {
        args.insert("Input Dims".to_owned(), operator.inputs.iter().map(dims).collect());
        args.insert("Input type".to_owned(), operator.inputs.iter().map(dtype).collect());
    }
    args
}

/// What is no tensor has no shape: an empty one, as in PyTorch's traces.
fn dims(operand: &Operand) -> Value {
    match operand {
        Operand::Tensor { shape, .. } => shape.as_slice().into(),
        Operand::Tensors(list) => list.iter().map(dims).collect(),
        Operand::Scalar | Operand::Other => json!([]),
    }
}

fn dtype(operand: &Operand) -> Value {
    match operand {
        Operand::Tensor { dtype, .. } => dtype.as_str().into(),
        Operand::Tensors(_) => "TensorList".into(),
        Operand::Scalar => "Scalar".into(),
        Operand::Other => "".into(),
    }
}

/// To a nanosecond.
fn microseconds(time: Duration) -> f64 {
    time.as_nanos() as f64 / 1e3
}
