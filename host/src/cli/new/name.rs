//! A project's name, and the names that follow from it.

use std::str::FromStr;

use handler_sdk::__private::snake_case;
use handler_sdk::__private::snake_case_size;

/// A name that cargo takes for a crate and the server for a model, as `word-count`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ProjectName(String);

/// Why a name can't be a project's.
#[derive(Debug, thiserror::Error)]
#[error("{name:?} can't be the name of a project: {reason}")]
pub(super) struct BadName {
    name: String,
    reason: String,
}

/// As on crates.io.
const LONGEST: usize = 64;

/// Words of Rust, which a crate can't be called.
const KEYWORDS: [&str; 52] = [
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "crate", "do", "dyn", "else",
    "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl", "in", "let", "loop", "macro", "match", "mod",
    "move", "mut", "override", "priv", "pub", "ref", "return", "self", "static", "struct", "super", "trait", "true",
    "try", "type", "typeof", "union", "unsafe", "unsized", "use", "virtual", "where", "while", "yield",
];

/// Crates that the project, or every crate, stands on.
const TAKEN: [&str; 10] =
    ["test", "std", "core", "alloc", "proc_macro", "handler_sdk", "serde_json", "tch", "torch_sys", "abi_stable"];

/// Types that the generated code uses under these names.
const TYPES: [&str; 19] = [
    "Batch", "Context", "Error", "Handler", "Request", "Response", "Result", "Tensor", "Value", "Json", "Kind", "Host",
    "Running", "Vec", "Some", "None", "Ok", "Err", "Default",
];

// === impl ProjectName ===

impl ProjectName {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// As `WordCount`.
    pub(super) fn type_name(&self) -> String {
        let words = self.0.split(['-', '_']).filter(|word| !word.is_empty());
        let name: String = words.map(|word| word[..1].to_ascii_uppercase() + &word[1..]).collect();
        if TYPES.contains(&name.as_str()) { format!("My{name}") } else { name }
    }

    /// As `word_count`: the name that `export_handler!` makes from the type's.
    pub(super) fn handler(&self) -> String {
        let name = self.type_name();
        // As many bytes as the longest name can have, with a `_` before each letter and `My` in front.
        let bytes = snake_case::<{ 2 * LONGEST + 4 }>(&name);
        String::from_utf8_lossy(&bytes[..snake_case_size(&name)]).into_owned()
    }

    /// As `word_count`, of which cargo makes `libword_count.so`.
    pub(super) fn library(&self) -> String {
        self.0.replace('-', "_")
    }
}

impl FromStr for ProjectName {
    type Err = BadName;

    fn from_str(name: &str) -> Result<Self, BadName> {
        let bad = |reason: String| Err(BadName { name: name.to_owned(), reason });
        if name.contains('/') {
            let last = name.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
            return bad(format!("it is a path; give the folder apart, as `sconce new {last} --path {name}`"));
        }
        if name.len() > LONGEST {
            return bad(format!("it has {} letters, and {LONGEST} are the most; choose a shorter one", name.len()));
        }
        let small = name.to_ascii_lowercase();
        if small != name {
            return bad(format!("it has capitals, which no crate's name should have; try {small}"));
        }
        if !name.starts_with(|c: char| c.is_ascii_lowercase()) {
            return bad("it must start with a small letter, as word-count".to_owned());
        }
        if let Some(wrong) = name.chars().find(|c| !matches!(c, 'a'..='z' | '0'..='9' | '-' | '_')) {
            return bad(format!("{wrong:?} is in it; use small letters, digits, '-' and '_', as word-count"));
        }
        let library = name.replace('-', "_");
        if KEYWORDS.contains(&library.as_str()) {
            return bad(format!("it is a word of Rust; try my-{name}"));
        }
        if TAKEN.contains(&library.as_str()) {
            return bad(format!("a crate that Rust or every handler needs has that name; try my-{name}"));
        }
        Ok(Self(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_other_names_follow() {
        for (name, type_name, handler) in [
            ("echo", "Echo", "echo"),
            ("word-count", "WordCount", "word_count"),
            ("resnet_18--xl_", "Resnet18Xl", "resnet18_xl"),
            // Single letters run together, as in the SDK's own rule.
            ("a-b-cat", "ABCat", "ab_cat"),
            ("request", "MyRequest", "my_request"),
        ] {
            let name: ProjectName = name.parse().unwrap();
            assert_eq!((name.type_name().as_str(), name.handler().as_str()), (type_name, handler));
        }
        let longest: ProjectName = "a-".repeat(LONGEST / 2).parse().unwrap();
        assert_eq!(longest.handler(), "a".repeat(LONGEST / 2));
        let words: ProjectName = "ab-".repeat(LONGEST / 3).parse().unwrap();
        assert_eq!(words.handler(), "ab_".repeat(LONGEST / 3).trim_end_matches('_'));
        assert_eq!("word-count".parse::<ProjectName>().unwrap().library(), "word_count");
    }

    #[test]
    fn a_bad_name_is_refused_with_what_to_do() {
        for (name, part) in [
            ("", "start with a small letter"),
            ("2fast", "start with a small letter"),
            ("-x", "start with a small letter"),
            ("Mnist", "try mnist"),
            ("grüße", "'ü' is in it; use small letters"),
            ("my.model", "'.' is in it"),
            ("fn", "a word of Rust; try my-fn"),
            ("test", "try my-test"),
            ("handler-sdk", "try my-handler-sdk"),
            ("some/where/", "`sconce new where --path some/where/`"),
            (&"a".repeat(65), "65 letters"),
        ] {
            let message = name.parse::<ProjectName>().unwrap_err().to_string();
            assert!(message.contains(part), "{message}");
        }
    }
}
