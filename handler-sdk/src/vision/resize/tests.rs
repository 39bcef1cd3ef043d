use super::*;

#[test]
fn weights_are_pillow_s() {
    // Image.frombytes("L", (8, 8), bytes(range(0, 256, 4))).resize((4, 4), Image.BILINEAR)
    let picture = Picture::from_grey(8, 8, (0..64).map(|value| value * 4).collect()).unwrap();
    let wanted = [26, 33, 41, 48, 83, 90, 98, 105, 147, 154, 162, 169, 204, 211, 219, 226];
    assert_eq!(resize(&picture, 4, 4, &Window::whole(4, 4)).pixels(), wanted);
    let taps = Taps::new(8, 4, 0..4);
    assert_eq!(taps.spans, [(0, 3), (1, 4), (3, 4), (5, 3)]);
    assert_eq!(taps.weights.len(), 4 * 5);
    assert_eq!(taps.weights[5..10], [1 << 19, 3 << 19, 3 << 19, 1 << 19, 0]);
}

#[test]
fn a_window_is_a_part_of_the_whole() {
    for (columns, rows) in [(0..1, 0..1), (3..9, 2..5), (8..9, 4..5), (0..9, 1..2)] {
        for (width, height, channels) in [(20, 13, 3), (5, 3, 1), (9, 30, 3), (9, 5, 1), (30, 5, 3)] {
            let samples = super::super::tests::samples(width, height, channels);
            let picture = Picture::new(width, height, channels as usize, samples);
            let whole = resize(&picture, 9, 5, &Window::whole(9, 5));
            let window = Window { columns: columns.clone(), rows: rows.clone() };
            let part = resize(&picture, 9, 5, &window);
            let stride = 9 * channels as usize;
            let wanted: Vec<u8> = whole
                .pixels()
                .chunks(stride)
                .take(rows.end as usize)
                .skip(rows.start as usize)
                .flat_map(|row| {
                    &row[columns.start as usize * channels as usize..columns.end as usize * channels as usize]
                })
                .copied()
                .collect();
            assert_eq!(part.pixels(), wanted, "{window:?} of {width} x {height}");
        }
    }
}

#[test]
fn the_rows_come_first_where_pillow_takes_them_first() {
    for (from, to, wanted) in [
        ((600, 1200), (256, 512), false),
        ((600, 1201), (256, 512), true),
        ((33, 33), (37, 32), true),
        ((33, 33), (37, 33), false),
        ((60, 100), (30, 40), false),
        ((60, 100), (30, 39), true),
    ] {
        assert_eq!(rows_first(&Picture::black(from.0, from.1), to.0, to.1), wanted, "{from:?} to {to:?}");
    }
}
