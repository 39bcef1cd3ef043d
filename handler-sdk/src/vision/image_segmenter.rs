//! TorchServe's `ImageSegmenter`: a picture comes in, the class of each pixel goes out.

use crate::Context;
use crate::Error;
use crate::Handler;
use crate::Request;
use crate::Response;
use crate::Result;
use crate::Tensor;
use crate::Value;
use crate::vision::Compose;
use crate::vision::VisionHandler;

/// Answers a picture with the likeliest class of each of its pixels and that class's probability: nested JSON lists, height × width × `[class, probability]`.
///
/// * The picture passes the transforms, by default those of ImageNet, so the answer has 224 × 224 pixels; see [`VisionHandler`] for what a request may hold.
/// * The model gives scores of shape `[n, classes, height, width]`, as a tensor, or in a dict under `out`, as torchvision's do; softmax over the classes makes probabilities of them.
/// * The class is a number, written as 15.0: a list holds numbers of one type, as TorchServe's answer does.
#[derive(Debug)]
pub struct ImageSegmenter {
    vision: VisionHandler,
}

/// Where torchvision's models have the scores, beside those of an auxiliary head.
const OUT: &str = "out";

// === impl ImageSegmenter ===

impl ImageSegmenter {
    /// Pictures pass these transforms on their way to the model.
    pub fn new(transforms: Compose) -> Self {
        Self { vision: VisionHandler::new(transforms) }
    }
}

impl Default for ImageSegmenter {
    /// With the transforms of ImageNet.
    fn default() -> Self {
        Self::new(Compose::imagenet())
    }
}

impl Handler for ImageSegmenter {
    fn initialize(&mut self, context: &Context) -> Result<()> {
        self.vision.initialize(context)
    }

    /// A model that gives no scores for the pixels of a picture is refused before a request finds it out.
    fn self_test(&self, context: &Context) -> Result<()> {
        let blank = Value::batch(vec![self.vision.blank()?.into()])?;
        match self.vision.warm_up(blank, context) {
            Some(output) => {
                out(output)?.split(1)?.into_iter().try_for_each(|scores| dimensions(&scores.tensor()?).map(drop))
            }
            None => Ok(()),
        }
    }

    fn preprocess(&self, request: &Request, context: &Context) -> Result<Value> {
        self.vision.preprocess(request, context)
    }

    fn inference(&self, inputs: Vec<Value>, context: &Context) -> Result<Vec<Value>> {
        let count = inputs.len();
        out(self.vision.forward(Value::batch(inputs)?, context)?)?.split(count)
    }

    fn postprocess(&self, output: Value, _: &Request, _: &Context) -> Result<Response> {
        Ok(Response::json(&pixels(&output.tensor()?)?))
    }
}

/// The scores of a batch, wherever the model has them.
fn out(output: Value) -> Result<Value> {
    match output {
        Value::Dict(entries) => {
            let names: Vec<String> = entries.iter().map(|(name, _)| name.clone()).collect();
            entries.into_iter().find(|(name, _)| name == OUT).map(|(_, value)| value).ok_or_else(|| {
                Error::new(format!(
                    "the model gave a dict with {names:?}; ImageSegmenter needs its scores under {OUT:?}"
                ))
            })
        }
        other => Ok(other),
    }
}

/// Classes, height and width of one picture's scores.
fn dimensions(scores: &Tensor) -> Result<[usize; 3]> {
    let shape = scores.shape();
    let lengths: Vec<usize> = shape.iter().filter_map(|&length| usize::try_from(length).ok()).collect();
    match lengths[..] {
        [classes, height, width] if !lengths.contains(&0) => Ok([classes, height, width]),
        _ => Err(Error::new(format!(
            "the model gave shape {shape:?} for one picture; ImageSegmenter needs scores of shape [classes, height, width], which is [n, classes, height, width] for a batch"
        ))),
    }
}

/// The likeliest class of each pixel with its probability, row by row; of equally likely classes the first.
fn pixels(scores: &Tensor) -> Result<Vec<Vec<[f64; 2]>>> {
    let [classes, height, width] = dimensions(scores)?;
    let size = height * width;
    #[allow(clippy::cast_possible_truncation)] // As precise as models compute.
    let scores: Vec<f32> = scores.to_f64()?.into_iter().map(|score| score as f32).collect();
    let pixel = |place: usize| -> Result<[f64; 2]> {
        let of_class = |class: usize| scores[class * size + place];
        let best = (1..classes).fold(0, |best, class| if of_class(class) > of_class(best) { class } else { best });
        let sum: f32 = (0..classes).map(|class| (of_class(class) - of_class(best)).exp()).sum();
        if sum.is_nan() {
            return Err(Error::new(format!(
                "the model gave scores of which none is the largest, NaN or infinite, for the pixel at row {}, column {}",
                place / width,
                place % width
            )));
        }
        #[allow(clippy::cast_precision_loss)] // No model has so many classes.
        Ok([best as f64, f64::from(1.0 / sum)])
    };
    (0..height).map(|row| (row * width..(row + 1) * width).map(pixel).collect()).collect()
}
