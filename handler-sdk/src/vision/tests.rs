//! Against torchvision and PIL: what `testdata/make.py` wrote down.

use std::fs;
use std::io::Cursor;
use std::path::Path;

use image::ExtendedColorType;
use image::ImageEncoder;
use image::codecs::png::PngEncoder;
use serde_json::Value as Json;

use super::decode::Limit;
use super::decode::decode;
use super::*;

/// The samples of `make.py`: squares of noise and of ramps, from whole numbers only.
pub(super) fn samples(width: u32, height: u32, channels: u32) -> Vec<u8> {
    let mut samples = Vec::new();
    for y in 0..height {
        for x in 0..width {
            for c in 0..channels {
                let noise = (x.wrapping_mul(73_856_093) ^ y.wrapping_mul(19_349_663) ^ c.wrapping_mul(83_492_791)) >> 8;
                let ramp = x * 7 + y * 13 + c * 31 + ((x * y) >> 3);
                samples.push(if (x / 16 + y / 16) % 2 == 1 { noise } else { ramp } as u8);
            }
        }
    }
    samples
}

pub(super) fn png(width: u32, height: u32, colour: ExtendedColorType, samples: &[u8]) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    PngEncoder::new(&mut bytes).write_image(samples, width, height, colour).unwrap();
    bytes.into_inner()
}

fn transform(step: &Json) -> Transform {
    let length = |place: usize| u32::try_from(step[place].as_u64().unwrap()).unwrap();
    let numbers = |place: usize| -> Vec<f32> { serde_json::from_value(step[place].clone()).unwrap() };
    match step[0].as_str().unwrap() {
        "Grey" => Transform::Grey,
        "Resize" => Transform::Resize(length(1)),
        "ResizeTo" => Transform::ResizeTo { height: length(1), width: length(2) },
        "Fit" => Transform::Fit(length(1)),
        "CenterCrop" => Transform::CenterCrop(length(1)),
        "ToTensor" => Transform::ToTensor,
        "Normalize" => Transform::Normalize { mean: numbers(1), std: numbers(2) },
        other => panic!("{other}"),
    }
}

/// FNV-1a of 64 bits.
fn fnv(values: &[f32]) -> String {
    let bytes = values.iter().flat_map(|value| value.to_le_bytes());
    let sum = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{sum:016x}")
}

#[test]
fn tensors_equal_torchvision_s_to_the_bit() {
    let cases: Vec<Json> = serde_json::from_str(include_str!("testdata/tensors.json")).unwrap();
    assert!(cases.len() > 80);
    let mut wrong = Vec::new();
    for case in &cases {
        let [width, height] = [1, 2].map(|place| u32::try_from(case["picture"][place].as_u64().unwrap()).unwrap());
        let (channels, colour) = match case["picture"][0].as_str().unwrap() {
            "L" => (1, ExtendedColorType::L8),
            "LA" => (2, ExtendedColorType::La8),
            "RGB" => (3, ExtendedColorType::Rgb8),
            "RGBA" => (4, ExtendedColorType::Rgba8),
            other => panic!("{other}"),
        };
        let png = png(width, height, colour, &samples(width, height, channels));
        let picture = decode(&png, image::ImageFormat::Png, Limit::On).unwrap();
        let transforms = Compose::new(case["transforms"].as_array().unwrap().iter().map(transform));
        let tensor = transforms.apply(picture).unwrap();
        let values = tensor.to_vec::<f32>().unwrap();
        let found = (serde_json::json!(tensor.shape()), fnv(&values));
        if found != (case["shape"].clone(), case["fnv"].as_str().unwrap().to_owned()) {
            wrong.push(format!("{case}\n  gave {:?} {:?}", found.0, &values[..values.len().min(4)]));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[test]
fn files_are_read_as_pil_reads_them() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/vision/testdata/pictures");
    let mut seen = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if name.ends_with(".pil.png") {
            continue;
        }
        let read = |path: &Path| {
            let bytes = fs::read(path).unwrap();
            decode(&bytes, image::guess_format(&bytes).unwrap(), Limit::On).unwrap()
        };
        let picture = read(&path);
        let wanted = read(&path.with_file_name(format!("{name}.pil.png")));
        assert_eq!((picture.width(), picture.height()), (wanted.width(), wanted.height()), "{name}");
        let (found, wanted) = (picture.into_rgb(), wanted.into_rgb());
        let most = found.iter().zip(&wanted).map(|(found, wanted)| found.abs_diff(*wanted)).max();
        assert_eq!(most, Some(0), "{name}: levels between");
        seen += 1;
    }
    assert!(seen > 50, "{seen}");
}
