//! Unpacks an archive into a folder without trusting a word of it.
//!
//! Sizes are counted as the bytes arrive; what headers claim only ever
//! shortens the way to a refusal. Nothing but plain files and folders is made.

use std::cell::Cell;
use std::fs::File;
use std::io;
use std::io::BufReader;
use std::io::Read;
use std::path::Path;
use std::rc::Rc;

use flate2::bufread::MultiGzDecoder;
use tar::EntryType;
use zip::CompressionMethod;
use zip::ZipArchive;

use crate::archive::error::ArchiveError;
use crate::archive::error::MemberProblem;
use crate::archive::members;
use crate::archive::members::Member;
use crate::archive::sink::CHUNK;
use crate::archive::sink::Limits;
use crate::archive::sink::Sink;

/// What the first bytes of a file say it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Zip,
    GzippedTar,
}

/// The bytes that headers of a tar may take between two files.
const TAR_HEADERS: u64 = 4 << 20;

/// The folder whose presence at the top means that there is no leading folder to strip.
const MANIFEST_FOLDER: &str = "MAR-INF";

/// Tells by content, not by name: TorchServe unpacks only `.mar` as zip, so `.model`
/// files of either form exist.
pub(super) fn form_of(archive: &Path) -> Result<Form, ArchiveError> {
    let mut magic = Vec::new();
    File::open(archive).and_then(|file| file.take(4).read_to_end(&mut magic)).map_err(|source| ArchiveError::Io {
        doing: "read",
        path: archive.to_owned(),
        cause: source,
    })?;
    match magic.as_slice() {
        // The second is a zip without members.
        [b'P', b'K', 3, 4] | [b'P', b'K', 5, 6] => Ok(Form::Zip),
        [0x1f, 0x8b, ..] => Ok(Form::GzippedTar),
        _ => Err(ArchiveError::NotAnArchive { path: archive.to_owned() }),
    }
}

/// Unpacks a zip into `folder`, which must be empty.
pub(super) fn unpack_zip(archive: &Path, folder: &Path, limits: &Limits) -> Result<Vec<Member>, ArchiveError> {
    let mut sink = Sink::new(archive, folder, limits);
    let file = File::open(archive).map_err(|source| sink.io("read", archive, source))?;
    let mut zip = ZipArchive::new(BufReader::with_capacity(CHUNK, file)).map_err(|e| sink.broken(zip_detail(&e)))?;
    if zip.len() > limits.members {
        return Err(sink.too_many());
    }
    if zip.has_duplicate_names() {
        return Err(sink.broken("a name is there twice".to_owned()));
    }
    if zip.has_overlapping_entries().map_err(|e| sink.broken(zip_detail(&e)))? {
        return Err(sink.broken("members overlap, as in zip bombs".to_owned()));
    }
    for index in 0..zip.len() {
        let entry = zip.by_index_raw(index).map_err(|e| sink.broken(zip_detail(&e)))?;
        let name = match entry.name() {
            Ok(name) => name.into_owned(),
            Err(_) => {
                let lossy = String::from_utf8_lossy(entry.name_raw()).into_owned();
                return Err(sink.refused(&lossy, MemberProblem::NotUtf8));
            }
        };
        let kind = entry.unix_mode().unwrap_or(0) & 0o170_000;
        let problem = if entry.encrypted() {
            Some(MemberProblem::Encrypted)
        } else if entry.is_symlink() {
            Some(MemberProblem::Link)
        } else if !matches!(kind, 0 | 0o100_000 | 0o040_000) {
            Some(MemberProblem::Special)
        } else if !matches!(entry.compression(), CompressionMethod::Stored | CompressionMethod::Deflated) {
            Some(MemberProblem::UnknownCompression)
        } else {
            None
        };
        if let Some(problem) = problem {
            return Err(sink.refused(&name, problem));
        }
        if entry.is_dir() {
            sink.folder(&name)?;
            continue;
        }
        let packed = entry.compressed_size();
        drop(entry);
        let mut entry = zip.by_index(index).map_err(|e| {
            let detail = zip_detail(&e);
            sink.refused(&name, MemberProblem::Broken { detail })
        })?;
        sink.file(&name, &mut entry, &|unpacked, _| limits.is_bomb(unpacked, packed))?;
    }
    Ok(sink.finish())
}

/// Copies the files of `original` into `folder`, which must be empty.
pub(super) fn copy_folder(
    archive: &Path,
    original: &Path,
    folder: &Path,
    limits: &Limits,
) -> Result<Vec<Member>, ArchiveError> {
    let mut sink = Sink::new(archive, folder, limits);
    for found in members::walk(original)? {
        let mut file = File::open(&found.path).map_err(|e| sink.io("read", &found.path, e))?;
        sink.file(&found.name, &mut file, &|_, _| false)?;
    }
    Ok(sink.finish())
}

/// Unpacks a gzipped tar into `folder`, which must be empty. Returns the leading
/// folder too, if every member lies in the same one: TorchServe strips the first
/// part of every name, whether or not it is the same, and so breaks a tar without one.
pub(super) fn unpack_tar_gz(
    archive: &Path,
    folder: &Path,
    limits: &Limits,
) -> Result<(Vec<Member>, Option<String>), ArchiveError> {
    let mut sink = Sink::new(archive, folder, limits);
    let file = File::open(archive).map_err(|source| sink.io("read", archive, source))?;
    let packed = Rc::new(Cell::new(0));
    let counted = Counted { inner: file, count: Rc::clone(&packed) };
    let allowance = Rc::new(Cell::new(TAR_HEADERS));
    let mut tar = tar::Archive::new(Allowed {
        inner: MultiGzDecoder::new(BufReader::with_capacity(CHUNK, counted)),
        left: Rc::clone(&allowance),
    });
    let mut entries = tar.entries().map_err(|e| sink.broken(e.to_string()))?;
    loop {
        allowance.set(TAR_HEADERS);
        let Some(entry) = entries.next() else { break };
        let mut entry = entry.map_err(|e| sink.broken(e.to_string()))?;
        let raw = entry.path_bytes().into_owned();
        let Ok(name) = String::from_utf8(raw) else {
            let lossy = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            return Err(sink.refused(&lossy, MemberProblem::NotUtf8));
        };
        match entry.header().entry_type() {
            EntryType::Directory => sink.folder(&name)?,
            EntryType::Regular | EntryType::Continuous => {
                allowance.set(u64::MAX);
                let is_bomb = |_, total| limits.is_bomb(total, packed.get());
                sink.file(&name, &mut entry, &is_bomb)?;
            }
            // What git and others put first: remarks on the archive, not a member.
            EntryType::XGlobalHeader => {}
            EntryType::Symlink | EntryType::Link => {
                return Err(sink.refused(&name, MemberProblem::Link));
            }
            EntryType::GNUSparse => return Err(sink.refused(&name, MemberProblem::Sparse)),
            _ => return Err(sink.refused(&name, MemberProblem::Special)),
        }
    }
    // A tar ends before its gzip does; only the rest tells whether the file is whole.
    allowance.set(TAR_HEADERS);
    io::copy(&mut tar.into_inner(), &mut io::sink()).map_err(|e| sink.broken(e.to_string()))?;
    let mut members = sink.finish();
    let leading = leading_folder(&members);
    if let Some(leading) = &leading {
        for member in &mut members {
            member.name.drain(..=leading.len());
        }
    }
    Ok((members, leading))
}

/// Counts what is read through it.
struct Counted<R> {
    inner: R,
    count: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.count.set(self.count.get() + read as u64);
        Ok(read)
    }
}

/// Lets only so much through: the tar crate reads long names into memory, whatever their length.
struct Allowed<R> {
    inner: R,
    left: Rc<Cell<u64>>,
}

impl<R: Read> Read for Allowed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        match self.left.get().checked_sub(read as u64) {
            Some(left) => self.left.set(left),
            None => return Err(io::Error::other("its headers are too large")),
        }
        Ok(read)
    }
}

fn leading_folder(members: &[Member]) -> Option<String> {
    let (first, _) = members.first()?.name.split_once('/')?;
    let shared = members.iter().all(|m| m.name.split_once('/').is_some_and(|(top, _)| top == first));
    (shared && first != MANIFEST_FOLDER).then(|| first.to_owned())
}

/// The crate's messages start with what we have already said.
fn zip_detail(error: &zip::result::ZipError) -> String {
    match error {
        zip::result::ZipError::InvalidArchive(detail) => detail.to_string(),
        other => other.to_string(),
    }
}
