//! Who serves, as this layer sees it: the registry, or a test's recorder.

use super::plan::Action;
use crate::serving::Registry;
use crate::serving::Served;

/// Who serves, as this layer sees it.
pub trait Target: Send + Sync + 'static {
    /// All endpoints as they are now.
    fn served(&self) -> Vec<Served>;

    /// Does it, and says in the log how it went. Called on a thread that ends afterwards; the same action never twice at a time, different ones at the same time.
    fn carry_out(&self, action: Action);
}

impl Target for Registry {
    fn served(&self) -> Vec<Served> {
        Registry::served(self)
    }

    fn carry_out(&self, action: Action) {
        match action {
            Action::SwapHandler { name, version } => self.library_changed(&name, &version),
            Action::TakeIn { archive } => self.archive_changed(&archive),
            Action::Add { archive, name, url } => self.archive_added(&archive, name, url),
        }
    }
}
