//! The project: what cargo and its `Cargo.toml` say of what to build, to pack and to watch.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context as _;
use cargo_metadata::CargoOpt;
use cargo_metadata::Metadata;
use cargo_metadata::MetadataCommand;
use cargo_metadata::Package;
use cargo_metadata::TargetKind;
use serde::Deserialize;

use crate::plugin::HostBuild;
use crate::reload::Depth;
use crate::reload::Place;

/// Which project, and how it is to be built.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    /// Absolute.
    pub(super) manifest: PathBuf,
    pub(super) release: bool,
    pub(super) features: Vec<String>,
    pub(super) no_default_features: bool,
}

/// A handler project as it is now.
#[derive(Debug)]
pub(super) struct Project {
    wanted: Wanted,
    root: PathBuf,
    package_id: String,
    package: String,
    target: PathBuf,
    keys: Keys,
    /// The manifests of the project and of all that it builds from a folder.
    manifests: Vec<PathBuf>,
    sources: Vec<Place>,
    /// The crates that it builds from other folders.
    others: Vec<String>,
}

/// `[package.metadata.sconce]`: what `sconce new` writes there, and its README explains.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Keys {
    model_name: Option<String>,
    version: Option<String>,
    pub(super) handler: Option<String>,
    serialized_file: Option<PathBuf>,
    #[serde(default)]
    extra_files: Vec<String>,
    config_file: Option<PathBuf>,
}

const NEW: &str = "`sconce new NAME` makes a project that has all it needs";

/// The cargo that this was started by, if it was, or else the one in the PATH.
pub(super) fn cargo() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// The absolute path of the manifest that is meant.
pub(super) fn manifest(given: Option<&Path>) -> anyhow::Result<PathBuf> {
    let here = std::env::current_dir().context("can't tell the current folder")?;
    let Some(given) = given else {
        let found = here.ancestors().map(|folder| folder.join("Cargo.toml")).find(|path| path.is_file());
        return found.with_context(|| {
            format!(
                "no Cargo.toml in {} or above it: go to a handler project, or name its Cargo.toml with --manifest-path; {NEW}",
                here.display()
            )
        });
    };
    let manifest = if given.is_dir() { given.join("Cargo.toml") } else { given.to_owned() };
    anyhow::ensure!(manifest.is_file(), "--manifest-path {}: there is no such file; {NEW}", given.display());
    // Not resolved: the folder goes by the name that its owner has given it.
    Ok(here.join(manifest))
}

// === impl Project ===

impl Project {
    /// Asks cargo, which may have to fetch what the project stands on, and says so on standard error.
    pub(super) fn read(wanted: Wanted) -> anyhow::Result<Self> {
        let metadata = metadata(&wanted)?;
        let shown = wanted.manifest.display();
        let package = metadata.root_package().with_context(|| {
            format!("{shown} is that of a workspace: go to a handler project in it, or name its Cargo.toml with --manifest-path")
        })?;
        let keys = package.metadata.get("sconce").with_context(|| {
            format!("{shown} has no [package.metadata.sconce], which says what to pack: add it, if only with model-name = {:?}; {NEW}", package.name.as_str())
        })?;
        let keys = Keys::deserialize(keys).with_context(|| format!("[package.metadata.sconce] of {shown}"))?;
        let is_library = package.targets.iter().any(|target| target.is_kind(TargetKind::CDyLib));
        anyhow::ensure!(
            is_library,
            "{shown} makes no shared library, which is what a server opens: add crate-type = [\"cdylib\"] to its [lib]; {NEW}"
        );
        let root = wanted.manifest.parent().unwrap_or(Path::new("/")).to_owned();
        let local = local(&metadata, package);
        let others = local.iter().filter(|other| other.id != package.id);
        Ok(Self {
            package_id: package.id.repr.clone(),
            package: package.name.to_string(),
            target: metadata.target_directory.clone().into_std_path_buf(),
            keys,
            manifests: manifests(&metadata, &local),
            sources: sources(&metadata, &local, &root),
            others: others.map(|other| other.name.to_string()).collect(),
            root,
            wanted,
        })
    }

    /// The same project, as it is by now.
    pub(super) fn read_again(&self) -> anyhow::Result<Self> {
        Self::read(self.wanted.clone())
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn manifest(&self) -> &Path {
        &self.wanted.manifest
    }

    pub(super) fn package_id(&self) -> &str {
        &self.package_id
    }

    /// How cargo is to build it.
    pub(super) fn flags(&self) -> Vec<String> {
        let mut flags = Vec::new();
        flags.extend(self.wanted.release.then(|| "--release".to_owned()));
        flags.extend(self.wanted.no_default_features.then(|| "--no-default-features".to_owned()));
        if !self.wanted.features.is_empty() {
            flags.extend(["--features".to_owned(), self.wanted.features.join(",")]);
        }
        flags
    }

    pub(super) fn keys(&self) -> &Keys {
        &self.keys
    }

    pub(super) fn model_name(&self) -> &str {
        self.keys.model_name.as_deref().unwrap_or(&self.package)
    }

    pub(super) fn version(&self) -> &str {
        self.keys.version.as_deref().unwrap_or("1.0")
    }

    /// What follows the address in the `curl` of the project's own README.md, if it shows one.
    pub(super) fn sample_request(&self) -> Option<String> {
        let text = fs::read_to_string(self.root.join("README.md")).ok()?;
        let line = text.lines().find(|line| line.starts_with("curl http") && line.contains("/predictions/"))?;
        let (_, rest) = line.split_once("/predictions/")?;
        Some(rest[rest.find(' ')?..].to_owned())
    }

    pub(super) fn serialized_file(&self) -> Option<PathBuf> {
        self.keys.serialized_file.as_ref().map(|file| self.root.join(file))
    }

    pub(super) fn config_file(&self) -> Option<PathBuf> {
        self.keys.config_file.as_ref().map(|file| self.root.join(file))
    }

    /// As the archiver reads them: with commas between them.
    pub(super) fn extra_files(&self) -> String {
        let files = self.keys.extra_files.iter().map(|file| self.root.join(file).to_string_lossy().into_owned());
        files.collect::<Vec<_>>().join(",")
    }

    pub(super) fn target(&self) -> &Path {
        &self.target
    }

    /// Where the archive is packed to.
    pub(super) fn store(&self) -> PathBuf {
        self.folder().join("store")
    }

    /// Where the library is copied to.
    pub(super) fn plugins(&self) -> PathBuf {
        self.folder().join("plugins")
    }

    /// Makes the two, without what an earlier session has left in them.
    pub(super) fn make_folders(&self) -> anyhow::Result<()> {
        for folder in [self.store(), self.plugins()] {
            let failed = || format!("can't make the folder {} anew", folder.display());
            if folder.exists() {
                fs::remove_dir_all(&folder).with_context(failed)?;
            }
            fs::create_dir_all(&folder).with_context(failed)?;
        }
        Ok(())
    }

    pub(super) fn manifests(&self) -> &[PathBuf] {
        &self.manifests
    }

    /// All that is packed, but for the library.
    pub(super) fn packed(&self) -> Vec<Place> {
        let files = [self.serialized_file(), self.config_file()];
        let files = files.into_iter().flatten().map(|path| Place { path, depth: Depth::Tree });
        files.chain(self.keys.extra_files.iter().map(|file| extra_place(&self.root, file))).collect()
    }

    /// All whose change asks for a new look.
    pub(super) fn places(&self) -> Vec<Place> {
        self.sources.iter().cloned().chain(self.packed()).collect()
    }

    /// What is watched, for people: `src, Cargo.toml, and the crate handler-sdk`.
    pub(super) fn watched(&self) -> String {
        let places = self.places();
        let own = places.iter().filter(|place| place.path.exists());
        let own =
            own.filter_map(|place| place.path.strip_prefix(&self.root).ok()).filter(|path| *path != Path::new(""));
        let own: BTreeSet<_> = own.map(|path| path.display().to_string()).collect();
        let own = own.into_iter().collect::<Vec<_>>().join(", ");
        match self.others.as_slice() {
            [] => own,
            [one] => format!("{own}, and the crate {one}"),
            many => format!("{own}, and the crates {}", many.join(", ")),
        }
    }

    /// Below cargo's own folder, which may be that of several projects.
    fn folder(&self) -> PathBuf {
        self.target.join("sconce").join(&self.package)
    }
}

fn metadata(wanted: &Wanted) -> anyhow::Result<Metadata> {
    let mut command = MetadataCommand::new();
    command
        .cargo_path(cargo())
        .manifest_path(&wanted.manifest)
        // Else cargo would fetch what only other systems need.
        .other_options(["--filter-platform".to_owned(), HostBuild::current().target.to_owned()])
        .verbose(true);
    if let Some(root) = wanted.manifest.parent() {
        command.current_dir(root);
    }
    if !wanted.features.is_empty() {
        command.features(CargoOpt::SomeFeatures(wanted.features.clone()));
    }
    if wanted.no_default_features {
        command.features(CargoOpt::NoDefaultFeatures);
    }
    command.exec().map_err(|error| match error {
        cargo_metadata::Error::CargoMetadata { .. } => {
            anyhow::anyhow!("cargo can't read {}, and says why above", wanted.manifest.display())
        }
        cargo_metadata::Error::Io(error) => anyhow::anyhow!("can't start cargo ({error}): is it in the PATH?"),
        error => error.into(),
    })
}

/// The package and those it is built with that lie in a folder of somebody's, where they may be changed.
fn local<'a>(metadata: &'a Metadata, package: &'a Package) -> Vec<&'a Package> {
    let nodes = metadata.resolve.as_ref().map(|resolve| resolve.nodes.as_slice()).unwrap_or_default();
    let mut found = vec![package];
    let mut next = 0;
    while let Some(package) = found.get(next) {
        next += 1;
        let node = nodes.iter().find(|node| node.id == package.id);
        for id in node.iter().flat_map(|node| &node.dependencies) {
            let known = found.iter().any(|other| other.id == *id);
            let other = metadata.packages.iter().find(|other| other.id == *id && other.source.is_none());
            found.extend(other.filter(|_| !known));
        }
    }
    found
}

fn manifests(metadata: &Metadata, local: &[&Package]) -> Vec<PathBuf> {
    let mut manifests: Vec<_> = local.iter().map(|package| package.manifest_path.clone().into_std_path_buf()).collect();
    let workspace = metadata.workspace_root.as_std_path();
    manifests.extend(["Cargo.toml", "Cargo.lock"].map(|name| workspace.join(name)));
    manifests.sort();
    manifests.dedup();
    manifests
}

/// The sources of these packages, and what cargo reads besides.
fn sources(metadata: &Metadata, local: &[&Package], root: &Path) -> Vec<Place> {
    let file = |path| Place { path, depth: Depth::Entries };
    let mut places: Vec<_> = manifests(metadata, local).into_iter().map(file).collect();
    for folder in [root, metadata.workspace_root.as_std_path()] {
        places.extend([".cargo/config.toml", "rust-toolchain.toml"].map(|name| file(folder.join(name))));
    }
    let kinds = [TargetKind::Lib, TargetKind::RLib, TargetKind::CDyLib, TargetKind::ProcMacro, TargetKind::CustomBuild];
    for package in local {
        let folder = package.manifest_path.parent();
        for target in package.targets.iter().filter(|target| target.kind.iter().any(|kind| kinds.contains(kind))) {
            let source = &target.src_path;
            places.push(match source.parent() {
                // A root file beside Cargo.toml: all else that lies there is no source.
                Some(parent) if Some(parent) != folder => {
                    Place { path: parent.as_std_path().to_owned(), depth: Depth::Tree }
                }
                _ => file(source.clone().into_std_path_buf()),
            });
        }
    }
    places.sort();
    places.dedup();
    places
}

/// The folder in which an entry of `extra-files` finds its files: up to its first pattern.
fn extra_place(root: &Path, file: &str) -> Place {
    let is_plain = |part: &&std::ffi::OsStr| !part.to_string_lossy().contains(['*', '?', '[']);
    let given = root.join(file);
    let plain: PathBuf = if given.exists() { given.clone() } else { given.iter().take_while(is_plain).collect() };
    // Of the project's own folder only a pattern's first level counts: all else that it holds is sources and what is built.
    let depth = if plain != given && plain == root { Depth::Entries } else { Depth::Tree };
    Place { path: plain, depth }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extra_files_are_watched_where_they_come_from() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir_all(root.join("data/[1]")).unwrap();
        for (file, path, depth) in [
            ("labels.json", "labels.json", Depth::Tree),
            ("data", "data", Depth::Tree),
            ("data/*.json", "data", Depth::Tree),
            // A name that is there is no pattern, as the archiver has it.
            ("data/[1]", "data/[1]", Depth::Tree),
        ] {
            assert_eq!(extra_place(root, file), Place { path: root.join(path), depth }, "{file}");
        }
        let pattern = extra_place(root, "*.txt");
        assert_eq!((pattern.path.as_path(), pattern.depth), (root, Depth::Entries));
    }

    #[test]
    fn a_key_that_is_mistaken_is_named() {
        let read = |json: serde_json::Value| Keys::deserialize(&json).map_err(|error| error.to_string());
        let keys = read(serde_json::json!({"handler": "shout", "extra-files": ["a", "b"]})).unwrap();
        assert_eq!((keys.handler.as_deref(), keys.extra_files.len()), (Some("shout"), 2));
        let complaint = read(serde_json::json!({"model_name": "shout"})).unwrap_err();
        assert!(complaint.contains("`model_name`") && complaint.contains("`model-name`"), "{complaint}");
    }
}
