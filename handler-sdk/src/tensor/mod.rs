//! Arrays of numbers: what `preprocess` makes, a model takes and `postprocess` reads.

mod dtype;
#[cfg(feature = "tch")]
mod torch;

pub use dtype::DType;
pub use dtype::Device;
pub use dtype::Element;

use serde_json::Value as Json;

use crate::Error;
use crate::Result;

/// An array of numbers of one type, contiguous, last dimension fastest.
///
/// Without the feature `tch` a tensor is plain memory of the plugin, and building a handler needs no libtorch.
/// With it, a tensor may also be a `tch::Tensor`, on any device, which crosses to and from the host without a copy (`Tensor::from`, `Tensor::into_tch`).
///
/// ```
/// use handler_sdk::Tensor;
///
/// let picture = Tensor::from_slice(&[1, 2, 2], &[0.0_f32, 0.5, 1.0, 0.25])?;
/// assert_eq!(picture.shape(), [1, 2, 2]);
/// assert_eq!(picture.argmax()?, 2);
///
/// let batch = Tensor::stack(&[picture.clone(), picture])?;
/// assert_eq!(batch.shape(), [2, 1, 2, 2]);
/// # Ok::<(), handler_sdk::Error>(())
/// ```
#[derive(Debug)]
pub struct Tensor(Repr);

#[derive(Debug)]
pub(crate) enum Repr {
    Plain(Plain),
    #[cfg(feature = "tch")]
    Torch(tch::Tensor),
}

#[derive(Debug, Clone)]
pub(crate) struct Plain {
    pub(crate) dtype: DType,
    pub(crate) shape: Vec<i64>,
    pub(crate) bytes: Vec<u8>,
}

// === impl Tensor ===

impl Tensor {
    /// Takes raw memory: `bytes` in the machine's byte order, as many as `shape` and `dtype` need.
    ///
    /// Fails if the number of bytes is another.
    pub fn from_bytes(dtype: DType, shape: &[i64], bytes: Vec<u8>) -> Result<Self> {
        let wanted = element_count(shape)?
            .checked_mul(dtype.size())
            .ok_or_else(|| Error::new(format!("shape {shape:?} is too large")))?;
        if bytes.len() != wanted {
            return Err(Error::new(format!(
                "a {dtype:?} tensor of shape {shape:?} has {wanted} bytes, not {}",
                bytes.len()
            )));
        }
        Ok(Self(Repr::Plain(Plain { dtype, shape: shape.to_vec(), bytes })))
    }

    /// Copies `values` into a tensor of `shape`; fails if the shape has room for another number of them.
    pub fn from_slice<T: Element>(shape: &[i64], values: &[T]) -> Result<Self> {
        let mut bytes = Vec::with_capacity(values.len() * T::DTYPE.size());
        values.iter().for_each(|value| value.write(&mut bytes));
        Self::from_bytes(T::DTYPE, shape, bytes)
    }

    /// The type of the elements.
    pub fn dtype(&self) -> Result<DType> {
        match &self.0 {
            Repr::Plain(plain) => Ok(plain.dtype),
            #[cfg(feature = "tch")]
            Repr::Torch(tensor) => torch::dtype(tensor),
        }
    }

    /// The length of each dimension, outermost first; empty for a single number.
    pub fn shape(&self) -> Vec<i64> {
        match &self.0 {
            Repr::Plain(plain) => plain.shape.clone(),
            #[cfg(feature = "tch")]
            Repr::Torch(tensor) => tensor.size(),
        }
    }

    /// The elements in order, as `T`; fails if the tensor holds another type.
    ///
    /// On a GPU this waits for the device and copies.
    pub fn to_vec<T: Element>(&self) -> Result<Vec<T>> {
        let plain = self.to_plain()?;
        if plain.dtype != T::DTYPE {
            return Err(Error::new(format!("the tensor holds {:?}, not {:?}", plain.dtype, T::DTYPE)));
        }
        Ok(plain.bytes.chunks_exact(T::DTYPE.size()).map(T::read).collect())
    }

    /// The elements in order, each converted to `f64`, whatever their type.
    pub fn to_f64(&self) -> Result<Vec<f64>> {
        let plain = self.to_plain()?;
        Ok(plain.bytes.chunks_exact(plain.dtype.size()).map(|bytes| plain.dtype.to_f64(bytes)).collect())
    }

    /// The place of the largest element, counted over all elements in order; the first where several are equal.
    ///
    /// Fails on an empty tensor, and where an element is not a number.
    pub fn argmax(&self) -> Result<usize> {
        let values = self.to_f64()?;
        if values.iter().any(|value| value.is_nan()) {
            return Err(Error::new("the tensor holds NaN, so none of its elements is the largest"));
        }
        values
            .iter()
            .enumerate()
            .reduce(|best, next| if next.1 > best.1 { next } else { best })
            .map(|(index, _)| index)
            .ok_or_else(|| Error::new("an empty tensor has no largest element"))
    }

    /// The same elements under another shape with as many of them.
    pub fn reshape(self, shape: &[i64]) -> Result<Self> {
        if element_count(shape)? != element_count(&self.shape())? {
            return Err(Error::new(format!("can't give shape {shape:?} to a tensor of shape {:?}", self.shape())));
        }
        match self.0 {
            Repr::Plain(plain) => Ok(Self(Repr::Plain(Plain { shape: shape.to_vec(), ..plain }))),
            #[cfg(feature = "tch")]
            Repr::Torch(tensor) => Ok(tensor.f_reshape(shape)?.into()),
        }
    }

    /// Puts `n` tensors of one shape and type on top of each other: shape `[n, …]`.
    ///
    /// Fails on an empty list, and names the shapes where they differ.
    pub fn stack(tensors: &[Self]) -> Result<Self> {
        let Some(first) = tensors.first() else {
            return Err(Error::new("no tensors to stack"));
        };
        let shape = first.shape();
        if let Some(other) = tensors.iter().find(|tensor| tensor.shape() != shape) {
            return Err(Error::new(format!(
                "can't make one batch of tensors of shapes {shape:?} and {:?}",
                other.shape()
            )));
        }
        #[cfg(feature = "tch")]
        if let Some(stacked) = torch::stack(tensors)? {
            return Ok(stacked);
        }
        let dtype = first.dtype()?;
        // Once for all, so that nothing is copied again while it grows.
        let mut bytes = Vec::with_capacity(tensors.len() * element_count(&shape)? * dtype.size());
        for tensor in tensors {
            let plain = tensor.to_plain()?;
            if plain.dtype != dtype {
                return Err(Error::new(format!("can't make one batch of {dtype:?} and {:?}", plain.dtype)));
            }
            bytes.extend_from_slice(&plain.bytes);
        }
        let mut stacked = vec![i64::try_from(tensors.len())?];
        stacked.extend(shape);
        Self::from_bytes(dtype, &stacked, bytes)
    }

    /// The opposite of [`stack`](Self::stack): a tensor of shape `[n, …]` becomes `n` of shape `[…]`.
    ///
    /// Fails on a single number, which has no dimension to split.
    pub fn unbind(&self) -> Result<Vec<Self>> {
        #[cfg(feature = "tch")]
        if let Repr::Torch(tensor) = &self.0 {
            return torch::unbind(tensor);
        }
        let plain = self.to_plain()?;
        let Some((&count, rest)) = plain.shape.split_first() else {
            return Err(Error::new("a single number has no dimension to split"));
        };
        let count = usize::try_from(count)?;
        if count == 0 {
            return Ok(Vec::new());
        }
        let size = plain.bytes.len() / count;
        (0..count)
            .map(|index| Self::from_bytes(plain.dtype, rest, plain.bytes[index * size..(index + 1) * size].to_vec()))
            .collect()
    }

    /// The elements as nested JSON lists, as Python's `tolist()` gives them.
    ///
    /// What JSON can't say (NaN and the infinities) becomes `null`.
    pub fn to_json(&self) -> Result<Json> {
        let plain = self.to_plain()?;
        Ok(nested(&plain.shape, &mut plain.bytes.chunks_exact(plain.dtype.size()), plain.dtype))
    }

    /// Reads nested JSON lists of numbers into a float32 tensor, as `torch.as_tensor` reads them.
    ///
    /// Fails on anything but numbers and lists, and on lists of unequal lengths.
    pub fn from_json(value: &Json) -> Result<Self> {
        let mut shape = Vec::new();
        let mut inner = value;
        while let Json::Array(items) = inner {
            shape.push(i64::try_from(items.len())?);
            match items.first() {
                Some(item) => inner = item,
                None => break,
            }
        }
        let mut values = Vec::new();
        flatten(value, &shape, &mut values)?;
        Self::from_slice(&shape, &values)
    }

    pub(crate) fn to_plain(&self) -> Result<std::borrow::Cow<'_, Plain>> {
        match &self.0 {
            Repr::Plain(plain) => Ok(std::borrow::Cow::Borrowed(plain)),
            #[cfg(feature = "tch")]
            Repr::Torch(tensor) => Ok(std::borrow::Cow::Owned(torch::to_plain(tensor)?)),
        }
    }

    pub(crate) fn repr(&self) -> &Repr {
        &self.0
    }
}

impl Clone for Tensor {
    /// Copies plain memory; a `tch::Tensor` is shared.
    fn clone(&self) -> Self {
        match &self.0 {
            Repr::Plain(plain) => Self(Repr::Plain(plain.clone())),
            #[cfg(feature = "tch")]
            Repr::Torch(tensor) => Self(Repr::Torch(tensor.shallow_clone())),
        }
    }
}

fn element_count(shape: &[i64]) -> Result<usize> {
    shape.iter().try_fold(1_usize, |count, &length| {
        usize::try_from(length)
            .ok()
            .and_then(|length| count.checked_mul(length))
            .ok_or_else(|| Error::new(format!("{shape:?} is not a shape: a length is negative or too large")))
    })
}

fn nested(shape: &[i64], elements: &mut std::slice::ChunksExact<'_, u8>, dtype: DType) -> Json {
    match shape.split_first() {
        None => elements.next().map_or(Json::Null, |bytes| dtype.to_json(bytes)),
        Some((&count, rest)) => (0..count).map(|_| nested(rest, elements, dtype)).collect(),
    }
}

fn flatten(value: &Json, shape: &[i64], values: &mut Vec<f32>) -> Result<()> {
    let unequal =
        || Error::bad_request("the JSON lists have unequal lengths: a tensor needs the same length everywhere");
    match (value, shape.split_first()) {
        (Json::Array(items), Some((&length, rest))) if usize::try_from(length) == Ok(items.len()) => {
            items.iter().try_for_each(|item| flatten(item, rest, values))
        }
        (Json::Number(number), None) => {
            #[allow(clippy::cast_possible_truncation)] // float32 is what models take.
            values.push(number.as_f64().unwrap_or(f64::NAN) as f32);
            Ok(())
        }
        (Json::Array(_) | Json::Number(_), _) => Err(unequal()),
        (other, _) => {
            Err(Error::bad_request(format!("expected numbers in nested JSON lists, found {}", beginning(other))))
        }
    }
}

/// As much of a value as a message can hold: what a client sent may be megabytes.
fn beginning(value: &Json) -> String {
    const MOST: usize = 60;
    let text = value.to_string();
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}… ({} bytes)", &text[..end], text.len()),
        None => text,
    }
}

#[cfg(test)]
mod tests;
