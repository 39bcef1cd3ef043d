//! Ink on a grid: how much of each pixel the pen's tip covers.

use crate::curve::Point;
use crate::picture::{PIXELS, SIDE};

/// A line in pixels with the pen's radius at each of its points.
pub(crate) type Inked = Vec<(Point, f32)>;

/// The share of each pixel that lies under the lines; `rough` moves the ink's edge pixel by pixel.
pub(crate) fn cover(lines: &[Inked], rough: &[f32; PIXELS]) -> [f32; PIXELS] {
    // How far the nearest edge of ink lies inside (above 0) or outside (below 0) of each pixel's middle.
    let mut depth = [f32::MIN; PIXELS];
    for line in lines {
        for pair in line.windows(2) {
            dip(&mut depth, pair[0], pair[1]);
        }
    }
    let mut grid = [0.0; PIXELS];
    for ((pixel, depth), rough) in grid.iter_mut().zip(depth).zip(rough) {
        *pixel = (depth + rough + 0.5).clamp(0.0, 1.0);
    }
    grid
}

fn dip(depth: &mut [f32; PIXELS], (a, from): (Point, f32), (b, to): (Point, f32)) {
    let reach = from.max(to) + 1.5;
    let (dx, dy) = (b.x - a.x, b.y - a.y);
    let square = (dx * dx + dy * dy).max(1e-9);
    for y in pixels(a.y.min(b.y) - reach, a.y.max(b.y) + reach) {
        for x in pixels(a.x.min(b.x) - reach, a.x.max(b.x) + reach) {
            let (px, py) = (x as f32 + 0.5 - a.x, y as f32 + 0.5 - a.y);
            let along = ((px * dx + py * dy) / square).clamp(0.0, 1.0);
            let away = (px - along * dx).hypot(py - along * dy);
            let here = from + (to - from) * along - away;
            let pixel = &mut depth[y * SIDE + x];
            *pixel = pixel.max(here);
        }
    }
}

fn pixels(low: f32, high: f32) -> std::ops::Range<usize> {
    let side = SIDE as f32;
    (low.floor().clamp(0.0, side) as usize)..(high.ceil().clamp(0.0, side) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_covers_its_area() {
        let line = |ax, ay, bx, by, r| vec![(Point { x: ax, y: ay }, r), (Point { x: bx, y: by }, r)];
        // Length times width, and the round ends.
        for (lines, area) in [
            (vec![line(4.0, 14.0, 24.0, 14.0, 1.5)], 20.0 * 3.0 + 7.07),
            (vec![line(6.0, 6.0, 20.0, 20.0, 1.0)], 19.8 * 2.0 + std::f32::consts::PI),
            (vec![line(-9.0, -9.0, -5.0, -5.0, 1.0)], 0.0),
        ] {
            let sum: f32 = cover(&lines, &[0.0; PIXELS]).iter().sum();
            assert!((sum - area).abs() < 1.5, "covers {sum}, not {area}");
        }
    }
}
