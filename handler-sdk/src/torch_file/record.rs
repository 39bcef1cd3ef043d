//! The zip: a folder with the pickle, the byte order and one record of numbers for each storage.

use std::io::Cursor;
use std::io::Read;

use zip::CompressionMethod;
use zip::ZipArchive;

use super::unpickle::unpickle;
use crate::Tensor;

/// The order in which this machine has a number's bytes.
pub(super) const BYTE_ORDER: &str = if cfg!(target_endian = "big") { "big" } else { "little" };

/// The largest pickle that is looked at. A tensor's has some 300 bytes.
const PICKLE_LIMIT: u64 = 1 << 16;

/// What begins each file that PyTorch wrote before 1.6, within its first bytes.
const OLD_MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];

type Archive<'a> = ZipArchive<Cursor<&'a [u8]>>;

/// The tensor, or what the bytes are instead.
pub(super) fn load(bytes: &[u8]) -> Result<Tensor, String> {
    if bytes.is_empty() {
        return Err("is empty".to_owned());
    }
    let start = &bytes[..bytes.len().min(32)];
    if start.windows(OLD_MAGIC.len()).any(|window| window == OLD_MAGIC) {
        return Err("was written in the form before PyTorch 1.6, which isn't read".to_owned());
    }
    if !bytes.starts_with(b"PK") {
        return Err(format!("begins with \"{}\", as nothing does that torch.save writes", start.escape_ascii()));
    }
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(|error| damaged(&error))?;
    let folder = folder(&archive)?;
    if archive.index_for_name(&format!("{folder}constants.pkl")).is_some() {
        return Err("is a TorchScript module, not a tensor".to_owned());
    }
    let order = format!("{folder}byteorder");
    if archive.index_for_name(&order).is_some() {
        let order = read(&mut archive, &order, 16)?;
        if order.trim_ascii() != BYTE_ORDER.as_bytes() {
            return Err(format!("was written by a machine whose byte order is {}", order.escape_ascii()));
        }
    }
    let pickle = read(&mut archive, &format!("{folder}data.pkl"), PICKLE_LIMIT)?;
    let view = unpickle(&pickle)?;
    // What is stored can't be longer than the whole file.
    let storage = read(&mut archive, &format!("{folder}data/{}", view.storage()), bytes.len() as u64)?;
    view.tensor(storage)
}

/// The folder in which everything lies, named after the file; with the slash.
fn folder(archive: &Archive<'_>) -> Result<String, String> {
    for name in archive.file_names() {
        let name = name.map_err(|error| damaged(&error))?;
        if let Some(folder) = name.strip_suffix("data.pkl")
            && folder.ends_with('/')
        {
            return Ok(folder.to_owned());
        }
    }
    Err("is a zip file without a data.pkl".to_owned())
}

fn read(archive: &mut Archive<'_>, name: &str, limit: u64) -> Result<Vec<u8>, String> {
    let missing = |error| format!("is a zip file whose record {name:?} can't be read: {error}");
    let mut record = archive.by_name(name).map_err(missing)?;
    if record.compression() != CompressionMethod::Stored {
        return Err(format!("is a zip file whose record {name:?} is compressed, which torch.save never does"));
    }
    let size = record.size();
    if size > limit {
        return Err(format!("is a zip file whose record {name:?} claims {size} bytes, and {limit} are the most"));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
    record.by_ref().take(limit).read_to_end(&mut bytes).map_err(|error| missing(error.into()))?;
    Ok(bytes)
}

fn damaged(error: &zip::result::ZipError) -> String {
    format!("begins as a zip file, but is damaged or cut off: {error}")
}
