//! The file system is watched, and serving is told what has changed.
//!
//! Events are only hints: what counts is the digest of a file that has settled. A file that is gone or half-written changes nothing; nobody is ever unregistered here.
//! The layer knows no HTTP, no handler and no model: it compares bytes and names what to do about them.

mod file_system;
mod scope;

mod watcher;

mod complete;
mod listing;
mod survey;

mod plan;

mod errands;
mod reloader;
mod target;

#[cfg(test)]
mod bench;
#[cfg(test)]
mod tests;

pub use listing::Listing;
pub use listing::Places;
pub use plan::Action;
pub use reloader::Reloader;
pub use scope::Depth;
pub use scope::Place;
pub use target::Target;
pub use watcher::Hint;
pub use watcher::Watcher;
