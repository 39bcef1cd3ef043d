//! How the system runs threads that compute beside those that answer connections.

#![allow(unsafe_code)] // One call into the system that no crate here wraps.

/// From now on this thread gives way to threads that wake up: it computes for long, and they only pass something on.
///
/// It gets the same share of a core as before. Where the system refuses, all stays as it is.
pub fn give_way() {
    #[cfg(target_os = "linux")]
    {
        let parameters = libc::sched_param { sched_priority: 0 };
        // SAFETY: 0 is the calling thread, and the parameters live through the call.
        let _ = unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const parameters) };
    }
}
