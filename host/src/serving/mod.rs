//! Requests meet handlers: queues, batches, workers, and the models they serve.
//!
//! The layer knows no HTTP, no file watching and no libtorch; whoever calls it speaks in requests and names.

mod batcher;
mod endpoint;
mod error;
mod generation;
mod job;
mod loader;
mod queue;
mod registry;
mod served;
mod settings;
mod worker;

pub use batcher::BatchPolicy;
pub use endpoint::Endpoint;
pub use endpoint::EndpointState;
pub use endpoint::EndpointStatus;
pub use error::LoadError;
pub use error::LookupError;
pub use error::ServeError;
pub use generation::Generation;
pub use loader::Loader;
pub use queue::QueueStatus;
pub use registry::Registry;
pub use registry::StartupModel;
pub use served::Served;
pub use settings::EndpointSettings;
pub use worker::WorkerState;
pub use worker::WorkerStatus;

// A request as callers make it; its place is beside the boundary that it crosses.
pub use crate::plugin::Field;
pub use crate::plugin::Request;
