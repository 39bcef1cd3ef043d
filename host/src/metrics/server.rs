//! The server's metrics: what is measured where, and the text that is fetched.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use handler_sdk::MetricKind;
use prometheus::Encoder;
use prometheus::Registry;
use prometheus::TextEncoder;
use sysinfo::System;

use super::MetricsError;
use super::Now;
use super::SwapMetrics;
use super::definitions::Definition;
use super::definitions::Definitions;
use super::definitions::Listed;
use super::definitions::Unlisted;
use super::family::Family;
use super::family::Place;
use super::family::Series;
use super::family::Written;
use super::gone::Gone;
use super::lines::LineFiles;
use super::model::ModelMetrics;
use super::own::Own;
use crate::config::MetricsConfig;
use crate::config::MetricsMode;
use crate::ids::ModelName;
use crate::ids::ModelVersion;

/// All that is measured, once in a server.
#[derive(Debug, Clone)]
pub struct Metrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    mode: MetricsMode,
    definitions: Definitions,
    hostname: Arc<str>,
    /// In the modes in which lines are written.
    files: Option<Arc<LineFiles>>,
    /// TorchServe's metrics, and the handlers'.
    registry: Registry,
    own: Own,
    families: Mutex<Families>,
    responses: [Series; 3],
    times: HostTimes,
    /// Held while the text is made: the gauges in it are set for it.
    exposing: Mutex<()>,
}

/// By name; `None` where the operator's file leaves one out.
#[derive(Debug, Default)]
struct Families {
    host: BTreeMap<String, Option<Arc<Family>>>,
    handlers: BTreeMap<String, Option<Arc<Family>>>,
}

/// Where every model's requests pass.
#[derive(Debug)]
pub(super) struct HostTimes {
    pub(super) queue: Series,
    pub(super) worker_thread: Series,
}

/// Names that handlers can't take.
const OURS: &str = "sconce_";

/// What can be fetched in the mode `legacy`.
const LEGACY: [&str; 3] =
    ["ts_inference_requests_total", "ts_inference_latency_microseconds", "ts_queue_latency_microseconds"];

// === impl Metrics ===

impl Metrics {
    /// Reads the operator's list of metrics, and opens the files that are written in some modes.
    pub fn new(config: &MetricsConfig) -> Result<Self, MetricsError> {
        let unlisted = if config.auto_detect { Unlisted::Recorded } else { Unlisted::Skipped };
        let definitions = match &config.definitions {
            Some(path) => Definitions::read(path, unlisted)?,
            None => Definitions::default(),
        };
        let files = match config.mode {
            MetricsMode::Prometheus => None,
            MetricsMode::Log | MetricsMode::Legacy => Some(Arc::new(LineFiles::open(&config.location)?)),
        };
        let mut inner = Inner {
            mode: config.mode,
            hostname: System::host_name().unwrap_or_else(|| "unknown".to_owned()).into(),
            files,
            registry: Registry::new(),
            own: Own::new()?,
            families: Mutex::default(),
            responses: [const { Series::Nowhere }; 3],
            times: HostTimes { queue: Series::Nowhere, worker_thread: Series::Nowhere },
            exposing: Mutex::default(),
            definitions,
        };
        // All are there from the start, if without a value.
        for name in inner.definitions.of_every_host() {
            inner.host_family(name)?;
        }
        for definition in &inner.definitions.model {
            inner.handler_family(definition.kind, &definition.name, &definition.unit, &[])?;
        }
        for name in ["HandlerTime", "PredictionTime"] {
            inner.handler_family(MetricKind::Gauge, name, "ms", &[])?;
        }
        for (place, name) in ["Requests2XX", "Requests4XX", "Requests5XX"].into_iter().enumerate() {
            inner.responses[place] = inner.host_series(name, &["Host"])?;
        }
        inner.times.queue = inner.host_series("QueueTime", &["Host"])?;
        inner.times.worker_thread = inner.host_series("WorkerThreadTime", &["Host"])?;
        Ok(Self(Arc::new(inner)))
    }

    /// An HTTP response left the server, at whichever port.
    pub fn responded(&self, status: u16) {
        let class = match status {
            200..=299 => 0,
            400..=499 => 1,
            _ => 2,
        };
        self.0.responses[class].record(1.0);
    }

    pub fn for_model(&self, name: &ModelName, version: &ModelVersion) -> ModelMetrics {
        ModelMetrics::new(self, name, version)
    }

    /// A version was taken out, and `is_last` where its model has no other: what was measured of it is told no more.
    pub fn forget(&self, name: &ModelName, version: &ModelVersion, is_last: bool) {
        let gone = Gone { name, version, is_last };
        self.0.own.leave(&gone);
        let families: Vec<_> = {
            let families = self.0.lock();
            families.host.values().chain(families.handlers.values()).flatten().cloned().collect()
        };
        families.iter().for_each(|family| family.leave(&gone));
    }

    /// An answer in pieces ended with an error.
    pub fn answer_broken_off(&self, model: &ModelName, version: &ModelVersion) {
        self.0.own.broken_off.with_label_values(&[model.as_str(), version.as_str()]).inc();
    }

    pub fn swaps(&self) -> &SwapMetrics {
        &self.0.own.swaps
    }

    /// What can be fetched, in Prometheus's text format: all, or the metrics of these names.
    pub fn exposition(&self, now: &Now, names: &[String]) -> Result<Vec<u8>, MetricsError> {
        if self.0.mode == MetricsMode::Log {
            return Ok(Vec::new());
        }
        let _one_at_a_time = self.0.exposing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut families = self.0.registry.gather();
        if self.0.mode == MetricsMode::Prometheus {
            self.0.own.set(now);
            families.extend(self.0.own.registry.gather());
        }
        families.retain(|family| is_wanted(family.name(), names));
        let mut text = Vec::new();
        TextEncoder::new().encode(&families, &mut text)?;
        if names.is_empty() {
            let without_value = self.0.exposed().into_iter();
            let without_value = without_value.filter(|one| families.iter().all(|other| other.name() != one.name));
            text.extend(without_value.flat_map(|definition| definition.header().into_bytes()));
        }
        Ok(text)
    }

    pub(super) fn own(&self) -> &Own {
        &self.0.own
    }

    pub(super) fn host_times(&self) -> &HostTimes {
        &self.0.times
    }

    /// What the server measures under that name, with values for all labels but the host's.
    pub(super) fn host_series(&self, name: &str, values: &[&str]) -> Result<Series, MetricsError> {
        self.0.host_series(name, values)
    }

    /// What handlers record under that name; `None` where it isn't listed and isn't to be recorded.
    pub(super) fn handler_family(
        &self,
        kind: MetricKind,
        name: &str,
        unit: &str,
        labels: &[(&str, &str)],
    ) -> Result<Option<Arc<Family>>, String> {
        self.0.handler_family(kind, name, unit, labels).map_err(|error| error.to_string())
    }
}

// === impl Inner ===

impl Inner {
    fn host_series(&self, name: &str, values: &[&str]) -> Result<Series, MetricsError> {
        let family = self.host_family(name)?;
        let series = family.map(|family| family.series(values)).transpose();
        Ok(series.map_err(|cause| not_exposed(name, cause))?.unwrap_or(Series::Nowhere))
    }

    fn host_family(&self, name: &str) -> Result<Option<Arc<Family>>, MetricsError> {
        let mut families = self.lock();
        if let Some(family) = families.host.get(name) {
            return Ok(family.clone());
        }
        let is_fetched = match self.mode {
            MetricsMode::Prometheus => true,
            MetricsMode::Log => false,
            MetricsMode::Legacy => LEGACY.contains(&name),
        };
        let made = self
            .definitions
            .host(name)
            .map(|definition| self.family(definition, self.files.clone().filter(|_| !is_fetched).map(Written::ByHost)));
        let family = made.transpose()?;
        families.host.insert(name.to_owned(), family.clone());
        Ok(family)
    }

    fn handler_family(
        &self,
        kind: MetricKind,
        name: &str,
        unit: &str,
        labels: &[(&str, &str)],
    ) -> Result<Option<Arc<Family>>, MetricsError> {
        let mut families = self.lock();
        if let Some(family) = families.handlers.get(name) {
            return Ok(family.clone());
        }
        let definition = match self.definitions.model(name) {
            Listed::Yes(definition) => Some(definition),
            Listed::No => Some(Definition::unlisted(kind, name, unit, labels)),
            Listed::Skipped => None,
        };
        let written = self.files.clone().map(Written::ByModel);
        let family = definition.map(|definition| self.family(definition, written)).transpose()?;
        families.handlers.insert(name.to_owned(), family.clone());
        Ok(family)
    }

    fn family(&self, definition: Definition, written: Option<Written>) -> Result<Arc<Family>, MetricsError> {
        let name = definition.name.clone();
        if name.starts_with(OURS) {
            let cause = prometheus::Error::Msg(format!("names that begin with {OURS} are the server's own"));
            return Err(not_exposed(&name, cause));
        }
        let place = written.map_or(Place::Exposed(&self.registry), Place::Written);
        let family = Family::new(definition, place, &self.hostname).map_err(|cause| not_exposed(&name, cause))?;
        Ok(Arc::new(family))
    }

    /// What is in the registry.
    fn exposed(&self) -> Vec<Definition> {
        let families = self.lock();
        let all = families.host.values().chain(families.handlers.values()).flatten();
        all.filter(|family| family.is_exposed()).map(|family| family.definition.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Families> {
        self.families.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Definition ===

impl Definition {
    /// What is told of a metric without a value.
    fn header(&self) -> String {
        let (name, kind) = (&self.name, self.kind_name());
        format!("# HELP {name} {}\n# TYPE {name} {kind}\n", self.help())
    }
}

/// A histogram is meant by the names of its parts, too.
fn is_wanted(family: &str, names: &[String]) -> bool {
    names.is_empty()
        || names.iter().any(|name| {
            let part = name.strip_prefix(family);
            part.is_some_and(|part| ["", "_bucket", "_sum", "_count"].contains(&part))
        })
}

fn not_exposed(name: &str, cause: prometheus::Error) -> MetricsError {
    MetricsError::NotExposed { name: name.to_owned(), cause }
}
