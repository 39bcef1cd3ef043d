//! Libraries of custom operators, which models call and libtorch itself doesn't have: torchvision's `nms`, say.
//!
//! libtorch keeps what they register as long as the process lives, so each is opened once and never unmapped, and two that register the same operator can't both be opened: a canary opens them first, behind all that are open.

use std::path::Path;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use super::Canary;
use super::LibraryStore;
use super::PluginError;
use super::StagedLibrary;
use crate::model::has_own_operators;
use crate::model::open_operators;

/// Those that are open in this process.
#[derive(Debug, Default)]
pub struct Operators {
    opened: Mutex<Vec<StagedLibrary>>,
}

// === impl Operators ===

impl Operators {
    /// Opens those of the libraries whose bytes aren't open yet, in their order.
    ///
    /// Gives the private copies of all that are open, in the order in which they were opened, for a canary that needs the same.
    pub fn open(
        &self,
        wanted: &[PathBuf],
        libraries: &LibraryStore,
        canary: &Canary,
        limit: Duration,
    ) -> Result<Vec<PathBuf>, PluginError> {
        // Held during the trials: what another model opens meanwhile would have to be tried with.
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        for source in wanted {
            let staged = libraries.stage(source)?;
            if opened.iter().any(|known| known.digest() == staged.digest()) {
                continue;
            }
            let mut paths = paths(&opened);
            paths.push(staged.path().to_owned());
            let with_own = has_own_operators();
            canary.try_operators(paths, with_own, source, limit).map_err(|error| match error {
                PluginError::TrialDied { .. } if with_own => {
                    PluginError::OperatorsTaken { path: source.clone(), cause: Box::new(error) }
                }
                error => error,
            })?;
            open_operators(staged.path())
                .map_err(|error| PluginError::Open { path: source.clone(), reason: error.to_string() })?;
            tracing::info!(library = %source.display(), "operators are open, for the life of this process");
            staged.set_opened();
            opened.push(staged);
        }
        Ok(paths(&opened))
    }
}

fn paths(opened: &[StagedLibrary]) -> Vec<PathBuf> {
    opened.iter().map(StagedLibrary::path).map(Path::to_owned).collect()
}
