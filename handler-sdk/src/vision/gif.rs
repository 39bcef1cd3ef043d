//! The first frame of a GIF, as PIL shows it.

use gif::DecodeOptions;
use gif::MemoryLimit;

use super::decode::Limit;
use super::decode::room;
use super::picture::Picture;

/// Decodes, or says what was found.
///
/// A frame needn't fill the screen: PIL gives what lies around it the transparent colour, or else the palette's first, and where the frame is larger than the screen it enlarges that.
pub(super) fn decode(bytes: &[u8], limit: Limit) -> Result<Picture, String> {
    let broken = |error: gif::DecodingError| format!("begins as a GIF, but can't be read as one: {error}");
    let mut options = DecodeOptions::new();
    // The size is checked here, before there is memory for it.
    options.set_memory_limit(MemoryLimit::Unlimited);
    let mut decoder = options.read_info(bytes).map_err(broken)?;
    let frame = decoder.next_frame_info().map_err(broken)?.ok_or("begins as a GIF, but has no frame")?.clone();
    let [left, top, frame_width, frame_height] = [frame.left, frame.top, frame.width, frame.height].map(usize::from);
    let width = usize::from(decoder.width()).max(left + frame_width);
    let height = usize::from(decoder.height()).max(top + frame_height);
    // Sums of two u16.
    let (columns, rows) = (width as u32, height as u32);
    limit.check(&format!("is a GIF of {width} x {height} pixels"), columns, rows)?;
    let no_memory = || format!("is a GIF of {width} x {height} pixels, and there is no memory for so many");
    let mut indices = room((frame_width * frame_height) as u64).ok_or_else(no_memory)?;
    if !indices.is_empty() {
        decoder.read_into_buffer(&mut indices).map_err(broken)?;
    }

    let (colours, _) = decoder.palette().map_err(broken)?.as_chunks::<3>();
    // An index behind the palette's end is black.
    let colour = |index: u8| colours.get(usize::from(index)).copied().unwrap_or_default();
    let around = frame.transparent.unwrap_or(0);
    let index = |x: usize, y: usize| match (x.checked_sub(left), y.checked_sub(top)) {
        (Some(x), Some(y)) if x < frame_width && y < frame_height => indices[y * frame_width + x],
        _ => around,
    };
    let channels = if frame.transparent.is_some() { 4 } else { 3 };
    let mut pixels = room((width * height * channels) as u64).ok_or_else(no_memory)?;
    for (y, row) in pixels.chunks_exact_mut(width * channels).enumerate() {
        for (x, pixel) in row.chunks_exact_mut(channels).enumerate() {
            let index = index(x, y);
            pixel[..3].copy_from_slice(&colour(index));
            if let Some(transparent) = frame.transparent {
                pixel[3] = if index == transparent { 0 } else { 255 };
            }
        }
    }
    Ok(Picture::new(columns, rows, channels, pixels))
}
