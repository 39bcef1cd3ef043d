//! TorchServe's `ImageSegmenter`: a picture comes in, and for each of its pixels the likeliest class goes out, with its probability.
//!
//! The whole handler is [`ImageSegmenter`] of the SDK, whose documentation says what model it needs; it serves archives that ask for TorchServe's `image_segmenter`, as they are.
//! The answer is large: 224 × 224 pairs of numbers, about 2.5 MB of JSON.
//!
//! Copy this folder for a model that says something of each pixel, and write a `postprocess` that answers with less: a picture of the classes, the share of each, the outline of one.
//! Your type then holds an `ImageSegmenter`, with `pass_on!(0: initialize, self_test, preprocess, inference)` in its `impl Handler`, and gets the scores `[classes, height, width]` of its request.

use handler_sdk::export_handler;
use handler_sdk::vision::ImageSegmenter;

export_handler!(ImageSegmenter);

#[cfg(test)]
mod tests;
