//! The libraries in the plugins path, by the handlers they name.

use std::path::Path;
use std::path::PathBuf;

use super::LibraryFile;
use super::PluginError;

/// The folders and files in which handlers are looked up by name.
#[derive(Debug, Clone, Default)]
pub struct Catalogue {
    paths: Vec<PathBuf>,
}

// === impl Catalogue ===

impl Catalogue {
    pub fn new(paths: Vec<PathBuf>) -> Self {
        Self { paths }
    }

    /// The one library whose note names this handler.
    ///
    /// The folders are read anew each time: what was put there a moment ago counts.
    pub fn find(&self, name: &str) -> Result<LibraryFile, PluginError> {
        if self.paths.is_empty() {
            return Err(PluginError::NoPluginsPath { name: name.to_owned() });
        }
        let mut libraries = Vec::new();
        for path in &self.paths {
            libraries.extend(libraries_at(path)?);
        }
        let mut found: Option<LibraryFile> = None;
        let mut others = Vec::new();
        for path in libraries {
            let file_name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            match LibraryFile::read(&path) {
                Ok(file) if file.handler(name).is_ok() => {
                    if let Some(first) = found {
                        return Err(PluginError::Ambiguous { name: name.to_owned(), first: first.path, second: path });
                    }
                    found = Some(file);
                }
                Ok(file) => others.push(format!("{file_name} has {}", file.handler_names().join(", "))),
                Err(PluginError::Refused { refusal, .. }) => others.push(format!("{file_name} {refusal}")),
                Err(error) => others.push(error.to_string()),
            }
        }
        found.ok_or_else(|| PluginError::NotFound {
            name: name.to_owned(),
            paths: self.paths.clone(),
            found: if others.is_empty() {
                "there is no .so file; copy your plugin there".to_owned()
            } else {
                others.join("; ")
            },
        })
    }
}

/// The `.so` files of a folder in alphabetical order, or the one file that the path names.
fn libraries_at(place: &Path) -> Result<Vec<PathBuf>, PluginError> {
    if place.is_file() {
        return Ok(vec![place.to_owned()]);
    }
    let fail = |source| PluginError::Io { what: "read the plugins path", path: place.to_owned(), cause: source };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(place).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        if path.extension().is_some_and(|extension| extension == "so") && path.is_file() {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}
