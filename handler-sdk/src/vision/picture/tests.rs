use super::*;

#[test]
fn colours_weigh_as_in_pil() {
    // Image.new("RGB", (1, 1), colour).convert("L")
    for (colour, wanted) in [
        ([255, 0, 0], 76),
        ([0, 255, 0], 150),
        ([0, 0, 255], 29),
        ([1, 2, 3], 2),
        ([200, 100, 50], 124),
        ([255, 255, 255], 255),
    ] {
        assert_eq!(Picture::from_rgb(1, 1, colour.to_vec()).unwrap().into_grey(), [wanted], "{colour:?}");
    }
}

#[test]
fn in_grey_what_is_transparent_lies_on_black() {
    for (pixel, wanted) in
        [([255, 255, 255, 255], 255), ([255, 255, 255, 0], 0), ([255, 255, 255, 128], 128), ([0, 0, 0, 0], 0)]
    {
        assert_eq!(Picture::new(1, 1, 4, pixel.to_vec()).into_grey(), [wanted], "{pixel:?}");
    }
    assert_eq!(Picture::new(2, 1, 2, vec![200, 51, 7, 255]).into_grey(), [40, 7]);
}

#[test]
fn in_colour_transparency_is_dropped() {
    assert_eq!(Picture::new(2, 1, 4, vec![1, 2, 3, 0, 4, 5, 6, 99]).into_rgb(), [1, 2, 3, 4, 5, 6]);
    assert_eq!(Picture::new(2, 1, 2, vec![7, 0, 8, 99]).into_rgb(), [7, 7, 7, 8, 8, 8]);
    assert_eq!(Picture::black(1, 2).into_rgb(), [0; 6]);
}

#[test]
fn pixels_are_counted() {
    for (width, height, bytes, wanted) in [
        (2, 2, 11, "has 12 bytes with 3 a pixel, not 11"),
        (0, 5, 0, "at least one pixel"),
        (u32::MAX, u32::MAX, 3, "55340232195358851075 bytes"),
    ] {
        let error = Picture::from_rgb(width, height, vec![0; bytes]).unwrap_err();
        assert!(error.log_text().contains(wanted), "{error}");
    }
    assert!(Picture::from_grey(2, 3, vec![0; 6]).is_ok());
}
