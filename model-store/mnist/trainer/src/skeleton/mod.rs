//! How people write each digit: tables of points, with room between them.
//!
//! A family is one way to write a digit; its hands are people who write it that way.
//! Hands of a family have the same strokes with the same number of points, so that any mixture of
//! them is a hand as well: ten rows in a table are thousands of people.

mod five_to_nine;
mod zero_to_four;

use crate::curve::Point;
use crate::random::Chance;

/// Percent of the digit's height: x to the right, y down. A point given twice in a row is a corner.
type Place = (i16, i16);
type Hand = &'static [&'static [Place]];

/// One way to write a digit.
#[derive(Debug)]
pub(crate) struct Family {
    /// How often people write the digit this way, against the digit's other families.
    share: f32,
    hands: &'static [Hand],
}

// === impl Family ===

impl Family {
    /// The strokes of somebody between the hands of this family, and sometimes a little beyond them.
    pub(crate) fn mixed(&self, chance: &mut Chance) -> Vec<Vec<Point>> {
        let shares = mixture(self.hands.len(), chance);
        let mut strokes = Vec::new();
        for (s, stroke) in self.hands[0].iter().enumerate() {
            let place = |p: usize| {
                let mut at = Point { x: 0.0, y: 0.0 };
                for (hand, share) in self.hands.iter().zip(&shares) {
                    at.x += f32::from(hand[s][p].0) * share;
                    at.y += f32::from(hand[s][p].1) * share;
                }
                at
            };
            strokes.push((0..stroke.len()).map(place).collect());
        }
        strokes
    }
}

/// The ways to write the digit.
pub(crate) fn families(digit: u8) -> &'static [Family] {
    use {five_to_nine as high, zero_to_four as low};
    [low::ZERO, low::ONE, low::TWO, low::THREE, low::FOUR, high::FIVE, high::SIX, high::SEVEN, high::EIGHT, high::NINE]
        [usize::from(digit)]
}

/// One of the ways to write the digit, by how common they are.
pub(crate) fn any(digit: u8, chance: &mut Chance) -> &'static Family {
    chance.pick(families(digit), |family| family.share)
}

fn mixture(hands: usize, chance: &mut Chance) -> Vec<f32> {
    // Powers make some mixtures lean to one hand and leave others in the middle.
    let power = chance.between(0.5, 4.0);
    let mut shares: Vec<f32> = (0..hands).map(|_| chance.unit().powf(power) + 1e-3).collect();
    let sum: f32 = shares.iter().sum();
    let beyond = chance.between(0.9, 1.2);
    for share in &mut shares {
        let even = 1.0 / hands as f32;
        *share = even + (*share / sum - even) * beyond;
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hands_of_a_family_have_the_same_strokes_and_points() {
        for digit in 0..10 {
            for (f, family) in families(digit).iter().enumerate() {
                let shape = |hand: &Hand| hand.iter().map(|stroke| stroke.len()).collect::<Vec<_>>();
                for (h, hand) in family.hands.iter().enumerate() {
                    assert_eq!(shape(hand), shape(&family.hands[0]), "digit {digit}, family {f}, hand {h}");
                }
            }
        }
    }

    #[test]
    fn the_hands_of_a_family_have_their_corners_at_the_same_points() {
        for digit in 0..10 {
            for (f, family) in families(digit).iter().enumerate() {
                let corners = |hand: &Hand| -> Vec<Vec<bool>> {
                    hand.iter().map(|stroke| stroke.windows(2).map(|w| w[0] == w[1]).collect()).collect()
                };
                for (h, hand) in family.hands.iter().enumerate() {
                    assert_eq!(corners(hand), corners(&family.hands[0]), "digit {digit}, family {f}, hand {h}");
                }
            }
        }
    }

    #[test]
    fn a_mixture_is_whole() {
        for number in 0..50 {
            let sum: f32 = mixture(4, &mut Chance::of(1, number)).iter().sum();
            assert!((sum - 1.0).abs() < 1e-4, "the shares add up to {sum}");
        }
    }
}
