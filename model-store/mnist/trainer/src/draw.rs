//! One digit, from the idea of it to 28 by 28 greys.

use crate::compass;
use crate::curve::Point;
use crate::layout;
use crate::pen::{self, Inked};
use crate::picture::{PIXELS, Picture, SIDE};
use crate::random::Chance;
use crate::skeleton;
use crate::warp;

/// Who draws.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// The many hands the network learns from.
    Training,
    /// Digits put together from arcs and lines by other code, which the network never learns from.
    HeldOut,
}

/// Draws one digit; the same arguments give the same picture.
pub(crate) fn digit(digit: u8, style: Style, seed: u64, number: u64) -> Picture {
    let mut chance = Chance::of(seed ^ ((style as u64) << 40), number);
    let mut lines = match style {
        Style::Training => {
            let strokes = skeleton::any(digit, &mut chance).mixed(&mut chance);
            warp::written(&strokes, digit, &mut chance)
        }
        Style::HeldOut => compass::drawn(digit, &mut chance),
    };
    let radius = match style {
        // Half the width of a line in pixels: most lines of MNIST are two to four wide, some thinner.
        Style::Training => (1.33 * chance.factor(0.3)).clamp(0.55, 3.1),
        Style::HeldOut => chance.between(1.0, 1.8),
    };
    layout::fit(&mut lines, radius, chance.between(0.96, 1.02));
    let lines: Vec<Inked> = lines.iter().map(|line| pressed(line, radius, &mut chance)).collect();
    let grid = pen::cover(&lines, &roughness(&mut chance));
    finished(&grid, style, &mut chance)
}

/// The pen presses harder here and lighter there, and a flat nib is thin along one direction.
fn pressed(line: &[Point], radius: f32, chance: &mut Chance) -> Inked {
    let sway = chance.between(0.0, 0.22);
    let (pace, phase) = (chance.between(0.05, 0.3), chance.between(0.0, std::f32::consts::TAU));
    let nib = if chance.happens(0.4) { chance.between(0.0, 0.3) } else { 0.0 };
    let angle = chance.between(0.0, std::f32::consts::PI);
    let thin = if chance.happens(0.3) { chance.between(0.4, 0.9) } else { 1.0 };
    let last = line.len() - 1;
    let at = |i: usize| {
        let (a, b) = (line[i.saturating_sub(1)], line[(i + 1).min(last)]);
        let across = ((b.y - a.y).atan2(b.x - a.x) - angle).sin().abs();
        let end = if i + 8 > last { thin + (1.0 - thin) * (last - i) as f32 / 8.0 } else { 1.0 };
        let press = 1.0 + sway * (pace * i as f32 + phase).sin();
        (line[i], (radius * press * end * (1.0 - nib * across)).max(0.4))
    };
    (0..line.len()).map(at).collect()
}

/// Scanned ink has ragged edges; neighbours are uneven together, since the paper's fibre is.
fn roughness(chance: &mut Chance) -> [f32; PIXELS] {
    let width = if chance.happens(0.7) { chance.between(0.0, 0.2) } else { 0.0 };
    let mut grid = [0.0; PIXELS];
    let mut before = 0.0;
    for pixel in &mut grid {
        before = 0.4 * before + chance.normal(width);
        *pixel = before;
    }
    grid
}

/// Centres, softens, sets the contrast and rounds to bytes.
fn finished(grid: &[f32; PIXELS], style: Style, chance: &mut Chance) -> Picture {
    let slip = |chance: &mut Chance| {
        if style == Style::Training && chance.happens(0.25) { chance.below(3) as i32 - 1 } else { 0 }
    };
    let off = (slip(chance), slip(chance));
    let centred = layout::centred(grid, off);
    let soft = if chance.happens(0.6) { chance.between(0.0, 0.2) } else { 0.0 };
    let soft = softened(&centred, soft);
    let gain = chance.between(0.95, 1.35);
    let gamma = chance.factor(0.15);
    let mut picture = Picture([0; PIXELS]);
    for (byte, ink) in picture.0.iter_mut().zip(soft) {
        *byte = ((ink * gain).min(1.0).powf(gamma) * 255.0).round() as u8;
    }
    picture
}

/// Each pixel takes a share of its four neighbours.
fn softened(grid: &[f32; PIXELS], share: f32) -> [f32; PIXELS] {
    let mut soft = *grid;
    let at = |x: i32, y: i32| {
        let inside = 0..SIDE as i32;
        if inside.contains(&x) && inside.contains(&y) { grid[y as usize * SIDE + x as usize] } else { 0.0 }
    };
    for (i, pixel) in soft.iter_mut().enumerate() {
        let (x, y) = ((i % SIDE) as i32, (i / SIDE) as i32);
        let around = at(x - 1, y) + at(x + 1, y) + at(x, y - 1) + at(x, y + 1);
        *pixel = (*pixel + share * around) / (1.0 + 4.0 * share);
    }
    soft
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_and_number_draw_the_same_picture() {
        for style in [Style::Training, Style::HeldOut] {
            assert_eq!(digit(4, style, 7, 9), digit(4, style, 7, 9));
            assert_ne!(digit(4, style, 7, 9), digit(4, style, 7, 10));
            assert_ne!(digit(4, style, 7, 9), digit(4, style, 8, 9));
        }
        assert_ne!(digit(4, Style::Training, 7, 9), digit(4, Style::HeldOut, 7, 9));
    }

    #[test]
    fn digits_are_white_ink_on_black_within_the_margin() {
        for number in 0..400 {
            for style in [Style::Training, Style::HeldOut] {
                let picture = digit((number % 10) as u8, style, 1, number);
                let ink = picture.0.iter().map(|&g| f32::from(g) / 255.0).sum::<f32>();
                assert!((15.0..330.0).contains(&ink), "{style:?} {number}: ink on {ink} pixels");
                let corners = [0, SIDE - 1, PIXELS - SIDE, PIXELS - 1];
                assert!(corners.iter().all(|&c| picture.0[c] == 0), "{style:?} {number}: ink in a corner");
            }
        }
    }

    /// MNIST's mean grey is 0.1307 of white: a network normalised by it needs digits of about that much ink.
    #[test]
    fn there_is_about_as_much_ink_as_in_mnist() {
        let sum: f32 = (0..2000)
            .map(|n| digit((n % 10) as u8, Style::Training, 5, n))
            .map(|p| p.0.iter().map(|&g| f32::from(g) / 255.0).sum::<f32>() / PIXELS as f32)
            .sum();
        let mean = sum / 2000.0;
        assert!((0.115..0.15).contains(&mean), "mean grey {mean}");
    }
}
