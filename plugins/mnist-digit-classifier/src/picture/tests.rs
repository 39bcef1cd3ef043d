//! Pictures are made here with the image crate; what PIL makes of the same ones is written down where it matters.

use std::cell::RefCell;

use base64::engine::general_purpose::STANDARD;
use handler_sdk::testing;
use handler_sdk::testing::Host;
use image::codecs::jpeg::JpegEncoder;

use super::*;

thread_local! {
    static SEEN: RefCell<Option<GrayImage>> = const { RefCell::new(None) };
}

/// Lends these tests a real field: one can't be made outside the SDK.
#[derive(Default)]
struct Reader;

impl Handler for Reader {
    fn handle(&self, batch: &Batch, _: &Context) -> Result<Vec<Response>> {
        let read = |request: &Request| {
            let field = request.input()?;
            if let Some(tensor) = numbers(&field, &[1, 2, 2])? {
                return Ok(Response::text(format!("{:?}", tensor.to_f64()?)));
            }
            let grey = open(&field)?;
            let size = format!("{} x {}", grey.width(), grey.height());
            SEEN.set(Some(grey));
            Ok(Response::text(size))
        };
        Ok(batch.iter().map(|request| read(request).into()).collect())
    }
}

fn send(request: testing::Request) -> Result<String> {
    let answer = Host::new().start::<Reader>()?.predict(request)?;
    Ok(String::from_utf8(answer.body).unwrap())
}

fn encoded(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn ramp(width: u32, height: u32) -> GrayImage {
    GrayImage::from_fn(width, height, |x, y| Luma([((x * 9 + y * 5) % 256) as u8]))
}

/// What the pixels of a picture sent as a body become.
fn pixels(bytes: Vec<u8>) -> Vec<u8> {
    send(testing::Request::body(bytes)).unwrap();
    SEEN.take().unwrap().into_raw()
}

#[test]
fn lossless_formats_keep_every_grey() {
    let picture = ramp(28, 28);
    for format in [ImageFormat::Png, ImageFormat::Bmp, ImageFormat::Gif, ImageFormat::WebP] {
        let colour = DynamicImage::from(DynamicImage::from(picture.clone()).to_rgb8());
        assert_eq!(pixels(encoded(&colour, format)), *picture.as_raw(), "{format:?}");
    }
    let deep = DynamicImage::from(picture.clone()).into_luma16();
    assert_eq!(pixels(encoded(&deep.into(), ImageFormat::Png)), *picture.as_raw());
}

#[test]
fn jpeg_stays_close() {
    let picture = DynamicImage::from(ramp(28, 28).clone()).blur(2.0).into_luma8();
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, 95).encode_image(&picture).unwrap();
    for (found, wanted) in pixels(bytes).into_iter().zip(picture.into_raw()) {
        assert!(found.abs_diff(wanted) <= 6, "{found} for {wanted}");
    }
}

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
        assert_eq!(luma(colour), wanted, "{colour:?}");
    }
}

#[test]
fn what_is_transparent_lies_on_black() {
    for (pixel, wanted) in
        [([255, 255, 255, 255], 255), ([255, 255, 255, 0], 0), ([255, 255, 255, 128], 128), ([0, 0, 0, 0], 0)]
    {
        let picture = image::RgbaImage::from_pixel(1, 1, Rgba(pixel));
        assert_eq!(grey(picture.into()).into_raw(), [wanted], "{pixel:?}");
    }
    let picture = image::GrayAlphaImage::from_pixel(1, 1, LumaA([200, 51]));
    assert_eq!(grey(picture.into()).into_raw(), [40]);
}

#[test]
fn a_picture_that_fits_is_untouched() {
    let picture = ramp(28, 28);
    assert_eq!(fit(picture.clone(), 28), picture);
}

#[test]
fn another_size_is_scaled_and_centred_on_black() {
    let white = |width, height| GrayImage::from_pixel(width, height, Luma([255]));
    // (width, height) → the columns and rows that are white
    for (size, columns, rows) in [
        ((280, 280), 0..28, 0..28),
        ((3, 3), 0..28, 0..28),
        ((140, 280), 7..21, 0..28),
        ((56, 14), 0..28, 10..17),
        ((1, 5000), 13..14, 0..28),
    ] {
        let fitted = fit(white(size.0, size.1), 28);
        for (x, y, &Luma([value])) in fitted.enumerate_pixels() {
            let inside = columns.contains(&x) && rows.contains(&y);
            assert_eq!(value, if inside { 255 } else { 0 }, "{size:?} at {x}, {y}");
        }
    }
}

#[test]
fn scaling_smooths_as_pil_does() {
    // Image.frombytes("L", (8, 8), bytes(range(0, 256, 4))).resize((4, 4), Image.BILINEAR)
    let picture = GrayImage::from_raw(8, 8, (0..64).map(|value| value * 4).collect()).unwrap();
    let wanted = [26, 33, 41, 48, 83, 90, 98, 105, 147, 154, 162, 169, 204, 211, 219, 226];
    for (found, wanted) in fit(picture, 4).into_raw().into_iter().zip(wanted) {
        assert!(u8::abs_diff(found, wanted) <= 1, "{found} for {wanted}");
    }
}

#[test]
fn values_are_normalised_as_torchvision_does() {
    let picture = GrayImage::from_raw(3, 1, vec![0, 128, 255]).unwrap();
    let tensor = normalise(&picture, 0.1307, 0.3081).unwrap();
    assert_eq!(tensor.shape(), [1, 1, 3]);
    // transforms.Normalize((0.1307,), (0.3081,))(transforms.ToTensor()(picture))
    assert_eq!(tensor.to_vec::<f32>().unwrap(), [-0.424_212_96, 1.205_001_1, 2.821_486_7]);
}

#[test]
fn a_picture_may_come_in_base64() {
    let png = encoded(&ramp(3, 2).into(), ImageFormat::Png);
    let text = STANDARD.encode(&png);
    let broken_into_lines: Vec<&str> = text.as_bytes().chunks(20).map(|l| std::str::from_utf8(l).unwrap()).collect();
    for sent in [
        text.clone(),
        broken_into_lines.join("\r\n") + "\n",
        text.trim_end_matches('=').to_owned(),
        format!("data:image/png;base64,{text}"),
        format!("\"{text}\""),
        format!("\"{}\"", text.replace('/', "\\/")),
    ] {
        assert_eq!(send(testing::Request::body(&sent)).unwrap(), "3 x 2", "{sent}");
        assert_eq!(send(testing::Request::default().field("data", &sent)).unwrap(), "3 x 2", "{sent}");
    }
}

#[test]
fn lists_of_numbers_pass_as_they_are() {
    let lists = testing::Request::json(&serde_json::json!([[[0.5, -1], [2, 3e2]]]));
    assert_eq!(send(lists).unwrap(), "[0.5, -1.0, 2.0, 300.0]");
}

#[test]
fn a_picture_stays_as_its_pixels_lie() {
    let mut jpeg = Vec::new();
    JpegEncoder::new(&mut jpeg).encode_image(&ramp(4, 2)).unwrap();
    assert_eq!(send(testing::Request::body(&jpeg)).unwrap(), "4 x 2");
    // An Exif segment with one entry: orientation (0x0112), a short, 6, "turn by 90 degrees".
    let exif = b"\xff\xe1\x00\x22Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    jpeg.splice(2..2, exif.iter().copied());
    assert_eq!(send(testing::Request::body(&jpeg)).unwrap(), "4 x 2");
}

#[test]
fn a_jpeg_ends_where_its_marker_is() {
    let mut jpeg = Vec::new();
    JpegEncoder::new(&mut jpeg).encode_image(&ramp(60, 60)).unwrap();
    assert!(has_end(&jpeg));
    for length in 0..jpeg.len() {
        assert!(!has_end(&jpeg[..length]), "{length}");
    }
    jpeg.extend(b"a film\xff\xda");
    assert!(has_end(&jpeg));
    // An end marker inside a segment (a preview) is not the picture's.
    assert!(!has_end(b"\xff\xd8\xff\xe1\x00\x06\xff\xd9\xff\xd9"));
}

#[test]
fn bad_input_is_refused_with_the_remedy() {
    let png = encoded(&ramp(40, 40).into(), ImageFormat::Png);
    let half = |bytes: &[u8]| bytes[..bytes.len() / 2].to_vec();
    let jpeg = encoded(&ramp(40, 40).into(), ImageFormat::Jpeg);
    let gif = encoded(&DynamicImage::from(ramp(40, 40)).to_rgb8().into(), ImageFormat::Gif);
    let webp = encoded(&ramp(40, 40).into(), ImageFormat::WebP);
    let bmp = encoded(&ramp(40, 40).into(), ImageFormat::Bmp);
    let bomb = |width, height| {
        let mut bytes = png.clone();
        bytes[16..20].copy_from_slice(&u32::to_be_bytes(width));
        bytes[20..24].copy_from_slice(&u32::to_be_bytes(height));
        // The checksum of the changed header.
        let checksum = crc32(&bytes[12..29]);
        bytes[29..33].copy_from_slice(&checksum.to_be_bytes());
        bytes
    };
    // Base64 of plain text.
    let text = STANDARD.encode("this is no picture").into_bytes();
    let cases: [(Vec<u8>, &[&str]); 18] = [
        (Vec::new(), &["is empty"]),
        (b"hello, world".to_vec(), &["length is 12", "begins with \"hello, world\""]),
        (b"\x00\xff\x01".to_vec(), &["begins with \"\\x00\\xff\\x01\""]),
        (b"{\"data\": \"x\"}".to_vec(), &["no picture", "{\\\"data\\\""]),
        (text, &["is base64", "begins with \"this is no pictu"]),
        (half(&png), &["begins as a PNG"]),
        (half(&jpeg), &["begins as a JPEG"]),
        (jpeg[..jpeg.len() - 2].to_vec(), &["begins as a JPEG", "end is missing"]),
        (half(&gif), &["begins as a GIF"]),
        (half(&webp), &["begins as a WEBP"]),
        (half(&bmp), &["begins as a BMP"]),
        (b"II*\0 a TIFF".to_vec(), &["begins as a TIFF"]),
        (b"GIF89a\0\0\0\0\0\0\0,\0\0\0\0\0\0\0\0\0\x02\0;".to_vec(), &["GIF of 0 x 0 pixels"]),
        (bomb(16_000, 16_000), &["16000 x 16000", "64 million"]),
        (bomb(20_000, 10), &["20000 x 10", "16384 to a side"]),
        (b"[[[1, 2], [3, 4], [5, 6]]]".to_vec(), &["shape [1, 3, 2], not [1, 2, 2]"]),
        (b"[[[1, 2], [3, 1e300]]]".to_vec(), &["too large for float32"]),
        (b"[[[1, 2], [3]]]".to_vec(), &["unequal lengths"]),
    ];
    for (bytes, wanted) in cases {
        let sent = testing::Request::default().field("data", &bytes);
        let error = send(sent).unwrap_err();
        let text = error.client_text();
        assert_eq!(error.status(), 400, "{text}");
        assert!(text.contains("field `data`"), "{text}");
        for wanted in wanted {
            assert!(text.contains(wanted), "{text} lacks {wanted}");
        }
    }
}

/// The checksum of PNG's chunks.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes
        .iter()
        .fold(!0, |sum, &byte| (0..8).fold(sum ^ u32::from(byte), |sum, _| (sum >> 1) ^ (0xedb8_8320 * (sum & 1))))
}
