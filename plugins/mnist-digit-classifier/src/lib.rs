//! TorchServe's `MNISTDigitClassifier`: a picture of a handwritten digit comes in, the digit goes out.
//!
//! It is the SDK's [`ImageClassifier`] with other transforms and another answer; what it leaves as it is, it passes on.
//! As in MNIST, the digit is expected white on black; nothing is inverted. A picture of another size is made to fit, without being cut or bent.
//!
//! The model is TorchScript, or with the feature `tch` the state dict of the network in TorchServe's example.
//! Copy this folder to start a handler that looks at pictures and answers in its own way.

use handler_sdk::prelude::*;
use handler_sdk::vision::Compose;
use handler_sdk::vision::ImageClassifier;
use handler_sdk::vision::Transform;

#[derive(Default)]
struct MnistDigitClassifier(ImageClassifier);

impl Handler for MnistDigitClassifier {
    fn initialize(&mut self, context: &Context) -> Result<()> {
        let scale = Transform::Normalize { mean: vec![0.1307], std: vec![0.3081] };
        let transforms = Compose::new([Transform::Grey, Transform::Fit(28), Transform::ToTensor, scale]);
        self.0 = ImageClassifier::new(transforms).with_shape(&[1, 28, 28]);
        self.0.initialize(context)
    }

    fn preprocess(&self, request: &Request, context: &Context) -> Result<Value> {
        self.0.preprocess(request, context)
    }

    fn inference(&self, pictures: Vec<Value>, context: &Context) -> Result<Vec<Value>> {
        self.0.inference(pictures, context)
    }

    fn postprocess(&self, scores: Value, _: &Request, _: &Context) -> Result<Response> {
        Ok(Response::text(digit(scores)?.to_string()))
    }

    fn explain(&self, request: &Request, context: &Context) -> Result<Response> {
        self.0.explain(request, context)
    }

    fn self_test(&self, context: &Context) -> Result<()> {
        let blank = self.0.vision().blank()?.into();
        self.inference(vec![blank], context)?.into_iter().try_for_each(|scores| digit(scores).map(drop))
    }
}

/// The digit with the best of ten scores.
fn digit(scores: Value) -> Result<usize> {
    match scores.as_tensor()?.shape()[..] {
        [10] => scores.tensor()?.argmax(),
        ref other => Err(Error::new(format!("the model gave shape {other:?} for a picture, and not 10 scores"))),
    }
}

// The second name is that of the Python file in TorchServe's example, so that its archives are served as they are.
export_handler!(MnistDigitClassifier, MnistDigitClassifier as "mnist_handler");

#[cfg(test)]
mod tests;
