//! What the watched files are like, so that a change can be told from a hint.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::time::SystemTime;

use crate::reload::Depth;
use crate::reload::Place;

/// The files of some places, each with what changes when it is written; cargo goes by the same.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Snapshot(BTreeMap<PathBuf, Stamp>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    size: u64,
    modified: (i64, i64),
    /// Another file may have been put in its place with its old time.
    inode: u64,
}

// === impl Snapshot ===

impl Snapshot {
    /// Looks at the places, and at nothing below `without`.
    pub(super) fn of(places: &[Place], without: &Path) -> Self {
        let mut snapshot = Self::default();
        let mut visited = BTreeSet::new();
        for place in places {
            match fs::metadata(&place.path) {
                Ok(metadata) if metadata.is_dir() => {
                    snapshot.add_folder(&place.path, place.depth, without, &mut visited);
                }
                Ok(metadata) => snapshot.add(place.path.clone(), &metadata),
                Err(_) => {}
            }
        }
        snapshot
    }

    /// Takes in what another one has of files that this one doesn't know, but for what was written since that time.
    pub(super) fn add_unknown(&mut self, other: Self, since: SystemTime) {
        let since = since.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let since = (since.as_secs().cast_signed(), since.subsec_nanos().into());
        for (path, stamp) in other.0.into_iter().filter(|(_, stamp)| stamp.modified < since) {
            self.0.entry(path).or_insert(stamp);
        }
    }

    /// Forgets what lies in none of these places.
    pub(super) fn keep(&mut self, places: &[Place]) {
        self.0.retain(|path, _| places.iter().any(|place| path.starts_with(&place.path)));
    }

    /// Whether a file is another than it was, or is no longer there, or wasn't.
    pub(super) fn differs_in(&self, other: &Self, path: &Path) -> bool {
        self.0.get(path) != other.0.get(path)
    }

    fn add(&mut self, path: PathBuf, metadata: &Metadata) {
        let modified = (metadata.mtime(), metadata.mtime_nsec());
        self.0.insert(path, Stamp { size: metadata.size(), modified, inode: metadata.ino() });
    }

    /// Links are followed and may lead in circles, so no folder is visited twice.
    fn add_folder(&mut self, folder: &Path, depth: Depth, without: &Path, visited: &mut BTreeSet<(PathBuf, Depth)>) {
        let Ok(real) = folder.canonicalize() else { return };
        if real.starts_with(without) || !visited.insert((real, depth)) {
            return;
        }
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if is_passing(&entry.file_name().to_string_lossy()) {
                continue;
            }
            match fs::metadata(&path) {
                Ok(metadata) if metadata.is_dir() && depth == Depth::Tree => {
                    self.add_folder(&path, depth, without, visited);
                }
                Ok(metadata) if metadata.is_file() => self.add(path, &metadata),
                // It is gone already, or it is no file.
                _ => {}
            }
        }
    }
}

/// What editors write beside a file while it is edited or saved, and hidden folders.
fn is_passing(name: &str) -> bool {
    name.starts_with('.') || name.ends_with('~') || (name.starts_with('#') && name.ends_with('#')) || name == "4913"
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_written_is_seen_and_what_editors_leave_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let source = root.join("src");
        fs::create_dir_all(source.join("inner")).unwrap();
        fs::create_dir(root.join("target")).unwrap();
        fs::write(source.join("lib.rs"), "1").unwrap();
        std::os::unix::fs::symlink(&source, source.join("inner/circle")).unwrap();
        let config = root.join(".cargo/config.toml");
        let places =
            [Place { path: root.clone(), depth: Depth::Tree }, Place { path: config.clone(), depth: Depth::Entries }];
        let take = || Snapshot::of(&places, &root.join("target"));
        let first = take();
        for name in ["src/.lib.rs.swp", "src/lib.rs~", "src/#lib.rs#", "src/4913", "target/x.rs"] {
            fs::write(root.join(name), "").unwrap();
        }
        assert_eq!(take(), first);

        fs::write(source.join("inner/new.rs"), "1").unwrap();
        let second = take();
        assert!(second.differs_in(&first, &source.join("inner/new.rs")));
        assert!(!second.differs_in(&first, &source.join("lib.rs")));
        let mut known = first.clone();
        known.add_unknown(second.clone(), SystemTime::UNIX_EPOCH);
        assert_eq!(known, first);
        known.add_unknown(second.clone(), SystemTime::now() + Duration::from_secs(1));
        assert_eq!(known, second);
        known.keep(&[Place { path: source.join("lib.rs"), depth: Depth::Entries }]);
        assert_eq!(known.0.keys().collect::<Vec<_>>(), [&source.join("lib.rs")]);

        // Replaced by another file with the same time and length, as some editors and archives do.
        let times = fs::metadata(source.join("lib.rs")).unwrap().modified().unwrap();
        fs::write(root.join("src/lib.rs~"), "2").unwrap();
        fs::File::options().write(true).open(root.join("src/lib.rs~")).unwrap().set_modified(times).unwrap();
        fs::rename(root.join("src/lib.rs~"), source.join("lib.rs")).unwrap();
        assert!(take().differs_in(&second, &source.join("lib.rs")));

        // A hidden file that is named counts, and so does one that comes later.
        let before = take();
        fs::create_dir(root.join(".cargo")).unwrap();
        fs::write(&config, "").unwrap();
        assert!(take().differs_in(&before, &config));
    }
}
