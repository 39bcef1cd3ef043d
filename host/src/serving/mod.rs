//! Requests meet handlers: queues, batches, workers, and the models they serve.
//!
//! The layer knows no HTTP, no file watching and no libtorch; whoever calls it speaks in requests and names.

mod batcher;
mod endpoint;
mod error;
mod exposition;
mod generation;
mod hand_over;
mod job;
mod loader;
mod queue;
mod record;
mod registry;
mod served;
mod settings;
mod source;
mod swap;
mod verbs;
mod work;
mod worker;

pub use batcher::BatchPolicy;
pub use endpoint::Endpoint;
pub use endpoint::EndpointState;
pub use endpoint::EndpointStatus;
pub use error::LoadError;
pub use error::LookupError;
pub use error::ServeError;
pub use error::SwapError;
pub use generation::Generation;
pub use loader::Loader;
pub use queue::QueueStatus;
pub use record::CodeRecord;
pub use record::GenerationRecord;
pub use record::GenerationState;
pub use record::ModelRecord;
pub use record::Step;
pub use record::Trigger;
pub use registry::NewModel;
pub use registry::Registry;
pub use served::Served;
pub use settings::EndpointSettings;
pub use swap::Swapped;
pub use worker::WorkerState;
pub use worker::WorkerStatus;

// Callers make the first two and read the third; their place is beside the boundary that they are about.
pub use crate::plugin::Field;
pub use crate::plugin::Request;
pub use crate::plugin::Residue;
