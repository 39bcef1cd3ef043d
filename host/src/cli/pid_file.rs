//! The file that says which process serves: `torchserve --stop` looks there.
//!
//! The server holds a lock on it for as long as its process lives, so that nobody mistakes another process of the same number for it.

use std::ffi::OsString;
use std::fs;
use std::fs::File;
use std::fs::TryLockError;
use std::io;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::sync::OnceLock;

use anyhow::Context as _;
use rustix::process::Pid;

use crate::cli::say;
use crate::cli::serve::CalledAs;

/// The file of this process; removed when this is dropped.
#[derive(Debug)]
pub(super) struct PidFile {
    path: PathBuf,
    inode: u64,
}

/// Who is in a pid file.
#[derive(Debug)]
pub(super) enum Holder {
    Nobody,
    /// A process that has ended without removing it.
    Gone,
    Running(Running),
}

/// A server that runs.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) pid: Pid,
    file: File,
}

/// The name below the temporary folder, as TorchServe has it.
const NAME: &str = ".model_server.pid";

/// The locked file: the lock lasts until the process has ended, whatever else ends before.
static HELD: OnceLock<File> = OnceLock::new();

/// Where the file is unless somebody says otherwise.
pub(super) fn usual_place() -> anyhow::Result<PathBuf> {
    place_in(|name| std::env::var_os(name)).map_err(anyhow::Error::msg)
}

/// The temporary folder is found as Python finds it; the error is TorchServe's.
fn place_in(variable: impl Fn(&str) -> Option<OsString>) -> Result<PathBuf, String> {
    let folder = |name| variable(name).filter(|folder| !folder.is_empty()).map(PathBuf::from);
    if let Some(folder) = folder("TEMP").filter(|folder| !folder.is_dir()) {
        return Err(format!("Invalid temp directory: {}, please check TEMP environment variable.", folder.display()));
    }
    let named = ["TMPDIR", "TEMP", "TMP"].into_iter().filter_map(folder).find(|folder| folder.is_dir());
    Ok(named.unwrap_or_else(|| PathBuf::from("/tmp")).join(NAME))
}

/// Refuses where a server runs, in the words of the program that was called; the file of one that has ended is removed.
pub(super) fn make_room(path: &Path, called: CalledAs) -> anyhow::Result<()> {
    match look(path)? {
        Holder::Nobody => Ok(()),
        Holder::Gone => {
            say("Removing orphan pid file.");
            remove(path)
        }
        Holder::Running(running) => match called {
            CalledAs::Torchserve => {
                anyhow::bail!("TorchServe is already running, please use torchserve --stop to stop TorchServe.")
            }
            CalledAs::Sconce => anyhow::bail!(
                "a server is already running, as process {}: end it with `sconce stop --pid-file {path}`, or give this one another --pid-file than {path}",
                running.pid.as_raw_nonzero(),
                path = path.display()
            ),
        },
    }
}

pub(super) fn look(path: &Path) -> anyhow::Result<Holder> {
    let read = |path: &Path| -> io::Result<Option<File>> {
        match File::open(path) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    };
    let Some(file) = read(path).with_context(|| format!("can't read the pid file {}", path.display()))? else {
        return Ok(Holder::Nobody);
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(Holder::Gone),
        Err(TryLockError::Error(error)) => Err(error).context(format!("can't lock the pid file {}", path.display())),
        Err(TryLockError::WouldBlock) => {
            // Not by its name, under which there may be another by now.
            let text = io::read_to_string(&file).unwrap_or_default();
            let pid = text.trim().parse().ok().and_then(Pid::from_raw);
            let pid = pid.with_context(|| format!("the pid file {} holds no number", path.display()))?;
            // Anybody may put a file into the temporary folder, with the number of a process that isn't theirs to stop.
            let of_process = fs::metadata(format!("/proc/{}", pid.as_raw_nonzero()));
            if of_process.is_ok_and(|process| file.metadata().is_ok_and(|file| file.uid() != process.uid())) {
                anyhow::bail!(
                    "the pid file {} is of another user than the process {} that it names: remove it",
                    path.display(),
                    pid.as_raw_nonzero()
                );
            }
            Ok(Holder::Running(Running { pid, file }))
        }
    }
}

pub(super) fn remove(path: &Path) -> anyhow::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).context(format!("can't remove the pid file {}", path.display()))
        }
        _ => Ok(()),
    }
}

// === impl PidFile ===

impl PidFile {
    /// Writes this process into the file, where no other server runs.
    pub(super) fn take(path: &Path, called: CalledAs) -> anyhow::Result<Self> {
        make_room(path, called)?;
        let written = || -> io::Result<(File, u64)> {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            let mut fresh = tempfile::Builder::new().prefix(".pid").tempfile_in(folder)?;
            writeln!(fresh, "{}", std::process::id())?;
            // Locked before it appears under its name: nobody ever sees it without its lock.
            fresh.as_file().lock()?;
            let file = fresh.persist_noclobber(path)?;
            let inode = file.metadata()?.ino();
            Ok((file, inode))
        };
        let (file, inode) = written().with_context(|| format!("can't write the pid file {}", path.display()))?;
        // A process takes one pid file in its life.
        let _ = HELD.set(file);
        Ok(Self { path: path.to_owned(), inode })
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // Somebody may have removed it, and another server have put its own there.
        if fs::metadata(&self.path).is_ok_and(|found| found.ino() == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

// === impl Running ===

impl Running {
    /// Waits until the process has ended: its lock goes with it.
    pub(super) fn wait(&self) -> io::Result<()> {
        self.file.lock_shared()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_is_python_s_temporary_folder() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let place = |set: &[(&str, &Path)]| {
            place_in(|name| set.iter().find(|(known, _)| *known == name).map(|(_, path)| path.as_os_str().to_owned()))
        };
        let gone = one.path().join("gone");
        assert_eq!(place(&[]).unwrap(), Path::new("/tmp/.model_server.pid"));
        assert_eq!(place(&[("TMPDIR", one.path()), ("TEMP", other.path())]).unwrap(), one.path().join(NAME));
        assert_eq!(place(&[("TMPDIR", &gone), ("TEMP", other.path())]).unwrap(), other.path().join(NAME));
        assert_eq!(place(&[("TMP", other.path())]).unwrap(), other.path().join(NAME));
        let error = place(&[("TEMP", &gone)]).unwrap_err();
        let expected = format!("Invalid temp directory: {}, please check TEMP environment variable.", gone.display());
        assert_eq!(error, expected);
    }

    #[test]
    fn the_file_is_held_by_one_process_and_goes_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(NAME);
        assert!(matches!(look(&path).unwrap(), Holder::Nobody));
        fs::write(&path, "1\n").unwrap();
        // Process 1 lives, and isn't ours.
        assert!(matches!(look(&path).unwrap(), Holder::Gone));
        let taken = PidFile::take(&path, CalledAs::Sconce).unwrap();
        let Holder::Running(running) = look(&path).unwrap() else { panic!("the file isn't locked") };
        assert_eq!(running.pid.as_raw_nonzero().get().unsigned_abs(), std::process::id());
        for called in [CalledAs::Sconce, CalledAs::Torchserve] {
            let message = PidFile::take(&path, called).unwrap_err().to_string();
            assert!(message.contains("already running"), "{message}");
        }
        drop(taken);
        assert!(!path.exists());
    }

    #[test]
    fn a_file_of_another_user_than_its_process_s_stops_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(NAME);
        let file = File::create(&path).unwrap();
        let ours = file.metadata().unwrap().uid();
        // Root can give the file away; who isn't root sees root's processes.
        let pid = match std::os::unix::fs::chown(&path, Some(ours + 1), None) {
            Ok(()) => std::process::id(),
            Err(_) => 1,
        };
        fs::write(&path, format!("{pid}\n")).unwrap();
        file.lock().unwrap();
        let is_strange = fs::metadata(format!("/proc/{pid}")).unwrap().uid() != fs::metadata(&path).unwrap().uid();
        // In a container process 1 may be ours, too.
        assert_eq!(look(&path).is_err_and(|error| error.to_string().contains("of another user")), is_strange);
    }
}
