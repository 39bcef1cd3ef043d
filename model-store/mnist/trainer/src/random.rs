//! The one source of chance: the same seed and the same number of the picture draw the same digit.

use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;

#[derive(Debug)]
pub(crate) struct Chance(Pcg64Mcg);

// === impl Chance ===

impl Chance {
    /// Each picture has a stream of its own, so that threads share no state and their number changes nothing.
    pub(crate) fn of(seed: u64, number: u64) -> Self {
        // An odd constant far from any pattern: neighbouring numbers land in unrelated streams.
        let mixed = seed.rotate_left(32) ^ number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        Self(Pcg64Mcg::seed_from_u64(mixed))
    }

    pub(crate) fn unit(&mut self) -> f32 {
        self.0.random::<f32>()
    }

    pub(crate) fn between(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.unit()
    }

    pub(crate) fn happens(&mut self, share: f32) -> bool {
        self.unit() < share
    }

    pub(crate) fn below(&mut self, count: usize) -> usize {
        self.0.random_range(0..count)
    }

    /// A normal value, held within three widths: a slip of the hand, not a catastrophe.
    pub(crate) fn normal(&mut self, width: f32) -> f32 {
        let radius = (-2.0 * (1.0 - self.unit()).max(1e-7).ln()).sqrt();
        let angle = std::f32::consts::TAU * self.unit();
        (radius * angle.cos()).clamp(-3.0, 3.0) * width
    }

    /// A factor around 1, as likely to shrink as to grow.
    pub(crate) fn factor(&mut self, width: f32) -> f32 {
        self.normal(width).exp()
    }

    /// Which of the choices is taken, by their shares.
    pub(crate) fn pick<'a, T>(&mut self, choices: &'a [T], share: impl Fn(&T) -> f32) -> &'a T {
        let mut left = self.unit() * choices.iter().map(&share).sum::<f32>();
        for choice in choices {
            left -= share(choice);
            if left < 0.0 {
                return choice;
            }
        }
        choices.last().expect("a table of choices is never empty; this is a bug")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_and_number_give_the_same_stream() {
        let (mut a, mut b) = (Chance::of(7, 3), Chance::of(7, 3));
        assert_eq!([a.unit(), a.normal(1.0)], [b.unit(), b.normal(1.0)]);
        for (seed, number) in [(7, 4), (8, 3), (3, 7)] {
            assert_ne!(Chance::of(7, 3).unit(), Chance::of(seed, number).unit());
        }
    }

    #[test]
    fn choices_come_by_their_shares() {
        let mut chance = Chance::of(1, 1);
        let rare = (0..10_000).filter(|_| *chance.pick(&[0.9, 0.1], |s| *s) == 0.1).count();
        assert!((800..1200).contains(&rare), "{rare} of 10000, not about 1000");
    }
}
