//! `sconce archive --inspect`: what is in an archive, and what would serve it.

use std::fmt;
use std::fmt::Write as _;
use std::path::Path;

use serde::Serialize;

use super::format_of;
use super::line;
use super::model_of;
use super::table;
use crate::archive::ArchiveError;
use crate::archive::HandlerName;
use crate::archive::HandlerRef;
use crate::archive::Manifest;
use crate::archive::Member;
use crate::archive::Package;
use crate::archive::is_offered;
use crate::model::kind_of;
use crate::plugin::Catalogue;
use crate::plugin::HostBuild;
use crate::plugin::LibraryFile;
use crate::plugin::PluginError;
use crate::plugin::judge;

/// What was seen in an archive; its fields are what `--json` prints.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Look {
    archive: String,
    /// Whether all that the manifest names is there.
    whole: bool,
    /// What is missing or wrong, a sentence each; the archive is whole where there is none.
    problems: Vec<String>,
    /// What is ignored or may not be meant, a sentence each.
    warnings: Vec<String>,
    #[serde(flatten)]
    content: Option<Content>,
}

/// What is known once the archive is open.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Content {
    format: &'static str,
    digest: String,
    /// As the manifest has it.
    handler: Option<String>,
    served_by: ServedBy,
    manifest: Manifest,
    members: Vec<Member>,
}

/// What would serve the model.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ServedBy {
    verdict: Verdict,
    /// The library's path, or its name in the archive.
    #[serde(skip_serializing_if = "Option::is_none")]
    library: Option<String>,
    /// The handler's name in the library.
    #[serde(skip_serializing_if = "Option::is_none")]
    handler: Option<String>,
    /// By what, or why not, in one sentence.
    detail: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
enum Verdict {
    Served,
    Refused,
    /// It depends on the server's plugins or settings.
    Depends,
}

/// Opens an archive and looks around; the plugins are those of the server that is to serve it.
pub(super) fn look(archive: &Path, plugins: Option<&Path>) -> anyhow::Result<Look> {
    let work_dir = tempfile::tempdir()?;
    let mut look = Look {
        archive: archive.display().to_string(),
        whole: true,
        problems: Vec::new(),
        warnings: Vec::new(),
        content: None,
    };
    match Package::open(archive, work_dir.path()) {
        Ok(package) => look.enter(&package, plugins),
        Err(error) => look.problems.push(error.to_string()),
    }
    look.whole = look.problems.is_empty();
    Ok(look)
}

// === impl Look ===

impl Look {
    pub(super) fn is_whole(&self) -> bool {
        self.whole
    }

    pub(super) fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(self).map(|text| text + "\n")
    }

    pub(super) fn to_text(&self) -> String {
        let mut text = String::new();
        line(&mut text, "archive", &self.archive);
        if let Some(content) = &self.content {
            line(&mut text, "format", content.format);
            line(&mut text, "model", &model_of(&content.manifest));
            line(&mut text, "handler", content.handler.as_deref().unwrap_or("none"));
            let served = &content.served_by;
            let not = if served.verdict == Verdict::Refused { "not: " } else { "" };
            line(&mut text, "served", &format!("{not}{}", served.detail));
            line(&mut text, "digest", &content.digest);
        }
        for warning in &self.warnings {
            line(&mut text, "warning", warning);
        }
        for problem in &self.problems {
            line(&mut text, "problem", problem);
        }
        if let Some(content) = &self.content {
            if let Ok(manifest) = content.manifest.to_text() {
                let _ = write!(text, "\n{manifest}\n");
            }
            text.push_str(&table(&content.members));
        }
        text
    }

    fn enter(&mut self, package: &Package, plugins: Option<&Path>) {
        self.problems.extend(package.missing().iter().map(ToString::to_string));
        self.problems.extend(package.manifest_name().err().map(|error| error.to_string()));
        let handler = package.handler();
        self.problems.extend(handler.as_ref().err().map(ToString::to_string));
        self.warn_of_what_is_ignored(package);
        self.content = Some(Content {
            format: format_of(&package.source),
            digest: package.digest.to_string(),
            handler: package.manifest.model.handler.clone(),
            served_by: ServedBy::tell(package, handler, plugins),
            manifest: package.manifest.clone(),
            members: package.members.clone(),
        });
    }

    fn warn_of_what_is_ignored(&mut self, package: &Package) {
        let model = &package.manifest.model;
        if let Some(config) = &package.config {
            let file = model.config_file.as_deref().unwrap_or_default();
            self.warnings.extend(config.warnings.iter().map(|warning| format!("{file}: {warning}")));
        }
        if let Ok(Some(weights)) = package.serialized_file()
            && let Err(error) = kind_of(&weights)
        {
            // The file lies in a folder that is gone when this is read.
            let error = error.to_string().replace(&format!("{}/", package.root.display()), "");
            self.warnings.push(format!("a server doesn't load its model: {error}"));
        }
        if let Some(file) = &model.requirements_file {
            self.warnings.push(format!("{file}: Sconce installs no Python packages, for it runs no Python"));
        }
        if let Some(file) = &model.model_file {
            self.warnings.push(format!(
                "{file}: Sconce doesn't read an architecture written in Python; weights that need one need a handler that builds it"
            ));
        }
        if model.model_name.is_none() {
            let why =
                "the manifest has no model name: TorchServe registers such an archive only under a name that is given";
            self.warnings.push(why.to_owned());
        }
        if !is_offered(&package.source) {
            self.warnings.push(
                "its name doesn't end in .mar, .model, .tar.gz or .tgz, or is hidden: a server that loads all of its store passes it over"
                    .to_owned(),
            );
        }
    }
}

// === impl ServedBy ===

impl ServedBy {
    fn tell(package: &Package, handler: Result<Option<HandlerName>, ArchiveError>, plugins: Option<&Path>) -> Self {
        let handler = match handler {
            Ok(Some(handler)) => handler,
            Ok(None) => {
                return Self::depends(
                    "by the server's default_service_handler, for the archive names no handler: pack it again with --handler NAME to choose one",
                );
            }
            Err(error) => return Self::refused(error),
        };
        match &handler.refers_to {
            HandlerRef::Packed { library, class } => {
                let found = package.library_path(library).map_err(|error| error.to_string());
                let found = found.and_then(|path| LibraryFile::read(&path).map_err(|error| error.to_string()));
                let shown = found.as_ref().ok().and_then(|file| file.path.file_name());
                let place = shown.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
                found.map_or_else(Self::refused, |file| Self::judged(&file, &place, class, "in this archive"))
            }
            HandlerRef::Plugin(name) => {
                let Some(plugins) = plugins else {
                    return Self::depends(match handler.named_python {
                        true => format!(
                            "by a plugin with the handler {name:?}, if the server has one, in place of the Python file {:?}, which Sconce doesn't run: give --plugins-path FOLDER to look it up; `sconce new` begins such a plugin",
                            handler.text
                        ),
                        false => format!(
                            "by a plugin with the handler {name:?}, if the server has one: give --plugins-path FOLDER to look it up"
                        ),
                    });
                };
                match Catalogue::new(vec![plugins.to_owned()]).find(name) {
                    Ok(file) => Self::judged(&file, &file.path.display().to_string(), name, "in the plugins path"),
                    Err(error) if handler.named_python => Self::refused(format!(
                        "{:?} is a Python handler, and handlers here are native plugins: put a plugin with the handler {name:?} into the plugins path (`sconce new` begins one), or pack the archive again with --handler and the name of a plugin's handler ({error})",
                        handler.text
                    )),
                    Err(error) => Self::refused(error),
                }
            }
        }
    }

    /// What a server says to a library from its file alone; only the server itself, or `sconce check`, runs it.
    fn judged(file: &LibraryFile, library: &str, handler: &str, place: &str) -> Self {
        let judged = file.handler(handler).and_then(|name| match judge(file, &HostBuild::current()) {
            Ok(()) => Ok(name.to_owned()),
            Err(refusal) => Err(PluginError::Refused { path: file.path.clone(), refusal }),
        });
        match judged {
            Ok(name) => Self {
                verdict: Verdict::Served,
                detail: format!("by the handler {name:?} of {library} {place}"),
                library: Some(library.to_owned()),
                handler: Some(name),
            },
            Err(error) => Self::refused(error),
        }
    }

    fn depends(detail: impl Into<String>) -> Self {
        Self { verdict: Verdict::Depends, library: None, handler: None, detail: detail.into() }
    }

    fn refused(why: impl fmt::Display) -> Self {
        Self { verdict: Verdict::Refused, library: None, handler: None, detail: why.to_string() }
    }
}
