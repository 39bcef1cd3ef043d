//! Requests meet handlers: queues, batches, workers, and the models they serve.
//!
//! The layer knows no HTTP, no file watching and no libtorch; whoever calls it speaks in requests and names.

mod arrivals;
mod audience;
mod autoscale;
mod batcher;
#[doc(hidden)]
pub mod benchmarks;
mod context;
mod crew;
mod endpoint;
mod error;
mod exposition;
mod generation;
mod hand_over;
mod infer;
mod job;
mod life;
mod loader;
mod model_call;
mod pace;
mod preparers;
mod profile;
mod queue;
mod record;
mod registration;
mod registry;
mod requests;
mod rest;
mod served;
mod settings;
mod signature;
mod source;
mod speed;
mod stream;
mod swap;
mod verbs;
mod watchdog;
mod wish;
mod work;
mod worker;

pub use batcher::BatchPolicy;
pub use endpoint::Endpoint;
pub use endpoint::EndpointState;
pub use endpoint::EndpointStatus;
pub use error::LoadError;
pub use error::LookupError;
pub use error::ProfileError;
pub use error::RegisterError;
pub use error::ScaleError;
pub use error::ServeError;
pub use error::StartError;
pub use error::SwapError;
pub use error::UnregisterError;
pub use generation::Generation;
pub use infer::Answerer;
pub use job::Urgency;
pub use loader::Loader;
pub use model_call::ModelCall;
pub use model_call::NamedTensor;
pub use profile::Profiling;
pub use profile::Subject;
pub use profile::Trace;
pub use profile::TracedAnswer;
pub use queue::QueueLimits;
pub use queue::QueueStatus;
pub use record::CodeRecord;
pub use record::GenerationRecord;
pub use record::GenerationState;
pub use record::ModelRecord;
pub use record::Step;
pub use record::Trigger;
pub use registration::Registration;
pub use registry::NewModel;
pub use registry::Origin;
pub use registry::Registry;
pub use served::Served;
pub use settings::Asked;
pub use settings::EndpointSettings;
pub use settings::Scale;
pub use signature::KnownTensor;
pub use signature::Signature;
pub use speed::Batching;
pub use speed::BatchingMode;
pub use stream::Answered;
pub use stream::Pieces;
pub use swap::Swapped;
pub use wish::Wish;
pub use worker::WorkerState;
pub use worker::WorkerStatus;

// How the Open Inference Protocol and archives call a tensor's elements.
pub use crate::archive::datatype;
pub use crate::archive::datatype_name;

pub use crate::archive::ArchiveFault;
// Callers make all but the residue, which they read; their place is beside the boundary that they are about.
pub use crate::model::Optimization;
pub use crate::model::Trial;
pub use crate::model::Tuning;
pub use crate::plugin::Field;
pub use crate::plugin::Headers;
pub use crate::plugin::Request;
pub use crate::plugin::Residue;
pub use crate::plugin::Verb;
