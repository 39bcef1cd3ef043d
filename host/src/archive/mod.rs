//! Model archives: what is in one, how it is opened safely, and how it is made.
//!
//! An *archive* is a file or a folder as the model store holds it; a
//! [`Package`] is an archive that has been opened. Nothing here knows what a
//! handler or a model does: it hands out names, settings and paths.

pub mod error;

pub mod answer;

pub mod handler_name;
pub mod manifest;
pub mod members;
pub mod model_config;
pub mod signature;

mod sink;

mod extract;
pub mod package;

mod leftovers;
mod plan;
mod write;

pub mod pack;

pub mod store;

pub mod fetch;

#[cfg(test)]
mod fetch_tests;
#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod pack_tests;
#[cfg(test)]
mod package_tests;

pub use answer::ArchiveFault;
pub use error::ArchiveError;
pub use error::MemberProblem;
pub use fetch::FetchRules;
pub use fetch::FileInTheWay;
pub use fetch::is_url;
pub use handler_name::HandlerName;
pub use handler_name::HandlerRef;
pub use manifest::Manifest;
pub use manifest::Runtime;
pub use members::Found;
pub use members::Member;
pub use members::digest_of;
pub use model_config::DeviceType;
pub use model_config::ModelConfig;
pub use model_config::ModelSettings;
pub use model_config::OPTIMIZATIONS;
pub use pack::PackRequest;
pub use pack::Packed;
pub use pack::pack;
pub use package::Package;
pub use package::files_of;
pub use signature::Declared;
pub use signature::TensorSpec;
pub use signature::datatype;
pub use signature::datatype_name;
pub use sink::Limits;
pub use store::LoadModels;
pub use store::Store;
pub use store::is_offered;
pub use write::ArchiveFormat;
pub use write::Existing;
