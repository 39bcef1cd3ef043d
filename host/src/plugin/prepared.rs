//! Requests that a handler has prepared, while they wait for the model.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use handler_sdk::abi::prepared::Prepared as OfPlugin;

use super::Library;

/// What the steps so far have made of one request; it may be held, passed on and dropped on any thread.
///
/// It lies in the plugin's memory, so it keeps the library mapped, and is freed by one of the generation's own threads.
#[derive(Debug)]
pub struct Prepared {
    /// `None` once it has gone home.
    of_plugin: Option<OfPlugin>,
    library: Arc<Library>,
}

/// What nobody needs any more and the next thread of the generation is to free.
#[derive(Debug, Default)]
pub(super) struct Returned(Mutex<Vec<OfPlugin>>);

// === impl Prepared ===

impl Prepared {
    pub(super) fn new(of_plugin: OfPlugin, library: Arc<Library>) -> Self {
        Self { of_plugin: Some(of_plugin), library }
    }

    /// In the form in which it is given to a step.
    pub(super) fn of_plugin(&mut self) -> Option<&mut OfPlugin> {
        self.of_plugin.as_mut()
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        if let Some(of_plugin) = self.of_plugin.take() {
            self.library.returned.put(of_plugin);
        }
    }
}

// === impl Returned ===

impl Returned {
    fn put(&self, of_plugin: OfPlugin) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(of_plugin);
    }

    /// Frees what is there. Only for threads that may run the library's code.
    pub(super) fn free(&self) {
        // Freed where nobody waits for the lock.
        let returned = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        drop(returned);
    }
}
