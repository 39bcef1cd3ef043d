//! A door for the micro-benchmarks of `bench/` to what is private otherwise; nothing else comes in by it.

use std::time::Instant;

use super::BatchPolicy;
use super::batcher::Batcher;
use super::batcher::Decision;
use super::batcher::View;

/// What decides how many requests a worker takes.
#[derive(Debug)]
pub struct Batches(Batcher);

// === impl Batches ===

impl Batches {
    pub fn new(policy: BatchPolicy) -> Self {
        Self(Batcher::new(policy))
    }

    /// How many of those that wait are taken now.
    pub fn taken(&self, now: Instant, waiting: usize, oldest: Option<Instant>, idle: usize) -> usize {
        match self.0.decide(View { now, waiting, oldest, idle }) {
            Decision::Take(count) => count,
            Decision::WaitUntil(_) | Decision::Wait => 0,
        }
    }
}
