//! From a text to a model's inputs, by the vocabulary or the tokenizer that the archive holds.

use std::fs;
use std::path::Component;
use std::path::Path;
use std::path::PathBuf;

use serde_json::Value as Json;

use crate::Context;
use crate::Error;
use crate::Result;
use crate::Tensor;
use crate::Value;

use super::basic_english;
use super::clean;
use super::ngrams;
use super::settings;
#[cfg(feature = "tokenizers")]
use super::tokenizer::FileTokenizer;
use super::vocabulary::Vocabulary;

/// How texts become numbers.
#[derive(Debug)]
pub(super) enum Encoder {
    /// TorchServe's way: cleaned words and pairs of them, looked up in a vocabulary.
    Words(Vocabulary),
    /// A tokenizer in Hugging Face's format.
    #[cfg(feature = "tokenizers")]
    Tokenizer(Box<FileTokenizer>),
}

/// As TorchServe names it, unless the manifest names another.
const VOCABULARY: &str = "source_vocab.pt";
/// As Hugging Face's libraries save it.
const TOKENIZER: &str = "tokenizer.json";
/// Where archivers put what an archive says about itself.
const MANIFEST: &str = "MAR-INF/MANIFEST.json";
/// Words and pairs of neighbours, as TorchServe's handler.
const LONGEST_NGRAM: usize = 2;

// === impl Encoder ===

impl Default for Encoder {
    /// Knows no token.
    fn default() -> Self {
        Self::Words(Vocabulary::default())
    }
}

impl Encoder {
    /// Reads the file that the archive has: the vocabulary before the tokenizer.
    pub(super) fn load(context: &Context) -> Result<Self> {
        if let Some(file) = vocabulary_file(context)? {
            let vocabulary = Vocabulary::load(&file)?;
            return Ok(Self::Words(match settings::number(context, "unknown_index", 0)? {
                Some(index) => vocabulary.with_unknown(index),
                None => vocabulary,
            }));
        }
        let file = context.model_dir().join(TOKENIZER);
        if file.is_file() {
            return Self::of_tokenizer(&file, context);
        }
        Err(Error::new(format!(
            "the archive of {} has no {VOCABULARY}, by which the text classifier turns words into numbers: pack it with --extra-files {VOCABULARY}, or the {TOKENIZER} of a Hugging Face model in its place",
            context.model_name()
        )))
    }

    #[cfg(feature = "tokenizers")]
    fn of_tokenizer(file: &Path, context: &Context) -> Result<Self> {
        Ok(Self::Tokenizer(Box::new(FileTokenizer::load(file, context)?)))
    }

    #[cfg(not(feature = "tokenizers"))]
    fn of_tokenizer(_: &Path, context: &Context) -> Result<Self> {
        Err(Error::new(format!(
            "the archive of {} has a {TOKENIZER}, and this library was built without the code to read it: build it with the feature `tokenizers` of handler-sdk, or pack a {VOCABULARY}",
            context.model_name()
        )))
    }

    pub(super) fn has_vocabulary(&self) -> bool {
        matches!(self, Self::Words(_))
    }

    /// The numbers of one text; `field` is where it came from, for a message.
    pub(super) fn encode(&self, text: &str, field: &str) -> Result<Value> {
        match self {
            Self::Words(vocabulary) => Ok(indices(&words(text), vocabulary, field)?.into()),
            #[cfg(feature = "tokenizers")]
            Self::Tokenizer(tokenizer) => tokenizer.encode(text, field),
        }
    }

    /// What [`encode`](Self::encode) gives for a text of one token that every vocabulary has.
    pub(super) fn sample(&self) -> Result<Value> {
        match self {
            Self::Words(_) => Ok(Tensor::from_slice(&[1], &[0_i64])?.into()),
            #[cfg(feature = "tokenizers")]
            Self::Tokenizer(tokenizer) => tokenizer.encode("a", "body"),
        }
    }

    /// The inputs of a call of the model for all these texts.
    pub(super) fn batch(&self, texts: Vec<Value>) -> Result<Vec<Value>> {
        match self {
            Self::Words(_) => bag(texts),
            #[cfg(feature = "tokenizers")]
            Self::Tokenizer(tokenizer) => tokenizer.batch(texts),
        }
    }
}

/// The words of a text, as the vocabulary has them.
pub(super) fn words(text: &str) -> Vec<String> {
    basic_english(&clean(text))
}

fn indices(words: &[String], vocabulary: &Vocabulary, field: &str) -> Result<Tensor> {
    if words.is_empty() {
        return Err(Error::bad_request(format!(
            "field `{field}` holds no words: besides HTML's tags, punctuation and letters without a likeness in ASCII nothing is left; send a text in English"
        )));
    }
    let tokens = ngrams(words, LONGEST_NGRAM);
    let found = tokens.iter().map(|token| {
        vocabulary.index(token).ok_or_else(|| {
            Error::bad_request(format!(
                "field `{field}` holds {token:?}, which the model's vocabulary doesn't know, and it has no index for unknown tokens; send a text without it, or have `handler: {{unknown_index: 0}}` set in the archive's model-config.yaml"
            ))
        })
    });
    let found: Vec<i64> = found.collect::<Result<_>>()?;
    Tensor::from_slice(&[i64::try_from(found.len())?], &found)
}

/// All texts' tokens in one row, and where each text begins: what `torch.nn.EmbeddingBag` takes.
fn bag(texts: Vec<Value>) -> Result<Vec<Value>> {
    let mut tokens: Vec<i64> = Vec::new();
    let mut offsets: Vec<i64> = Vec::with_capacity(texts.len());
    for text in texts {
        offsets.push(i64::try_from(tokens.len())?);
        tokens.extend(text.tensor()?.to_vec::<i64>()?);
    }
    let row = |numbers: &[i64]| Ok(Tensor::from_slice(&[i64::try_from(numbers.len())?], numbers)?.into());
    [&tokens, &offsets].into_iter().map(|numbers| row(numbers)).collect()
}

/// The vocabulary's file, if the archive has one.
fn vocabulary_file(context: &Context) -> Result<Option<PathBuf>> {
    let folder = context.model_dir();
    let Some(named) = named_in_manifest(folder) else {
        return Ok(Some(folder.join(VOCABULARY)).filter(|file| file.is_file()));
    };
    let is_within = Path::new(&named).components().all(|part| matches!(part, Component::Normal(_)));
    let file = folder.join(&named);
    if is_within && file.is_file() {
        return Ok(Some(file));
    }
    Err(Error::new(format!(
        "the manifest of {} names {named:?} as sourceVocab, and the archive has no such file: pack it with --extra-files",
        context.model_name()
    )))
}

/// Archivers of old wrote it into the manifest. One that can't be read is the host's to refuse.
fn named_in_manifest(folder: &Path) -> Option<String> {
    let manifest: Json = serde_json::from_slice(&fs::read(folder.join(MANIFEST)).ok()?).ok()?;
    let name = manifest["model"]["sourceVocab"].as_str()?;
    (!name.is_empty()).then(|| name.to_owned())
}
