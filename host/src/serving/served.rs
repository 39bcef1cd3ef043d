//! What is served, as those see it who watch the files it came from.

use std::path::PathBuf;

use crate::ids::ModelName;
use crate::ids::ModelVersion;

/// What an endpoint serves, for those who compare it with what lies on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    pub name: ModelName,
    pub version: ModelVersion,
    pub ready: bool,
    /// The archive it came from.
    pub archive: PathBuf,
    /// The library that its handler was found in, where one was found in the plugins path; `None` where none was found, or where the archive carries its own.
    pub library: Option<PathBuf>,
    /// Whether the handler is looked up in the plugins path.
    pub by_name: bool,
}
