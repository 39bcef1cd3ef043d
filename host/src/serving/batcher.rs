//! When a worker takes a batch, and of what size: a function of the queue, the clock, and what batches of each size have taken so far.

use std::time::Duration;
use std::time::Instant;

use super::pace::Pace;

/// How a model's requests are put together, as its settings say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchPolicy {
    /// The most requests of one batch, at least 1; `None` leaves it to the server.
    pub size: Option<usize>,
    /// How long the oldest request waits for others; `None`: no longer than until a worker is idle.
    pub delay: Option<Duration>,
    /// How long an answer should take at most.
    pub target_latency: Option<Duration>,
}

/// The policy of one generation, and what it has learned.
#[derive(Debug)]
pub(super) struct Batcher {
    policy: BatchPolicy,
    pub(super) pace: Pace,
}

/// What a worker sees when it looks for work.
#[derive(Debug, Clone, Copy)]
pub(super) struct View {
    pub(super) now: Instant,
    /// Requests at the head of the queue that can share a batch.
    pub(super) waiting: usize,
    /// When the first of them arrived.
    pub(super) oldest: Option<Instant>,
    /// Workers without work, the one that looks among them.
    pub(super) idle: usize,
}

/// What a worker does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    /// Take that many requests now.
    Take(usize),
    /// Look again then, or when a request arrives.
    WaitUntil(Instant),
    /// Look again when a request arrives.
    Wait,
}

/// What TorchServe waits where nobody says otherwise; clients read it.
const USUAL_DELAY: Duration = Duration::from_millis(100);

const QUICK: Duration = Duration::from_micros(30);

// === impl BatchPolicy ===

impl BatchPolicy {
    /// The size that was asked for: 1 where nobody asked, as in TorchServe.
    pub fn asked_size(self) -> usize {
        self.size.unwrap_or(1)
    }

    /// The most that a request may wait for others.
    pub fn longest_delay(self) -> Duration {
        self.delay.unwrap_or(USUAL_DELAY)
    }
}

// === impl Batcher ===

impl Batcher {
    pub(super) fn new(policy: BatchPolicy) -> Self {
        // Who waits as long as somebody asked for waits for a batch that somebody asked for.
        let pace = match (policy.size, policy.delay) {
            (None, None) => Pace::automatic(),
            (size, _) => Pace::up_to(size.unwrap_or(1)),
        };
        Self { policy, pace }
    }

    pub(super) fn policy(&self) -> BatchPolicy {
        self.policy
    }

    /// The most requests that a batch can have now.
    pub(super) fn most(&self) -> usize {
        self.pace.largest()
    }

    /// Whether requests that come at the same time are put into the queue first, and a worker is called once for all of them.
    ///
    /// It pays where a batch of one takes no longer than waking a thread does, and where larger batches take less for each.
    pub(super) fn shares_calls(&self) -> bool {
        let is_quick = self.pace.of_one().is_some_and(|time| time < QUICK);
        is_quick || (self.pace.is_automatic() && self.most() > 1)
    }

    pub(super) fn decide(&self, view: View) -> Decision {
        let Some(oldest) = view.oldest else {
            return Decision::Wait;
        };
        let Some(delay) = self.policy.delay else {
            // Nobody waits while a worker is idle, and those that are share what is there.
            let share = view.waiting.div_ceil(view.idle.max(1));
            return Decision::Take(self.pace.choose(share, self.policy.target_latency));
        };
        let most = match self.policy.target_latency {
            Some(_) => self.pace.choose(self.most(), self.policy.target_latency),
            None => self.most(),
        };
        if view.waiting >= most {
            return Decision::Take(most);
        }
        match oldest.checked_add(delay) {
            Some(end) if end > view.now => Decision::WaitUntil(end),
            _ => Decision::Take(view.waiting),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batcher(size: usize, delay: Option<u64>) -> Batcher {
        Batcher::new(BatchPolicy { size: Some(size), delay: delay.map(Duration::from_millis), target_latency: None })
    }

    #[test]
    fn with_a_delay_a_batch_is_taken_when_it_is_full_or_old() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        for (size, delay, now, waiting, oldest, expected) in [
            (1, 100, at(0), 0, None, Decision::Wait),
            (1, 100, at(0), 1, Some(at(0)), Decision::Take(1)),
            (1, 100, at(0), 5, Some(at(0)), Decision::Take(1)),
            (4, 100, at(10), 1, Some(at(0)), Decision::WaitUntil(at(100))),
            (4, 100, at(100), 1, Some(at(0)), Decision::Take(1)),
            (4, 100, at(100), 3, Some(at(0)), Decision::Take(3)),
            (4, 100, at(10), 4, Some(at(0)), Decision::Take(4)),
            (4, 100, at(10), 9, Some(at(0)), Decision::Take(4)),
            (4, 0, at(0), 3, Some(at(0)), Decision::Take(3)),
        ] {
            let view = View { now, waiting, oldest, idle: 2 };
            assert_eq!(batcher(size, Some(delay)).decide(view), expected, "{size}, {delay} ms, {waiting} waiting");
        }
    }

    #[test]
    fn without_one_idle_workers_share_what_waits() {
        let now = Instant::now();
        for (size, waiting, idle, expected) in [
            (8, 0, 2, Decision::Wait),
            (8, 1, 1, Decision::Take(1)),
            (8, 8, 1, Decision::Take(8)),
            (8, 8, 2, Decision::Take(4)),
            (8, 7, 1, Decision::Take(6)),
            (6, 7, 1, Decision::Take(6)),
            (8, 5, 1, Decision::Take(4)),
            (8, 3, 2, Decision::Take(2)),
            (8, 3, 8, Decision::Take(1)),
            (8, 100, 2, Decision::Take(8)),
            (1, 100, 2, Decision::Take(1)),
        ] {
            let view = View { now, waiting, oldest: (waiting > 0).then_some(now), idle };
            assert_eq!(batcher(size, None).decide(view), expected, "{size}, {waiting} waiting, {idle} idle");
        }
    }

    #[test]
    fn a_delay_without_a_size_keeps_nobody_waiting() {
        let policy = BatchPolicy { size: None, delay: Some(Duration::from_millis(100)), target_latency: None };
        let (batcher, now) = (Batcher::new(policy), Instant::now());
        batcher.pace.verified(&[(1, Duration::from_millis(1)), (32, Duration::from_millis(2))]);
        assert_eq!(batcher.decide(View { now, waiting: 3, oldest: Some(now), idle: 1 }), Decision::Take(1));
    }

    #[test]
    fn a_goal_for_latency_makes_batches_smaller() {
        let policy = BatchPolicy {
            size: Some(32),
            delay: Some(Duration::from_millis(50)),
            target_latency: Some(Duration::from_millis(10)),
        };
        let batcher = Batcher::new(policy);
        for (size, millis) in [(1, 1), (2, 2), (4, 4), (8, 8), (16, 16), (32, 32)] {
            batcher.pace.learn(size, Duration::from_millis(millis));
        }
        let now = Instant::now();
        // One may have to wait for the batch before its own, so that a batch takes half of the goal at most.
        assert_eq!(batcher.decide(View { now, waiting: 32, oldest: Some(now), idle: 1 }), Decision::Take(4));
    }
}
