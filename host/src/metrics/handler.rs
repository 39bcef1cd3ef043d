//! What handlers record: found once by name, then at hand.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::RwLock;

use handler_sdk::MetricKind;

use super::family::Family;
use super::family::Series;
use super::model::ModelMetrics;

/// The metrics that the handlers of one generation record.
#[derive(Debug, Clone)]
pub struct HandlerMetrics(Arc<Inner>);

/// One value as a handler gives it.
#[derive(Debug, Clone, Copy)]
pub struct Recorded<'a> {
    pub kind: MetricKind,
    pub name: &'a str,
    pub value: f64,
    pub unit: &'a str,
    /// Besides the model's name and the host's.
    pub labels: &'a [(&'a str, &'a str)],
}

#[derive(Debug)]
struct Inner {
    model: ModelMetrics,
    profile: Profile,
    found: RwLock<HashMap<String, Found>>,
}

/// Whether the times of a handler's stages are metrics of TorchServe's names, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    On,
    Off,
}

/// A metric that this generation has recorded.
#[derive(Debug, Clone)]
enum Found {
    /// The operator's file doesn't list it.
    Skipped,
    /// Nothing but the value changes.
    Plain(MetricKind, Series),
    Labelled(Arc<Family>),
}

// === impl HandlerMetrics ===

impl HandlerMetrics {
    pub fn new(model: ModelMetrics, profile: Profile) -> Self {
        Self(Arc::new(Inner { model, profile, found: RwLock::default() }))
    }

    /// Records one value; the error says why it can't be.
    pub fn record(&self, recorded: &Recorded<'_>) -> Result<(), String> {
        let Recorded { kind, name, value, .. } = *recorded;
        if self.0.model.stage_took(name, value) && self.0.profile == Profile::Off {
            return Ok(());
        }
        // Not a number is no more, either.
        if kind == MetricKind::Counter && (value.is_nan() || value < 0.0) {
            return Err(format!("a counter only grows, and {value} is no number from 0 on"));
        }
        let (known, series) = match self.found(recorded)? {
            Found::Skipped => return Ok(()),
            Found::Plain(known, series) => (known, series),
            Found::Labelled(family) => {
                (family.definition.kind, family.series_for(recorded.labels, &self.model_labels())?)
            }
        };
        if known != kind {
            return Err("the same name is another kind of metric".to_owned());
        }
        series.record(value);
        Ok(())
    }

    fn found(&self, recorded: &Recorded<'_>) -> Result<Found, String> {
        let known = self.0.found.read().unwrap_or_else(PoisonError::into_inner).get(recorded.name).cloned();
        if let Some(found) = known {
            // A plain series is of no use to a value with labels.
            if recorded.labels.is_empty() || !matches!(found, Found::Plain(..)) {
                return Ok(found);
            }
        }
        let Recorded { kind, name, unit, labels, .. } = *recorded;
        let found = match self.0.model.metrics().handler_family(kind, name, unit, labels)? {
            None => Found::Skipped,
            Some(family) if labels.is_empty() => {
                Found::Plain(family.definition.kind, family.series_for(&[], &self.model_labels())?)
            }
            Some(family) => Found::Labelled(family),
        };
        self.0.found.write().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), found.clone());
        Ok(found)
    }

    /// What a metric's label has as its value where the handler gives none.
    fn model_labels(&self) -> [(&'static str, &str); 3] {
        [("ModelName", self.0.model.name()), ("Level", "Model"), ("model_version", self.0.model.version())]
    }
}

// === impl Family ===

impl Family {
    /// The series under the labels that were given, and under these where none was.
    pub(super) fn series_for(&self, given: &[(&str, &str)], otherwise: &[(&str, &str)]) -> Result<Series, String> {
        let names = self.definition.labels.split_last().map_or(&[][..], |(_, names)| names);
        if let Some((stranger, _)) = given.iter().find(|(label, _)| !names.iter().any(|name| name == label)) {
            return Err(format!("it has no label {stranger}; its labels are {}", names.join(", ")));
        }
        let value = |name: &String| {
            let found = given.iter().chain(otherwise).find(|(label, _)| label == name).map(|(_, value)| *value);
            found.ok_or_else(|| format!("its label {name} has no value: give it one with Context::metric_with"))
        };
        let values = names.iter().map(value).collect::<Result<Vec<_>, _>>()?;
        self.series(&values).map_err(|error| error.to_string())
    }
}
