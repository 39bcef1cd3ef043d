//! From an HTTP body to the fields of a request.

use std::time::Duration;

use axum::body::Body;
use axum::body::Bytes;
use axum::body::HttpBody;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Response;
use http_body_util::BodyExt;
use http_body_util::LengthLimitError;
use http_body_util::Limited;

use super::error::ApiError;
use crate::serving::Field;

/// What a body may cost.
#[derive(Debug, Clone, Copy)]
pub struct BodyLimits {
    /// In bytes.
    pub size: usize,
    /// For so long a client may send nothing before its body has ended.
    pub silence: Duration,
}

/// The name of the only field where a body isn't a form.
const BODY: &str = "body";

/// Why a body isn't taken.
#[derive(Debug)]
pub(super) enum BadBody {
    /// Answered 413 with nothing in it, as TorchServe does.
    TooLarge,
    TooSlow(ApiError),
    Other(ApiError),
}

/// A body up to this length is copied out of its connection's buffer.
const SMALL: usize = 4 << 10;

/// The client's word is trusted for so much; what is longer grows as it comes.
const MOST_RESERVED: usize = 1 << 20;

const OCTETS: &str = "application/octet-stream";

/// A body of nothing but separators would else become a million fields; those that a later one of the same name replaces count, too.
const MOST_FIELDS: usize = 1024;

/// Reads a body within its limits into its fields.
pub(super) async fn fields(headers: &HeaderMap, body: Body, limits: BodyLimits) -> Result<Vec<Field>, BadBody> {
    let body = read(headers, body, limits).await?;
    fields_of(headers, body).await
}

/// Reads a body within its limits.
pub(super) async fn read(headers: &HeaderMap, body: Body, limits: BodyLimits) -> Result<Bytes, BadBody> {
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > limits.size) {
        return Err(BadBody::TooLarge);
    }
    collect(Limited::new(body, limits.size), limits.silence, announced.unwrap_or_default()).await
}

/// Takes a body apart into its fields.
pub(super) async fn fields_of(headers: &HeaderMap, body: Bytes) -> Result<Vec<Field>, BadBody> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match kind.as_str() {
        "multipart/form-data" => Box::pin(multipart(content_type, body)).await.map_err(BadBody::Other),
        "application/x-www-form-urlencoded" if is_form(&body) => form(&body).map_err(BadBody::Other),
        // Python's urllib and curl's --data-binary call everything a form, pictures too.
        "application/x-www-form-urlencoded" => {
            Ok(vec![Field { name: BODY.to_owned(), content_type: OCTETS.to_owned(), bytes: body }])
        }
        _ => Ok(vec![Field { name: BODY.to_owned(), content_type: kind, bytes: body }]),
    }
}

/// The parameters of a query, then the fields of the body; of those with one name the last counts.
pub(super) fn with_query(query: Option<&str>, fields: Vec<Field>) -> Result<Vec<Field>, ApiError> {
    let Some(query) = query else { return Ok(fields) };
    let mut all = form(query.as_bytes())?;
    fields.into_iter().for_each(|field| put(&mut all, field));
    Ok(all)
}

/// A body that comes in one piece stays that piece; `announced` is the length that others will have.
async fn collect(mut body: Limited<Body>, silence: Duration, announced: usize) -> Result<Bytes, BadBody> {
    let broken =
        |why: String| BadBody::Other(ApiError::bad_request(format!("The body broke off before its end: {why}")));
    let mut first = Bytes::new();
    let mut whole = Vec::new();
    // One that has ended with its last frame isn't asked for another.
    while !body.is_end_stream() {
        let frame = tokio::time::timeout(silence, body.frame()).await;
        let Ok(frame) = frame else {
            let text = format!("The body broke off before its end: nothing came for {} s.", silence.as_secs_f64());
            return Err(BadBody::TooSlow(ApiError::request_timeout(text)));
        };
        match frame {
            None => break,
            Some(Ok(frame)) => {
                let Ok(bytes) = frame.into_data() else { continue };
                if first.is_empty() {
                    first = bytes;
                    continue;
                }
                if whole.is_empty() {
                    whole.reserve(announced.min(MOST_RESERVED));
                    whole.extend_from_slice(&first);
                }
                whole.extend_from_slice(&bytes);
            }
            Some(Err(error)) if error.is::<LengthLimitError>() => return Err(BadBody::TooLarge),
            Some(Err(error)) => return Err(broken(error.to_string())),
        }
    }
    Ok(match whole.is_empty() {
        false => whole.into(),
        // A piece of the connection's buffer: all of that would be held for it, and freed by the worker's thread, which costs more than this copy.
        true if first.len() <= SMALL => Bytes::copy_from_slice(&first),
        true => first,
    })
}

async fn multipart(content_type: &str, body: Bytes) -> Result<Vec<Field>, ApiError> {
    let bad = |error: multer::Error| ApiError::bad_request(format!("The multipart body is not well-formed: {error}"));
    let boundary = multer::parse_boundary(content_type).map_err(bad)?;
    let whole = futures_util::stream::once(async move { Ok::<Bytes, std::convert::Infallible>(body) });
    let mut parts = multer::Multipart::new(whole, boundary);
    let mut fields = Vec::new();
    let mut count = 0;
    while let Some(part) = parts.next_field().await.map_err(bad)? {
        count += 1;
        room_for(count)?;
        let Some(name) = part.name().map(str::to_owned) else {
            return Err(ApiError::bad_request(
                "The multipart body is not well-formed: a part has no name in its content-disposition.",
            ));
        };
        let content_type = match part.content_type() {
            Some(kind) => kind.essence_str().to_owned(),
            // Of a file of unknown kind there is a default; text has none.
            None if part.file_name().is_some() => OCTETS.to_owned(),
            None => String::new(),
        };
        let bytes = part.bytes().await.map_err(bad)?;
        put(&mut fields, Field { name, content_type, bytes });
    }
    Ok(fields)
}

/// Whether a body can be a form at all: in one, other bytes than printable ASCII and line ends are escaped.
fn is_form(body: &[u8]) -> bool {
    body.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\t' | b'\r' | b'\n'))
}

fn form(body: &[u8]) -> Result<Vec<Field>, ApiError> {
    let mut fields = Vec::new();
    for (index, (name, value)) in form_urlencoded::parse(body).enumerate() {
        room_for(index + 1)?;
        let field =
            Field { name: name.into_owned(), content_type: String::new(), bytes: Bytes::from(value.into_owned()) };
        put(&mut fields, field);
    }
    Ok(fields)
}

/// Of several fields with one name the last counts.
fn put(fields: &mut Vec<Field>, field: Field) {
    fields.retain(|other| other.name != field.name);
    fields.push(field);
}

/// Refuses more fields than one request may have.
pub(super) fn room_for(fields: usize) -> Result<(), ApiError> {
    if fields > MOST_FIELDS {
        return Err(ApiError::bad_request(format!("The request has more than {MOST_FIELDS} fields.")));
    }
    Ok(())
}

impl From<ApiError> for BadBody {
    fn from(error: ApiError) -> Self {
        Self::Other(error)
    }
}

impl IntoResponse for BadBody {
    fn into_response(self) -> Response {
        match self {
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE.into_response(),
            Self::TooSlow(error) | Self::Other(error) => error.into_response(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: BodyLimits = BodyLimits { size: 10_000, silence: Duration::from_secs(60) };

    async fn taken(content_type: &str, body: &str) -> Result<Vec<(String, String, String)>, u16> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, content_type.parse().unwrap());
        match fields(&headers, Body::from(body.to_owned()), LIMITS).await {
            Ok(fields) => Ok(fields
                .into_iter()
                .map(|field| (field.name, field.content_type, String::from_utf8(field.bytes.to_vec()).unwrap()))
                .collect()),
            Err(error) => Err(error.into_response().status().as_u16()),
        }
    }

    fn row(name: &str, content_type: &str, bytes: &str) -> (String, String, String) {
        (name.to_owned(), content_type.to_owned(), bytes.to_owned())
    }

    #[tokio::test]
    async fn every_kind_of_body_becomes_fields() {
        const PARTS: &str = "--x\r\ncontent-disposition: form-data; name=\"data\"; filename=\"a.png\"\r\ncontent-type: image/png\r\n\r\nfirst\r\n--x\r\ncontent-disposition: form-data; name=\"k\"\r\n\r\nv\r\n--x\r\ncontent-disposition: form-data; name=\"data\"\r\n\r\nsecond\r\n--x--\r\n";
        const FILE: &str =
            "--x\r\ncontent-disposition: form-data; name=\"f\"; filename=\"f.bin\"\r\n\r\nbytes\r\n--x--\r\n";
        for (content_type, body, expected) in [
            ("application/octet-stream", "abc", vec![row("body", "application/octet-stream", "abc")]),
            ("application/json; charset=utf-8", "[1]", vec![row("body", "application/json", "[1]")]),
            ("text/plain", "", vec![row("body", "text/plain", "")]),
            ("application/x-www-form-urlencoded", "a=1&b=%20x&a=2", vec![row("b", "", " x"), row("a", "", "2")]),
            ("application/x-www-form-urlencoded", "{\"a\": \"100%\"}", vec![row("{\"a\": \"100%\"}", "", "")]),
            ("application/x-www-form-urlencoded", "\u{89}PNG\0a=1&b", vec![row("body", OCTETS, "\u{89}PNG\0a=1&b")]),
            ("multipart/form-data; boundary=x", FILE, vec![row("f", "application/octet-stream", "bytes")]),
            ("multipart/form-data; boundary=x", PARTS, vec![row("k", "", "v"), row("data", "", "second")]),
        ] {
            assert_eq!(taken(content_type, body).await, Ok(expected), "{content_type}");
        }
    }

    #[tokio::test]
    async fn a_body_in_one_piece_is_not_copied() {
        let headers = HeaderMap::new();
        for (length, copied) in [(SMALL, true), (SMALL + 1, false)] {
            let sent = Bytes::from(vec![7; length]);
            let taken = read(&headers, Body::from(sent.clone()), LIMITS).await.unwrap();
            assert_eq!((taken.as_ptr() != sent.as_ptr(), &taken), (copied, &sent));
        }
        let pieces = ["one", "", "two", "three"].map(|piece| Ok::<_, std::io::Error>(Bytes::from(piece)));
        let body = Body::from_stream(futures_util::stream::iter(pieces));
        assert_eq!(read(&headers, body, LIMITS).await.unwrap(), "onetwothree");
    }

    #[test]
    fn a_query_is_read_before_the_body() {
        let body = form(b"b=3&c=4").unwrap();
        let all = with_query(Some("a=1&b=2&a=x%20y"), body).unwrap();
        let all: Vec<_> = all.iter().map(|field| (field.name.as_str(), &field.bytes[..])).collect();
        assert_eq!(all, [("a", &b"x y"[..]), ("b", b"3"), ("c", b"4")]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stops_is_waited_for_only_a_while() {
        let never = futures_util::stream::pending::<Result<Bytes, std::io::Error>>();
        let error = fields(&HeaderMap::new(), Body::from_stream(never), LIMITS).await.unwrap_err();
        assert_eq!(error.into_response().status(), 408);
    }

    #[tokio::test]
    async fn what_can_t_be_read_is_refused() {
        const NAMELESS: &str = "--x\r\ncontent-disposition: form-data\r\n\r\nv\r\n--x--\r\n";
        let separators: String = (0..=MOST_FIELDS).map(|number| format!("{number}=&")).collect();
        for (content_type, body) in [
            ("multipart/form-data", "no boundary"),
            ("multipart/form-data; boundary=x", "--x\r\nbroken"),
            ("multipart/form-data; boundary=x", NAMELESS),
            ("application/x-www-form-urlencoded", separators.as_str()),
            ("application/x-www-form-urlencoded", "a=&".repeat(MOST_FIELDS + 1).as_str()),
        ] {
            assert_eq!(taken(content_type, body).await, Err(400), "{content_type}");
        }
        let long = "a".repeat(LIMITS.size + 1);
        let error = fields(&HeaderMap::new(), Body::from(long), LIMITS).await.unwrap_err();
        assert_eq!(error.into_response().status(), 413);
    }
}
