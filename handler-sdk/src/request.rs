//! What a client sent: fields by name, headers, an id.

use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use crate::Error;
use crate::Result;
use crate::Tensor;
use crate::abi::raw::RawBatch;
use crate::abi::raw::RawField;
use crate::abi::raw::RawRequest;

/// The requests that are answered by one call, in order; at least one, at most the model's `batchSize`.
#[derive(Debug)]
pub struct Batch<'a> {
    requests: Vec<Request<'a>>,
}

/// One request, borrowed from the host for the call.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    raw: &'a RawRequest<'a>,
    /// Its place in the batch.
    index: usize,
}

/// One named part of a request.
///
/// A multipart or form request has one field a part; any other request has the single field `body`.
#[derive(Debug, Clone, Copy)]
pub struct Field<'a> {
    raw: &'a RawField<'a>,
}

/// How many fields' names a message shows, and how much of each.
const SHOWN_NAMES: usize = 8;
const SHOWN_LETTERS: usize = 40;

// === impl Batch ===

impl<'a> Batch<'a> {
    pub(crate) fn from_raw(raw: &'a RawBatch<'a>) -> Self {
        Self {
            requests: raw.requests.as_slice().iter().enumerate().map(|(index, raw)| Request { raw, index }).collect(),
        }
    }

    /// The requests in the order in which their answers are expected.
    pub fn iter(&self) -> std::slice::Iter<'_, Request<'a>> {
        self.requests.iter()
    }

    /// How many requests there are: at least one.
    #[allow(clippy::len_without_is_empty)] // A batch is never empty.
    pub fn len(&self) -> usize {
        self.requests.len()
    }

    /// The requests as a slice.
    pub fn as_slice(&self) -> &[Request<'a>] {
        &self.requests
    }
}

impl<'b, 'a> IntoIterator for &'b Batch<'a> {
    type Item = &'b Request<'a>;
    type IntoIter = std::slice::Iter<'b, Request<'a>>;

    fn into_iter(self) -> Self::IntoIter {
        self.requests.iter()
    }
}

// === impl Request ===

impl<'a> Request<'a> {
    /// The one request of a call.
    pub(crate) fn alone(raw: &'a RawRequest<'a>) -> Self {
        Self { raw, index: 0 }
    }

    pub(crate) fn index(&self) -> usize {
        self.index
    }

    /// The id that the host gave the request: a UUID, also sent to the client as `x-request-id`.
    pub fn id(&self) -> &'a str {
        self.raw.id.as_str()
    }

    /// The value of a header; letter case doesn't matter. The last one wins where a client repeats it.
    ///
    /// The host adds `url_path`: what followed the model's name and version in the path.
    pub fn header(&self, name: &str) -> Option<&'a str> {
        self.headers().filter(|(key, _)| key.eq_ignore_ascii_case(name)).last().map(|(_, value)| value)
    }

    /// All headers, as `(name, value)`.
    pub fn headers(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.raw.headers.as_slice().iter().map(|pair| (pair.name.as_str(), pair.value.as_str()))
    }

    /// The field of that name. The last one wins where a client repeats it.
    pub fn field(&self, name: &str) -> Option<Field<'a>> {
        self.fields().filter(|field| field.name() == name).last()
    }

    /// All fields, in the order in which they came.
    pub fn fields(&self) -> impl Iterator<Item = Field<'a>> {
        self.raw.fields.as_slice().iter().map(|raw| Field { raw })
    }

    /// The field a handler with one input reads: `data`, or `body` where `data` is missing or empty, as TorchServe's handlers do.
    ///
    /// Fails with status 400 where there is neither, and names the fields that came instead.
    pub fn input(&self) -> Result<Field<'a>> {
        let data = self.field("data").filter(|field| !field.bytes().is_empty());
        data.or_else(|| self.field("body")).or_else(|| self.field("data")).ok_or_else(|| {
            // What was no form, but sent as one, has become names as long as itself.
            let names = self.fields().take(SHOWN_NAMES).map(|field| field.name().chars().take(SHOWN_LETTERS).collect());
            let names: Vec<String> = names.collect();
            Error::bad_request(format!(
                "the request has no field `data` and no `body`, only {names:?}: send the input as the body, or as a form field named `data`"
            ))
        })
    }

    /// The bytes of [`input`](Self::input); empty where the request has no such field.
    pub fn body(&self) -> &'a [u8] {
        self.input().map(|field| field.bytes()).unwrap_or_default()
    }
}

// === impl Field ===

impl<'a> Field<'a> {
    /// The name: that of the form's part, or `body`.
    pub fn name(&self) -> &'a str {
        self.raw.name.as_str()
    }

    /// The content type that the client gave, without parameters; `None` where it gave none.
    pub fn content_type(&self) -> Option<&'a str> {
        Some(self.raw.content_type.as_str()).filter(|text| !text.is_empty())
    }

    /// The bytes as they came.
    pub fn bytes(&self) -> &'a [u8] {
        self.raw.bytes.as_slice()
    }

    /// The bytes as text; status 400 where they aren't UTF-8.
    pub fn text(&self) -> Result<&'a str> {
        std::str::from_utf8(self.bytes())
            .map_err(|error| Error::bad_request(format!("field `{}` is not UTF-8 text: {error}", self.name())))
    }

    /// The bytes read as JSON into any type that serde can read, `serde_json::Value` among them; status 400 where they can't be.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(self.bytes())
            .map_err(|error| Error::bad_request(format!("field `{}` is not the expected JSON: {error}", self.name())))
    }

    /// The bytes read as a tensor: nested JSON lists of numbers, as float32.
    pub fn tensor(&self) -> Result<Tensor> {
        Tensor::from_json(&self.json::<Json>()?).map_err(|error| {
            Error::with_status(error.status(), format!("field `{}`: {}", self.name(), error.client_text()))
        })
    }
}
