//! Chance that can be repeated: what a test does in random order follows from one number.
//!
//! `SCONCE_TEST_SEED` is that number; a test that fails says which it was.

/// Random numbers, the same for the same seed (Steele's `SplitMix64`).
#[derive(Debug)]
pub(crate) struct Chance(u64);

/// Where all chance of a test comes from; says so when the test fails.
#[derive(Debug)]
pub(crate) struct Seed(u64);

const DEFAULT: u64 = 20_261_122;

// === impl Seed ===

impl Seed {
    pub(crate) fn of_this_run() -> Self {
        let given = std::env::var("SCONCE_TEST_SEED").ok();
        Self(given.map_or(DEFAULT, |text| text.parse().unwrap()))
    }

    /// A course of its own for each who is named by a number.
    pub(crate) fn chance(&self, of: usize) -> Chance {
        Chance(Chance(self.0).next() ^ Chance(of as u64).next())
    }
}

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("once more the same: SCONCE_TEST_SEED={}", self.0);
        }
    }
}

// === impl Chance ===

impl Chance {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Another course, that goes on apart from this one.
    pub(crate) fn branch(&mut self) -> Self {
        Self(self.next())
    }

    /// Less than this.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    /// One time in so many.
    pub(crate) fn one_in(&mut self, many: usize) -> bool {
        self.below(many) == 0
    }

    pub(crate) fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
}
