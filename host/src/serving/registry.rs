//! All that is served, by name and version: the verbs that HTTP and file watching call.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::sync::mpsc;

use arc_swap::ArcSwap;

use super::Endpoint;
use super::EndpointSettings;
use super::LoadError;
use super::Loader;
use super::LookupError;
use super::Scale;
use super::ServeError;
use super::Trigger;
use super::UnregisterError;
use super::arrivals::Arrivals;
use super::loader::Alarm;
use super::profile::Profiler;
use super::settings::Asked;
use super::settings::Machine;
use super::source::Source;
use super::swap::Archive;
use super::swap::Force;
use super::swap::Next;
use crate::archive::Package;
use crate::archive::Runtime;
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
    pub(super) alarm: mpsc::Sender<Alarm>,
    /// Taken by the watchdog.
    pub(super) alarms: Mutex<mpsc::Receiver<Alarm>>,
    pub(super) loader: Loader,
    pub(super) config: ServerConfig,
    machine: Machine,
    is_closed: AtomicBool,
    pub(super) arrivals: Arrivals,
}

type Models = BTreeMap<ModelName, Versions>;

/// The versions of one model.
#[derive(Debug, Clone)]
struct Versions {
    /// Served where a request names none: the first that was registered.
    default: ModelVersion,
    endpoints: BTreeMap<ModelVersion, Arc<Endpoint>>,
}

/// A model to be served.
#[derive(Debug)]
pub struct NewModel {
    /// `None` takes the manifest's name, or the file's.
    pub name: Option<ModelName>,
    /// The archive as the operator named it.
    pub url: String,
    pub package: Arc<Package>,
    pub origin: Origin,
}

/// Why a model is to be served.
#[derive(Debug)]
pub enum Origin {
    /// The server was started with it.
    Startup,
    /// It lies where the operator wants all to be served.
    Store,
    /// A client wants it.
    Client(Asked),
}

// === impl Registry ===

impl Registry {
    pub fn new(loader: Loader, config: ServerConfig, cores: usize) -> Self {
        let (alarm, alarms) = mpsc::channel();
        let machine = Machine { cores, cuda_devices: loader.runtime.cuda_devices };
        Self {
            models: ArcSwap::default(),
            changing: Mutex::default(),
            alarm,
            alarms: Mutex::new(alarms),
            loader,
            config,
            machine,
            is_closed: AtomicBool::new(false),
            arrivals: Arrivals::default(),
        }
    }

    /// The endpoint of that version, or of the default one.
    pub fn find(&self, name: &str, version: Option<&str>) -> Result<Arc<Endpoint>, LookupError> {
        let models = self.models.load();
        let versions = models.get(name).ok_or_else(|| LookupError::Model { name: name.to_owned() })?;
        let wanted = version.unwrap_or(versions.default.as_str());
        versions
            .endpoints
            .get(wanted)
            .cloned()
            .ok_or_else(|| LookupError::Version { name: name.to_owned(), version: wanted.to_owned() })
    }

    /// All versions of a model.
    pub fn versions(&self, name: &str) -> Result<Vec<Arc<Endpoint>>, LookupError> {
        let models = self.models.load();
        let versions = models.get(name).ok_or_else(|| LookupError::Model { name: name.to_owned() })?;
        Ok(versions.endpoints.values().cloned().collect())
    }

    /// The default version of every model, by name.
    pub fn list(&self) -> Vec<Arc<Endpoint>> {
        let models = self.models.load();
        models.values().filter_map(|versions| versions.endpoints.get(&versions.default).cloned()).collect()
    }

    pub fn metrics(&self) -> &Metrics {
        &self.loader.metrics
    }

    /// Takes a model in; it is `LOADING` until [`load_all`](Self::load_all) has dealt with it, and its requests wait meanwhile.
    pub fn register(&self, model: NewModel) -> Result<Arc<Endpoint>, LoadError> {
        let package = model.package;
        let name = match model.name {
            Some(name) => name,
            None => match package.manifest_name()? {
                Some(name) => name,
                None => package.default_name()?,
            },
        };
        let version = package.version();
        let (asked, at_startup) = match model.origin {
            Origin::Startup => (None, true),
            Origin::Store => (None, false),
            Origin::Client(asked) => (Some(asked), false),
        };
        let source = self.source(&name, &version, model.url, package, asked.as_ref());
        self.change(|models| {
            if self.is_closed.load(Ordering::Acquire) {
                return Err(LoadError::Closed);
            }
            let versions = models
                .entry(name.clone())
                .or_insert_with(|| Versions { default: version.clone(), endpoints: BTreeMap::new() });
            if versions.endpoints.contains_key(&version) {
                return Err(LoadError::AlreadyServed { name, version });
            }
            let metrics = self.metrics().for_model(&name, &version);
            let profiler = Profiler::new(self.config.traces.as_deref(), &name, &version);
            let endpoint = Endpoint::new(name, version.clone(), source, asked, at_startup, metrics, profiler);
            let endpoint = Arc::new(endpoint);
            versions.endpoints.insert(version, Arc::clone(&endpoint));
            Ok(endpoint)
        })
    }

    /// Begins what every load needs, while the archives are still being opened.
    pub fn expect_loads(&self) {
        self.loader.canary.make_ready();
    }

    /// Loads what was registered and serves it, or says why not; as many at a time as there are cores. Blocks until all is done.
    ///
    /// Each is loaded on a thread of its own, which ends afterwards: a library's start-up code runs on it.
    pub fn load_all(&self, endpoints: &[Arc<Endpoint>]) {
        let (enter, places) = mpsc::sync_channel(self.machine.cores.max(1));
        let places = Mutex::new(places);
        std::thread::scope(|scope| {
            for endpoint in endpoints {
                // Waits while all places are taken; the receiver lives until the scope's end.
                let _ = enter.send(());
                let place = Place(&places);
                let thread = std::thread::Builder::new().name(format!("load {}", endpoint.name()));
                let loading = thread.spawn_scoped(scope, move || {
                    let _place = place;
                    if catch_unwind(AssertUnwindSafe(|| self.load(endpoint))).is_err() {
                        let error = LoadError::Panicked { what: "loading the model" };
                        tracing::error!(model = %endpoint.name(), %error, "model not served");
                        endpoint.fail(error.to_string());
                    }
                });
                if let Err(error) = loading {
                    endpoint.fail(LoadError::Thread(error).to_string());
                }
            }
        });
    }

    fn load(&self, endpoint: &Arc<Endpoint>) {
        if endpoint.is_idle() {
            return;
        }
        let trigger = match endpoint.asked() {
            Some(_) => Trigger::Register,
            None if endpoint.loaded_at_startup() => Trigger::Startup,
            None => Trigger::Archive,
        };
        let next = Next::OnDisk { archive: Archive::Opened, force: Force::IfChanged };
        // What went wrong is in the log and in describe.
        let _ = self.swap(endpoint, next, trigger);
    }

    /// Takes no further requests and waits until every one that was taken in is answered. Blocks.
    pub fn close(&self) {
        // Without a watchdog there is nobody to tell.
        let _ = self.alarm.send(Alarm::Close);
        let endpoints = {
            let _none_comes_any_more = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
            self.is_closed.store(true, Ordering::Release);
            self.endpoints()
        };
        std::thread::scope(|scope| {
            for endpoint in &endpoints {
                scope.spawn(|| endpoint.close(&ServeError::ShuttingDown));
            }
        });
    }

    pub(super) fn source(
        &self,
        name: &ModelName,
        version: &ModelVersion,
        url: String,
        package: Arc<Package>,
        asked: Option<&Asked>,
    ) -> Source {
        for warning in package.config.iter().flat_map(|config| &config.warnings) {
            tracing::warn!(model = %name, "{warning}");
        }
        let by_models = self.config.models.get(name.as_str()).and_then(|versions| versions.get(version.as_str()));
        let archive = package.config.as_ref().map(|config| config.settings.clone()).unwrap_or_default();
        let mut settings = EndpointSettings::resolve(asked, &archive, by_models, &self.config, self.machine);
        let Scale { min, max } = settings.scale;
        if max > Scale::MOST {
            tracing::warn!(model = %name, %version, min, max, most = Scale::MOST, "so many workers are more than a model can have");
            settings.scale = Scale { min: min.min(Scale::MOST), max: Scale::MOST };
        }
        let by_models = by_models.and_then(|defaults| Runtime::parse(defaults.runtime_type.as_deref()?));
        let runtime = asked.and_then(|asked| asked.runtime).or(by_models).unwrap_or(package.manifest.runtime);
        let handler = asked.and_then(|asked| asked.handler.clone());
        Source { url, package, settings: Arc::new(settings), handler, runtime }
    }

    /// The version that is served where a request names none.
    pub fn set_default(&self, name: &str, version: &str) -> Result<(), LookupError> {
        self.change(|models| {
            let versions = versions_of(models, name)?;
            let version = ModelVersion::new(version);
            if !versions.endpoints.contains_key(&version) {
                return Err(LookupError::Version { name: name.to_owned(), version: version.to_string() });
            }
            versions.default = version;
            Ok(())
        })
    }

    /// Takes a version out, or the default one; nobody finds it any more.
    pub(super) fn remove(&self, name: &str, version: Option<&str>) -> Result<Arc<Endpoint>, UnregisterError> {
        self.change(|models| {
            let versions = versions_of(models, name)?;
            let version = version.map_or_else(|| versions.default.clone(), ModelVersion::new);
            let endpoint = versions.endpoints.get(&version).cloned();
            let endpoint =
                endpoint.ok_or_else(|| LookupError::Version { name: name.to_owned(), version: version.to_string() })?;
            if version == versions.default && versions.endpoints.len() > 1 {
                return Err(UnregisterError::IsDefault { name: endpoint.name().clone() });
            }
            versions.endpoints.remove(&version);
            if versions.endpoints.is_empty() {
                models.remove(endpoint.name());
            }
            Ok(endpoint)
        })
    }

    /// Takes out a version that can't be served, if it is still there. Another takes its place as the default one: the client of that other doesn't know of this.
    pub(super) fn remove_failed(&self, endpoint: &Arc<Endpoint>) -> bool {
        let (name, version) = (endpoint.name(), endpoint.version());
        let removed = self.change(|models| {
            let versions = models.get_mut(name).ok_or(())?;
            versions.endpoints.get(version).filter(|found| Arc::ptr_eq(found, endpoint)).ok_or(())?;
            versions.endpoints.remove(version);
            match versions.endpoints.values().min_by_key(|other| other.registered()) {
                Some(first) if versions.default == *version => versions.default = first.version().clone(),
                Some(_) => {}
                None => drop(models.remove(name)),
            }
            Ok::<(), ()>(())
        });
        removed.is_ok()
    }

    /// Does something while nothing is registered or taken out.
    pub(super) fn while_unchanged(&self, work: impl FnOnce(&[Arc<Endpoint>])) {
        let _unchanged = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        work(&self.endpoints());
    }

    /// Replaces what is served as a whole, unless the change fails.
    fn change<T, E>(&self, change: impl FnOnce(&mut Models) -> Result<T, E>) -> Result<T, E> {
        let _one_at_a_time = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut models = Models::clone(&self.models.load());
        let changed = change(&mut models)?;
        self.models.store(Arc::new(models));
        Ok(changed)
    }

    pub(super) fn endpoints(&self) -> Vec<Arc<Endpoint>> {
        let models = self.models.load();
        models.values().flat_map(|versions| versions.endpoints.values().cloned()).collect()
    }
}

fn versions_of<'a>(models: &'a mut Models, name: &str) -> Result<&'a mut Versions, LookupError> {
    models.get_mut(name).ok_or_else(|| LookupError::Model { name: name.to_owned() })
}

/// One of the places for loading; given back when it is dropped.
struct Place<'a>(&'a Mutex<mpsc::Receiver<()>>);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let _ = self.0.lock().unwrap_or_else(PoisonError::into_inner).recv();
    }
}
