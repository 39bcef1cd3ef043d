//! Half-written files of processes that were killed: who writes one holds a lock on it, so that the next can tell.

use std::fs;
use std::fs::File;
use std::path::Path;
use std::time::Duration;

/// Between making a file and locking it there is a moment in which it looks abandoned.
const OLD: Duration = Duration::from_secs(60);

/// Marks a hidden file or folder as being written, for as long as the result lives.
///
/// Where the file system has no locks there is nothing to hold, and nothing is ever taken for abandoned.
pub(super) fn hold(path: &Path) -> Option<File> {
    let file = File::open(path).ok()?;
    file.try_lock().ok()?;
    Some(file)
}

/// Removes what begins so in a folder, is old and is held by nobody; what can't be removed stays.
pub(super) fn sweep(folder: &Path, prefix: &str) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let Ok(kind) = fs::symlink_metadata(&path) else { continue };
        let old = kind.modified().is_ok_and(|time| time.elapsed().is_ok_and(|age| age > OLD));
        if !old || !entry.file_name().to_string_lossy().starts_with(prefix) || hold(&path).is_none() {
            continue;
        }
        let _ = if kind.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn only_what_is_old_and_held_by_nobody_goes() {
        let folder = tempfile::tempdir().unwrap();
        let make = |name: &str, time: SystemTime| {
            let path = folder.path().join(name);
            File::create(&path).unwrap().set_modified(time).unwrap();
            path
        };
        let long_ago = SystemTime::UNIX_EPOCH;
        let held = make(".x-held", long_ago);
        let lock = hold(&held).unwrap();
        let abandoned = make(".x-abandoned", long_ago);
        let fresh = make(".x-fresh", SystemTime::now());
        let other = make("x-other", long_ago);
        let dir = folder.path().join(".x-dir");
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("file"), "").unwrap();
        File::open(&dir).unwrap().set_modified(long_ago).unwrap();
        sweep(folder.path(), ".x-");
        let there = [&held, &abandoned, &fresh, &other, &dir].map(|path| path.exists());
        assert_eq!(there, [true, false, true, true, false]);
        drop(lock);
        sweep(folder.path(), ".x-");
        assert!(!held.exists());
    }
}
