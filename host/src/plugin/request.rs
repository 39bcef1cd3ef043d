//! A request as the host holds it, whatever protocol it came through.

use abi_stable::std_types::RSlice;
use abi_stable::std_types::RStr;
use bytes::Bytes;
use handler_sdk::abi::raw::RawField;
use handler_sdk::abi::raw::RawPair;
use handler_sdk::abi::raw::RawRequest;
use handler_sdk::abi::raw::RawVerb;

use super::Headers;

/// What a client sent, decoded from its protocol and not yet understood.
#[derive(Debug, Clone, Default)]
pub struct Request {
    pub verb: Verb,
    /// A UUID, also sent back to the client.
    pub id: String,
    /// Header names in small letters.
    pub headers: Headers,
    pub fields: Vec<Field>,
}

/// What is asked of a handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Verb {
    #[default]
    Predict,
    /// Why it predicts what it predicts.
    Explain,
    /// What it says of itself.
    Describe,
}

/// One named part of a request.
#[derive(Debug, Clone)]
pub struct Field {
    pub name: String,
    /// Without parameters; empty where the client gave none.
    pub content_type: String,
    pub bytes: Bytes,
}

/// A request's pieces in the boundary's form, borrowed.
pub(super) struct View<'a> {
    id: &'a str,
    headers: Vec<RawPair<'a>>,
    fields: Vec<RawField<'a>>,
}

// === impl Request ===

impl Request {
    pub(super) fn view(&self) -> View<'_> {
        View {
            id: &self.id,
            headers: self
                .headers
                .iter()
                .map(|(name, value)| RawPair { name: RStr::from_str(name), value: RStr::from_str(value) })
                .collect(),
            fields: self
                .fields
                .iter()
                .map(|field| RawField {
                    name: RStr::from_str(&field.name),
                    content_type: RStr::from_str(&field.content_type),
                    bytes: RSlice::from_slice(&field.bytes),
                })
                .collect(),
        }
    }
}

// === impl Verb ===

impl Verb {
    pub(super) fn raw(self) -> RawVerb {
        match self {
            Self::Predict => RawVerb::PREDICT,
            Self::Explain => RawVerb::EXPLAIN,
            Self::Describe => RawVerb::DESCRIBE,
        }
    }
}

// === impl View ===

impl View<'_> {
    pub(super) fn raw(&self) -> RawRequest<'_> {
        RawRequest {
            id: RStr::from_str(self.id),
            headers: RSlice::from_slice(&self.headers),
            fields: RSlice::from_slice(&self.fields),
        }
    }
}
