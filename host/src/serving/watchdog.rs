//! Looks after all that is served while nobody asks for it: handlers that hang, workers that are gone, code that panics, memory that nobody needs.

use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::mpsc;
use std::time::Duration;
use std::time::Instant;

use super::Endpoint;
use super::Registry;
use super::loader::Alarm;
use super::rest::Rest;
use crate::model::trim_memory;

/// Workers are looked after this often within the shortest response timeout.
const LOOKS_PER_TIMEOUT: u32 = 10;
/// And so often while a load grows or shrinks that workers are to follow.
const LOOKS_PER_LOAD: u32 = 2;
const SHORTEST_LOOK: Duration = Duration::from_millis(10);
const LONGEST_LOOK: Duration = Duration::from_secs(1);

impl Registry {
    /// Answers for handlers that hang, replaces workers that are gone, and rolls back what panics, until the registry is closed. Blocks: call it on a thread of its own.
    pub fn watch(self: &Arc<Self>) {
        let alarms = self.alarms.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next_look = Instant::now();
        let mut rest = Rest::default();
        loop {
            let endpoints = self.endpoints();
            let pause = self.pause(&endpoints);
            next_look = next_look.min(Instant::now() + pause);
            match alarms.recv_timeout(next_look.saturating_duration_since(Instant::now())) {
                Ok(Alarm::Close) | Err(mpsc::RecvTimeoutError::Disconnected) => return,
                Ok(alarm) => self.answer(alarm),
                Err(mpsc::RecvTimeoutError::Timeout) => {}
            }
            // Alarms, however many, don't put it off.
            let now = Instant::now();
            if now >= next_look {
                endpoints.iter().for_each(|endpoint| endpoint.look_after_workers(now));
                let answered =
                    endpoints.iter().filter_map(|endpoint| Some(endpoint.current()?.entry().answers())).sum();
                if rest.has_come(now, answered) {
                    trim_memory();
                }
                next_look = now + pause;
            }
        }
    }

    /// How long nobody needs to be looked after: a part of the shortest time that anything may take.
    fn pause(&self, endpoints: &[Arc<Endpoint>]) -> Duration {
        let autoscale = self.config.autoscale;
        let limits = endpoints.iter().flat_map(|endpoint| {
            let settings = endpoint.settings();
            let follows_load = settings.scale.min < settings.scale.max;
            let load = follows_load.then(|| autoscale.grow_after.min(autoscale.shrink_after) / LOOKS_PER_LOAD);
            load.into_iter().chain([settings.response_timeout / LOOKS_PER_TIMEOUT])
        });
        limits.min().unwrap_or(LONGEST_LOOK).clamp(SHORTEST_LOOK, LONGEST_LOOK)
    }

    /// On a thread of its own, since it may take as long as a start.
    fn answer(self: &Arc<Self>, alarm: Alarm) {
        let registry = Arc::clone(self);
        let thread = std::thread::Builder::new().name("rollback".to_owned());
        if let Err(error) = thread.spawn(move || registry.roll_back_panicking(&alarm)) {
            tracing::error!(%error, "no thread for a rollback");
        }
    }
}
