//! What the handlers of pictures share: TorchServe's `VisionHandler`.

use crate::Context;
use crate::Error;
use crate::Handler;
use crate::Level;
use crate::Network;
use crate::Request;
use crate::Response;
use crate::Result;
use crate::Tensor;
use crate::Value;
use crate::attribution;
use crate::attribution::IntegratedGradients;
use crate::vision::Compose;
use crate::vision::Picture;

/// From a request's picture through transforms to the model, with explanations of its answers.
///
/// By itself it answers with the model's output as nested lists; [`ImageClassifier`](super::ImageClassifier), [`ImageSegmenter`](super::ImageSegmenter) and [`ObjectDetector`](super::ObjectDetector) hold one and make their own answers.
///
/// A request's field `data`, or its body, holds a picture, as it is or in base64, or nested JSON lists of numbers, which go to the model past all transforms.
#[derive(Debug)]
pub struct VisionHandler {
    transforms: Compose,
    /// That of the model's input; `None` where lists of any shape go to it.
    shape: Option<Vec<i64>>,
    network: Network,
    gradients: IntegratedGradients,
}

/// The steps of TorchServe's explanations.
const STEPS: usize = 15;

/// The side of the picture that the model is tried with; as large as the pictures of ImageNet after their transforms.
const SIDE: u32 = 224;

// === impl VisionHandler ===

impl VisionHandler {
    /// Pictures pass these transforms on their way to the model.
    pub fn new(transforms: Compose) -> Self {
        Self { transforms, shape: None, network: Network::default(), gradients: IntegratedGradients::new(STEPS) }
    }

    /// Says what shape the model takes, that of pictures after the transforms: lists of another are refused with status 400, before they spoil a batch.
    #[must_use]
    pub fn with_shape(mut self, shape: &[i64]) -> Self {
        self.shape = Some(shape.to_vec());
        self
    }

    /// The model's output for these inputs of its, each for a whole batch.
    pub fn forward(&self, inputs: Vec<Value>, context: &Context) -> Result<Value> {
        self.network.forward(inputs, context)
    }

    /// A black picture, after the transforms: for a self-test.
    pub fn blank(&self) -> Result<Tensor> {
        self.transforms.apply(Picture::black(SIDE, SIDE))
    }

    /// Calls the model before the first request does, so that no request waits while it warms up; for a self-test.
    ///
    /// `None` where the model fails, which the log then says: it may take other inputs than pictures make, and clients may send lists of these.
    pub fn warm_up(&self, inputs: Vec<Value>, context: &Context) -> Option<Value> {
        let warn = |error| {
            let message = format!(
                "the model fails on a black picture of {SIDE} x {SIDE} pixels after the transforms, and requests with pictures are likely to fail, too: {error}"
            );
            context.log(Level::Warn, message);
        };
        self.forward(inputs, context).map_err(warn).ok()
    }
}

impl Default for VisionHandler {
    /// With the transforms of ImageNet: [`Compose::imagenet`].
    fn default() -> Self {
        Self::new(Compose::imagenet())
    }
}

impl Handler for VisionHandler {
    fn initialize(&mut self, context: &Context) -> Result<()> {
        self.transforms.check()?;
        self.network = Network::load(context)?;
        self.gradients = IntegratedGradients::from_config(context, STEPS)?;
        Ok(())
    }

    fn preprocess(&self, request: &Request, context: &Context) -> Result<Value> {
        let field = request.input()?;
        let tensor = self.transforms.read(&field, context)?;
        match &self.shape {
            Some(wanted) if *wanted != tensor.shape() => Err(Error::bad_request(format!(
                "field `{}` holds lists of shape {:?}, not {wanted:?}, which the model takes: send lists of that shape, or a picture",
                field.name(),
                tensor.shape()
            ))),
            _ => Ok(tensor.into()),
        }
    }

    fn inference(&self, inputs: Vec<Value>, context: &Context) -> Result<Vec<Value>> {
        let count = inputs.len();
        self.forward(Value::batch(inputs)?, context)?.split(count)
    }

    /// Each number's share, by integrated gradients, in the score of the class that the field `target` names by its number; without one, of class 0.
    fn explain(&self, request: &Request, context: &Context) -> Result<Response> {
        let target = attribution::target(request)?;
        let input = self.preprocess(request, context)?.tensor()?;
        let shares = self.gradients.of_input(&self.network, input, target, context)?;
        Ok(Response::json(&shares.to_json()?))
    }
}
