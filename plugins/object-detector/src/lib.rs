//! TorchServe's `ObjectDetector`: a picture comes in, what it shows goes out, as `[{"cat": [x1, y1, x2, y2], "score": 0.98}, …]`.
//!
//! The whole handler is [`ObjectDetector`] of the SDK, whose documentation says what models it knows and how the threshold is set; it serves archives that ask for TorchServe's `object_detector`, as they are.
//! The server has the operators that torchvision's detectors call, `nms` and `roi_align`; a library with others is named under `torchLibraries` in the archive's `model-config.yaml`.
//!
//! Copy this folder for a detector whose answers are to look different: your type holds an `ObjectDetector`, with `pass_on!(0: initialize, self_test, preprocess, inference)` in its `impl Handler`, and its `postprocess` gets a dict with `boxes`, `labels` and `scores` of its request.

use handler_sdk::export_handler;
use handler_sdk::vision::ObjectDetector;

export_handler!(ObjectDetector);

#[cfg(test)]
mod tests;
