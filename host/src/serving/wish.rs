//! What clients want of the number of an endpoint's workers: it comes true in the order in which they said so.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::mpsc;

use super::Endpoint;
use super::LoadError;
use super::Scale;
use super::ScaleError;

/// So many workers are wanted.
///
/// It is for the endpoint that had the name when it was noted, whatever has that name later.
#[derive(Debug)]
pub struct Wish {
    endpoint: Arc<Endpoint>,
    outcome: mpsc::Receiver<Outcome>,
}

/// The wishes of one endpoint that haven't come true yet, the earliest first.
#[derive(Debug, Default)]
pub(super) struct Wishes(Mutex<VecDeque<(Scale, mpsc::Sender<Outcome>)>>);

type Outcome = Result<(), ScaleError>;

// === impl Wish ===

impl Wish {
    pub(super) fn note(endpoint: Arc<Endpoint>, scale: Scale) -> Self {
        let (done, outcome) = mpsc::channel();
        endpoint.wishes().lock().push_back((scale, done));
        Self { endpoint, outcome }
    }

    pub(super) fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// Grants this wish and, before it, all that are earlier, whoever waits for them.
    ///
    /// It is for one who holds off others.
    pub(super) fn outcome(&self, mut grant: impl FnMut(Scale) -> Outcome) -> Outcome {
        loop {
            match self.outcome.try_recv() {
                Ok(outcome) => return outcome,
                // Whoever granted it didn't come to the end.
                Err(mpsc::TryRecvError::Disconnected) => {
                    return Err(ScaleError::Failed(LoadError::Panicked { what: "scaling the model" }));
                }
                Err(mpsc::TryRecvError::Empty) => {}
            }
            let earliest = self.endpoint.wishes().lock().pop_front();
            if let Some((scale, done)) = earliest {
                // Who wished it may have stopped waiting.
                let _ = done.send(grant(scale));
            }
        }
    }
}

// === impl Wishes ===

impl Wishes {
    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<(Scale, mpsc::Sender<Outcome>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
