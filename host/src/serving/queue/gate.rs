//! Which generation's workers take from a queue, and the one step in which it changes hands.

use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering;

use super::Queue;
use super::QueueLimits;
use super::chores::Finishing;

/// Whether the workers of a generation take batches; changed only by the queue that they take from, which wakes them.
#[derive(Debug, Default)]
pub(in crate::serving) struct Gate {
    pub(super) turn: AtomicU8,
    /// Whether the generation's handler may be asked for its steps one by one.
    has_steps: AtomicBool,
    finishing: Mutex<Finishing>,
}

/// Before the generation is published.
pub(super) const NOT_YET: u8 = 0;
pub(super) const OPEN: u8 = 1;
/// Between two generations.
pub(super) const PAUSED: u8 = 3;
/// The workers are to end.
pub(super) const SHUT: u8 = 2;

// === impl Queue ===

impl Queue {
    /// Lets the workers behind this gate take batches.
    pub(in crate::serving) fn open_gate(&self, gate: &Gate) {
        self.turn(gate, OPEN);
    }

    /// Keeps the workers behind this gate from further batches.
    pub(in crate::serving) fn pause_gate(&self, gate: &Gate) {
        self.turn(gate, PAUSED);
    }

    /// Ends the workers behind this gate, each after the batch it has in hand.
    pub(in crate::serving) fn shut_gate(&self, gate: &Gate) {
        self.turn(gate, SHUT);
    }

    /// The one step in which the queue changes hands: who waits behind the first gate ends, who waits behind the second begins.
    ///
    /// What waits is untouched; a queue that refused jobs takes them again.
    pub(in crate::serving) fn hand_over(&self, from: Option<&Gate>, to: &Gate, limits: QueueLimits) {
        let mut state = self.lock();
        if let Some(from) = from {
            from.turn.store(SHUT, Ordering::Release);
        }
        state.forget_prepared();
        to.turn.store(OPEN, Ordering::Release);
        state.limits = limits;
        state.refusing = None;
        state.refuses_all = false;
        self.wake();
    }

    fn turn(&self, gate: &Gate, to: u8) {
        // Under the lock: a worker that has looked at the gate and not yet begun to wait must not miss this.
        let mut state = self.lock();
        let was = gate.turn.swap(to, Ordering::AcqRel);
        // One that was never open has prepared nothing.
        if to == SHUT && was != NOT_YET {
            state.forget_prepared();
        }
        self.wake();
    }
}

// === impl Gate ===

impl Gate {
    /// From now on jobs may be prepared for the generation behind it.
    pub(in crate::serving) fn found_steps(&self) {
        self.has_steps.store(true, Ordering::Release);
    }

    pub(in crate::serving) fn has_steps(&self) -> bool {
        self.has_steps.load(Ordering::Acquire)
    }

    /// Whether somebody waits for a batch to finish.
    pub(in crate::serving) fn has_idle_preparer(&self) -> bool {
        self.finishing().idle > 0
    }

    pub(super) fn finishing(&self) -> MutexGuard<'_, Finishing> {
        self.finishing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
