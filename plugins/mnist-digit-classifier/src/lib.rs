//! TorchServe's `MNISTDigitClassifier`: a picture of a handwritten digit, white on black, comes in, the digit goes out.
//!
//! It is the SDK's [`ImageClassifier`] with other transforms and another answer, and passes on the steps that it leaves as they are.
//! Copy this folder to start a handler that looks at pictures and answers in its own way.

use handler_sdk::pass_on;
use handler_sdk::prelude::*;
use handler_sdk::vision::Compose;
use handler_sdk::vision::ImageClassifier;
use handler_sdk::vision::Transform;

struct MnistDigitClassifier(ImageClassifier);

impl Default for MnistDigitClassifier {
    fn default() -> Self {
        let scale = Transform::Normalize { mean: vec![0.1307], std: vec![0.3081] };
        // A picture of another size is made to fit, without being cut or bent.
        let transforms = Compose::new([Transform::Grey, Transform::Fit(28), Transform::ToTensor, scale]);
        Self(ImageClassifier::new(transforms).with_shape(&[1, 28, 28]).with_classes(10))
    }
}

impl Handler for MnistDigitClassifier {
    pass_on!(0: initialize, self_test, preprocess, inference, explain);

    fn postprocess(&self, scores: Value, _: &Request, _: &Context) -> Result<Response> {
        Ok(Response::text(scores.tensor()?.argmax()?.to_string()))
    }
}

// The second name is that of the Python file in TorchServe's example, so that its archives are served as they are.
export_handler!(MnistDigitClassifier, MnistDigitClassifier as "mnist_handler");

#[cfg(test)]
mod tests;
