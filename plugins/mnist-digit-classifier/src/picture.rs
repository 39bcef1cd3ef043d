//! From a request's field to what a network for grey pictures takes: open, fit, normalise.

use std::io::Cursor;

use base64::Engine;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::GeneralPurpose;
use base64::engine::GeneralPurposeConfig;
use handler_sdk::Field;
use handler_sdk::prelude::*;
use image::DynamicImage;
use image::GrayImage;
use image::ImageBuffer;
use image::ImageDecoder;
use image::ImageFormat;
use image::ImageReader;
use image::Limits;
use image::Luma;
use image::LumaA;
use image::Pixel;
use image::Rgb;
use image::Rgba;
use image::imageops;
use image::imageops::FilterType;

/// A larger picture is refused before it is decoded: a few kilobytes can claim any size.
const MAX_PIXELS: u64 = 64_000_000;
/// A picture of few rows may not be wider than this either, nor one of few columns higher: fitting takes memory by the longer side.
const MAX_SIDE: u32 = 1 << 14;
/// What decoding may take, in bytes: the largest picture with four channels of 8 bits.
const MAX_MEMORY: u64 = 4 * MAX_PIXELS;

/// What a client is told to send.
const SEND: &str = "send a whole picture, PNG or JPEG, as the body or as the form field `data`";

/// Base64 as clients write it: with the padding or without.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The field as nested JSON lists of numbers, as TorchServe's `VisionHandler` takes them: past all transforms, straight to the model.
///
/// `None` where the field begins otherwise; fails on another shape, which would spoil the batch.
pub(crate) fn numbers(field: &Field<'_>, shape: &[i64]) -> Result<Option<Tensor>> {
    if field.bytes().trim_ascii_start().first() != Some(&b'[') {
        return Ok(None);
    }
    let tensor = field.tensor()?;
    if tensor.shape() != shape {
        return Err(refusal(field, &format!("holds lists of shape {:?}, not {shape:?}", tensor.shape())));
    }
    if !tensor.to_f64()?.into_iter().all(f64::is_finite) {
        return Err(refusal(field, "holds a number that is too large for float32"));
    }
    Ok(Some(tensor))
}

/// The field as a grey picture; bytes as they are, or base64, bare, as a JSON string or as a `data:` address.
pub(crate) fn open(field: &Field<'_>) -> Result<GrayImage> {
    let bytes = field.bytes();
    if bytes.is_empty() {
        return Err(refusal(field, "is empty"));
    }
    let picture = match image::guess_format(bytes) {
        Ok(format) => decode(bytes, format),
        Err(_) => match from_base64(field).map(|bytes| (image::guess_format(&bytes), bytes)) {
            Some((Ok(format), bytes)) => decode(&bytes, format),
            Some((Err(_), bytes)) => Err(format!("is base64, but what it stands for {}", beginning(&bytes))),
            None => Err(format!("holds no picture: its length is {}, and it {}", bytes.len(), beginning(bytes))),
        },
    };
    picture.map(grey).map_err(|found| refusal(field, &found))
}

/// To `side` × `side` pixels. A picture of that size stays as it is.
///
/// Any other is scaled until its longer side fits, smoothed as PIL's `resize` with `BILINEAR` does it, and laid in the middle of a black square: a narrow `1` stays narrow, and nothing of a digit is cut off.
pub(crate) fn fit(grey: GrayImage, side: u32) -> GrayImage {
    let (width, height) = grey.dimensions();
    if (width, height) == (side, side) {
        return grey;
    }
    let longer = u64::from(width.max(height).max(1));
    let scaled = |length: u32| {
        let nearest = (u64::from(length) * u64::from(side) + longer / 2) / longer;
        u32::try_from(nearest).unwrap_or(side).clamp(1, side)
    };
    let (width, height) = (scaled(width), scaled(height));
    let small = imageops::resize(&grey, width, height, FilterType::Triangle);
    let mut square = blank(side);
    imageops::replace(&mut square, &small, i64::from((side - width) / 2), i64::from((side - height) / 2));
    square
}

/// A black square.
pub(crate) fn blank(side: u32) -> GrayImage {
    GrayImage::new(side, side)
}

/// To a tensor `[1, height, width]`: from 0–255 to 0–1, then shifted and scaled, as torchvision's `ToTensor` and `Normalize`.
pub(crate) fn normalise(grey: &GrayImage, mean: f32, deviation: f32) -> Result<Tensor> {
    let values: Vec<f32> = grey.iter().map(|&value| (f32::from(value) / 255.0 - mean) / deviation).collect();
    Tensor::from_slice(&[1, i64::from(grey.height()), i64::from(grey.width())], &values)
}

/// To 8 bits of grey, by the weights of PIL's `convert("L")`; 16 bits become the nearest of 8.
///
/// What is transparent lies on black, MNIST's background. PIL ignores transparency, which shows whatever colour an invisible pixel was left with.
fn grey(picture: DynamicImage) -> GrayImage {
    match picture {
        DynamicImage::ImageLuma8(grey) => grey,
        DynamicImage::ImageLumaA8(picture) => map(&picture, |&LumaA([grey, alpha])| on_black(grey, alpha)),
        DynamicImage::ImageRgb8(picture) => map(&picture, |&Rgb(colour)| luma(colour)),
        DynamicImage::ImageRgba8(picture) => map(&picture, |&Rgba([r, g, b, alpha])| on_black(luma([r, g, b]), alpha)),
        deep => grey(deep.into_rgba8().into()),
    }
}

fn refusal(field: &Field<'_>, found: &str) -> Error {
    Error::bad_request(format!("field `{}` {found}; {SEND}", field.name()))
}

/// Decodes, or says what was found.
fn decode(bytes: &[u8], format: ImageFormat) -> Result<DynamicImage, String> {
    let name = format!("{format:?}").to_uppercase();
    let broken = |error: image::ImageError| format!("begins as a {name}, but can't be read as one: {error}");
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(MAX_MEMORY);
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits.clone());
    let decoder = reader.into_decoder().map_err(broken)?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > MAX_PIXELS || width.max(height) > MAX_SIDE {
        return Err(format!(
            "is a {name} of {width} x {height} pixels, and at most {} million are read, {MAX_SIDE} to a side",
            MAX_PIXELS / 1_000_000
        ));
    }
    if width.min(height) == 0 {
        return Err(format!("is a {name} of {width} x {height} pixels, which shows nothing"));
    }
    // What is missing of a JPEG, the decoder would fill up with grey.
    if format == ImageFormat::Jpeg && !has_end(bytes) {
        return Err(format!("begins as a {name}, but its end is missing"));
    }
    limits.reserve(decoder.total_bytes()).map_err(broken)?;
    // As PIL opens it: what a camera says of how it was held is not applied.
    DynamicImage::from_decoder(decoder).map_err(broken)
}

/// Whether a JPEG has its end marker; what some cameras append behind it doesn't matter.
fn has_end(jpeg: &[u8]) -> bool {
    let mut rest = jpeg;
    loop {
        // Between segments lies the picture itself, where 0xFF is followed by 0x00 or a restart marker.
        let marker =
            rest.windows(2).position(|pair| pair[0] == 0xff && !matches!(pair[1], 0x00 | 0x01 | 0xd0..=0xd8 | 0xff));
        let Some((segment, [_, kind, high, low, ..])) = marker.map(|at| (at, &rest[at..])) else {
            return marker.is_some_and(|at| rest[at + 1] == 0xd9);
        };
        if *kind == 0xd9 {
            return true;
        }
        let end = segment + 2 + usize::from(u16::from_be_bytes([*high, *low]));
        match rest.get(end..) {
            Some(behind) => rest = behind,
            None => return false,
        }
    }
}

fn from_base64(field: &Field<'_>) -> Option<Vec<u8>> {
    let text = match field.bytes().trim_ascii_start().first() {
        Some(b'"') => field.json::<String>().ok()?,
        _ => field.text().ok()?.to_owned(),
    };
    let (_, digits) = text.split_once(";base64,").unwrap_or(("", &text));
    let digits: Vec<u8> = digits.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    BASE64.decode(digits).ok()
}

/// What a client recognises its bytes by.
fn beginning(bytes: &[u8]) -> String {
    format!("begins with \"{}\"", bytes[..bytes.len().min(16)].escape_ascii())
}

fn map<P: Pixel<Subpixel = u8>>(picture: &ImageBuffer<P, Vec<u8>>, to_grey: impl Fn(&P) -> u8) -> GrayImage {
    let mut grey = GrayImage::new(picture.width(), picture.height());
    for (Luma([grey]), pixel) in grey.pixels_mut().zip(picture.pixels()) {
        *grey = to_grey(pixel);
    }
    grey
}

/// PIL's arithmetic, to the bit: 0.299, 0.587 and 0.114 in units of 1/65536.
fn luma([red, green, blue]: [u8; 3]) -> u8 {
    let sum = u32::from(red) * 19_595 + u32::from(green) * 38_470 + u32::from(blue) * 7_471;
    // The three weights add up to 65536, so this fits.
    ((sum + 0x8000) >> 16) as u8
}

/// Rounded to the nearest.
fn on_black(grey: u8, alpha: u8) -> u8 {
    ((u32::from(grey) * u32::from(alpha) + 127) / 255) as u8
}

#[cfg(test)]
mod tests;
