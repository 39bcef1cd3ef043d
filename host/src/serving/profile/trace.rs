//! What a profile has seen: batches, each with its requests, its spans of time and libtorch's operators.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;

use crate::ids::GenerationId;
use crate::ids::ModelName;
use crate::ids::ModelVersion;
use crate::model::Operators;

/// What was seen of one endpoint.
#[derive(Debug)]
pub struct Trace {
    pub(super) model: ModelName,
    pub(super) version: ModelVersion,
    /// When the profile was asked for.
    pub(super) began: SystemTime,
    /// In the order in which they ended.
    pub(super) batches: Vec<Arc<TracedBatch>>,
    /// Of the request that the profile was about, if it was about one.
    pub(super) answer: Option<TracedAnswer>,
}

/// What the client of a profiled request would have got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TracedAnswer {
    pub status: u16,
    pub content_type: Option<String>,
    pub bytes: usize,
}

/// One batch, on one thread.
#[derive(Debug)]
pub(in crate::serving) struct TracedBatch {
    pub(super) generation: GenerationId,
    pub(super) worker: usize,
    pub(super) requests: Vec<TracedRequest>,
    /// In no order; each lies within another one, or beside it.
    pub(super) spans: Vec<Span>,
    pub(super) dropped_spans: usize,
    pub(super) operators: Operators,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TracedRequest {
    /// Empty where the model was called without its handler.
    pub(super) id: String,
    pub(super) arrived: Instant,
    /// From then until a worker took it.
    pub(super) queued: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) kind: SpanKind,
    pub(super) name: String,
    pub(super) began: Instant,
    pub(super) took: Duration,
    /// How many requests it was about.
    pub(super) requests: usize,
    pub(super) has_failed: bool,
}

/// In the order in which one lies within another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum SpanKind {
    /// From when a worker has taken the batch until its answers are there.
    Batch,
    /// One call of the handler; where it fails for several requests, each is tried alone.
    Handler,
    /// A step of a handler that has them: preprocess, inference, postprocess.
    Stage,
    /// A call of the host's model.
    Model,
}

/// TorchServe numbers workers by their ports, which begin here, and so does a model's description.
pub(super) const FIRST_WORKER: usize = 9000;

// === impl Trace ===

impl Trace {
    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// With what came of the request that it is about.
    #[must_use]
    pub fn with_answer(self, answer: TracedAnswer) -> Self {
        Self { answer: Some(answer), ..self }
    }

    /// The instant that times are told from: the first of all.
    pub(super) fn start(&self) -> Option<Instant> {
        let arrived = self.batches.iter().flat_map(|batch| &batch.requests).map(|request| request.arrived);
        let spans = self.batches.iter().flat_map(|batch| &batch.spans).map(|span| span.began);
        arrived.chain(spans).min()
    }

    pub(super) fn requests(&self) -> usize {
        self.batches.iter().map(|batch| batch.requests.len()).sum()
    }

    pub(super) fn operators(&self) -> usize {
        self.batches.iter().map(|batch| batch.operators.list.len()).sum()
    }

    /// How many spans and operators there was no room for.
    pub(super) fn dropped(&self) -> usize {
        self.batches.iter().map(|batch| batch.dropped_spans + batch.operators.dropped).sum()
    }

    /// The workers that it is about, each with the generation it belongs to.
    pub(super) fn workers(&self) -> BTreeMap<(GenerationId, usize), Vec<&TracedBatch>> {
        let mut workers: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for batch in &self.batches {
            workers.entry((batch.generation, batch.worker)).or_default().push(&**batch);
        }
        workers
    }
}

// === impl SpanKind ===

impl SpanKind {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Batch => "batch",
            Self::Handler => "handler",
            Self::Stage => "stage",
            Self::Model => "model",
        }
    }

    /// How many others it lies within.
    pub(super) fn depth(self) -> usize {
        self as usize
    }
}
