//! Why a request isn't answered, and why a model isn't served.

use std::path::PathBuf;
use std::time::Duration;

use handler_sdk::Error as HandlerError;

use super::Scale;
use crate::archive::ArchiveError;
use crate::archive::ArchiveFault;
use crate::ids::GenerationId;
use crate::ids::ModelName;
use crate::ids::ModelVersion;
use crate::metrics::Failure;
use crate::model::ModelError;
use crate::plugin::PluginError;

/// Why one request got no answer from its handler.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServeError {
    #[error("the server is shutting down")]
    ShuttingDown,
    #[error("all {capacity} places of the queue are taken")]
    QueueFull { capacity: usize },
    #[error("no worker is idle, and the model takes requests only for one that is")]
    NoTicket,
    #[error("the model has no worker")]
    NoWorker,
    #[error("the request waited longer than its client does")]
    Expired,
    #[error("the handler took longer than {limit:?}")]
    TimedOut { limit: Duration },
    #[error("the handler has no answer: {0}")]
    Handler(HandlerError),
    #[error("the device has no memory left: {0}")]
    OutOfResources(HandlerError),
    #[error("the client reads its answer too slowly")]
    SlowClient,
    #[error("the worker ended without an answer")]
    WorkerDied,
    #[error("the model was taken out meanwhile")]
    Unregistered,
}

/// Why a name leads to no endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    #[error("Model not found: {name}")]
    Model { name: String },
    #[error("Model version: {version} does not exist for model: {name}")]
    Version { name: String, version: String },
}

/// Why nobody can be told now what becomes of an endpoint's time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    #[error(
        "Model \"{name}\" Version {version} is being profiled for somebody else, and only one at a time can be told: ask again when that has ended."
    )]
    UnderWay { name: ModelName, version: ModelVersion },
}

/// Why a swap didn't take place; what served before goes on serving.
#[derive(Debug, thiserror::Error)]
pub enum SwapError {
    #[error(transparent)]
    Lookup(#[from] LookupError),
    #[error("generation {generation} is refused: {error}")]
    Refused { generation: GenerationId, error: LoadError },
    #[error(
        "version {version} of model {name} has no workers, so there is nothing to swap: scale it up, which takes what lies on disk then"
    )]
    NoWorkers { name: ModelName, version: ModelVersion },
    #[error("version {version} of model {name} has no generation before this one that it could go back to")]
    NothingBefore { name: ModelName, version: ModelVersion },
}

/// Why a client's model isn't taken in.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    #[error("Invalid RuntimeType value: {0}")]
    Runtime(String),
    #[error("a model cannot have more than {} workers.", Scale::MOST)]
    TooManyWorkers,
    #[error("Model store has not been configured.")]
    NoStore,
    /// With a text for the client, which knows the archive by its URL.
    #[error("{text}")]
    Archive { fault: ArchiveFault, text: String },
    #[error(transparent)]
    Load(#[from] LoadError),
}

// === impl RegisterError ===

impl RegisterError {
    pub(super) fn archive(error: &ArchiveError, url: &str) -> Self {
        tracing::error!(%url, %error, "not registered");
        Self::Archive { fault: error.fault(), text: error.client_text(url) }
    }
}

/// Why a model that was taken in isn't served, for one who waits for that.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    #[error("{0}")]
    Failed(String),
    #[error("Model version {version} of model {name} was unregistered before it had workers")]
    Unregistered { name: ModelName, version: ModelVersion },
}

/// Why the number of workers isn't another now.
#[derive(Debug, thiserror::Error)]
pub enum ScaleError {
    #[error(transparent)]
    Lookup(#[from] LookupError),
    #[error("max_worker cannot be less than min_worker.")]
    MaxBelowMin,
    #[error("a model cannot have more than {} workers.", Scale::MOST)]
    TooMany,
    #[error("{0}")]
    Failed(LoadError),
}

/// Why a version can't be taken out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnregisterError {
    #[error(transparent)]
    Lookup(#[from] LookupError),
    #[error("Cannot remove default version for model {name}")]
    IsDefault { name: ModelName },
    #[error("Timed out while cleaning resources: {name}")]
    TimedOut { name: ModelName },
}

/// Why a model can't be served.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(transparent)]
    Plugin(#[from] PluginError),
    #[error(
        "{archive} names no handler in its MAR-INF/MANIFEST.json: pack it with `sconce archive --handler NAME`, or set default_service_handler"
    )]
    NoHandler { archive: PathBuf },
    #[error(
        "{archive} wants the Python handler {handler:?}, and handlers here are native plugins: put a plugin named {name:?} into the plugins path, or pack the archive again with --handler and the name of a plugin ({cause})"
    )]
    PythonHandler { archive: PathBuf, handler: String, name: String, cause: Box<PluginError> },
    #[error("the handler {handler:?} in {library} can't be initialised: {reason}")]
    Initialize { handler: String, library: PathBuf, reason: String },
    #[error(
        "the handler {handler:?} in {library} was not ready after {limit:?}: raise startupTimeout, or make initialize quicker"
    )]
    StartupTimedOut { handler: String, library: PathBuf, limit: Duration },
    #[error(
        "the handler {handler:?} in {library} can't take over the state of the one before: {reason}; mend import_state, or hand nothing over by leaving out STATE_VERSION"
    )]
    ImportState { handler: String, library: PathBuf, reason: String },
    #[error("{what} after {limit:?}, for which requests had to wait: ask again, or make it quicker")]
    HandOverTimedOut { what: &'static str, limit: Duration },
    #[error("version {version} of model {name} is served already: remove it first, or give this one another version")]
    AlreadyServed { name: ModelName, version: ModelVersion },
    #[error(
        "{archive} holds version {found} now, and version {version} is served: give the archive that version, or ask for the model again without one"
    )]
    OtherVersion { archive: PathBuf, found: ModelVersion, version: ModelVersion },
    #[error("the generation is retired")]
    Retired,
    #[error("it is being unregistered, or the server is shutting down")]
    Closed,
    #[error("the system gives no thread: {0}")]
    Thread(std::io::Error),
    #[error("{what} panicked; this is a bug")]
    Panicked { what: &'static str },
}

// === impl ServeError ===

impl ServeError {
    /// As the metrics count it.
    pub(super) fn failure(&self) -> Failure {
        match self {
            Self::ShuttingDown => Failure::ShuttingDown,
            Self::QueueFull { .. } => Failure::QueueFull,
            Self::NoWorker => Failure::NoWorker,
            Self::Expired => Failure::Expired,
            Self::TimedOut { .. } => Failure::TimedOut,
            Self::Handler(_) => Failure::Handler,
            Self::OutOfResources(_) => Failure::OutOfResources,
            Self::WorkerDied => Failure::WorkerDied,
            Self::NoTicket => Failure::NoTicket,
            Self::Unregistered => Failure::Unregistered,
            Self::SlowClient => Failure::SlowClient,
        }
    }
}
