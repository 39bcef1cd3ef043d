//! The private copies that are opened in place of the authors' files.
//!
//! A library that is mapped must never change, and the loader takes a path or inode it has seen for the library it has: so every opening gets a new file, under a name that is never used again.

use std::fs;
use std::io;
use std::io::Read;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use super::PluginError;
use crate::ids::Digest;

/// The folder of the copies, removed with all it holds when the last user is gone.
#[derive(Debug, Clone)]
pub struct LibraryStore {
    folder: Arc<tempfile::TempDir>,
    next: Arc<AtomicU64>,
}

/// One copy; the file is removed when this is dropped, unless it is kept.
#[derive(Debug)]
pub struct StagedLibrary {
    path: PathBuf,
    source: PathBuf,
    digest: Digest,
    kept: bool,
    _folder: Arc<tempfile::TempDir>,
}

// === impl LibraryStore ===

impl LibraryStore {
    /// Makes a private folder below `parent`.
    pub fn new(parent: &Path) -> Result<Self, PluginError> {
        let folder = tempfile::Builder::new().prefix("libraries-").tempdir_in(parent);
        let folder = folder.map_err(|source| PluginError::Io {
            what: "make a folder for private copies in",
            path: parent.to_owned(),
            cause: source,
        })?;
        Ok(Self { folder: Arc::new(folder), next: Arc::new(AtomicU64::new(1)) })
    }

    /// Copies a library, and tells its digest, which is that of the copy.
    pub fn stage(&self, source: &Path) -> Result<StagedLibrary, PluginError> {
        let stem = source.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.folder.path().join(format!("{stem}-{}-{number}.so", std::process::id()));
        let digest = copy(source, &path).map_err(|error| PluginError::Io {
            what: "copy",
            path: source.to_owned(),
            cause: error,
        })?;
        Ok(StagedLibrary { path, source: source.to_owned(), digest, kept: false, _folder: Arc::clone(&self.folder) })
    }
}

// === impl StagedLibrary ===

impl StagedLibrary {
    /// The copy.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The author's file.
    pub fn source(&self) -> &Path {
        &self.source
    }

    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Leaves the file in place for as long as there is the folder.
    pub(super) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for StagedLibrary {
    fn drop(&mut self) {
        if !self.kept {
            // A copy that can't be removed goes with the folder.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn copy(source: &Path, target: &Path) -> io::Result<Digest> {
    let mut reader = fs::File::open(source)?;
    // `create_new`: an existing file may be mapped, and must never be written over.
    let mut writer = fs::OpenOptions::new().write(true).create_new(true).open(target)?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = reader.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
        writer.write_all(&buffer[..read])?;
    }
    Ok(Digest(*hasher.finalize().as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_copy_is_a_file_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("libx.so");
        fs::write(&source, "code").unwrap();
        let store = LibraryStore::new(folder.path()).unwrap();
        let (first, second) = (store.stage(&source).unwrap(), store.stage(&source).unwrap());
        assert_ne!(first.path(), second.path());
        assert_eq!(first.digest(), second.digest());
        fs::write(&source, "other code").unwrap();
        assert_eq!(fs::read(first.path()).unwrap(), b"code");
        let path = first.path().to_owned();
        drop(first);
        assert!(!path.exists());
        drop(store);
        assert!(second.path().exists(), "a copy in use keeps its folder");
    }
}
