//! Tensors as PyTorch's clients send them: what `torch.save(tensor, file)` writes, and what `torch.load(file)` reads.
//!
//! ```
//! use handler_sdk::Tensor;
//! use handler_sdk::torch_file;
//!
//! let tensor = Tensor::from_slice(&[2, 3], &[1.0_f32, 2.0, 3.0, 4.0, 5.0, 6.0])?;
//! let bytes = torch_file::save(&tensor)?;
//! let again = torch_file::load(&bytes)?;
//! assert_eq!((again.shape(), again.to_vec::<f32>()?), (vec![2, 3], tensor.to_vec::<f32>()?));
//! # Ok::<(), handler_sdk::Error>(())
//! ```
//!
//! A file is a zip whose pickle is read as data: no code in it runs, whoever wrote it, and what it says of lengths is held against what it holds.
//! Read is the form that PyTorch writes since 1.6, with one dense tensor or parameter of a type that [`DType`](crate::DType) has, wherever it lived.

mod read;
#[cfg(test)]
mod tests;
mod view;
mod write;

use crate::Error;
use crate::Field;
use crate::Result;
use crate::Tensor;

pub use write::save;

/// Reads the tensor that `torch.save` wrote.
///
/// Fails with status 400 where the bytes are anything else, and says what.
pub fn load(bytes: &[u8]) -> Result<Tensor> {
    read::load(bytes).map_err(|found| refusal("the input", &found))
}

/// Reads the tensor that a client sent in a field; the error names the field, too.
pub fn load_field(field: &Field<'_>) -> Result<Tensor> {
    read::load(field.bytes()).map_err(|found| refusal(&format!("field `{}`", field.name()), &found))
}

fn refusal(what: &str, found: &str) -> Error {
    Error::bad_request(format!("{what} {found}: send one tensor, as torch.save(tensor, file) writes it"))
}
