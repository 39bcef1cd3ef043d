//! What a generation is made from, kept so that the same can be made again.

use std::path::Path;
use std::sync::Arc;

use super::EndpointSettings;
use super::LoadError;
use crate::archive::HandlerName;
use crate::archive::HandlerRef;
use crate::archive::Package;
use crate::archive::Runtime;
use crate::plugin::StagedLibrary;

/// An archive, and how it is served.
#[derive(Debug)]
pub(super) struct Source {
    /// The archive as the operator named it.
    pub(super) url: String,
    pub(super) package: Arc<Package>,
    pub(super) settings: Arc<EndpointSettings>,
    /// In place of the manifest's.
    pub(super) handler: Option<String>,
    pub(super) runtime: Runtime,
}

/// A source with the code that serves it.
#[derive(Debug, Clone)]
pub(super) struct Build {
    pub(super) source: Arc<Source>,
    /// The private copy: it outlives the author's file.
    pub(super) library: Arc<StagedLibrary>,
    /// By its own name.
    pub(super) handler: String,
    /// Whether it was found in the plugins path; else the archive carries it.
    pub(super) by_name: bool,
}

// === impl Source ===

impl Source {
    /// The handler that was asked for, or the manifest's.
    pub(super) fn handler(&self) -> Result<Option<HandlerName>, LoadError> {
        let text = self.handler.as_deref().or(self.package.manifest.model.handler.as_deref());
        Ok(text.map(|text| HandlerName::parse(text, self.runtime)).transpose()?)
    }

    /// Whether its handler is looked up in the plugins path.
    pub(super) fn names_a_plugin(&self) -> bool {
        let handler = self.handler().ok().flatten();
        handler.is_none_or(|handler| matches!(handler.refers_to, HandlerRef::Plugin(_)))
    }

    /// The archive itself.
    pub(super) fn path(&self) -> &Path {
        &self.package.source
    }
}
