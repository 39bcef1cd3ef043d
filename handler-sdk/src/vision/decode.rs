//! From the bytes of a file to pixels: PNG, JPEG, WebP, BMP, GIF.

use std::io::Cursor;

use image::ColorType;
use image::ImageDecoder;
use image::ImageError;
use image::ImageFormat;
use image::ImageReader;
use image::Limits;

use super::gif;
use super::jpeg;
use super::picture::Picture;
use super::picture::narrow;
use crate::Context;

/// As many pixels a picture may claim: a larger one is refused before it is decoded, for a few kilobytes can claim any size.
///
/// It is the number at which PIL refuses, so that what TorchServe served is served.
/// A worker decodes one picture at a time. By the sizes of the buffers, one at the limit takes about 0.5 GB in colour, 0.7 GB with transparency, 0.9 GB as a GIF with transparency. A JPEG takes up to 1.1 GB while it is decoded, a progressive one 1.6 GB, and of CMYK 1.4 and 2.9 GB.
/// The server's property `limit_max_image_pixels=false` lifts the limit, as it does in TorchServe.
pub const MAX_PIXELS: u64 = 178_956_970;

/// What a decoder may take besides, and what the pixels of one picture may take before they are brought to 8 bits: four bytes for each of the largest.
const MAX_MEMORY: u64 = 4 * MAX_PIXELS;

/// Whether [`MAX_PIXELS`] holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Limit {
    On,
    Lifted,
}

// === impl Limit ===

impl Limit {
    pub(super) fn of(context: &Context) -> Self {
        match context.property("limit_max_image_pixels") {
            Some("false") => Self::Lifted,
            _ => Self::On,
        }
    }

    /// Refuses a size before there is memory for it; `found` says what has it.
    pub(super) fn check(self, found: &str, width: u32, height: u32) -> Result<(), String> {
        if self == Self::On && u64::from(width) * u64::from(height) > MAX_PIXELS {
            return Err(format!("{found}, and at most {MAX_PIXELS} are read"));
        }
        if width.min(height) == 0 {
            return Err(format!("{found}, which shows nothing"));
        }
        Ok(())
    }
}

/// The format that these bytes begin as.
pub(super) fn format(bytes: &[u8]) -> Option<ImageFormat> {
    image::guess_format(bytes).ok()
}

/// Decodes, or says what was found.
pub(super) fn decode(bytes: &[u8], format: ImageFormat, limit: Limit) -> Result<Picture, String> {
    match format {
        ImageFormat::Gif => return gif::decode(bytes, limit),
        ImageFormat::Jpeg => return jpeg::decode(bytes, limit),
        _ => {}
    }
    let name = format!("{format:?}").to_uppercase();
    if !format.reading_enabled() {
        return Err(format!("is a {name}, which isn't read here"));
    }
    let broken = |error: ImageError| format!("begins as a {name}, but can't be read as one: {error}");
    let mut limits = Limits::no_limits();
    if limit == Limit::On {
        limits.max_alloc = Some(MAX_MEMORY);
    }
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits);
    let decoder = reader.into_decoder().map_err(broken)?;
    let (width, height) = decoder.dimensions();
    let size = format!("is a {name} of {width} x {height} pixels");
    limit.check(&size, width, height)?;
    let total = decoder.total_bytes();
    if limit == Limit::On && total > MAX_MEMORY {
        return Err(format!("{size}, which take {total} bytes, and at most {MAX_MEMORY} are read"));
    }
    let color = decoder.color_type();
    let mut pixels = room(total).ok_or_else(|| format!("{size}, and there is no memory for so many"))?;
    // As PIL opens it: what a camera says of how it was held is not applied.
    decoder.read_image(&mut pixels).map_err(broken)?;
    let channels = usize::from(color.channel_count());
    match color {
        ColorType::L8 | ColorType::La8 | ColorType::Rgb8 | ColorType::Rgba8 => {}
        ColorType::L16 | ColorType::La16 | ColorType::Rgb16 | ColorType::Rgba16 => {
            // PIL keeps the high byte and rounds nothing.
            narrow(&mut pixels, |sample: [u8; 2]| [u16::from_ne_bytes(sample).to_be_bytes()[0]]);
        }
        other => return Err(format!("{size}, which are {other:?}: only 8 and 16 bits a channel are read")),
    }
    Ok(Picture::new(width, height, channels, pixels))
}

/// Zeroed memory, or nothing: a picture that claims too much must not end the process.
pub(super) fn room(bytes: u64) -> Option<Vec<u8>> {
    let count = usize::try_from(bytes).ok()?;
    let mut room = Vec::new();
    room.try_reserve_exact(count).ok()?;
    room.resize(count, 0);
    Some(room)
}

#[cfg(test)]
pub(super) mod tests;
