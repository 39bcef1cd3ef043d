//! A folder through which a test and the fixture `waits` speak: the handler says that it was called, the test lets it go on.

use std::fs;

use tempfile::TempDir;

use super::eventually;

#[derive(Debug)]
pub(crate) struct Gate {
    folder: TempDir,
}

/// Opens the gate when dropped, so that a failed test doesn't wait for its own threads.
#[derive(Debug)]
pub(crate) struct Opener<'a>(&'a Gate);

impl Gate {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
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
        fs::write(self.folder.path().join("go"), "").unwrap();
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
