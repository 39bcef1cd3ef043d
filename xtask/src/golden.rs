//! `golden`: the numbers of TorchServe's own handlers, made anew in a Python environment of their own.
//!
//! The environment goes below the target folder; only what `tests/golden/make` writes is committed.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;
use clap::Args;

use crate::process;
use crate::python::Environment;
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

const MAKE: &str = "tests/golden/make";
const REQUIREMENTS: &str = "tests/golden/make/requirements.txt";

/// Its handlers need less than the package asks for.
const TORCHSERVE: &str = "torchserve==0.12.0";

/// Makes the golden numbers, or compares them.
pub(crate) fn run(golden: &Golden) -> Result<()> {
    let root = workspace::root();
    let python = match &golden.python {
        Some(python) => python.clone(),
        None => Environment {
            folder: workspace::target_folder()?.join("golden/env"),
            requirements: root.join(REQUIREMENTS),
            alone: &[TORCHSERVE],
            what: "PyTorch, TorchServe and Captum",
            why: "The golden numbers come from TorchServe's own handlers, which are Python; tests compare without it.",
        }
        .ready()?,
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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

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
