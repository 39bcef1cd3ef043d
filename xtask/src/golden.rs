//! `golden`: the numbers of TorchServe's own handlers, made anew in a Python environment of their own.
//!
//! The environment goes below the target folder; only what `tests/golden/make` writes is committed.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use clap::Args;

use crate::process;
use crate::workspace;

#[derive(Debug, Args)]
pub(crate) struct Golden {
    /// Write nothing: make it in a temporary folder, and compare with what is committed.
    #[arg(long)]
    check: bool,

    /// An interpreter that has the packages already; nothing is installed then.
    #[arg(long, value_name = "PROGRAM")]
    python: Option<PathBuf>,
}

/// An environment of Python below the target folder.
#[derive(Debug)]
struct Environment {
    folder: PathBuf,
}

const MAKE: &str = "tests/golden/make";
const REQUIREMENTS: &str = "tests/golden/make/requirements.txt";

/// Its handlers need less than the package asks for.
const TORCHSERVE: &str = "torchserve==0.12.0";

/// The oldest minor version of Python 3 that the packages are there for.
const OLDEST: u32 = 11;

/// Makes the golden numbers, or compares them.
pub(crate) fn run(golden: &Golden) -> Result<()> {
    let root = workspace::root();
    let python = match &golden.python {
        Some(python) => python.clone(),
        None => Environment::below(&workspace::target_folder()?).ready(&root)?,
    };
    println!("\n== {}", if golden.check { "make them anew, and compare" } else { "make them" });
    let mut make = Command::new(python);
    make.current_dir(&root).arg(MAKE).env("PYTHONDONTWRITEBYTECODE", "1");
    if golden.check {
        make.arg("--check");
    }
    process::run(&mut make)?;
    if !golden.check {
        println!(
            "Next: `git diff --stat tests/golden` shows what changed, `cargo xtask test -- golden` compares the server."
        );
    }
    Ok(())
}

// === impl Environment ===

impl Environment {
    fn below(target: &Path) -> Self {
        Self { folder: target.join("golden/env") }
    }

    fn python(&self) -> PathBuf {
        self.folder.join("bin/python")
    }

    /// Its interpreter, with all packages installed.
    fn ready(&self, root: &Path) -> Result<PathBuf> {
        let list = root.join(REQUIREMENTS);
        let wanted = fs::read_to_string(&list).with_context(|| format!("{} can't be read", list.display()))?;
        if self.has(&wanted) {
            return Ok(self.python());
        }
        let found = python()?;
        println!(
            "== install PyTorch, TorchServe and Captum for Python (once; about 3 GB with the CUDA libraries that \
             PyPI's torch asks for)\n\
             They go to {}, and nowhere else.\n\
             Less: PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu has a torch without CUDA, \
             --python names an interpreter that has them.",
            workspace::short(&self.folder)
        );
        self.install(&found, &list)?;
        // Written last: without it the next call starts again.
        fs::write(self.record(), wanted).with_context(|| format!("{} can't be written", self.record().display()))?;
        Ok(self.python())
    }

    fn install(&self, python: &Path, list: &Path) -> Result<()> {
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
        pip(&["--requirement".as_ref(), list.as_os_str()])?;
        pip(&["--no-deps".as_ref(), TORCHSERVE.as_ref()])
    }

    /// Whether all of this list was installed.
    fn has(&self, wanted: &str) -> bool {
        self.python().exists() && fs::read_to_string(self.record()).is_ok_and(|installed| installed == wanted)
    }

    fn record(&self) -> PathBuf {
        self.folder.join("installed.txt")
    }
}

/// A python3 that the packages are there for.
fn python() -> Result<PathBuf> {
    let search = env::var_os("PATH").unwrap_or_default();
    let Some(program) = process::find_program(OsStr::new("python3"), &search) else {
        bail!(
            "there is no python3 on PATH. The golden numbers come from TorchServe's own handlers, which are Python; \
             tests compare without it. Install python3 (3.{OLDEST} or newer), or name one with --python"
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
        let environment = Environment::below(target.path());
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

    #[test]
    fn what_the_program_needs_is_what_is_installed() {
        let source = fs::read_to_string(workspace::root().join(MAKE).join("__main__.py")).unwrap();
        let list = fs::read_to_string(workspace::root().join(REQUIREMENTS)).unwrap();
        let installed: Vec<&str> = list.lines().chain([TORCHSERVE]).collect();
        let (_, pins) = source.split_once("PINS = {").unwrap();
        let (pins, _) = pins.split_once('}').unwrap();
        let pins: Vec<String> = pins
            .lines()
            .filter_map(|line| line.trim().trim_end_matches(',').split_once(": "))
            .map(|(name, version)| format!("{}=={}", name.trim_matches('"'), version.trim_matches('"')))
            .collect();
        assert_eq!(pins.len(), 5, "{pins:?}");
        for pin in pins {
            assert!(installed.contains(&pin.as_str()), "{pin} is not installed by this command");
        }
    }
}
