//! Where the configuration comes from: the file, under the command line, under the environment where the file lets it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;

use crate::config::access;
use crate::config::error::ConfigError;
use crate::config::error::Origin;
use crate::config::keys;
use crate::config::keys::Treatment;
use crate::config::properties;
use crate::config::properties::Property;
use crate::config::settings::Settings;
use crate::config::snapshot;
use crate::config::snapshot::SNAPSHOT;
use crate::config::swap;

/// Where the configuration comes from; nothing else is looked at.
#[derive(Debug, Clone, Default)]
pub struct ConfigSources {
    /// The process's environment, or a test's.
    pub environment: BTreeMap<String, String>,
    /// The value of `--ts-config`; the variable `TS_CONFIG_FILE` wins over it.
    pub ts_config: Option<PathBuf>,
    /// Where a `config.properties` is looked for if neither names a file.
    pub current_dir: Option<PathBuf>,
    /// The folder of the program, where plugins are looked for if nothing says where they are.
    pub program_dir: Option<PathBuf>,
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
    pub workflow_store: Option<PathBuf>,
    pub cpp_log_config: Option<PathBuf>,
    pub disable_token_auth: bool,
    pub enable_model_api: bool,
    pub watch: Option<bool>,
    /// `retain` or `unmap`.
    pub unload: Option<String>,
}

/// What was found there, each key with the value that counts.
#[derive(Debug)]
pub(super) struct Gathered {
    /// The file that was read, if any.
    pub(super) file: Option<PathBuf>,
    pub(super) settings: Settings,
    pub(super) warnings: Vec<String>,
}

/// Names the file, whatever the command line says.
pub const CONFIG_VARIABLE: &str = "TS_CONFIG_FILE";

// === impl ConfigSources ===

impl ConfigSources {
    pub(super) fn gather(&self) -> Result<Gathered, ConfigError> {
        let mut warnings = Vec::new();
        let mut settings = Settings::default();
        let file = self.read_file()?;
        if let Some((path, bytes)) = &file {
            for property in properties::parse(bytes, path, &self.environment)? {
                if let Some(earlier) = settings.set(property.clone()) {
                    warnings.push(format!(
                        "{}: {} was set before, at {}; this one counts",
                        property.origin, property.key, earlier.origin
                    ));
                }
            }
        }
        load_the_snapshot(&mut settings, &mut warnings)?;
        for property in self.overrides.properties()? {
            settings.set(property);
        }
        if settings.switch("enable_envvars_config", false)? {
            let urls = settings.switch(access::ENV_ALLOWED_URLS, false)?;
            for (key, variable) in keys::environment_keys().filter(|(key, _)| urls || *key != access::ALLOWED_URLS) {
                if let Some(value) = self.environment.get(&variable) {
                    settings.set(Property {
                        key: key.to_owned(),
                        value: value.trim().to_owned(),
                        origin: Origin::Environment { variable },
                    });
                }
            }
        }
        warnings.extend(settings.iter().filter_map(without_effect));
        Ok(Gathered { file: file.map(|(path, _)| path), settings, warnings })
    }

    /// Where plugins lie that came with the program: in `plugins` beside it, or, as in cargo's target folder, just beside it.
    pub(super) fn own_plugins(&self) -> Option<PathBuf> {
        let folder = self.program_dir.as_ref()?;
        let plugins = folder.join("plugins");
        if plugins.is_dir() {
            return Some(plugins);
        }
        let mut entries = fs::read_dir(folder).ok()?.flatten();
        entries.any(|entry| is_library(&entry.path())).then(|| folder.clone())
    }

    /// Finds and reads the file. One that was asked for must be there; `config.properties`
    /// in the current folder may be missing.
    fn read_file(&self) -> Result<Option<(PathBuf, Vec<u8>)>, ConfigError> {
        let from_variable = self.environment.get(CONFIG_VARIABLE).filter(|path| !path.is_empty());
        let (path, asked_by) = match (from_variable, &self.ts_config, &self.current_dir) {
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
}

fn is_library(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with("lib") && name.ends_with(".so")
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
            ("workflow_store", "--workflow-store", text(&self.workflow_store, "--workflow-store", "workflow_store")?),
            ("cpp_log_config", "--cpp-log-config", text(&self.cpp_log_config, "--cpp-log-config", "cpp_log_config")?),
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

/// The models of a snapshot are those to load: in TorchServe, too, it takes the place of `load_models`.
fn load_the_snapshot(settings: &mut Settings, warnings: &mut Vec<String>) -> Result<(), ConfigError> {
    let Some(text) = settings.text(SNAPSHOT) else { return Ok(()) };
    let snapshot = snapshot::parse(text, &mut Vec::new()).map_err(|error| settings.bad(SNAPSHOT, &error))?;
    let Some(origin) = settings.origin(SNAPSHOT).cloned() else { return Ok(()) };
    let load = Property { key: "load_models".to_owned(), value: snapshot.load.join(","), origin };
    if let Some(earlier) = settings.set(load) {
        warnings.push(format!("{}: load_models gives way to {SNAPSHOT}, which says what to load", earlier.origin));
    }
    Ok(())
}

/// The one sentence about a key that changes nothing.
fn without_effect(property: &Property) -> Option<String> {
    let Property { key, value, origin } = property;
    match keys::treatment(key) {
        Some(Treatment::Honoured) => None,
        Some(Treatment::Told { quiet, .. }) if value.eq_ignore_ascii_case(quiet) => None,
        Some(Treatment::Told { why, .. }) => Some(format!("{origin}: {key} has no effect: {why}")),
        None => Some(match keys::nearest(key) {
            Some(near) => format!("{origin}: {key} is unknown; is {near} meant?"),
            None => format!("{origin}: {key} is unknown; it has no effect"),
        }),
    }
}
