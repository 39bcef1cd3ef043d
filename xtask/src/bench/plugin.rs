//! A built plugin, of which any number of other builds can be made without a compiler.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;

use crate::archive::Archive;
use crate::process;
use crate::workspace;

/// The plugin, and the archive that names it.
#[derive(Debug)]
pub(super) struct Plugin {
    pub(super) archive: Archive,
    pub(super) file_name: String,
    content: Vec<u8>,
    mark: Option<Mark>,
    /// Of the build that was made last; 0 is the one that the compiler made.
    number: u32,
}

/// A build of it.
#[derive(Debug)]
pub(super) struct Build {
    pub(super) bytes: Vec<u8>,
    /// What its answers begin with, where the plugin tells.
    pub(super) mark: Option<String>,
}

/// Where the digits stand that tell the build.
#[derive(Debug)]
struct Mark(usize);

const MARK: &str = "sconce-build-";
const FIRST_MARK: &str = "sconce-build-000";
/// Three digits of it, the first build left out.
const MARKED_BUILDS: u32 = 999;

/// The package of `tests/fixtures/handlers` that answers with its mark.
const TELLER: &str = "tells-its-build";

// === impl Plugin ===

impl Plugin {
    /// Of this workspace, as it was built for release.
    pub(super) fn load(programs: &Path, archive: Archive) -> Result<Self> {
        let file_name = format!("lib{}.so", archive.handler);
        let path = programs.join(&file_name);
        let content = fs::read(&path)
            .with_context(|| format!("{} can't be read; without --no-build it is built first", path.display()))?;
        Ok(Self { archive, file_name, content, mark: None, number: 0 })
    }

    /// The one whose answers tell the build.
    pub(super) fn load_teller(programs: &Path, archive: Archive) -> Result<Self> {
        let mut plugin = Self::load(programs, archive)?;
        plugin.mark = Some(Mark::in_content(&plugin.content)?);
        Ok(plugin)
    }

    /// Builds that one, into a target folder of the bench's own.
    pub(super) fn build_teller(target: &Path) -> Result<()> {
        let mut cargo = process::cargo();
        cargo.current_dir(workspace::root().join("tests/fixtures/handlers"));
        process::run(cargo.args(["build", "--release", "--locked", "-p", TELLER, "--target-dir"]).arg(target))
    }

    /// Where it then lies.
    pub(super) fn teller_folder(target: &Path) -> PathBuf {
        target.join("release")
    }

    pub(super) fn model(&self) -> &'static str {
        self.archive.model
    }

    /// Whether its answers do.
    pub(super) fn tells_its_build(&self) -> bool {
        self.mark.is_some()
    }

    /// What the compiler made.
    pub(super) fn first(&self) -> &[u8] {
        &self.content
    }

    /// A build that nobody has seen yet.
    pub(super) fn next(&mut self) -> Result<Build> {
        self.number += 1;
        let mut bytes = self.content.clone();
        let mark = match &self.mark {
            Some(_) if self.number > MARKED_BUILDS => bail!("{TELLER} has no more than {MARKED_BUILDS} builds"),
            Some(Mark(place)) => {
                let mark = format!("{MARK}{:03}", self.number);
                bytes[*place..*place + mark.len()].copy_from_slice(mark.as_bytes());
                Some(mark)
            }
            None => {
                // Nobody reads what stands behind the end, but it is another digest.
                bytes.extend_from_slice(format!("{MARK}{}", self.number).as_bytes());
                None
            }
        };
        Ok(Build { bytes, mark })
    }
}

impl Mark {
    fn in_content(content: &[u8]) -> Result<Self> {
        let mark = FIRST_MARK.as_bytes();
        let places: Vec<usize> = content
            .windows(mark.len())
            .enumerate()
            .filter(|(_, window)| *window == mark)
            .map(|(place, _)| place)
            .collect();
        match places.as_slice() {
            [place] => Ok(Self(*place)),
            _ => bail!("{TELLER} should hold {FIRST_MARK} once, and holds it {} times", places.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARCHIVE: Archive = Archive { model: "teller", handler: "teller", serialized_file: None };

    fn folder_with(content: &[u8]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("libteller.so"), content).unwrap();
        folder
    }

    #[test]
    fn every_build_is_another() {
        let folder = folder_with(b"code");
        let mut plugin = Plugin::load(folder.path(), ARCHIVE).unwrap();
        let (one, two) = (plugin.next().unwrap(), plugin.next().unwrap());
        assert!(one.bytes.starts_with(b"code") && one.bytes.len() > 4);
        assert_ne!(one.bytes, two.bytes);
        assert_eq!((plugin.first(), one.mark), (b"code".as_slice(), None));
    }

    #[test]
    fn a_build_that_tells_has_other_digits_in_the_same_place() {
        let folder = folder_with(b"code sconce-build-000 more");
        let mut plugin = Plugin::load_teller(folder.path(), ARCHIVE).unwrap();
        plugin.next().unwrap();
        let two = plugin.next().unwrap();
        assert_eq!(two.bytes, b"code sconce-build-002 more");
        assert_eq!(two.mark.as_deref(), Some("sconce-build-002"));
        plugin.number = MARKED_BUILDS;
        assert!(plugin.next().unwrap_err().to_string().contains("no more than 999"));
    }

    #[test]
    fn what_cant_tell_is_said() {
        let folder = folder_with(b"sconce-build-000 sconce-build-000");
        let message = Plugin::load_teller(folder.path(), ARCHIVE).unwrap_err().to_string();
        assert!(message.ends_with("holds it 2 times"), "{message}");
        let message = Plugin::load(&folder.path().join("none"), ARCHIVE).unwrap_err().to_string();
        assert!(message.contains("libteller.so can't be read; without --no-build"), "{message}");
    }
}
