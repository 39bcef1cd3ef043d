//! The numbers that the server and its handlers give to the world, in Prometheus's registry.

mod swaps;

pub use swaps::InMemory;
pub use swaps::SwapMetrics;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use handler_sdk::MetricKind;
use prometheus::CounterVec;
use prometheus::Encoder;
use prometheus::GaugeVec;
use prometheus::HistogramOpts;
use prometheus::HistogramVec;
use prometheus::Opts;
use prometheus::Registry;
use prometheus::TextEncoder;

use crate::ids::ModelName;
use crate::ids::ModelVersion;

/// The server's metrics.
#[derive(Debug, Clone)]
pub struct Metrics {
    inner: Arc<Inner>,
}

/// The metrics of one model's handlers.
#[derive(Debug, Clone)]
pub struct HandlerMetrics {
    metrics: Metrics,
    labels: [String; 2],
}

#[derive(Debug)]
struct Inner {
    registry: Registry,
    requests: CounterVec,
    inference_micros: CounterVec,
    queue_micros: CounterVec,
    broken_off: CounterVec,
    swaps: SwapMetrics,
    custom: Mutex<HashMap<String, Custom>>,
}

/// A metric that a handler named.
#[derive(Debug, Clone)]
enum Custom {
    Counter(CounterVec),
    Gauge(GaugeVec),
    Histogram(HistogramVec),
}

const MODEL_LABELS: [&str; 2] = ["model_name", "model_version"];

// === impl Metrics ===

impl Metrics {
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let counter = |name: &str, help: &str| -> prometheus::Result<CounterVec> {
            let counter = CounterVec::new(Opts::new(name, help), &MODEL_LABELS)?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        Ok(Self {
            inner: Arc::new(Inner {
                requests: counter("ts_inference_requests_total", "Requests accepted for a model")?,
                inference_micros: counter(
                    "ts_inference_latency_microseconds",
                    "Time from a request's arrival to its answer, summed up, in microseconds",
                )?,
                queue_micros: counter(
                    "ts_queue_latency_microseconds",
                    "Time that requests waited in their queue, summed up, in microseconds",
                )?,
                broken_off: counter(
                    "sconce_answers_broken_off_total",
                    "Answers in pieces that ended with an error after their first piece",
                )?,
                swaps: SwapMetrics::new(&registry)?,
                custom: Mutex::default(),
                registry,
            }),
        })
    }

    /// A request was taken into its queue.
    pub fn request_accepted(&self, model: &ModelName, version: &ModelVersion) {
        self.inner.requests.with_label_values(&[model.as_str(), version.as_str()]).inc();
    }

    /// A request was answered; both times in microseconds.
    #[allow(clippy::cast_precision_loss)] // A sum of microseconds stays exact for centuries.
    pub fn request_answered(&self, model: &ModelName, version: &ModelVersion, total: u128, queued: u128) {
        let labels = [model.as_str(), version.as_str()];
        self.inner.inference_micros.with_label_values(&labels).inc_by(total as f64);
        self.inner.queue_micros.with_label_values(&labels).inc_by(queued as f64);
    }

    /// An answer in pieces ended with an error.
    pub fn answer_broken_off(&self, model: &ModelName, version: &ModelVersion) {
        self.inner.broken_off.with_label_values(&[model.as_str(), version.as_str()]).inc();
    }

    pub fn swaps(&self) -> &SwapMetrics {
        &self.inner.swaps
    }

    /// What the handlers of a model record goes under its name and version.
    pub fn for_model(&self, model: &ModelName, version: &ModelVersion) -> HandlerMetrics {
        HandlerMetrics { metrics: self.clone(), labels: [model.as_str().to_owned(), version.as_str().to_owned()] }
    }

    /// Everything in Prometheus's text format.
    pub fn exposition(&self) -> prometheus::Result<Vec<u8>> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.inner.registry.gather(), &mut text)?;
        Ok(text)
    }

    fn custom(&self, kind: MetricKind, name: &str, unit: &str) -> prometheus::Result<Custom> {
        let mut custom = self.inner.custom.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(metric) = custom.get(name) {
            return Ok(metric.clone());
        }
        let opts = Opts::new(name, format!("Given by a handler, in {unit:?}"));
        let registry = &self.inner.registry;
        let metric = match kind {
            MetricKind::Counter => {
                let metric = CounterVec::new(opts, &MODEL_LABELS)?;
                registry.register(Box::new(metric.clone()))?;
                Custom::Counter(metric)
            }
            MetricKind::Gauge => {
                let metric = GaugeVec::new(opts, &MODEL_LABELS)?;
                registry.register(Box::new(metric.clone()))?;
                Custom::Gauge(metric)
            }
            MetricKind::Histogram => {
                let metric = HistogramVec::new(HistogramOpts::from(opts), &MODEL_LABELS)?;
                registry.register(Box::new(metric.clone()))?;
                Custom::Histogram(metric)
            }
        };
        custom.insert(name.to_owned(), metric.clone());
        Ok(metric)
    }
}

// === impl HandlerMetrics ===

impl HandlerMetrics {
    /// Records one value; the error says why it can't be.
    pub fn record(&self, kind: MetricKind, name: &str, value: f64, unit: &str) -> Result<(), String> {
        let metric = self.metrics.custom(kind, name, unit).map_err(|error| error.to_string())?;
        let labels = [self.labels[0].as_str(), self.labels[1].as_str()];
        match (metric, kind) {
            (Custom::Counter(_), MetricKind::Counter) if value < 0.0 => {
                return Err(format!("a counter only grows, and {value} is negative"));
            }
            (Custom::Counter(metric), MetricKind::Counter) => metric.with_label_values(&labels).inc_by(value),
            (Custom::Gauge(metric), MetricKind::Gauge) => metric.with_label_values(&labels).set(value),
            (Custom::Histogram(metric), MetricKind::Histogram) => metric.with_label_values(&labels).observe(value),
            _ => return Err("the same name was used for another kind of metric before".to_owned()),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handlers_metrics_are_exposed_under_their_model() {
        let metrics = Metrics::new().unwrap();
        let mnist = metrics.for_model(&ModelName::parse("mnist").unwrap(), &ModelVersion::default());
        mnist.record(MetricKind::Counter, "digits", 2.0, "count").unwrap();
        mnist.record(MetricKind::Counter, "digits", 1.0, "count").unwrap();
        mnist.record(MetricKind::Gauge, "ink", 0.5, "percent").unwrap();
        for (kind, value) in [(MetricKind::Counter, -1.0), (MetricKind::Gauge, 1.0)] {
            assert!(mnist.record(kind, "digits", value, "count").is_err());
        }
        assert!(mnist.record(MetricKind::Gauge, "not a name", 1.0, "").is_err());
        let text = String::from_utf8(metrics.exposition().unwrap()).unwrap();
        assert!(text.contains("digits{model_name=\"mnist\",model_version=\"1.0\"} 3"), "{text}");
        assert!(text.contains("ink{model_name=\"mnist\",model_version=\"1.0\"} 0.5"), "{text}");
    }
}
