//! Which metrics there are, each with its unit and its labels: those of TorchServe, or those that the operator's file lists.

use std::fs;
use std::path::Path;

use handler_sdk::MetricKind;
use serde_json::Map;
use serde_json::Value;

use super::error::MetricsError;

/// All that may be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Definitions {
    /// What the server measures.
    host: Vec<Definition>,
    /// What handlers record.
    pub(super) model: Vec<Definition>,
    unlisted: Unlisted,
}

/// One metric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Definition {
    pub(super) kind: MetricKind,
    pub(super) name: String,
    pub(super) unit: String,
    /// The last one is for the host's name.
    pub(super) labels: Vec<String>,
}

/// What becomes of a handler's metric that no file lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unlisted {
    Recorded,
    Skipped,
}

type Builtin = (MetricKind, &'static str, &'static str, &'static [&'static str]);

const HOSTNAME: &str = "Hostname";
const OF_HOST: &[&str] = &["Level", HOSTNAME];
const OF_WORKER: &[&str] = &["WorkerName", "Level", HOSTNAME];
const OF_DEVICE: &[&str] = &["Level", "DeviceId", HOSTNAME];
const OF_REQUEST: &[&str] = &["model_name", "model_version", "hostname"];
const OF_MODEL: &[&str] = &["ModelName", "Level", HOSTNAME];

/// As TorchServe lists them for itself.
const HOST: [Builtin; 19] = [
    (MetricKind::Counter, "Requests2XX", "Count", OF_HOST),
    (MetricKind::Counter, "Requests4XX", "Count", OF_HOST),
    (MetricKind::Counter, "Requests5XX", "Count", OF_HOST),
    (MetricKind::Counter, "ts_inference_requests_total", "Count", OF_REQUEST),
    (MetricKind::Counter, "ts_inference_latency_microseconds", "Microseconds", OF_REQUEST),
    (MetricKind::Counter, "ts_queue_latency_microseconds", "Microseconds", OF_REQUEST),
    (MetricKind::Gauge, "QueueTime", "Milliseconds", OF_HOST),
    (MetricKind::Gauge, "WorkerThreadTime", "Milliseconds", OF_HOST),
    (MetricKind::Gauge, "WorkerLoadTime", "Milliseconds", OF_WORKER),
    (MetricKind::Gauge, "CPUUtilization", "Percent", OF_HOST),
    (MetricKind::Gauge, "MemoryUsed", "Megabytes", OF_HOST),
    (MetricKind::Gauge, "MemoryAvailable", "Megabytes", OF_HOST),
    (MetricKind::Gauge, "MemoryUtilization", "Percent", OF_HOST),
    (MetricKind::Gauge, "DiskUsage", "Gigabytes", OF_HOST),
    (MetricKind::Gauge, "DiskUtilization", "Percent", OF_HOST),
    (MetricKind::Gauge, "DiskAvailable", "Gigabytes", OF_HOST),
    (MetricKind::Gauge, "GPUMemoryUtilization", "Percent", OF_DEVICE),
    (MetricKind::Gauge, "GPUMemoryUsed", "Megabytes", OF_DEVICE),
    (MetricKind::Gauge, "GPUUtilization", "Percent", OF_DEVICE),
];

/// What TorchServe records for every handler, and for one whose config says `handler: {profile: true}`.
const MODEL: [Builtin; 5] = [
    (MetricKind::Gauge, "HandlerTime", "ms", OF_MODEL),
    (MetricKind::Gauge, "PredictionTime", "ms", OF_MODEL),
    (MetricKind::Gauge, "ts_handler_preprocess", "ms", OF_MODEL),
    (MetricKind::Gauge, "ts_handler_inference", "ms", OF_MODEL),
    (MetricKind::Gauge, "ts_handler_postprocess", "ms", OF_MODEL),
];

/// As a file calls them.
const KINDS: [(&str, MetricKind); 3] =
    [("counter", MetricKind::Counter), ("gauge", MetricKind::Gauge), ("histogram", MetricKind::Histogram)];

// === impl Definitions ===

impl Definitions {
    /// Reads the operator's file.
    pub(super) fn read(path: &Path, unlisted: Unlisted) -> Result<Self, MetricsError> {
        let text =
            fs::read_to_string(path).map_err(|cause| MetricsError::Unreadable { path: path.to_owned(), cause })?;
        Self::parse(&text, unlisted).map_err(|detail| MetricsError::BadDefinitions { path: path.to_owned(), detail })
    }

    /// The error says which metric is wrong, and what about it.
    fn parse(text: &str, unlisted: Unlisted) -> Result<Self, String> {
        let options = serde_saphyr::options! {
            // The file names its labels once and refers to them; more than that is something else.
            alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: 100_000 },
            with_snippet: false,
        };
        let file: Value = serde_saphyr::from_str_with_options(text, options).map_err(|error| error.to_string())?;
        let sections = file.as_object().ok_or("it must have the keys ts_metrics and model_metrics")?;
        let host = match sections.get("ts_metrics") {
            // Who lists only what handlers record leaves the server's own as they are.
            None => HOST.iter().map(Definition::of).collect(),
            Some(section) => {
                let listed = section_of("ts_metrics", section)?;
                listed.iter().try_for_each(Definition::fits_the_server)?;
                listed
            }
        };
        let mut model = match sections.get("model_metrics") {
            None => Vec::new(),
            Some(section) => section_of("model_metrics", section)?,
        };
        for definition in &mut model {
            definition.labels.retain(|label| label != HOSTNAME);
            definition.labels.push(HOSTNAME.to_owned());
        }
        Ok(Self { host, model, unlisted })
    }

    /// What the server measures under that name; `None` where the operator's file leaves it out.
    pub(super) fn host(&self, name: &str) -> Option<Definition> {
        self.host.iter().find(|definition| definition.name == name).cloned()
    }

    /// What the server measures, but for what only some machines have.
    pub(super) fn of_every_host(&self) -> impl Iterator<Item = &str> {
        self.host.iter().map(|definition| definition.name.as_str()).filter(|name| !name.starts_with("GPU"))
    }

    /// What a handler records under that name, as listed or as TorchServe has it.
    pub(super) fn model(&self, name: &str) -> Listed {
        let listed = self.model.iter().find(|definition| definition.name == name).cloned();
        match (listed, self.unlisted) {
            (Some(definition), _) => Listed::Yes(definition),
            (None, Unlisted::Skipped) => Listed::Skipped,
            (None, Unlisted::Recorded) => {
                let builtin = MODEL.iter().find(|(_, known, ..)| *known == name);
                builtin.map_or(Listed::No, |builtin| Listed::Yes(Definition::of(builtin)))
            }
        }
    }
}

/// What is known of a handler's metric before it is recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Listed {
    Yes(Definition),
    /// Its first value says what it is.
    No,
    Skipped,
}

impl Default for Definitions {
    fn default() -> Self {
        let host = HOST.iter().map(Definition::of).collect();
        Self { host, model: Vec::new(), unlisted: Unlisted::Recorded }
    }
}

// === impl Definition ===

impl Definition {
    /// What a handler records without a list: under its own labels, the model's name and version, and the host's.
    pub(super) fn unlisted(kind: MetricKind, name: &str, unit: &str, labels: &[(&str, &str)]) -> Self {
        let own = labels.iter().map(|(label, _)| *label);
        let ours = ["ModelName", "Level", "model_version"];
        let ours = ours.into_iter().filter(|label| labels.iter().all(|(given, _)| given != label));
        let labels = own.filter(|label| *label != HOSTNAME).chain(ours).chain([HOSTNAME]).map(str::to_owned).collect();
        Self { kind, name: name.to_owned(), unit: unit_name(unit).to_owned(), labels }
    }

    fn of((kind, name, unit, labels): &Builtin) -> Self {
        let labels = labels.iter().map(|&label| label.to_owned()).collect();
        Self { kind: *kind, name: (*name).to_owned(), unit: (*unit).to_owned(), labels }
    }

    /// What the server measures has so many labels as the server has values for.
    fn fits_the_server(&self) -> Result<(), String> {
        let known = HOST.iter().find(|(_, name, ..)| *name == self.name);
        match known {
            Some((.., labels)) if labels.len() != self.labels.len() => Err(format!(
                "ts_metrics, metric {:?}: dimensions must be {} names, as [{}]",
                self.name,
                labels.len(),
                labels.join(", ")
            )),
            _ => Ok(()),
        }
    }
}

/// The metrics of one section of the file.
fn section_of(section: &str, content: &Value) -> Result<Vec<Definition>, String> {
    let form = || format!("{section} must be a map with the keys counter, gauge and histogram");
    let kinds = match content {
        Value::Null => return Ok(Vec::new()),
        content => content.as_object().ok_or_else(form)?,
    };
    let mut found: Vec<Definition> = Vec::new();
    for (key, metrics) in kinds {
        let kind = KINDS.iter().find(|(name, _)| name == key).map(|(_, kind)| *kind);
        let kind = kind.ok_or_else(|| format!("{section}: the key {key} is not counter, gauge or histogram"))?;
        let metrics = match metrics {
            Value::Null => &Vec::new(),
            metrics => metrics.as_array().ok_or_else(|| format!("{section}, {key}: it must be a list of metrics"))?,
        };
        for (index, metric) in metrics.iter().enumerate() {
            let keys = metric.as_object();
            let name = keys.and_then(|keys| keys.get("name")).and_then(Value::as_str);
            let place = match name {
                Some(name) => format!("{section}, {key}, metric {name:?}"),
                None => format!("{section}, {key}, metric {}", index + 1),
            };
            let keys = keys.ok_or_else(|| format!("{place}: it must have the keys name, unit and dimensions"))?;
            let definition = metric_of(kind, keys).map_err(|reason| format!("{place}: {reason}"))?;
            if found.iter().any(|other| other.name == definition.name) {
                return Err(format!("{place}: the name is listed twice"));
            }
            found.push(definition);
        }
    }
    Ok(found)
}

fn metric_of(kind: MetricKind, keys: &Map<String, Value>) -> Result<Definition, String> {
    let text = |key: &str| match keys.get(key) {
        None => Err(format!("the key {key} is missing")),
        Some(value) => match value.as_str() {
            Some(text) if !text.is_empty() => Ok(text.to_owned()),
            _ => Err(format!("{key} = {value} is no text")),
        },
    };
    let (name, unit) = (text("name")?, text("unit")?);
    if !is_name(&name) {
        return Err("the name must be letters, digits and _, and not begin with a digit".to_owned());
    }
    let dimensions = keys.get("dimensions").ok_or("the key dimensions is missing")?;
    let form = || format!("dimensions = {dimensions} is no list of names, each of letters, digits and _");
    let labels: Option<Vec<String>> = dimensions
        .as_array()
        .ok_or_else(form)?
        .iter()
        .map(|label| label.as_str().filter(|label| is_name(label)).map(str::to_owned))
        .collect();
    let labels = labels.ok_or_else(form)?;
    match labels.iter().enumerate().find(|(index, label)| labels[..*index].contains(label)) {
        Some((_, twice)) => Err(format!("dimensions names {twice} twice")),
        None => Ok(Definition { kind, name, unit, labels }),
    }
}

fn is_name(text: &str) -> bool {
    !text.starts_with(|c: char| c.is_ascii_digit())
        && !text.is_empty()
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// The long form of what handlers write short, as in TorchServe.
fn unit_name(unit: &str) -> &str {
    match unit {
        "ms" => "Milliseconds",
        "s" => "Seconds",
        "percent" => "Percent",
        "count" => "Count",
        "MB" => "Megabytes",
        "GB" => "Gigabytes",
        "kB" => "Kilobytes",
        "B" => "Bytes",
        "" => "unit",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The shape of the file that TorchServe comes with.
    const FILE: &str = r#"
dimensions:
  - &model_name "ModelName"
  - &level "Level"
ts_metrics:
  counter:
    - name: Requests2XX
      unit: Count
      dimensions: [*level, &hostname "Hostname"]
  histogram:
    - {name: QueueTime, unit: Milliseconds, dimensions: [*level, *hostname]}
model_metrics:
  counter:
    - name: Digits
      unit: count
      dimensions: [*model_name, digit]
  gauge:
"#;

    fn definition(kind: MetricKind, name: &str, unit: &str, labels: &[&str]) -> Definition {
        let labels = labels.iter().map(|&label| label.to_owned()).collect();
        Definition { kind, name: name.to_owned(), unit: unit.to_owned(), labels }
    }

    #[test]
    fn a_file_lists_what_is_recorded() {
        let read = Definitions::parse(FILE, Unlisted::Skipped).unwrap();
        assert_eq!(read.host("Requests2XX"), Definitions::default().host("Requests2XX"));
        let queue = definition(MetricKind::Histogram, "QueueTime", "Milliseconds", &["Level", "Hostname"]);
        assert_eq!(read.host("QueueTime"), Some(queue));
        assert_eq!(read.host("Requests4XX"), None);
        let digits = definition(MetricKind::Counter, "Digits", "count", &["ModelName", "digit", "Hostname"]);
        assert_eq!(read.model("Digits"), Listed::Yes(digits));
        assert_eq!(read.model("HandlerTime"), Listed::Skipped);
        let detecting = Definitions::parse(FILE, Unlisted::Recorded).unwrap();
        assert_eq!(detecting.model("Letters"), Listed::No);
        assert!(matches!(detecting.model("HandlerTime"), Listed::Yes(_)));
        let only_models = Definitions::parse("model_metrics: {}", Unlisted::Skipped).unwrap();
        assert_eq!(only_models.host("QueueTime"), Definitions::default().host("QueueTime"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, expected) in [
            ("[1", "line 1"),
            ("- a", "it must have the keys ts_metrics and model_metrics"),
            ("model_metrics: [1]", "model_metrics must be a map with the keys counter, gauge and histogram"),
            ("model_metrics: {counters: []}", "model_metrics: the key counters is not counter, gauge or histogram"),
            ("model_metrics: {counter: {name: A}}", "model_metrics, counter: it must be a list"),
            ("model_metrics: {counter: [A]}", "model_metrics, counter, metric 1: it must have the keys"),
            ("model_metrics: {gauge: [{unit: ms, dimensions: []}]}", "metric 1: the key name is missing"),
            ("model_metrics: {gauge: [{name: A, dimensions: []}]}", "metric \"A\": the key unit is missing"),
            ("model_metrics: {gauge: [{name: A, unit: ms}]}", "metric \"A\": the key dimensions is missing"),
            ("model_metrics: {gauge: [{name: A, unit: 7, dimensions: []}]}", "metric \"A\": unit = 7 is no text"),
            ("model_metrics: {gauge: [{name: A b, unit: ms, dimensions: []}]}", "the name must be letters"),
            ("model_metrics: {gauge: [{name: A, unit: ms, dimensions: x}]}", "dimensions = \"x\" is no list of names"),
            ("model_metrics: {gauge: [{name: A, unit: ms, dimensions: [a b]}]}", "is no list of names"),
            ("model_metrics: {gauge: [{name: A, unit: ms, dimensions: [a, a]}]}", "dimensions names a twice"),
            (
                "model_metrics: {gauge: [{name: A, unit: ms, dimensions: []}], counter: [{name: A, unit: ms, dimensions: []}]}",
                "metric \"A\": the name is listed twice",
            ),
            (
                "ts_metrics: {counter: [{name: Requests2XX, unit: Count, dimensions: [Level]}]}",
                "ts_metrics, metric \"Requests2XX\": dimensions must be 2 names, as [Level, Hostname]",
            ),
        ] {
            let message = Definitions::parse(text, Unlisted::Skipped).unwrap_err();
            assert!(message.contains(expected), "{text}: {message}");
        }
    }

    #[test]
    fn an_unlisted_metric_has_the_model_s_labels_once() {
        let labels = [("digit", "7"), ("Level", "Batch")];
        let made = Definition::unlisted(MetricKind::Counter, "Digits", "count", &labels);
        assert_eq!(made.labels, ["digit", "Level", "ModelName", "model_version", "Hostname"]);
        assert_eq!(made.unit, "Count");
    }

    #[test]
    fn devices_have_torchserve_s_names_and_labels() {
        let labels = ["Level", "DeviceId", "Hostname"];
        for (name, unit) in
            [("GPUMemoryUtilization", "Percent"), ("GPUMemoryUsed", "Megabytes"), ("GPUUtilization", "Percent")]
        {
            let expected = definition(MetricKind::Gauge, name, unit, &labels);
            assert_eq!(Definitions::default().host(name), Some(expected));
        }
    }
}
