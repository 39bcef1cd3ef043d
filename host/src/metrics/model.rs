//! The metrics of one version of one model: its requests, its batches, its workers.

use std::sync::Arc;
use std::sync::OnceLock;
use std::time::Duration;

use handler_sdk::MetricKind;
use handler_sdk::abi::STAGE_METRICS;
use prometheus::Counter;
use prometheus::Histogram;

use super::Metrics;
use super::MetricsError;
use super::family::Series;
use super::own::Failure;
use crate::ids::ModelName;
use crate::ids::ModelVersion;

/// How a client named a model's version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AskedVersion {
    /// Not at all, and got the default one.
    Default,
    Named,
}

/// What is counted where requests pass; nothing is looked up there.
#[derive(Debug, Clone)]
pub struct ModelMetrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    metrics: Metrics,
    name: ModelName,
    version: ModelVersion,
    /// Made when they are first needed: a version that nobody asks for by name has no series of that name.
    by_default: OnceLock<RequestSeries>,
    by_version: OnceLock<RequestSeries>,
    times: OnceLock<TimeSeries>,
    request_seconds: Histogram,
    queue_seconds: Histogram,
    batch_size: Histogram,
    stages: [Histogram; STAGE_METRICS.len()],
    failed: [Counter; Failure::ALL.len()],
}

#[derive(Debug)]
struct RequestSeries {
    requests: Series,
    latency: Series,
    queued: Series,
}

#[derive(Debug)]
struct TimeSeries {
    handler: Series,
    prediction: Series,
}

/// What [`STAGE_METRICS`] are called as a label, in their order.
const STAGES: [&str; STAGE_METRICS.len()] = ["preprocess", "inference", "postprocess"];

// === impl AskedVersion ===

impl AskedVersion {
    /// As the request has it.
    pub fn of(version: Option<&str>) -> Self {
        if version.is_some() { Self::Named } else { Self::Default }
    }
}

// === impl ModelMetrics ===

impl ModelMetrics {
    pub(super) fn new(metrics: &Metrics, name: &ModelName, version: &ModelVersion) -> Self {
        let own = metrics.own();
        let labels = [name.as_str(), version.as_str()];
        let with = |last| [labels[0], labels[1], last];
        Self(Arc::new(Inner {
            by_default: OnceLock::new(),
            by_version: OnceLock::new(),
            times: OnceLock::new(),
            request_seconds: own.request_seconds.with_label_values(&labels),
            queue_seconds: own.queue_seconds.with_label_values(&labels),
            batch_size: own.batch_size.with_label_values(&labels),
            stages: STAGES.map(|stage| own.stage_seconds.with_label_values(&with(stage))),
            failed: Failure::ALL.map(|cause| own.failed.with_label_values(&with(cause.as_str()))),
            metrics: metrics.clone(),
            name: name.clone(),
            version: version.clone(),
        }))
    }

    /// A request has found its model.
    pub fn request_accepted(&self, asked: AskedVersion) {
        self.0.requests(asked).requests.record(1.0);
    }

    /// A request was answered, so long after it came, of which it has waited in the queue for the second time.
    pub fn request_answered(&self, asked: AskedVersion, total: Duration, queued: Duration) {
        let series = self.0.requests(asked);
        series.latency.record(micros(total));
        series.queued.record(micros(queued));
        self.0.metrics.host_times().queue.record(millis(queued));
        self.0.request_seconds.observe(total.as_secs_f64());
        self.0.queue_seconds.observe(queued.as_secs_f64());
    }

    pub fn request_failed(&self, cause: Failure) {
        self.0.failed[cause as usize].inc();
    }

    #[allow(clippy::cast_precision_loss)] // Batches are small.
    pub fn batch_taken(&self, requests: usize) {
        self.0.batch_size.observe(requests as f64);
    }

    /// A worker has its answers, so long after it took the batch, of which the handler's code took the second time.
    pub fn batch_computed<'a, I: Iterator<Item = &'a str>>(
        &self,
        total: Duration,
        in_handler: Duration,
        ids: impl FnOnce() -> I,
    ) {
        let times = self.0.times.get_or_init(|| self.0.times());
        let ids = if times.handler.names_requests() { ids().collect::<Vec<_>>().join(",") } else { String::new() };
        times.handler.record_for(millis(in_handler), &ids);
        times.prediction.record_for(millis(total), &ids);
        self.0.metrics.host_times().worker_thread.record(millis(total.saturating_sub(in_handler)));
    }

    /// A worker has its handler object.
    pub fn worker_loaded(&self, number: usize, time: Duration) {
        let worker = format!("W-{}-{}_{}", FIRST_WORKER + number, self.0.name, self.0.version);
        let series = self.0.metrics.host_series("WorkerLoadTime", &[&worker, "Host"]);
        told(series).record(millis(time));
    }

    /// One of [`STAGE_METRICS`] with its time; `false` where the name is none of them.
    pub(super) fn stage_took(&self, name: &str, milliseconds: f64) -> bool {
        let stage = STAGE_METRICS.iter().position(|known| *known == name);
        if let Some(stage) = stage {
            self.0.stages[stage].observe(milliseconds / 1e3);
        }
        stage.is_some()
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    pub(super) fn name(&self) -> &str {
        self.0.name.as_str()
    }

    pub(super) fn version(&self) -> &str {
        self.0.version.as_str()
    }
}

/// TorchServe numbers workers by their ports, which begin here.
const FIRST_WORKER: usize = 9000;

// === impl Inner ===

impl Inner {
    fn requests(&self, asked: AskedVersion) -> &RequestSeries {
        let (series, version) = match asked {
            AskedVersion::Default => (&self.by_default, "default"),
            AskedVersion::Named => (&self.by_version, self.version.as_str()),
        };
        series.get_or_init(|| {
            let series = |name| told(self.metrics.host_series(name, &[self.name.as_str(), version]));
            RequestSeries {
                requests: series("ts_inference_requests_total"),
                latency: series("ts_inference_latency_microseconds"),
                queued: series("ts_queue_latency_microseconds"),
            }
        })
    }

    fn times(&self) -> TimeSeries {
        let model = [("ModelName", self.name.as_str()), ("Level", "Model"), ("model_version", self.version.as_str())];
        let series = |name| {
            let family = self.metrics.handler_family(MetricKind::Gauge, name, "ms", &[]);
            let series = family.and_then(|family| family.map(|family| family.series_for(&[], &model)).transpose());
            series.map_or_else(
                |error| {
                    tracing::error!(name, error, "not measured");
                    Series::Nowhere
                },
                |series| series.unwrap_or(Series::Nowhere),
            )
        };
        TimeSeries { handler: series("HandlerTime"), prediction: series("PredictionTime") }
    }
}

/// A series that can't be made is told once, and then left out.
fn told(series: Result<Series, MetricsError>) -> Series {
    series.unwrap_or_else(|error| {
        tracing::error!(%error, "not measured");
        Series::Nowhere
    })
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[allow(clippy::cast_precision_loss)] // A sum of microseconds stays exact for centuries.
fn micros(time: Duration) -> f64 {
    time.as_micros() as f64
}
