//! Safetensors files. Only the header is read through the crate, whose readers of tensors want the whole file in memory.

use std::fs::File;
use std::io::Read;
use std::sync::Arc;

use handler_sdk::DType;
use safetensors::Dtype;
use safetensors::tensor::Metadata;

use super::NamedTensor;
use super::StateDictError;
use super::tensors::Place;
use super::tensors::shape_of;

/// The format's own limit.
const HEADER_LIMIT: u64 = 100_000_000;

pub(super) fn read(mut file: File) -> Result<Vec<NamedTensor>, StateDictError> {
    let file_length = file.metadata()?.len();
    let mut length = [0; 8];
    if file_length < 8 {
        return Err(StateDictError::damaged("it is too short for a safetensors file"));
    }
    file.read_exact(&mut length)?;
    let header_length = u64::from_le_bytes(length);
    if header_length > HEADER_LIMIT || header_length > file_length - 8 {
        return Err(StateDictError::damaged(&format!("its safetensors header claims {header_length} bytes")));
    }
    let mut header = Vec::new();
    (&file).take(header_length).read_to_end(&mut header)?;
    let header: Metadata = serde_json::from_slice(&header).map_err(|error| StateDictError::damaged(&error))?;
    // The crate has checked that the tensors follow each other without gaps, and that each has its shape's size.
    let data = 8 + header_length;
    if header.data_len() as u64 != file_length - data {
        return Err(StateDictError::damaged(&format!(
            "its safetensors header claims {} bytes of tensors, and there are {}",
            header.data_len(),
            file_length - data
        )));
    }
    let file = Arc::new(file);
    let mut tensors: Vec<NamedTensor> = Vec::new();
    for (name, info) in header.tensors() {
        let (start, end) = info.data_offsets;
        let Some(dtype) = dtype_of(info.dtype) else {
            return Err(StateDictError::ElementType { entry: name, dtype: format!("{:?}", info.dtype) });
        };
        let place = Place::Range { file: Arc::clone(&file), start: data + start as u64, length: end - start };
        tensors.push(NamedTensor { shape: shape_of(&name, &info.shape)?, name, dtype, place });
    }
    if tensors.is_empty() {
        return Err(StateDictError::NoTensors { entries: "none".to_owned() });
    }
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(tensors)
}

fn dtype_of(dtype: Dtype) -> Option<DType> {
    Some(match dtype {
        Dtype::BOOL => DType::Bool,
        Dtype::U8 => DType::U8,
        Dtype::I8 => DType::I8,
        Dtype::I16 => DType::I16,
        Dtype::I32 => DType::I32,
        Dtype::I64 => DType::I64,
        Dtype::F16 => DType::F16,
        Dtype::BF16 => DType::BF16,
        Dtype::F32 => DType::F32,
        Dtype::F64 => DType::F64,
        _ => return None,
    })
}
