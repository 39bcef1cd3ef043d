//! What lies in the model store and in the plugins path.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;

use super::file_system::anyone_may_write;
use super::plan::Expected;
use super::scope::Depth;
use super::scope::Place;
use crate::archive::ArchiveError;
use crate::archive::LoadModels;
use crate::archive::Store;
use crate::archive::files_of;
use crate::config::ServerConfig;
use crate::ids::Digest;

/// Where archives and libraries are looked for.
#[derive(Debug, Clone, Default)]
pub struct Places {
    pub store: Option<Store>,
    /// Folders and single files, as configured.
    pub plugins: Vec<PathBuf>,
    /// The archives that are served without being asked for.
    pub load: Option<LoadModels>,
}

/// What lay there at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    pub(super) archives: BTreeMap<PathBuf, Mark>,
    pub(super) libraries: BTreeMap<PathBuf, Mark>,
    /// What lies there too, and is being written, or can't be read just now.
    pub(super) unsettled: BTreeSet<PathBuf>,
}

/// What a file or a folder is known by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) stamps: Vec<Stamp>,
    /// `None` where nobody needed it, so that the bytes weren't read.
    pub(super) digest: Option<Digest>,
}

/// The metadata that changes when a file's bytes do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stamp {
    /// Within a folder; empty for a single file.
    pub(super) name: String,
    device: u64,
    inode: u64,
    pub(super) size: u64,
    modified: (i64, i64),
    /// When the metadata changed last: no program can set it back.
    pub(super) changed: (i64, i64),
}

/// An archive or a library, which is taken as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) path: PathBuf,
    pub(super) kind: ItemKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ItemKind {
    Archive,
    Library,
}

/// A file of an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ItemFile {
    pub(super) path: PathBuf,
    pub(super) stamp: Stamp,
}

// === impl Places ===

impl Places {
    pub fn of(config: &ServerConfig) -> Result<Self, ArchiveError> {
        Ok(Self {
            store: config.model_store.as_ref().map(Store::new),
            plugins: config.plugins_path.clone(),
            load: LoadModels::parse(&config.load_models)?,
        })
    }

    /// What must be watched to notice every change.
    pub(super) fn watched(&self) -> Vec<Place> {
        let store = self.open_store().map(|store| store.folder().to_owned());
        let plugins = self.plugins.iter().filter(|path| !is_refused(path)).cloned();
        let folders = store.into_iter().chain(plugins).map(|path| Place { path, depth: Depth::Entries });
        let packages = self.archives().into_iter().filter(|path| path.is_dir());
        folders.chain(packages.map(|path| Place { path, depth: Depth::Tree })).collect()
    }

    /// The folders from which nothing is taken, because any user of the machine could put code there.
    pub(super) fn refused(&self) -> Vec<PathBuf> {
        let store = self.store.iter().map(|store| store.folder().to_owned());
        let packages = self.candidates().into_iter().filter(|path| path.is_dir());
        let libraries = self.plugins.iter().filter(|path| !is_refused(path)).flat_map(|path| libraries_at(path));
        let places = store.chain(packages).chain(self.plugins.iter().cloned()).chain(libraries);
        places.filter(|path| is_refused(path)).collect()
    }

    pub(super) fn items(&self) -> Vec<Item> {
        let archives = self.archives().into_iter().map(|path| Item { path, kind: ItemKind::Archive });
        let plugins = self.plugins.iter().filter(|path| !is_refused(path));
        // A file may be in two places of the path.
        let libraries: BTreeSet<_> =
            plugins.flat_map(|path| libraries_at(path)).filter(|library| !is_refused(library)).collect();
        archives.chain(libraries.into_iter().map(|path| Item { path, kind: ItemKind::Library })).collect()
    }

    /// The archives that are to be served even if nobody asks for them, as far as they lie there.
    pub(super) fn expected(&self) -> Vec<Expected> {
        match (&self.load, self.open_store()) {
            (Some(LoadModels::All), Some(_)) => self
                .archives()
                .into_iter()
                .map(|archive| {
                    let url = archive.file_name().unwrap_or_default().to_string_lossy().into_owned();
                    Expected { archive, name: None, url }
                })
                .collect(),
            (Some(LoadModels::Listed(models)), Some(store)) => models
                .iter()
                .filter_map(|model| {
                    let archive = store.resolve(&model.url).ok().filter(|archive| !is_refused(archive))?;
                    Some(Expected { archive, name: model.name.clone(), url: model.url.clone() })
                })
                .collect(),
            _ => Vec::new(),
        }
    }

    /// Candidates of the store and those listed by name, which may have other endings.
    fn archives(&self) -> BTreeSet<PathBuf> {
        let candidates = self.candidates().into_iter().filter(|path| self.open_store().is_some() && !is_refused(path));
        let mut archives: BTreeSet<_> = candidates.collect();
        if matches!(self.load, Some(LoadModels::Listed(_))) {
            archives.extend(self.expected().into_iter().map(|expected| expected.archive));
        }
        archives
    }

    fn candidates(&self) -> Vec<PathBuf> {
        // A store that isn't there yet, or can't be read just now, has none.
        self.store.as_ref().and_then(|store| store.candidates().ok()).unwrap_or_default()
    }

    fn open_store(&self) -> Option<&Store> {
        self.store.as_ref().filter(|store| !anyone_may_write(store.folder()))
    }
}

// === impl Listing ===

impl Listing {
    /// Looks at everything once, without reading a byte: to be taken before the models are loaded, so that what changes meanwhile is noticed later.
    pub fn take(places: &Places) -> Self {
        let mut listing = Self::default();
        for item in places.items() {
            let Ok(files) = item.files() else { continue };
            listing.insert(item, Mark { stamps: files.into_iter().map(|file| file.stamp).collect(), digest: None });
        }
        listing
    }

    pub(super) fn insert(&mut self, item: Item, mark: Mark) {
        match item.kind {
            ItemKind::Archive => self.archives.insert(item.path, mark),
            ItemKind::Library => self.libraries.insert(item.path, mark),
        };
    }

    /// Takes in what was seen later. What is gone is kept in mind, so that the same bytes change nothing when they come back.
    pub(super) fn remember(&mut self, later: Self) {
        self.archives.extend(later.archives);
        self.libraries.extend(later.libraries);
    }
}

// === impl Mark ===

impl Mark {
    /// Whether it marks the same bytes, as far as can be told: where one digest is missing, touching a file makes it another.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        match (self.digest, other.digest) {
            (Some(one), Some(other)) => one == other,
            _ => self.stamps == other.stamps,
        }
    }
}

// === impl Stamp ===

impl Stamp {
    fn new(name: String, metadata: &Metadata) -> Self {
        Self {
            name,
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

// === impl Item ===

impl Item {
    /// Its files as they are now; an error where one can't be looked at.
    pub(super) fn files(&self) -> io::Result<Vec<ItemFile>> {
        let file = |name: String, path: PathBuf| {
            let stamp = Stamp::new(name, &fs::metadata(&path)?);
            Ok(ItemFile { path, stamp })
        };
        if !self.path.is_dir() {
            return Ok(vec![file(String::new(), self.path.clone())?]);
        }
        let files = files_of(&self.path).map_err(io::Error::other)?;
        files.into_iter().map(|found| file(found.name, found.path)).collect()
    }
}

/// Whether a folder, or the folder of a file, is open to anyone.
fn is_refused(path: &Path) -> bool {
    if path.is_dir() {
        return anyone_may_write(path);
    }
    // Where it really lies, whatever links lead there.
    let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    [path.parent(), real.parent(), Some(&real)].into_iter().flatten().any(anyone_may_write)
}

/// The `.so` files of a folder, or the one file that a path names.
fn libraries_at(place: &Path) -> Vec<PathBuf> {
    if place.is_file() {
        return vec![place.to_owned()];
    }
    let paths = fs::read_dir(place).into_iter().flatten().flatten().map(|entry| entry.path());
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "so") && path.is_file()).collect()
}

#[cfg(test)]
impl Mark {
    /// One whose bytes are told apart by a number.
    pub(super) fn of_bytes(number: u8) -> Self {
        Self { stamps: Vec::new(), digest: Some(Digest([number; 32])) }
    }
}
