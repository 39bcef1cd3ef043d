//! What crosses between the host and a plugin, and nothing else.
//!
//! Everything here is C-shaped: pointers with lengths, numbers, function tables that only grow at their end.
//! It is the only part of the crate that knows `abi_stable`, so that the boundary can be rebuilt on something else without an author noticing.
//!
//! * [`raw`]: the types that cross.
//! * [`note`]: what a library says of itself in its file, to be read before it is opened.
//! * [`glue`]: the plugin's side: turns raw calls into calls of [`Handler`](crate::Handler) and stops panics.
//! * `values`: tensors, and structures of them, on their way across.
//! * [`instance`]: the host's side: owns one handler object and copies out what it answers.
//! * [`prepared`]: the host's side of the single steps, for requests that are prepared while others run.
//!
//! The rules that keep it sound: whatever is passed is borrowed for that call; each side copies what it keeps; memory is freed by the side that took it.
//! One thing outlives its call: what a plugin has prepared of a request, which only it looks into and only it frees. Its library isn't closed while one is left, and that is the host's to see to.

#![allow(unsafe_code)]

pub mod glue;
pub mod instance;
pub mod note;
pub mod prepared;
pub mod raw;
pub(crate) mod values;

#[cfg(test)]
mod tests;

/// The version of the boundary, `(major, minor)`.
///
/// The major part changes when something that crosses changes its shape, the minor part when something is added.
/// A host takes plugins of its own major version whose minor version is not above its own.
pub const ABI_VERSION: (u32, u32) = (1, 0);

/// The version of the SDK, as plugins name it in their notes.
pub const SDK_VERSION: &str = env!("CARGO_PKG_VERSION");

/// Under these names a handler's three steps tell what each took for a batch, in milliseconds; TorchServe's own, in the order of the steps.
pub const STAGE_METRICS: [&str; 3] = ["ts_handler_preprocess", "ts_handler_inference", "ts_handler_postprocess"];

/// What an error says where a handler asked for a model that its archive doesn't have.
pub const NO_MODEL: &str = "holds no model";
