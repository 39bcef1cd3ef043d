//! TorchServe's `TextClassifier`: a text comes in, the probability of each class goes out.
//!
//! Input, files and settings are those of [`handler_sdk::text::TextClassifier`], which does all the work.
//!
//! Copy this folder to start a handler of texts, and replace the step that is to be another:
//!
//! ```ignore
//! use handler_sdk::pass_on;
//! use handler_sdk::prelude::*;
//! use handler_sdk::text::TextClassifier;
//!
//! #[derive(Default)]
//! struct Headlines(TextClassifier);
//!
//! impl Handler for Headlines {
//!     pass_on!(0: initialize, self_test, preprocess, inference, explain);
//!
//!     // The one that differs: the number of the likeliest class alone.
//!     fn postprocess(&self, scores: Value, _: &Request, _: &Context) -> Result<Response> {
//!         Ok(Response::text(scores.tensor()?.argmax()?.to_string()))
//!     }
//! }
//!
//! export_handler!(Headlines);
//! ```
//!
//! For other words than TorchServe's, `preprocess` is the step to write: `handler_sdk::text` has `clean`, `basic_english`, `ngrams` and `Vocabulary` to build it from.

use handler_sdk::prelude::*;
use handler_sdk::text::TextClassifier;

export_handler!(TextClassifier);

#[cfg(test)]
mod tests;
