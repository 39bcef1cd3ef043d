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
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use rustix::fs::StatVfsMountFlags;

use super::PluginError;
use super::mapping;
use crate::ids::Digest;

/// The folder of the copies, removed with all it holds when the last user is gone.
#[derive(Debug, Clone)]
pub struct LibraryStore {
    /// Its path has no links, as the kernel lists it.
    folder: Arc<tempfile::TempDir>,
    next: Arc<AtomicU64>,
}

/// One copy; the file is removed when this is dropped, unless it may still be mapped.
#[derive(Debug)]
pub struct StagedLibrary {
    path: PathBuf,
    source: PathBuf,
    digest: Digest,
    /// Whether it was opened, and not proven gone since.
    opened: AtomicBool,
    store: LibraryStore,
}

// === impl LibraryStore ===

impl LibraryStore {
    /// Makes a private folder below `parent`.
    pub fn new(parent: &Path) -> Result<Self, PluginError> {
        let fail =
            |cause| PluginError::Io { what: "make a folder for private copies in", path: parent.to_owned(), cause };
        let place = parent.canonicalize().map_err(fail)?;
        let folder = tempfile::Builder::new().prefix("libraries-").tempdir_in(place).map_err(fail)?;
        if !allows_execution(folder.path()).map_err(fail)? {
            return Err(PluginError::NoExecution { path: parent.to_owned() });
        }
        Ok(Self { folder: Arc::new(folder), next: Arc::new(AtomicU64::new(1)) })
    }

    /// Copies a library, and tells its digest, which is that of the copy.
    pub fn stage(&self, source: &Path) -> Result<StagedLibrary, PluginError> {
        self.copy(source, source)
    }

    /// Copies a copy: the same bytes of the same author's file, to be opened once more.
    pub fn stage_again(&self, staged: &StagedLibrary) -> Result<StagedLibrary, PluginError> {
        self.copy(&staged.path, &staged.source)
    }

    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The name tells people what the file is, and the number makes it one that was never used.
    fn copy(&self, from: &Path, source: &Path) -> Result<StagedLibrary, PluginError> {
        let fail = |cause| PluginError::Io { what: "copy", path: from.to_owned(), cause };
        let stem = source.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let id = std::process::id();
        // The digest is known when all is written.
        let part = self.folder().join(format!("{stem}-{id}-{number}.part"));
        let digest = copy(from, &part).map_err(fail)?;
        let path = self.folder().join(format!("{stem}-{}-{id}-{number}.so", digest.short()));
        fs::rename(&part, &path).map_err(fail)?;
        let source = source.to_owned();
        Ok(StagedLibrary { path, source, digest, opened: AtomicBool::new(false), store: self.clone() })
    }
}

/// Whether code of files in this folder may be mapped.
fn allows_execution(folder: &Path) -> io::Result<bool> {
    Ok(!rustix::fs::statvfs(folder)?.f_flag.contains(StatVfsMountFlags::NOEXEC))
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

    /// A copy of the copy, in the same folder.
    pub(super) fn again(&self) -> Result<Self, PluginError> {
        self.store.stage_again(self)
    }

    /// The bytes of it that are mapped now, as far as /proc tells.
    pub fn mapped(&self) -> u64 {
        mapping::bytes(&self.path).unwrap_or_default()
    }

    /// From now on the file stays: debuggers read it, and its inode must not be given to another library.
    ///
    /// Returns whether it was opened before.
    pub(super) fn set_opened(&self) -> bool {
        self.opened.swap(true, Ordering::Relaxed)
    }

    /// Nothing of it is mapped any more.
    pub(super) fn set_gone(&self) {
        self.opened.store(false, Ordering::Relaxed);
    }
}

impl Drop for StagedLibrary {
    fn drop(&mut self) {
        if !*self.opened.get_mut() {
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

    #[test]
    fn a_copy_of_a_copy_needs_no_source() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("libx.so");
        fs::write(&source, "code").unwrap();
        let store = LibraryStore::new(folder.path()).unwrap();
        let first = store.stage(&source).unwrap();
        fs::write(&source, "other code").unwrap();
        let again = store.stage_again(&first).unwrap();
        assert_ne!(again.path(), first.path());
        assert_eq!((again.digest(), again.source()), (first.digest(), first.source()));
        drop(first);
        assert_eq!(fs::read(again.path()).unwrap(), b"code");
        let name = again.path().file_name().unwrap().to_str().unwrap();
        assert_eq!(name, format!("libx-{}-{}-2.so", again.digest().short(), std::process::id()));
        assert_eq!(fs::read_dir(again.path().parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_copy_that_is_mapped_keeps_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("libx.so");
        fs::write(&source, "code").unwrap();
        let store = LibraryStore::new(folder.path()).unwrap();
        let (kept, gone) = (store.stage(&source).unwrap(), store.stage(&source).unwrap());
        let paths = [kept.path().to_owned(), gone.path().to_owned()];
        assert!(!kept.set_opened() && !gone.set_opened());
        assert!(gone.set_opened(), "a copy is opened once");
        gone.set_gone();
        drop((kept, gone));
        assert_eq!(paths.map(|path| path.exists()), [true, false]);
    }

    #[test]
    fn a_folder_without_execution_is_told() {
        let folder = tempfile::tempdir().unwrap();
        assert!(allows_execution(folder.path()).unwrap());
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        for place in ["/", "/proc", "/sys", "/dev", "/dev/shm", "/run"] {
            // The last one lies on top.
            let mount = mounts.lines().rfind(|line| line.split(' ').nth(1) == Some(place));
            if let Some(options) = mount.and_then(|line| line.split(' ').nth(3)) {
                let noexec = options.split(',').any(|option| option == "noexec");
                assert_eq!(allows_execution(Path::new(place)).unwrap(), !noexec, "{place}: {options}");
            }
        }
        let text = PluginError::NoExecution { path: "/tmp".into() }.to_string();
        assert!(text.contains("--work-dir"), "{text}");
    }
}
