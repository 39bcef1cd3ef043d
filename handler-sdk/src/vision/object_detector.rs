//! TorchServe's `ObjectDetector`: a picture comes in, the boxes of what it shows go out.

use serde_json::Map;
use serde_json::Value as Json;

use crate::Context;
use crate::Error;
use crate::Handler;
use crate::Level;
use crate::Request;
use crate::Response;
use crate::Result;
use crate::Tensor;
use crate::Value;
use crate::classes::Classes;
use crate::vision::Compose;
use crate::vision::Transform;
use crate::vision::VisionHandler;

/// Answers a picture with what was found on it: a JSON list of `{label: [x1, y1, x2, y2], "score": s}`, in the model's order.
///
/// * The picture becomes numbers from 0 to 1 in its own size; detectors scale it themselves. See [`VisionHandler`] for what a request may hold.
/// * The model is called with one argument, a list of tensors `[3, height, width]`, as torchvision's scripted detectors are; pictures of one batch may differ in size. Where the model takes one tensor, the host stacks the list; where it can't take the batch, it is called once a picture.
/// * It gives a dict with `boxes` `[k, 4]`, `labels` `[k]` and `scores` `[k]` for each picture, in a list; or that list behind the losses, as torchvision's scripted detectors do; or, for a batch of one, the dict alone or the three tensors in this order.
/// * What scores less than 0.5 is left out, or less than `handler: {threshold: 0.3}` of `model-config.yaml` says.
/// * The labels are those of the archive's `index_to_name.json`, or the numbers; see [`Classes`].
#[derive(Debug)]
pub struct ObjectDetector {
    vision: VisionHandler,
    classes: Classes,
    threshold: f32,
}

/// What the model has found on one picture.
#[derive(Debug)]
struct Found {
    boxes: Vec<f64>,
    labels: Vec<f64>,
    scores: Vec<f32>,
}

/// What TorchServe's answers leave out is less likely than this.
const THRESHOLD: f32 = 0.5;

/// The names that torchvision's detectors give their tensors, in its order.
const NAMES: [&str; 3] = ["boxes", "labels", "scores"];

/// Under this name an answer has the score, beside the box under its label.
const SCORE: &str = "score";

// === impl ObjectDetector ===

impl ObjectDetector {
    /// Pictures pass these transforms on their way to the model; boxes are given in what comes out of them.
    pub fn new(transforms: Compose) -> Self {
        Self { vision: VisionHandler::new(transforms), classes: Classes::default(), threshold: THRESHOLD }
    }

    /// Leaves out what scores less than this, where `model-config.yaml` doesn't say another number.
    #[must_use]
    pub fn with_threshold(mut self, threshold: f32) -> Self {
        self.threshold = threshold;
        self
    }

    /// One call of the model for these pictures; one dict each.
    fn detect(&self, pictures: Vec<Value>, context: &Context) -> Result<Vec<Value>> {
        let count = pictures.len();
        one_each(self.vision.forward(vec![Value::List(pictures)], context)?, count)
    }
}

impl Default for ObjectDetector {
    /// With no transform but the one to numbers, and the threshold 0.5.
    fn default() -> Self {
        Self::new(Compose::new([Transform::ToTensor]))
    }
}

impl Handler for ObjectDetector {
    fn initialize(&mut self, context: &Context) -> Result<()> {
        self.vision.initialize(context)?;
        self.classes = Classes::load(context)?;
        if let (true, Some(file)) = (self.classes.contains(SCORE), self.classes.file()) {
            let message = format!(
                "{} labels a class {SCORE:?}, under which answers have the score: its boxes can't be told; rename it",
                file.display()
            );
            context.log(Level::Warn, message);
        }
        match &context.config()["handler"]["threshold"] {
            Json::Null => {}
            named => self.threshold = threshold(named)?,
        }
        Ok(())
    }

    /// A model that gives no boxes for a picture is refused before a request finds it out.
    fn self_test(&self, context: &Context) -> Result<()> {
        let blank = Value::List(vec![self.vision.blank()?.into()]);
        match self.vision.warm_up(vec![blank], context) {
            Some(output) => one_each(output, 1)?.iter().try_for_each(|row| Found::read(row).map(drop)),
            None => Ok(()),
        }
    }

    fn preprocess(&self, request: &Request, context: &Context) -> Result<Value> {
        self.vision.preprocess(request, context)
    }

    fn inference(&self, inputs: Vec<Value>, context: &Context) -> Result<Vec<Value>> {
        match inputs.len() {
            1 => self.detect(inputs, context),
            // A model that takes one tensor can't take sizes that differ, and some take one picture only.
            _ => self.detect(inputs.clone(), context).or_else(|_| {
                let alone = inputs.into_iter().map(|input| self.detect(vec![input], context));
                Ok(alone.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
            }),
        }
    }

    fn postprocess(&self, output: Value, _: &Request, _: &Context) -> Result<Response> {
        let Found { boxes, labels, scores } = Found::read(&output)?;
        let mut answer = Vec::new();
        for ((sides, label), score) in boxes.chunks(4).zip(labels).zip(scores) {
            // NaN, too, is left out.
            if score >= self.threshold {
                let mut object = Map::new();
                object.insert(self.classes.label(number(label)?)?, sides.into());
                object.insert(SCORE.to_owned(), f64::from(score).into());
                answer.push(Json::Object(object));
            }
        }
        Ok(Json::Array(answer).into())
    }
}

fn threshold(named: &Json) -> Result<f32> {
    let between = named.as_f64().filter(|threshold| (0.0..=1.0).contains(threshold));
    #[allow(clippy::cast_possible_truncation)] // As PyTorch compares it with the scores.
    between.map(|threshold| threshold as f32).ok_or_else(|| {
        Error::new(format!(
            "model-config.yaml has `handler: {{threshold: {named}}}`, which must be a number from 0 to 1: what scores less is left out"
        ))
    })
}

/// From the model's output to one dict a picture.
fn one_each(output: Value, count: usize) -> Result<Vec<Value>> {
    let given = told(&output);
    let rows = match output {
        Value::List(items) => match &items[..] {
            // Scripted detectors of torchvision: the losses of training, and what was found.
            [Value::Dict(_), Value::List(rows)] => rows.clone(),
            [Value::Tensor(_), Value::Tensor(_), Value::Tensor(_), ..] => {
                vec![Value::Dict(NAMES.map(str::to_owned).into_iter().zip(items).collect())]
            }
            _ => items,
        },
        other => vec![other],
    };
    if rows.len() != count || rows.iter().any(|row| !matches!(row, Value::Dict(_))) {
        return Err(Error::new(format!(
            "the model gave {given} for a batch of {count}; ObjectDetector needs one dict a picture, with `boxes` [k, 4], `labels` [k] and `scores` [k], as torchvision's detectors give"
        )));
    }
    Ok(rows)
}

/// What a value is, for those who made the model.
fn told(output: &Value) -> String {
    match output {
        Value::Tensor(tensor) => format!("a tensor of shape {:?}", tensor.shape()),
        Value::List(items) => format!("a list of [{}]", items.iter().map(told).collect::<Vec<_>>().join(", ")),
        Value::Dict(entries) => {
            format!("a dict with {:?}", entries.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>())
        }
    }
}

/// The class's number of a label as the model gave it.
fn number(label: f64) -> Result<usize> {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Looked at before.
    match label >= 0.0 && label.fract() == 0.0 {
        true => Ok(label as usize),
        false => Err(Error::new(format!("the model gave the label {label}, which is no number of a class"))),
    }
}

// === impl Found ===

impl Found {
    fn read(row: &Value) -> Result<Self> {
        let [boxes, labels, scores] = NAMES.map(|name| row.get(name).and_then(Value::as_tensor));
        let (boxes, labels, scores) = (boxes?, labels?, scores?);
        let shapes = [boxes, labels, scores].map(Tensor::shape);
        let count = shapes[0].first().copied().unwrap_or_default();
        // Some models give an empty list of boxes where they find nothing.
        let fours = shapes[0] == [count, 4] || shapes[0] == [0];
        if !fours || shapes[1] != [count] || shapes[2] != [count] {
            let [boxes, labels, scores] = shapes;
            return Err(Error::new(format!(
                "the model gave `boxes` of shape {boxes:?}, `labels` {labels:?} and `scores` {scores:?} for one picture; ObjectDetector needs [k, 4], [k] and [k]"
            )));
        }
        #[allow(clippy::cast_possible_truncation)] // As precise as models compute.
        let scores = scores.to_f64()?.into_iter().map(|score| score as f32).collect();
        Ok(Self { boxes: boxes.to_f64()?, labels: labels.to_f64()?, scores })
    }
}
