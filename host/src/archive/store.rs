//! The model store: which archives it offers, and what a `url` means in it.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use crate::archive::error::ArchiveError;
use crate::ids::ModelName;

/// A folder of archives.
#[derive(Debug, Clone)]
pub struct Store {
    folder: PathBuf,
}

/// Which models a server loads at start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoadModels {
    /// All that the store offers.
    All,
    Listed(Vec<LoadModel>),
}

/// One item of `--models` or `load_models`: `name=path` or `path`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadModel {
    pub name: Option<ModelName>,
    pub url: String,
}

/// The endings of archives; all but `.tgz` are TorchServe's.
const ENDINGS: &[&str] = &[".mar", ".model", ".tar.gz", ".tgz"];

// === impl Store ===

impl Store {
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What `all` loads: every archive and every folder that isn't hidden, sorted by name.
    /// Files being written by an archiver are hidden, so they are never among them.
    pub fn candidates(&self) -> Result<Vec<PathBuf>, ArchiveError> {
        let failed =
            |source| ArchiveError::Io { doing: "list the model store", path: self.folder.clone(), cause: source };
        let mut candidates = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if is_offered(&path) {
                candidates.push(path);
            }
        }
        candidates.sort();
        Ok(candidates)
    }

    /// Finds the archive that a client's or an operator's `url` means: the file or the
    /// folder in the store that has its last part as name. Nothing outside the store
    /// is ever meant, unlike in TorchServe, which takes any folder of the machine.
    pub fn resolve(&self, url: &str) -> Result<PathBuf, ArchiveError> {
        if url.trim().is_empty() {
            return Err(ArchiveError::EmptyUrl);
        }
        if url.contains("..") {
            return Err(ArchiveError::RelativePath { url: url.to_owned() });
        }
        if url.contains("://") {
            return Err(ArchiveError::UrlNotAllowed { url: url.to_owned() });
        }
        let name = last_part(url);
        let path = self.folder.join(name);
        if matches!(name, "" | ".") || !path.exists() {
            return Err(ArchiveError::ModelNotFound { url: url.to_owned() });
        }
        Ok(path)
    }
}

// === impl LoadModels ===

impl LoadModels {
    /// Takes the items of `--models` and of `load_models`, each of which may hold several
    /// with commas between them; `None` if there is nothing to load.
    pub fn parse<S: AsRef<str>>(items: &[S]) -> Result<Option<Self>, ArchiveError> {
        let items: Vec<&str> = items
            .iter()
            .flat_map(|item| item.as_ref().split(','))
            .map(str::trim)
            .filter(|item| !item.is_empty())
            .collect();
        match items.as_slice() {
            [] => Ok(None),
            [all] if all.eq_ignore_ascii_case("all") => Ok(Some(Self::All)),
            [one] if one.eq_ignore_ascii_case("none") => Ok(None),
            items => {
                let listed = items.iter().map(|item| LoadModel::parse(item));
                Ok(Some(Self::Listed(listed.collect::<Result<_, _>>()?)))
            }
        }
    }
}

impl LoadModel {
    fn parse(item: &str) -> Result<Self, ArchiveError> {
        let (name, url) = match item.split_once('=') {
            Some((name, url)) => (Some(ModelName::parse(name.trim())?), url.trim()),
            None => (None, item),
        };
        if url.is_empty() {
            return Err(ArchiveError::EmptyUrl);
        }
        Ok(Self { name, url: url.to_owned() })
    }
}

/// Whether a server that serves all of its store takes this for an archive: by its name, whatever is in it.
pub fn is_offered(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let named_as_one = ENDINGS.iter().any(|ending| name.ends_with(ending));
    !name.starts_with('.') && (path.is_dir() || (named_as_one && path.is_file()))
}

/// The name TorchServe gives a model whose manifest has none: the file's name, without
/// the ending if that is `.mar` or `.model`, with `_` for all that is no letter, digit or `_`.
pub fn name_from_path(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let stem = name.strip_suffix(".mar").or_else(|| name.strip_suffix(".model")).unwrap_or(&name);
    stem.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

/// TorchServe cuts at both slashes.
fn last_part(url: &str) -> &str {
    let slash = |c| matches!(c, '/' | '\\');
    url.trim().trim_end_matches(slash).rsplit(slash).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        for file in ["b.mar", "a.tar.gz", "c.tgz", "d.model", ".hidden.mar", "notes.txt"] {
            fs::write(folder.path().join(file), b"").unwrap();
        }
        for dir in ["folder", ".git"] {
            fs::create_dir(folder.path().join(dir)).unwrap();
        }
        let store = Store::new(folder.path());
        (folder, store)
    }

    #[test]
    fn candidates_are_archives_and_folders() {
        let (folder, store) = store();
        let names: Vec<String> = store
            .candidates()
            .unwrap()
            .iter()
            .map(|p| p.strip_prefix(folder.path()).unwrap().display().to_string())
            .collect();
        assert_eq!(names, ["a.tar.gz", "b.mar", "c.tgz", "d.model", "folder"]);
        let missing = Store::new(folder.path().join("nowhere"));
        let message = missing.candidates().unwrap_err().to_string();
        assert!(message.contains("can't list the model store"), "{message}");
    }

    #[test]
    fn a_url_never_leaves_the_store() {
        let (folder, store) = store();
        for (url, found) in [
            ("b.mar", "b.mar"),
            ("folder", "folder"),
            ("folder/", "folder"),
            ("/some/where/b.mar", "b.mar"),
            ("sub\\b.mar", "b.mar"),
        ] {
            assert_eq!(store.resolve(url).unwrap(), folder.path().join(found), "{url}");
        }
        for (url, message) in [
            ("", "empty url"),
            ("../b.mar", "Relative path is not allowed in url: ../b.mar"),
            ("x..y", "Relative path is not allowed in url: x..y"),
            ("nope.mar", "Model not found at: nope.mar"),
            ("/", "Model not found at: /"),
            (".", "Model not found at: ."),
            ("http://host/b.mar", "Given URL http://host/b.mar does not match any allowed URL(s)"),
        ] {
            assert_eq!(store.resolve(url).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn what_to_load() {
        let item = |name: Option<&str>, url: &str| LoadModel {
            name: name.map(|name| ModelName::parse(name).unwrap()),
            url: url.to_owned(),
        };
        assert_eq!(LoadModels::parse::<&str>(&[]).unwrap(), None);
        assert_eq!(LoadModels::parse(&["", " , "]).unwrap(), None);
        assert_eq!(LoadModels::parse(&["ALL"]).unwrap(), Some(LoadModels::All));
        assert_eq!(
            LoadModels::parse(&["m=a.mar, b.mar", "all"]).unwrap(),
            Some(LoadModels::Listed(vec![item(Some("m"), "a.mar"), item(None, "b.mar"), item(None, "all"),]))
        );
        let message = LoadModels::parse(&["a b=x.mar"]).unwrap_err().to_string();
        assert!(message.contains("\"a b\" is not a model name"), "{message}");
        assert!(LoadModels::parse(&["m="]).is_err());
    }

    #[test]
    fn names_from_files() {
        for (path, name) in [
            ("store/foo.mar", "foo"),
            ("foo.tar.gz", "foo_tar_gz"),
            ("foo.model", "foo"),
            ("my-model v1.mar", "my_model_v1"),
            ("folder", "folder"),
        ] {
            assert_eq!(name_from_path(Path::new(path)), name, "{path}");
        }
    }
}
