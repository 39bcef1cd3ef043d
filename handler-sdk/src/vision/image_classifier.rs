//! TorchServe's `ImageClassifier`: a picture comes in, the likeliest classes go out.

use serde_json::Value as Json;

use crate::Context;
use crate::Error;
use crate::Handler;
use crate::Request;
use crate::Response;
use crate::Result;
use crate::Value;
use crate::classes;
use crate::classes::Classes;
use crate::vision::Compose;
use crate::vision::VisionHandler;

/// Answers a picture with the likeliest classes, as a JSON object `{label: probability}`, the likeliest first.
///
/// * The picture passes the transforms, by default those of ImageNet; see [`VisionHandler`] for what a request may hold.
/// * The model, TorchScript or a network that is built in, gives scores of shape `[n, classes]`, as a tensor, as the first of a tuple, as torchvision's scripted models with auxiliary heads do, or in a dict under `logits`; softmax makes probabilities of them.
/// * The labels are those of the archive's `index_to_name.json`, or the classes' numbers; see [`Classes`].
/// * An answer has 5 classes, or as many as `handler: {topk: 3}` of `model-config.yaml` says, or all where the model has fewer.
/// * `/explanations` says each number's share in the score of one class, that of the field `target`; `handler: {n_steps: 50}` makes it more exact than 15 steps do.
///
/// A handler of yours holds one, leaves it steps with [`pass_on!`](crate::pass_on), and writes what is to be different:
///
/// ```
/// use handler_sdk::pass_on;
/// use handler_sdk::prelude::*;
/// use handler_sdk::testing::{Host, Request as Sent};
/// use handler_sdk::vision::{Compose, ImageClassifier, Transform};
///
/// /// Cats or dogs, as one word.
/// struct Pets(ImageClassifier);
///
/// impl Default for Pets {
///     fn default() -> Self {
///         Self(ImageClassifier::new(Compose::new([
///             Transform::ResizeTo { height: 64, width: 64 },
///             Transform::ToTensor,
///         ])).with_classes(2))
///     }
/// }
///
/// impl Handler for Pets {
///     pass_on!(0: initialize, self_test, preprocess, inference, explain);
///
///     fn postprocess(&self, scores: Value, _: &Request, _: &Context) -> Result<Response> {
///         Ok(Response::text(["cat", "dog"][scores.tensor()?.argmax()?]))
///     }
/// }
///
/// let host = Host::new().model(|inputs| {
///     let count = inputs[0].as_tensor()?.shape()[0];
///     Ok(Tensor::from_slice(&[count, 2], &[0.0_f32, 1.0].repeat(count as usize))?.into())
/// });
/// assert_eq!(host.start::<Pets>()?.predict(Sent::json(&[[[0.25]], [[0.5]], [[1.0]]]))?.body, b"dog");
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug)]
pub struct ImageClassifier {
    vision: VisionHandler,
    classes: Classes,
    /// How many the model has, where that is known.
    count: Option<usize>,
    topk: usize,
}

/// How many classes TorchServe's answers have.
const TOP_K: usize = 5;

// === impl ImageClassifier ===

impl ImageClassifier {
    /// Pictures pass these transforms on their way to the model.
    pub fn new(transforms: Compose) -> Self {
        Self { vision: VisionHandler::new(transforms), classes: Classes::default(), count: None, topk: TOP_K }
    }

    /// Says what shape the model takes: see [`VisionHandler::with_shape`].
    #[must_use]
    pub fn with_shape(mut self, shape: &[i64]) -> Self {
        self.vision = self.vision.with_shape(shape);
        self
    }

    /// Says how many classes the model has: one that gives another number of scores is refused.
    #[must_use]
    pub fn with_classes(mut self, count: usize) -> Self {
        self.count = Some(count);
        self
    }

    /// So many classes in an answer, where `model-config.yaml` doesn't say another number.
    #[must_use]
    pub fn with_topk(mut self, topk: usize) -> Self {
        self.topk = topk;
        self
    }

    /// What opens the pictures and calls the model.
    pub fn vision(&self) -> &VisionHandler {
        &self.vision
    }

    fn check(&self, scores: &Value) -> Result<()> {
        let scores = scores.as_tensor()?;
        classes::check_shape(scores)?;
        match self.count {
            // It has one dimension, as was checked.
            Some(count) if scores.shape().first().and_then(|&found| usize::try_from(found).ok()) != Some(count) => {
                Err(Error::new(format!(
                    "the model gave shape {:?} for a picture, and not {count} scores, one a class",
                    scores.shape()
                )))
            }
            _ => Ok(()),
        }
    }
}

impl Default for ImageClassifier {
    /// With the transforms of ImageNet and 5 classes.
    fn default() -> Self {
        Self::new(Compose::imagenet())
    }
}

impl Handler for ImageClassifier {
    fn initialize(&mut self, context: &Context) -> Result<()> {
        self.vision.initialize(context)?;
        self.classes = Classes::load(context)?;
        match &context.config()["handler"]["topk"] {
            Json::Null => {}
            named => self.topk = topk(named)?,
        }
        Ok(())
    }

    /// A model that gives no scores for a picture is refused before a request finds it out.
    fn self_test(&self, context: &Context) -> Result<()> {
        let blank = Value::batch(vec![self.vision.blank()?.into()])?;
        match self.vision.warm_up(blank, context) {
            Some(output) => output.split(1)?.into_iter().try_for_each(|row| self.check(&classes::among(row))),
            None => Ok(()),
        }
    }

    fn preprocess(&self, request: &Request, context: &Context) -> Result<Value> {
        self.vision.preprocess(request, context)
    }

    fn inference(&self, inputs: Vec<Value>, context: &Context) -> Result<Vec<Value>> {
        let outputs: Vec<Value> = self.vision.inference(inputs, context)?.into_iter().map(classes::among).collect();
        outputs.iter().try_for_each(|scores| self.check(scores))?;
        Ok(outputs)
    }

    fn postprocess(&self, output: Value, _: &Request, _: &Context) -> Result<Response> {
        let scores = classes::scores(&output.tensor()?)?;
        Ok(self.classes.likeliest(&classes::softmax(&scores), self.topk)?.into())
    }

    fn explain(&self, request: &Request, context: &Context) -> Result<Response> {
        self.vision.explain(request, context)
    }
}

fn topk(named: &Json) -> Result<usize> {
    named.as_u64().filter(|&topk| topk > 0).and_then(|topk| usize::try_from(topk).ok()).ok_or_else(|| {
        Error::new(format!(
            "model-config.yaml has `handler: {{topk: {named}}}`, which must be a number from 1 on: how many classes an answer has"
        ))
    })
}
