//! TorchServe's `MNISTDigitClassifier`: a picture of a handwritten digit comes in, the digit goes out.
//!
//! The input is the request's field `data`, or its body: a picture (PNG, JPEG, BMP, GIF, WebP), the same in base64, or nested JSON lists of shape `[1, 28, 28]`, which go to the model as they are.
//! As in MNIST, the digit is expected white on black; nothing is inverted.
//!
//! The model is TorchScript, or the state dict of the network in TorchServe's example; for that one the crate needs its feature `tch`.
//! Copy this folder to start a handler that looks at pictures, or one that brings its own network.

mod model;
#[cfg(feature = "tch")]
mod net;
mod picture;
#[cfg(test)]
mod tests;

use handler_sdk::prelude::*;

use crate::model::Model;

/// Mean and deviation of MNIST's training pictures, by which its networks expect their input to be shifted and scaled.
const MEAN: f32 = 0.1307;
const DEVIATION: f32 = 0.3081;

#[derive(Default)]
struct MnistDigitClassifier {
    model: Model,
}

impl Handler for MnistDigitClassifier {
    fn initialize(&mut self, context: &Context) -> Result<()> {
        self.model = Model::load(context)?;
        Ok(())
    }

    fn preprocess(&self, request: &Request, _: &Context) -> Result<Value> {
        let input = request.input()?;
        let tensor = match picture::numbers(&input, &[1, 28, 28])? {
            Some(numbers) => numbers,
            None => picture::normalise(&picture::fit(picture::open(&input)?, 28), MEAN, DEVIATION)?,
        };
        Ok(tensor.into())
    }

    fn inference(&self, inputs: Vec<Value>, context: &Context) -> Result<Vec<Value>> {
        let count = inputs.len();
        self.model.forward(Value::batch(inputs)?, context)?.split(count)
    }

    fn postprocess(&self, scores: Value, _: &Request, _: &Context) -> Result<Response> {
        Ok(Response::text(model::digit(scores)?.to_string()))
    }

    fn self_test(&self, context: &Context) -> Result<()> {
        let blank = picture::normalise(&picture::blank(28), MEAN, DEVIATION)?;
        self.inference(vec![blank.into()], context)?.into_iter().try_for_each(|scores| model::digit(scores).map(drop))
    }
}

// The second name is that of the Python file in TorchServe's example, so that its archives are served as they are.
export_handler!(MnistDigitClassifier, MnistDigitClassifier as "mnist_handler");
