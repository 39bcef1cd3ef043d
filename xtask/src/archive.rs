//! An archive that xtask packs, with the server's own `sconce archive`.

use std::path::Path;
use std::process::Command;

/// What goes into it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Archive {
    pub(crate) model: &'static str,
    pub(crate) handler: &'static str,
    pub(crate) serialized_file: Option<&'static str>,
}

// === impl Archive ===

impl Archive {
    /// Gives `sconce` the arguments that pack it into a folder.
    pub(crate) fn pack<'a>(&self, sconce: &'a mut Command, store: &Path) -> &'a mut Command {
        sconce
            .args(["archive", "--model-name", self.model, "--version", "1.0", "--handler", self.handler])
            .arg("--export-path")
            .arg(store)
            .arg("--force");
        if let Some(file) = self.serialized_file {
            sconce.args(["--serialized-file", file]);
        }
        sconce
    }
}
