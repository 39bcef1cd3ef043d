//! The life of each generation, as it is told afterwards: what made it, what each step took, how it ended.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;

use handler_sdk::Device;
use handler_sdk::abi::note::Note;

use crate::ids::Digest;
use crate::ids::GenerationId;
use crate::metrics::SwapMetrics;
use crate::model::Footprint;
use crate::plugin::Residue;

/// What a generation was made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    Startup,
    /// Its library changed in the plugins path.
    Library,
    /// Its archive changed, or is new, in the model store.
    Archive,
    /// Somebody asked for it.
    Reload,
    /// Somebody asked for the one before.
    Rollback,
    /// The one after it panicked too often.
    Panics,
    /// Somebody asked for workers where there were none.
    Scale,
    /// Somebody asked for the model.
    Register,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GenerationState {
    Preparing,
    Serving,
    /// Another one serves; it finishes what it has in hand.
    Draining,
    Retired,
    /// It never served.
    Refused,
    /// Another one serves, and a call of its handler never came back: its code stays mapped.
    Stuck,
}

/// A step in the life of a generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The library's private copy.
    Copy,
    /// The note, and its judgement.
    Check,
    /// The model is found in memory, or loaded.
    Model,
    /// In a process of its own.
    Trial,
    Open,
    /// Every worker makes, initialises and tests its handler object.
    Start,
    /// The old objects' state goes to the new ones, while requests wait.
    HandOver,
    /// The queue changes hands.
    Publish,
    /// The old one finishes what it has in hand, and its threads end.
    Drain,
    /// The library goes, or is kept.
    Close,
}

/// What is known of one generation.
#[derive(Debug, Clone)]
pub struct GenerationRecord {
    pub id: GenerationId,
    pub trigger: Trigger,
    pub state: GenerationState,
    pub began: SystemTime,
    pub published: Option<SystemTime>,
    /// The content of the archive; `None` where it couldn't be opened.
    pub package: Option<Digest>,
    /// `None` where no library was found.
    pub code: Option<CodeRecord>,
    /// `None` where the archive has none, or where it couldn't be loaded.
    pub model: Option<ModelRecord>,
    pub steps: Vec<(Step, Duration)>,
    /// That it answered.
    pub requests: u64,
    /// Why it was refused, or rolled back.
    pub reason: Option<String>,
    /// What stayed of its library; `None` before it was retired.
    pub residue: Option<Residue>,
}

/// The library that a generation runs.
#[derive(Debug, Clone)]
pub struct CodeRecord {
    /// The author's file.
    pub library: PathBuf,
    pub digest: Digest,
    pub handler: String,
    /// What it says of itself.
    pub note: Note,
}

/// The model that a generation serves.
#[derive(Debug, Clone)]
pub struct ModelRecord {
    /// Its name in the archive.
    pub file: String,
    pub digest: Digest,
    pub device: Device,
    pub footprint: Footprint,
    /// Whether it was in memory before.
    pub was_resident: bool,
}

/// The record of one generation while it is written.
#[derive(Debug)]
pub(super) struct Entry {
    requests: AtomicU64,
    panics_in_a_row: AtomicU64,
    has_rung: AtomicBool,
    record: Mutex<GenerationRecord>,
    metrics: SwapMetrics,
}

/// The generations of one endpoint, oldest first; of those that are over, the oldest are forgotten.
#[derive(Debug, Default)]
pub(super) struct History(VecDeque<Arc<Entry>>);

/// How many generations are remembered.
const REMEMBERED: usize = 32;

// === impl Entry ===

impl Entry {
    pub(super) fn new(id: GenerationId, trigger: Trigger, metrics: SwapMetrics) -> Self {
        let record = GenerationRecord {
            id,
            trigger,
            state: GenerationState::Preparing,
            began: SystemTime::now(),
            published: None,
            package: None,
            code: None,
            model: None,
            steps: Vec::new(),
            requests: 0,
            reason: None,
            residue: None,
        };
        Self {
            requests: AtomicU64::new(0),
            panics_in_a_row: AtomicU64::new(0),
            has_rung: AtomicBool::new(false),
            record: Mutex::new(record),
            metrics,
        }
    }

    pub(super) fn id(&self) -> GenerationId {
        self.lock().id
    }

    pub(super) fn trigger(&self) -> Trigger {
        self.lock().trigger
    }

    pub(super) fn state(&self) -> GenerationState {
        self.lock().state
    }

    /// Takes the time of a step, whether or not it succeeds.
    pub(super) fn step<T>(&self, step: Step, work: impl FnOnce() -> T) -> T {
        let started = Instant::now();
        let result = work();
        let time = started.elapsed();
        self.metrics.step_took(step.as_str(), time);
        self.lock().steps.push((step, time));
        result
    }

    pub(super) fn write(&self, write: impl FnOnce(&mut GenerationRecord)) {
        write(&mut self.lock());
    }

    pub(super) fn read(&self) -> GenerationRecord {
        let mut record = self.lock().clone();
        record.requests = self.answers();
        record
    }

    /// How many requests have been answered.
    pub(super) fn answers(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    pub(super) fn answered(&self, requests: usize) {
        self.requests.fetch_add(requests as u64, Ordering::Relaxed);
    }

    /// A call came back, whatever it said: the row of panics is broken.
    pub(super) fn call_came_back(&self) {
        // Read first: every call passes here, and hardly one has to write.
        if self.panics_in_a_row.load(Ordering::Relaxed) > 0 {
            self.panics_in_a_row.store(0, Ordering::Relaxed);
        }
    }

    /// Counts a panic, and gives the length of the row that it ends.
    pub(super) fn call_panicked(&self) -> u64 {
        self.panics_in_a_row.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Whether the alarm is rung for the first time.
    pub(super) fn rings_first(&self) -> bool {
        !self.has_rung.swap(true, Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, GenerationRecord> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl History ===

impl History {
    pub(super) fn push(&mut self, entry: Arc<Entry>) {
        self.0.push_back(entry);
        while self.0.len() > REMEMBERED {
            let Some(over) = self.0.iter().position(|entry| entry.state().is_over()) else {
                return;
            };
            self.0.remove(over);
        }
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &Arc<Entry>> {
        self.0.iter()
    }
}

// === impl GenerationState ===

impl GenerationState {
    /// Something of it runs.
    pub const ALIVE: [Self; 4] = [Self::Preparing, Self::Serving, Self::Draining, Self::Stuck];

    /// As metrics and clients read it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Preparing => "preparing",
            Self::Serving => "serving",
            Self::Draining => "draining",
            Self::Retired => "retired",
            Self::Refused => "refused",
            Self::Stuck => "stuck",
        }
    }

    /// Whether nothing of it runs any more.
    pub fn is_over(self) -> bool {
        !Self::ALIVE.contains(&self)
    }
}

// === impl Trigger ===

impl Trigger {
    /// As logs and clients read it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Startup => "startup",
            Self::Library => "library",
            Self::Archive => "archive",
            Self::Reload => "reload",
            Self::Rollback => "rollback",
            Self::Panics => "panics",
            Self::Scale => "scale",
            Self::Register => "register",
        }
    }

    /// Whether it goes back to what has served before.
    pub(super) fn goes_back(self) -> bool {
        matches!(self, Self::Rollback | Self::Panics)
    }
}

// === impl Step ===

impl Step {
    /// As metrics and clients read it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Copy => "copy",
            Self::Check => "check",
            Self::Model => "model",
            Self::Trial => "trial",
            Self::Open => "open",
            Self::Start => "start",
            Self::HandOver => "hand_over",
            Self::Publish => "publish",
            Self::Drain => "drain",
            Self::Close => "close",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::MetricsConfig;
    use crate::metrics::Metrics;

    #[test]
    fn what_is_over_is_forgotten_first() {
        let metrics = Metrics::new(&MetricsConfig::default()).unwrap();
        let mut history = History::default();
        for id in 0..100 {
            let entry = Entry::new(GenerationId(id), Trigger::Reload, metrics.swaps().clone());
            let state = if id == 7 { GenerationState::Stuck } else { GenerationState::Retired };
            entry.write(|record| record.state = state);
            history.push(Arc::new(entry));
        }
        let ids: Vec<u64> = history.iter().map(|entry| entry.id().0).collect();
        assert_eq!((ids.len(), ids[0], ids[1], ids[31]), (REMEMBERED, 7, 69, 99));
    }

    #[test]
    fn a_row_of_panics_is_broken_by_any_call_that_comes_back() {
        let metrics = Metrics::new(&MetricsConfig::default()).unwrap();
        let entry = Entry::new(GenerationId(1), Trigger::Library, metrics.swaps().clone());
        assert_eq!([entry.call_panicked(), entry.call_panicked()], [1, 2]);
        entry.call_came_back();
        assert_eq!(entry.call_panicked(), 1);
    }
}
