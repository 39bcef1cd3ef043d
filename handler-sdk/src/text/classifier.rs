//! TorchServe's `TextClassifier`, step by step.

use std::borrow::Cow;
use std::cell::Cell;

use serde_json::Map;
use serde_json::Value as Json;
use serde_json::json;

use crate::Context;
use crate::Error;
use crate::Field;
use crate::Handler;
use crate::Request;
use crate::Response;
use crate::Result;
use crate::Tensor;
use crate::Value;
use crate::attribution;
use crate::attribution::IntegratedGradients;
use crate::classes;
use crate::classes::Classes;

use super::encoder;
use super::encoder::Encoder;
use super::settings;

/// Sorts texts into classes: a text comes in, the probability of each class goes out, as `{"World": 0.9, "Sports": 0.1}`.
///
/// The input is the request's field `data`, or its body, as plain text or as a JSON string.
/// The archive holds a TorchScript model, the file that turns words into numbers, and `index_to_name.json` with the classes' names, without which the labels are the numbers.
///
/// * With `source_vocab.pt` (see [`Vocabulary::load`](super::Vocabulary::load)) all is as in TorchServe: the text is [cleaned](super::clean), its words and pairs of words are looked up, and the model is called with the tokens of all texts in a row and the places where each begins, as `torch.nn.EmbeddingBag` takes them. A model that ignores the places is called once for each text.
/// * With `tokenizer.json`, Hugging Face's format, and the feature `tokenizers` of this crate, the model is called with `input_ids` and `attention_mask`, `[n, longest]` each. What it gives may be a tensor, a tuple that begins with it, or a dict that has it as `logits`.
///
/// An explanation tells what each number of the layer `embedding` contributes to the class that the field `target` names, 0 by default, and the text's words: `{"importances": [[…]], "words": […]}`.
/// It is TorchServe's, and needs a vocabulary.
///
/// Settings, under `handler:` in model-config.yaml: `unknown_index` for tokens that the vocabulary doesn't know; `embedding`, the layer to explain, and `n_steps`, 50 by default; `max_length` and `inputs` for a tokenizer, as `[input_ids, attention_mask, token_type_ids]`.
///
/// A handler of your own holds one and passes on the steps that it doesn't replace:
///
/// ```
/// use handler_sdk::prelude::*;
/// use handler_sdk::text::TextClassifier;
///
/// /// Answers no probabilities, but whether a text is worth reading.
/// #[derive(Default)]
/// struct WorthReading(TextClassifier);
///
/// impl Handler for WorthReading {
///     handler_sdk::pass_on!(0: initialize, self_test, preprocess, inference, explain);
///
///     fn postprocess(&self, scores: Value, _: &Request, _: &Context) -> Result<Response> {
///         Ok(Response::text(if scores.tensor()?.argmax()? == 1 { "yes" } else { "no" }))
///     }
/// }
/// # export_handler!(WorthReading);
/// ```
#[derive(Debug, Default)]
pub struct TextClassifier {
    encoder: Encoder,
    classes: Classes,
    /// The path of the layer that is explained.
    embedding: String,
    attribution: Option<IntegratedGradients>,
    /// Set where the model has shown that it takes one text at a time.
    one_by_one: Cell<bool>,
}

/// As the example of TorchServe names it.
const EMBEDDING: &str = "embedding";
/// Captum's default, which TorchServe's handler leaves as it is.
const STEPS: usize = 50;

/// What a client is told to send.
const SEND: &str = "send the text as it is, or as a JSON string";

// === impl TextClassifier ===

impl Handler for TextClassifier {
    fn initialize(&mut self, context: &Context) -> Result<()> {
        // Fails where there is no model to call: at start, not with each request.
        context.model()?;
        self.encoder = Encoder::load(context)?;
        self.classes = Classes::load(context)?;
        self.embedding = settings::name(context, "embedding", EMBEDDING)?;
        self.attribution = Some(IntegratedGradients::from_config(context, STEPS)?);
        Ok(())
    }

    /// Warms the model up, and finds out whether its outputs and the classes' names fit each other.
    fn self_test(&self, context: &Context) -> Result<()> {
        let outputs = self.inference(vec![self.encoder.sample()?], context)?;
        outputs.iter().try_for_each(|output| self.probabilities(output).map(drop))
    }

    fn preprocess(&self, request: &Request, _: &Context) -> Result<Value> {
        let field = request.input()?;
        self.encoder.encode(&text(&field)?, field.name())
    }

    fn inference(&self, inputs: Vec<Value>, context: &Context) -> Result<Vec<Value>> {
        let count = inputs.len();
        if count == 1 || !self.one_by_one.get() {
            let scores = self.scores(inputs.clone(), context)?;
            match scores.shape()[..] {
                [rows, _] if usize::try_from(rows) == Ok(count) => {
                    return Ok(scores.unbind()?.into_iter().map(Value::Tensor).collect());
                }
                // A model that is traced or written for a single text has its own idea of what a row is.
                [_, _] if count > 1 => self.one_by_one.set(true),
                ref other => {
                    return Err(Error::new(format!(
                        "the model gave a tensor of shape {other:?} for {count} texts; it must give one row of scores a text, [{count}, classes]"
                    )));
                }
            }
        }
        let each = inputs.into_iter().map(|input| self.inference(vec![input], context));
        Ok(each.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
    }

    fn postprocess(&self, scores: Value, _: &Request, _: &Context) -> Result<Response> {
        Ok(Response::json(&self.probabilities(&scores)?))
    }

    fn explain(&self, request: &Request, context: &Context) -> Result<Response> {
        if !self.encoder.has_vocabulary() {
            return Err(Error::with_status(
                501,
                "The text classifier explains predictions only where the model's archive has a source_vocab.pt, and this one has a tokenizer.json.",
            ));
        }
        let field = request.input()?;
        let text = text(&field)?;
        let tokens = self.encoder.encode(&text, field.name())?;
        // One token with the index 0 for each of the text's.
        let shape = tokens.as_tensor()?.shape();
        let count =
            shape.iter().try_fold(1_usize, |count, &length| Ok::<_, Error>(count * usize::try_from(length)?))?;
        let baseline = Tensor::from_slice(&shape, &vec![0_i64; count])?;
        let inputs = self.encoder.batch(vec![tokens])?;
        let baselines = self.encoder.batch(vec![baseline.into()])?;
        let gradients = self.attribution.as_ref().ok_or_else(|| Error::new("it hasn't been initialised"))?;
        let shares =
            gradients.of_layer(&self.embedding, &inputs, &baselines, attribution::target(request)?, context)?;
        // TorchServe takes the mark of GPT's tokenizers out of its words; none of these has it, as it is no ASCII.
        Ok(json!({"importances": summary(&shares)?.to_json()?, "words": encoder::words(&text)}).into())
    }
}

impl TextClassifier {
    /// The model's scores for these texts.
    fn scores(&self, texts: Vec<Value>, context: &Context) -> Result<Tensor> {
        let scores = classes::among(context.model()?.forward(self.encoder.batch(texts)?)?).tensor();
        scores.map_err(|error| error.context("the scores, alone, first of a tuple or as `logits` of a dict"))
    }

    /// The probability of each class under its label, in the classes' order.
    fn probabilities(&self, scores: &Value) -> Result<Json> {
        let probabilities = classes::softmax(&classes::scores(scores.as_tensor()?)?);
        let labelled = probabilities
            .into_iter()
            .enumerate()
            .map(|(index, probability)| Ok((self.classes.label(index)?, f64::from(probability).into())));
        Ok(Json::Object(labelled.collect::<Result<Map<_, _>>>()?))
    }
}

/// The text in a field: as a string where it came as JSON, else as it is.
///
/// What claims to be JSON and isn't is taken as text, as TorchServe does.
fn text<'a>(field: &Field<'a>) -> Result<Cow<'a, str>> {
    if !field.content_type().is_some_and(|kind| kind.eq_ignore_ascii_case("application/json")) {
        return field.text().map(Cow::Borrowed);
    }
    match serde_json::from_slice(field.bytes()) {
        Ok(Json::String(text)) => Ok(text.into()),
        Ok(_) => Err(Error::bad_request(format!("field `{}` is JSON, but no string: {SEND}", field.name()))),
        Err(_) => field.text().map(Cow::Borrowed),
    }
}

/// What TorchServe makes of a layer's attributions: the softmax of each row, divided by the length of the vector of the rows' sums.
fn summary(attributions: &Tensor) -> Result<Tensor> {
    let shape = attributions.shape();
    let &[_, width] = &shape[..] else {
        return Err(Error::new(format!(
            "the layer that is explained gave shape {shape:?}; it must give a row for the text, [1, width], as torch.nn.EmbeddingBag does: name another with `handler: {{embedding: …}}`"
        )));
    };
    let rows: Vec<Vec<f32>> =
        attributions.to_vec::<f32>()?.chunks(usize::try_from(width)?.max(1)).map(classes::softmax).collect();
    let length = rows.iter().map(|row| row.iter().sum::<f32>().powi(2)).sum::<f32>().sqrt();
    let divided: Vec<f32> = rows.into_iter().flatten().map(|share| share / length).collect();
    Tensor::from_slice(&shape, &divided)
}
