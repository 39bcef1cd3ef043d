//! A folder through which a test and a handler speak: the handler says that it was called, and waits at a socket until the test lets it go on.

use std::os::unix::net::UnixListener;
use std::sync::Mutex;
use std::sync::PoisonError;

use tempfile::TempDir;

use super::eventually;

#[derive(Debug)]
pub(crate) struct Gate {
    folder: TempDir,
    /// Handlers are connected to it while it is shut.
    shut: Mutex<Option<UnixListener>>,
}

/// Opens the gate when dropped, so that a failed test doesn't wait for its own threads.
#[derive(Debug)]
pub(crate) struct Opener<'a>(&'a Gate);

impl Gate {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("gate")).unwrap();
        Self { folder, shut: Mutex::new(Some(listener)) }
    }

    /// What to send to the handler.
    pub(crate) fn body(&self) -> &str {
        self.folder.path().to_str().unwrap()
    }

    pub(crate) fn was_called(&self) -> bool {
        self.folder.path().join("begun").exists()
    }

    pub(crate) fn wait_for_a_call(&self) {
        eventually("the call to begin", || self.was_called().then_some(()));
    }

    /// Lets the handler answer.
    pub(crate) fn open(&self) {
        // Whoever waits there reads the end.
        drop(self.shut.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    pub(crate) fn opener(&self) -> Opener<'_> {
        Opener(self)
    }
}

impl Drop for Opener<'_> {
    fn drop(&mut self) {
        self.0.open();
    }
}
