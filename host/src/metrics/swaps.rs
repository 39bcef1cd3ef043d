//! What swaps cost and what they leave: counts by outcome, durations by step, and what is in memory now.

use std::time::Duration;

use prometheus::Counter;
use prometheus::CounterVec;
use prometheus::Gauge;
use prometheus::GaugeVec;
use prometheus::HistogramOpts;
use prometheus::HistogramVec;
use prometheus::Opts;
use prometheus::Registry;

use super::MODEL_LABELS;
use super::Now;
use super::gone::Gone;
use crate::ids::ModelName;
use crate::ids::ModelVersion;

/// The metrics of generations and of what they are made from.
#[derive(Debug, Clone)]
pub struct SwapMetrics {
    swaps: CounterVec,
    steps: HistogramVec,
    generations: GaugeVec,
    libraries: Gauge,
    library_bytes: Gauge,
    retained_bytes: Gauge,
    loads: Counter,
    models: Gauge,
}

/// From a tenth of a millisecond, for publishing, to minutes, for loading weights.
const STEP_BUCKETS: [f64; 14] =
    [0.0001, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 120.0];

// === impl SwapMetrics ===

impl SwapMetrics {
    pub(super) fn leave(&self, gone: &Gone<'_>) {
        gone.leave(&self.swaps);
    }

    pub(super) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let labels = |last| [MODEL_LABELS[0], MODEL_LABELS[1], last];
        let gauge = |name: &str, help: &str| -> prometheus::Result<Gauge> {
            let gauge = Gauge::with_opts(Opts::new(name, help))?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        let swaps = Opts::new("sconce_swaps_total", "Swaps of a model's handler or package, by outcome");
        let steps =
            HistogramOpts::new("sconce_swap_step_seconds", "Time of each step that makes or retires a generation");
        let generations = Opts::new("sconce_generations", "Generations alive, by state");
        let loads = Opts::new("sconce_model_loads_total", "How many times a model was read into memory");
        let metrics = Self {
            swaps: CounterVec::new(swaps, &labels("outcome"))?,
            steps: HistogramVec::new(steps.buckets(STEP_BUCKETS.to_vec()), &["step"])?,
            generations: GaugeVec::new(generations, &labels("state"))?,
            libraries: gauge(
                "sconce_libraries_mapped",
                "Libraries of handlers that are mapped, retired ones included",
            )?,
            library_bytes: gauge(
                "sconce_library_bytes_mapped",
                "Address space of the handlers' libraries, retired ones included, in bytes",
            )?,
            retained_bytes: gauge(
                "sconce_library_bytes_retained",
                "Address space of libraries whose generation doesn't serve any more, in bytes",
            )?,
            loads: Counter::with_opts(loads)?,
            models: gauge("sconce_models_resident", "Models in memory")?,
        };
        registry.register(Box::new(metrics.swaps.clone()))?;
        registry.register(Box::new(metrics.steps.clone()))?;
        registry.register(Box::new(metrics.generations.clone()))?;
        registry.register(Box::new(metrics.loads.clone()))?;
        Ok(metrics)
    }

    /// A swap came to its end, whichever it was.
    pub fn swap_ended(&self, model: &ModelName, version: &ModelVersion, outcome: &str) {
        self.swaps.with_label_values(&[model.as_str(), version.as_str(), outcome]).inc();
    }

    pub fn step_took(&self, step: &str, time: Duration) {
        self.steps.with_label_values(&[step]).observe(time.as_secs_f64());
    }

    /// What is gone from the server is gone from the gauges, too.
    #[allow(clippy::cast_precision_loss)] // Exact up to 2⁵³.
    pub(super) fn set(&self, now: &Now) {
        self.generations.reset();
        for endpoint in &now.endpoints {
            for (state, count) in &endpoint.generations {
                let labels = [endpoint.name.as_str(), endpoint.version.as_str(), state];
                self.generations.with_label_values(&labels).set(*count as f64);
            }
        }
        let memory = now.in_memory;
        self.libraries.set(memory.libraries as f64);
        self.library_bytes.set(memory.library_bytes as f64);
        self.retained_bytes.set(memory.retained_bytes as f64);
        self.models.set(memory.models as f64);
        self.loads.inc_by(memory.model_loads as f64 - self.loads.get());
    }
}
