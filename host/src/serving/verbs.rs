//! What may be asked of the registry while it serves: to look again at files, to go back, to take in what is new.

use std::path::Path;
use std::sync::Arc;

use super::Endpoint;
use super::LoadError;
use super::NewModel;
use super::Origin;
use super::Registry;
use super::SwapError;
use super::Swapped;
use super::Trigger;
use super::source::Source;
use super::swap::Archive;
use super::swap::Force;
use super::swap::Next;
use crate::archive::Package;
use crate::ids::ModelName;
use crate::ids::ModelVersion;
use crate::plugin::own_thread;

impl Registry {
    /// Makes a new generation from what lies on disk, even if nothing has changed. Blocks until it serves or is refused.
    pub fn reload(&self, name: &str, version: Option<&str>) -> Result<Swapped, SwapError> {
        let endpoint = self.find(name, version)?;
        self.swap(&endpoint, Next::OnDisk { archive: Archive::Anew, force: Force::Always }, Trigger::Reload)
    }

    /// Makes a new generation from what lies on disk if it is another than what serves. Blocks until it serves or is refused.
    ///
    /// The archive is opened again unless the trigger is [`Trigger::Library`], which says that only the code has changed.
    pub fn refresh(&self, name: &str, version: Option<&str>, trigger: Trigger) -> Result<Swapped, SwapError> {
        let endpoint = self.find(name, version)?;
        let archive = if trigger == Trigger::Library { Archive::Opened } else { Archive::Anew };
        self.swap(&endpoint, Next::OnDisk { archive, force: Force::IfChanged }, trigger)
    }

    /// Goes back to what has served before, from the copies that were kept of it. Blocks until it serves or is refused.
    pub fn roll_back(&self, name: &str, version: Option<&str>) -> Result<Swapped, SwapError> {
        let endpoint = self.find(name, version)?;
        self.swap(&endpoint, Next::Before, Trigger::Rollback)
    }

    /// A library has changed in the plugins path: the endpoint's handler is swapped if it comes from other bytes now. Blocks.
    ///
    /// What came of it is told to the log, describe and the metrics.
    pub fn library_changed(&self, name: &ModelName, version: &ModelVersion) {
        let Ok(endpoint) = self.find(name.as_str(), Some(version.as_str())) else { return };
        let next = Next::OnDisk { archive: Archive::Opened, force: Force::IfChanged };
        self.tell(&endpoint, &self.swap(&endpoint, next, Trigger::Library));
    }

    /// An archive that is served has changed: every endpoint that came from it is swapped if its content is another, and a version that wasn't there is added. Blocks.
    ///
    /// What came of it is told to the log, describe and the metrics.
    pub fn archive_changed(&self, archive: &Path) {
        own_thread();
        let endpoints: Vec<_> =
            self.endpoints().into_iter().filter(|endpoint| endpoint.source().path() == archive).collect();
        let package = Package::open(archive, &self.loader.work_dir).map(Arc::new);
        let Ok(package) = package else {
            for endpoint in &endpoints {
                // Opened once more, so that what is wrong with it is told for each.
                let next = Next::OnDisk { archive: Archive::Anew, force: Force::IfChanged };
                self.tell(endpoint, &self.swap(endpoint, next, Trigger::Archive));
            }
            return;
        };
        let version = package.version();
        for endpoint in endpoints.iter().filter(|endpoint| *endpoint.version() == version) {
            let archive = Archive::Given(Arc::clone(&package));
            let next = Next::OnDisk { archive, force: Force::IfChanged };
            self.tell(endpoint, &self.swap(endpoint, next, Trigger::Archive));
        }
        for endpoint in endpoints.iter().filter(|endpoint| *endpoint.version() != version) {
            let (name, before) = (endpoint.name(), endpoint.version());
            if self.find(name.as_str(), Some(version.as_str())).is_ok() {
                continue;
            }
            tracing::info!(model = %name, %version, beside = %before, "the archive holds another version now; it is added, and the one before goes on serving");
            let (url, package) = (endpoint.url(), Arc::clone(&package));
            self.add(NewModel { name: Some(name.clone()), url, package, origin: Origin::Store });
        }
    }

    /// Takes an archive in that nobody serves yet, and loads it. Blocks.
    ///
    /// What came of it is told to the log, describe and the metrics.
    pub fn archive_added(&self, archive: &Path, name: Option<ModelName>, url: String) {
        own_thread();
        if self.arrivals.has(archive) {
            return;
        }
        match Package::open(archive, &self.loader.work_dir) {
            Ok(package) => self.add(NewModel { name, url, package: Arc::new(package), origin: Origin::Store }),
            Err(error) => tracing::error!(%url, %error, "failed to load model"),
        }
    }

    fn add(&self, model: NewModel) {
        let url = model.url.clone();
        match self.register(model) {
            Ok(endpoint) => self.load_all(&[endpoint]),
            Err(error) => tracing::error!(%url, %error, "failed to load model"),
        }
    }

    /// The endpoint's archive as it lies on disk now; the one that was opened where it is gone.
    pub(super) fn look_again(&self, endpoint: &Endpoint) -> Result<Arc<Source>, LoadError> {
        let source = endpoint.source();
        if !source.path().exists() {
            return Ok(source);
        }
        let package = Arc::new(Package::open(source.path(), &self.loader.work_dir)?);
        if package.version() != *endpoint.version() {
            return Err(LoadError::OtherVersion {
                archive: source.path().to_owned(),
                found: package.version(),
                version: endpoint.version().clone(),
            });
        }
        Ok(self.source_like(endpoint, &package))
    }

    /// The endpoint's own source where the package holds the same, so that nothing is kept twice.
    pub(super) fn source_like(&self, endpoint: &Endpoint, package: &Arc<Package>) -> Arc<Source> {
        let source = endpoint.source();
        if source.package.digest == package.digest {
            return source;
        }
        let asked = endpoint.asked();
        let package = Arc::clone(package);
        Arc::new(self.source(endpoint.name(), endpoint.version(), endpoint.url(), package, asked.as_ref()))
    }

    /// What isn't in the log yet.
    fn tell(&self, endpoint: &Endpoint, result: &Result<Swapped, SwapError>) {
        let (model, version) = (endpoint.name(), endpoint.version());
        if let Ok(Swapped::Unchanged(generation)) = result {
            self.metrics().swaps().swap_ended(model, version, "unchanged");
            tracing::info!(%model, %version, %generation, "a file was written, and holds what is served already");
        }
    }
}
