//! Requests made by tests.

use abi_stable::std_types::RSlice;
use abi_stable::std_types::RStr;
use serde::Serialize;

use crate::abi::raw::RawField;
use crate::abi::raw::RawPair;
use crate::abi::raw::RawRequest;

/// A request as a client would send it.
#[derive(Debug, Clone, Default)]
pub struct Request {
    fields: Vec<(String, String, Vec<u8>)>,
    headers: Vec<(String, String)>,
}

/// A request in the boundary's form.
pub(super) struct View<'a> {
    fields: Vec<RawField<'a>>,
    headers: Vec<RawPair<'a>>,
}

// === impl Request ===

impl Request {
    /// A request with this body and no content type.
    pub fn body(bytes: impl AsRef<[u8]>) -> Self {
        Self::default().field("body", bytes)
    }

    /// A request whose body is this value as JSON; a value that JSON can't say is sent as nothing.
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Self {
        let bytes = serde_json::to_vec(value).unwrap_or_default();
        Self::default().typed_field("body", "application/json", bytes)
    }

    /// Adds a form field; start from `Request::default()` for a form.
    #[must_use]
    pub fn field(self, name: impl Into<String>, bytes: impl AsRef<[u8]>) -> Self {
        self.typed_field(name, "", bytes)
    }

    /// Adds a form field with a content type.
    #[must_use]
    pub fn typed_field(
        mut self,
        name: impl Into<String>,
        content_type: impl Into<String>,
        bytes: impl AsRef<[u8]>,
    ) -> Self {
        self.fields.push((name.into(), content_type.into(), bytes.as_ref().to_vec()));
        self
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub(super) fn view(&self) -> View<'_> {
        View {
            fields: self
                .fields
                .iter()
                .map(|(name, content_type, bytes)| RawField {
                    name: RStr::from_str(name),
                    content_type: RStr::from_str(content_type),
                    bytes: RSlice::from_slice(bytes),
                })
                .collect(),
            headers: self
                .headers
                .iter()
                .map(|(name, value)| RawPair { name: RStr::from_str(name), value: RStr::from_str(value) })
                .collect(),
        }
    }
}

impl View<'_> {
    pub(super) fn raw(&self) -> RawRequest<'_> {
        RawRequest {
            id: RStr::from_str("test-request"),
            headers: RSlice::from_slice(&self.headers),
            fields: RSlice::from_slice(&self.fields),
        }
    }
}
