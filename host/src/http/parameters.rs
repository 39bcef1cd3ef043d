//! The parameters of a management request: its query, or the members of a JSON body.

use axum::body::Bytes;
use axum::http::HeaderMap;
use axum::http::Uri;
use axum::http::header;
use serde_json::Value;

use super::error::ApiError;

/// Names and values, in the order in which they were sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Parameters(Vec<(String, String)>);

// === impl Parameters ===

impl Parameters {
    pub(super) fn of_query(uri: &Uri) -> Self {
        let query = uri.query().unwrap_or_default();
        Self(form_urlencoded::parse(query.as_bytes()).into_owned().collect())
    }

    /// Those of the body where it is JSON, which then hides the query, as in TorchServe; an empty body hides nothing.
    pub(super) fn of_request(uri: &Uri, headers: &HeaderMap, body: &Bytes) -> Result<Self, ApiError> {
        let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let kind = content_type.split(';').next().unwrap_or_default().trim();
        if !kind.eq_ignore_ascii_case("application/json") || body.is_empty() {
            return Ok(Self::of_query(uri));
        }
        let object = match serde_json::from_slice(body) {
            Ok(Value::Object(object)) => object,
            Ok(_) => return Err(ApiError::bad_request("The body is JSON, but not an object as {\"url\": \"m.mar\"}.")),
            Err(error) => return Err(ApiError::bad_request(format!("The body is not well-formed JSON: {error}"))),
        };
        let text = |value: Value| match value {
            Value::Null => None,
            Value::String(text) => Some(text),
            other => Some(other.to_string()),
        };
        Ok(Self(object.into_iter().filter_map(|(name, value)| Some((name, text(value)?))).collect()))
    }

    /// The first value of that name.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The same, if there is anything in it.
    pub(super) fn filled(&self, name: &str) -> Option<String> {
        self.text(name).filter(|text| !text.is_empty()).map(str::to_owned)
    }

    /// What isn't a number counts as not given.
    pub(super) fn number(&self, name: &str) -> Option<i64> {
        self.text(name)?.trim().parse().ok()
    }

    /// A number above 0.
    pub(super) fn count(&self, name: &str) -> Option<u64> {
        self.number(name).and_then(|number| u64::try_from(number).ok()).filter(|&number| number > 0)
    }

    /// Only `true`, in capitals or not, is true.
    pub(super) fn switch(&self, name: &str, otherwise: bool) -> bool {
        self.text(name).map_or(otherwise, |text| text.eq_ignore_ascii_case("true"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(uri: &str, content_type: &str, body: &'static str) -> Result<Parameters, ApiError> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, content_type.parse().unwrap());
        Parameters::of_request(&uri.parse().unwrap(), &headers, &Bytes::from(body))
    }

    #[test]
    fn a_json_body_hides_the_query() {
        for (content_type, body, expected) in [
            ("", "", "query"),
            ("application/json", "", "query"),
            ("text/plain", r#"{"url": "body"}"#, "query"),
            ("application/json", r#"{"url": "body"}"#, "body"),
            ("Application/JSON; charset=utf-8", r#"{"url": "body"}"#, "body"),
        ] {
            let parameters = read("/models?url=query&url=second", content_type, body).unwrap();
            assert_eq!(parameters.text("url"), Some(expected), "{content_type} {body}");
        }
        for body in ["{", "[]", "\"url\""] {
            assert!(read("/models?url=query", "application/json", body).is_err(), "{body}");
        }
    }

    #[test]
    fn values_are_read_as_torchserve_reads_them() {
        let parameters = read("/?a=3&b=-1&c=dd&d=TRUE&e=1&f=&g=%20x%2By", "", "").unwrap();
        assert_eq!((parameters.number("a"), parameters.number("b"), parameters.number("c")), (Some(3), Some(-1), None));
        assert_eq!((parameters.count("a"), parameters.count("b"), parameters.count("z")), (Some(3), None, None));
        assert!(parameters.switch("d", false) && !parameters.switch("e", true) && parameters.switch("z", true));
        assert_eq!((parameters.text("f"), parameters.filled("f")), (Some(""), None));
        assert_eq!(parameters.text("g"), Some(" x+y"));
        let typed = read("/", "application/json", r#"{"a": 3, "d": true, "f": null}"#).unwrap();
        assert_eq!((typed.number("a"), typed.switch("d", false), typed.text("f")), (Some(3), true, None));
    }
}
