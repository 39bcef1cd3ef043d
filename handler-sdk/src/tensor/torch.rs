//! The tensor as a `tch::Tensor`: shared, not copied, on whichever device it lives.

use super::DType;
use super::Plain;
use super::Repr;
use super::Tensor;
use crate::Error;
use crate::Result;

impl From<tch::Tensor> for Tensor {
    /// Takes the tensor as it is: no copy, same device.
    fn from(tensor: tch::Tensor) -> Self {
        Self(Repr::Torch(tensor))
    }
}

impl Tensor {
    /// The value as a `tch::Tensor`.
    ///
    /// A tensor that came from the host or from `tch` is handed over without a copy; plain memory is copied once, to the CPU.
    pub fn into_tch(self) -> Result<tch::Tensor> {
        match self.0 {
            Repr::Torch(tensor) => Ok(tensor),
            Repr::Plain(plain) => Ok(tch::Tensor::f_from_data_size(&plain.bytes, &plain.shape, kind(plain.dtype))?),
        }
    }
}

pub(super) fn dtype(tensor: &tch::Tensor) -> Result<DType> {
    let kind = tensor.f_kind()?;
    [
        DType::Bool,
        DType::U8,
        DType::I8,
        DType::I16,
        DType::I32,
        DType::I64,
        DType::F16,
        DType::BF16,
        DType::F32,
        DType::F64,
    ]
    .into_iter()
    .find(|&dtype| self::kind(dtype) == kind)
    .ok_or_else(|| Error::new(format!("a tensor of {kind:?} can't be handed over as plain memory")))
}

pub(super) fn to_plain(tensor: &tch::Tensor) -> Result<Plain> {
    let dtype = dtype(tensor)?;
    let tensor = tensor.f_detach()?.f_to(tch::Device::Cpu)?.f_contiguous()?;
    let mut bytes = vec![0; tensor.numel() * dtype.size()];
    tensor.f_copy_data_u8(&mut bytes, tensor.numel())?;
    Ok(Plain { dtype, shape: tensor.size(), bytes })
}

/// Stacks in libtorch where all tensors are there already; `None` leaves plain memory to the caller.
pub(super) fn stack(tensors: &[Tensor]) -> Result<Option<Tensor>> {
    let torch: Vec<&tch::Tensor> = tensors
        .iter()
        .filter_map(|tensor| match &tensor.0 {
            Repr::Torch(tensor) => Some(tensor),
            Repr::Plain(_) => None,
        })
        .collect();
    if torch.len() < tensors.len() {
        return Ok(None);
    }
    Ok(Some(tch::Tensor::f_stack(&torch, 0)?.into()))
}

pub(super) fn unbind(tensor: &tch::Tensor) -> Result<Vec<Tensor>> {
    if tensor.dim() == 0 {
        return Err(Error::new("a single number has no dimension to split"));
    }
    Ok(tensor.f_unbind(0)?.into_iter().map(Tensor::from).collect())
}

fn kind(dtype: DType) -> tch::Kind {
    match dtype {
        DType::Bool => tch::Kind::Bool,
        DType::U8 => tch::Kind::Uint8,
        DType::I8 => tch::Kind::Int8,
        DType::I16 => tch::Kind::Int16,
        DType::I32 => tch::Kind::Int,
        DType::I64 => tch::Kind::Int64,
        DType::F16 => tch::Kind::Half,
        DType::BF16 => tch::Kind::BFloat16,
        DType::F32 => tch::Kind::Float,
        DType::F64 => tch::Kind::Double,
    }
}
