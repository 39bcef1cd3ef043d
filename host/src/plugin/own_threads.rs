//! The threads that the host started itself: none of them belongs to a library, whatever it is doing, once those of the library's generation were joined.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

static OWN: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

thread_local! {
    static ENTRY: Entry = Entry::new();
}

/// A thread in the list, until it ends.
struct Entry(u32);

/// The calling thread is one of the host's, until it ends.
///
/// Call it on threads that may be busy for long while libraries are closed; the others are seen to pause.
pub fn own_thread() {
    ENTRY.with(|_| ());
}

pub(super) fn is_own(id: u32) -> bool {
    lock().contains(&id)
}

fn lock() -> MutexGuard<'static, BTreeSet<u32>> {
    OWN.lock().unwrap_or_else(PoisonError::into_inner)
}

// === impl Entry ===

impl Entry {
    fn new() -> Self {
        let id = rustix::thread::gettid().as_raw_pid().unsigned_abs();
        lock().insert(id);
        Self(id)
    }
}

impl Drop for Entry {
    /// The number may be another thread's next.
    fn drop(&mut self) {
        lock().remove(&self.0);
    }
}
