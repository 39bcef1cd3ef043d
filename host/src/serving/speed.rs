//! How an endpoint makes the most of its model, for those who describe it.

use std::sync::Arc;
use std::time::Duration;

use super::Endpoint;
use crate::model::Tuning;

/// How requests are put together now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batching {
    pub mode: BatchingMode,
    /// The most requests that a batch has now.
    pub largest: usize,
    pub target_latency: Option<Duration>,
    /// What a batch of each size takes, the handler's steps included, as far as is known.
    pub times: Vec<(usize, Duration)>,
}

/// Who says how large batches are, and how long requests wait for each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchingMode {
    /// The server: it learns which sizes pay, and nobody waits while a worker is idle.
    Automatic,
    /// The size was asked for, and nobody waits while a worker is idle.
    WhenIdle,
    /// Requests wait for each other, as was asked for.
    Delayed,
}

// === impl BatchingMode ===

impl BatchingMode {
    /// As clients read it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Automatic => "automatic",
            Self::WhenIdle => "whenIdle",
            Self::Delayed => "delayed",
        }
    }
}

// === impl Endpoint ===

impl Endpoint {
    /// The most requests that can share a batch now.
    pub fn largest_batch(&self) -> usize {
        let current = self.current();
        current.map_or_else(|| self.settings().batch.asked_size(), |generation| generation.plan().batcher.most())
    }

    /// `None` where nothing serves.
    pub fn batching(&self) -> Option<Batching> {
        let generation = self.current()?;
        let batcher = &generation.plan().batcher;
        let policy = batcher.policy();
        let mode = match policy.delay {
            Some(_) => BatchingMode::Delayed,
            None if batcher.pace.is_automatic() => BatchingMode::Automatic,
            None => BatchingMode::WhenIdle,
        };
        let target_latency = policy.target_latency;
        Some(Batching { mode, largest: batcher.most(), target_latency, times: batcher.pace.times() })
    }

    /// In which form its model runs; `None` where it has none that was tried.
    pub fn tuning(&self) -> Option<Arc<Tuning>> {
        self.current()?.plan().weights.as_ref()?.tuning()
    }
}
