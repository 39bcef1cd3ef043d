//! The held-out hand: digits of arcs and straight lines, made by other code than the training digits.
//!
//! It shares no table and no warp with `skeleton` and `warp`, so that being right here is no memory.

use crate::curve::Point;
use crate::random::Chance;

#[derive(Debug)]
enum Part {
    /// Middle, radii, first and last angle in degrees; 0 is right, 90 is down.
    Arc {
        middle: (f32, f32),
        radii: (f32, f32),
        from: f32,
        to: f32,
    },
    Line {
        from: (f32, f32),
        to: (f32, f32),
    },
}

fn arc(middle: (f32, f32), radii: (f32, f32), from: f32, to: f32) -> Part {
    Part::Arc { middle, radii, from, to }
}

fn line(from: (f32, f32), to: (f32, f32)) -> Part {
    Part::Line { from, to }
}

/// The lines of the digit, about one unit high.
pub(crate) fn drawn(digit: u8, chance: &mut Chance) -> Vec<Vec<Point>> {
    let strokes = strokes(digit, chance);
    let slant = chance.normal(0.15) + 0.08;
    let turn = chance.normal(0.07);
    let wide = chance.between(0.8, 1.25);
    let (sin, cos) = turn.sin_cos();
    let shape = |p: Point| {
        let (x, y) = (p.x * wide - slant * p.y, p.y);
        Point { x: x * cos - y * sin, y: x * sin + y * cos }
    };
    strokes.iter().map(|stroke| stroke.iter().flat_map(Part::points).map(shape).collect()).collect()
}

fn strokes(digit: u8, chance: &mut Chance) -> Vec<Vec<Part>> {
    let mut about = |middle: f32, width: f32| middle + chance.between(-width, width);
    // The height at which head and belly meet, and how wide either is.
    let (waist, head, belly) = (about(0.46, 0.06), about(0.25, 0.05), about(0.28, 0.05));
    let (top, foot) = (waist / 2.0, (1.0 - waist) / 2.0);
    let (gap, length) = (about(20.0, 20.0), about(0.15, 0.08));
    match digit {
        0 => vec![vec![arc((0.0, 0.5), (head + 0.05, 0.5), -80.0 + gap, -430.0 - gap)]],
        1 if gap < 24.0 => vec![vec![line((0.0, 0.0), (0.0, 1.0))]],
        1 => vec![vec![line((-length, length), (0.0, 0.0)), line((0.0, 0.0), (0.0, 1.0))]],
        2 => vec![vec![
            arc((0.0, head), (head, head), 190.0 + gap, 390.0),
            line((head * 0.87, head * 1.5), (-head, 1.0)),
            line((-head, 1.0), (head + length * 0.5, 1.0 - length * 0.1)),
        ]],
        3 => vec![vec![
            arc((0.0, top), (head, top), 200.0 + gap, 440.0),
            arc((0.0, 1.0 - foot), (belly, foot), 280.0, 520.0 - gap),
        ]],
        4 => vec![
            vec![line((-0.05 - length * 0.5, 0.0), (-0.3, 0.62)), line((-0.3, 0.62), (0.15 + length, 0.6))],
            vec![line((0.08, length), (0.06, 1.0))],
        ],
        5 => vec![
            vec![line((-0.22, 0.0), (-0.25, waist)), arc((-0.02, 1.0 - foot), (belly, foot), 215.0, 505.0 - gap)],
            vec![line((-0.22, 0.0), (0.1 + length, 0.0))],
        ],
        6 => vec![vec![
            arc((0.35, 0.72), (0.35 + belly, 0.72), 255.0, 180.0),
            arc((0.0, 0.74), (belly, 0.26), 180.0, -170.0 + gap),
        ]],
        7 => vec![vec![line((-0.3, 0.05), (0.28, 0.0)), line((0.28, 0.0), (0.1 - length * 1.5, 1.0))]],
        8 => vec![
            vec![arc((0.0, top), (head * 0.85, top), 90.0, 450.0)],
            vec![arc((0.0, 1.0 - foot), (belly * 0.9, foot), -90.0, 270.0)],
        ],
        _ => vec![vec![
            arc((0.0, top), (head * 0.95, top), -30.0 + gap, -360.0),
            line((head * 0.95, top), (head * 0.95 - length, 1.0)),
        ]],
    }
}

// === impl Part ===

impl Part {
    fn points(&self) -> Vec<Point> {
        const STEPS: usize = 24;
        let at = |t: f32| match *self {
            Self::Arc { middle, radii, from, to } => {
                let (sin, cos) = (from + (to - from) * t).to_radians().sin_cos();
                Point { x: middle.0 + radii.0 * cos, y: middle.1 + radii.1 * sin }
            }
            Self::Line { from, to } => Point { x: from.0 + (to.0 - from.0) * t, y: from.1 + (to.1 - from.1) * t },
        };
        (0..=STEPS).map(|step| at(step as f32 / STEPS as f32)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_digit_is_about_one_unit_high() {
        for number in 0..200 {
            let lines = drawn((number % 10) as u8, &mut Chance::of(1, number));
            let ys: Vec<f32> = lines.iter().flatten().map(|p| p.y).collect();
            let height = ys.iter().copied().fold(f32::MIN, f32::max) - ys.iter().copied().fold(f32::MAX, f32::min);
            assert!((0.8..1.3).contains(&height), "digit {}: {height} high", number % 10);
        }
    }
}
