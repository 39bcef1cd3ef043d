use std::fs;
use std::path::Path;

use image::ExtendedColorType;
use libjpeg_turbo_rs::PixelFormat;
use libjpeg_turbo_rs::Subsampling;
use libjpeg_turbo_rs::compress;

use super::*;
use crate::vision::tests::png;
use crate::vision::tests::samples;

const FILES: [&str; 12] = [
    "420.jpg",
    "444-progressive.jpg",
    "cmyk.jpg",
    "grey.jpg",
    "alpha.png",
    "palette.png",
    "lossy.webp",
    "lossless.webp",
    "rgb.bmp",
    "palette.bmp",
    "interlaced.gif",
    "transparent-moved.gif",
];

fn file(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/vision/testdata/pictures").join(name)).unwrap()
}

fn read(bytes: &[u8], limit: Limit) -> Result<Picture, String> {
    decode(bytes, format(bytes).ok_or("no format")?, limit)
}

pub(in crate::vision) fn jpeg(width: u32, height: u32) -> Vec<u8> {
    let (wide, high) = (width as usize, height as usize);
    compress(&samples(width, height, 3), wide, high, PixelFormat::Rgb, 75, Subsampling::S444).unwrap()
}

/// A PNG that claims this size, with nothing behind its header.
fn claiming(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = png(4, 4, ExtendedColorType::Rgb8, &[0; 48]);
    bytes[16..20].copy_from_slice(&width.to_be_bytes());
    bytes[20..24].copy_from_slice(&height.to_be_bytes());
    let checksum = crc32(&bytes[12..29]);
    bytes[29..33].copy_from_slice(&checksum.to_be_bytes());
    bytes
}

/// A JPEG that claims 65500 × 65500 pixels, and has no end.
pub(in crate::vision) fn huge_jpeg() -> Vec<u8> {
    let mut bytes = jpeg(8, 8);
    let frame = bytes.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    bytes[frame + 5..frame + 9].copy_from_slice(&[0xff, 0xdc, 0xff, 0xdc]);
    bytes.truncate(bytes.len() - 2);
    bytes
}

/// The checksum of PNG's chunks.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes
        .iter()
        .fold(!0, |sum, &byte| (0..8).fold(sum ^ u32::from(byte), |sum, _| (sum >> 1) ^ (0xedb8_8320 * (sum & 1))))
}

#[test]
fn what_is_cut_off_is_never_made_up() {
    for name in FILES {
        let bytes = file(name);
        let whole = read(&bytes, Limit::On).unwrap();
        let mut refused = 0;
        for length in 0..bytes.len() {
            match read(&bytes[..length], Limit::On) {
                // Nothing of the picture was in what is missing.
                Ok(picture) => assert_eq!(picture, whole, "{name} cut to {length} of {}", bytes.len()),
                Err(_) => refused += 1,
            }
        }
        assert!(refused * 10 > bytes.len() * 9, "{name}: {refused} of {}", bytes.len());
    }
}

#[test]
fn a_spoilt_file_does_no_harm() {
    let mut state = 1_u32;
    let mut random = |below: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as usize % below
    };
    for name in FILES {
        let whole = file(name);
        for _ in 0..100 {
            let mut bytes = whole.clone();
            for _ in 0..3 {
                // Behind what says the size: pictures of any size are another matter.
                let place = 64 + random(bytes.len() - 64);
                bytes[place] = random(256) as u8;
            }
            // Read or refused, but never a panic.
            drop(read(&bytes, Limit::On));
        }
    }
}

#[test]
fn a_size_is_refused_before_there_is_memory_for_it() {
    for (bytes, wanted) in [
        (claiming(13_378, 13_378), "is a PNG of 13378 x 13378 pixels, and at most 178956970 are read"),
        (claiming(1, 178_956_971), "is a PNG of 1 x 178956971 pixels, and at most"),
        (claiming(60_000, 60_000), "is a PNG of 60000 x 60000 pixels, and at most"),
        (huge_jpeg(), "is a JPEG of 65500 x 65500 pixels, and at most 178956970 are read"),
        (
            b"GIF89a\xff\xff\xff\xff\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0\x01\0\x01\0\0\x02\0;".to_vec(),
            "GIF of 65535 x 65535 pixels, and",
        ),
        (
            b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0\xff\xff\xff\xff\0\x02\0;".to_vec(),
            "GIF of 65535 x 65535 pixels, and",
        ),
        (
            b"GIF89a\0\0\0\0\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0\0\0\0\0\0\x02\0;".to_vec(),
            "GIF of 0 x 0 pixels, which shows nothing",
        ),
    ] {
        let found = read(&bytes, Limit::On).unwrap_err();
        assert!(found.contains(wanted), "{found}");
    }
    // Where the limit is lifted, only what is missing is wrong; and so it is just within the limit.
    let found = read(&huge_jpeg(), Limit::Lifted).unwrap_err();
    assert_eq!(found, "begins as a JPEG, but its end is missing");
    let found = read(&claiming(178_956_970, 1), Limit::On).unwrap_err();
    assert!(found.contains("can't be read as one"), "{found}");
}

#[test]
fn another_format_is_named() {
    let found = read(b"II*\0 a TIFF, perhaps", Limit::On).unwrap_err();
    assert_eq!(found, "is a TIFF, which isn't read here");
}

#[test]
fn of_16_bits_the_high_byte_stays() {
    let deep: Vec<u8> = [0x12ff_u16, 0x8000, 0xffff, 0x00ff].iter().flat_map(|value| value.to_ne_bytes()).collect();
    let picture = read(&png(4, 1, ExtendedColorType::L16, &deep), Limit::On).unwrap();
    assert_eq!(picture.into_grey(), [0x12, 0x80, 0xff, 0x00]);
}

#[test]
fn a_picture_stays_as_its_pixels_lie() {
    let mut jpeg = jpeg(4, 2);
    let upright = read(&jpeg, Limit::On).unwrap();
    // An Exif segment with one entry: orientation (0x0112), a short, 6, "turn by 90 degrees".
    let exif = b"\xff\xe1\x00\x22Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    jpeg.splice(2..2, exif.iter().copied());
    assert_eq!(read(&jpeg, Limit::On).unwrap(), upright);
    assert_eq!((upright.width(), upright.height()), (4, 2));
}
