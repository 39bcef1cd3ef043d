use super::*;

#[test]
fn half_a_pixel_goes_to_the_even_number() {
    // int(round((length - 10) / 2.0)) in Python
    for (length, from) in [(10, 0), (11, 0), (12, 1), (13, 2), (14, 2), (15, 2), (16, 3), (17, 4), (18, 4)] {
        assert_eq!(Cut::new(length, 10), Cut { taken: from..from + 10, at: 0 }, "{length}");
    }
    for (length, at) in [(9, 0), (8, 1), (7, 1), (6, 2), (1, 4)] {
        assert_eq!(Cut::new(length, 10), Cut { taken: 0..length, at }, "{length}");
    }
}

#[test]
fn a_crop_saves_work_and_changes_nothing() {
    for (width, height, side, crop) in [(40, 30, 20, 13), (9, 50, 20, 13), (50, 9, 8, 20), (7, 5, 30, 29)] {
        let picture = Picture::from_rgb(width, height, super::super::tests::samples(width, height, 3)).unwrap();
        let apart = center_crop(resize_shorter(picture.clone(), side, None).unwrap(), crop);
        assert_eq!(resize_shorter(picture, side, Some(crop)).unwrap(), apart, "{width} x {height}");
    }
}

#[test]
fn a_long_strip_takes_no_more_memory_than_its_crop() {
    // Scaled as a whole it would have 256 × 256,000,000 pixels.
    let strip = Picture::from_grey(1_000_000, 1, vec![255; 1_000_000]).unwrap();
    let cropped = resize_shorter(strip.clone(), 256, Some(224)).unwrap();
    assert_eq!((cropped.width(), cropped.height()), (224, 224));
    assert!(cropped.pixels().iter().all(|&level| level == 255));
    let error = resize_shorter(strip, 256, None).unwrap_err();
    assert_eq!(error.status(), 400);
    assert!(error.client_text().contains("scaled to 256000000 x 256"), "{error}");
}

#[test]
fn a_picture_of_the_wanted_size_is_untouched() {
    let picture = Picture::from_rgb(28, 28, super::super::tests::samples(28, 28, 3)).unwrap();
    for same in [
        fit(picture.clone(), 28),
        center_crop(picture.clone(), 28),
        resize_shorter(picture.clone(), 28, None).unwrap(),
        resize_to(picture.clone(), (28, 28), Some(28)).unwrap(),
    ] {
        assert_eq!(same, picture);
    }
}

#[test]
fn fitting_centres_on_black() {
    // (width, height) → the columns and rows that are white
    for (size, columns, rows) in [
        ((280, 280), 0..28, 0..28),
        ((3, 3), 0..28, 0..28),
        ((140, 280), 7..21, 0..28),
        ((56, 14), 0..28, 10..17),
        ((1, 5000), 13..14, 0..28),
    ] {
        let white = Picture::from_grey(size.0, size.1, vec![255; (size.0 * size.1) as usize]).unwrap();
        for (place, &level) in fit(white, 28).pixels().iter().enumerate() {
            let inside = columns.contains(&(place % 28)) && rows.contains(&(place / 28));
            assert_eq!(level, if inside { 255 } else { 0 }, "{size:?} at {place}");
        }
    }
}
