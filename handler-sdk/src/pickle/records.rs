//! What `torch.save` writes around a pickle: a zip since PyTorch 1.6, with a folder of records, none of them compressed.

use std::io::Read;
use std::io::Seek;

use zip::CompressionMethod;
use zip::ZipArchive;
use zip::read::ArchiveOffset;
use zip::read::Config;
use zip::result::ZipError;

/// The records of a zip file. Errors go on behind the file's name, or behind "it".
pub(crate) struct Records<R> {
    archive: ZipArchive<R>,
    /// Where all of them lie, named after the file; with the slash.
    folder: String,
}

/// The record with the object that was saved.
const PICKLE: &str = "data.pkl";

/// How each file begins that PyTorch wrote before 1.6, behind the pickle's own first bytes: with the number 0x1950a86a20f9469cfc6c.
const OLD_MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
const OLD_MAGIC_WITHIN: usize = 32;

/// Whether a file is a zip, by its first bytes.
pub(crate) fn is_zip(start: &[u8]) -> bool {
    start.starts_with(b"PK")
}

/// Whether a file has the form before PyTorch 1.6, by its first bytes: a row of pickles, whose first three say how it was written.
pub(crate) fn is_before_zip(start: &[u8]) -> bool {
    let start = &start[..start.len().min(OLD_MAGIC_WITHIN)];
    start.windows(OLD_MAGIC.len()).any(|window| window == OLD_MAGIC)
}

// === impl Records ===

impl<R: Read + Seek> Records<R> {
    pub(crate) fn open(reader: R) -> Result<Self, String> {
        // Said to begin where the file begins: looking for the beginning, the crate goes wrong where the first record's name has 30 letters, because PyTorch writes the end of a large zip behind small ones, too.
        let config = Config { archive_offset: ArchiveOffset::Known(0) };
        let archive = ZipArchive::with_config(config, reader).map_err(|error| damaged(&error))?;
        let mut folder = None;
        for name in archive.file_names() {
            let name = name.map_err(|error| damaged(&error))?;
            folder = name
                .strip_suffix(PICKLE)
                .filter(|folder| folder.find('/') == folder.len().checked_sub(1))
                .map(str::to_owned);
            if folder.is_some() {
                break;
            }
        }
        let folder = folder.ok_or("is a zip file without a data.pkl, so not one that torch.save has written")?;
        Ok(Self { archive, folder })
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.archive.index_for_name(&self.path(name)).is_some()
    }

    /// The pickle, of at most `limit` bytes.
    pub(crate) fn pickle(&mut self, limit: u64) -> Result<Vec<u8>, String> {
        self.read(PICKLE, limit)
    }

    /// A record of at most `limit` bytes.
    pub(crate) fn read(&mut self, name: &str, limit: u64) -> Result<Vec<u8>, String> {
        let name = self.path(name);
        let missing = |error| format!("is a zip file whose record {name:?} can't be read: {error}");
        let mut record = self.archive.by_name(&name).map_err(missing)?;
        if record.compression() != CompressionMethod::Stored {
            return Err(format!("is a zip file whose record {name:?} is compressed, which torch.save never does"));
        }
        let size = record.size();
        if size > limit {
            return Err(format!("is a zip file whose record {name:?} claims {size} bytes, and {limit} are the most"));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
        // Beyond what it claims, so that the crate sees the end and compares the checksum.
        record.by_ref().take(size + 1).read_to_end(&mut bytes).map_err(|error| missing(error.into()))?;
        if bytes.len() as u64 != size {
            return Err(format!("is a zip file whose record {name:?} claims {size} bytes, and has others"));
        }
        Ok(bytes)
    }

    fn path(&self, name: &str) -> String {
        format!("{}{name}", self.folder)
    }
}

fn damaged(error: &ZipError) -> String {
    format!("begins as a zip file, but is damaged or cut off: {error}")
}
