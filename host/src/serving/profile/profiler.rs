//! Who wants an endpoint profiled, and the workers that find it out.

use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::SystemTime;

use tokio::sync::mpsc;

use super::files::TraceFiles;
use super::trace::Trace;
use super::trace::TracedBatch;
use crate::ids::ModelName;
use crate::ids::ModelVersion;
use crate::serving::Endpoint;
use crate::serving::ProfileError;

/// An endpoint's own; all of its workers, whatever their generation, look here before each batch.
#[derive(Debug, Default)]
pub(in crate::serving) struct Profiler {
    /// Whether there is anything to look for, so that nobody takes the lock for nothing.
    is_asked: AtomicBool,
    asked: Mutex<Option<Asked>>,
    /// Where every batch's trace goes; `None`: nowhere.
    files: Option<TraceFiles>,
}

/// What a profile is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// The batches with the request of this id.
    Request(String),
    /// The next so many batches, whoever sent them.
    Batches(usize),
}

/// A profile under way; it ends when this is dropped.
#[derive(Debug)]
pub struct Profiling {
    endpoint: Arc<Endpoint>,
    began: SystemTime,
    subject: Subject,
    batches: mpsc::UnboundedReceiver<Arc<TracedBatch>>,
}

/// A worker's part in a profile: one batch.
#[derive(Debug)]
pub(super) struct Commission {
    /// `None` where the batch goes into a file alone.
    client: Option<Client>,
}

/// Whoever has asked for a profile.
#[derive(Debug, Clone)]
struct Client {
    batches: mpsc::UnboundedSender<Arc<TracedBatch>>,
    /// How many operators there is room for in all of the profile.
    room: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct Asked {
    subject: Subject,
    client: Client,
}

/// The most operators of one profile: some ten megabytes. Batches that workers have in hand at once share what is left only afterwards.
const MOST_OPERATORS: usize = 100_000;

// === impl Profiler ===

impl Profiler {
    /// Of an endpoint each of whose batches is traced into a file below `files`, where there is one.
    pub(in crate::serving) fn new(files: Option<&Path>, model: &ModelName, version: &ModelVersion) -> Self {
        let files = files.map(|root| TraceFiles::new(root, model, version));
        Self { files, ..Self::default() }
    }

    /// What to do with a batch of these requests; `None` where nobody asks for it.
    pub(super) fn commission<'a>(&self, ids: impl Iterator<Item = &'a str>) -> Option<Commission> {
        let client = self.client(ids);
        let is_wanted = client.is_some() || self.files.as_ref().is_some_and(TraceFiles::has_room);
        is_wanted.then_some(Commission { client })
    }

    /// Puts what was seen of a batch where every batch's trace goes.
    pub(in crate::serving) fn keep(&self, batch: Arc<TracedBatch>) {
        if let Some(files) = self.files.as_ref().filter(|files| files.has_room()) {
            files.write(batch);
        }
    }

    /// Whoever asks for a batch of these requests.
    fn client<'a>(&self, mut ids: impl Iterator<Item = &'a str>) -> Option<Client> {
        if !self.is_asked.load(Ordering::Acquire) {
            return None;
        }
        let mut asked = self.lock();
        let asked = asked.as_mut()?;
        match &mut asked.subject {
            Subject::Request(wanted) => ids.any(|id| id == wanted).then_some(())?,
            Subject::Batches(left) => *left = left.checked_sub(1)?,
        }
        Some(asked.client.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Option<Asked>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Commission ===

impl Commission {
    pub(super) fn room(&self) -> usize {
        self.client.as_ref().map_or(MOST_OPERATORS, |client| client.room.load(Ordering::Relaxed))
    }

    pub(super) fn deliver(&self, batch: Arc<TracedBatch>) {
        let Some(client) = &self.client else { return };
        let taken = batch.operators.list.len();
        let left = |room: usize| Some(room.saturating_sub(taken));
        // It always gives a number.
        let _ = client.room.fetch_update(Ordering::Relaxed, Ordering::Relaxed, left);
        // Who asked may have gone meanwhile.
        let _ = client.batches.send(batch);
    }
}

// === impl Endpoint ===

impl Endpoint {
    /// Begins a profile of what comes from now on; there is one at a time.
    pub fn profile(self: &Arc<Self>, subject: Subject) -> Result<Profiling, ProfileError> {
        let (sender, batches) = mpsc::unbounded_channel();
        let mut asked = self.profiler.lock();
        if asked.is_some() {
            return Err(ProfileError::UnderWay { name: self.name().clone(), version: self.version().clone() });
        }
        let room = Arc::new(AtomicUsize::new(MOST_OPERATORS));
        *asked = Some(Asked { subject: subject.clone(), client: Client { batches: sender, room } });
        self.profiler.is_asked.store(true, Ordering::Release);
        drop(asked);
        Ok(Profiling { endpoint: Arc::clone(self), began: SystemTime::now(), subject, batches })
    }
}

// === impl Profiling ===

impl Profiling {
    /// The endpoint's name and version.
    pub fn of(&self) -> (&ModelName, &ModelVersion) {
        (self.endpoint.name(), self.endpoint.version())
    }

    /// Waits for the batches that were asked for, and gives what came of them within this time.
    pub async fn wait(mut self, limit: Duration) -> Trace {
        let wanted = match self.subject {
            Subject::Request(_) => 1,
            Subject::Batches(count) => count,
        };
        let mut found = Vec::new();
        let batches = &mut self.batches;
        let all = async {
            while found.len() < wanted
                && let Some(batch) = batches.recv().await
            {
                found.push(batch);
            }
        };
        // What has come until then is told all the same.
        let _ = tokio::time::timeout(limit, all).await;
        self.trace(found)
    }

    /// What has come so far: all of a request that is answered.
    pub fn finish(mut self) -> Trace {
        let found = std::iter::from_fn(|| self.batches.try_recv().ok()).collect();
        self.trace(found)
    }

    fn trace(&self, batches: Vec<Arc<TracedBatch>>) -> Trace {
        let (model, version) = self.of();
        Trace { model: model.clone(), version: version.clone(), began: self.began, batches, answer: None }
    }
}

impl Drop for Profiling {
    fn drop(&mut self) {
        let profiler = &self.endpoint.profiler;
        let mut asked = profiler.lock();
        profiler.is_asked.store(false, Ordering::Release);
        *asked = None;
    }
}
