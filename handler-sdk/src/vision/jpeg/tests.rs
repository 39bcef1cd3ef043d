use std::fs;
use std::path::Path;

use super::*;
use crate::vision::decode::tests::jpeg as made;

fn file(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/vision/testdata/pictures").join(name)).unwrap()
}

fn frame(jpeg: &[u8]) -> usize {
    jpeg.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap()
}

#[test]
fn channels_of_any_size_are_read_or_refused() {
    for (name, channels) in [("420.jpg", 3), ("cmyk.jpg", 4)] {
        let whole = file(name);
        let mut seen = (0, 0);
        for channel in 0..channels {
            for (width, height) in (0..6).flat_map(|width| (0..6).map(move |height| (width, height))) {
                let mut bytes = whole.clone();
                bytes[frame(&whole) + 11 + 3 * channel] = width << 4 | height;
                match decode(&bytes, Limit::On) {
                    Ok(_) => seen.0 += 1,
                    Err(_) => seen.1 += 1,
                }
            }
        }
        assert!(seen.0 > 0 && seen.1 > 0, "{name}: {seen:?}");
    }
    let mut bytes = file("cmyk.jpg");
    let place = frame(&bytes) + 11;
    bytes[place] = 0x31;
    let found = decode(&bytes, Limit::On).unwrap_err();
    assert_eq!(found, "is a JPEG of 37 x 23 pixels, with channels of sizes that don't go together");
}

#[test]
fn of_12_bits_nothing_is_read() {
    let mut bytes = made(8, 8);
    let place = frame(&bytes) + 4;
    bytes[place] = 12;
    let found = decode(&bytes, Limit::On).unwrap_err();
    assert_eq!(found, "is a JPEG of 8 x 8 pixels, of 12 bits a channel: only 8 are read");
}

#[test]
fn scans_without_end_are_refused() {
    let whole = file("420-progressive.jpg");
    let last = whole.windows(2).rposition(|pair| pair == [0xff, 0xda]).unwrap();
    let mut bytes = whole[..last].to_vec();
    for _ in 0..MAX_SCANS {
        bytes.extend(&whole[last..whole.len() - 2]);
    }
    bytes.extend(b"\xff\xd9");
    let found = decode(&bytes, Limit::On).unwrap_err();
    assert!(found.starts_with("begins as a JPEG, but can't be read as one: "), "{found}");
}

#[test]
fn a_jpeg_ends_where_its_marker_is() {
    let mut jpeg = made(60, 60);
    assert!(has_end(&jpeg));
    for length in 0..jpeg.len() {
        assert!(!has_end(&jpeg[..length]), "{length}");
    }
    jpeg.extend(b"a film\xff\xda");
    assert!(has_end(&jpeg));
    // An end marker inside a segment (a preview) is not the picture's.
    assert!(!has_end(b"\xff\xd8\xff\xe1\x00\x06\xff\xd9\xff\xd9"));
}
