//! Where a project takes handler-sdk from.

use std::fmt;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context as _;
use handler_sdk::abi::SDK_VERSION;

/// The project's dependency.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Sdk {
    /// The folder of the crate, absolute.
    Path(PathBuf),
    /// The same, of the checkout that this program was built from.
    OwnCheckout(PathBuf),
    /// From cargo's registry.
    Version(String),
}

/// The crate beside this one when it was compiled. The program may run elsewhere, where it isn't.
const BESIDE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../handler-sdk");

// === impl Sdk ===

impl Sdk {
    /// Reads the flag: what looks like a version is one, all else is a folder.
    pub(super) fn from_flag(text: &str) -> anyhow::Result<Self> {
        if is_version(text) {
            return Ok(Self::Version(text.to_owned()));
        }
        crate_folder(Path::new(text)).map(Self::Path).with_context(|| {
            format!("--sdk {text}: give the folder handler-sdk of a checkout of Sconce, or a version, as {SDK_VERSION}")
        })
    }

    /// What goes behind `handler-sdk =` in `Cargo.toml`.
    pub(super) fn dependency(&self, features: &[&str]) -> anyhow::Result<String> {
        let source = match self {
            Self::Path(path) | Self::OwnCheckout(path) => format!("path = {}", quoted(path)?),
            Self::Version(version) => format!("version = \"{version}\""),
        };
        Ok(match features {
            [] => format!("{{ {source} }}"),
            _ => format!("{{ {source}, features = {features:?} }}"),
        })
    }

    /// The libtorch that `cargo xtask setup` has put into the same checkout.
    pub(super) fn libtorch(&self) -> Option<PathBuf> {
        let (Self::Path(path) | Self::OwnCheckout(path)) = self else { return None };
        // Not resolved: the link stays right when setup fetches another.
        let folder = path.parent()?.join(".libtorch");
        folder.join("lib").is_dir().then_some(folder)
    }

    /// For the project's `README.md`.
    pub(super) fn about(&self) -> String {
        match self {
            Self::Path(path) | Self::OwnCheckout(path) => format!(
                "From `{}`, as `Cargo.toml` says; on another machine, give its `path` there.\n\
                 A server takes handlers whose handler-sdk has its own major version, and a minor version that isn't above its own.",
                path.display()
            ),
            Self::Version(version) => format!(
                "Version {version} from cargo's registry, as `Cargo.toml` says; \
                 `handler-sdk = {{ path = \"…/sconce/handler-sdk\" }}` takes that of a checkout.\n\
                 A server takes handlers whose handler-sdk has its own major version, and a minor version that isn't above its own.",
            ),
        }
    }
}

impl Default for Sdk {
    /// The checkout that this program was built from, or the version that it was built with.
    fn default() -> Self {
        crate_folder(Path::new(BESIDE)).map_or_else(|_| Self::Version(SDK_VERSION.to_owned()), Self::OwnCheckout)
    }
}

impl fmt::Display for Sdk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::OwnCheckout(path) => write!(f, "{} (this sconce was built there)", path.display()),
            Self::Version(version) => write!(f, "version {version} from cargo's registry"),
        }
    }
}

/// A path as a string of TOML, of whose escapes those of JSON are a part.
pub(super) fn quoted(path: &Path) -> anyhow::Result<String> {
    let text = path.to_str().with_context(|| format!("{} is not UTF-8, as Cargo.toml has to be", path.display()))?;
    Ok(serde_json::Value::from(text).to_string())
}

/// `1`, `1.0`, `1.0.0` or `1.0.0-beta.1`, with a comparison such as `=` before it.
fn is_version(text: &str) -> bool {
    let bare = text.trim_start_matches(['=', '^', '~']);
    let (numbers, rest) = bare.split_once('-').unwrap_or((bare, "0"));
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    numbers.split('.').count() <= 3
        && numbers.split('.').all(is_number)
        && !rest.is_empty()
        && rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'))
}

/// The folder's absolute path, if it holds the crate handler-sdk.
fn crate_folder(folder: &Path) -> anyhow::Result<PathBuf> {
    let folder = folder.canonicalize().with_context(|| format!("can't open the folder {}", folder.display()))?;
    let manifest = folder.join("Cargo.toml");
    let text = fs::read_to_string(&manifest).with_context(|| format!("can't read {}", manifest.display()))?;
    anyhow::ensure!(is_handler_sdk(&text), "{} is not that of a package named handler-sdk", manifest.display());
    Ok(folder)
}

/// Whether a manifest's `[package]` has that name, in the form in which it is always written.
fn is_handler_sdk(manifest: &str) -> bool {
    let lines = manifest.lines().map(str::trim).skip_while(|line| *line != "[package]").skip(1);
    let mut names = lines.take_while(|line| !line.starts_with('[')).filter_map(|line| line.split_once('='));
    names.any(|(key, value)| key.trim() == "name" && value.trim() == "\"handler-sdk\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_and_folders_are_told_apart() {
        for version in ["1", "1.0", "1.0.0", "=1.0.0", "^1", "1.0.0-beta.1"] {
            assert_eq!(Sdk::from_flag(version).unwrap(), Sdk::Version(version.to_owned()));
        }
        for folder in ["", "./1.0", "1.0.0.0", "1.", "1.0-", "handler-sdk-1.0", "a\"b"] {
            assert!(!is_version(folder), "{folder}");
        }
    }

    #[test]
    fn the_folder_must_hold_the_sdk() {
        let folder = tempfile::tempdir().unwrap();
        let complaint = || format!("{:#}", Sdk::from_flag(folder.path().to_str().unwrap()).unwrap_err());
        assert!(complaint().contains("can't read"), "{}", complaint());
        for text in ["[package]\nname = \"sconce\"\n", "[package]\n[lib]\nname = \"handler-sdk\"\n"] {
            fs::write(folder.path().join("Cargo.toml"), text).unwrap();
            assert!(complaint().contains("is not that of a package named handler-sdk"), "{}", complaint());
        }
        assert!(complaint().contains("or a version, as 1."), "{}", complaint());
        fs::write(folder.path().join("Cargo.toml"), "[package]\nversion = \"1\"\nname = \"handler-sdk\"\n").unwrap();
        let sdk = Sdk::from_flag(folder.path().to_str().unwrap()).unwrap();
        assert_eq!(sdk, Sdk::Path(folder.path().canonicalize().unwrap()));
    }

    #[test]
    fn the_dependency_is_one_line_of_toml() {
        let sdk = Sdk::Path(PathBuf::from("/a \"b\"\\c"));
        assert_eq!(sdk.dependency(&[]).unwrap(), r#"{ path = "/a \"b\"\\c" }"#);
        let sdk = Sdk::Version("1.0".to_owned());
        assert_eq!(sdk.dependency(&["tch"]).unwrap(), r#"{ version = "1.0", features = ["tch"] }"#);
    }

    #[test]
    fn the_checkout_s_libtorch_is_found_where_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let sdk = Sdk::Path(folder.path().join("handler-sdk"));
        assert_eq!(sdk.libtorch(), None);
        fs::create_dir_all(folder.path().join(".libtorch/lib")).unwrap();
        assert_eq!(sdk.libtorch(), Some(folder.path().join(".libtorch")));
        assert_eq!(Sdk::Version("1.0".to_owned()).libtorch(), None);
    }
}
