//! The workers of a generation: how many there are, who comes and who goes, and who looks after those that hang.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::time::Duration;
use std::time::Instant;

use super::Generation;
use super::LoadError;
use super::Scale;
use super::WorkerState;
use super::autoscale::Autoscaler;
use super::worker::NotMade;
use super::worker::Role;
use super::worker::Worker;

/// The workers, and what went wrong with those before them.
#[derive(Debug)]
pub(super) struct Crew {
    pub(super) workers: Vec<Worker>,
    /// Those who prepare requests for the workers.
    pub(super) preparers: Vec<Worker>,
    /// How many of them were started so far.
    pub(super) preparers_started: usize,
    pub(super) scale: Scale,
    /// How many there should be now.
    wanted: usize,
    autoscaler: Autoscaler,
    /// Attempts to start a worker since the last one that got ready.
    attempts: u32,
    last_attempt: Option<Instant>,
    /// All are told to end, and none takes their place.
    is_dismissed: bool,
    /// Since when there have been too few workers.
    short_since: Option<Instant>,
}

/// Hears from each worker once whether its handler is ready.
type Ready = mpsc::Sender<Result<(), NotMade>>;

/// A handler that hangs again and again would fill the process with threads.
pub(super) const MOST_STUCK: usize = 16;

/// Before the second attempt to start a worker; each further one waits twice as long, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

// === impl Generation ===

impl Generation {
    pub(super) fn scale(&self) -> Scale {
        self.lock().scale
    }

    /// The first workers; returns once all are ready, or one isn't.
    pub(super) fn start_workers(&self) -> Result<(), LoadError> {
        let mut crew = self.lock();
        let count = crew.wanted;
        self.share_cores(&crew);
        let (ready, made) = mpsc::channel();
        for number in crew.free_numbers().take(count) {
            self.add_worker(&mut crew, number, ready.clone())?;
        }
        drop(crew);
        self.wait_until_made(&made, count)
    }

    /// From now on there are as many workers as this says. Blocks until those that come are ready and those that go have answered what they had in hand.
    ///
    /// Where one can't be made, all is as it was before.
    pub(super) fn rescale(&self, scale: Scale) -> Result<(), LoadError> {
        let (ready, made) = mpsc::channel();
        let mut crew = self.lock();
        if crew.is_dismissed {
            return Err(LoadError::Retired);
        }
        let (before, wanted_before) = (crew.scale, crew.wanted);
        let at_work = crew.at_work();
        crew.scale = scale;
        crew.wanted = at_work.clamp(scale.min, scale.max);
        let coming = crew.wanted.saturating_sub(at_work);
        self.share_cores(&crew);
        let mut numbers = crew.free_numbers().take(coming);
        let added = numbers.try_for_each(|number| self.add_worker(&mut crew, number, ready.clone()));
        let leaving = crew.take_surplus();
        drop(crew);
        self.wake_workers();
        self.tell_left_behind(Worker::join_all(leaving, self.settings().response_timeout));
        let made = added.and_then(|()| self.wait_until_made(&made, coming));
        if made.is_err() {
            let mut crew = self.lock();
            crew.scale = before;
            crew.wanted = wanted_before;
            self.share_cores(&crew);
        }
        made
    }

    /// Answers for workers whose call has taken too long, starts others in place of those that are gone, and lets their number follow the load.
    ///
    /// The error says that there is no worker left and that no further one is tried.
    pub(super) fn look_after_workers(&self, now: Instant) -> Result<(), String> {
        let settings = self.settings();
        let mut crew = self.lock();
        if crew.is_dismissed {
            return Ok(());
        }
        for worker in crew.workers.extract_if(.., |worker| worker.is_finished()) {
            worker.join_finished();
        }
        self.give_up_late(&crew, now);
        let crew = &mut *crew;
        self.look_after_preparers(crew);
        crew.wanted = crew.autoscaler.decide(now, self.autoscale(), crew.scale, crew.wanted, self.queue_status());
        self.share_cores(crew);
        let at_work = crew.at_work();
        if at_work > crew.wanted {
            let surplus = at_work - crew.wanted;
            crew.workers.iter().rev().filter(|worker| worker.is_at_work()).take(surplus).for_each(Worker::dismiss);
            self.wake_workers();
        }
        if at_work >= crew.wanted {
            // One that is still getting ready has proved nothing.
            if crew.workers.iter().all(|worker| worker.status().state != WorkerState::Loading) {
                crew.attempts = 0;
                crew.short_since = None;
            }
            return Ok(());
        }
        let stuck = crew.workers.iter().filter(|worker| worker.status().state == WorkerState::Stuck).count();
        let short_for = now.saturating_duration_since(*crew.short_since.get_or_insert(now));
        if at_work == 0 && stuck >= MOST_STUCK {
            return Err(format!(
                "{stuck} calls of the handler hang, and no further worker is started: mend the handler"
            ));
        }
        if at_work == 0 && short_for >= settings.max_retry_timeout {
            return Err(format!(
                "no worker could be started for {} s; the log says why",
                settings.max_retry_timeout.as_secs()
            ));
        }
        if stuck < MOST_STUCK && crew.may_try(now) {
            for number in crew.free_numbers().take(crew.wanted - at_work) {
                // It tells the log itself why it can't get ready.
                if let Err(error) = self.add_worker(crew, number, mpsc::channel().0) {
                    let plan = self.plan();
                    tracing::error!(model = %plan.model, version = %plan.version, %error, "no worker could be started");
                }
            }
        }
        Ok(())
    }

    /// Joins what ends within `limit` for each step, and leaves the rest behind.
    pub(super) fn join_workers(&self, limit: Duration) {
        let workers = {
            let mut crew = self.lock();
            crew.is_dismissed = true;
            let preparers = std::mem::take(&mut crew.preparers);
            std::mem::take(&mut crew.workers).into_iter().chain(preparers).collect()
        };
        self.tell_left_behind(Worker::join_all(workers, limit));
    }

    /// Each worker's operations may use as many threads as there are cores for it.
    fn share_cores(&self, crew: &Crew) {
        let threads = self.settings().cores / crew.wanted.max(1);
        self.plan().threads.store(threads.max(1), Ordering::Relaxed);
    }

    fn tell_left_behind(&self, workers: usize) {
        if workers > 0 {
            let plan = self.plan();
            tracing::warn!(
                model = %plan.model, version = %plan.version, generation = %plan.generation, workers,
                "a handler never came back from a call"
            );
        }
    }

    fn give_up_late(&self, crew: &Crew, now: Instant) {
        let (plan, limit) = (self.plan(), self.settings().startup_timeout);
        for worker in crew.workers.iter().chain(&crew.preparers) {
            if worker.give_up_if_late(now, plan.response_timeout) {
                tracing::error!(
                    model = %plan.model, version = %plan.version, generation = %plan.generation, worker = worker.number(),
                    limit = ?plan.response_timeout, "the handler takes longer than responseTimeout; another worker takes its place"
                );
            } else if worker.is_late_to_start(limit) {
                tracing::error!(
                    model = %plan.model, version = %plan.version, generation = %plan.generation, worker = worker.number(),
                    ?limit, "the handler takes longer than startupTimeout to get ready"
                );
            }
        }
    }

    /// Waits for so many workers to say that they are ready.
    fn wait_until_made(&self, made: &mpsc::Receiver<Result<(), NotMade>>, count: usize) -> Result<(), LoadError> {
        let limit = self.settings().startup_timeout;
        let end = Instant::now() + limit;
        let build = self.build();
        for _ in 0..count {
            let (handler, library) = (build.handler.clone(), build.library.source().to_owned());
            match made.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    return Err(LoadError::Initialize { handler, library, reason: error.log_text().to_owned() });
                }
                Err(_) => return Err(LoadError::StartupTimedOut { handler, library, limit }),
            }
        }
        Ok(())
    }

    fn add_worker(&self, crew: &mut Crew, number: usize, ready: Ready) -> Result<(), LoadError> {
        crew.workers.push(self.start_thread((Role::Worker, number), ready)?);
        Ok(())
    }

    pub(super) fn start_thread(&self, role: (Role, usize), ready: Ready) -> Result<Worker, LoadError> {
        let library = self.library.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(library) = library else {
            return Err(LoadError::Retired);
        };
        let (plan, queue, gate) = (Arc::clone(&self.plan), Arc::clone(&self.queue), Arc::clone(&self.gate));
        Worker::start(role, plan, library, queue, gate, ready).map_err(LoadError::Thread)
    }
}

// === impl Crew ===

impl Crew {
    pub(super) fn new(scale: Scale) -> Self {
        Self {
            workers: Vec::new(),
            preparers: Vec::new(),
            preparers_started: 0,
            scale,
            wanted: scale.min,
            autoscaler: Autoscaler::default(),
            attempts: 0,
            last_attempt: None,
            is_dismissed: false,
            short_since: None,
        }
    }

    /// Those that no worker has, the lowest first: however often workers come and go, their names stay few.
    fn free_numbers(&self) -> impl Iterator<Item = usize> + use<> {
        let taken: HashSet<usize> = self.workers.iter().map(Worker::number).collect();
        (0..).filter(move |number| !taken.contains(number))
    }

    fn at_work(&self) -> usize {
        self.workers.iter().filter(|worker| worker.is_at_work()).count()
    }

    /// Those that there are too many of, the latest first, told to leave.
    fn take_surplus(&mut self) -> Vec<Worker> {
        let mut surplus = self.at_work().saturating_sub(self.wanted);
        let mut leaving = Vec::new();
        for index in (0..self.workers.len()).rev() {
            if surplus > 0 && self.workers[index].is_at_work() {
                surplus -= 1;
                let worker = self.workers.remove(index);
                worker.dismiss();
                leaving.push(worker);
            }
        }
        leaving
    }

    /// Whether enough time has passed since the last attempt; if so, this is the next one.
    fn may_try(&mut self, now: Instant) -> bool {
        let pause = match self.attempts {
            0 => Duration::ZERO,
            attempts => (FIRST_PAUSE * 2_u32.saturating_pow(attempts - 1).min(1024)).min(LONGEST_PAUSE),
        };
        let may = self.last_attempt.is_none_or(|last| now.saturating_duration_since(last) >= pause);
        if may {
            self.attempts += 1;
            self.last_attempt = Some(now);
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_are_spaced_further_and_further() {
        let start = Instant::now();
        let mut crew = Crew::new(Scale::fixed(1));
        let tries: Vec<u64> = (0..8000).filter(|&millis| crew.may_try(start + Duration::from_millis(millis))).collect();
        assert_eq!(tries, [0, 500, 1500, 3500, 7500]);
    }
}
