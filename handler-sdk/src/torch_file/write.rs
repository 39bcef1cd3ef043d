//! The writing: a zip of five records, as small as `torch.load` takes it, with `weights_only` or without.

use std::io::Cursor;
use std::io::Write;

use zip::CompressionMethod;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::read::BYTE_ORDER;
use super::view::STORAGES;
use crate::DType;
use crate::Error;
use crate::Result;
use crate::Tensor;

/// Where a storage begins, so that it can be mapped into memory; torch.save's own choice.
const ALIGNMENT: u16 = 64;

/// Writes a tensor as `torch.save(tensor, file)` does; `torch.load(file)` gives it back, on the CPU.
pub fn save(tensor: &Tensor) -> Result<Vec<u8>> {
    let plain = tensor.to_plain()?;
    let records: [(&str, &[u8]); 5] = [
        ("data.pkl", &pickle(plain.dtype, &plain.shape)?),
        (".format_version", b"1"),
        ("byteorder", BYTE_ORDER.as_bytes()),
        ("data/0", &plain.bytes),
        ("version", b"3\n"),
    ];
    let mut zip = ZipWriter::new(Cursor::new(Vec::with_capacity(plain.bytes.len() + 1024)));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored).with_alignment(ALIGNMENT);
    for (name, bytes) in records {
        zip.start_file(format!("archive/{name}"), options.large_file(u32::try_from(bytes.len()).is_err()))?;
        zip.write_all(bytes)?;
    }
    Ok(zip.finish()?.into_inner())
}

/// What calls PyTorch's function for a tensor: over storage 0, from its first element, contiguous, without gradients.
fn pickle(dtype: DType, shape: &[i64]) -> Result<Vec<u8>> {
    let class = STORAGES.iter().find(|(_, of)| *of == dtype).map(|(class, _)| *class);
    let class = class.ok_or_else(|| Error::new(format!("torch.save has no storage for {dtype:?}")))?;
    let mut strides: Vec<i64> = vec![1; shape.len()];
    for dimension in (1..shape.len()).rev() {
        // As PyTorch counts them where a dimension is empty.
        strides[dimension - 1] = strides[dimension] * shape[dimension].max(1);
    }
    let mut pickle = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(".to_vec();
    pickle.extend(b"(X\x07\0\0\0storage");
    pickle.extend(format!("ctorch\n{class}\n").as_bytes());
    pickle.extend(b"X\x01\0\0\x000X\x03\0\0\0cpu");
    int(&mut pickle, shape.iter().product());
    pickle.extend(b"tQ");
    int(&mut pickle, 0);
    for values in [shape, &strides] {
        pickle.push(b'(');
        values.iter().for_each(|value| int(&mut pickle, *value));
        pickle.push(b't');
    }
    pickle.extend(b"\x89ccollections\nOrderedDict\n)RtR.");
    Ok(pickle)
}

fn int(pickle: &mut Vec<u8>, value: i64) {
    match i32::try_from(value) {
        Ok(value) => {
            pickle.push(b'J');
            pickle.extend(value.to_le_bytes());
        }
        Err(_) => {
            pickle.extend(b"\x8a\x08");
            pickle.extend(value.to_le_bytes());
        }
    }
}
