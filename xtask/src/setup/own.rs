//! A libtorch of the user's own: checked, never changed.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use super::{LIBTORCH, LINK};

/// The folder that the user's LIBTORCH names.
#[derive(Debug)]
pub(crate) struct OwnLibtorch {
    folder: PathBuf,
}

// === impl OwnLibtorch ===

impl OwnLibtorch {
    /// `None` when the variable is unset, empty, or only what .cargo/config.toml gives everyone.
    pub(crate) fn from_environment(value: Option<OsString>, root: &Path) -> Option<Self> {
        let folder = PathBuf::from(value.filter(|value| !value.is_empty())?);
        if is_link_of(&folder, root) {
            return None;
        }
        Some(Self { folder })
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// That the build will find what it needs, in the version it needs.
    pub(crate) fn check(&self) -> Result<()> {
        let folder = self.folder.display();
        let advice = format!(
            "Set LIBTORCH to the folder of a libtorch {LIBTORCH}, or unset it: \
             then `cargo xtask setup` fetches one"
        );
        if self.folder.is_relative() {
            bail!(
                "LIBTORCH={folder} is a relative path, and each build script would take it from a \
                 folder of its own. Give the full path"
            );
        }
        for part in ["lib/libtorch_cpu.so", "lib/libc10.so", "include"] {
            if !self.folder.join(part).exists() {
                bail!("LIBTORCH={folder} has no {part}. {advice}");
            }
        }
        match self.version() {
            Some(version) if version == LIBTORCH => Ok(()),
            Some(version) => bail!(
                "LIBTORCH={folder} holds libtorch {version}, and the build needs {LIBTORCH} \
                 exactly. {advice}"
            ),
            None => bail!(
                "LIBTORCH={folder} doesn't say its version: it has neither build-version nor \
                 include/torch/headeronly/version.h. {advice}"
            ),
        }
    }

    /// From the file of libtorch's own archives, else from a header, as in an installed package.
    fn version(&self) -> Option<String> {
        if let Ok(text) = fs::read_to_string(self.folder.join("build-version")) {
            return Some(release(text.trim()));
        }
        let header = self.folder.join("include/torch/headeronly/version.h");
        version_in_header(&fs::read_to_string(header).ok()?)
    }
}

/// Compared by the parent's real path: the repository may be reached through links.
fn is_link_of(folder: &Path, root: &Path) -> bool {
    let parent = folder.parent().and_then(|parent| parent.canonicalize().ok());
    folder.file_name().is_some_and(|name| name == LINK) && parent.is_some() && parent == root.canonicalize().ok()
}

/// `2.11.0+cu130` is release 2.11.0.
fn release(version: &str) -> String {
    version.split('+').next().unwrap_or(version).to_owned()
}

fn version_in_header(header: &str) -> Option<String> {
    let part = |name: &str| {
        header
            .lines()
            .filter_map(|line| line.strip_prefix("#define "))
            .find_map(|line| line.strip_prefix(name))
            .map(str::trim)
    };
    Some(format!(
        "{}.{}.{}",
        part("TORCH_VERSION_MAJOR ")?,
        part("TORCH_VERSION_MINOR ")?,
        part("TORCH_VERSION_PATCH ")?
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_repository_sets_itself_is_not_the_users() {
        let root = tempfile::tempdir().unwrap();
        let own = |value: &Path| OwnLibtorch::from_environment(Some(value.as_os_str().to_owned()), root.path());
        assert!(own(&root.path().join(LINK)).is_none());
        assert!(own(&root.path().join("../").join(root.path().file_name().unwrap()).join(LINK)).is_none());
        assert!(own(Path::new("")).is_none());
        assert!(OwnLibtorch::from_environment(None, root.path()).is_none());
        assert!(own(Path::new("/opt/libtorch")).is_some());
    }

    #[test]
    fn a_folder_is_refused_with_what_it_lacks() {
        let folder = tempfile::tempdir().unwrap();
        let own = OwnLibtorch { folder: folder.path().to_owned() };
        let refusal = || own.check().unwrap_err().to_string();

        assert!(refusal().contains("no lib/libtorch_cpu.so"), "{}", refusal());
        fs::create_dir_all(folder.path().join("lib")).unwrap();
        fs::create_dir_all(folder.path().join("include/torch/headeronly")).unwrap();
        fs::write(folder.path().join("lib/libtorch_cpu.so"), "").unwrap();
        fs::write(folder.path().join("lib/libc10.so"), "").unwrap();
        assert!(refusal().contains("doesn't say its version"), "{}", refusal());

        let header = folder.path().join("include/torch/headeronly/version.h");
        fs::write(
            header,
            "/// x\n#define TORCH_VERSION_MAJOR 2\n#define TORCH_VERSION_MINOR 11\n#define TORCH_VERSION_PATCH 0\n",
        )
        .unwrap();
        own.check().unwrap();

        fs::write(folder.path().join("build-version"), "2.10.0+cpu\n").unwrap();
        assert!(refusal().contains("holds libtorch 2.10.0"), "{}", refusal());
        fs::write(folder.path().join("build-version"), "2.11.0+cu130\n").unwrap();
        own.check().unwrap();
    }
}
