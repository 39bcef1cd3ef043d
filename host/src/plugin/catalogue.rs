//! The libraries in the plugins path, by the handlers they name.

use std::path::Path;
use std::path::PathBuf;

use super::LibraryFile;
use super::PluginError;

/// The folder in which handlers are looked up by name.
#[derive(Debug, Clone, Default)]
pub struct Catalogue {
    folder: Option<PathBuf>,
}

// === impl Catalogue ===

impl Catalogue {
    pub fn new(folder: Option<PathBuf>) -> Self {
        Self { folder }
    }

    /// The one library whose note names this handler.
    ///
    /// The folder is read anew each time: what was put there a moment ago counts.
    pub fn find(&self, name: &str) -> Result<LibraryFile, PluginError> {
        let Some(folder) = &self.folder else {
            return Err(PluginError::NoPluginsPath { name: name.to_owned() });
        };
        let mut found: Option<LibraryFile> = None;
        let mut others = Vec::new();
        for path in libraries(folder)? {
            let file_name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            match LibraryFile::read(&path) {
                Ok(file) if file.handler(name).is_ok() => {
                    if let Some(first) = found {
                        return Err(PluginError::Ambiguous {
                            name: name.to_owned(),
                            first: first.path,
                            second: path,
                        });
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
            folder: folder.clone(),
            found: if others.is_empty() {
                "it holds no .so file; copy your plugin there".to_owned()
            } else {
                others.join("; ")
            },
        })
    }
}

/// The `.so` files of a folder, in alphabetical order.
fn libraries(folder: &Path) -> Result<Vec<PathBuf>, PluginError> {
    let fail = |source| PluginError::Io {
        what: "read the plugins path",
        path: folder.to_owned(),
        source,
    };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        if path.extension().is_some_and(|extension| extension == "so") && path.is_file() {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}
