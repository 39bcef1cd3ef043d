//! What the server tells beyond TorchServe's list, under names that begin with `sconce_`.

use prometheus::CounterVec;
use prometheus::Gauge;
use prometheus::GaugeVec;
use prometheus::HistogramOpts;
use prometheus::HistogramVec;
use prometheus::Opts;
use prometheus::Registry;
use prometheus::core::Collector;

use super::MODEL_LABELS;
use super::Now;
use super::gone::Gone;
use super::swaps::SwapMetrics;
use super::system::resident_memory;

/// Why a request got no answer of its handler, or an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    QueueFull,
    /// No worker was idle, and the model takes requests only for one that is.
    NoTicket,
    NoWorker,
    /// Its client doesn't wait any more.
    Expired,
    /// The handler took too long.
    TimedOut,
    WorkerDied,
    ShuttingDown,
    /// The handler's own error.
    Handler,
    OutOfResources,
    /// The model was taken out meanwhile.
    Unregistered,
    /// It took the pieces of its answer too slowly.
    SlowClient,
}

/// The metrics of our own.
#[derive(Debug)]
pub(super) struct Own {
    pub(super) registry: Registry,
    pub(super) swaps: SwapMetrics,
    pub(super) request_seconds: HistogramVec,
    pub(super) queue_seconds: HistogramVec,
    pub(super) stage_seconds: HistogramVec,
    pub(super) batch_size: HistogramVec,
    pub(super) failed: CounterVec,
    pub(super) broken_off: CounterVec,
    queue_depth: GaugeVec,
    model_bytes: GaugeVec,
    resident: Gauge,
}

/// From a handler that only echoes to one that takes a minute.
const SECONDS: [f64; 16] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// A stage may take microseconds.
const STAGE_SECONDS: [f64; 16] =
    [0.00001, 0.00005, 0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

const BATCH_SIZES: [f64; 10] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];

// === impl Own ===

impl Own {
    pub(super) fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let labels = |last| [MODEL_LABELS[0], MODEL_LABELS[1], last];
        let histogram = |name: &str, help: &str, buckets: &[f64], labels: &[&str]| {
            let opts = HistogramOpts::new(name, help).buckets(buckets.to_vec());
            registered(&registry, HistogramVec::new(opts, labels)?)
        };
        let gauge =
            |name: &str, help: &str| registered(&registry, GaugeVec::new(Opts::new(name, help), &MODEL_LABELS)?);
        let failed = Opts::new("sconce_requests_failed_total", "Requests without an answer of their handler, by cause");
        let broken_off = Opts::new(
            "sconce_answers_broken_off_total",
            "Answers in pieces that ended with an error after their first piece",
        );
        let resident = Opts::new("sconce_resident_memory_bytes", "Memory of the server's process that is in RAM");
        Ok(Self {
            request_seconds: histogram(
                "sconce_request_seconds",
                "Time from a request's arrival to its answer",
                &SECONDS,
                &MODEL_LABELS,
            )?,
            queue_seconds: histogram(
                "sconce_queue_seconds",
                "Time that answered requests had waited in their queue",
                &SECONDS,
                &MODEL_LABELS,
            )?,
            stage_seconds: histogram(
                "sconce_stage_seconds",
                "Time of one batch in each of its handler's stages",
                &STAGE_SECONDS,
                &labels("stage"),
            )?,
            batch_size: histogram(
                "sconce_batch_size",
                "Requests that a worker took from the queue at once",
                &BATCH_SIZES,
                &MODEL_LABELS,
            )?,
            failed: registered(&registry, CounterVec::new(failed, &labels("cause"))?)?,
            broken_off: registered(&registry, CounterVec::new(broken_off, &MODEL_LABELS)?)?,
            queue_depth: gauge("sconce_queue_depth", "Requests that wait now")?,
            model_bytes: gauge(
                "sconce_model_bytes",
                "Weights of the model that serves; a copy that several share counts at each of them",
            )?,
            resident: registered(&registry, Gauge::with_opts(resident)?)?,
            swaps: SwapMetrics::new(&registry)?,
            registry,
        })
    }

    pub(super) fn leave(&self, gone: &Gone<'_>) {
        for metric in [&self.request_seconds, &self.queue_seconds, &self.stage_seconds, &self.batch_size] {
            gone.leave(metric);
        }
        for metric in [&self.failed, &self.broken_off] {
            gone.leave(metric);
        }
        self.swaps.leave(gone);
    }

    /// What is gone from the server is gone from the gauges, too.
    #[allow(clippy::cast_precision_loss)] // Exact up to 2⁵³.
    pub(super) fn set(&self, now: &Now) {
        self.queue_depth.reset();
        self.model_bytes.reset();
        for endpoint in &now.endpoints {
            let labels = [endpoint.name.as_str(), endpoint.version.as_str()];
            self.queue_depth.with_label_values(&labels).set(endpoint.waiting as f64);
            if let Some(bytes) = endpoint.model_bytes {
                self.model_bytes.with_label_values(&labels).set(bytes as f64);
            }
        }
        self.resident.set(resident_memory() as f64);
        self.swaps.set(now);
    }
}

// === impl Failure ===

impl Failure {
    pub(super) const ALL: [Self; 11] = [
        Self::QueueFull,
        Self::NoTicket,
        Self::NoWorker,
        Self::Expired,
        Self::TimedOut,
        Self::WorkerDied,
        Self::ShuttingDown,
        Self::Handler,
        Self::OutOfResources,
        Self::Unregistered,
        Self::SlowClient,
    ];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::NoTicket => "no_ticket",
            Self::NoWorker => "no_worker",
            Self::Expired => "expired",
            Self::TimedOut => "timed_out",
            Self::WorkerDied => "worker_died",
            Self::ShuttingDown => "shutting_down",
            Self::Handler => "handler",
            Self::OutOfResources => "out_of_resources",
            Self::Unregistered => "unregistered",
            Self::SlowClient => "slow_client",
        }
    }
}

/// The same metric, exposed.
fn registered<M: Collector + Clone + 'static>(registry: &Registry, metric: M) -> prometheus::Result<M> {
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}
