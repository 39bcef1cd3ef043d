//! Archives that clients have asked for and that are on their way into the model store: whoever watches the store leaves them alone.

use std::path::Path;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

#[derive(Debug, Default)]
pub(super) struct Arrivals(Mutex<Vec<PathBuf>>);

/// One of them; it has arrived, or never will, when this is dropped.
#[derive(Debug)]
pub(super) struct Arrival<'a> {
    arrivals: &'a Arrivals,
    archive: PathBuf,
}

// === impl Arrivals ===

impl Arrivals {
    pub(super) fn announce(&self, archive: &Path) -> Arrival<'_> {
        self.lock().push(archive.to_owned());
        Arrival { arrivals: self, archive: archive.to_owned() }
    }

    pub(super) fn has(&self, archive: &Path) -> bool {
        self.lock().iter().any(|other| other == archive)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<PathBuf>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Arrival<'_> {
    fn drop(&mut self) {
        let mut arrivals = self.arrivals.lock();
        if let Some(place) = arrivals.iter().position(|other| *other == self.archive) {
            arrivals.swap_remove(place);
        }
    }
}
