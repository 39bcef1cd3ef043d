//! What is measured, and how it is told.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::error::ConfigError;
use crate::config::settings::Settings;

/// What the operator wants of the metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricsConfig {
    pub mode: MetricsMode,
    /// The file that lists metrics; `None`: the server's own, and all that handlers record.
    pub definitions: Option<PathBuf>,
    /// Whether what handlers record counts though that file doesn't list it.
    pub auto_detect: bool,
    /// Between two looks at the machine; `None`: none is taken.
    pub system_interval: Option<Duration>,
    /// The folder for the files of [`MetricsMode::Log`].
    pub location: PathBuf,
}

/// Where measured values go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MetricsMode {
    /// To whoever fetches them.
    #[default]
    Prometheus,
    /// To the log, a line for each; nothing is there to be fetched.
    Log,
    /// To the log, but for the three counters of requests, which can be fetched.
    Legacy,
}

pub(super) const MODE: &str = "metrics_mode";
pub(super) const DEFINITIONS: &str = "metrics_config";
pub(super) const AUTO_DETECT: &str = "model_metrics_auto_detect";
pub(super) const NO_SYSTEM: &str = "disable_system_metrics";
pub(super) const SYSTEM_COMMAND: &str = "system_metrics_cmd";
pub(super) const SYSTEM_INTERVAL: &str = "metric_time_interval";

/// TorchServe's variable for the folder.
const LOCATION_VARIABLE: &str = "METRICS_LOCATION";
const DEFAULT_LOCATION: &str = "logs";
const DEFAULT_INTERVAL: u64 = 60;

// === impl MetricsMode ===

impl MetricsMode {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Prometheus => "prometheus",
            Self::Log => "log",
            Self::Legacy => "legacy",
        }
    }
}

// === impl MetricsConfig ===

impl MetricsConfig {
    pub(super) fn from_settings(settings: &Settings) -> Result<Self, ConfigError> {
        let mode = match settings.text(MODE).map(str::to_ascii_lowercase).as_deref() {
            None | Some("prometheus") => MetricsMode::Prometheus,
            Some("log") => MetricsMode::Log,
            Some("legacy") => MetricsMode::Legacy,
            Some(_) => return Err(settings.bad(MODE, "prometheus, log or legacy")),
        };
        let interval = settings.seconds(SYSTEM_INTERVAL, DEFAULT_INTERVAL)?;
        Ok(Self {
            mode,
            definitions: settings.text(DEFINITIONS).map(PathBuf::from),
            auto_detect: settings.switch(AUTO_DETECT, false)?,
            system_interval: (!settings.switch(NO_SYSTEM, false)?).then_some(interval),
            location: PathBuf::from(DEFAULT_LOCATION),
        })
    }

    /// The folder that the environment names, as it counts in TorchServe whatever the file says.
    pub(super) fn located(self, environment: &BTreeMap<String, String>) -> Self {
        let named = environment.get(LOCATION_VARIABLE).filter(|folder| !folder.is_empty());
        Self { location: named.map_or(self.location, PathBuf::from), ..self }
    }
}

impl Default for MetricsConfig {
    fn default() -> Self {
        Self {
            mode: MetricsMode::default(),
            definitions: None,
            auto_detect: false,
            system_interval: Some(Duration::from_secs(DEFAULT_INTERVAL)),
            location: PathBuf::from(DEFAULT_LOCATION),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ConfigSources;
    use crate::config::ServerConfig;

    fn load(text: &str, location: Option<&str>) -> Result<(MetricsConfig, Vec<String>), ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.properties");
        std::fs::write(&file, text).unwrap();
        let environment =
            location.map(|folder| (LOCATION_VARIABLE.to_owned(), folder.to_owned())).into_iter().collect();
        let sources = ConfigSources { ts_config: Some(file), environment, ..ConfigSources::default() };
        ServerConfig::load(&sources).map(|(config, warnings)| (config.metrics, warnings))
    }

    #[test]
    fn what_the_operator_says_of_metrics() {
        let default = MetricsConfig::default();
        for (text, location, expected) in [
            ("", None, default.clone()),
            ("metrics_mode=prometheus", Some(""), default.clone()),
            ("metrics_mode=LOG", None, MetricsConfig { mode: MetricsMode::Log, ..default.clone() }),
            ("metrics_mode=legacy", None, MetricsConfig { mode: MetricsMode::Legacy, ..default.clone() }),
            ("", Some("/m"), MetricsConfig { location: PathBuf::from("/m"), ..default.clone() }),
            ("disable_system_metrics=true", None, MetricsConfig { system_interval: None, ..default.clone() }),
            (
                "metric_time_interval=5\nmetrics_config=m.yaml\nmodel_metrics_auto_detect=true",
                None,
                MetricsConfig {
                    system_interval: Some(Duration::from_secs(5)),
                    definitions: Some(PathBuf::from("m.yaml")),
                    auto_detect: true,
                    ..default.clone()
                },
            ),
        ] {
            assert_eq!(load(text, location).unwrap(), (expected, Vec::new()), "{text:?}, {location:?}");
        }
        for (text, expected) in [
            ("metrics_mode=promethius", "metrics_mode = \"promethius\" is not prometheus, log or legacy"),
            ("metric_time_interval=0", "is not a whole number from 1"),
            ("disable_system_metrics=yes", "is not true or false"),
        ] {
            let message = load(text, None).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
        let (_, warnings) = load("system_metrics_cmd=python collect.py", None).unwrap();
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(
            warnings[0].contains("system_metrics_cmd has no effect: the server looks at the machine itself"),
            "{warnings:?}"
        );
    }
}
