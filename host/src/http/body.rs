//! From an HTTP body to the fields of a request.

use axum::body::Body;
use axum::body::Bytes;
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

/// The name of the only field where a body isn't a form.
const BODY: &str = "body";

/// Why a body isn't taken.
#[derive(Debug)]
pub(super) enum BadBody {
    /// Answered 413 with nothing in it, as TorchServe does.
    TooLarge,
    Other(ApiError),
}

/// Reads a body of at most `limit` bytes into its fields.
pub(super) async fn fields(headers: &HeaderMap, body: Body, limit: usize) -> Result<Vec<Field>, BadBody> {
    let body = read(headers, body, limit).await?;
    fields_of(headers, body).await
}

/// Reads a body of at most `limit` bytes.
pub(super) async fn read(headers: &HeaderMap, body: Body, limit: usize) -> Result<Bytes, BadBody> {
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > limit as u64) {
        return Err(BadBody::TooLarge);
    }
    match Limited::new(body, limit).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(BadBody::TooLarge),
        Err(error) => {
            let text = format!("The body broke off before its end: {error}");
            Err(BadBody::Other(ApiError::bad_request(text)))
        }
    }
}

/// Takes a body apart into its fields.
pub(super) async fn fields_of(headers: &HeaderMap, body: Bytes) -> Result<Vec<Field>, BadBody> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match kind.as_str() {
        "multipart/form-data" => multipart(content_type, body).await.map_err(BadBody::Other),
        "application/x-www-form-urlencoded" => Ok(form(&body)),
        _ => Ok(vec![Field { name: BODY.to_owned(), content_type: kind, bytes: body }]),
    }
}

async fn multipart(content_type: &str, body: Bytes) -> Result<Vec<Field>, ApiError> {
    let bad = |error: multer::Error| ApiError::bad_request(format!("The multipart body is not well-formed: {error}"));
    let boundary = multer::parse_boundary(content_type).map_err(bad)?;
    let whole = futures_util::stream::once(async move { Ok::<Bytes, std::convert::Infallible>(body) });
    let mut parts = multer::Multipart::new(whole, boundary);
    let mut fields = Vec::new();
    while let Some(part) = parts.next_field().await.map_err(bad)? {
        let name = part.name().unwrap_or_default().to_owned();
        let content_type = part.content_type().map(|kind| kind.essence_str().to_owned()).unwrap_or_default();
        let bytes = part.bytes().await.map_err(bad)?;
        put(&mut fields, Field { name, content_type, bytes });
    }
    Ok(fields)
}

fn form(body: &[u8]) -> Vec<Field> {
    let mut fields = Vec::new();
    for (name, value) in form_urlencoded::parse(body) {
        let field =
            Field { name: name.into_owned(), content_type: String::new(), bytes: Bytes::from(value.into_owned()) };
        put(&mut fields, field);
    }
    fields
}

/// Of several fields with one name the last counts.
fn put(fields: &mut Vec<Field>, field: Field) {
    fields.retain(|other| other.name != field.name);
    fields.push(field);
}

impl IntoResponse for BadBody {
    fn into_response(self) -> Response {
        match self {
            // The rest of the body is not read, so the connection can't be used again.
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, [(header::CONNECTION, "close")]).into_response(),
            Self::Other(error) => error.into_response(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(content_type: &str, body: &'static str) -> Result<Vec<(String, String, String)>, u16> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, content_type.parse().unwrap());
        match fields(&headers, Body::from(body), 1000).await {
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
        for (content_type, body, expected) in [
            ("application/octet-stream", "abc", vec![row("body", "application/octet-stream", "abc")]),
            ("application/json; charset=utf-8", "[1]", vec![row("body", "application/json", "[1]")]),
            ("text/plain", "", vec![row("body", "text/plain", "")]),
            ("application/x-www-form-urlencoded", "a=1&b=%20x&a=2", vec![row("b", "", " x"), row("a", "", "2")]),
            ("multipart/form-data; boundary=x", PARTS, vec![row("k", "", "v"), row("data", "", "second")]),
        ] {
            assert_eq!(read(content_type, body).await, Ok(expected), "{content_type}");
        }
    }

    #[tokio::test]
    async fn what_can_t_be_read_is_refused() {
        for (content_type, body) in
            [("multipart/form-data", "no boundary"), ("multipart/form-data; boundary=x", "--x\r\nbroken")]
        {
            assert_eq!(read(content_type, body).await, Err(400), "{content_type}");
        }
        let long = "a".repeat(1001);
        let error = fields(&HeaderMap::new(), Body::from(long), 1000).await.unwrap_err();
        assert_eq!(error.into_response().status(), 413);
    }
}
