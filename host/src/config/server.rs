//! The configuration of a server, put together from its three sources.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::access;
use crate::config::access::AccessConfig;
use crate::config::address::Address;
use crate::config::autoscale::AutoscaleConfig;
use crate::config::error::ConfigError;
use crate::config::error::Origin;
use crate::config::keys;
use crate::config::keys::Treatment;
use crate::config::models;
use crate::config::models::Models;
use crate::config::properties;
use crate::config::properties::Property;
use crate::config::requests::RequestConfig;
use crate::config::settings::Settings;
use crate::config::swap;
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
}

/// Where the configuration comes from; nothing else is looked at.
#[derive(Debug, Clone, Default)]
pub struct ConfigSources {
    /// The process's environment, or a test's.
    pub environment: BTreeMap<String, String>,
    /// The value of `--ts-config`; the variable `TS_CONFIG_FILE` wins over it.
    pub ts_config: Option<PathBuf>,
    /// Where a `config.properties` is looked for if neither names a file.
    pub current_dir: Option<PathBuf>,
    pub overrides: Overrides,
}

/// What the command line sets; it wins over the file.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    pub inference_address: Option<String>,
    pub management_address: Option<String>,
    pub metrics_address: Option<String>,
    pub model_store: Option<PathBuf>,
    pub models: Vec<String>,
    pub plugins_path: Option<PathBuf>,
    pub work_dir: Option<PathBuf>,
    pub disable_token_auth: bool,
    pub enable_model_api: bool,
    pub watch: Option<bool>,
    /// `retain` or `unmap`.
    pub unload: Option<String>,
}

const CONFIG_VARIABLE: &str = "TS_CONFIG_FILE";

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
            default_response_timeout: Duration::from_secs(120),
            default_startup_timeout: Duration::from_secs(120),
            unregister_model_timeout: Duration::from_secs(120),
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
        }
    }
}

impl ServerConfig {
    /// Reads the file, lays the flags over it, and warns, one sentence each, about all
    /// that will have no effect. With `enable_envvars_config=true` in the file, variables
    /// as `TS_JOB_QUEUE_SIZE` win over both, as in TorchServe.
    pub fn load(sources: &ConfigSources) -> Result<(Self, Vec<String>), ConfigError> {
        let mut warnings = Vec::new();
        let mut settings = Settings::default();
        let file = read_file(sources)?;
        if let Some((path, bytes)) = &file {
            for property in properties::parse(bytes, path, &sources.environment)? {
                if let Some(earlier) = settings.set(property.clone()) {
                    warnings.push(format!(
                        "{}: {} was set before, at {}; this one counts",
                        property.origin, property.key, earlier.origin
                    ));
                }
            }
        }
        tell_without_effect(&settings, &mut warnings);
        for property in sources.overrides.properties()? {
            settings.set(property);
        }
        if settings.switch("enable_envvars_config", false)? {
            let urls = settings.switch(access::ENV_ALLOWED_URLS, false)?;
            for (key, variable) in keys::environment_keys().filter(|(key, _)| urls || *key != access::ALLOWED_URLS) {
                if let Some(value) = sources.environment.get(&variable) {
                    settings.set(Property {
                        key: key.to_owned(),
                        value: value.trim().to_owned(),
                        origin: Origin::Environment { variable },
                    });
                }
            }
        }
        let config = Self { file: file.map(|(path, _)| path), ..Self::from_settings(&settings, &mut warnings)? };
        Ok((config, warnings))
    }

    fn from_settings(settings: &Settings, warnings: &mut Vec<String>) -> Result<Self, ConfigError> {
        let default = Self::default();
        let path = |key| settings.text(key).map(PathBuf::from);
        let some_number = |key| Ok(settings.number(key, 0)?.map(|n| n as usize));
        let models = match settings.text("models") {
            None => Models::new(),
            Some(text) => models::parse(text, warnings).map_err(|e| settings.bad("models", &e))?,
        };
        Ok(Self {
            file: None,
            // Without a port it is the scheme's for inference, and TorchServe's for the others.
            inference_address: settings.address("inference_address", default.inference_address, 80)?,
            management_address: settings.address("management_address", default.management_address, 8081)?,
            metrics_address: settings.address("metrics_address", default.metrics_address, 8082)?,
            model_store: path("model_store"),
            load_models: settings.list("load_models"),
            plugins_path: settings.list("plugins_path").into_iter().map(PathBuf::from).collect(),
            default_workers_per_model: some_number("default_workers_per_model")?.filter(|workers| *workers > 0),
            default_response_timeout: settings.seconds("default_response_timeout", 120)?,
            default_startup_timeout: settings.seconds("default_startup_timeout", 120)?,
            unregister_model_timeout: settings.seconds("unregister_model_timeout", 120)?,
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
        })
    }
}

// === impl Overrides ===

impl Overrides {
    fn properties(&self) -> Result<Vec<Property>, ConfigError> {
        let text = |path: &Option<PathBuf>, flag, key: &str| match path {
            None => Ok(None),
            Some(path) => match path.to_str() {
                Some(path) => Ok(Some(path.to_owned())),
                None => Err(ConfigError::BadValue {
                    origin: Origin::Flag { flag },
                    key: key.to_owned(),
                    value: path.to_string_lossy().into_owned(),
                    allowed: "a path in UTF-8".to_owned(),
                }),
            },
        };
        let models = (!self.models.is_empty()).then(|| self.models.join(","));
        let given = [
            ("inference_address", "--inference-address", self.inference_address.clone()),
            ("management_address", "--management-address", self.management_address.clone()),
            ("metrics_address", "--metrics-address", self.metrics_address.clone()),
            ("model_store", "--model-store", text(&self.model_store, "--model-store", "model_store")?),
            ("load_models", "--models", models),
            ("plugins_path", "--plugins-path", text(&self.plugins_path, "--plugins-path", "plugins_path")?),
            (keys::WORK_DIR, "--work-dir", text(&self.work_dir, "--work-dir", keys::WORK_DIR)?),
            (access::NO_TOKENS, "--disable-token-auth", self.disable_token_auth.then(|| "true".to_owned())),
            (access::MODEL_API, "--enable-model-api", self.enable_model_api.then(|| "true".to_owned())),
            (swap::WATCH, "--no-watch", self.watch.map(|watch| watch.to_string())),
            (swap::UNLOAD, "--unload", self.unload.clone()),
        ];
        let properties = given.into_iter().filter_map(|(key, flag, value)| {
            Some(Property { key: key.to_owned(), value: value?, origin: Origin::Flag { flag } })
        });
        Ok(properties.collect())
    }
}

/// Finds and reads the file. One that was asked for must be there; `config.properties`
/// in the current folder may be missing.
fn read_file(sources: &ConfigSources) -> Result<Option<(PathBuf, Vec<u8>)>, ConfigError> {
    let from_variable = sources.environment.get(CONFIG_VARIABLE).filter(|path| !path.is_empty());
    let (path, asked_by) = match (from_variable, &sources.ts_config, &sources.current_dir) {
        (Some(path), _, _) => (PathBuf::from(path), Some(CONFIG_VARIABLE)),
        (None, Some(path), _) => (path.clone(), Some("--ts-config")),
        (None, None, Some(folder)) => (folder.join("config.properties"), None),
        (None, None, None) => return Ok(None),
    };
    match (fs::read(&path), asked_by) {
        (Ok(bytes), _) => Ok(Some((path, bytes))),
        (Err(e), None) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        (Err(source), asked_by) => {
            Err(ConfigError::Unreadable { path, asked_by: asked_by.unwrap_or("the current folder"), cause: source })
        }
    }
}

fn tell_without_effect(settings: &Settings, warnings: &mut Vec<String>) {
    for Property { key, value, origin } in settings.iter() {
        match keys::treatment(key) {
            Some(Treatment::Honoured) => {}
            Some(Treatment::NotYet { quiet }) if value.eq_ignore_ascii_case(quiet) => {}
            Some(Treatment::NotYet { .. }) => {
                warnings.push(format!("{origin}: {key} is not honoured yet; it has no effect"))
            }
            Some(Treatment::Foreign) => {
                warnings.push(format!("{origin}: {key} is about TorchServe's JVM or Python workers; it has no effect"))
            }
            None => warnings.push(match keys::nearest(key) {
                Some(near) => format!("{origin}: {key} is unknown; is {near} meant?"),
                None => format!("{origin}: {key} is unknown; it has no effect"),
            }),
        }
    }
}
