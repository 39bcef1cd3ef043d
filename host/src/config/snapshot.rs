//! The key `model_snapshot`: the models that a server had, to be served again. KServe writes it into its configuration.

use serde_json::Value;

use crate::config::models;
use crate::config::models::Models;

/// What a snapshot says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Snapshot {
    /// Items for `load_models`. Of each model the default version comes first: the first one that is registered is the default.
    pub(super) load: Vec<String>,
    pub(super) models: Models,
}

pub(super) const SNAPSHOT: &str = "model_snapshot";

const FORM: &str = r#"JSON as {"models": {"model": {"1.0": {"marName": "model.mar", "minWorkers": 1}}}}"#;

/// Reads the JSON text; the error is what it should be.
pub(super) fn parse(text: &str, warnings: &mut Vec<String>) -> Result<Snapshot, String> {
    let value: Value = serde_json::from_str(text).map_err(|error| format!("{FORM}: {error}"))?;
    let models = value.get("models").and_then(Value::as_object).ok_or(FORM)?;
    let mut load = Vec::new();
    for (name, versions) in models {
        let versions = versions.as_object().ok_or(FORM)?;
        let is_default = |keys: &Value| keys["defaultVersion"] == true;
        let (default, others): (Vec<_>, Vec<_>) = versions.iter().partition(|(_, keys)| is_default(keys));
        for (version, keys) in default.into_iter().chain(others) {
            load.push(item(name, version, keys)?);
        }
    }
    let models = models::from_object(models, SNAPSHOT, warnings).ok_or(FORM)?;
    Ok(Snapshot { load, models })
}

fn item(name: &str, version: &str, keys: &Value) -> Result<String, String> {
    let archive = keys["marName"].as_str().filter(|archive| !archive.is_empty());
    let archive =
        archive.ok_or_else(|| format!("{FORM}: {name} {version} has no marName, so nothing says where it is"))?;
    match archive.contains(',') {
        true => Err(format!("a snapshot of archives without a comma in their names, as {archive:?} has one")),
        false => Ok(format!("{name}={archive}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_models_are_loaded_the_default_version_first() {
        let text = r#"{"name": "startup.cfg", "modelCount": 2, "created": 1585457614832, "models": {
            "a": {"1.0": {"marName": "a1.mar", "minWorkers": 1, "maxWorkers": 5, "batchSize": 4},
                  "2.0": {"marName": "a2.mar", "defaultVersion": true, "minWorkers": 2}},
            "b": {"1.0": {"marName": "b.mar", "defaultVersion": true, "maxBatchDelay": 10, "runtimeType": "python"}}}}"#;
        let mut warnings = Vec::new();
        let snapshot = parse(text, &mut warnings).unwrap();
        assert_eq!(snapshot.load, ["a=a2.mar", "a=a1.mar", "b=b.mar"]);
        assert_eq!(snapshot.models["a"]["1.0"].max_workers, Some(5));
        assert_eq!(snapshot.models["a"]["2.0"].min_workers, Some(2));
        assert_eq!(warnings, Vec::<String>::new());
        assert_eq!(parse(r#"{"models": {}}"#, &mut warnings).unwrap().load, Vec::<String>::new());
    }

    #[test]
    fn what_is_no_snapshot_is_told() {
        for (text, expected) in [
            ("{", "JSON as"),
            ("{}", "JSON as"),
            (r#"{"models": []}"#, "JSON as"),
            (r#"{"models": {"m": 1}}"#, "JSON as"),
            (r#"{"models": {"m": {"1": 1}}}"#, "m 1 has no marName"),
            (r#"{"models": {"m": {"1": {}}}}"#, "m 1 has no marName"),
            (r#"{"models": {"m": {"1": {"marName": "a,b.mar"}}}}"#, "without a comma"),
        ] {
            let error = parse(text, &mut Vec::new()).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
