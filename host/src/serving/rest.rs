//! When a server is at rest, so that what its calls have freed is better given back to the system than kept for the next one.

use std::time::Duration;
use std::time::Instant;

/// Since when nothing was answered.
#[derive(Debug, Default)]
pub(super) struct Rest {
    /// How much had been answered, when that was first seen, and whether the rest that followed was told.
    last: Option<(u64, Instant, bool)>,
}

/// The next call after it takes its memory from the system anew.
const AFTER: Duration = Duration::from_secs(10);

// === impl Rest ===

impl Rest {
    /// Whether nothing was answered for a while, which is told once; `answered` may be any number that changes with each answer.
    pub(super) fn has_come(&mut self, now: Instant, answered: u64) -> bool {
        match &mut self.last {
            Some((before, since, was_told)) if *before == answered => {
                let comes = !*was_told && now.saturating_duration_since(*since) >= AFTER;
                *was_told |= comes;
                comes
            }
            last => {
                *last = Some((answered, now, false));
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rest_comes_once_after_each_answer() {
        let mut rest = Rest::default();
        let begin = Instant::now();
        let looks = [
            (0, 0, false),
            (9, 0, false),
            (10, 0, true),
            (30, 0, false),
            // An answer, and others at each look.
            (31, 1, false),
            (40, 2, false),
            (49, 3, false),
            (58, 3, false),
            (59, 3, true),
            (99, 3, false),
            // A generation that has answered less has come.
            (100, 2, false),
            (110, 2, true),
        ];
        for (second, answered, expected) in looks {
            let comes = rest.has_come(begin + Duration::from_secs(second), answered);
            assert_eq!(comes, expected, "second {second}, {answered} answered");
        }
    }
}
