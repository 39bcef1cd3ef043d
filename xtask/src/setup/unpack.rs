//! An opened wheel: its files come out whole and checked, or not at all.

use std::fmt;
use std::fs::{self, File};
use std::io::{BufReader, Read, Write};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};
use zip::ZipArchive;

use super::record::Record;
use crate::progress::Progress;

const CHUNK: usize = 1 << 18;

/// A wheel and its list of files.
#[derive(Debug)]
pub(crate) struct OpenWheel {
    path: PathBuf,
    archive: ZipArchive<BufReader<File>>,
    record: Record,
}

/// A wheel whose content isn't what its RECORD says.
#[derive(Debug)]
pub(crate) struct Damaged {
    pub(crate) wheel: PathBuf,
    why: String,
}

// === impl OpenWheel ===

impl OpenWheel {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("{} is gone", path.display()))?;
        let damaged = |why: String| Damaged { wheel: path.to_owned(), why };
        let mut archive =
            ZipArchive::new(BufReader::with_capacity(CHUNK, file)).map_err(|error| damaged(error.to_string()))?;
        let list = names(&archive)
            .into_iter()
            .find(|name| name.ends_with(".dist-info/RECORD"))
            .ok_or_else(|| damaged("it has no RECORD".into()))?;
        let mut text = String::new();
        archive
            .by_name(&list)
            .map_err(|error| damaged(error.to_string()))?
            .read_to_string(&mut text)
            .map_err(|error| damaged(error.to_string()))?;
        let record = Record::parse(&text).map_err(|error| damaged(format!("{error:#}")))?;
        Ok(Self { path: path.to_owned(), archive, record })
    }

    /// Where the wheel keeps a library, if it has it.
    pub(crate) fn library(&self, name: &str) -> Option<String> {
        names(&self.archive).into_iter().find(|path| is_library(path, name))
    }

    /// Every file below a folder of the wheel, and its path below that folder.
    pub(crate) fn below(&self, folder: &str) -> Vec<(String, PathBuf)> {
        names(&self.archive)
            .into_iter()
            .filter_map(|name| {
                let rest = PathBuf::from(name.strip_prefix(folder)?);
                let inside = rest.components().all(|part| matches!(part, Component::Normal(_)));
                (inside && !name.ends_with('/')).then_some((name, rest))
            })
            .collect()
    }

    /// The size a file will have.
    pub(crate) fn size(&self, name: &str) -> u64 {
        self.record.get(name).map_or(0, |entry| entry.size)
    }

    /// Writes one file, and checks size and digest on the way.
    pub(crate) fn extract(&mut self, name: &str, to: &Path, progress: &mut Progress) -> Result<()> {
        let damaged = |why: String| Damaged { wheel: self.path.clone(), why: format!("{name}: {why}") };
        let expected = self.record.get(name).ok_or_else(|| damaged("it isn't in RECORD".into()))?;
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent).with_context(|| format!("{} can't be made", parent.display()))?;
        }
        let mut file = File::create(to).with_context(|| format!("{} can't be written", to.display()))?;
        let mut entry = self.archive.by_name(name).map_err(|error| damaged(error.to_string()))?;
        let mut digest = Sha256::new();
        let mut size = 0;
        let mut chunk = vec![0; CHUNK];
        loop {
            let read = entry.read(&mut chunk).map_err(|error| damaged(error.to_string()))?;
            let Some(bytes) = chunk.get(..read).filter(|bytes| !bytes.is_empty()) else {
                break;
            };
            digest.update(bytes);
            file.write_all(bytes).with_context(|| format!("{} can't be written", to.display()))?;
            size += read as u64;
            progress.add(read as u64);
        }
        if size != expected.size || digest.finalize()[..] != expected.sha256[..] {
            return Err(damaged("its content isn't what RECORD says".into()).into());
        }
        Ok(())
    }
}

// === impl Damaged ===

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is damaged ({})", self.wheel.display(), self.why)
    }
}

impl std::error::Error for Damaged {}

fn names(archive: &ZipArchive<BufReader<File>>) -> Vec<String> {
    archive.file_names().flatten().map(|name| name.into_owned()).collect()
}

/// Wheels keep libraries in `…/lib/`, and those that were added after the build in `….libs/`.
fn is_library(path: &str, name: &str) -> bool {
    path.strip_suffix(name).is_some_and(|folder| folder.ends_with("/lib/") || folder.ends_with(".libs/"))
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use zip::write::SimpleFileOptions;

    use super::*;

    const LIBRARY: &str = "torch/lib/libc10.so";
    const HEADER: &str = "torch/include/c10/macros.h";

    /// A wheel of two files, whose RECORD says this about the library.
    fn wheel(folder: &Path, recorded: &[u8]) -> PathBuf {
        let path = folder.join("torch.whl");
        let mut zip = zip::ZipWriter::new(File::create(&path).unwrap());
        let mut record = String::new();
        for (name, content, recorded) in [(LIBRARY, &b"code"[..], recorded), (HEADER, b"macros", b"macros")] {
            zip.start_file(name, SimpleFileOptions::default()).unwrap();
            zip.write_all(content).unwrap();
            let digest = URL_SAFE_NO_PAD.encode(Sha256::digest(recorded));
            record += &format!("{name},sha256={digest},{}\n", recorded.len());
        }
        zip.start_file("torch-2.dist-info/RECORD", SimpleFileOptions::default()).unwrap();
        zip.write_all(record.as_bytes()).unwrap();
        zip.finish().unwrap();
        path
    }

    #[test]
    fn files_come_out_as_they_went_in() {
        let folder = tempfile::tempdir().unwrap();
        let mut wheel = OpenWheel::open(&wheel(folder.path(), b"code")).unwrap();
        assert_eq!(wheel.library("libc10.so").unwrap(), LIBRARY);
        assert_eq!(wheel.library("c10.so"), None);
        assert_eq!(wheel.below("torch/include/"), [(HEADER.to_owned(), PathBuf::from("c10/macros.h"))]);
        let to = folder.path().join("deep/libc10.so");
        let mut progress = Progress::start("test", Some(wheel.size(LIBRARY)));
        wheel.extract(LIBRARY, &to, &mut progress).unwrap();
        assert_eq!(fs::read(to).unwrap(), b"code");
    }

    #[test]
    fn another_content_than_recorded_is_damage() {
        for recorded in [&b"cope"[..], b"longer than code"] {
            let folder = tempfile::tempdir().unwrap();
            let mut wheel = OpenWheel::open(&wheel(folder.path(), recorded)).unwrap();
            let mut progress = Progress::start("test", None);
            let error = wheel.extract(LIBRARY, &folder.path().join("x"), &mut progress).unwrap_err();
            assert!(error.downcast_ref::<Damaged>().is_some(), "{error:#}");
        }
    }

    #[test]
    fn half_a_wheel_is_damage() {
        let folder = tempfile::tempdir().unwrap();
        let path = wheel(folder.path(), b"code");
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        let error = OpenWheel::open(&path).unwrap_err();
        assert!(error.downcast_ref::<Damaged>().is_some(), "{error:#}");
    }

    #[test]
    fn libraries_lie_in_lib_or_beside_the_package() {
        for (path, found) in [
            ("torch/lib/libgomp.so.1", true),
            ("torch.libs/libgomp.so.1", true),
            ("nvidia/cu13/lib/libgomp.so.1", true),
            ("torch/include/libgomp.so.1", false),
            ("torch/lib/xlibgomp.so.1", false),
        ] {
            assert_eq!(is_library(path, "libgomp.so.1"), found, "{path}");
        }
    }
}
