//! From a picture in a request to the tensor that a network for pictures takes.
//!
//! What torchvision's transforms make of a picture that PIL opened, without Python and without libtorch:
//!
//! ```
//! use handler_sdk::prelude::*;
//! use handler_sdk::vision::Compose;
//!
//! struct Brightness {
//!     transforms: Compose,
//! }
//!
//! impl Default for Brightness {
//!     fn default() -> Self {
//!         Self { transforms: Compose::imagenet() }
//!     }
//! }
//!
//! impl Handler for Brightness {
//!     fn preprocess(&self, request: &Request, context: &Context) -> Result<Value> {
//!         Ok(self.transforms.read(&request.input()?, context)?.into())
//!     }
//! }
//! # use handler_sdk::testing::{Host, Request as Sent};
//! # let mut handler = Host::new().model(|inputs| Ok(inputs[0].clone())).start::<Brightness>()?;
//! # let error = handler.predict(Sent::body("no picture")).unwrap_err();
//! # assert_eq!(error.status(), 400);
//! # Ok::<(), Error>(())
//! ```
//!
//! # What is equal, and what isn't
//!
//! Pixels of PNG, JPEG, BMP, GIF and WebP are those that PIL gives; from there to the tensor every step is torchvision's, to the bit: the sizes, the antialiased bilinear filter with Pillow's fixed-point arithmetic, the offsets of the crop, the division in float32.
//! Measured against torchvision 0.26 on Pillow 13; Pillow before 13 always scaled the columns first, which in tall pictures moves a tenth of the levels by one.
//! The orientation that a camera notes (EXIF) is not applied, as PIL doesn't.
//!
//! JPEG leaves decoders some freedom, and is decoded with the arithmetic of libjpeg-turbo, which Pillow brings: its inverse transform, its smooth enlarging of the colours, its tables from YCbCr to RGB.
//! The files that were compared are equal, of all usual subsamplings, progressive ones and CMYK too, except CMYK that is subsampled in height alone.
//! Where another channel is finer than the first, PIL reads the picture and it is refused here.
//! A JPEG whose data is spoilt is read as far as it goes, as PIL does, and behind the spoilt place the two may differ; one whose end is missing is refused.
//!
//! Where TorchServe's transforms fail, a picture is served: greyscale, palettes, transparency and 16 bits become three channels of 8 bits.
//! Of 16 bits the high ones are kept, in greyscale too, where PIL's conversion makes white of all above 255.

mod compose;
mod decode;
mod gif;
mod image_classifier;
mod image_segmenter;
mod input;
mod jpeg;
mod object_detector;
mod picture;
mod resize;
mod transform;
mod vision_handler;

#[cfg(test)]
mod tests;

pub use compose::Compose;
pub use decode::MAX_PIXELS;
pub use image_classifier::ImageClassifier;
pub use image_segmenter::ImageSegmenter;
pub use input::Input;
pub use object_detector::ObjectDetector;
pub use picture::Picture;
pub use transform::Transform;
pub use vision_handler::VisionHandler;
