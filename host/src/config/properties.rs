//! The syntax of `config.properties`: Java's, with `$$VARIABLE$$` in values.

use std::collections::BTreeMap;
use std::path::Path;

use java_properties::LineContent;
use java_properties::PropertiesIter;

use crate::config::error::ConfigError;
use crate::config::error::Origin;

/// One `key = value`, and the line it starts on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Property {
    pub(super) key: String,
    pub(super) value: String,
    pub(super) origin: Origin,
}

/// Reads the lines of a file in their order. Java reads Latin-1 and would spoil any
/// other letter; UTF-8 is what editors write today.
pub(super) fn parse(
    bytes: &[u8],
    path: &Path,
    environment: &BTreeMap<String, String>,
) -> Result<Vec<Property>, ConfigError> {
    let bad = |line, detail| ConfigError::BadSyntax { path: path.to_owned(), line, detail };
    let text = std::str::from_utf8(bytes).map_err(|e| {
        let line = 1 + bytes[..e.valid_up_to()].iter().filter(|b| **b == b'\n').count();
        bad(Some(line), "it is not UTF-8; save it as such".to_owned())
    })?;
    let mut properties = Vec::new();
    for line in PropertiesIter::new_with_encoding(text.as_bytes(), encoding_rs::UTF_8) {
        let line = line.map_err(|e| bad(e.line_number(), e.to_string()))?;
        let number = line.line_number();
        let LineContent::KVPair(key, value) = line.consume_content() else {
            continue;
        };
        let origin = Origin::File { path: path.to_owned(), line: number };
        let value = substitute(value.trim(), environment).map_err(|variable| ConfigError::UnknownVariable {
            origin: origin.clone(),
            key: key.clone(),
            variable,
        })?;
        properties.push(Property { key, value, origin });
    }
    Ok(properties)
}

/// Replaces each `$$NAME$$`; the error is a name that isn't set.
fn substitute(value: &str, environment: &BTreeMap<String, String>) -> Result<String, String> {
    let mut result = String::new();
    let mut rest = value;
    while let Some((before, after)) = rest.split_once("$$") {
        // A name has no dollar; what doesn't close is text.
        let Some((name, after)) = after.split_once("$$").filter(|(name, _)| !name.is_empty() && !name.contains('$'))
        else {
            result.push_str(before);
            result.push_str("$$");
            rest = after;
            continue;
        };
        result.push_str(before);
        result.push_str(environment.get(name).ok_or_else(|| name.to_owned())?);
        rest = after;
    }
    result.push_str(rest);
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(String, String, usize)> {
        let environment = BTreeMap::from([("HOME".to_owned(), "/home/me".to_owned())]);
        parse(text.as_bytes(), Path::new("config.properties"), &environment)
            .unwrap()
            .into_iter()
            .map(|p| match p.origin {
                Origin::File { line, .. } => (p.key, p.value, line),
                other => panic!("{other}"),
            })
            .collect()
    }

    #[test]
    fn javas_syntax() {
        let text = "# remark\n! remark\n\na=1\nb : 2 \n  c 3\nd=\\\n   four \\\n   five\n\
                    e\\ f=x\\=y\\u00fc\nempty\nurl=http://127.0.0.1:80\npath=ü\\\\n\r\nlast=1";
        let pair = |k: &str, v: &str, line| (k.to_owned(), v.to_owned(), line);
        assert_eq!(
            pairs(text),
            [
                pair("a", "1", 4),
                pair("b", "2", 5),
                pair("c", "3", 6),
                pair("d", "four five", 7),
                pair("e f", "x=yü", 10),
                pair("empty", "", 11),
                pair("url", "http://127.0.0.1:80", 12),
                pair("path", "ü\\n", 13),
                pair("last", "1", 14),
            ]
        );
    }

    #[test]
    fn variables() {
        for (value, expected) in [
            ("$$HOME$$/models", "/home/me/models"),
            ("$$HOME$$:$$HOME$$", "/home/me:/home/me"),
            ("costs 5$$", "costs 5$$"),
            ("$$$$", "$$$$"),
            ("a $ b", "a $ b"),
        ] {
            assert_eq!(pairs(&format!("k={value}"))[0].1, expected, "{value}");
        }
        let error = parse(b"\nk=$$NOPE$$", Path::new("c"), &BTreeMap::new()).unwrap_err();
        let message = error.to_string();
        assert!(message.contains("c, line 2: k refers to the environment variable NOPE"), "{message}");
    }

    #[test]
    fn broken_lines_are_placed() {
        for text in [&b"a=1\nb=\\u12"[..], b"a=1\nb=\xff"] {
            let message = parse(text, Path::new("c"), &BTreeMap::new()).unwrap_err().to_string();
            assert!(message.starts_with("c, line 2: "), "{message}");
        }
    }
}
