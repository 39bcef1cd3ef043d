//! A JPEG as PIL shows it: with libjpeg-turbo's arithmetic, to the bit.

use libjpeg_turbo_rs::ComponentInfo;
use libjpeg_turbo_rs::DecodeLimits;
use libjpeg_turbo_rs::Decoder;
use libjpeg_turbo_rs::JpegError;
use libjpeg_turbo_rs::PixelFormat;

use super::decode::Limit;
use super::picture::Picture;
use super::picture::narrow;

/// As many scans a progressive JPEG may have, each of which goes over all of its pixels; cameras and encoders write about ten.
const MAX_SCANS: usize = 100;

/// Decodes, or says what was found.
///
/// Where the data is spoilt, the picture is read on as far as it goes, as PIL does; where its end is missing, PIL refuses it.
pub(super) fn decode(bytes: &[u8], limit: Limit) -> Result<Picture, String> {
    let broken = |error: JpegError| format!("begins as a JPEG, but can't be read as one: {error}");
    // The size is checked here, before there is memory for it.
    let limits = DecodeLimits { max_pixels: u64::MAX, max_scans: MAX_SCANS, ..DecodeLimits::default() };
    let mut decoder = Decoder::new_with_limits(bytes, limits).map_err(broken)?;
    let header = decoder.header();
    let (width, height) = (u32::from(header.width), u32::from(header.height));
    let size = format!("is a JPEG of {width} x {height} pixels");
    limit.check(&size, width, height)?;
    // What is missing, the decoder would fill up with grey.
    if !has_end(bytes) {
        return Err("begins as a JPEG, but its end is missing".to_owned());
    }
    if header.precision != 8 {
        return Err(format!("{size}, of {} bits a channel: only 8 are read", header.precision));
    }
    let (format, channels) = match header.components.len() {
        1 => (PixelFormat::Grayscale, 1),
        3 => (PixelFormat::Rgb, 3),
        4 => (PixelFormat::Cmyk, 3),
        other => return Err(format!("{size}, of {other} channels: only 1, 3 and 4 are read")),
    };
    if !is_usual(&header.components) {
        return Err(format!("{size}, with channels of sizes that don't go together"));
    }
    decoder.set_output_format(format);
    // What libjpeg does unless it is told otherwise; it changes pictures whose last scans are missing.
    decoder.set_block_smoothing(true);
    decoder.set_lenient(true);
    let image = decoder.decode_image().map_err(|error| match error {
        JpegError::AllocationFailed { .. } => format!("{size}, and there is no memory for so many"),
        error => broken(error),
    })?;
    let mut pixels = image.data;
    if format == PixelFormat::Cmyk {
        narrow(&mut pixels, rgb);
    }
    Ok(Picture::new(width, height, channels, pixels))
}

/// Whether the first channel is the finest and a multiple of each other, and four are two fine ones around two alike.
///
/// All encoders write it so. The decoder refuses some of the rest, makes others grey, and some are too much for it.
fn is_usual(channels: &[ComponentInfo]) -> bool {
    let size = |at: usize| (channels[at].horizontal_sampling, channels[at].vertical_sampling);
    let (width, height) = size(0);
    let divides = |part: u8, whole: u8| part != 0 && whole.is_multiple_of(part);
    let divide = |(part, rest): (u8, u8)| divides(part, width) && divides(rest, height);
    (0..channels.len()).map(size).all(divide) && (channels.len() < 4 || size(3) == size(0) && size(1) == size(2))
}

/// From inverted CMYK, as Adobe writes it and PIL takes all of it, by PIL's arithmetic, to the bit.
fn rgb([cyan, magenta, yellow, black]: [u8; 4]) -> [u8; 3] {
    [cyan, magenta, yellow].map(|ink| {
        let product = u32::from(255 - ink) * u32::from(black) + 0x80;
        // The product over 255, rounded, is at most `black`.
        black - ((product + (product >> 8)) >> 8) as u8
    })
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

#[cfg(test)]
mod tests;
