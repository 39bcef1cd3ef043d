//! What was measured of a version that is gone goes with it: names that come and go must not fill the memory.

use std::collections::HashMap;

use prometheus::core::Collector;
use prometheus::core::MetricVec;
use prometheus::core::MetricVecBuilder;

use crate::ids::ModelName;
use crate::ids::ModelVersion;

/// A version of a model that was taken out.
#[derive(Debug)]
pub(super) struct Gone<'a> {
    pub(super) name: &'a ModelName,
    pub(super) version: &'a ModelVersion,
    /// Whether the model has no other version.
    pub(super) is_last: bool,
}

// === impl Gone ===

impl Gone<'_> {
    /// Whether a series with these labels is of that version.
    fn has(&self, labels: &HashMap<&str, &str>) -> bool {
        let (name, version) = (self.name.as_str(), self.version.as_str());
        if let Some(worker) = labels.get("WorkerName") {
            // W-9000-name_version
            let of_model = worker.strip_prefix("W-").and_then(|rest| rest.split_once('-')).map(|(_, of)| of);
            return of_model == Some(format!("{name}_{version}").as_str());
        }
        let named = |label| labels.get(label).is_some_and(|value| *value == name);
        if !named("model_name") && !named("ModelName") {
            return false;
        }
        match labels.get("model_version") {
            Some(&"default") | None => self.is_last,
            Some(&of) => of == version,
        }
    }

    /// Takes its series out of a metric.
    pub(super) fn leave<B: MetricVecBuilder>(&self, metric: &MetricVec<B>) {
        for family in metric.collect() {
            for series in family.get_metric() {
                let labels = series.get_label().iter().map(|pair| (pair.name(), pair.value())).collect();
                if self.has(&labels) {
                    // Somebody else may have been quicker.
                    let _ = metric.remove(&labels);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_takes_its_series_and_the_last_one_the_model_s() {
        let (name, version) = (ModelName::parse("m").unwrap(), ModelVersion::new("2"));
        let one = Gone { name: &name, version: &version, is_last: false };
        let last = Gone { is_last: true, ..one };
        for (labels, by_one, by_last) in [
            (vec![("model_name", "m"), ("model_version", "2"), ("cause", "expired")], true, true),
            (vec![("model_name", "m"), ("model_version", "1")], false, false),
            (vec![("model_name", "m"), ("model_version", "default")], false, true),
            (vec![("ModelName", "m"), ("Level", "Model")], false, true),
            (vec![("ModelName", "n"), ("Level", "Model")], false, false),
            (vec![("Level", "Host")], false, false),
            (vec![("WorkerName", "W-9001-m_2"), ("Level", "Host")], true, true),
            (vec![("WorkerName", "W-9001-am_2"), ("Level", "Host")], false, false),
        ] {
            let labels: HashMap<_, _> = labels.into_iter().collect();
            assert_eq!((one.has(&labels), last.has(&labels)), (by_one, by_last), "{labels:?}");
        }
    }
}
