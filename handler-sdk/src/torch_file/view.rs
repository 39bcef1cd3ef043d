//! What a pickled tensor is: a look at a record of numbers, with a shape and steps.

use crate::DType;
use crate::Tensor;

/// A run of numbers, of which tensors are views.
#[derive(Debug)]
pub(super) struct Storage {
    /// The name of its record.
    pub(super) key: String,
    pub(super) dtype: DType,
}

#[derive(Debug)]
pub(super) struct View {
    storage: Storage,
    /// Where the first element lies.
    offset: usize,
    shape: Vec<usize>,
    /// How many elements lie from one place to the next of each dimension.
    strides: Vec<usize>,
}

/// The names of storages, each with its elements' type.
pub(super) const STORAGES: [(&str, DType); 10] = [
    ("BoolStorage", DType::Bool),
    ("ByteStorage", DType::U8),
    ("CharStorage", DType::I8),
    ("ShortStorage", DType::I16),
    ("IntStorage", DType::I32),
    ("LongStorage", DType::I64),
    ("HalfStorage", DType::F16),
    ("BFloat16Storage", DType::BF16),
    ("FloatStorage", DType::F32),
    ("DoubleStorage", DType::F64),
];

/// As many as libtorch has.
const MOST_DIMENSIONS: usize = 64;

/// What a tensor may take up beyond its storage: one number can be shown a million times, with steps of 0.
const MOST_EXPANDED: usize = 64 << 20;

// === impl View ===

impl View {
    pub(super) fn new(storage: Storage, offset: i64, shape: &[i64], strides: &[i64]) -> Result<Self, String> {
        let lengths = |values: &[i64]| values.iter().map(|&value| usize::try_from(value).ok()).collect();
        let (offset, lengths, steps) = (usize::try_from(offset).ok(), lengths(shape), lengths(strides));
        match (offset, lengths, steps) {
            (Some(offset), Some(shape), Some(strides))
                if Vec::len(&shape) == Vec::len(&strides) && shape.len() <= MOST_DIMENSIONS =>
            {
                Ok(Self { storage, offset, shape, strides })
            }
            _ => Err(format!("holds a tensor of shape {shape:?} with steps {strides:?}, which no tensor has")),
        }
    }

    /// The name of the record with its numbers.
    pub(super) fn storage(&self) -> &str {
        &self.storage.key
    }

    /// The tensor itself, contiguous.
    pub(super) fn tensor(self, storage: Vec<u8>) -> Result<Tensor, String> {
        let dtype = self.storage.dtype;
        let size = dtype.size();
        let shape: Vec<i64> = self.shape.iter().map(|&length| length as i64).collect();
        let beyond = || format!("holds a tensor of shape {shape:?} that reaches beyond its {} bytes", storage.len());
        let length = self.shape.iter().try_fold(size, |bytes, &length| bytes.checked_mul(length)).ok_or_else(beyond)?;
        let mut bytes = Vec::new();
        if length > 0 {
            let end = self.end().and_then(|end| end.checked_mul(size)).filter(|end| *end <= storage.len());
            end.ok_or_else(beyond)?;
            if length > storage.len().saturating_add(MOST_EXPANDED) {
                return Err(format!(
                    "holds {} bytes that stand for a tensor of shape {shape:?}, which would take up {length}",
                    storage.len()
                ));
            }
            let start = self.offset * size;
            bytes = match self.is_contiguous() {
                true if length == storage.len() => storage,
                true => storage[start..start + length].to_vec(),
                false => {
                    bytes.reserve_exact(length);
                    let dimensions: Vec<(usize, usize)> =
                        self.shape.iter().zip(&self.strides).map(|(&length, &step)| (length, step * size)).collect();
                    gather(&storage, &dimensions, start, size, &mut bytes);
                    bytes
                }
            };
        }
        if dtype == DType::Bool {
            bytes.iter_mut().for_each(|byte| *byte = u8::from(*byte != 0));
        }
        Tensor::from_bytes(dtype, &shape, bytes).map_err(|error| format!("holds what is no tensor: {error}"))
    }

    /// The place behind the last element, counted in elements; of a view that has any.
    fn end(&self) -> Option<usize> {
        self.shape.iter().zip(&self.strides).try_fold(self.offset.checked_add(1)?, |end, (&length, &step)| {
            end.checked_add((length - 1).checked_mul(step)?)
        })
    }

    fn is_contiguous(&self) -> bool {
        let mut wanted = 1;
        self.shape.iter().zip(&self.strides).rev().all(|(&length, &step)| {
            let fits = length == 1 || step == wanted;
            wanted *= length;
            fits
        })
    }
}

/// Copies the elements in order; `dimensions` are lengths and steps, these in bytes.
fn gather(storage: &[u8], dimensions: &[(usize, usize)], at: usize, size: usize, out: &mut Vec<u8>) {
    match dimensions.split_first() {
        None => out.extend_from_slice(&storage[at..at + size]),
        Some((&(length, step), rest)) => {
            (0..length).for_each(|index| gather(storage, rest, at + index * step, size, out));
        }
    }
}
