//! Whether a worker that has answered lets whoever brings requests go first, before it looks for more.
//!
//! Under load that makes its next batch larger, and spares it the sleep. Where nothing comes meanwhile, as with many models of which each is seldom asked, it is a change of threads for nothing.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

/// How often in a row a worker has found nothing.
#[derive(Debug, Default)]
pub(super) struct Lull(AtomicU32);

/// So many tell that nothing will come.
const ENOUGH: u32 = 4;

/// Once in so many it is tried again.
const AGAIN: u32 = 64;

// === impl Lull ===

impl Lull {
    /// Whether to let others go first now.
    pub(super) fn gives_way(&self) -> bool {
        let in_vain = self.0.load(Ordering::Relaxed);
        in_vain < ENOUGH || in_vain.is_multiple_of(AGAIN)
    }

    /// What a worker has found when it looked, whether or not it had let others go first.
    pub(super) fn learn(&self, has_found: bool) {
        if !has_found {
            self.0.fetch_add(1, Ordering::Relaxed);
        } else if self.0.load(Ordering::Relaxed) != 0 {
            self.0.store(0, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn way_is_given_while_it_brings_something_and_tried_again_now_and_then() {
        let lull = Lull::default();
        let given = |found: &[bool]| -> Vec<bool> {
            let ask = |&found| {
                let gives = lull.gives_way();
                lull.learn(found);
                gives
            };
            found.iter().map(ask).collect()
        };
        assert!(given(&[true; 100]).iter().all(|&gives| gives));
        let alone = given(&[false; 200]);
        let tries: Vec<_> = (0..200).filter(|&at| alone[at]).collect();
        assert_eq!(tries, [0, 1, 2, 3, 64, 128, 192]);
        // One that was there without it is enough.
        assert_eq!(given(&[true, false, false, true]), [false, true, true, true]);
    }
}
