//! What clients ask of the registry: to take a model in, to give it more workers or fewer, to take it out.

use std::path::Path;
use std::sync::Arc;
use std::sync::MutexGuard;
use std::sync::mpsc;
use std::time::Duration;

use super::Asked;
use super::Endpoint;
use super::EndpointState;
use super::LoadError;
use super::LookupError;
use super::NewModel;
use super::Origin;
use super::RegisterError;
use super::Registry;
use super::Scale;
use super::ScaleError;
use super::ServeError;
use super::StartError;
use super::SwapError;
use super::Trigger;
use super::UnregisterError;
use super::Wish;
use super::swap::Archive;
use super::swap::Force;
use super::swap::Next;
use crate::archive::ArchiveError;
use crate::archive::FetchRules;
use crate::archive::Package;
use crate::archive::Runtime;
use crate::archive::Store;
use crate::archive::is_url;
use crate::ids::ModelName;
use crate::plugin::own_thread;

/// A model as a client asks for it; what is `None` the archive or the configuration says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Registration {
    /// The archive: its name in the model store, or where it is fetched from.
    pub url: String,
    pub name: Option<String>,
    pub handler: Option<String>,
    /// `python`, `python3` or `LSP`.
    pub runtime: Option<String>,
    pub batch_size: Option<usize>,
    pub max_batch_delay: Option<Duration>,
    pub workers: Option<usize>,
    pub response_timeout: Option<Duration>,
    pub startup_timeout: Option<Duration>,
}

impl Registry {
    /// Opens the archive and takes the model in; where it is to have workers, [`serve`](Self::serve) gives it some. Blocks.
    pub fn take_in(&self, wanted: Registration) -> Result<Arc<Endpoint>, RegisterError> {
        let runtime = match &wanted.runtime {
            Some(text) => Some(Runtime::parse(text).ok_or_else(|| RegisterError::Runtime(text.clone()))?),
            None => None,
        };
        if wanted.workers.is_some_and(|workers| workers > Scale::MOST) {
            return Err(RegisterError::TooManyWorkers);
        }
        let name = match &wanted.name {
            Some(name) => {
                Some(ModelName::parse(name).map_err(|error| RegisterError::archive(&error.into(), &wanted.url))?)
            }
            None => None,
        };
        let store = Store::new(self.config.model_store.as_deref().ok_or(RegisterError::NoStore)?);
        let _arriving = is_url(&wanted.url).then(|| self.arrivals.announce(&store.place_of(&wanted.url)));
        let urls = &self.config.access.allowed_urls;
        let archive = store.obtain(&wanted.url, &|url| urls.allow(url), &FetchRules::default());
        let archive = archive.map_err(|error| RegisterError::archive(&error, &wanted.url))?;
        let url = wanted.url.clone();
        let taken_in = self.take_in_archive(&archive, name, runtime, wanted);
        if taken_in.is_err() {
            self.remove_fetched(&url);
        }
        taken_in
    }

    fn take_in_archive(
        &self,
        archive: &Path,
        name: Option<ModelName>,
        runtime: Option<Runtime>,
        wanted: Registration,
    ) -> Result<Arc<Endpoint>, RegisterError> {
        let failed = |error: ArchiveError| RegisterError::archive(&error, &wanted.url);
        let package = Package::open(archive, &self.loader.work_dir).map_err(failed)?;
        if name.is_none() && package.manifest_name().map_err(failed)?.is_none() {
            return Err(failed(ArchiveError::NoModelName { archive: archive.to_owned() }));
        }
        let asked = Asked {
            handler: wanted.handler,
            runtime,
            batch_size: wanted.batch_size,
            max_batch_delay: wanted.max_batch_delay,
            response_timeout: wanted.response_timeout,
            startup_timeout: wanted.startup_timeout,
            scale: wanted.workers.map(Scale::fixed),
        };
        let origin = Origin::Client(asked);
        let model = NewModel { name, url: wanted.url.clone(), package: Arc::new(package), origin };
        self.register(model).map_err(|error| match error {
            LoadError::Archive(error) => failed(error),
            error => error.into(),
        })
    }

    /// Leaves nothing of a version that was taken out, unless another has come in its place.
    fn forget(&self, endpoint: &Endpoint) {
        let (name, version) = (endpoint.name(), endpoint.version());
        if !self.endpoints().iter().any(|other| other.url() == endpoint.url()) {
            self.remove_fetched(&endpoint.url());
        }
        self.while_unchanged(|others| {
            let mut of_model = others.iter().filter(|other| other.name() == name);
            if of_model.clone().all(|other| other.version() != version) {
                self.metrics().forget(name, version, of_model.next().is_none());
            }
        });
    }

    /// What was fetched for a model goes with it.
    fn remove_fetched(&self, url: &str) {
        let Some(folder) = &self.config.model_store else { return };
        if let Err(error) = Store::new(folder).remove_fetched(url) {
            tracing::warn!(%url, %error, "the fetched archive stays in the model store");
        }
    }

    /// Loads a model that was taken in; the error says why it isn't served. Blocks.
    pub fn serve(&self, endpoint: &Arc<Endpoint>) -> Result<(), String> {
        self.load_all(std::slice::from_ref(endpoint));
        let status = endpoint.status();
        match status.state {
            EndpointState::Failed => Err(status.error.unwrap_or_default()),
            _ => Ok(()),
        }
    }

    /// The same for one who waits: a model that can't be served is taken out again.
    pub fn serve_or_take_out(self: &Arc<Self>, endpoint: &Arc<Endpoint>) -> Result<(), StartError> {
        self.serve(endpoint).map_err(|reason| match self.remove_failed(endpoint) {
            true => {
                let _ = self.wind_up(Arc::clone(endpoint));
                StartError::Failed(reason)
            }
            // Somebody was quicker.
            false => StartError::Unregistered { name: endpoint.name().clone(), version: endpoint.version().clone() },
        })
    }

    /// Notes that a version, or the default one, is to have so many workers: [`grant`](Self::grant) gives it them, in the order of these calls.
    pub fn wish(&self, name: &str, version: Option<&str>, scale: Scale) -> Result<Wish, ScaleError> {
        if scale.max < scale.min {
            return Err(ScaleError::MaxBelowMin);
        }
        if scale.max > Scale::MOST {
            return Err(ScaleError::TooMany);
        }
        let endpoint = self.find(name, version)?;
        Ok(Wish::note(endpoint, scale))
    }

    /// Blocks until the workers that come are ready and those that go have answered what they had in hand.
    ///
    /// Where there are then none, all requests that were taken in are answered first.
    pub fn grant(&self, wish: &Wish) -> Result<(), ScaleError> {
        own_thread();
        let swapping = wish.endpoint().one_swap_at_a_time();
        wish.outcome(|scale| self.scale(&swapping, wish.endpoint(), scale))
    }

    fn scale(&self, swapping: &MutexGuard<'_, ()>, endpoint: &Arc<Endpoint>, scale: Scale) -> Result<(), ScaleError> {
        if endpoint.is_closed() {
            return Err(failed_to_scale(endpoint, LoadError::Closed));
        }
        if scale.is_none() {
            endpoint.ask_for(scale);
            endpoint.go_idle();
            return Ok(());
        }
        if let Some(generation) = endpoint.serving() {
            generation.rescale(scale).map_err(|error| failed_to_scale(endpoint, error))?;
            endpoint.ask_for(scale);
            return Ok(());
        }
        endpoint.ask_for(scale);
        let next = Next::OnDisk { archive: Archive::Opened, force: Force::Always };
        match self.swap_alone(swapping, endpoint, next, Trigger::Scale) {
            Ok(_) => Ok(()),
            Err(SwapError::Refused { error, .. }) => Err(failed_to_scale(endpoint, error)),
            Err(SwapError::Lookup(error)) => Err(error.into()),
            Err(SwapError::NoWorkers { .. } | SwapError::NothingBefore { .. }) => {
                Err(failed_to_scale(endpoint, LoadError::Retired))
            }
        }
    }

    /// Takes a version out, or the default one where it is the only one. Blocks until every request that was taken in is answered and its code is let go of.
    ///
    /// After the time for that the rest happens without the caller.
    pub fn unregister(self: &Arc<Self>, name: &str, version: Option<&str>) -> Result<(), UnregisterError> {
        let endpoint = self.remove(name, version)?;
        self.wind_up(endpoint)
    }

    /// Ends an endpoint that nobody finds any more.
    fn wind_up(self: &Arc<Self>, endpoint: Arc<Endpoint>) -> Result<(), UnregisterError> {
        let (model, version) = (endpoint.name().clone(), endpoint.version().clone());
        let (done, ended) = mpsc::channel();
        let registry = Arc::clone(self);
        // Its library's own clean-up runs on a thread that ends.
        let thread = std::thread::Builder::new().name(format!("unregister {model}"));
        let started = thread.spawn(move || {
            own_thread();
            endpoint.close(&ServeError::Unregistered);
            endpoint.let_go();
            registry.forget(&endpoint);
            tracing::info!(model = %endpoint.name(), version = %endpoint.version(), "unregistered");
            // The caller may have stopped waiting.
            let _ = done.send(());
        });
        if let Err(error) = started {
            tracing::error!(%model, %version, %error, "no thread to take a model out; its workers stay");
        }
        ended.recv_timeout(self.config.unregister_model_timeout).map_err(|_| UnregisterError::TimedOut { name: model })
    }
}

/// One that was unregistered meanwhile isn't there.
fn failed_to_scale(endpoint: &Endpoint, error: LoadError) -> ScaleError {
    match error {
        LoadError::Closed | LoadError::Retired => LookupError::Model { name: endpoint.name().to_string() }.into(),
        error => ScaleError::Failed(error),
    }
}
