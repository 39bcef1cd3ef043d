//! What classifiers share: the names of classes, and the way from scores to the likeliest few.

use std::collections::HashMap;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::path::PathBuf;

use serde_json::Map;
use serde_json::Value as Json;

use crate::Context;
use crate::Error;
use crate::Result;
use crate::Tensor;
use crate::Value;

/// The names of a model's classes, from the archive's `index_to_name.json`.
///
/// ```
/// use handler_sdk::classes::Classes;
///
/// // An archive without the file: labels are the numbers.
/// assert_eq!(Classes::default().label(281)?, "281");
/// # Ok::<(), handler_sdk::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Classes {
    named: Option<Named>,
}

/// What a file said.
#[derive(Debug, Clone)]
struct Named {
    file: PathBuf,
    /// By the class's number as text, as JSON has it.
    labels: HashMap<String, String>,
}

/// As TorchServe looks for it.
const FILE: &str = "index_to_name.json";

/// What the file may hold, for those who have to mend it.
const SHAPES: &str =
    "it must be {\"0\": \"cat\", …}, {\"0\": [\"n02123045\", \"cat\"], …} or {\"object_type_names\": [\"cat\", …]}";

/// Where a dict has the scores.
const LOGITS: &str = "logits";

/// The scores among what a classifier gives: the first of a tuple, as torchvision's scripted models with auxiliary heads give, what a dict has under `logits`, or the output itself.
pub(crate) fn among(output: Value) -> Value {
    match output {
        Value::List(mut items) if !items.is_empty() => items.swap_remove(0),
        Value::Dict(mut entries) => match entries.iter().position(|(name, _)| name == LOGITS) {
            Some(place) => entries.swap_remove(place).1,
            None => Value::Dict(entries),
        },
        other => other,
    }
}

/// The scores of one input, one number a class: an output of shape `[classes]`, whatever its type.
///
/// Fails on another shape, which it names, and where no score is the largest: on NaN, and on infinities other than `-inf`, by which models leave a class out.
pub fn scores(output: &Tensor) -> Result<Vec<f32>> {
    check_shape(output)?;
    #[allow(clippy::cast_possible_truncation)] // As precise as models compute.
    let scores: Vec<f32> = output.to_f64()?.into_iter().map(|score| score as f32).collect();
    let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if let Some(index) = scores.iter().position(|score| score.is_nan()) {
        return Err(Error::new(format!("the model gave NaN for class {index}, so no class is the likeliest")));
    }
    if largest.is_infinite() {
        return Err(Error::new(format!("the model's largest score is {largest}, which makes no probabilities")));
    }
    Ok(scores)
}

/// Whether an output can hold scores, whatever they are: its shape is `[classes]`. Fails where it isn't, and names it.
pub fn check_shape(output: &Tensor) -> Result<()> {
    match output.shape()[..] {
        [classes] if classes > 0 => Ok(()),
        ref other => Err(Error::new(format!(
            "the model gave shape {other:?} for one input; it must give one score a class, [classes], which is [n, classes] for a batch"
        ))),
    }
}

/// From scores to probabilities that add up to 1, as `torch.softmax` makes them.
///
/// The largest score has to be finite, as [`scores`] sees to: of others come NaNs.
pub fn softmax(scores: &[f32]) -> Vec<f32> {
    let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f32> = scores.iter().map(|score| (score - largest).exp()).collect();
    let sum: f32 = powers.iter().sum();
    powers.into_iter().map(|power| power / sum).collect()
}

/// The `k` largest values with their places, the largest first; of equal ones the first comes first.
///
/// All of them where there are fewer than `k`; NaN counts as smaller than any number.
pub fn top_k(values: &[f32], k: usize) -> Vec<(usize, f32)> {
    let mut ranked: Vec<(usize, f32)> = values.iter().copied().enumerate().collect();
    // The sort is stable, so equal values keep their order.
    ranked.sort_by(|(_, one), (_, other)| {
        one.is_nan().cmp(&other.is_nan()).then_with(|| other.partial_cmp(one).unwrap_or(std::cmp::Ordering::Equal))
    });
    ranked.truncate(k);
    ranked
}

// === impl Classes ===

impl Classes {
    /// Reads the archive's `index_to_name.json`, in any of the forms that TorchServe reads:
    ///
    /// * `{"0": "cat", "1": "dog"}`
    /// * `{"0": ["n02123045", "cat"], …}`: of a list, the last counts
    /// * `{"object_type_names": ["cat", "dog"]}`: in the order of the numbers
    ///
    /// Without the file, labels are the numbers. A file of another form is an error, which says where and what was found.
    pub fn load(context: &Context) -> Result<Self> {
        let file = context.model_dir().join(FILE);
        let content = match fs::read(&file) {
            Ok(content) => content,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(Error::new(format!("{} can't be read: {error}", file.display()))),
        };
        let labels = serde_json::from_slice(&content)
            .map_err(|error| format!("is no JSON: {error}"))
            .and_then(labels)
            .map_err(|found| Error::new(format!("{} {found}; {SHAPES}", file.display())))?;
        Ok(Self { named: Some(Named { file, labels }) })
    }

    /// The name of the class with this number; without a file the number itself.
    ///
    /// Fails where the file has no such number: it belongs to another model then, or the model to another file.
    pub fn label(&self, index: usize) -> Result<String> {
        let number = index.to_string();
        let Some(named) = &self.named else { return Ok(number) };
        named.labels.get(&number).cloned().ok_or_else(|| {
            Error::new(format!(
                "the model gave class {number}, for which {} has no label among its {}: add one, or pack the file that belongs to the model",
                named.file.display(),
                named.labels.len()
            ))
        })
    }

    /// The file that names the classes; `None` where labels are the numbers.
    pub fn file(&self) -> Option<&Path> {
        self.named.as_ref().map(|named| named.file.as_path())
    }

    /// Whether a class has this name.
    pub fn contains(&self, label: &str) -> bool {
        self.named.as_ref().is_some_and(|named| named.labels.values().any(|name| name == label))
    }

    /// The `k` likeliest classes, the likeliest first, as the JSON object `{label: probability}`.
    ///
    /// Where two classes have one label, it stands once, with the less likely one's probability, as in TorchServe.
    pub fn likeliest(&self, probabilities: &[f32], k: usize) -> Result<Json> {
        let mut object = Map::new();
        for (index, probability) in top_k(probabilities, k) {
            object.insert(self.label(index)?, f64::from(probability).into());
        }
        Ok(Json::Object(object))
    }
}

/// The labels that the file's JSON holds, or what is wrong with it.
fn labels(json: Json) -> Result<HashMap<String, String>, String> {
    match json {
        Json::Object(mut entries) => match entries.remove("object_type_names") {
            Some(Json::Array(names)) => {
                let numbered = names.into_iter().enumerate();
                numbered.map(|(index, name)| entry(index.to_string(), name)).collect()
            }
            Some(other) => Err(format!("has {} under \"object_type_names\"", kind(&other))),
            None => entries.into_iter().map(|(number, name)| entry(number, name)).collect(),
        },
        other => Err(format!("holds {}", kind(&other))),
    }
}

fn entry(number: String, name: Json) -> Result<(String, String), String> {
    let last = match name {
        Json::Array(mut names) => names.pop().ok_or_else(|| format!("has an empty list for class {number:?}"))?,
        other => other,
    };
    match last {
        Json::String(label) => Ok((number, label)),
        other => Err(format!("has {} as the label of class {number:?}", kind(&other))),
    }
}

/// What a value is, in words that fit any message.
fn kind(value: &Json) -> String {
    match value {
        Json::Null => "null".to_owned(),
        Json::Bool(value) => value.to_string(),
        Json::Number(number) => format!("the number {number}"),
        Json::String(_) => "text".to_owned(),
        Json::Array(items) => format!("a list of {}", items.len()),
        Json::Object(_) => "an object".to_owned(),
    }
}

#[cfg(test)]
mod tests;
