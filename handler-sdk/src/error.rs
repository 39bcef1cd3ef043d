//! What a handler says when it can't answer.

use std::fmt;

/// A `Result` whose error is the SDK's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a request, or a whole call, failed.
///
/// It carries two texts: what the client may read, and what goes to the server's log.
/// An error made by `?` from any other error type tells the client only `Prediction failed` (status 503, as TorchServe does) and keeps the cause for the log.
/// Use [`Error::bad_request`] for what the client can mend.
///
/// ```
/// use handler_sdk::Error;
///
/// let error = Error::bad_request("field `data` is empty: send a PNG or JPEG");
/// assert_eq!(error.status(), 400);
///
/// fn parse(text: &str) -> handler_sdk::Result<i32> {
///     Ok(text.parse::<i32>()?)
/// }
/// let error = parse("seven").unwrap_err();
/// assert_eq!(error.client_text(), "Prediction failed");
/// assert!(error.log_text().contains("invalid digit"));
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Error {
    status: u16,
    client: String,
    log: String,
}

/// What a client reads when the reason is none of its business.
const PREDICTION_FAILED: &str = "Prediction failed";

// === impl Error ===

impl Error {
    /// A failure of the handler: the client reads `Prediction failed` with status 503, the log gets `log`.
    pub fn new(log: impl Into<String>) -> Self {
        Self { status: 503, client: PREDICTION_FAILED.to_owned(), log: log.into() }
    }

    /// A request that can't be answered as it is: status 400, and the client reads `message`.
    ///
    /// Say what was wrong, in which field, and what would be right.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::with_status(400, message)
    }

    /// Any other status from 400 to 599 with a text for the client, as TorchServe's `PredictionException`.
    ///
    /// A status outside that range becomes 500: an error can't look like a success.
    pub fn with_status(status: u16, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { status: if (400..600).contains(&status) { status } else { 500 }, client: message.clone(), log: message }
    }

    pub(crate) fn from_parts(status: u16, client: impl Into<String>, log: impl Into<String>) -> Self {
        Self { log: log.into(), ..Self::with_status(status, client) }
    }

    /// Puts `text` before the log's text, to say where the error arose.
    #[must_use]
    pub fn context(mut self, text: impl fmt::Display) -> Self {
        self.log = format!("{text}: {}", self.log);
        self
    }

    /// The HTTP status of the answer, 400 to 599.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Whether the client reads words that were meant for it, rather than `Prediction failed`.
    pub fn is_worded(&self) -> bool {
        self.client != PREDICTION_FAILED
    }

    /// What the client reads.
    pub fn client_text(&self) -> &str {
        &self.client
    }

    /// What the server's log gets.
    pub fn log_text(&self) -> &str {
        &self.log
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.log)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Error {{ status: {}, {:?} }}", self.status, self.log)
    }
}

// `Error` itself is not a `std::error::Error`, so that `?` can take every type that is one.
impl<E: std::error::Error> From<E> for Error {
    fn from(error: E) -> Self {
        let mut log = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            log.push_str(": ");
            log.push_str(&cause.to_string());
            source = cause.source();
        }
        Self::new(log)
    }
}
