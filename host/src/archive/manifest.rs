//! `MAR-INF/MANIFEST.json`: what an archive says about itself.

use std::fmt;
use std::path::Path;

use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde_json::Value;
use time::OffsetDateTime;
use time::UtcOffset;
use time::macros::format_description;

use crate::archive::error::ArchiveError;
use crate::ids::ModelVersion;

/// Where the manifest lies in a package.
pub const MANIFEST_MEMBER: &str = "MAR-INF/MANIFEST.json";

/// The fields stand in the order in which archivers write them; unknown ones are ignored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Manifest {
    /// `DD/MM/YYYY HH:MM:SS`; kept as text, because nothing depends on it.
    #[serde(deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub created_on: Option<String>,
    #[serde(deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    pub runtime: Runtime,
    pub model: ManifestModel,
    #[serde(deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub archiver_version: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ManifestModel {
    /// Not checked here: a manifest without a good name can still be registered under another.
    #[serde(deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub model_name: Option<String>,
    #[serde(deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub serialized_file: Option<String>,
    #[serde(deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub handler: Option<String>,
    #[serde(deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub model_file: Option<String>,
    #[serde(deserialize_with = "version")]
    pub model_version: ModelVersion,
    #[serde(deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub requirements_file: Option<String>,
    #[serde(deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub config_file: Option<String>,
}

/// Who runs the handler, in TorchServe's words.
///
/// Sconce runs native plugins only; the word still decides how the handler's name is read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Runtime {
    #[default]
    #[serde(rename = "python")]
    Python,
    #[serde(rename = "python3")]
    Python3,
    #[serde(rename = "LSP")]
    Lsp,
}

// === impl Manifest ===

impl Manifest {
    /// Reads a manifest's text; `archive` is only for the message.
    pub fn parse(text: &str, archive: &Path) -> Result<Self, ArchiveError> {
        let bad = |detail: String| ArchiveError::BadManifest { archive: archive.to_owned(), detail };
        let text = text.trim_start_matches('\u{feff}');
        let value: Value = serde_json::from_str(text).map_err(|e| bad(e.to_string()))?;
        // serde would take a list for the fields in their order.
        if !value.is_object() {
            return Err(bad("it is not a JSON object".to_owned()));
        }
        if value.get("model").is_some_and(|model| !model.is_object()) {
            return Err(ArchiveError::NoModelEntry { archive: archive.to_owned() });
        }
        match value.get("runtime") {
            Some(Value::String(runtime)) if Runtime::parse(runtime).is_none() => {
                return Err(ArchiveError::BadRuntime { archive: archive.to_owned(), runtime: runtime.clone() });
            }
            _ => {}
        }
        serde_json::from_value(value).map_err(|e| bad(e.to_string()))
    }

    /// The text that is written into an archive, with TorchServe's indentation.
    pub fn to_text(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string_pretty(self)
    }
}

/// The time in the form of `createdOn`, in UTC.
pub fn created_on(time: OffsetDateTime) -> String {
    let form = format_description!("[day]/[month]/[year] [hour]:[minute]:[second]");
    time.to_offset(UtcOffset::UTC).format(&form).unwrap_or_default()
}

// === impl Runtime ===

impl Runtime {
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "python" => Some(Self::Python),
            "python3" => Some(Self::Python3),
            "LSP" => Some(Self::Lsp),
            _ => None,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Python => "python",
            Self::Python3 => "python3",
            Self::Lsp => "LSP",
        }
    }
}

impl fmt::Display for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Text as TorchServe's reader takes it: numbers and booleans count as their spelling,
/// so that a hand-written `"modelVersion": 1.0` works.
fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text)),
        Value::Number(number) => Ok(Some(number.to_string())),
        Value::Bool(flag) => Ok(Some(flag.to_string())),
        other => Err(serde::de::Error::custom(format!("a text is needed where {other} stands"))),
    }
}

fn version<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ModelVersion, D::Error> {
    Ok(text(deserializer)?.map(ModelVersion::new).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Manifest, String> {
        Manifest::parse(text, Path::new("m.mar")).map_err(|e| e.to_string())
    }

    #[test]
    fn reads_what_an_archiver_writes_and_writes_it_back() {
        let text = r#"{
  "createdOn": "22/11/2026 01:33:03",
  "runtime": "python",
  "model": {
    "modelName": "mm",
    "serializedFile": "m.pt",
    "handler": "h.py",
    "modelFile": "model.py",
    "modelVersion": "1.0",
    "requirementsFile": "req.txt",
    "configFile": "cfg.yaml"
  },
  "archiverVersion": "0.12.0"
}"#;
        let manifest = parse(text).unwrap();
        assert_eq!(manifest.model.handler.as_deref(), Some("h.py"));
        assert_eq!(manifest.to_text().unwrap(), text);
    }

    #[test]
    fn what_is_missing_has_a_default() {
        let manifest = parse(r#"{"model":{"modelName":"m"},"implementationVersion":"1"}"#).unwrap();
        assert_eq!(manifest.runtime, Runtime::Python);
        assert_eq!(manifest.model.model_version.as_str(), "1.0");
        assert_eq!(parse("{}").unwrap(), Manifest::default());
        let loose = parse("\u{feff}{\"model\":{\"modelVersion\":2.5,\"handler\":null}}").unwrap();
        assert_eq!(loose.model.model_version.as_str(), "2.5");
        assert_eq!(loose.model.handler, None);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, expected) in [
            ("", "EOF while parsing"),
            ("[]", "not a JSON object"),
            ("7", "not a JSON object"),
            ("{\"model\":\n{,}}", "line 2 column 2"),
            (r#"{"model":null}"#, "\"model\" is not a JSON object"),
            (r#"{"model":{"handler":[1]}}"#, "a text is needed where [1]"),
            (r#"{"runtime":"java"}"#, "runtime \"java\"; use python, python3 or LSP"),
            (r#"{"runtime":null}"#, "can't be read"),
        ] {
            let message = parse(text).unwrap_err();
            assert!(message.contains(expected), "{text}: {message}");
            assert!(message.contains("m.mar"), "{message}");
        }
    }

    #[test]
    fn the_time_is_utc_in_torchserves_form() {
        let time = time::macros::datetime!(2026-11-02 01:03:04 +02:00);
        assert_eq!(created_on(time), "01/11/2026 23:03:04");
    }
}
