//! What `torch.save` writes around a pickle: a zip since PyTorch 1.6, a row of pickles before.

use std::fs::File;
use std::io::BufReader;
use std::io::Read;
use std::path::Path;

use zip::ZipArchive;
use zip::read::ArchiveOffset;
use zip::read::Config;

use super::Pickle;
use super::read;
use super::read::LIMITS;

/// The largest pickle that is read: ten times that of a vocabulary of a million tokens.
const MOST: u64 = 256 << 20;

/// How the older form begins: a pickle of one number.
const LEGACY_MAGIC: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";
/// What stands between that number and the object: the protocol's version, and the machine's word sizes.
const LEGACY_PREFACE: usize = 2;

/// Reads a file that `torch.save` or `pickle.dump` has written, and shows `look` what it holds.
///
/// An error says what is wrong with the file, without its name.
pub(in crate::text) fn load<T>(path: &Path, look: impl FnOnce(&Pickle<'_>) -> Result<T, String>) -> Result<T, String> {
    let data = pickle_of(path)?;
    let mut rest = &data[..];
    if let Some(after) = rest.strip_prefix(LEGACY_MAGIC) {
        rest = after;
        for _ in 0..LEGACY_PREFACE {
            rest = read::read(rest, LIMITS)?.1;
        }
    }
    let (pickle, _) = read::read(rest, LIMITS)?;
    look(&pickle)
}

/// The bytes of the pickle, or of several.
fn pickle_of(path: &Path) -> Result<Vec<u8>, String> {
    let readable = |error: std::io::Error| format!("it can't be read: {error}");
    let mut file = BufReader::new(File::open(path).map_err(readable)?);
    let mut magic = Vec::new();
    file.by_ref().take(4).read_to_end(&mut magic).map_err(readable)?;
    if magic != b"PK\x03\x04" {
        return up_to_the_most(magic.chain(file));
    }
    let damaged = |error| format!("it is a damaged zip file: {error}");
    // Said to begin where the file begins: looking for its beginning, the crate goes wrong where a record's name has 30 letters, as PyTorch writes the end of a large zip behind small ones, too.
    let config = Config { archive_offset: ArchiveOffset::Known(0) };
    let mut archive = ZipArchive::with_config(config, file).map_err(damaged)?;
    // Every record lies in one folder, named after the file.
    let mut names = archive.file_names().filter_map(Result::ok);
    let name = names.find(|name| name.split_once('/').is_some_and(|(_, record)| record == "data.pkl"));
    let name = name.ok_or("it is a zip file without a data.pkl, so not one that torch.save has written")?.to_string();
    drop(names);
    up_to_the_most(archive.by_name(&name).map_err(damaged)?)
}

fn up_to_the_most(reader: impl Read) -> Result<Vec<u8>, String> {
    let mut data = Vec::new();
    reader.take(MOST + 1).read_to_end(&mut data).map_err(|error| format!("it can't be read: {error}"))?;
    if data.len() as u64 > MOST {
        return Err(format!("it has more than {MOST} bytes, which is no vocabulary's size"));
    }
    Ok(data)
}
