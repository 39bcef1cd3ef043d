//! When a worker takes a batch, and of what size: a function of the queue and the clock alone.

use std::time::Duration;
use std::time::Instant;

/// How a model's requests are put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchPolicy {
    /// The most requests of one batch; at least 1.
    pub size: usize,
    /// How long the oldest request may wait for others.
    pub delay: Duration,
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

// === impl BatchPolicy ===

impl BatchPolicy {
    /// `oldest` is when the first request in the queue arrived; `None` where the queue is empty.
    pub(super) fn decide(self, now: Instant, waiting: usize, oldest: Option<Instant>) -> Decision {
        let Some(oldest) = oldest else {
            return Decision::Wait;
        };
        if waiting >= self.size {
            return Decision::Take(self.size);
        }
        match oldest.checked_add(self.delay) {
            Some(end) if end > now => Decision::WaitUntil(end),
            _ => Decision::Take(waiting),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_taken_when_it_is_full_or_old() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let policy = |size, delay| BatchPolicy { size, delay: Duration::from_millis(delay) };
        for (policy, now, waiting, oldest, expected) in [
            (policy(1, 100), at(0), 0, None, Decision::Wait),
            (policy(1, 100), at(0), 1, Some(at(0)), Decision::Take(1)),
            (policy(1, 100), at(0), 5, Some(at(0)), Decision::Take(1)),
            (policy(4, 100), at(10), 1, Some(at(0)), Decision::WaitUntil(at(100))),
            (policy(4, 100), at(100), 1, Some(at(0)), Decision::Take(1)),
            (policy(4, 100), at(10), 4, Some(at(0)), Decision::Take(4)),
            (policy(4, 100), at(10), 9, Some(at(0)), Decision::Take(4)),
            (policy(4, 0), at(0), 3, Some(at(0)), Decision::Take(3)),
        ] {
            assert_eq!(policy.decide(now, waiting, oldest), expected, "{policy:?}, {waiting} waiting");
        }
    }
}
