//! What a handler answers.

use serde::Serialize;
use serde_json::Value as Json;

use crate::Error;

/// The answer to one request: a body with its content type, status and headers, or an error that concerns this request alone.
///
/// ```
/// use handler_sdk::Response;
///
/// let plain = Response::text("7");
/// let detailed = Response::json(&serde_json::json!({"digit": 7}))
///     .with_status(201)
///     .with_header("x-model", "mnist");
/// # let _ = (plain, detailed);
/// ```
#[derive(Debug, Clone)]
pub struct Response {
    outcome: Result<Answer, Error>,
}

/// A successful answer, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Answer {
    /// The HTTP status, 200 unless set.
    pub status: u16,
    /// The content type; `None` sends none, as TorchServe does.
    pub content_type: Option<String>,
    /// Further headers, as `(name, value)`.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

// === impl Response ===

impl Response {
    /// Bytes as they are, with no content type.
    pub fn bytes(body: impl Into<Vec<u8>>) -> Self {
        Self::new(None, body.into())
    }

    /// Text in UTF-8, with no content type, as TorchServe sends a `str`.
    pub fn text(body: impl Into<String>) -> Self {
        Self::new(None, body.into().into_bytes())
    }

    /// A value as JSON, indented by two spaces, with content type `application/json`.
    ///
    /// A value that JSON can't say (a map whose keys aren't text) becomes an error of this request.
    pub fn json(value: &impl Serialize) -> Self {
        match serde_json::to_vec_pretty(value) {
            Ok(body) => Self::new(Some("application/json".to_owned()), body),
            Err(error) => Error::new(format!("the answer can't be said in JSON: {error}")).into(),
        }
    }

    /// Sets the HTTP status, 100 to 599; the body stays the handler's own.
    #[must_use]
    pub fn with_status(self, status: u16) -> Self {
        self.map(|answer| answer.status = status)
    }

    /// Sets the content type.
    #[must_use]
    pub fn with_content_type(self, content_type: impl Into<String>) -> Self {
        self.map(|answer| answer.content_type = Some(content_type.into()))
    }

    /// Adds a header.
    #[must_use]
    pub fn with_header(self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.map(|answer| answer.headers.push((name.into(), value.into())))
    }

    /// The answer, or the error of this request.
    pub fn outcome(&self) -> Result<&Answer, &Error> {
        self.outcome.as_ref()
    }

    fn new(content_type: Option<String>, body: Vec<u8>) -> Self {
        Self { outcome: Ok(Answer { status: 200, content_type, headers: Vec::new(), body }) }
    }

    fn map(mut self, change: impl FnOnce(&mut Answer)) -> Self {
        if let Ok(answer) = &mut self.outcome {
            change(answer);
        }
        self
    }
}

impl From<Error> for Response {
    fn from(error: Error) -> Self {
        Self { outcome: Err(error) }
    }
}

impl From<Result<Self, Error>> for Response {
    fn from(result: Result<Self, Error>) -> Self {
        result.unwrap_or_else(Self::from)
    }
}

impl From<&str> for Response {
    fn from(text: &str) -> Self {
        Self::text(text)
    }
}

impl From<String> for Response {
    fn from(text: String) -> Self {
        Self::text(text)
    }
}

impl From<Vec<u8>> for Response {
    fn from(body: Vec<u8>) -> Self {
        Self::bytes(body)
    }
}

impl From<&[u8]> for Response {
    fn from(body: &[u8]) -> Self {
        Self::bytes(body)
    }
}

impl From<Json> for Response {
    fn from(value: Json) -> Self {
        Self::json(&value)
    }
}
