//! Files of weights, read without libtorch and without running a line of the Python that may be in them.
//!
//! This is a security property: a pickle is a program, and here only its data is looked at; classes are names.

mod error;
mod format;
mod safetensors_file;
mod tensors;
mod torch_file;

pub(super) use error::StateDictError;
pub(super) use format::Contents;
pub(super) use format::read;
pub(super) use tensors::NamedTensor;

#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod tests;
