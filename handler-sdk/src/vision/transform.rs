//! The steps of torchvision that work on pictures: what each makes of a size, and of the pixels.

use std::ops::Range;

use super::decode::MAX_PIXELS;
use super::picture::Picture;
use super::resize::Window;
use super::resize::resize;
use crate::Error;
use crate::Result;

/// One step from a picture to a tensor, as torchvision's transform of that name works on a PIL image.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Transform {
    /// To one channel, as PIL's `convert("L")`; what is transparent lies on black.
    ///
    /// Without this step the tensor has three channels, whatever the picture has.
    Grey,
    /// The shorter side to so many pixels, the longer in proportion and rounded down: `Resize(256)`.
    ///
    /// Bilinear and antialiased. A picture whose shorter side has this length stays as it is.
    Resize(u32),
    /// To this size, whatever the proportions were: `Resize((height, width))`.
    ResizeTo {
        /// Rows.
        height: u32,
        /// Columns.
        width: u32,
    },
    /// Scaled until the longer side has so many pixels, and laid in the middle of a black square.
    ///
    /// Nothing is cut off, and a narrow digit stays narrow; torchvision has no such step.
    Fit(u32),
    /// The square of so many pixels in the middle: `CenterCrop(224)`. Where the picture is smaller, black surrounds it.
    CenterCrop(u32),
    /// From levels of 0 to 255 to float32 of 0 to 1, `[channels, height, width]`.
    ToTensor,
    /// Each channel less its mean, and divided by its deviation; after [`ToTensor`](Self::ToTensor).
    ///
    /// One value for each channel, or one for all.
    Normalize {
        /// What is subtracted.
        mean: Vec<f32>,
        /// What the rest is divided by; not zero.
        std: Vec<f32>,
    },
}

/// How one axis of a crop lies on the picture.
#[derive(Debug, PartialEq, Eq)]
struct Cut {
    /// What is taken of the picture.
    taken: Range<u64>,
    /// Where it is laid, counted in pixels of the crop.
    at: u64,
}

/// [`Transform::Resize`], with the crop where one follows: only what the crop leaves is computed.
pub(super) fn resize_shorter(picture: Picture, side: u32, crop: Option<u32>) -> Result<Picture> {
    let (width, height) = size(&picture);
    let longer = |longer: u64, shorter: u64| u64::from(side) * longer / shorter;
    let scaled = match width <= height {
        true => (u64::from(side), longer(height, width)),
        false => (longer(width, height), u64::from(side)),
    };
    resize_to(picture, scaled, crop)
}

/// [`Transform::ResizeTo`], with the crop where one follows.
pub(super) fn resize_to(picture: Picture, (width, height): (u64, u64), crop: Option<u32>) -> Result<Picture> {
    let picture = picture.opaque();
    if (width, height) == size(&picture) {
        return Ok(match crop {
            Some(side) => center_crop(picture, side),
            None => picture,
        });
    }
    if let Some(side) = crop {
        let (columns, rows) = (Cut::new(width, side), Cut::new(height, side));
        let window = Window { columns: columns.taken, rows: rows.taken };
        return Ok(lay(resize(&picture, width, height, &window), side, columns.at, rows.at));
    }
    if width.saturating_mul(height) > MAX_PIXELS {
        return Err(Error::bad_request(format!(
            "is a picture of {} x {} pixels, which would be scaled to {width} x {height}, and at most {MAX_PIXELS} pixels are made: send one whose sides differ less",
            picture.width(),
            picture.height(),
        )));
    }
    Ok(resize(&picture, width, height, &Window::whole(width, height)))
}

/// [`Transform::Fit`].
pub(super) fn fit(picture: Picture, side: u32) -> Picture {
    let picture = picture.opaque();
    let (width, height) = size(&picture);
    let longer = width.max(height);
    let wanted = u64::from(side);
    if (width, height) == (wanted, wanted) {
        return picture;
    }
    let scaled = |length: u64| ((length * wanted + longer / 2) / longer).clamp(1, wanted);
    let (width, height) = (scaled(width), scaled(height));
    let small = resize(&picture, width, height, &Window::whole(width, height));
    lay(small, side, (wanted - width) / 2, (wanted - height) / 2)
}

/// [`Transform::CenterCrop`].
pub(super) fn center_crop(picture: Picture, side: u32) -> Picture {
    let picture = picture.opaque();
    let (width, height) = size(&picture);
    if (width, height) == (u64::from(side), u64::from(side)) {
        return picture;
    }
    let (columns, rows) = (Cut::new(width, side), Cut::new(height, side));
    let channels = picture.channels();
    let bytes = columns.taken.start as usize * channels..columns.taken.end as usize * channels;
    let taken: Vec<u8> = picture
        .pixels()
        .chunks_exact(picture.width() as usize * channels)
        .take(rows.taken.end as usize)
        .skip(rows.taken.start as usize)
        .flat_map(|row| &row[bytes.clone()])
        .copied()
        .collect();
    let inside = Picture::new(columns.length(), rows.length(), channels, taken);
    lay(inside, side, columns.at, rows.at)
}

/// Lays a picture on a black square.
fn lay(picture: Picture, side: u32, left: u64, top: u64) -> Picture {
    if (picture.width(), picture.height()) == (side, side) {
        return picture;
    }
    let channels = picture.channels();
    let stride = side as usize * channels;
    let mut square = vec![0; stride * side as usize];
    let length = picture.width() as usize * channels;
    let rows = square.chunks_exact_mut(stride).skip(top as usize);
    for (square, row) in rows.zip(picture.pixels().chunks_exact(length)) {
        square[left as usize * channels..][..length].copy_from_slice(row);
    }
    Picture::new(side, side, channels, square)
}

fn size(picture: &Picture) -> (u64, u64) {
    (u64::from(picture.width()), u64::from(picture.height()))
}

// === impl Cut ===

impl Cut {
    /// The middle `side` of `length`, by torchvision's arithmetic: half a pixel goes to the even number.
    fn new(length: u64, side: u32) -> Self {
        let side = u64::from(side);
        match length.checked_sub(side) {
            None => Self { taken: 0..length, at: (side - length) / 2 },
            Some(rest) => {
                let half = rest / 2;
                let from = half + (rest % 2) * (half % 2);
                Self { taken: from..from + side, at: 0 }
            }
        }
    }

    /// Never more than the side of the crop, which is a u32.
    fn length(&self) -> u32 {
        (self.taken.end - self.taken.start) as u32
    }
}

#[cfg(test)]
mod tests;
