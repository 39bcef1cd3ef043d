//! Fresh digits, drawn ahead of the training by a thread of their own.

use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use tch::{Kind, Tensor};

use crate::draw::{self, Style};
use crate::picture::{PIXELS, Picture, SIDE};
use crate::random::Chance;

/// Mean and deviation of MNIST's training pictures, as every MNIST example normalises by them.
const MEAN: f64 = 0.1307;
const DEVIATION: f64 = 0.3081;

/// Digits and the picture of each, as bytes.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    digits: Vec<i64>,
    pixels: Vec<u8>,
}

/// Draws `batches` batches of `size` digits; their number alone decides what is drawn.
pub(crate) fn start(seed: u64, batches: u64, size: u64) -> Receiver<Batch> {
    // A few batches ahead are enough: drawing is quicker than training.
    let (sender, receiver) = sync_channel(8);
    thread::spawn(move || {
        for batch in 0..batches {
            let drawn = drawn(seed, batch * size..(batch + 1) * size);
            if sender.send(drawn).is_err() {
                return;
            }
        }
    });
    receiver
}

fn drawn(seed: u64, numbers: std::ops::Range<u64>) -> Batch {
    let mut batch = Batch::default();
    for number in numbers {
        let digit = Chance::of(!seed, number).below(10) as u8;
        batch.push(digit, &draw::digit(digit, Style::Training, seed, number));
    }
    batch
}

// === impl Batch ===

impl Batch {
    pub(crate) fn push(&mut self, digit: u8, picture: &Picture) {
        self.digits.push(digit.into());
        self.pixels.extend_from_slice(&picture.0);
    }

    /// The pictures as the network takes them, [N, 1, 28, 28].
    pub(crate) fn pictures(&self) -> Tensor {
        let side = SIDE as i64;
        let count = (self.pixels.len() / PIXELS) as i64;
        let bytes = Tensor::from_slice(&self.pixels).view([count, 1, side, side]);
        (bytes.to_kind(Kind::Float) / 255.0 - MEAN) / DEVIATION
    }

    pub(crate) fn digits(&self) -> Tensor {
        Tensor::from_slice(&self.digits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_the_same_each_time_and_normalised() {
        let first = |seed| start(seed, 2, 64).recv().unwrap();
        assert_eq!(first(3).pixels, first(3).pixels);
        assert_ne!(first(3).pixels, first(4).pixels);
        let pictures = first(3).pictures();
        assert_eq!(pictures.size(), [64, 1, 28, 28]);
        let low = pictures.min().double_value(&[]);
        assert!((low + MEAN / DEVIATION).abs() < 1e-5, "black is {low}");
    }
}
