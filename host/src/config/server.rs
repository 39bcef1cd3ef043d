//! The configuration of a server, put together from its three sources.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::access::AccessConfig;
use crate::config::address::Address;
use crate::config::autoscale::AutoscaleConfig;
use crate::config::error::ConfigError;
use crate::config::keys;
use crate::config::metrics::MetricsConfig;
use crate::config::models;
use crate::config::models::Models;
use crate::config::report;
use crate::config::report::Explained;
use crate::config::requests::RequestConfig;
use crate::config::settings::Settings;
use crate::config::snapshot;
use crate::config::snapshot::SNAPSHOT;
use crate::config::sources::ConfigSources;
use crate::config::sources::Gathered;
use crate::config::swap::SwapConfig;

/// What a server is told once, at start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerConfig {
    /// The file that was read, if any.
    pub file: Option<PathBuf>,
    pub inference_address: Address,
    pub management_address: Address,
    pub metrics_address: Address,
    pub model_store: Option<PathBuf>,
    /// Items as `all`, `path` or `name=path`; the archive layer reads them.
    pub load_models: Vec<String>,
    /// Folders or files of handler plugins.
    pub plugins_path: Vec<PathBuf>,
    /// `None`: as many as there are GPUs, or else CPUs.
    pub default_workers_per_model: Option<usize>,
    pub default_response_timeout: Duration,
    pub default_startup_timeout: Duration,
    /// How long unregistering waits for the requests that were taken in.
    pub unregister_model_timeout: Duration,
    /// Requests that wait, per model.
    pub job_queue_size: usize,
    /// In bytes.
    pub max_request_size: usize,
    /// In bytes, of one response.
    pub max_response_size: usize,
    /// `None`: all that are found.
    pub number_of_gpu: Option<usize>,
    pub models: Models,
    /// For archives whose manifest names no handler.
    pub default_service_handler: Option<String>,
    pub enable_metrics_api: bool,
    /// Where private copies of libraries and unpacked archives go; `None`: a fresh
    /// folder under the system's temporary folder.
    pub work_dir: Option<PathBuf>,
    pub access: AccessConfig,
    pub requests: RequestConfig,
    pub swap: SwapConfig,
    pub autoscale: AutoscaleConfig,
    pub metrics: MetricsConfig,
    /// The folder where every batch's trace goes; `None`: none is made but those that are asked for.
    pub traces: Option<PathBuf>,
}

/// TorchServe's variable, whose value doesn't matter, and its folder.
const TRACES_VARIABLE: &str = "ENABLE_TORCH_PROFILER";
const TRACES: &str = "pytorch_profiler";

/// Seconds, as in TorchServe.
const DEFAULT_TIMEOUT: u64 = 120;

// === impl ServerConfig ===

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            file: None,
            inference_address: Address::new("127.0.0.1", 8080),
            management_address: Address::new("127.0.0.1", 8081),
            metrics_address: Address::new("127.0.0.1", 8082),
            model_store: None,
            load_models: Vec::new(),
            plugins_path: Vec::new(),
            default_workers_per_model: None,
            default_response_timeout: Duration::from_secs(DEFAULT_TIMEOUT),
            default_startup_timeout: Duration::from_secs(DEFAULT_TIMEOUT),
            unregister_model_timeout: Duration::from_secs(DEFAULT_TIMEOUT),
            job_queue_size: 100,
            max_request_size: 6_553_500,
            max_response_size: 6_553_500,
            number_of_gpu: None,
            models: Models::new(),
            default_service_handler: None,
            enable_metrics_api: true,
            work_dir: None,
            access: AccessConfig::default(),
            requests: RequestConfig::default(),
            swap: SwapConfig::default(),
            autoscale: AutoscaleConfig::default(),
            metrics: MetricsConfig::default(),
            traces: None,
        }
    }
}

impl ServerConfig {
    /// Reads the file, lays the flags over it, and warns, one sentence each, about all
    /// that will have no effect. With `enable_envvars_config=true` in the file, variables
    /// as `TS_JOB_QUEUE_SIZE` win over both, as in TorchServe.
    pub fn load(sources: &ConfigSources) -> Result<(Self, Vec<String>), ConfigError> {
        Self::explain(sources).map(|explained| (explained.config, explained.warnings))
    }

    /// The same, and where each value comes from.
    pub fn explain(sources: &ConfigSources) -> Result<Explained, ConfigError> {
        let Gathered { file, settings, mut warnings } = sources.gather()?;
        let config = Self::from_settings(&settings, &mut warnings)?;
        let metrics = config.metrics.clone().located(&sources.environment);
        let mut config = Self { file, metrics, traces: traces(&sources.environment), ..config };
        if config.plugins_path.is_empty() {
            config.plugins_path.extend(sources.own_plugins());
        }
        let settings = report::shown(&config, &settings);
        Ok(Explained { config, settings, warnings })
    }

    fn from_settings(settings: &Settings, warnings: &mut Vec<String>) -> Result<Self, ConfigError> {
        let default = Self::default();
        let path = |key| settings.text(key).map(PathBuf::from);
        let some_number = |key| Ok(settings.number(key, 0)?.map(|n| n as usize));
        let mut models = match settings.text("models") {
            None => Models::new(),
            Some(text) => models::parse(text, warnings).map_err(|e| settings.bad("models", &e))?,
        };
        if let Some(text) = settings.text(SNAPSHOT) {
            let snapshot = snapshot::parse(text, warnings).map_err(|e| settings.bad(SNAPSHOT, &e))?;
            for (name, versions) in snapshot.models {
                models.entry(name).or_default().extend(versions);
            }
        }
        Ok(Self {
            file: None,
            // Without a port it is the scheme's for inference, and TorchServe's for the others.
            inference_address: settings.address("inference_address", default.inference_address, 80)?,
            management_address: settings.address("management_address", default.management_address, 8081)?,
            metrics_address: settings.address("metrics_address", default.metrics_address, 8082)?,
            model_store: path("model_store"),
            load_models: settings.list("load_models"),
            plugins_path: plugins(settings, warnings),
            default_workers_per_model: some_number("default_workers_per_model")?.filter(|workers| *workers > 0),
            default_response_timeout: settings.seconds("default_response_timeout", DEFAULT_TIMEOUT)?,
            default_startup_timeout: settings.seconds("default_startup_timeout", DEFAULT_TIMEOUT)?,
            unregister_model_timeout: settings.seconds("unregister_model_timeout", DEFAULT_TIMEOUT)?,
            job_queue_size: settings.size("job_queue_size", default.job_queue_size)?,
            max_request_size: settings.size("max_request_size", default.max_request_size)?,
            max_response_size: settings.size("max_response_size", default.max_response_size)?,
            number_of_gpu: some_number("number_of_gpu")?,
            models,
            default_service_handler: settings.text("default_service_handler").map(str::to_owned),
            enable_metrics_api: settings.switch("enable_metrics_api", true)?,
            work_dir: path(keys::WORK_DIR),
            access: AccessConfig::from_settings(settings)?,
            requests: RequestConfig::from_settings(settings)?,
            swap: SwapConfig::from_settings(settings)?,
            autoscale: AutoscaleConfig::from_settings(settings)?,
            metrics: MetricsConfig::from_settings(settings)?,
            traces: None,
        })
    }
}

/// Where the environment wants every batch traced, as it counts in TorchServe whatever the file says.
fn traces(environment: &BTreeMap<String, String>) -> Option<PathBuf> {
    let filled = |name| environment.get(name).filter(|value| !value.is_empty());
    filled(TRACES_VARIABLE)?;
    Some(filled("TMPDIR").map_or_else(|| PathBuf::from("/tmp"), PathBuf::from).join(TRACES))
}

/// TorchServe looks for plugins of its own under the same key.
fn plugins(settings: &Settings, warnings: &mut Vec<String>) -> Vec<PathBuf> {
    let (java, native): (Vec<_>, Vec<_>) = settings
        .list("plugins_path")
        .into_iter()
        .map(PathBuf::from)
        .partition(|path| path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("jar")));
    let origin = settings.origin("plugins_path").map(ToString::to_string).unwrap_or_default();
    warnings.extend(java.iter().map(|path| {
        format!(
            "{origin}: {} has no effect: it is a plugin for TorchServe's JVM, and plugins here are shared libraries",
            path.display()
        )
    }));
    native
}
