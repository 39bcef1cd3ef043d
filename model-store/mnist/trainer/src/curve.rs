//! From the few points of a stroke to the line a pen follows.

/// A place on the paper: x to the right, y down.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Point {
    pub(crate) x: f32,
    pub(crate) y: f32,
}

const STEPS: usize = 10;

/// A smooth line through all the points (Catmull-Rom); a point given twice in a row is a corner.
pub(crate) fn smooth(points: &[Point]) -> Vec<Point> {
    let mut line = Vec::with_capacity(points.len() * STEPS);
    let mut start = 0;
    for end in 1..=points.len() {
        if end == points.len() || points[end] == points[end - 1] {
            piece(&points[start..end], &mut line);
            start = end;
        }
    }
    line
}

fn piece(points: &[Point], line: &mut Vec<Point>) {
    let last = points.len() - 1;
    line.push(points[0]);
    for i in 0..last {
        let (a, b, c, d) = (points[i.saturating_sub(1)], points[i], points[i + 1], points[(i + 2).min(last)]);
        for step in 1..=STEPS {
            let t = step as f32 / STEPS as f32;
            line.push(Point { x: catmull_rom([a.x, b.x, c.x, d.x], t), y: catmull_rom([a.y, b.y, c.y, d.y], t) });
        }
    }
}

fn catmull_rom([a, b, c, d]: [f32; 4], t: f32) -> f32 {
    let bend = 2.0 * a - 5.0 * b + 4.0 * c - d;
    let twist = 3.0 * b - a - 3.0 * c + d;
    0.5 * (2.0 * b + t * ((c - a) + t * (bend + t * twist)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(places: &[(f32, f32)]) -> Vec<Point> {
        places.iter().map(|&(x, y)| Point { x, y }).collect()
    }

    #[test]
    fn the_line_passes_through_every_point() {
        let given = points(&[(0.0, 0.0), (1.0, 2.0), (3.0, 1.0), (3.0, 1.0), (4.0, 4.0)]);
        let line = smooth(&given);
        for point in given {
            let near = line.iter().map(|p| (p.x - point.x).hypot(p.y - point.y)).fold(f32::MAX, f32::min);
            assert!(near < 1e-4, "{point:?} is {near} away from the line");
        }
    }

    #[test]
    fn a_point_given_twice_is_a_corner() {
        let line = smooth(&points(&[(0.0, 0.0), (1.0, 0.0), (1.0, 0.0), (1.0, 1.0)]));
        assert!(line.iter().all(|p| p.x <= 1.0 + 1e-6 && p.y >= -1e-6), "the corner is overshot: {line:?}");
    }
}
