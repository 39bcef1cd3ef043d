//! The path of a request in the form that the routes are written in.

use axum::http::Uri;
use axum::http::uri::PathAndQuery;

/// Why a path leads nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BadPath {
    /// A `%` without two hexadecimal digits.
    Escape,
    NotUtf8,
}

/// Its letter case doesn't matter, as in TorchServe.
const WFPREDICT: &str = "wfpredict";

/// The address with its path's slashes put plainly, and none at its end; `None` where it is so already, as most are.
pub(super) fn normal(uri: &Uri) -> Result<Option<Uri>, BadPath> {
    let path = uri.path();
    let is_workflow =
        first_segment(path).eq_ignore_ascii_case(WFPREDICT) && !first_segment(path).starts_with(WFPREDICT);
    let trailing = path.len() > 1 && path.ends_with('/');
    if !path.contains('%') && !trailing && !is_workflow {
        return Ok(None);
    }
    let mut plain = String::with_capacity(path.len());
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('%') {
        let digits = after.get(..2).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        let digits = digits.ok_or(BadPath::Escape)?;
        let byte = u8::from_str_radix(digits, 16).map_err(|_| BadPath::Escape)?;
        plain.push_str(before);
        match byte {
            b'/' => plain.push('/'),
            _ => plain.extend(['%'].into_iter().chain(digits.chars())),
        }
        decoded.extend_from_slice(before.as_bytes());
        decoded.push(byte);
        rest = &after[2..];
    }
    plain.push_str(rest);
    std::str::from_utf8(&decoded).map_err(|_| BadPath::NotUtf8)?;
    let mut path = plain.trim_end_matches('/').to_owned();
    if path.is_empty() {
        path.push('/');
    }
    if is_workflow {
        path.replace_range(1..=WFPREDICT.len(), WFPREDICT);
    }
    if let Some(query) = uri.query() {
        path.push('?');
        path.push_str(query);
    }
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(path).map_err(|_| BadPath::Escape)?);
    Uri::from_parts(parts).map(Some).map_err(|_| BadPath::Escape)
}

fn first_segment(path: &str) -> &str {
    path.strip_prefix('/').unwrap_or(path).split('/').next().unwrap_or_default()
}

impl BadPath {
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Escape => {
                "The path is not well-formed: after each % there must be two hexadecimal digits, as in %20 for a space."
            }
            Self::NotUtf8 => "The path is not well-formed: its % escapes must give text in UTF-8.",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slashes_are_plain_and_none_is_at_the_end() {
        for (given, expected) in [
            ("/ping", None),
            ("/", None),
            ("/ping/", Some("/ping")),
            ("/ping//?a=%zz/", Some("/ping?a=%zz/")),
            ("//", Some("/")),
            ("/predictions%2fecho%2F1.0/", Some("/predictions/echo/1.0")),
            ("/predictions/%65cho", Some("/predictions/%65cho")),
            ("/a%252Fb", Some("/a%252Fb")),
            ("/WFpredict/w", Some("/wfpredict/w")),
            ("/wfpredict/W", None),
            ("/WFPREDICTION", None),
        ] {
            let found = normal(&given.parse().unwrap()).unwrap();
            assert_eq!(found.map(|uri| uri.to_string()).as_deref(), expected, "{given}");
        }
    }

    #[test]
    fn what_can_t_be_decoded_is_refused() {
        for (given, bad) in [
            ("/a%", BadPath::Escape),
            ("/a%2", BadPath::Escape),
            ("/%zz/b", BadPath::Escape),
            ("/%+1", BadPath::Escape),
            ("/%ff", BadPath::NotUtf8),
            ("/%c3%28", BadPath::NotUtf8),
        ] {
            assert_eq!(normal(&given.parse().unwrap()), Err(bad), "{given}");
        }
    }
}
