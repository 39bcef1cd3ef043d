//! MNIST's layout: the ink fits a box of 20 by 20, its centre of mass in the middle of 28 by 28.

use crate::curve::Point;
use crate::picture::{PIXELS, SIDE};

const BOX: f32 = 20.0;

/// Scales lines so that, drawn with a pen of this radius, they fill `size` of the box, in the middle.
pub(crate) fn fit(lines: &mut [Vec<Point>], radius: f32, size: f32) {
    let (mut low, mut high) = (Point { x: f32::MAX, y: f32::MAX }, Point { x: f32::MIN, y: f32::MIN });
    for point in lines.iter().flatten() {
        low = Point { x: low.x.min(point.x), y: low.y.min(point.y) };
        high = Point { x: high.x.max(point.x), y: high.y.max(point.y) };
    }
    let longest = (high.x - low.x).max(high.y - low.y).max(1e-6);
    let scale = (BOX * size - 2.0 * radius) / longest;
    let middle = SIDE as f32 / 2.0;
    for point in lines.iter_mut().flatten() {
        point.x = (point.x - (low.x + high.x) / 2.0) * scale + middle;
        point.y = (point.y - (low.y + high.y) / 2.0) * scale + middle;
    }
}

/// Moves the picture by whole pixels, so that its centre of mass comes to the middle and then `off` it.
pub(crate) fn centred(grid: &[f32; PIXELS], off: (i32, i32)) -> [f32; PIXELS] {
    let (mut mass, mut mx, mut my) = (1e-6, 0.0, 0.0);
    for (i, ink) in grid.iter().enumerate() {
        mass += ink;
        mx += ink * ((i % SIDE) as f32 + 0.5);
        my += ink * ((i / SIDE) as f32 + 0.5);
    }
    let middle = SIDE as f32 / 2.0;
    let dx = (middle - mx / mass).round() as i32 + off.0;
    let dy = (middle - my / mass).round() as i32 + off.1;
    let mut moved = [0.0; PIXELS];
    let side = 0..SIDE as i32;
    for (i, pixel) in moved.iter_mut().enumerate() {
        let (x, y) = ((i % SIDE) as i32 - dx, (i / SIDE) as i32 - dy);
        if side.contains(&x) && side.contains(&y) {
            *pixel = grid[y as usize * SIDE + x as usize];
        }
    }
    moved
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ink_fills_the_box_whatever_its_shape() {
        for (width, height) in [(1.0, 1.0), (0.1, 3.0), (7.0, 0.5)] {
            let mut lines = vec![vec![Point { x: 2.0, y: 5.0 }, Point { x: 2.0 + width, y: 5.0 + height }]];
            fit(&mut lines, 1.5, 1.0);
            let (a, b) = (lines[0][0], lines[0][1]);
            assert!(((b.x - a.x).max(b.y - a.y) + 3.0 - BOX).abs() < 1e-3, "{a:?} {b:?}");
            assert!((a.x + b.x - 28.0).abs() < 1e-3 && (a.y + b.y - 28.0).abs() < 1e-3, "{a:?} {b:?}");
        }
    }

    #[test]
    fn the_mass_comes_to_the_middle() {
        for at in [0, 30, 400, PIXELS - 1] {
            let mut grid = [0.0; PIXELS];
            grid[at] = 1.0;
            let moved = centred(&grid, (0, 0));
            let place = moved.iter().position(|&ink| ink > 0.0).unwrap();
            assert!((13..=14).contains(&(place % SIDE)) && (13..=14).contains(&(place / SIDE)), "{place}");
        }
    }
}
