//! `source_vocab.pt`: which token has which index.

mod file;
mod shapes;

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::Weak;
use std::time::SystemTime;

use crate::Error;
use crate::Result;

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
    indices: Arc<Indices>,
    unknown: Option<i64>,
}

type Indices = HashMap<Box<str>, i64>;

/// A file as it was read, for the model's other workers: a vocabulary of 1.3 million tokens takes 87 MB.
struct Read {
    path: PathBuf,
    length: u64,
    modified: Option<SystemTime>,
    indices: Weak<Indices>,
    unknown: Option<i64>,
}

/// Those that are in use.
static READ: Mutex<Vec<Read>> = Mutex::new(Vec::new());

/// The token that stands for all unknown ones, in torchtext's vocabularies.
const UNKNOWN: &str = "<unk>";

// === impl Vocabulary ===

impl Vocabulary {
    /// Reads what `torch.save` has written of a vocabulary; no code in the file is run.
    ///
    /// It may be a dict from tokens to indices (`dict`, `OrderedDict`, `defaultdict`, `Counter`), torchtext's `Vocab` of any version, an object with one of the attributes `stoi`, `word2idx`, `word_to_idx`, `token2idx` and `token_to_idx`, or a list of tokens in the order of their indices.
    /// Workers that read the same file share its memory.
    ///
    /// An error names the file and says what it holds instead.
    pub fn load(path: &Path) -> Result<Self> {
        let metadata = fs::metadata(path);
        let length = metadata.as_ref().map_or(0, fs::Metadata::len);
        let modified = metadata.and_then(|metadata| metadata.modified()).ok();
        // Held while the file is read, so that a second worker waits for the first one's vocabulary.
        let mut all = READ.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|read| read.indices.strong_count() > 0);
        let same = all.iter().find(|read| read.path == path && read.length == length && read.modified == modified);
        if let Some((indices, unknown)) = same.and_then(|read| Some((read.indices.upgrade()?, read.unknown))) {
            return Ok(Self { indices, unknown });
        }
        let vocabulary = Self::read(path)?;
        let (indices, unknown) = (Arc::downgrade(&vocabulary.indices), vocabulary.unknown);
        all.push(Read { path: path.to_owned(), length, modified, indices, unknown });
        Ok(vocabulary)
    }

    fn read(path: &Path) -> Result<Self> {
        let name = path.file_name().unwrap_or(path.as_os_str()).display();
        file::load(path, shapes::vocabulary).map_err(|found| {
            Error::new(format!(
                "{name} holds no vocabulary: {found}. Save one with torch.save: a dict from tokens to indices, or torchtext's Vocab"
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
        let indices: Indices = tokens.into_iter().map(|(token, index)| (token.into(), index)).collect();
        let unknown = indices.get(UNKNOWN).copied();
        Self { indices: Arc::new(indices), unknown }
    }
}

#[cfg(test)]
mod tests;
