//! An archive that has been opened: its files on disk, its manifest, its config.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use tempfile::TempDir;

use crate::archive::error::ArchiveError;
use crate::archive::extract;
use crate::archive::extract::Form;
use crate::archive::handler_name::HandlerName;
use crate::archive::handler_name::HandlerRef;
use crate::archive::handler_name::library_file;
use crate::archive::manifest::MANIFEST_MEMBER;
use crate::archive::manifest::Manifest;
use crate::archive::members;
use crate::archive::members::Found;
use crate::archive::members::Member;
use crate::archive::model_config::ModelConfig;
use crate::archive::sink::Limits;
use crate::archive::store;
use crate::ids::Digest;
use crate::ids::ModelName;
use crate::ids::ModelVersion;

/// An opened archive. What was unpacked for it is removed when it is dropped.
#[derive(Debug)]
pub struct Package {
    /// What TorchServe calls a model whose manifest has no name: `foo.tar.gz` is `foo_tar_gz`.
    pub name_from_file: String,
    /// The archive as it was given.
    pub source: PathBuf,
    /// The folder with the files: a private copy, whatever becomes of `source`.
    pub root: PathBuf,
    /// The defaults, if there is none.
    pub manifest: Manifest,
    /// `None` if the manifest names no config file.
    pub config: Option<ModelConfig>,
    /// Of all names and contents, the same whichever form the archive has.
    pub digest: Digest,
    /// Sorted by name.
    pub members: Vec<Member>,
    /// Held for its drop.
    _unpacked: TempDir,
}

// === impl Package ===

impl Package {
    /// Opens a zip, a gzipped tar or a folder, which is unpacked or copied into a fresh
    /// private folder below `work_dir`: while it serves, whoever owns `source` may rewrite it.
    pub fn open(source: &Path, work_dir: &Path) -> Result<Self, ArchiveError> {
        Self::open_within(source, work_dir, &Limits::default())
    }

    /// As [`Package::open`], with limits of your own for what an archive unpacks to.
    pub fn open_within(source: &Path, work_dir: &Path, limits: &Limits) -> Result<Self, ArchiveError> {
        let kind = fs::metadata(source).map_err(|e| io("open", source, e))?;
        let form = if kind.is_dir() { None } else { Some(extract::form_of(source)?) };
        fs::create_dir_all(work_dir).map_err(|e| io("make", work_dir, e))?;
        let unpacked = tempfile::Builder::new()
            .prefix("package-")
            .tempdir_in(work_dir)
            .map_err(|e| io("make a folder in", work_dir, e))?;
        let folder = unpacked.path().to_owned();
        let (root, members) = match form {
            None => {
                let members = extract::copy_folder(source, &folder_root(source)?, &folder, limits)?;
                (folder, members)
            }
            Some(Form::Zip) => {
                let members = extract::unpack_zip(source, &folder, limits)?;
                (folder, members)
            }
            Some(Form::GzippedTar) => {
                let (members, leading) = extract::unpack_tar_gz(source, &folder, limits)?;
                (leading.map_or(folder.clone(), |top| folder.join(top)), members)
            }
        };
        let mut package = Self {
            name_from_file: store::name_from_path(source),
            source: source.to_owned(),
            root,
            manifest: Manifest::default(),
            config: None,
            digest: members::digest_of(&members),
            members,
            _unpacked: unpacked,
        };
        package.manifest = package.read_manifest()?;
        package.config = package.read_config()?;
        Ok(package)
    }

    /// The version in the manifest, `1.0` where there is none.
    pub fn version(&self) -> ModelVersion {
        self.manifest.model.model_version.clone()
    }

    /// The name in the manifest, if there is one.
    pub fn manifest_name(&self) -> Result<Option<ModelName>, ArchiveError> {
        match &self.manifest.model.model_name {
            Some(name) => Ok(Some(ModelName::parse(name)?)),
            None => Ok(None),
        }
    }

    /// The name under which a start-up list without names serves this package.
    pub fn default_name(&self) -> Result<ModelName, ArchiveError> {
        match self.manifest_name()? {
            Some(name) => Ok(name),
            None => Ok(ModelName::parse(&self.name_from_file)?),
        }
    }

    /// What the manifest's handler refers to, if it names one.
    pub fn handler(&self) -> Result<Option<HandlerName>, ArchiveError> {
        let handler = self.manifest.model.handler.as_deref();
        handler.map(|text| HandlerName::parse(text, self.manifest.runtime)).transpose()
    }

    /// The weights, if the manifest names any.
    pub fn serialized_file(&self) -> Result<Option<PathBuf>, ArchiveError> {
        self.named("serialized file", self.manifest.model.serialized_file.as_deref())
    }

    /// All that the manifest names and the archive lacks.
    pub fn missing(&self) -> Vec<ArchiveError> {
        let model = &self.manifest.model;
        let named = [
            ("serialized file", &model.serialized_file),
            ("model file", &model.model_file),
            ("requirements file", &model.requirements_file),
        ];
        let mut missing: Vec<_> =
            named.into_iter().filter_map(|(role, name)| self.named(role, name.as_deref()).err()).collect();
        if let Ok(Some(HandlerName { refers_to: HandlerRef::Packed { library, .. }, .. })) = self.handler() {
            missing.extend(self.library_path(&library).err());
        }
        missing
    }

    /// A library that the archive carries, named without its suffix.
    pub fn library_path(&self, library: &str) -> Result<PathBuf, ArchiveError> {
        self.required("handler's library", &library_file(library))
    }

    /// The libraries of operators that the model needs: members, or files of this machine by an absolute path.
    pub fn torch_libraries(&self) -> Result<Vec<PathBuf>, ArchiveError> {
        let named = self.config.iter().flat_map(|config| &config.settings.torch_libraries);
        let place = |name: &String| match Path::new(name) {
            path if path.is_absolute() => Ok(path.to_owned()),
            _ => self.required("library of operators (torchLibraries in its model config)", name),
        };
        named.map(place).collect()
    }

    /// Where a member lies, if there is one of that name.
    pub fn member(&self, name: &str) -> Option<PathBuf> {
        let name = members::member_name(name).ok()?;
        self.members.binary_search_by(|member| member.name.as_str().cmp(&name)).ok()?;
        Some(self.root.join(name))
    }

    fn read_manifest(&self) -> Result<Manifest, ArchiveError> {
        let Some(path) = self.member(MANIFEST_MEMBER) else {
            return Ok(Manifest::default());
        };
        let bytes = fs::read(&path).map_err(|e| io("read", &path, e))?;
        let text = String::from_utf8(bytes).map_err(|_| ArchiveError::BadManifest {
            archive: self.source.clone(),
            detail: "it is not UTF-8".to_owned(),
        })?;
        Manifest::parse(&text, &self.source)
    }

    fn read_config(&self) -> Result<Option<ModelConfig>, ArchiveError> {
        let file = self.named("config file", self.manifest.model.config_file.as_deref())?;
        file.map(|file| ModelConfig::read(&file)).transpose()
    }

    fn named(&self, role: &'static str, name: Option<&str>) -> Result<Option<PathBuf>, ArchiveError> {
        name.map(|name| self.required(role, name)).transpose()
    }

    fn required(&self, role: &'static str, name: &str) -> Result<PathBuf, ArchiveError> {
        self.member(name).ok_or_else(|| ArchiveError::MissingMember {
            archive: self.source.clone(),
            role,
            member: name.to_owned(),
            present: listing(&self.members),
        })
    }
}

/// The files of a folder that is a package, sorted by name, without reading them.
pub fn files_of(folder: &Path) -> Result<Vec<Found>, ArchiveError> {
    members::walk(&folder_root(folder)?)
}

/// If all that a folder has is one folder, that one is meant, as in TorchServe.
fn folder_root(source: &Path) -> Result<PathBuf, ArchiveError> {
    let mut entries = fs::read_dir(source).map_err(|e| io("read", source, e))?;
    let (Some(only), None) = (entries.next(), entries.next()) else {
        return Ok(source.to_owned());
    };
    let only = only.map_err(|e| io("read", source, e))?.path();
    let manifest_folder = only.file_name().is_some_and(|name| name == "MAR-INF");
    if only.is_dir() && !manifest_folder { Ok(only) } else { Ok(source.to_owned()) }
}

fn listing(members: &[Member]) -> String {
    const SHOWN: usize = 20;
    let mut names: Vec<&str> =
        members.iter().map(|member| member.name.as_str()).filter(|name| *name != MANIFEST_MEMBER).collect();
    let more = names.len().saturating_sub(SHOWN);
    names.truncate(SHOWN);
    match (names.is_empty(), more) {
        (true, _) => "nothing".to_owned(),
        (false, 0) => names.join(", "),
        (false, more) => format!("{} and {more} more", names.join(", ")),
    }
}

fn io(doing: &'static str, path: &Path, source: std::io::Error) -> ArchiveError {
    ArchiveError::Io { doing, path: path.to_owned(), cause: source }
}
