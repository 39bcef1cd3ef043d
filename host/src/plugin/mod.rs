//! Handlers in shared libraries: read, judged, copied, tried in a process of their own, and only then opened.
//!
//! The layer knows files and the boundary; it doesn't know archives, tokio or HTTP.

#![allow(unsafe_code)] // The plugin layer is one of the three homes of unsafe code.

mod background;
mod canary;
mod catalogue;
mod compat;
mod error;
mod headers;
mod keeper;
mod library;
mod mapping;
mod note;
mod operators;
mod own_threads;
mod prepared;
mod request;
mod residue;
mod services;
mod stage;
#[cfg(test)]
mod testing;
mod trial;

pub use background::give_way;
pub use canary::Canary;
pub use canary::CanaryRequest;
pub use canary::Step;
pub use catalogue::Catalogue;
pub use compat::HostBuild;
pub use compat::judge;
pub use error::PluginError;
pub use error::Refusal;
pub use headers::Headers;
pub use keeper::Keeper;
pub use library::Library;
pub use library::LibraryInstance;
pub use mapping::Mapped;
pub use mapping::mapped;
pub use note::Demands;
pub use note::LibraryFile;
pub use operators::Operators;
pub use own_threads::own_thread;
pub use prepared::Prepared;
pub use request::Field;
pub use request::Request;
pub use request::Verb;
pub use residue::Residue;
pub use residue::clear_stack;
pub use services::ModelSource;
pub use services::Services;
pub use stage::LibraryStore;
pub use stage::StagedLibrary;
pub use trial::run_keeper;

/// Ends the process at once, without the exit code of libraries, under which threads of plugins may still run.
///
/// Whatever is to be written or removed must be so before.
pub fn leave(status: i32) -> ! {
    // SAFETY: `_exit` has no conditions; nothing in this process is used after it.
    unsafe { libc::_exit(status) }
}
