//! What batches of each size take, and which size the next one has.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::model::BUCKETS;

/// The sizes that batches come in, and the time of each.
#[derive(Debug)]
pub(super) struct Pace {
    /// In rising order; the first is 1.
    sizes: Vec<Size>,
    /// The largest that may be used.
    largest: AtomicUsize,
    /// Whether the server itself chooses the sizes: those that pay.
    is_automatic: bool,
}

#[derive(Debug)]
struct Size {
    requests: usize,
    /// Of a batch, in nanoseconds; 0 where there was none yet.
    time: AtomicU64,
    /// Whether it takes no more for a request than smaller ones do.
    pays: AtomicBool,
}

/// How much of the difference is learned from a batch that took more: little, for it may have been disturbed.
const SHARE_OF_MORE: u64 = 16;

/// And from one that took less.
const SHARE_OF_LESS: u64 = 2;

/// A size that takes so much of the time for a request of the best smaller one still pays: it asks less of the server around the model.
const AS_GOOD: f64 = 1.05;

// === impl Pace ===

impl Pace {
    /// Batches of 1, until larger ones are known to give each request the same as it gets alone.
    pub(super) fn automatic() -> Self {
        let pace = Self::up_to(BUCKETS[BUCKETS.len() - 1]);
        pace.sizes.iter().skip(1).for_each(|size| size.pays.store(false, Ordering::Relaxed));
        Self { largest: AtomicUsize::new(1), is_automatic: true, ..pace }
    }

    /// Batches up to a size that was asked for.
    pub(super) fn up_to(largest: usize) -> Self {
        let buckets = BUCKETS.into_iter().filter(|&size| size < largest).chain([largest.max(1)]);
        let sizes = buckets.map(Size::new).collect();
        Self { sizes, largest: AtomicUsize::new(largest.max(1)), is_automatic: false }
    }

    pub(super) fn is_automatic(&self) -> bool {
        self.is_automatic
    }

    /// The largest that may be used now.
    pub(super) fn largest(&self) -> usize {
        self.largest.load(Ordering::Relaxed)
    }

    /// What a request takes alone, so far as that is known.
    pub(super) fn of_one(&self) -> Option<Duration> {
        self.sizes.first().and_then(Size::time)
    }

    /// The sizes that may be used now.
    pub(super) fn sizes(&self) -> Vec<usize> {
        let largest = self.largest();
        self.sizes.iter().map(|size| size.requests).filter(|&requests| requests <= largest).collect()
    }

    /// The time of a batch of each size that may be used, so far as it is known.
    pub(super) fn times(&self) -> Vec<(usize, Duration)> {
        let largest = self.largest();
        let used = self.sizes.iter().filter(|size| size.requests <= largest);
        used.filter_map(|size| size.time().map(|time| (size.requests, time))).collect()
    }

    /// These sizes give each request the same as it gets alone, and the model takes so long for them; where the size is left to the server, those that pay may be used from now on.
    pub(super) fn verified(&self, batches: &[(usize, Duration)]) {
        let mut least = f64::INFINITY;
        for (requests, time) in batches {
            let Some(size) = self.sizes.iter().find(|size| size.requests == *requests) else { continue };
            // What was learned since counts for more.
            let _ = size.time.compare_exchange(0, nanoseconds(*time), Ordering::Relaxed, Ordering::Relaxed);
            let each = time.as_secs_f64() / *requests as f64;
            if self.is_automatic && each <= least * AS_GOOD {
                size.pays.store(true, Ordering::Relaxed);
                self.largest.fetch_max(*requests, Ordering::Relaxed);
            }
            least = least.min(each);
        }
    }

    /// A batch of that size has taken so long.
    pub(super) fn learn(&self, requests: usize, took: Duration) {
        let Some(size) = self.sizes.iter().find(|size| size.requests == requests) else { return };
        let (known, latest) = (size.time.load(Ordering::Relaxed), nanoseconds(took));
        let learned = match known {
            0 => latest,
            // Two workers may learn at once, and one of them be forgotten.
            _ if latest > known => known + (latest - known) / SHARE_OF_MORE,
            _ => known - (known - latest) / SHARE_OF_LESS,
        };
        size.time.store(learned.max(1), Ordering::Relaxed);
    }

    /// The size of the next batch, at most `share`; 1 where that is 0.
    ///
    /// A goal for latency is kept by batches that take half of it at most: a request may have to wait for the batch before its own.
    pub(super) fn choose(&self, share: usize, goal: Option<Duration>) -> usize {
        let most = share.min(self.largest());
        let can_be = self.sizes.iter().enumerate().take_while(|(_, size)| size.requests <= most);
        let in_time = |index: usize| goal.is_none_or(|goal| self.estimate(index).is_none_or(|time| time <= goal / 2));
        let chosen = can_be.filter(|(index, size)| *index == 0 || (size.pays() && in_time(*index))).last();
        chosen.map_or(1, |(_, size)| size.requests)
    }

    /// What a batch of a size takes; of one that was never seen, as much for a request as the next smaller one.
    fn estimate(&self, index: usize) -> Option<Duration> {
        let wanted = self.sizes[index].requests;
        let known = self.sizes[..=index].iter().rev().find_map(|size| Some((size.requests, size.time()?)));
        known.map(|(requests, time)| time.mul_f64(wanted as f64 / requests as f64))
    }
}

// === impl Size ===

impl Size {
    fn new(requests: usize) -> Self {
        Self { requests, time: AtomicU64::new(0), pays: AtomicBool::new(true) }
    }

    fn pays(&self) -> bool {
        self.pays.load(Ordering::Relaxed)
    }

    fn time(&self) -> Option<Duration> {
        let nanoseconds = self.time.load(Ordering::Relaxed);
        (nanoseconds > 0).then(|| Duration::from_nanos(nanoseconds))
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One whose sizes take these microseconds.
    fn automatic(micros: &[u64]) -> Pace {
        let pace = Pace::automatic();
        let batches: Vec<(usize, Duration)> =
            [1, 2, 4, 8, 16, 32].into_iter().zip(micros.iter().map(|&micros| Duration::from_micros(micros))).collect();
        pace.verified(&batches);
        pace
    }

    #[test]
    fn a_batch_has_the_size_that_takes_least_for_a_request() {
        let optimized = [243, 400, 648, 1144, 2192, 4672];
        let as_loaded = [280, 700, 1604, 2608, 6656, 15584];
        for (name, micros, share, expected) in [
            ("optimised", &optimized[..], 32, 16),
            ("optimised, few wait", &optimized, 5, 4),
            ("a size that was never tried", &optimized, 7, 4),
            ("optimised, one waits", &optimized, 1, 1),
            ("as it was loaded", &as_loaded, 32, 1),
            ("small ones verified", &optimized[..3], 32, 4),
            ("none verified", &[], 32, 1),
            ("nothing waits", &optimized, 0, 1),
        ] {
            assert_eq!(automatic(micros).choose(share, None), expected, "{name}");
        }
    }

    #[test]
    fn a_goal_is_kept_by_what_is_known_or_else_guessed() {
        let pace = Pace::up_to(12);
        assert_eq!(pace.sizes(), [1, 2, 3, 4, 6, 8, 12]);
        let goal = Some(Duration::from_millis(20));
        // Nothing is known yet.
        assert_eq!(pace.choose(12, goal), 12);
        pace.learn(1, Duration::from_millis(2));
        assert_eq!(pace.choose(12, goal), 4);
        pace.learn(4, Duration::from_millis(4));
        assert_eq!(pace.choose(12, goal), 8);
        // Even one takes too long.
        pace.learn(1, Duration::from_secs(1));
        assert_eq!(pace.choose(12, Some(Duration::from_millis(1))), 1);
    }

    #[test]
    fn what_was_asked_for_is_taken_whatever_it_takes() {
        let pace = Pace::up_to(8);
        pace.learn(1, Duration::from_millis(1));
        pace.learn(8, Duration::from_millis(80));
        assert_eq!(pace.choose(8, None), 8);
    }
}
