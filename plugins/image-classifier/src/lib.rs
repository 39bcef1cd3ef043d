//! TorchServe's `ImageClassifier`: a picture comes in, the five likeliest classes go out, as `{"tabby": 0.46, …}`.
//!
//! The whole handler is [`ImageClassifier`] of the SDK, whose documentation says what it takes and what it can be told in `model-config.yaml`; it serves archives that ask for TorchServe's `image_classifier`, as they are.
//! The model is TorchScript, or with the feature `tch` the state dict of a network that the SDK has built in.
//!
//! Copy this folder to serve a classifier of your own, and change
//!
//! * the pictures' way to the model: hold an `ImageClassifier::new(Compose::new([…]))`, or write `preprocess`;
//! * the answer: write `postprocess`, and take from `handler_sdk::classes` what helps, as `softmax`, `top_k` and the archive's labels.
//!
//! `mnist-digit-classifier` does both, in a type of its own that holds an `ImageClassifier`.

use handler_sdk::export_handler;
use handler_sdk::vision::ImageClassifier;

export_handler!(ImageClassifier);

#[cfg(test)]
mod tests;
