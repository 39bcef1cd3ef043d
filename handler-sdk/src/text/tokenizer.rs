//! `tokenizer.json`: the tokenizers of Hugging Face's models.

use std::path::Path;

use serde_json::Value as Json;
use tokenizers::Encoding;
use tokenizers::PaddingDirection;
use tokenizers::Tokenizer;
use tokenizers::TruncationParams;

use crate::Context;
use crate::Error;
use crate::Result;
use crate::Tensor;
use crate::Value;

use super::settings;

/// A tokenizer from a file, with the inputs that the model takes from it.
#[derive(Debug)]
pub(super) struct FileTokenizer {
    tokenizer: Tokenizer,
    inputs: Vec<Input>,
    /// What shorter texts of a batch are filled up with, for each of the inputs.
    padding: Padding,
}

/// An input of a transformer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Input {
    Ids,
    Mask,
    Types,
}

#[derive(Debug)]
struct Padding {
    side: PaddingDirection,
    id: i64,
    kind: i64,
}

/// The inputs by the names of their parameters in Hugging Face's models.
const INPUTS: [(&str, Input); 3] =
    [("input_ids", Input::Ids), ("attention_mask", Input::Mask), ("token_type_ids", Input::Types)];
/// How tokens for padding are called, where the file names none.
const PADDING: [&str; 3] = ["[PAD]", "<pad>", "<|endoftext|>"];

// === impl FileTokenizer ===

impl FileTokenizer {
    /// Reads the file, and what `handler:` says of `max_length` and `inputs`.
    pub(super) fn load(file: &Path, context: &Context) -> Result<Self> {
        let unreadable = |error| Error::new(format!("{} can't be read as a tokenizer: {error}", file.display()));
        let mut tokenizer = Tokenizer::from_file(file).map_err(unreadable)?;
        if let Some(length) = settings::number(context, "max_length", 1)? {
            let truncation = tokenizer.get_truncation().cloned().unwrap_or_default();
            let truncation = TruncationParams { max_length: usize::try_from(length)?, ..truncation };
            tokenizer.with_truncation(Some(truncation)).map_err(unreadable)?;
        }
        let padding = match tokenizer.get_padding() {
            Some(padding) => {
                Padding { side: padding.direction, id: i64::from(padding.pad_id), kind: i64::from(padding.pad_type_id) }
            }
            None => {
                let id = PADDING.iter().find_map(|token| tokenizer.token_to_id(token)).map_or(0, i64::from);
                Padding { side: PaddingDirection::Right, id, kind: 0 }
            }
        };
        Ok(Self { tokenizer, inputs: inputs(context)?, padding })
    }

    /// The inputs of one text, each `[length]`.
    pub(super) fn encode(&self, text: &str, field: &str) -> Result<Value> {
        // One at a time: for several the crate would start threads that outlive the handler.
        let encoding = self
            .tokenizer
            .encode(text, true)
            .map_err(|error| Error::new(format!("the tokenizer can't read the text: {error}")))?;
        if text.trim().is_empty() || encoding.is_empty() {
            return Err(Error::bad_request(format!("field `{field}` is empty: send a text")));
        }
        let rows = self.inputs.iter().map(|input| input.row(&encoding));
        Ok(Value::List(rows.map(|row| Ok(tensor(&[row.len()], &row)?.into())).collect::<Result<_>>()?))
    }

    /// The inputs of several texts, each `[n, longest]`.
    pub(super) fn batch(&self, texts: Vec<Value>) -> Result<Vec<Value>> {
        let count = texts.len();
        let mut columns: Vec<Vec<Vec<i64>>> = self.inputs.iter().map(|_| Vec::with_capacity(count)).collect();
        for text in texts {
            let Value::List(rows) = text else {
                return Err(Error::new("a text's inputs must be a list of tensors, as preprocess gives them"));
            };
            for (column, row) in columns.iter_mut().zip(rows) {
                column.push(row.tensor()?.to_vec::<i64>()?);
            }
        }
        let filled = |(column, input): (Vec<Vec<i64>>, &Input)| {
            let longest = column.iter().map(Vec::len).max().unwrap_or(0);
            let numbers: Vec<i64> = column.into_iter().flat_map(|row| self.fill(row, longest, *input)).collect();
            Ok(tensor(&[count, longest], &numbers)?.into())
        };
        columns.into_iter().zip(&self.inputs).map(filled).collect()
    }

    fn fill(&self, mut row: Vec<i64>, length: usize, input: Input) -> Vec<i64> {
        let filler = match input {
            Input::Ids => self.padding.id,
            Input::Mask => 0,
            Input::Types => self.padding.kind,
        };
        let missing = vec![filler; length - row.len()];
        match self.padding.side {
            PaddingDirection::Right => {
                row.extend(missing);
                row
            }
            PaddingDirection::Left => [missing, row].concat(),
        }
    }
}

/// The inputs that the model takes, in their order.
fn inputs(context: &Context) -> Result<Vec<Input>> {
    let named = &context.config()["handler"]["inputs"];
    let known = |name: &Json| INPUTS.iter().find(|(known, _)| name.as_str() == Some(known)).map(|(_, input)| *input);
    let inputs: Option<Vec<Input>> = match named {
        Json::Null => Some(vec![Input::Ids, Input::Mask]),
        Json::Array(names) => names.iter().map(known).collect(),
        _ => None,
    };
    inputs.filter(|inputs| !inputs.is_empty()).ok_or_else(|| {
        let names = INPUTS.map(|(name, _)| name).join(", ");
        settings::wrong(
            "inputs",
            named,
            &format!("a list of names from [{names}], in the order of forward's parameters"),
        )
    })
}

fn tensor(shape: &[usize], numbers: &[i64]) -> Result<Tensor> {
    let shape = shape.iter().map(|&length| Ok(i64::try_from(length)?)).collect::<Result<Vec<_>>>()?;
    Tensor::from_slice(&shape, numbers)
}

// === impl Input ===

impl Input {
    fn row(self, encoding: &Encoding) -> Vec<i64> {
        let numbers = match self {
            Self::Ids => encoding.get_ids(),
            Self::Mask => encoding.get_attention_mask(),
            Self::Types => encoding.get_type_ids(),
        };
        numbers.iter().map(|&number| i64::from(number)).collect()
    }
}
