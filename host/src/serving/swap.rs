//! A swap: the new generation is prepared beside the old one, takes over its queue in one step, and the old one is retired.
//!
//! A failure anywhere before that step changes nothing for clients.

use std::sync::Arc;
use std::sync::MutexGuard;
use std::time::Duration;
use std::time::Instant;

use super::Endpoint;
use super::Generation;
use super::GenerationRecord;
use super::GenerationState;
use super::LoadError;
use super::Registry;
use super::Step;
use super::SwapError;
use super::Trigger;
use super::loader::Alarm;
use super::loader::Code;
use super::loader::Tally;
use super::record::Entry;
use super::source::Source;
use crate::archive::Package;
use crate::ids::GenerationId;
use crate::plugin::own_thread;

/// How a swap ended that wasn't refused.
#[derive(Debug, Clone)]
pub enum Swapped {
    /// This generation serves now.
    Yes(Box<GenerationRecord>),
    /// What lies on disk is what this generation serves already.
    Unchanged(GenerationId),
}

/// Whether a swap takes place where nothing has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Force {
    IfChanged,
    Always,
}

/// What is to be served next.
pub(super) enum Next {
    /// What lies on disk for an archive's handler.
    OnDisk { archive: Archive, force: Force },
    /// What has served before.
    Before,
    /// The same, if this generation still serves.
    BeforePanicking(GenerationId),
}

/// How long the workers of a generation that hung may take to end.
const LEAVE_TAKING: Duration = Duration::from_secs(1);

/// Which archive; found out once no other swap is under way, since that may have brought another.
pub(super) enum Archive {
    /// The one that serves, or the one after it that misses its library.
    Opened,
    /// The file or folder as it is now.
    Anew,
    /// One that was opened for this.
    Given(Arc<Package>),
}

/// All that a generation is made from, or why there is nothing to make it from.
type Parts = Result<(Arc<Source>, Code), LoadError>;

impl Registry {
    /// Makes a generation and gives it the endpoint's queue. Blocks until it serves or is refused; what it replaces is retired in the background.
    pub(super) fn swap(&self, endpoint: &Arc<Endpoint>, next: Next, trigger: Trigger) -> Result<Swapped, SwapError> {
        // However busy it is: it has nothing of a library that is being closed.
        own_thread();
        let swapping = endpoint.one_swap_at_a_time();
        self.swap_alone(&swapping, endpoint, next, trigger)
    }

    /// The same for one who has waited for the other swaps of this endpoint.
    pub(super) fn swap_alone(
        &self,
        _swapping: &MutexGuard<'_, ()>,
        endpoint: &Arc<Endpoint>,
        next: Next,
        trigger: Trigger,
    ) -> Result<Swapped, SwapError> {
        if endpoint.is_idle() && trigger != Trigger::Scale {
            // What lies on disk is taken when it gets workers.
            if let Next::OnDisk { archive: Archive::Given(package), .. } = &next {
                endpoint.take_in(self.source_like(endpoint, package));
            }
            return Err(SwapError::NoWorkers { name: endpoint.name().clone(), version: endpoint.version().clone() });
        }
        let serving = endpoint.serving();
        let parts = match next {
            Next::BeforePanicking(panicking) if serving.as_ref().is_some_and(|now| now.id() != panicking) => {
                return Ok(Swapped::Unchanged(serving.map_or(panicking, |now| now.id())));
            }
            Next::Before | Next::BeforePanicking(_) => {
                let build = endpoint.before().ok_or_else(|| SwapError::NothingBefore {
                    name: endpoint.name().clone(),
                    version: endpoint.version().clone(),
                })?;
                Ok((Arc::clone(&build.source), Code::Kept(build)))
            }
            Next::OnDisk { archive, force } => {
                let source = match archive {
                    Archive::Opened => Ok(endpoint.latest()),
                    Archive::Anew => self.look_again(endpoint),
                    Archive::Given(package) => Ok(self.source_like(endpoint, &package)),
                };
                let parts = source.and_then(|source| {
                    let found = self.loader.find(&source);
                    // Only what misses its library is tried again with the next one: any other archive is no better for it.
                    endpoint.want(found.is_err().then_some(&source));
                    Ok((source, Code::Found(found?)))
                });
                if let (Some(serving), Ok((source, code)), Force::IfChanged) = (&serving, &parts, force)
                    && serving.build().source.package.digest == source.package.digest
                    && code.digest().is_ok_and(|digest| digest == serving.build().library.digest())
                {
                    serving.was_found_at(code.path());
                    return Ok(Swapped::Unchanged(serving.id()));
                }
                parts
            }
        };
        self.make(endpoint, parts, trigger)
    }

    fn make(&self, endpoint: &Arc<Endpoint>, parts: Parts, trigger: Trigger) -> Result<Swapped, SwapError> {
        let started = Instant::now();
        let id = self.loader.next_generation();
        let entry = Arc::new(Entry::new(id, trigger, self.metrics().swaps().clone()));
        endpoint.begin(Arc::clone(&entry));
        let tally = Tally {
            entry: Arc::clone(&entry),
            // What was gone back to has nothing better before it.
            panic_limit: self.config.swap.rollback_after_panics.filter(|_| !trigger.goes_back()),
            alarm: self.alarm.clone(),
        };
        let made = parts.and_then(|(source, code)| self.loader.prepare(endpoint, &source, code, &tally));
        let published = made.and_then(|generation| self.publish(endpoint, &Arc::new(generation)));
        match published {
            Ok(old) => {
                let record = entry.read();
                self.tell_published(endpoint, &record, old.as_deref(), started);
                if let Some(old) = old {
                    retire(endpoint, old);
                }
                Ok(Swapped::Yes(Box::new(record)))
            }
            Err(error) => {
                entry.write(|record| {
                    // One whose worker never came back stays what it is.
                    if record.state != GenerationState::Stuck {
                        record.state = GenerationState::Refused;
                    }
                    record.reason = Some(error.to_string());
                });
                self.tell_refused(endpoint, &entry, &error);
                Err(SwapError::Refused { generation: id, error })
            }
        }
    }

    /// Lets the new generation take over from the one that serves, which is returned to be retired. Where it can't, it is retired itself.
    fn publish(
        &self,
        endpoint: &Arc<Endpoint>,
        generation: &Arc<Generation>,
    ) -> Result<Option<Arc<Generation>>, LoadError> {
        let entry = generation.entry();
        let serving = endpoint.serving().filter(|serving| generation.takes_state_of(serving));
        let passed = serving.as_ref().map(|old| entry.step(Step::HandOver, || generation.take_state_of(old)));
        let passed = match passed.transpose() {
            // Who goes back wants to be rid of the code that serves, with or without its state.
            Err(error) if entry.trigger().goes_back() => {
                tracing::warn!(generation = %generation.id(), %error, "rolling back without the state");
                Ok(None)
            }
            passed => passed,
        };
        let failed = match passed {
            Ok(_) => match entry.step(Step::Publish, || endpoint.publish(Arc::clone(generation))) {
                Ok(old) => return Ok(old),
                Err(closed) => {
                    // It was paused, and has a closed queue to empty.
                    serving.inspect(|serving| serving.resume());
                    closed
                }
            },
            Err(error) => error,
        };
        // One that hangs in import_state is waited for no longer.
        let limit = match failed {
            LoadError::HandOverTimedOut { .. } => LEAVE_TAKING,
            _ => generation.settings().startup_timeout,
        };
        generation.retire_unpublished(limit);
        Err(failed)
    }

    fn tell_published(
        &self,
        endpoint: &Endpoint,
        record: &GenerationRecord,
        old: Option<&Generation>,
        started: Instant,
    ) {
        let (model, version, trigger) = (endpoint.name(), endpoint.version(), record.trigger.as_str());
        let settings = endpoint.settings();
        let steps = record.steps.iter().map(|(step, time)| format!("{} {time:.1?}", step.as_str()));
        let steps = steps.collect::<Vec<_>>().join(", ");
        if let Some(old) = old {
            let outcome = if record.trigger.goes_back() { "rolled_back" } else { "swapped" };
            self.metrics().swaps().swap_ended(model, version, outcome);
            tracing::info!(
                %model, %version, generation = %record.id, instead_of = %old.id(), trigger, took = ?started.elapsed(), steps,
                "swapped"
            );
        } else {
            tracing::info!(
                %model, %version, generation = %record.id, trigger, workers = settings.scale.min,
                device = %settings.device, took = ?started.elapsed(), steps, "model ready"
            );
        }
    }

    fn tell_refused(&self, endpoint: &Endpoint, entry: &Entry, error: &LoadError) {
        let (model, version, trigger) = (endpoint.name(), endpoint.version(), entry.trigger().as_str());
        if let Some(serving) = endpoint.serving() {
            self.metrics().swaps().swap_ended(model, version, "refused");
            tracing::error!(
                %model, %version, generation = %entry.id(), trigger, still_serving = %serving.id(), %error, "swap refused"
            );
        } else {
            tracing::error!(%model, %version, generation = %entry.id(), trigger, %error, "model not served");
            endpoint.fail(error.to_string());
        }
    }

    /// Goes back to what has served before, because a generation panics.
    pub(super) fn roll_back_panicking(&self, alarm: &Alarm) {
        let Alarm::Panics { model, version, generation } = alarm else { return };
        let Ok(endpoint) = self.find(model.as_str(), Some(version.as_str())) else { return };
        let limit = self.config.swap.rollback_after_panics.unwrap_or_default();
        let reason = format!("it panicked {limit} times in a row");
        let panicking = endpoint.serving().filter(|serving| serving.id() == *generation);
        match self.swap(&endpoint, Next::BeforePanicking(*generation), Trigger::Panics) {
            Ok(Swapped::Yes(record)) => {
                tracing::error!(%model, %version, %generation, now = %record.id, "rolled back: {reason}");
                if let Some(panicking) = panicking {
                    panicking.entry().write(|record| record.reason = Some(format!("rolled back: {reason}")));
                }
            }
            Ok(Swapped::Unchanged(_)) => {}
            Err(error) => tracing::error!(%model, %version, %generation, %error, "not rolled back, though {reason}"),
        }
    }
}

/// Ends a generation that another has replaced, on a thread of its own: its library's clean-up runs on it.
pub(super) fn retire(endpoint: &Arc<Endpoint>, generation: Arc<Generation>) {
    let id = generation.id();
    let of_thread = Arc::clone(endpoint);
    let started = std::thread::Builder::new().name(format!("retire {id}")).spawn(move || {
        own_thread();
        generation.drain(generation.settings().response_timeout);
        of_thread.drained();
        generation.let_go();
    });
    if let Err(error) = started {
        // Its workers end by themselves; only its code stays.
        tracing::error!(generation = %id, %error, "no thread to retire a generation; its code stays mapped");
        endpoint.drained();
    }
}
