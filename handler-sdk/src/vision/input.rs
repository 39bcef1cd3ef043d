//! What a field may hold for a network that looks at pictures, and what a client is told of anything else.

use base64::Engine;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::GeneralPurpose;
use base64::engine::GeneralPurposeConfig;
use serde_json::Value as Json;

use super::decode;
use super::decode::Limit;
use super::picture::Picture;
use crate::Context;
use crate::Error;
use crate::Field;
use crate::Result;
use crate::Tensor;

/// What a client sent: a picture, or the numbers that a picture would have become.
///
/// As TorchServe's `VisionHandler` takes them:
///
/// * a picture (PNG, JPEG, WebP, BMP, GIF), as it is;
/// * a picture in base64, with padding or without: bare, as a JSON string, or as a `data:` address;
/// * nested JSON lists of numbers, which go past all transforms, straight to the model;
/// * a JSON object with one of these under `b64` or `data`.
#[derive(Debug)]
pub enum Input {
    /// A picture, to be transformed.
    Picture(Picture),
    /// Numbers, in float32 and all finite, to be given to the model as they are; their shape is the client's choice.
    Tensor(Tensor),
}

/// What a client is told to send.
const SEND: &str =
    "send a whole picture (PNG, JPEG, WebP, BMP or GIF) as the body or as the form field `data`, as it is or in base64";

/// Base64 as clients write it: with the padding or without.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

// === impl Input ===

impl Input {
    /// Reads a request's field; fails with status 400, and a text that names the field, what was found in it and what to send instead.
    pub fn read(field: &Field<'_>, context: &Context) -> Result<Self> {
        read(field.bytes(), Limit::of(context)).map_err(|found| refusal(field, &found))
    }
}

pub(super) fn refusal(field: &Field<'_>, found: &str) -> Error {
    Error::bad_request(format!("field `{}` {found}; {SEND}", field.name()))
}

/// A picture, or what was found instead.
pub(super) fn picture(bytes: &[u8], limit: Limit) -> Result<Picture, String> {
    match read(bytes, limit)? {
        Input::Picture(picture) => Ok(picture),
        Input::Tensor(tensor) => Err(format!("holds lists of numbers of shape {:?}, not a picture", tensor.shape())),
    }
}

fn read(bytes: &[u8], limit: Limit) -> Result<Input, String> {
    if let Some(format) = decode::format(bytes) {
        return decode::decode(bytes, format, limit).map(Input::Picture);
    }
    match bytes.trim_ascii_start().first() {
        None => Err("is empty".to_owned()),
        Some(b'[' | b'{' | b'"') => {
            let json = serde_json::from_slice(bytes)
                .map_err(|error| format!("{}, but is no JSON: {error}", beginning(bytes)))?;
            from_json(&json, limit)
        }
        Some(_) => match std::str::from_utf8(bytes).ok().and_then(from_base64) {
            Some(decoded) => from_decoded(&decoded, limit),
            None => Err(format!("holds no picture: its length is {}, and it {}", bytes.len(), beginning(bytes))),
        },
    }
}

fn from_json(json: &Json, limit: Limit) -> Result<Input, String> {
    match json {
        Json::Array(_) => numbers(json).map(Input::Tensor),
        Json::String(text) => match from_base64(text) {
            Some(decoded) => from_decoded(&decoded, limit),
            None => Err(format!("holds a JSON string that is no base64: it {}", beginning(text.as_bytes()))),
        },
        Json::Object(entries) => match ["b64", "data"].iter().find_map(|key| entries.get(*key)) {
            // One object in another says nothing more, and would let a client nest them without end.
            Some(inner @ (Json::Array(_) | Json::String(_))) => from_json(inner, limit),
            Some(_) => Err("holds a JSON object whose `b64` or `data` is neither text nor lists of numbers".to_owned()),
            None => {
                let names: Vec<&String> = entries.keys().take(10).collect();
                Err(format!("holds a JSON object without `b64` and without `data`; its keys are {names:?}"))
            }
        },
        _ => Err("holds a JSON value that is neither text nor lists of numbers".to_owned()),
    }
}

fn numbers(lists: &Json) -> Result<Tensor, String> {
    let wrong = |error: Error| format!("is not lists of numbers: {}", error.client_text());
    let tensor = Tensor::from_json(lists).map_err(wrong)?;
    match tensor.to_vec::<f32>().map_err(wrong)?.iter().all(|value| value.is_finite()) {
        true => Ok(tensor),
        false => Err("holds a number that is too large for float32".to_owned()),
    }
}

fn from_decoded(bytes: &[u8], limit: Limit) -> Result<Input, String> {
    match decode::format(bytes) {
        Some(format) => decode::decode(bytes, format, limit).map(Input::Picture),
        None => Err(format!("is base64, but what it stands for {}", beginning(bytes))),
    }
}

fn from_base64(text: &str) -> Option<Vec<u8>> {
    let (_, digits) = text.split_once(";base64,").unwrap_or(("", text));
    let digits: Vec<u8> = digits.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    BASE64.decode(digits).ok()
}

/// What a client recognises its bytes by.
fn beginning(bytes: &[u8]) -> String {
    format!("begins with \"{}\"", bytes[..bytes.len().min(16)].escape_ascii())
}

#[cfg(test)]
mod tests;
