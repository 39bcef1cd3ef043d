//! All that is served, by name and version: the verbs that HTTP and file watching call.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::mpsc;
use std::time::Duration;
use std::time::Instant;

use arc_swap::ArcSwap;

use super::Endpoint;
use super::EndpointSettings;
use super::LoadError;
use super::Loader;
use super::LookupError;
use super::endpoint::EndpointSource;
use super::settings::Machine;
use crate::archive::Package;
use crate::config::ServerConfig;
use crate::ids::ModelName;
use crate::ids::ModelVersion;
use crate::metrics::Metrics;

/// The endpoints of this server.
#[derive(Debug)]
pub struct Registry {
    /// Read without a lock by every request; replaced as a whole by the few that change it.
    models: ArcSwap<Models>,
    changing: Mutex<()>,
    loader: Loader,
    config: ServerConfig,
    machine: Machine,
}

type Models = BTreeMap<ModelName, Versions>;

/// The versions of one model.
#[derive(Debug, Clone)]
struct Versions {
    /// Served where a request names none: the first that was registered.
    default: ModelVersion,
    endpoints: BTreeMap<ModelVersion, Arc<Endpoint>>,
}

/// A model to serve from the start.
#[derive(Debug)]
pub struct StartupModel {
    /// `None` takes the manifest's name, or the file's.
    pub name: Option<ModelName>,
    /// The archive as the operator named it.
    pub url: String,
    pub package: Package,
}

/// The watchdog looks this often within one response timeout, and at least once a second.
const LOOKS_PER_TIMEOUT: u32 = 10;

// === impl Registry ===

impl Registry {
    pub fn new(loader: Loader, config: ServerConfig, cores: usize) -> Self {
        let machine = Machine {
            cores,
            cuda_devices: loader.runtime.cuda_devices,
        };
        Self {
            models: ArcSwap::default(),
            changing: Mutex::default(),
            loader,
            config,
            machine,
        }
    }

    /// The endpoint of that version, or of the default one.
    pub fn find(&self, name: &str, version: Option<&str>) -> Result<Arc<Endpoint>, LookupError> {
        let no_model = || LookupError::Model { name: name.to_owned() };
        let models = self.models.load();
        let key = ModelName::parse(name).map_err(|_| no_model())?;
        let versions = models.get(&key).ok_or_else(no_model)?;
        let wanted = version.map_or_else(|| versions.default.clone(), ModelVersion::new);
        versions
            .endpoints
            .get(&wanted)
            .cloned()
            .ok_or_else(|| LookupError::Version {
                name: name.to_owned(),
                version: wanted.to_string(),
            })
    }

    /// All versions of a model.
    pub fn versions(&self, name: &str) -> Result<Vec<Arc<Endpoint>>, LookupError> {
        let no_model = || LookupError::Model { name: name.to_owned() };
        let key = ModelName::parse(name).map_err(|_| no_model())?;
        let models = self.models.load();
        let versions = models.get(&key).ok_or_else(no_model)?;
        Ok(versions.endpoints.values().cloned().collect())
    }

    /// The default version of every model, by name.
    pub fn list(&self) -> Vec<Arc<Endpoint>> {
        let models = self.models.load();
        models
            .values()
            .filter_map(|versions| versions.endpoints.get(&versions.default).cloned())
            .collect()
    }

    pub fn metrics(&self) -> &Metrics {
        &self.loader.metrics
    }

    /// Takes a model in; it is `LOADING` until [`load_all`](Self::load_all) has dealt with it, and its requests wait meanwhile.
    pub fn register(&self, model: StartupModel) -> Result<Arc<Endpoint>, LoadError> {
        let package = model.package;
        let name = match model.name {
            Some(name) => name,
            None => match package.manifest_name()? {
                Some(name) => name,
                None => package.default_name()?,
            },
        };
        let version = ModelVersion::new(package.manifest.model.model_version.as_str());
        for warning in package.config.iter().flat_map(|config| &config.warnings) {
            tracing::warn!(model = %name, "{warning}");
        }
        let by_models = self
            .config
            .models
            .get(name.as_str())
            .and_then(|versions| versions.get(version.as_str()));
        let archive = package
            .config
            .as_ref()
            .map(|config| config.settings.clone())
            .unwrap_or_default();
        let source = EndpointSource {
            settings: EndpointSettings::resolve(&archive, by_models, &self.config, self.machine),
            url: model.url,
            name: name.clone(),
            version: version.clone(),
            package,
        };
        let _one_at_a_time = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut models = Models::clone(&self.models.load());
        let versions = models.entry(name.clone()).or_insert_with(|| Versions {
            default: version.clone(),
            endpoints: BTreeMap::new(),
        });
        if versions.endpoints.contains_key(&version) {
            return Err(LoadError::AlreadyServed { name, version });
        }
        let endpoint = Arc::new(Endpoint::new(source, true, self.loader.metrics.clone()));
        versions.endpoints.insert(version, Arc::clone(&endpoint));
        self.models.store(Arc::new(models));
        Ok(endpoint)
    }

    /// Loads what was registered and serves it, or says why not; as many at a time as there are cores. Blocks until all is done.
    ///
    /// Each is loaded on a thread of its own, which ends afterwards: a library's start-up code runs on it.
    pub fn load_all(&self, endpoints: &[Arc<Endpoint>]) {
        let (start, places) = mpsc::sync_channel(self.machine.cores.max(1));
        let places = Mutex::new(places);
        std::thread::scope(|scope| {
            for endpoint in endpoints {
                // Waits while all places are taken; the receiver lives until the scope's end.
                let _ = start.send(());
                let places = &places;
                let thread = std::thread::Builder::new().name(format!("load {}", endpoint.name()));
                let loading = thread.spawn_scoped(scope, move || {
                    self.load(endpoint);
                    let _ = places.lock().unwrap_or_else(PoisonError::into_inner).recv();
                });
                if let Err(error) = loading {
                    endpoint.fail(LoadError::Thread(error).to_string());
                }
            }
        });
    }

    fn load(&self, endpoint: &Endpoint) {
        let (model, version) = (endpoint.name(), endpoint.version());
        let started = Instant::now();
        match self.loader.load(endpoint) {
            Ok(generation) => {
                let workers = generation.workers().len();
                tracing::info!(%model, %version, generation = %generation.id(), workers, device = %endpoint.settings().device, took = ?started.elapsed(), "model ready");
                endpoint.publish(generation);
            }
            Err(error) => {
                tracing::error!(%model, %version, %error, "model not served");
                endpoint.fail(error.to_string());
            }
        }
    }

    /// Answers for handlers that take too long, for as long as it is polled.
    pub async fn watch(&self) {
        loop {
            let endpoints = self.endpoints();
            let shortest = endpoints
                .iter()
                .map(|endpoint| endpoint.settings().response_timeout)
                .min();
            let pause = shortest.map_or(Duration::from_secs(1), |limit| limit / LOOKS_PER_TIMEOUT);
            tokio::time::sleep(pause.clamp(Duration::from_millis(10), Duration::from_secs(1))).await;
            let now = Instant::now();
            for endpoint in endpoints {
                endpoint.replace_late_workers(now);
            }
        }
    }

    /// Takes no further requests and waits until every one that was taken in is answered. Blocks.
    pub fn close(&self) {
        let endpoints = self.endpoints();
        std::thread::scope(|scope| {
            for endpoint in &endpoints {
                scope.spawn(|| endpoint.close());
            }
        });
    }

    fn endpoints(&self) -> Vec<Arc<Endpoint>> {
        let models = self.models.load();
        models
            .values()
            .flat_map(|versions| versions.endpoints.values().cloned())
            .collect()
    }
}
