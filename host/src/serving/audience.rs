//! The clients of the batch that a worker has in hand, as the handler reaches them during its call.

use std::time::Duration;
use std::time::Instant;

use handler_sdk::Answer;
use handler_sdk::abi::instance::Clients;

use super::worker::Shared;

/// The clients of some requests of the batch in hand.
pub(super) struct Audience<'a> {
    pub(super) shared: &'a Shared,
    /// The place in the batch of the first of them.
    pub(super) first: usize,
    pub(super) response_timeout: Duration,
}

/// How long a worker waits for a client that takes none of what waits for it.
const PATIENCE: Duration = Duration::from_secs(10);

impl Clients for Audience<'_> {
    fn send(&self, index: usize, piece: Answer) -> bool {
        // The lock isn't held while this waits for the client.
        let (sender, piece) = {
            let mut in_hand = self.shared.lock();
            // The watchdog has answered the batch: nobody waits any more.
            let Some(batch) = in_hand.as_mut() else { return false };
            // A handler that sends something doesn't hang.
            batch.since = Instant::now();
            let Some((reply, queued)) = batch.waiting.get_mut(self.first + index) else { return false };
            match reply.stream(piece, *queued) {
                Ok(begun) => return begun,
                Err(going_on) => going_on,
            }
        };
        // So much shorter that the watchdog doesn't take the waiting for a call that hangs.
        let taken = sender.send(piece.body, PATIENCE.min(self.response_timeout / 2));
        if let Some(batch) = self.shared.lock().as_mut() {
            batch.since = Instant::now();
        }
        taken
    }

    fn want(&self, index: usize) -> bool {
        let in_hand = self.shared.lock();
        let reply = in_hand.as_ref().and_then(|batch| batch.waiting.get(self.first + index));
        reply.is_some_and(|(reply, _)| reply.is_wanted())
    }
}
