//! Which files go into an archive, and under which names.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

use glob::MatchOptions;

use crate::archive::error::ArchiveError;
use crate::archive::manifest::MANIFEST_MEMBER;
use crate::archive::manifest::Runtime;
use crate::archive::members;

/// Which file becomes which member.
pub(super) struct Plan {
    /// Where the archive will be.
    pub(super) target: PathBuf,
    pub(super) sources: BTreeMap<String, PathBuf>,
    pub(super) warnings: Vec<String>,
}

/// The names of TorchServe's own handlers, which are never files. Its archiver has forgotten `densenet_handler`.
const BUILT_IN: &[&str] = &[
    "base_handler",
    "densenet_handler",
    "text_classifier",
    "image_classifier",
    "object_detector",
    "image_segmenter",
    "dali_image_classifier",
    "vllm_handler",
    "trt_llm_handler",
];

/// Hidden files are left to [`shows_hidden`]: the crate's own rule leaves them out where a pattern asks for them.
const PATTERN_RULES: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: false };

// === impl Plan ===

impl Plan {
    /// Adds the handler's file, if it has one, and returns the name for the manifest.
    pub(super) fn add_handler(&mut self, handler: &str, runtime: Runtime) -> Result<String, ArchiveError> {
        let handler = handler.trim();
        match runtime {
            Runtime::Lsp => self.add_library(handler),
            Runtime::Python | Runtime::Python3 => self.add_python(handler),
        }
    }

    fn add_python(&mut self, handler: &str) -> Result<String, ArchiveError> {
        if BUILT_IN.contains(&handler) {
            return Ok(handler.to_owned());
        }
        let module = handler.split_once(':').map_or(handler, |(module, _)| module);
        let file = match module.strip_suffix(".py") {
            Some(_) => PathBuf::from(module),
            None => PathBuf::from(format!("{module}.py")),
        };
        if file.is_file() {
            self.warnings.push(format!(
                "{} is packed, but Sconce doesn't run Python: it looks for a plugin's handler of that name",
                file.display()
            ));
            self.add_named("--handler", &file)?;
            return Ok(last_part(handler).to_owned());
        }
        // A bare name is that of a plugin's handler; it is for the server to have it.
        if module == handler && !handler.contains('/') && !handler.ends_with(".py") {
            return Ok(handler.to_owned());
        }
        if library_candidates(module).iter().any(|path| path.is_file()) {
            return Err(ArchiveError::BadHandler {
                handler: handler.to_owned(),
                detail: "it names a library; give --runtime LSP to pack it".to_owned(),
            });
        }
        Err(ArchiveError::SourceNotFound { role: "--handler", path: file })
    }

    fn add_library(&mut self, handler: &str) -> Result<String, ArchiveError> {
        let Some((given, class)) = handler.split_once(':') else {
            // A plugin's handler, as TorchServe's `BaseHandler` and `TorchScriptHandler`.
            if library_candidates(handler).iter().any(|p| p.is_file()) {
                return Err(ArchiveError::BadHandler {
                    handler: handler.to_owned(),
                    detail: format!("it names a library; say which handler of it: {handler}:Name"),
                });
            }
            return Ok(handler.to_owned());
        };
        let candidates = library_candidates(given);
        let Some(library) = candidates.iter().find(|path| path.is_file()) else {
            let tried: Vec<String> = candidates.iter().map(|p| p.display().to_string()).collect();
            return Err(ArchiveError::LibraryNotFound { handler: handler.to_owned(), tried: tried.join(" and ") });
        };
        let member = self.add_named("--handler", library)?;
        let stem = member.strip_suffix(std::env::consts::DLL_SUFFIX).unwrap_or(&member);
        Ok(format!("{stem}:{class}"))
    }

    /// Adds a file under its own name, and returns that.
    pub(super) fn add_named(&mut self, role: &'static str, path: &Path) -> Result<String, ArchiveError> {
        if path.is_dir() {
            return Err(ArchiveError::NotAFile { path: path.to_owned() });
        }
        if !path.is_file() {
            return Err(ArchiveError::SourceNotFound { role, path: path.to_owned() });
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        self.add(&name, path)?;
        Ok(name.into_owned())
    }

    pub(super) fn add_extra_files(&mut self, list: &str) -> Result<(), ArchiveError> {
        let items = list.split(',').map(str::trim);
        for item in items.filter(|item| !item.is_empty()) {
            let path = PathBuf::from(item);
            if path.exists() {
                self.add_extra(&path)?;
            } else if item.contains(['*', '?', '[']) {
                self.add_matches(item)?;
            } else {
                return Err(ArchiveError::SourceNotFound { role: "--extra-files", path });
            }
        }
        Ok(())
    }

    fn add_matches(&mut self, pattern: &str) -> Result<(), ArchiveError> {
        let bad = |detail: String| ArchiveError::BadPattern { pattern: pattern.to_owned(), detail };
        // In TorchServe's archiver two stars mean no more than one.
        let mut plain = pattern.to_owned();
        while plain.contains("**") {
            plain = plain.replace("**", "*");
        }
        let matches = glob::glob_with(&plain, PATTERN_RULES).map_err(|e| bad(e.msg.to_owned()))?;
        let mut any = false;
        for path in matches {
            let path = path.map_err(|e| bad(e.to_string()))?;
            if shows_hidden(&plain, &path) {
                continue;
            }
            any = true;
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let unwanted = members::is_unwanted_folder(&name) || name == "MAR-INF";
            if !(path.is_dir() && unwanted) {
                self.add_extra(&path)?;
            }
        }
        if !any {
            self.warnings.push(format!("Given wildcard pattern did not match any file: {pattern}"));
        }
        Ok(())
    }

    /// Adds a file under its own name, or all that is in a folder.
    fn add_extra(&mut self, path: &Path) -> Result<(), ArchiveError> {
        if !path.is_dir() {
            self.add_named("--extra-files", path)?;
            return Ok(());
        }
        for found in members::walk(path)? {
            self.add(&found.name, &found.path)?;
        }
        Ok(())
    }

    fn add(&mut self, name: &str, path: &Path) -> Result<(), ArchiveError> {
        let name = members::member_name(name).map_err(|problem| ArchiveError::Member {
            archive: self.target.clone(),
            member: name.to_owned(),
            problem,
        })?;
        if name == MANIFEST_MEMBER {
            self.warnings.push(format!("{} is left out: the archive gets a manifest of its own", path.display()));
            return Ok(());
        }
        if same_file(path, &self.target) || path.starts_with(&self.target) {
            self.warnings.push(format!("{} is left out: it is what is being made", path.display()));
            return Ok(());
        }
        if let Some(first) = self.sources.get(&name) {
            // Naming one file twice, as with `--serialized-file m.pt --extra-files .`, is fine, and so is a copy of it.
            if same_file(first, path) || same_content(first, path) {
                return Ok(());
            }
            return Err(self.collision(name.clone(), first, path));
        }
        // A file can't be a folder of other members as well.
        let below = format!("{name}/");
        if let Some((_, other)) = self.sources.iter().find(|(n, _)| n.starts_with(&below)) {
            return Err(self.collision(name, other, path));
        }
        let parents = name.match_indices('/').map(|(at, _)| &name[..at]);
        if let Some(other) = parents.into_iter().find_map(|p| self.sources.get(p)) {
            return Err(self.collision(name.clone(), other, path));
        }
        self.sources.insert(name, path.to_owned());
        Ok(())
    }

    fn collision(&self, member: String, first: &Path, second: &Path) -> ArchiveError {
        ArchiveError::Collision { member, first: first.to_owned(), second: second.to_owned() }
    }

    /// Says so where an archive of that name is going to be replaced.
    pub(super) fn warn_of_overwriting(&mut self) {
        if fs::symlink_metadata(&self.target).is_ok() {
            self.warnings.push(format!("Overwriting {} ...", self.target.display()));
        }
    }

    pub(super) fn make_export_path(&mut self, folder: &Path) -> Result<(), ArchiveError> {
        if folder.is_dir() {
            return Ok(());
        }
        if folder.exists() {
            return Err(ArchiveError::ExportPathNotAFolder { path: folder.to_owned() });
        }
        self.warnings.push(format!("Export directory ({}) does not exist. Creating...", folder.display()));
        fs::create_dir_all(folder).map_err(|source| ArchiveError::Io {
            doing: "make the export path",
            path: folder.to_owned(),
            cause: source,
        })
    }
}

/// Whether a match is hidden, or lies in a hidden folder, where the pattern has no dot: as in Python, that is no match.
fn shows_hidden(pattern: &str, path: &Path) -> bool {
    let asked = pattern.rsplit('/').filter(|part| !part.is_empty() && *part != ".");
    let found = path.components().rev().map(|part| part.as_os_str().to_string_lossy());
    found.zip(asked).any(|(found, asked)| found.starts_with('.') && !asked.starts_with('.'))
}

/// Where a library may lie that was given as `path/libx`, `path/libx.so` or, as its
/// crate is called, `path/x`.
fn library_candidates(given: &str) -> Vec<PathBuf> {
    let suffix = std::env::consts::DLL_SUFFIX;
    if given.ends_with(suffix) {
        return vec![PathBuf::from(given)];
    }
    let plain = PathBuf::from(format!("{given}{suffix}"));
    let file = last_part(given);
    if file.starts_with("lib") {
        return vec![plain];
    }
    let prefixed = plain.with_file_name(format!("lib{file}{suffix}"));
    vec![plain, prefixed]
}

fn last_part(text: &str) -> &str {
    text.rsplit('/').next().unwrap_or(text)
}

fn same_file(a: &Path, b: &Path) -> bool {
    match (fs::canonicalize(a), fs::canonicalize(b)) {
        (Ok(a), Ok(b)) => a == b,
        _ => false,
    }
}

/// Whether two files hold the same; what can't be read is left to whoever packs it.
fn same_content(a: &Path, b: &Path) -> bool {
    let length = |path: &Path| fs::metadata(path).map(|kind| kind.len()).ok();
    let digest = |path: &Path| {
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(fs::File::open(path).ok()?).ok()?;
        Some(hasher.finalize())
    };
    length(a).is_some() && length(a) == length(b) && digest(a).is_some_and(|found| digest(b) == Some(found))
}
