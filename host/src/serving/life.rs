//! What becomes of an endpoint: a generation takes it over, it fails, loses its workers, is closed.

use std::sync::Arc;
use std::sync::PoisonError;
use std::time::Instant;
use std::time::SystemTime;

use super::Endpoint;
use super::EndpointSettings;
use super::Generation;
use super::LoadError;
use super::ServeError;
use super::endpoint::Phase;
use super::record::GenerationState;
use super::source::Source;
use super::swap::retire;

/// How many of the generations before are kept for a rollback: each keeps its archive's files and its library's on disk.
const KEPT_FOR_ROLLBACK: usize = 3;

// === impl Endpoint ===

impl Endpoint {
    /// The queue is the generation's from now on, and the one that had it is returned to be retired; refused where the endpoint was closed meanwhile.
    pub(super) fn publish(&self, generation: Arc<Generation>) -> Result<Option<Arc<Generation>>, LoadError> {
        let mut state = self.lock();
        if matches!(state.phase, Phase::Closed) {
            return Err(LoadError::Closed);
        }
        let old = state.current.take();
        generation.take_over(old.as_deref());
        generation.entry().write(|record| {
            record.state = GenerationState::Serving;
            record.published = Some(SystemTime::now());
        });
        if generation.entry().trigger().goes_back() {
            state.before.pop();
        } else if let Some(old) = &old {
            state.before.push(old.build().clone());
            let surplus = state.before.len().saturating_sub(KEPT_FOR_ROLLBACK);
            state.before.drain(..surplus);
        }
        if let Some(old) = &old {
            old.entry().write(|record| record.state = GenerationState::Draining);
            state.retiring += 1;
        }
        state.source = Arc::clone(&generation.build().source);
        state.wanted = None;
        let settings = EndpointSettings { scale: generation.scale(), ..(*state.source.settings).clone() };
        self.settings.store(Arc::new(settings));
        state.current = Some(generation);
        state.phase = Phase::Ready;
        Ok(old)
    }

    /// The generation that [`publish`](Self::publish) gave back has answered all it had.
    pub(super) fn drained(&self) {
        self.lock().retiring -= 1;
        self.drained.notify_all();
    }

    /// Nobody will serve; what waits, and whatever still comes, is told so.
    pub(super) fn fail(&self, reason: String) {
        let mut state = self.lock();
        if !matches!(state.phase, Phase::Closed) {
            // One that fails again has failed since the first time.
            let since = match state.phase {
                Phase::Failed { since, .. } => since,
                _ => Instant::now(),
            };
            state.phase = Phase::Failed { reason, since };
            self.queue.refuse_all(&ServeError::NoWorker);
        }
    }

    /// Answers for handlers that hang, and replaces workers that are gone.
    pub(super) fn look_after_workers(&self, now: Instant) {
        let Some(generation) = self.serving() else { return };
        if let Err(reason) = generation.look_after_workers(now) {
            let is_current = self.serving().is_some_and(|serving| Arc::ptr_eq(&serving, &generation));
            if is_current {
                tracing::error!(model = %self.name(), version = %self.version(), "model no longer served: {reason}");
                self.fail(reason);
            }
        }
    }

    /// Takes another archive in for the time when it has workers.
    pub(super) fn take_in(&self, source: Arc<Source>) {
        let settings = EndpointSettings { scale: self.settings().scale, ..(*source.settings).clone() };
        self.settings.store(Arc::new(settings));
        self.lock().source = source;
    }

    /// Refuses further requests, answers those it has, then ends its workers and lets go of their code. Blocks until all is answered.
    ///
    /// It is for one who holds off other swaps.
    pub(super) fn go_idle(self: &Arc<Self>) {
        let generation = {
            let mut state = self.lock();
            if matches!(state.phase, Phase::Closed) {
                return;
            }
            self.queue.close(ServeError::NoWorker);
            state.phase = Phase::Idle;
            let generation = state.current.take();
            if let Some(generation) = &generation {
                generation.entry().write(|record| record.state = GenerationState::Draining);
                state.retiring += 1;
            }
            generation
        };
        if let Some(generation) = generation {
            generation.finish();
            retire(self, generation);
        }
        self.queue.refuse_all(&ServeError::NoWorker);
    }

    /// Takes no further requests, which get this error, answers those it has, then ends its workers. Blocks until that is done.
    pub(super) fn close(&self, error: &ServeError) {
        self.queue.close(error.clone());
        let generation = {
            let mut state = self.lock();
            state.phase = Phase::Closed;
            state.current.clone()
        };
        if let Some(generation) = generation {
            generation.finish();
        }
        self.queue.refuse_all(error);
        let mut state = self.lock();
        while state.retiring > 0 {
            state = self.drained.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Lets go of the code of an endpoint that was closed.
    ///
    /// Call it on a thread that ends afterwards: a library's own clean-up runs on it.
    pub(super) fn let_go(&self) {
        let generation = {
            let mut state = self.lock();
            state.before.clear();
            state.current.take()
        };
        if let Some(generation) = generation {
            generation.let_go();
        }
    }
}
