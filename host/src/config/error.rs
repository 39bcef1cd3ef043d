//! What can be wrong with the configuration, each in one sentence: where, what, what is allowed.

use std::fmt;
use std::io;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("can't read the config file {}, which {asked_by} names: {cause}", path.display())]
    Unreadable { path: PathBuf, asked_by: &'static str, cause: io::Error },
    #[error("{}{}: {detail}", path.display(), line_of(*line))]
    BadSyntax { path: PathBuf, line: Option<usize>, detail: String },
    #[error(
        "{origin}: {key} refers to the environment variable {variable}, which is not set; set it or write the value itself"
    )]
    UnknownVariable { origin: Origin, key: String, variable: String },
    #[error("{origin}: {key} = {value:?} is not {allowed}")]
    BadValue { origin: Origin, key: String, value: String, allowed: String },
}

/// Where a setting comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    File { path: PathBuf, line: usize },
    Environment { variable: String },
    Flag { flag: &'static str },
}

// === impl Origin ===

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line } => write!(f, "{}, line {line}", path.display()),
            Self::Environment { variable } => write!(f, "environment variable {variable}"),
            Self::Flag { flag } => write!(f, "flag {flag}"),
        }
    }
}

fn line_of(line: Option<usize>) -> String {
    line.map(|line| format!(", line {line}")).unwrap_or_default()
}
