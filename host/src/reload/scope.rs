//! Which folders have to be watched so that no change of a place goes unnoticed: symbolic links are followed step by step, since each step may be replaced.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::Component;
use std::path::Path;
use std::path::PathBuf;

/// A folder or a file to be watched; it needn't exist yet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub path: PathBuf,
    pub depth: Depth,
}

/// How much of a folder is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Depth {
    /// The folder's own entries.
    Entries,
    /// All below it, but for hidden folders and `__pycache__`.
    Tree,
}

/// What counts as a change of the places. All paths are free of symbolic links, as events are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Scope {
    /// Folders of which every entry counts.
    folders: BTreeSet<PathBuf>,
    /// Single names that count: files, symbolic links, and what doesn't exist yet. They are watched through their folders, so that a file that is replaced is still watched.
    names: BTreeSet<PathBuf>,
}

/// As many links one after the other as the kernel follows.
const MOST_LINKS: usize = 40;

// === impl Scope ===

impl Scope {
    pub(super) fn of(places: &[Place]) -> Self {
        let mut scope = Self::default();
        let mut visited = BTreeSet::new();
        for place in places {
            let Ok(path) = std::path::absolute(&place.path) else { continue };
            scope.add(&path, place.depth, &mut visited);
        }
        scope
    }

    pub(super) fn counts(&self, path: &Path) -> bool {
        let of_a_folder = |path: &Path| self.folders.contains(path);
        self.names.contains(path) || of_a_folder(path) || path.parent().is_some_and(of_a_folder)
    }

    /// The folders in which something counts.
    pub(super) fn watched(&self) -> BTreeSet<PathBuf> {
        let parents = self.names.iter().filter_map(|name| name.parent());
        self.folders.iter().cloned().chain(parents.map(Path::to_owned)).collect()
    }

    /// Links may lead in circles, so no folder is visited twice.
    fn add(&mut self, path: &Path, depth: Depth, visited: &mut BTreeSet<(PathBuf, Depth)>) {
        let Some(real) = self.follow(path) else { return };
        if !real.is_dir() {
            self.names.insert(real);
            return;
        }
        if !visited.insert((real.clone(), depth)) {
            return;
        }
        self.folders.insert(real.clone());
        for entry in fs::read_dir(&real).into_iter().flatten().flatten() {
            let Ok(kind) = entry.file_type() else { continue };
            let name = entry.file_name();
            let unwanted = name.as_encoded_bytes().starts_with(b".") || name == "__pycache__";
            if depth == Depth::Tree && !unwanted && (kind.is_dir() || (kind.is_symlink() && entry.path().is_dir())) {
                self.add(&entry.path(), depth, visited);
            } else if kind.is_symlink()
                && let Some(target) = self.follow(&entry.path())
            {
                self.names.insert(target);
            }
        }
    }

    /// Where a path leads. Every link on the way counts, and where the way ends too early, the first name that is missing.
    fn follow(&mut self, path: &Path) -> Option<PathBuf> {
        let steps = |path: &Path| path.components().rev().map(|step| step.as_os_str().to_owned()).collect::<Vec<_>>();
        let mut rest: Vec<OsString> = steps(path);
        let mut real = PathBuf::new();
        let mut links = 0;
        while let Some(step) = rest.pop() {
            match Path::new(&step).components().next()? {
                Component::CurDir => continue,
                Component::ParentDir => {
                    real.pop();
                    continue;
                }
                Component::RootDir | Component::Prefix(_) => {
                    real = PathBuf::from("/");
                    continue;
                }
                Component::Normal(_) => {}
            }
            let next = real.join(&step);
            match fs::symlink_metadata(&next) {
                Ok(metadata) if metadata.is_symlink() => {
                    links += 1;
                    let target = fs::read_link(&next);
                    self.names.insert(next);
                    let target = target.ok().filter(|_| links <= MOST_LINKS)?;
                    rest.extend(steps(&target));
                }
                Ok(_) => real = next,
                Err(_) => {
                    self.names.insert(next);
                    return None;
                }
            }
        }
        Some(real)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn scope(path: PathBuf, depth: Depth) -> Scope {
        Scope::of(&[Place { path, depth }])
    }

    #[test]
    fn a_file_is_watched_through_its_folder_and_others_there_do_not_count() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        fs::write(root.join("a.so"), "a").unwrap();
        let scope = scope(root.join("a.so"), Depth::Entries);
        assert_eq!(scope.watched(), BTreeSet::from([root.clone()]));
        assert!(scope.counts(&root.join("a.so")));
        assert!(!scope.counts(&root.join("b.so")));
    }

    #[test]
    fn what_is_missing_is_awaited_where_it_will_appear() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let scope = scope(root.join("later/plugins"), Depth::Entries);
        assert_eq!(scope.watched(), BTreeSet::from([root.clone()]));
        assert!(scope.counts(&root.join("later")));
        assert!(!scope.counts(&root.join("other")));
    }

    #[test]
    fn every_link_on_the_way_counts_and_so_does_its_target() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        // As Kubernetes mounts a ConfigMap: plugins/a.so -> ..data/a.so, plugins/..data -> ..1.
        fs::create_dir_all(root.join("plugins/..1")).unwrap();
        fs::write(root.join("plugins/..1/a.so"), "a").unwrap();
        symlink("..1", root.join("plugins/..data")).unwrap();
        symlink("..data/a.so", root.join("plugins/a.so")).unwrap();
        symlink(root.join("plugins"), root.join("current")).unwrap();
        let scope = scope(root.join("current"), Depth::Entries);
        assert_eq!(scope.watched(), BTreeSet::from([root.clone(), root.join("plugins"), root.join("plugins/..1")]),);
        for name in ["current", "plugins/..data", "plugins/a.so", "plugins/..1/a.so", "plugins/new.so"] {
            assert!(scope.counts(&root.join(name)), "{name}");
        }
        assert!(!scope.counts(&root.join("plugins/..1/b.so")));
        assert!(!scope.counts(&root.join("elsewhere")));
    }

    #[test]
    fn a_tree_is_watched_to_its_end_even_in_a_circle() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        for name in ["tree/a/b", "tree/.git/objects", "tree/__pycache__", "weights"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        fs::write(root.join("weights/m.pt"), "m").unwrap();
        symlink("../../weights/m.pt", root.join("tree/a/m.pt")).unwrap();
        symlink("..", root.join("tree/a/up")).unwrap();
        let scope = scope(root.join("tree"), Depth::Tree);
        let watched = ["tree", "tree/a", "tree/a/b", "weights"].map(|name| root.join(name));
        assert_eq!(scope.watched(), BTreeSet::from(watched));
        assert!(scope.counts(&root.join("tree/a/b/new")));
        assert!(scope.counts(&root.join("weights/m.pt")));
        assert!(!scope.counts(&root.join("weights/other.pt")));
    }
}
