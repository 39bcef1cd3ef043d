//! How many workers an endpoint should have just now: a function of its load and the clock alone.

use std::time::Duration;
use std::time::Instant;

use super::QueueStatus;
use super::Scale;
use crate::config::AutoscaleConfig;

/// What was seen of an endpoint's load; asked again and again, it tells how many workers there should be.
#[derive(Debug, Default)]
pub(super) struct Autoscaler {
    /// Since when requests have waited without a pause.
    busy_since: Option<Instant>,
    /// Since when a worker has had nothing to do without a pause.
    idle_since: Option<Instant>,
}

// === impl Autoscaler ===

impl Autoscaler {
    /// One worker more where requests have waited for a while and nobody was idle, one fewer where somebody has been idle for long; always within the scale.
    pub(super) fn decide(
        &mut self,
        now: Instant,
        config: AutoscaleConfig,
        scale: Scale,
        workers: usize,
        queue: QueueStatus,
    ) -> usize {
        let is_busy = queue.waiting > 0 && queue.idle == 0;
        let has_idle = queue.idle > 0 && queue.waiting == 0;
        let grows = since(&mut self.busy_since, is_busy, now, config.grow_after);
        let shrinks = since(&mut self.idle_since, has_idle, now, config.shrink_after);
        let wanted = match (grows, shrinks) {
            (true, _) => workers + 1,
            (_, true) => workers.saturating_sub(1),
            _ => workers,
        };
        wanted.clamp(scale.min, scale.max)
    }
}

/// Whether that has held for so long; then the time runs anew.
fn since(start: &mut Option<Instant>, holds: bool, now: Instant, limit: Duration) -> bool {
    if !holds {
        *start = None;
        return false;
    }
    let is_over = now.saturating_duration_since(*start.get_or_insert(now)) >= limit;
    if is_over {
        *start = Some(now);
    }
    is_over
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_come_with_the_queue_and_go_when_idle() {
        let config = AutoscaleConfig { grow_after: Duration::from_millis(500), shrink_after: Duration::from_secs(30) };
        let scale = Scale { min: 1, max: 3 };
        let start = Instant::now();
        let mut autoscaler = Autoscaler::default();
        let mut workers = 1;
        // At this many milliseconds: so many wait, so many are idle, and then there are so many workers.
        for (millis, waiting, idle, expected) in [
            (0, 0, 1, 1),
            (100, 5, 0, 1),
            (500, 5, 0, 1),
            (600, 5, 0, 2),
            (700, 5, 0, 2),
            // A moment in which nobody waits.
            (800, 0, 0, 2),
            (900, 5, 0, 2),
            (1400, 5, 0, 3),
            (1900, 5, 0, 3),
            (2000, 0, 2, 3),
            (31_900, 0, 2, 3),
            (32_000, 0, 2, 2),
            (62_000, 0, 2, 1),
            (92_000, 0, 1, 1),
        ] {
            let queue = QueueStatus { remaining: 100, waiting, idle };
            workers = autoscaler.decide(start + Duration::from_millis(millis), config, scale, workers, queue);
            assert_eq!(workers, expected, "at {millis} ms");
        }
    }

    #[test]
    fn a_fixed_scale_stays() {
        let config = AutoscaleConfig { grow_after: Duration::ZERO, shrink_after: Duration::ZERO };
        let queue = QueueStatus { remaining: 0, waiting: 100, idle: 0 };
        let mut autoscaler = Autoscaler::default();
        for workers in [1, 2, 3] {
            assert_eq!(autoscaler.decide(Instant::now(), config, Scale::fixed(2), workers, queue), 2);
        }
    }
}
