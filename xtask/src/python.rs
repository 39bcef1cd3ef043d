//! Python environments below the target folder, for commands that compare with what is written in Python.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;

use crate::process;
use crate::workspace;

/// An environment, and what belongs into it.
#[derive(Debug)]
pub(crate) struct Environment {
    pub(crate) folder: PathBuf,
    /// The file that lists the packages.
    pub(crate) requirements: PathBuf,
    /// Packages that are installed without those they ask for.
    pub(crate) alone: &'static [&'static str],
    /// As `PyTorch and TorchServe`.
    pub(crate) what: &'static str,
    /// Why Python is needed: sentences.
    pub(crate) why: &'static str,
}

/// The oldest minor version of Python 3 that the packages are there for.
const OLDEST: u32 = 11;

// === impl Environment ===

impl Environment {
    /// Its interpreter, with all packages installed.
    pub(crate) fn ready(&self) -> Result<PathBuf> {
        let list = &self.requirements;
        let wanted = fs::read_to_string(list).with_context(|| format!("{} can't be read", list.display()))?;
        if self.has(&wanted) {
            return Ok(self.python());
        }
        let found = self.base()?;
        println!(
            "== install {} for Python (once; about 3 GB with the CUDA libraries that \
             PyPI's torch asks for)\n\
             They go to {}, and nowhere else.\n\
             Less: PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu has a torch without CUDA, \
             --python names an interpreter that has them.",
            self.what,
            workspace::short(&self.folder)
        );
        self.install(&found)?;
        // Written last: without it the next call starts again.
        fs::write(self.record(), wanted).with_context(|| format!("{} can't be written", self.record().display()))?;
        Ok(self.python())
    }

    fn python(&self) -> PathBuf {
        self.folder.join("bin/python")
    }

    fn install(&self, python: &Path) -> Result<()> {
        let mut venv = Command::new(python);
        venv.args(["-m", "venv", "--clear"]).arg(&self.folder);
        process::run(&mut venv)
            .context("on Debian and Ubuntu, `apt-get install python3-venv` brings what is missing")?;
        let pip = |arguments: &[&OsStr]| {
            let mut pip = Command::new(self.python());
            pip.args(["-m", "pip", "install", "--no-input", "--disable-pip-version-check"]).args(arguments);
            process::run(&mut pip).context(
                "pip couldn't install the packages. Without a network: --python PROGRAM takes an interpreter that has \
                 them. Behind a proxy, set HTTPS_PROXY; `python3 -m pip config list` shows which index is asked",
            )
        };
        pip(&["--requirement".as_ref(), self.requirements.as_os_str()])?;
        let alone: Vec<&OsStr> =
            std::iter::once("--no-deps").chain(self.alone.iter().copied()).map(OsStr::new).collect();
        pip(&alone)
    }

    /// Whether all of this list was installed.
    fn has(&self, wanted: &str) -> bool {
        self.python().exists() && fs::read_to_string(self.record()).is_ok_and(|installed| installed == wanted)
    }

    fn record(&self) -> PathBuf {
        self.folder.join("installed.txt")
    }

    /// A python3 that the packages are there for.
    fn base(&self) -> Result<PathBuf> {
        let search = env::var_os("PATH").unwrap_or_default();
        let Some(program) = process::find_program(OsStr::new("python3"), &search) else {
            bail!(
                "there is no python3 on PATH. {} Install python3 (3.{OLDEST} or newer), or name one with --python",
                self.why
            )
        };
        let output = Command::new(&program).arg("--version").output();
        let said = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        match minor_version(&said) {
            Some(minor) if minor >= OLDEST => Ok(program),
            _ => bail!(
                "{} is {}, and the packages need Python 3.{OLDEST} or newer; name one with --python",
                program.display(),
                if said.is_empty() { "no Python that starts" } else { said.trim() }
            ),
        }
    }
}

/// From `Python 3.11.7`.
fn minor_version(said: &str) -> Option<u32> {
    said.strip_prefix("Python 3.")?.split('.').next()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environment_counts_once_it_is_whole_and_for_its_list() {
        let target = tempfile::tempdir().unwrap();
        let environment = Environment {
            folder: target.path().join("env"),
            requirements: PathBuf::new(),
            alone: &[],
            what: "",
            why: "",
        };
        fs::create_dir_all(environment.folder.join("bin")).unwrap();
        fs::write(environment.python(), "").unwrap();
        assert!(!environment.has("torch==2.11.0\n"));
        fs::write(environment.record(), "torch==2.11.0\n").unwrap();
        assert!(environment.has("torch==2.11.0\n"));
        assert!(!environment.has("torch==2.12.0\n"));
    }

    #[test]
    fn the_version_is_read_from_what_python_says() {
        assert_eq!(minor_version("Python 3.11.7\n"), Some(11));
        assert_eq!(minor_version("Python 3.14\n"), Some(14));
        assert_eq!(minor_version("Python 2.7.18\n"), None);
        assert_eq!(minor_version(""), None);
    }
}
