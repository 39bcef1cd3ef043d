//! `source_vocab.pt`: which token has which index.

mod shapes;

use std::collections::HashMap;
use std::path::Path;

use crate::Error;
use crate::Result;

use super::pickle;

/// The tokens that a model knows, each with its index.
///
/// ```
/// use handler_sdk::text::Vocabulary;
///
/// let vocabulary = Vocabulary::from_iter([("<unk>", 0), ("hello", 1)]);
/// assert_eq!(vocabulary.index("hello"), Some(1));
/// assert_eq!(vocabulary.index("world"), Some(0));
/// ```
#[derive(Debug, Clone, Default)]
pub struct Vocabulary {
    indices: HashMap<Box<str>, i64>,
    unknown: Option<i64>,
}

/// The token that stands for all unknown ones, in torchtext's vocabularies.
const UNKNOWN: &str = "<unk>";

// === impl Vocabulary ===

impl Vocabulary {
    /// Reads what `torch.save` has written of a vocabulary; no code in the file is run.
    ///
    /// It may be a dict from tokens to indices (`dict`, `OrderedDict`, `defaultdict`), torchtext's `Vocab` of any version, an object with one of the attributes `stoi`, `word2idx`, `word_to_idx`, `token2idx` and `token_to_idx`, or a list of tokens in the order of their indices.
    /// An error names the file and says what it holds instead.
    pub fn load(path: &Path) -> Result<Self> {
        let file = path.file_name().unwrap_or(path.as_os_str()).display();
        pickle::load(path, shapes::vocabulary).map_err(|found| {
            Error::new(format!(
                "{file} holds no vocabulary: {found}. Save one with torch.save: a dict from tokens to indices, or torchtext's Vocab"
            ))
        })
    }

    /// The index of a token; of an unknown one the vocabulary's default, or else that of `<unk>`, or else `None`.
    pub fn index(&self, token: &str) -> Option<i64> {
        self.indices.get(token).copied().or(self.unknown)
    }

    /// The same vocabulary with another index for unknown tokens.
    #[must_use]
    pub fn with_unknown(self, index: i64) -> Self {
        Self { unknown: Some(index), ..self }
    }

    /// How many tokens it has.
    pub fn len(&self) -> usize {
        self.indices.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.indices.is_empty()
    }
}

impl<T: Into<Box<str>>> FromIterator<(T, i64)> for Vocabulary {
    /// Unknown tokens get the index of `<unk>`, if that is among them.
    fn from_iter<I: IntoIterator<Item = (T, i64)>>(tokens: I) -> Self {
        let indices: HashMap<Box<str>, i64> = tokens.into_iter().map(|(token, index)| (token.into(), index)).collect();
        let unknown = indices.get(UNKNOWN).copied();
        Self { indices, unknown }
    }
}

#[cfg(test)]
mod tests;
