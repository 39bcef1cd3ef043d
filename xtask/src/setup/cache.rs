//! The folder that all clones of a user share: where it is, who may write, when it is whole.

use std::ffi::OsString;
use std::fmt::Write;
use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::platform::Arch;
use super::{LIBTORCH, LINK};

/// First line of the marker; raise it when the layout changes, and old folders are made again.
const LAYOUT: &str = "sconce libtorch layout 1";
const MARKER: &str = "complete";

/// Room for the wheel, pip's copy of it, and then what is unpacked.
const SPACE_TO_DOWNLOAD: u64 = 1_200_000_000;
/// Room for what is unpacked, when the wheel is already there.
const SPACE_TO_UNPACK: u64 = 600_000_000;

/// The cache, for one libtorch and one processor.
#[derive(Debug)]
pub(crate) struct Cache {
    root: PathBuf,
    name: String,
}

// === impl Cache ===

impl Cache {
    pub(crate) fn locate(arch: Arch, variable: impl Fn(&str) -> Option<OsString>) -> Result<Self> {
        Ok(Self { root: cache_root(variable)?, name: format!("libtorch-{LIBTORCH}-{arch}") })
    }

    /// The finished folder: it appears in one rename, and is never written to again.
    pub(crate) fn folder(&self) -> PathBuf {
        self.root.join(&self.name)
    }

    /// Where the folder is made; only the holder of the lock goes there.
    pub(crate) fn staging(&self) -> PathBuf {
        self.sibling("partial")
    }

    /// Whole wheels, kept until they are unpacked.
    pub(crate) fn wheels(&self) -> PathBuf {
        self.sibling("wheels")
    }

    fn sibling(&self, suffix: &str) -> PathBuf {
        self.root.join(format!("{}.{suffix}", self.name))
    }

    /// That the folder was finished, and that each of its files still has its size.
    pub(crate) fn is_complete(&self) -> bool {
        let folder = self.folder();
        fs::read_to_string(folder.join(MARKER)).is_ok_and(|marker| {
            entries(&marker).is_some_and(|mut entries| {
                entries.all(|(size, path)| fs::metadata(folder.join(path)).is_ok_and(|found| found.len() == size))
            })
        })
    }

    /// Waits for any other setup of this user; the lock ends with the returned file.
    pub(crate) fn lock(&self) -> Result<File> {
        if let Err(error) = fs::create_dir_all(&self.root) {
            bail!(
                "the cache folder {} can't be made ({error}): set SCONCE_CACHE_DIR to a folder \
                 you may write to",
                self.root.display()
            );
        }
        let path = self.sibling("lock");
        let lock = || -> io::Result<File> {
            let file = File::create(&path)?;
            match file.try_lock() {
                Err(TryLockError::WouldBlock) => {
                    println!("  another setup is at work there: waiting for it …");
                    file.lock()?;
                }
                Err(TryLockError::Error(error)) => return Err(error),
                Ok(()) => {}
            }
            Ok(file)
        };
        lock().with_context(|| format!("the lock {} can't be taken", path.display()))
    }

    /// Removes what an interrupted setup left, save its whole wheels. Needs the lock.
    pub(crate) fn clear_leftovers(&self) -> Result<()> {
        for leftover in [self.staging(), self.sibling("old")] {
            remove(&leftover)?;
        }
        let wheels = self.wheels();
        fs::create_dir_all(&wheels).with_context(|| format!("{} can't be made", wheels.display()))?;
        for entry in fs::read_dir(&wheels)?.flatten() {
            if entry.path().is_dir() {
                remove(&entry.path())?;
            }
        }
        Ok(())
    }

    /// That the disk takes what is still to come.
    pub(crate) fn require_space(&self, wheel_is_there: bool) -> Result<()> {
        let needed = if wheel_is_there { SPACE_TO_UNPACK } else { SPACE_TO_DOWNLOAD };
        // A file system that doesn't tell is given the chance.
        let Ok(found) = rustix::fs::statvfs(&self.root) else {
            return Ok(());
        };
        let free = found.f_bavail.saturating_mul(found.f_frsize);
        if free < needed {
            bail!(
                "{} has {:.1} GB free, and setup needs {:.1} GB there while it unpacks (0.5 GB \
                 stays): free some, or set SCONCE_CACHE_DIR to a folder on another disk",
                self.root.display(),
                free as f64 / 1e9,
                needed as f64 / 1e9
            );
        }
        Ok(())
    }

    /// Makes the staged folder the finished one, and drops the wheels. Needs the lock.
    pub(crate) fn publish(&self) -> Result<()> {
        let staging = self.staging();
        let publish = || -> io::Result<()> {
            let marker = marker(&staging)?;
            fs::write(staging.join(MARKER), marker)?;
            if self.folder().exists() {
                fs::rename(self.folder(), self.sibling("old"))?;
            }
            fs::rename(&staging, self.folder())
        };
        publish().with_context(|| format!("{} can't be finished", staging.display()))?;
        remove(&self.sibling("old"))?;
        remove(&self.wheels())
    }

    /// Makes or corrects the link in the repository.
    pub(crate) fn link_to(&self, link: &Path) -> Result<()> {
        let folder = self.folder();
        match fs::symlink_metadata(link) {
            Ok(found) if !found.is_symlink() => bail!(
                "{} is in the way: setup makes a link of this name. Move it elsewhere; if it is a \
                 libtorch that you want to use, set LIBTORCH to its new place",
                link.display()
            ),
            Ok(_) => {
                let before = fs::read_link(link)?;
                if before == folder {
                    return Ok(());
                }
                println!("  {LINK} pointed to {} until now", before.display());
            }
            Err(_) => {}
        }
        // Made beside and renamed, so that a build at this moment sees one link or the other.
        let new = link.with_file_name(format!("{LINK}.{}", std::process::id()));
        symlink(&folder, &new)
            .and_then(|()| fs::rename(&new, link))
            .with_context(|| format!("the link {} can't be made", link.display()))
    }
}

fn cache_root(variable: impl Fn(&str) -> Option<OsString>) -> Result<PathBuf> {
    let folder = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(own) = folder("SCONCE_CACHE_DIR") {
        return std::path::absolute(own).context("SCONCE_CACHE_DIR is no path");
    }
    // The XDG specification says that a relative path there is to be ignored.
    if let Some(cache) = folder("XDG_CACHE_HOME").filter(|path| path.is_absolute()) {
        return Ok(cache.join("sconce"));
    }
    let home = folder("HOME")
        .filter(|path| path.is_absolute())
        .context("HOME isn't set: set SCONCE_CACHE_DIR to the folder that shall hold libtorch")?;
    Ok(home.join(".cache/sconce"))
}

/// Size and path of each file, so that a later setup sees damage without reading 500 MB.
fn marker(folder: &Path) -> io::Result<String> {
    let mut marker = format!("{LAYOUT}\n");
    let mut open = vec![folder.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(next)? {
            let entry = entry?;
            let found = entry.metadata()?;
            if found.is_dir() {
                open.push(entry.path());
            } else if let Ok(path) = entry.path().strip_prefix(folder) {
                // Writing to a String can't fail.
                let _ = writeln!(marker, "{} {}", found.len(), path.display());
            }
        }
    }
    Ok(marker)
}

/// `None` for a marker of another layout.
fn entries(marker: &str) -> Option<impl Iterator<Item = (u64, &str)>> {
    let lines = marker.strip_prefix(LAYOUT)?.lines();
    Some(lines.filter(|line| !line.is_empty()).map(|line| {
        let (size, path) = line.split_once(' ').unwrap_or(("", line));
        // A size that is no number matches no file.
        (size.parse().unwrap_or(u64::MAX), path)
    }))
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("{} can't be removed", folder.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(folder: &Path) -> Cache {
        Cache::locate(Arch::X86_64, |name| (name == "SCONCE_CACHE_DIR").then(|| folder.as_os_str().to_owned())).unwrap()
    }

    #[test]
    fn the_most_specific_variable_names_the_cache() {
        let root = |variables: &[(&str, &str)]| {
            cache_root(|name| {
                let found = variables.iter().find(|(given, _)| *given == name)?;
                Some(found.1.into())
            })
        };
        let home = ("HOME", "/home/ada");
        let xdg = ("XDG_CACHE_HOME", "/fast");
        for (variables, expected) in [
            (&[home][..], "/home/ada/.cache/sconce"),
            (&[home, xdg], "/fast/sconce"),
            (&[home, xdg, ("SCONCE_CACHE_DIR", "/mine")], "/mine"),
            (&[home, xdg, ("SCONCE_CACHE_DIR", "")], "/fast/sconce"),
            (&[home, ("XDG_CACHE_HOME", "relative")], "/home/ada/.cache/sconce"),
        ] {
            assert_eq!(root(variables).unwrap(), Path::new(expected), "{variables:?}");
        }
        let message = root(&[]).unwrap_err().to_string();
        assert!(message.contains("SCONCE_CACHE_DIR"), "{message}");
    }

    #[test]
    fn a_folder_is_complete_from_publishing_until_a_file_changes() {
        let folder = tempfile::tempdir().unwrap();
        let cache = cache(folder.path());
        let library = |parent: PathBuf| parent.join("lib/libc10.so");
        cache.clear_leftovers().unwrap();
        fs::create_dir_all(cache.staging().join("lib")).unwrap();
        fs::write(library(cache.staging()), "code").unwrap();
        assert!(!cache.is_complete());

        cache.publish().unwrap();
        assert!(cache.is_complete());
        assert!(!cache.staging().exists() && !cache.wheels().exists());

        fs::write(library(cache.folder()), "cod").unwrap();
        assert!(!cache.is_complete());
        fs::remove_file(library(cache.folder())).unwrap();
        assert!(!cache.is_complete());
    }

    #[test]
    fn a_marker_of_another_layout_counts_for_nothing() {
        let of_now = format!("{LAYOUT}\n4 lib/libc10.so\n");
        let found: Vec<_> = entries(&of_now).unwrap().collect();
        assert_eq!(found, [(4, "lib/libc10.so")]);
        assert!(entries("sconce libtorch layout 0\n").is_none());
    }

    #[test]
    fn the_link_is_corrected_and_never_replaces_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        let cache = cache(folder.path());
        let link = folder.path().join(LINK);
        for _ in 0..2 {
            cache.link_to(&link).unwrap();
            assert_eq!(fs::read_link(&link).unwrap(), cache.folder());
        }
        fs::remove_file(&link).unwrap();
        symlink("/elsewhere", &link).unwrap();
        cache.link_to(&link).unwrap();
        assert_eq!(fs::read_link(&link).unwrap(), cache.folder());

        fs::remove_file(&link).unwrap();
        fs::create_dir(&link).unwrap();
        let message = cache.link_to(&link).unwrap_err().to_string();
        assert!(message.contains("in the way"), "{message}");
    }
}
