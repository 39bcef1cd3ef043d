//! What is served, for those who compare it with what lies on disk.

use std::path::PathBuf;

use super::Registry;
use crate::ids::ModelName;
use crate::ids::ModelVersion;

/// What an endpoint serves, for those who compare it with what lies on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    pub name: ModelName,
    pub version: ModelVersion,
    /// Whether it serves what came last; else any library may be the one that was missing.
    pub ready: bool,
    /// The archive it came from.
    pub archive: PathBuf,
    /// The library that its handler was found in, where one was found in the plugins path; `None` where none was found, or where the archive carries its own.
    pub library: Option<PathBuf>,
    /// Whether the handler is looked up in the plugins path.
    pub by_name: bool,
}

impl Registry {
    /// What every endpoint serves.
    pub fn served(&self) -> Vec<Served> {
        self.endpoints().iter().map(|endpoint| endpoint.served()).collect()
    }
}
