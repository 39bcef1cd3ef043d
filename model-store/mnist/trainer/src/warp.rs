//! What makes two people's strokes differ: slips, slant, width, and paper that seems to stretch.

use crate::curve::{Point, smooth};
use crate::random::Chance;

/// One person's way of bending a shape: the same for all strokes of a digit.
#[derive(Debug)]
struct Bend {
    /// Powers below 1 push the middle down or right, above 1 up or left: small heads, large bellies.
    power: (f32, f32),
    /// The head wider than the foot, or the other way about.
    taper: f32,
    width: f32,
    slant: f32,
    turn: f32,
    waves: [Wave; 3],
}

/// A slow swell of the paper.
#[derive(Debug)]
struct Wave {
    along: (f32, f32),
    push: (f32, f32),
    phase: f32,
}

/// The lines a pen follows for these strokes, in units of about the digit's height.
pub(crate) fn written(strokes: &[Vec<Point>], digit: u8, chance: &mut Chance) -> Vec<Vec<Point>> {
    let slip = chance.between(0.8, 3.6);
    let bend = Bend::any(digit, chance);
    let moved = |chance: &mut Chance, several: bool| {
        // Strokes written apart don't meet exactly.
        let width = if several { 2.2 } else { 0.0 };
        (chance.normal(width), chance.normal(width))
    };
    let mut lines = Vec::new();
    for stroke in strokes {
        let (dx, dy) = moved(chance, strokes.len() > 1);
        let mut points = slipped(stroke, slip, chance);
        for point in &mut points {
            point.x += dx;
            point.y += dy;
        }
        let mut line = smooth(&points);
        ends(&mut line, chance);
        for point in &mut line {
            *point = bend.apply(Point { x: point.x / 100.0, y: point.y / 100.0 });
        }
        lines.push(line);
    }
    lines
}

fn slipped(stroke: &[Point], slip: f32, chance: &mut Chance) -> Vec<Point> {
    let mut points: Vec<Point> = Vec::with_capacity(stroke.len());
    for (i, place) in stroke.iter().enumerate() {
        // Both halves of a corner slip together, or it would be two places.
        let corner = i > 0 && stroke[i - 1] == *place;
        let point = match points.last() {
            Some(last) if corner => *last,
            _ => Point { x: place.x + chance.normal(slip), y: place.y + chance.normal(slip) },
        };
        points.push(point);
    }
    points
}

/// The pen comes down late, leaves early, or runs on.
fn ends(line: &mut Vec<Point>, chance: &mut Chance) {
    for _ in 0..2 {
        line.reverse();
        if line.len() > 12 && chance.happens(0.35) {
            let rest = line.len() - chance.below(line.len() / 12 + 1);
            line.truncate(rest);
        } else if chance.happens(0.25) {
            let (a, b) = (line[line.len() - 3], line[line.len() - 1]);
            let length = (b.x - a.x).hypot(b.y - a.y).max(1e-3);
            let run = chance.between(1.0, 8.0);
            let lean = chance.normal(0.5);
            let (dx, dy) = ((b.x - a.x) / length, (b.y - a.y) / length);
            line.push(Point { x: b.x + run * (dx - dy * lean), y: b.y + run * (dy + dx * lean) });
        }
    }
}

// === impl Bend ===

impl Bend {
    fn any(digit: u8, chance: &mut Chance) -> Self {
        // People lean to the right more than to the left, and a lone line leans most of all.
        let (slant, most) = if digit == 1 { (0.34, 1.0) } else { (0.26, 0.9) };
        Self {
            power: (chance.factor(0.12), chance.factor(0.14)),
            taper: chance.normal(0.15),
            width: (chance.factor(0.24) * 1.02).clamp(0.45, 1.9),
            slant: (chance.normal(slant) + 0.14).clamp(-most, most),
            turn: chance.normal(0.12),
            waves: [0; 3].map(|_| Wave {
                along: (chance.between(-6.0, 6.0), chance.between(-6.0, 6.0)),
                push: (chance.normal(0.02), chance.normal(0.02)),
                phase: chance.between(0.0, std::f32::consts::TAU),
            }),
        }
    }

    fn apply(&self, Point { x, y }: Point) -> Point {
        let y = power(y, self.power.1);
        let x = power(x / 0.6, self.power.0) * 0.6 - 0.3;
        let x = x * self.width * (1.0 + self.taper * (y - 0.5) * 2.0);
        let y = y - 0.5;
        let (mut px, mut py) = (x - self.slant * y, y);
        for wave in &self.waves {
            let swell = (wave.along.0 * x + wave.along.1 * y + wave.phase).sin();
            px += wave.push.0 * swell;
            py += wave.push.1 * swell;
        }
        let (sin, cos) = self.turn.sin_cos();
        Point { x: px * cos - py * sin, y: px * sin + py * cos }
    }
}

/// A power that leaves 0 and 1 in place and goes on straight outside them.
fn power(value: f32, power: f32) -> f32 {
    if (0.0..=1.0).contains(&value) { value.powf(power) } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_corner_stays_one_place() {
        let corner = Point { x: 50.0, y: 2.0 };
        let stroke = [Point { x: 0.0, y: 4.0 }, corner, corner, Point { x: 20.0, y: 100.0 }];
        let points = slipped(&stroke, 3.0, &mut Chance::of(1, 2));
        assert_eq!(points[1], points[2]);
        assert_ne!(points[1], corner);
    }

    #[test]
    fn lines_stay_near_the_digit() {
        for number in 0..500 {
            let mut chance = Chance::of(3, number);
            let stroke = vec![Point { x: 0.0, y: 0.0 }, Point { x: 60.0, y: 50.0 }, Point { x: 0.0, y: 100.0 }];
            for point in written(&[stroke], 3, &mut chance).concat() {
                assert!(point.x.abs() < 1.6 && point.y.abs() < 1.2, "{point:?} is off the paper");
            }
        }
    }
}
