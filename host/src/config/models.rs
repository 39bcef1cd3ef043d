//! The key `models`: how single versions of models are served, where their archives don't say.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Map;
use serde_json::Value;

/// By model name, then by version.
pub type Models = BTreeMap<String, BTreeMap<String, ModelDefaults>>;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModelDefaults {
    pub min_workers: Option<usize>,
    pub max_workers: Option<usize>,
    pub batch_size: Option<usize>,
    pub max_batch_delay: Option<Duration>,
    pub response_timeout: Option<Duration>,
    pub startup_timeout: Option<Duration>,
    /// In place of the manifest's `runtime`.
    pub runtime_type: Option<String>,
}

/// What a manifest may name, too.
const RUNTIMES: [&str; 3] = ["python", "python3", "LSP"];

/// Keys that snapshots hold and that mean nothing here.
const UNUSED: &[&str] = &["defaultVersion", "marName", "parallelLevel", "parallelType"];

/// Reads the JSON text; the error is what is wrong with it. A value that is no number
/// above 0 is ignored, as in TorchServe, but told.
pub(super) fn parse(text: &str, warnings: &mut Vec<String>) -> Result<Models, String> {
    const FORM: &str = r#"JSON as {"model": {"1.0": {"minWorkers": 1}}}"#;
    let value: Value = serde_json::from_str(text).map_err(|e| format!("{FORM}: {e}"))?;
    Ok(object(&value).and_then(|models| from_object(models, "models", warnings)).ok_or(FORM)?)
}

/// The same of what was read already, under the key of that name; `None` where it has another form.
pub(super) fn from_object(value: &Map<String, Value>, key: &str, warnings: &mut Vec<String>) -> Option<Models> {
    let mut models = Models::new();
    for (name, versions) in value {
        for (version, keys) in object(versions)? {
            let place = format!("{key}: {name} {version}");
            let defaults = read(object(keys)?, &place, warnings);
            models.entry(name.clone()).or_default().insert(version.clone(), defaults);
        }
    }
    Some(models)
}

fn read(keys: &Map<String, Value>, place: &str, warnings: &mut Vec<String>) -> ModelDefaults {
    let mut defaults = ModelDefaults::default();
    for (key, value) in keys {
        let number = value.as_u64().filter(|n| *n > 0 && *n <= i32::MAX as u64);
        let count = number.and_then(|n| usize::try_from(n).ok());
        let seconds = number.map(Duration::from_secs);
        match key.as_str() {
            "minWorkers" => defaults.min_workers = count,
            "maxWorkers" => defaults.max_workers = count,
            "batchSize" => defaults.batch_size = count,
            "maxBatchDelay" => defaults.max_batch_delay = number.map(Duration::from_millis),
            "responseTimeout" => defaults.response_timeout = seconds,
            "startupTimeout" => defaults.startup_timeout = seconds,
            "runtimeType" => {
                defaults.runtime_type = value.as_str().filter(|name| RUNTIMES.contains(name)).map(str::to_owned);
                if defaults.runtime_type.is_none() {
                    let allowed = RUNTIMES.join(", ");
                    warnings.push(format!("{place}: {key} = {value} is ignored; it must be one of {allowed}"));
                }
                continue;
            }
            unused if UNUSED.contains(&unused) => continue,
            unknown => {
                warnings.push(format!("{place}: the key {unknown} is unknown; it is ignored"));
                continue;
            }
        }
        if number.is_none() {
            warnings.push(format!("{place}: {key} = {value} is ignored; it must be a whole number above 0"));
        }
    }
    defaults
}

fn object(value: &Value) -> Option<&Map<String, Value>> {
    value.as_object()
}
