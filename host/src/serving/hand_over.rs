//! State that passes from the objects of one generation to those of the next, while the endpoint's requests wait.
//!
//! A worker's object is called on its own thread alone, so each worker is given an errand, which it runs between two batches.

use std::sync::mpsc;
use std::time::Duration;
use std::time::Instant;

use handler_sdk::Error as HandlerError;

use super::Generation;
use super::LoadError;

/// What one object has handed over, in the form of the code that wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HandlerState {
    pub(super) version: u32,
    pub(super) bytes: Vec<u8>,
}

/// What a worker is to do once, instead of the next batch.
#[derive(Debug)]
pub(super) enum Errand {
    /// `None` comes back where the worker has no object just now.
    Export(mpsc::Sender<Result<Option<HandlerState>, HandlerError>>),
    Import {
        states: Vec<HandlerState>,
        done: mpsc::Sender<Result<(), HandlerError>>,
    },
}

/// How long requests wait for a hand-over at most; then the old code goes on.
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

impl Generation {
    /// Whether both codes have a state to pass.
    pub(super) fn takes_state_of(&self, old: &Self) -> bool {
        old.hands_over_state() && self.hands_over_state()
    }

    /// Pauses the old generation and gives its objects' state to those of this one. Where this fails, the old one goes on as if nothing had been.
    ///
    /// After a success it stays paused, to be replaced next.
    pub(super) fn take_state_of(&self, old: &Self) -> Result<(), LoadError> {
        let end = Instant::now() + LONGEST_PAUSE.min(old.settings().response_timeout);
        old.pause();
        let passed = old.export_state(end).and_then(|states| self.import_state(states, end));
        if passed.is_err() {
            old.give_up_errands();
            old.resume();
        }
        passed
    }

    /// The states of all workers that have one. One that can't be written is lost: code that can't hand over must not be there for ever.
    fn export_state(&self, end: Instant) -> Result<Vec<HandlerState>, LoadError> {
        let (sender, exported) = mpsc::channel();
        let asked = self.send_errands(|_| Some(Errand::Export(sender.clone())));
        let mut states = Vec::new();
        for _ in 0..asked {
            match exported.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(Ok(state)) => states.extend(state),
                Ok(Err(error)) => {
                    tracing::error!(
                        generation = %self.id(), %error, "the old handler can't hand over its state; the new one begins without it"
                    );
                }
                // Only what hangs in the export itself is missing: that is code that can't hand over, too.
                Err(_) if self.give_up_errands() == 0 => {
                    tracing::error!(
                        generation = %self.id(), "the old handler hangs in export_state; the new one begins without its state"
                    );
                    break;
                }
                Err(_) => return Err(self.too_slow("the old handler is still busy")),
            }
        }
        Ok(states)
    }

    fn import_state(&self, states: Vec<HandlerState>, end: Instant) -> Result<(), LoadError> {
        // Dealt out in turn, so that none is lost where workers became fewer.
        let mut shares = vec![Vec::new(); self.worker_count().max(1)];
        let count = shares.len();
        states.into_iter().enumerate().for_each(|(index, state)| shares[index % count].push(state));
        let (done, imported) = mpsc::channel();
        let asked = self.send_errands(|index| {
            let states = shares.get_mut(index).map(std::mem::take).filter(|states| !states.is_empty())?;
            Some(Errand::Import { states, done: done.clone() })
        });
        for _ in 0..asked {
            match imported.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    return Err(LoadError::ImportState {
                        handler: self.build().handler.clone(),
                        library: self.build().library.source().to_owned(),
                        reason: error.log_text().to_owned(),
                    });
                }
                Err(_) => return Err(self.too_slow("the new handler is still in import_state")),
            }
        }
        Ok(())
    }

    fn too_slow(&self, what: &'static str) -> LoadError {
        LoadError::HandOverTimedOut { what, limit: LONGEST_PAUSE.min(self.settings().response_timeout) }
    }
}
