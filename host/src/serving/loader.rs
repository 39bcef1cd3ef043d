//! From an opened archive to a generation that is ready to serve it.

use std::fs::File;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use handler_sdk::ContextInfo;
use handler_sdk::Device;
use serde_json::Value;

use super::Generation;
use super::LoadError;
use super::endpoint::Endpoint;
use super::generation::GenerationSize;
use super::worker::WorkerPlan;
use crate::archive::HandlerName;
use crate::archive::HandlerRef;
use crate::archive::Package;
use crate::archive::Runtime as HandlerRuntime;
use crate::ids::Digest;
use crate::ids::GenerationId;
use crate::metrics::Metrics;
use crate::model::Model;
use crate::model::ModelError;
use crate::model::ModelKey;
use crate::model::ModelStore;
use crate::model::Runtime;
use crate::plugin::Canary;
use crate::plugin::CanaryRequest;
use crate::plugin::Catalogue;
use crate::plugin::HostBuild;
use crate::plugin::Library;
use crate::plugin::LibraryFile;
use crate::plugin::LibraryStore;
use crate::plugin::PluginError;
use crate::plugin::Services;
use crate::plugin::judge;

/// What loading needs, made once at start.
#[derive(Debug)]
pub struct Loader {
    pub runtime: Runtime,
    pub models: ModelStore,
    pub catalogue: Catalogue,
    pub canary: Canary,
    pub libraries: LibraryStore,
    pub build: HostBuild,
    pub metrics: Metrics,
    /// For archives whose manifest names no handler.
    pub default_handler: Option<String>,
    next_generation: AtomicU64,
}

/// A handler that was found, and not yet opened.
struct Found {
    library: PathBuf,
    /// By its own name or its type's.
    handler: String,
}

// === impl Loader ===

impl Loader {
    pub fn new(
        runtime: Runtime,
        catalogue: Catalogue,
        canary: Canary,
        libraries: LibraryStore,
        metrics: Metrics,
        default_handler: Option<String>,
    ) -> Self {
        Self {
            runtime,
            models: ModelStore::default(),
            catalogue,
            canary,
            libraries,
            build: HostBuild::current(),
            metrics,
            default_handler,
            next_generation: AtomicU64::new(1),
        }
    }

    /// Finds and tries the handler, loads the model, starts the workers.
    ///
    /// Call it on a thread that ends afterwards: the library's start-up code runs on it.
    pub fn load(&self, endpoint: &Endpoint) -> Result<Generation, LoadError> {
        let package = endpoint.package();
        let found = self.find(package)?;
        let staged = self.libraries.stage(&found.library)?;
        let file = LibraryFile::read_staged(&staged)?;
        judge(&file, &self.build).map_err(|refusal| PluginError::Refused { path: found.library.clone(), refusal })?;
        let handler = file.handler(&found.handler)?.to_owned();
        let settings = endpoint.settings();
        let weights = package.serialized_file()?;
        let model = weights.as_deref().map(|path| self.model(path, settings.device)).transpose()?;
        let context = context(endpoint, model.as_deref());
        let request = CanaryRequest {
            handler: handler.clone(),
            context: context.clone(),
            model: weights,
            package: Some(package.digest),
        };
        self.canary.try_library(&staged, &request, settings.startup_timeout)?;
        let generation = GenerationId(self.next_generation.fetch_add(1, Ordering::Relaxed));
        let library = Library::open(staged)?;
        let source = Arc::new(move || model.clone().ok_or_else(|| "the archive holds no model".to_owned()));
        let (name, version) = (endpoint.name().clone(), endpoint.version().clone());
        let metrics = self.metrics.for_model(&name, &version);
        let plan = WorkerPlan {
            services: Services::new(name.clone(), version.clone(), source, metrics),
            model: name,
            version,
            generation,
            library: Arc::new(library),
            handler,
            context,
            policy: settings.batch,
            response_timeout: settings.response_timeout,
        };
        let size = GenerationSize {
            workers: settings.min_workers,
            startup_timeout: settings.startup_timeout,
            max_retry_timeout: settings.max_retry_timeout,
        };
        Generation::start(plan, endpoint.queue(), size)
    }

    fn find(&self, package: &Package) -> Result<Found, LoadError> {
        let named = match package.handler()? {
            Some(handler) => handler,
            None => {
                let default = self
                    .default_handler
                    .as_deref()
                    .ok_or_else(|| LoadError::NoHandler { archive: package.source.clone() })?;
                HandlerName::parse(default, HandlerRuntime::default())?
            }
        };
        match &named.refers_to {
            HandlerRef::Packed { library, class } => {
                let library = package.library_path(library)?;
                let handler = class.clone();
                Ok(Found { library, handler })
            }
            HandlerRef::Plugin(name) => match self.catalogue.find(name) {
                Ok(file) => Ok(Found { library: file.path, handler: name.clone() }),
                Err(cause) if named.named_python => Err(LoadError::PythonHandler {
                    archive: package.source.clone(),
                    handler: named.text.clone(),
                    name: name.clone(),
                    cause: Box::new(cause),
                }),
                Err(error) => Err(error.into()),
            },
        }
    }

    fn model(&self, path: &Path, device: Device) -> Result<Arc<dyn Model>, LoadError> {
        let device = self.runtime.device(device)?;
        let key = ModelKey { digest: digest(path)?, device };
        Ok(self.models.get(&key, path)?)
    }
}

fn context(endpoint: &Endpoint, model: Option<&dyn Model>) -> ContextInfo {
    let settings = endpoint.settings();
    let mut properties = vec![
        ("batch_size".to_owned(), settings.batch.size.to_string()),
        ("server_name".to_owned(), "sconce".to_owned()),
        ("server_version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
        ("limit_max_image_pixels".to_owned(), "true".to_owned()),
    ];
    if let Device::Cuda(index) = settings.device {
        properties.push(("gpu_id".to_owned(), index.to_string()));
    }
    let package = endpoint.package();
    ContextInfo {
        model_name: endpoint.name().to_string(),
        model_version: endpoint.version().to_string(),
        model_dir: package.root.clone(),
        device: settings.device.to_string(),
        model_kind: model.map(Model::kind),
        properties: properties.into_iter().collect(),
        config: package.config.as_ref().map_or(Value::Null, |config| config.value.clone()),
    }
}

fn digest(path: &Path) -> Result<Digest, ModelError> {
    let fail = |error: std::io::Error| ModelError::Read { path: PathBuf::from(path), reason: error.to_string() };
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(File::open(path).map_err(fail)?).map_err(fail)?;
    Ok(Digest(*hasher.finalize().as_bytes()))
}
