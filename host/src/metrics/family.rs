//! A metric of TorchServe's kind, exposed or written as lines, and one series of it.

use std::sync::Arc;

use handler_sdk::MetricKind;
use prometheus::Counter;
use prometheus::CounterVec;
use prometheus::Gauge;
use prometheus::GaugeVec;
use prometheus::Histogram;
use prometheus::HistogramOpts;
use prometheus::HistogramVec;
use prometheus::Opts;
use prometheus::Registry;

use super::definitions::Definition;
use super::gone::Gone;
use super::lines::LineFile;
use super::lines::LineFiles;

/// A metric with all its series.
#[derive(Debug)]
pub(super) struct Family {
    pub(super) definition: Definition,
    hostname: Arc<str>,
    kept: Kept,
}

/// A metric under certain labels: recording to it looks nothing up.
#[derive(Debug, Clone)]
pub(super) enum Series {
    Counter(Counter),
    Gauge(Gauge),
    Histogram(Histogram),
    Lines(Arc<Line>),
    /// The operator's file leaves it out.
    Nowhere,
}

/// What is the same in every line of a series.
#[derive(Debug)]
pub(super) struct Line {
    to: Written,
    before: String,
    after: String,
}

/// Where a metric's values go.
#[derive(Debug)]
pub(super) enum Place<'a> {
    Exposed(&'a Registry),
    Written(Written),
}

/// To which of the files.
#[derive(Debug, Clone)]
pub(super) enum Written {
    ByHost(Arc<LineFiles>),
    ByModel(Arc<LineFiles>),
}

#[derive(Debug)]
enum Kept {
    Counter(CounterVec),
    Gauge(GaugeVec),
    Histogram(HistogramVec),
    Written(Written),
}

// === impl Family ===

impl Family {
    pub(super) fn new(definition: Definition, place: Place<'_>, hostname: &Arc<str>) -> prometheus::Result<Self> {
        let labels: Vec<&str> = definition.labels.iter().map(String::as_str).collect();
        let opts = Opts::new(&definition.name, definition.help());
        let kept = match (place, definition.kind) {
            (Place::Written(to), _) => Kept::Written(to),
            (Place::Exposed(registry), MetricKind::Counter) => {
                let counter = CounterVec::new(opts, &labels)?;
                registry.register(Box::new(counter.clone()))?;
                Kept::Counter(counter)
            }
            (Place::Exposed(registry), MetricKind::Gauge) => {
                let gauge = GaugeVec::new(opts, &labels)?;
                registry.register(Box::new(gauge.clone()))?;
                Kept::Gauge(gauge)
            }
            (Place::Exposed(registry), MetricKind::Histogram) => {
                let opts = HistogramOpts::from(opts).buckets(buckets(&definition.unit));
                let histogram = HistogramVec::new(opts, &labels)?;
                registry.register(Box::new(histogram.clone()))?;
                Kept::Histogram(histogram)
            }
        };
        Ok(Self { definition, hostname: Arc::clone(hostname), kept })
    }

    /// The series with these values, in the order of the labels; the host's name is added.
    pub(super) fn series(&self, values: &[&str]) -> prometheus::Result<Series> {
        let values: Vec<&str> = values.iter().copied().chain([&*self.hostname]).collect();
        Ok(match &self.kept {
            Kept::Counter(counter) => Series::Counter(counter.get_metric_with_label_values(&values)?),
            Kept::Gauge(gauge) => Series::Gauge(gauge.get_metric_with_label_values(&values)?),
            Kept::Histogram(histogram) => Series::Histogram(histogram.get_metric_with_label_values(&values)?),
            Kept::Written(to) => {
                let pairs = self.definition.labels.iter().zip(&values).map(|(label, value)| format!("{label}:{value}"));
                let mut pairs: Vec<String> = pairs.collect();
                // The host has a place of its own in the line.
                pairs.pop();
                Series::Lines(Arc::new(Line {
                    to: to.clone(),
                    before: format!("{}.{}", self.definition.name, self.definition.unit),
                    after: format!("|#{}|#hostname:{}", pairs.join(","), self.hostname),
                }))
            }
        })
    }

    pub(super) fn leave(&self, gone: &Gone<'_>) {
        match &self.kept {
            Kept::Counter(counter) => gone.leave(counter),
            Kept::Gauge(gauge) => gone.leave(gauge),
            Kept::Histogram(histogram) => gone.leave(histogram),
            Kept::Written(_) => {}
        }
    }

    pub(super) fn is_exposed(&self) -> bool {
        !matches!(self.kept, Kept::Written(_))
    }
}

// === impl Series ===

impl Series {
    /// A value: added to a counter, put in the place of a gauge's, one observation of a histogram.
    pub(super) fn record(&self, value: f64) {
        self.record_for(value, "");
    }

    /// The same, for requests whose ids stand in the line where lines are written.
    pub(super) fn record_for(&self, value: f64, requests: &str) {
        match self {
            Self::Counter(counter) => counter.inc_by(value),
            Self::Gauge(gauge) => gauge.set(value),
            Self::Histogram(histogram) => histogram.observe(value),
            Self::Lines(line) => line.to.file().write(&line.before, value, &line.after, requests),
            Self::Nowhere => {}
        }
    }

    /// Whether [`record_for`](Self::record_for) has a use for ids.
    pub(super) fn names_requests(&self) -> bool {
        matches!(self, Self::Lines(_))
    }
}

// === impl Written ===

impl Written {
    fn file(&self) -> &LineFile {
        match self {
            Self::ByHost(files) => &files.host,
            Self::ByModel(files) => &files.model,
        }
    }
}

// === impl Definition ===

impl Definition {
    /// In TorchServe's words.
    pub(super) fn help(&self) -> String {
        format!("Torchserve prometheus {} metric with unit: {}", self.kind_name(), self.unit)
    }

    pub(super) fn kind_name(&self) -> &'static str {
        match self.kind {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
        }
    }
}

/// Prometheus's own are made for seconds; times in other units have the same ones in theirs.
fn buckets(unit: &str) -> Vec<f64> {
    let scale = match unit {
        "ms" | "Milliseconds" => 1e3,
        "us" | "Microseconds" => 1e6,
        _ => 1.0,
    };
    prometheus::DEFAULT_BUCKETS.iter().map(|bound| bound * scale).collect()
}
