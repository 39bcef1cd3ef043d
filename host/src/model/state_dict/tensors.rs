//! One tensor of a file: what is known of it, and the way to its bytes.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use handler_sdk::DType;

use super::StateDictError;

/// A tensor that is still in its file, so that a large model is never in memory twice.
#[derive(Debug)]
pub(crate) struct NamedTensor {
    pub(crate) name: String,
    pub(crate) dtype: DType,
    pub(crate) shape: Vec<i64>,
    pub(super) place: Place,
}

#[derive(Debug)]
pub(super) enum Place {
    Torch(pytorch_reader::Tensor),
    Range { file: Arc<File>, start: u64, length: usize },
}

// === impl NamedTensor ===

impl NamedTensor {
    /// Its elements, row by row; each call reads the file.
    pub(crate) fn bytes(&self) -> Result<Vec<u8>, StateDictError> {
        let read = match &self.place {
            Place::Torch(tensor) => tensor.read(),
            Place::Range { file, start, length } => {
                let mut bytes = vec![0; *length];
                file.read_exact_at(&mut bytes, *start).map(|()| bytes)
            }
        };
        let mut bytes =
            read.map_err(|error| StateDictError::Entry { entry: self.name.clone(), reason: error.to_string() })?;
        if self.dtype == DType::Bool {
            // Any other value would be undefined behaviour in whoever takes the bytes for bools.
            bytes.iter_mut().for_each(|byte| *byte = u8::from(*byte != 0));
        }
        Ok(bytes)
    }
}

/// A shape as libtorch counts; the tensor's bytes exist, so no dimension but an empty tensor's can be too large.
pub(super) fn shape_of(name: &str, shape: &[usize]) -> Result<Vec<i64>, StateDictError> {
    let shape: Result<Vec<_>, _> = shape.iter().copied().map(i64::try_from).collect();
    shape.map_err(|error| StateDictError::Entry { entry: name.to_owned(), reason: error.to_string() })
}
