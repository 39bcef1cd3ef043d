//! From an opened archive to a generation that is ready to serve it.

use std::fs::File;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::sync::mpsc;

use handler_sdk::Device;
use handler_sdk::ModelKind;

use super::Generation;
use super::LoadError;
use super::Signature;
use super::batcher::Batcher;
use super::context::context;
use super::endpoint::Endpoint;
use super::generation::GenerationCode;
use super::generation::Staffing;
use super::model_call;
use super::record::CodeRecord;
use super::record::Entry;
use super::record::ModelRecord;
use super::record::Step;
use super::source::Build;
use super::source::Source;
use super::worker::WorkerPlan;
use crate::archive::HandlerName;
use crate::archive::HandlerRef;
use crate::archive::Runtime as HandlerRuntime;
use crate::config::AutoscaleConfig;
use crate::config::RequestConfig;
use crate::config::ServerConfig;
use crate::config::Unload;
use crate::ids::Digest;
use crate::ids::GenerationId;
use crate::ids::ModelName;
use crate::ids::ModelVersion;
use crate::metrics::HandlerMetrics;
use crate::metrics::Metrics;
use crate::metrics::Profile;
use crate::model::Model;
use crate::model::ModelError;
use crate::model::ModelKey;
use crate::model::ModelOptions;
use crate::model::ModelStore;
use crate::model::Place;
use crate::model::Runtime;
use crate::model::is_compiled;
use crate::model::kind_of;
use crate::plugin::Canary;
use crate::plugin::CanaryRequest;
use crate::plugin::Catalogue;
use crate::plugin::HostBuild;
use crate::plugin::Library;
use crate::plugin::LibraryFile;
use crate::plugin::LibraryStore;
use crate::plugin::Operators;
use crate::plugin::PluginError;
use crate::plugin::Services;
use crate::plugin::StagedLibrary;
use crate::plugin::clear_stack;
use crate::plugin::judge;

/// What loading needs, made once at start.
#[derive(Debug)]
pub struct Loader {
    pub runtime: Runtime,
    pub models: ModelStore,
    pub catalogue: Catalogue,
    pub canary: Canary,
    pub libraries: LibraryStore,
    operators: Operators,
    pub build: HostBuild,
    pub metrics: Metrics,
    /// For archives whose manifest names no handler.
    pub default_handler: Option<String>,
    requests: RequestConfig,
    max_response_size: usize,
    unload: Unload,
    autoscale: AutoscaleConfig,
    /// Where archives are unpacked.
    pub(super) work_dir: PathBuf,
    next_generation: AtomicU64,
}

/// Where the code of a generation comes from.
#[derive(Debug)]
pub(super) enum Code {
    /// The library that was found for the archive's handler.
    Found(Found),
    /// The private copy of an earlier generation.
    Kept(Build),
}

/// A handler that was found, and not yet copied.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) library: PathBuf,
    /// By its own name or its type's.
    handler: String,
    /// Whether it was looked up in the plugins path.
    by_name: bool,
}

/// What a generation tells while it works.
#[derive(Debug, Clone)]
pub(super) struct Tally {
    pub(super) entry: Arc<Entry>,
    /// So many panics in a row ring the alarm.
    pub(super) panic_limit: Option<u32>,
    pub(super) alarm: mpsc::Sender<Alarm>,
}

/// A call for the watchdog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Alarm {
    /// This generation panics, and nothing else.
    Panics { model: ModelName, version: ModelVersion, generation: GenerationId },
    /// The registry is closing.
    Close,
}

// === impl Loader ===

impl Loader {
    pub fn new(
        runtime: Runtime,
        catalogue: Catalogue,
        canary: Canary,
        libraries: LibraryStore,
        metrics: Metrics,
        config: &ServerConfig,
        work_dir: &Path,
    ) -> Self {
        Self {
            runtime,
            models: ModelStore::default(),
            catalogue,
            canary,
            libraries,
            operators: Operators::default(),
            build: HostBuild::current(),
            metrics,
            default_handler: config.default_service_handler.clone(),
            requests: config.requests.clone(),
            max_response_size: config.max_response_size,
            unload: config.swap.unload,
            autoscale: config.autoscale,
            work_dir: work_dir.to_owned(),
            next_generation: AtomicU64::new(1),
        }
    }

    /// A number for the next generation, whatever becomes of it.
    pub(super) fn next_generation(&self) -> GenerationId {
        GenerationId(self.next_generation.fetch_add(1, Ordering::Relaxed))
    }

    /// Tries the code, loads the model unless it is in memory, and starts the workers, which take no request yet.
    ///
    /// The library's own start-up code runs on a thread that ends here.
    pub(super) fn prepare(
        &self,
        endpoint: &Endpoint,
        source: &Arc<Source>,
        code: Code,
        tally: &Tally,
    ) -> Result<Generation, LoadError> {
        let entry = &tally.entry;
        let settings = &source.settings;
        entry.write(|record| record.package = Some(source.package.digest));
        let (staged, wanted, by_name) = entry.step(Step::Copy, || self.copy(code))?;
        let file = entry.step(Step::Check, || self.check(&staged))?;
        let handler = file.handler(&wanted)?.to_owned();
        let keeps_on_device = settings.device != Device::Cpu && file.note.libtorch.is_some();
        entry.write(|record| {
            record.code = Some(CodeRecord {
                library: staged.source().to_owned(),
                digest: staged.digest(),
                handler: handler.clone(),
                note: file.note,
            });
        });
        let operators = self.operators(source)?;
        let weights = source.package.serialized_file()?;
        let try_out = |kind: Option<ModelKind>| {
            let request = CanaryRequest {
                handler: handler.clone(),
                context: context(endpoint, source, kind, &self.requests),
                model: weights.clone(),
                package: Some(source.package.digest),
                operators: operators.clone(),
            };
            entry.step(Step::Trial, || self.canary.try_library(&staged, &request, settings.startup_timeout))
        };
        let read = || weights.as_deref().map(|path| entry.step(Step::Model, || self.model(source, path))).transpose();
        let compiled = weights.as_deref().map(|path| is_compiled(path, settings.device)).transpose()? == Some(true);
        let (kind, model) = if compiled {
            // Nothing of it runs here before a canary has run it.
            let kind = Some(ModelKind::AotInductor);
            try_out(kind)?;
            (kind, read()?)
        } else {
            match weights.as_deref().map(kind_of).transpose() {
                Ok(kind) => (kind, beside(read, || try_out(kind))?),
                // The load tells it, too, and before it that there is no libtorch to load with.
                Err(error) => return Err(read().err().unwrap_or_else(|| error.into())),
            }
        };
        let (model, model_record) = model.unzip();
        entry.write(|record| record.model = model_record);
        let context = context(endpoint, source, kind, &self.requests);
        let signature = model.as_deref().and_then(|model| signature(source, model));
        let library = entry.step(Step::Open, || open(&staged))?;
        let weights = model.clone();
        let model = move || model.clone().ok_or_else(|| "the archive holds no model".to_owned());
        let (name, version) = (endpoint.name().clone(), endpoint.version().clone());
        let metrics = self.metrics.for_model(&name, &version);
        let profile = context.config["handler"]["profile"] == true;
        let profile = if profile { Profile::On } else { Profile::Off };
        let handler_metrics = HandlerMetrics::new(metrics.clone(), profile);
        let build = Build { source: Arc::clone(source), library: staged, handler, by_name };
        let plan = WorkerPlan {
            services: Services::new(name.clone(), version.clone(), Arc::new(model), handler_metrics),
            metrics,
            model: name,
            version,
            generation: entry.id(),
            handler: build.handler.clone(),
            context,
            signature,
            batcher: Batcher::new(settings.batch),
            weights,
            threads: AtomicUsize::new(1),
            keeps_on_device,
            response_timeout: settings.response_timeout,
            max_response_size: self.max_response_size,
            tally: tally.clone(),
            profiler: endpoint.profiler(),
        };
        let code = GenerationCode { build, library, unload: self.unload };
        let staffing = Staffing { scale: endpoint.scale(source), autoscale: self.autoscale };
        entry.step(Step::Start, || Generation::start(code, plan, endpoint.queue(), staffing))
    }

    /// A private copy for this generation alone, with the handler that is wanted of it.
    fn copy(&self, code: Code) -> Result<(Arc<StagedLibrary>, String, bool), PluginError> {
        match code {
            Code::Found(found) => Ok((Arc::new(self.libraries.stage(&found.library)?), found.handler, found.by_name)),
            Code::Kept(build) => {
                Ok((Arc::new(self.libraries.stage_again(&build.library)?), build.handler, build.by_name))
            }
        }
    }

    fn check(&self, staged: &StagedLibrary) -> Result<LibraryFile, PluginError> {
        let file = LibraryFile::read_staged(staged)?;
        judge(&file, &self.build)
            .map_err(|refusal| PluginError::Refused { path: staged.source().to_owned(), refusal })?;
        for warning in file.warnings() {
            tracing::warn!(library = %staged.source().display(), "{warning}");
        }
        Ok(file)
    }

    /// What lies on disk for an archive's handler.
    pub(super) fn find(&self, source: &Source) -> Result<Found, LoadError> {
        let package = &source.package;
        let named = match source.handler()? {
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
                Ok(Found { library, handler: class.clone(), by_name: false })
            }
            HandlerRef::Plugin(name) => match self.catalogue.find(name) {
                Ok(file) => Ok(Found { library: file.path, handler: name.clone(), by_name: true }),
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

    /// Opens the operators that an archive's model needs; nothing where it needs none.
    fn operators(&self, source: &Source) -> Result<Vec<PathBuf>, LoadError> {
        let wanted = source.package.torch_libraries()?;
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let limit = source.settings.startup_timeout;
        Ok(self.operators.open(&wanted, &self.libraries, &self.canary, limit)?)
    }

    /// The model of an archive; its file was read once when the archive was opened, and isn't where the model is in memory.
    fn model(&self, source: &Source, path: &Path) -> Result<(Arc<dyn Model>, ModelRecord), LoadError> {
        let device = self.runtime.device(source.settings.device)?;
        let package = &source.package;
        let member = path.strip_prefix(&package.root).ok().and_then(|name| name.to_str()).unwrap_or_default();
        let digest = package.members.iter().find(|known| known.name == member).map(|known| known.digest);
        let options = ModelOptions { optimization: source.settings.optimization };
        let missing = || ModelError::Missing { path: path.to_owned() };
        let key = ModelKey { digest: digest.ok_or_else(missing)?, device, options };
        let (model, place) = self.models.get(&key, path)?;
        let footprint = model.footprint();
        if footprint.was_changed {
            tracing::warn!(
                model = %path.display(),
                "the weights in memory are not the file's any more: the model or a handler has written to them in place, and they are served as they are"
            );
        }
        let record = ModelRecord {
            file: member.to_owned(),
            digest: key.digest,
            device,
            footprint,
            was_resident: place == Place::Resident,
        };
        Ok((model, record))
    }
}

/// Reads a model while the code is tried in its own process, and gives the model; what is wrong with that is told first.
fn beside<M: Send>(
    read: impl FnOnce() -> Result<M, LoadError> + Send,
    try_out: impl FnOnce() -> Result<(), PluginError>,
) -> Result<M, LoadError> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("read".to_owned());
        let reading = thread.spawn_scoped(scope, read).map_err(LoadError::Thread)?;
        let tried = try_out();
        let model = reading.join().map_err(|_| LoadError::Panicked { what: "reading the model" })??;
        tried?;
        Ok(model)
    })
}

/// Maps the code on a thread that ends at once: what its start-up code leaves in thread-locals ends with it.
fn open(staged: &Arc<StagedLibrary>) -> Result<Library, LoadError> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("open".to_owned());
        let open = || {
            let opened = Library::open(Arc::clone(staged));
            clear_stack();
            opened
        };
        let opening = thread.spawn_scoped(scope, open).map_err(LoadError::Thread)?;
        let opened = opening.join().map_err(|_| LoadError::Panicked { what: "opening the library" })?;
        Ok(opened?)
    })
}

/// `None` where the model is no code, or code without the method that is called.
fn signature(source: &Source, model: &dyn Model) -> Option<Signature> {
    let schema = model.schema(model_call::METHOD).ok()?;
    let config = source.package.config.as_ref();
    Some(Signature::new(schema, config.map(|config| config.declared.clone()).unwrap_or_default()))
}

// === impl Code ===

impl Code {
    /// The file.
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Found(found) => &found.library,
            Self::Kept(build) => build.library.path(),
        }
    }

    /// Of the file as it is now.
    pub(super) fn digest(&self) -> std::io::Result<Digest> {
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(File::open(self.path())?)?;
        Ok(Digest(*hasher.finalize().as_bytes()))
    }
}
