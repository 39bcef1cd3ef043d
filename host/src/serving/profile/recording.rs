//! What a worker records of one batch.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use handler_sdk::Level;
use handler_sdk::MetricKind;
use handler_sdk::abi::STAGE_METRICS;
use handler_sdk::abi::instance::HostServices;
use handler_sdk::abi::raw::RawDoor;
use handler_sdk::abi::raw::RawEvent;
use handler_sdk::abi::raw::RawGradients;

use super::profiler::Commission;
use super::profiler::Profiler;
use super::trace::Span;
use super::trace::SpanKind;
use super::trace::TracedBatch;
use super::trace::TracedRequest;
use crate::ids::GenerationId;
use crate::model::OperatorRecorder;
use crate::plugin::Request;

/// A batch being recorded, on its worker's thread.
#[derive(Debug)]
pub(in crate::serving) struct Recording {
    commission: Commission,
    began: Instant,
    requests: Vec<TracedRequest>,
    spans: RefCell<Spans>,
    operators: OperatorRecorder,
}

/// The host's services of one call, with an eye on what is asked of them and when.
pub(in crate::serving) struct Observed<'a> {
    services: &'a dyn HostServices,
    spans: &'a RefCell<Spans>,
    /// Of how many requests.
    requests: usize,
    /// When the call began.
    since: Instant,
}

#[derive(Debug, Default)]
struct Spans {
    list: Vec<Span>,
    dropped: usize,
}

/// A handler may call its model without end.
const MOST_SPANS: usize = 10_000;

// === impl Recording ===

impl Recording {
    /// Begins where somebody asks for this batch, which was taken at `began`; `waited` says how long each request was in the queue.
    pub(in crate::serving) fn begin<'a>(
        profiler: &Profiler,
        requests: impl Iterator<Item = Option<&'a Request>> + Clone,
        waited: impl Iterator<Item = Duration>,
        began: Instant,
    ) -> Option<Self> {
        let ids = requests.map(|request| request.map_or("", |request| request.id.as_str()));
        let commission = profiler.commission(ids.clone())?;
        let requests = ids
            .zip(waited)
            .map(|(id, queued)| TracedRequest {
                id: id.to_owned(),
                arrived: began.checked_sub(queued).unwrap_or(began),
                queued,
            })
            .collect();
        let operators = OperatorRecorder::begin(commission.room());
        Some(Self { commission, began, requests, spans: RefCell::default(), operators })
    }

    /// Lets a call of the handler, or of the model without it, use these services.
    pub(in crate::serving) fn observe<'a>(&'a self, services: &'a dyn HostServices, requests: usize) -> Observed<'a> {
        Observed { services, spans: &self.spans, requests, since: Instant::now() }
    }

    /// Tells whoever asked what it has seen, and gives it.
    pub(in crate::serving) fn end(self, generation: GenerationId, worker: usize) -> Arc<TracedBatch> {
        let requests = self.requests.len();
        let Spans { list: mut spans, dropped: dropped_spans } = self.spans.into_inner();
        spans.push(Span::ended_now(SpanKind::Batch, "batch", self.began, requests));
        let operators = self.operators.end();
        let batch = TracedBatch { generation, worker, requests: self.requests, spans, dropped_spans, operators };
        let batch = Arc::new(batch);
        self.commission.deliver(Arc::clone(&batch));
        batch
    }
}

// === impl Observed ===

impl Observed<'_> {
    /// The call has come back.
    pub(in crate::serving) fn end(self, has_failed: bool) {
        let span = Span::ended_now(SpanKind::Handler, "handler", self.since, self.requests);
        self.spans.borrow_mut().push(Span { has_failed, ..span });
    }

    /// A stage has ended, and has taken so long by its own account.
    ///
    /// It can't have begun before the one before it had ended, nor after a call of the model that it made.
    fn stage_ended(&self, name: &str, milliseconds: f64) {
        let now = Instant::now();
        let mut spans = self.spans.borrow_mut();
        let ours = || spans.list.iter().filter(|span| span.began >= self.since);
        let stages = ours().filter(|span| span.kind == SpanKind::Stage);
        let earliest = stages.map(Span::ended).max().unwrap_or(self.since);
        let took = Duration::try_from_secs_f64(milliseconds / 1e3).unwrap_or_default();
        let by_its_account = now.checked_sub(took).unwrap_or(earliest).max(earliest);
        let calls = ours().filter(|span| span.kind == SpanKind::Model && span.began >= earliest);
        let first_call = calls.filter(|span| span.ended() > by_its_account).map(|span| span.began).min();
        let began = first_call.map_or(by_its_account, |call| call.min(by_its_account));
        let name = name.trim_start_matches("ts_handler_");
        let took = now.saturating_duration_since(began);
        let requests = self.requests;
        spans.push(Span { kind: SpanKind::Stage, name: name.to_owned(), began, took, requests, has_failed: false });
    }

    fn timed<T>(&self, name: &str, call: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
        let began = Instant::now();
        let result = call();
        let span = Span::ended_now(SpanKind::Model, name, began, self.requests);
        self.spans.borrow_mut().push(Span { has_failed: result.is_err(), ..span });
        result
    }
}

// All of the trait's methods are passed on, those with a body of their own, too: that body is for hosts that lack something.
impl HostServices for Observed<'_> {
    fn log(&self, level: Level, message: &str) {
        self.services.log(level, message);
    }

    fn metric(&self, kind: MetricKind, name: &str, value: f64, unit: &str, labels: &[(&str, &str)]) {
        if STAGE_METRICS.contains(&name) {
            self.stage_ended(name, value);
        }
        self.services.metric(kind, name, value, unit, labels);
    }

    fn forward(
        &self,
        method: &str,
        inputs: &[RawEvent<'_>],
        door: RawDoor,
        emit: &mut dyn FnMut(&RawEvent<'_>),
    ) -> Result<(), String> {
        self.timed(method, || self.services.forward(method, inputs, door, emit))
    }

    fn weights(&self, door: RawDoor, emit: &mut dyn FnMut(&RawEvent<'_>)) -> Result<(), String> {
        self.timed("weights", || self.services.weights(door, emit))
    }

    fn layer(
        &self,
        method: &str,
        layer: &str,
        inputs: &[RawEvent<'_>],
        door: RawDoor,
        emit: &mut dyn FnMut(&RawEvent<'_>),
    ) -> Result<(), String> {
        self.timed(method, || self.services.layer(method, layer, inputs, door, emit))
    }

    fn gradients(
        &self,
        asked: &RawGradients<'_>,
        door: RawDoor,
        emit: &mut dyn FnMut(&RawEvent<'_>),
    ) -> Result<(), String> {
        self.timed("gradients", || self.services.gradients(asked, door, emit))
    }
}

// === impl Spans ===

impl Spans {
    fn push(&mut self, span: Span) {
        if self.list.len() < MOST_SPANS {
            self.list.push(span);
        } else {
            self.dropped += 1;
        }
    }
}

// === impl Span ===

impl Span {
    fn ended_now(kind: SpanKind, name: &str, began: Instant, requests: usize) -> Self {
        Self { kind, name: name.to_owned(), began, took: began.elapsed(), requests, has_failed: false }
    }

    pub(super) fn ended(&self) -> Instant {
        self.began + self.took
    }
}

/// What is observed of a call that does this with its services.
#[cfg(test)]
pub(super) fn observed(services: &dyn HostServices, call: impl FnOnce(&dyn HostServices)) -> (Instant, Vec<Span>) {
    let spans = RefCell::default();
    let observed = Observed { services, spans: &spans, requests: 1, since: Instant::now() };
    let since = observed.since;
    call(&observed);
    observed.end(false);
    (since, spans.into_inner().list)
}
