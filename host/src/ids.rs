//! The names and numbers that identify things, each a type of its own.
//!
//! They are parsed once, at the edge; further in, a `ModelName` is known to be good.

use std::borrow::Borrow;
use std::fmt;

use serde::Deserialize;
use serde::Serialize;

/// The name under which a model is served.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct ModelName(String);

/// The version of a model, as its manifest gives it: any text, `1.0` where none is given.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct ModelVersion(String);

/// The number of a generation: unique within one run of the server, never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct GenerationId(pub u64);

/// The BLAKE3 hash of a file's or a package's content.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

/// A text that can't be a model's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a model name: it must start with a letter or a digit, and hold only letters, digits, '_', '-' and '.'"
)]
pub struct BadModelName(pub String);

// === impl ModelName ===

impl ModelName {
    /// Takes a name that follows the archiver's rule, `^[A-Za-z0-9][A-Za-z0-9_\-.]*$`.
    pub fn parse(text: &str) -> Result<Self, BadModelName> {
        let first = text.chars().next().is_some_and(|c| c.is_ascii_alphanumeric());
        let rest = text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'));
        if first && rest { Ok(Self(text.to_owned())) } else { Err(BadModelName(text.to_owned())) }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Orders as the text does, so that maps are searched with a client's words as they are.
impl Borrow<str> for ModelName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// === impl ModelVersion ===

impl ModelVersion {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// As for names.
impl Borrow<str> for ModelVersion {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl Default for ModelVersion {
    fn default() -> Self {
        Self("1.0".to_owned())
    }
}

impl fmt::Display for ModelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// === impl GenerationId ===

impl fmt::Display for GenerationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

// === impl Digest ===

impl Digest {
    /// The first 16 hexadecimal digits: enough to tell files apart by eye and in file names.
    pub fn short(&self) -> String {
        self.to_string()[..16].to_owned()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({})", self.short())
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let byte =
            |index: usize| text.get(2 * index..2 * index + 2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        let mut digest = [0; 32];
        for (index, place) in digest.iter_mut().enumerate() {
            *place = byte(index).ok_or_else(|| serde::de::Error::custom("64 hexadecimal digits are needed"))?;
        }
        Ok(Self(digest))
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
