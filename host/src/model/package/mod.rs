//! AOTInductor packages: what their files say of the compiled model, read before any of its code runs.
//!
//! A package is a zip with a library that PyTorch's compiler made of a model, the C++ that it was made of, and notes on
//! the machine that it was made for. The library checks nothing of what it is called with, so what it takes is read from
//! the C++; without that the package is refused. `zip` has another home here.

mod error;
mod file;
mod inputs;
mod machine;
mod spec;

pub(super) use error::PackageError;
#[cfg_attr(not(feature = "torch"), allow(unused_imports))]
pub(super) use file::PackageFile;
#[cfg_attr(not(feature = "torch"), allow(unused_imports))]
pub(super) use file::Threads;
pub(super) use file::is_compiled_member;
#[cfg_attr(not(feature = "torch"), allow(unused_imports))]
pub(super) use inputs::Inputs;
#[cfg_attr(not(feature = "torch"), allow(unused_imports))]
pub(super) use spec::Spec;

#[cfg(test)]
mod tests;
