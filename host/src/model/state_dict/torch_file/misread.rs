//! A copy of a model file, where the crate `pytorch-reader` would misread the file itself.
//!
//! Behind a zip's directory PyTorch writes the end of a large zip, and behind that the end of a small one, which
//! is the one that counts. `pytorch-reader` lets the crate `zip` look for the place where the zip begins, and
//! that takes the directory to end where the last end begins. It finds an entry where the directory would then
//! begin if the first entry is as long as the end of a large zip: if the first record's name has 30 letters, as in
//! `model_best_checkpoint.pt`. The whole file is then read 76 bytes off its places.

use std::fs::File;
use std::io;
use std::io::BufReader;
use std::io::Read;
use std::io::Seek;
use std::io::SeekFrom;
use std::io::Write;
use std::path::Path;

use zip::ZipArchive;

/// How the end of a small zip without a remark begins, and how long it is.
const END: (&[u8], u64) = (b"PK\x05\x06", 22);

/// Where the end says how long the directory is, and where it begins.
const DIRECTORY: [usize; 2] = [12, 16];

/// The same zip without the end of a large one, if it is needed: a file without a name, which goes when it is closed.
///
/// It lies beside `path` where that is possible, because a folder for temporary files may be in memory.
pub(super) fn copy_if_misread(path: &Path, mut file: &File) -> io::Result<Option<File>> {
    if ZipArchive::new(BufReader::new(file)).is_ok_and(|archive| archive.offset() == 0) {
        return Ok(None);
    }
    let (magic, length) = END;
    let Some(place) = file.metadata()?.len().checked_sub(length) else { return Ok(None) };
    let mut end = Vec::new();
    file.seek(SeekFrom::Start(place))?;
    file.read_to_end(&mut end)?;
    let numbers = DIRECTORY.map(|at| end.get(at..).and_then(|bytes| bytes.first_chunk().copied()));
    let [Some(size), Some(start)] = numbers.map(|bytes| bytes.map(u32::from_le_bytes)) else { return Ok(None) };
    let directory_end = u64::from(start) + u64::from(size);
    if !end.starts_with(magic) || directory_end > place {
        return Ok(None);
    }
    let beside = path.parent().map(tempfile::tempfile_in);
    let mut copy = beside.unwrap_or_else(tempfile::tempfile).or_else(|_| tempfile::tempfile())?;
    file.rewind()?;
    io::copy(&mut file.take(directory_end), &mut copy)?;
    copy.write_all(&end)?;
    Ok(Some(copy))
}
