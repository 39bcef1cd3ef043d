//! A decoded picture: rows of 8-bit pixels, of one to four channels.

use std::fmt;

use super::decode::Limit;
use super::input;
use crate::Context;
use crate::Error;
use crate::Field;
use crate::Result;

/// A decoded picture: grey or in colour, with transparency or without, 8 bits a channel.
///
/// ```
/// use handler_sdk::vision::Picture;
///
/// let red = Picture::from_rgb(1, 1, vec![255, 0, 0])?;
/// assert_eq!((red.width(), red.height()), (1, 1));
/// // By the weights of PIL's `convert("L")`.
/// assert_eq!(red.into_grey(), [76]);
/// # Ok::<(), handler_sdk::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Picture {
    width: u32,
    height: u32,
    /// Grey, grey with alpha, colour, colour with alpha: 1 to 4.
    channels: usize,
    /// Row by row, the channels of a pixel beside each other.
    pixels: Vec<u8>,
}

// === impl Picture ===

impl Picture {
    /// Decodes a request's field: PNG, JPEG, WebP, BMP or GIF (its first frame), as it is or in base64.
    ///
    /// A picture that claims more than [`MAX_PIXELS`](super::MAX_PIXELS) is refused before it is decoded, unless the server's property `limit_max_image_pixels` is false.
    /// Fails with status 400, and a text that names the field, what was found in it and what to send instead.
    pub fn open(field: &Field<'_>, context: &Context) -> Result<Self> {
        input::picture(field.bytes(), Limit::of(context)).map_err(|found| input::refusal(field, &found))
    }

    /// Takes pixels in colour, three bytes each, row by row from the top left; fails if there aren't `width` × `height`.
    pub fn from_rgb(width: u32, height: u32, pixels: Vec<u8>) -> Result<Self> {
        Self::checked(width, height, 3, pixels)
    }

    /// Takes grey pixels, one byte each, row by row from the top left; fails if there aren't `width` × `height`.
    pub fn from_grey(width: u32, height: u32, pixels: Vec<u8>) -> Result<Self> {
        Self::checked(width, height, 1, pixels)
    }

    /// A black picture, as a handler's self-test takes.
    pub fn black(width: u32, height: u32) -> Self {
        Self::new(width, height, 1, vec![0; width as usize * height as usize])
    }

    /// Pixels in a row.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// The pixels in colour, three bytes each, as PIL's `convert("RGB")` gives them: grey is repeated, transparency is dropped and leaves the colour below it.
    pub fn into_rgb(self) -> Vec<u8> {
        let opaque = self.opaque();
        match opaque.channels {
            1 => opaque.pixels.iter().flat_map(|&grey| [grey; 3]).collect(),
            _ => opaque.pixels,
        }
    }

    /// The pixels in grey, one byte each, by the weights of PIL's `convert("L")`.
    ///
    /// What is transparent lies on black. PIL ignores transparency, which shows whatever colour an invisible pixel was left with.
    pub fn into_grey(self) -> Vec<u8> {
        self.grey().pixels
    }

    pub(super) fn new(width: u32, height: u32, channels: usize, pixels: Vec<u8>) -> Self {
        debug_assert_eq!(pixels.len(), width as usize * height as usize * channels);
        Self { width, height, channels, pixels }
    }

    pub(super) fn channels(&self) -> usize {
        self.channels
    }

    pub(super) fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// One channel, or three, in the same memory.
    ///
    /// Grey isn't repeated yet: what is done to a channel gives three equal results, and is done once.
    pub(super) fn opaque(self) -> Self {
        match self.channels {
            2 => self.each(|[grey, _]: [u8; 2]| [grey]),
            4 => self.each(|[red, green, blue, _]: [u8; 4]| [red, green, blue]),
            _ => self,
        }
    }

    /// One channel, in the same memory.
    pub(super) fn grey(self) -> Self {
        match self.channels {
            2 => self.each(|[grey, alpha]: [u8; 2]| [on_black(grey, alpha)]),
            3 => self.each(|[red, green, blue]: [u8; 3]| [luma(red, green, blue)]),
            4 => self.each(|[red, green, blue, alpha]: [u8; 4]| [on_black(luma(red, green, blue), alpha)]),
            _ => self,
        }
    }

    fn checked(width: u32, height: u32, channels: usize, pixels: Vec<u8>) -> Result<Self> {
        // A product of two u32 and a small number fits into u128 whatever they are.
        let wanted = u128::from(width) * u128::from(height) * channels as u128;
        if pixels.len() as u128 != wanted || wanted == 0 {
            return Err(Error::new(format!(
                "a picture of {width} x {height} pixels has {wanted} bytes with {channels} a pixel, not {}, and at least one pixel",
                pixels.len()
            )));
        }
        Ok(Self::new(width, height, channels, pixels))
    }

    fn each<const FROM: usize, const TO: usize>(mut self, change: impl Fn([u8; FROM]) -> [u8; TO]) -> Self {
        debug_assert_eq!(FROM, self.channels);
        narrow(&mut self.pixels, change);
        Self { channels: TO, ..self }
    }
}

impl fmt::Debug for Picture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Picture({} x {}, {} channels)", self.width, self.height, self.channels)
    }
}

/// Makes each group of bytes a smaller one, front to back in the same memory.
pub(super) fn narrow<const FROM: usize, const TO: usize>(bytes: &mut Vec<u8>, change: impl Fn([u8; FROM]) -> [u8; TO]) {
    const { assert!(TO <= FROM) };
    let count = bytes.len() / FROM;
    for index in 0..count {
        let mut group = [0; FROM];
        group.copy_from_slice(&bytes[index * FROM..(index + 1) * FROM]);
        bytes[index * TO..(index + 1) * TO].copy_from_slice(&change(group));
    }
    bytes.truncate(count * TO);
}

/// PIL's arithmetic, to the bit: 0.299, 0.587 and 0.114 in units of 1/65536.
fn luma(red: u8, green: u8, blue: u8) -> u8 {
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
