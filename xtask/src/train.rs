//! `train-mnist`: the trainer, writing to where the demo and the tests look.

use std::ffi::OsString;

use anyhow::Result;

use crate::{process, setup};

const OUT: &str = "model-store/mnist";

/// Trains; arguments of the user's own come last and win.
pub(crate) fn run(arguments: Vec<OsString>) -> Result<()> {
    setup::run()?;
    process::run(
        process::cargo()
            .args(["run", "--release", "-p", "mnist-trainer", "--", "train"])
            .args(with_defaults(arguments)),
    )
}

fn with_defaults(arguments: Vec<OsString>) -> Vec<OsString> {
    let chosen = arguments.iter().any(|argument| {
        let argument = argument.to_string_lossy();
        argument == "--out" || argument.starts_with("--out=") || argument == "--help"
    });
    if chosen {
        return arguments;
    }
    ["--out", OUT].into_iter().map(OsString::from).chain(arguments).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_the_users_own_wins() {
        let given = |arguments: &[&str]| with_defaults(arguments.iter().map(OsString::from).collect());
        assert_eq!(given(&["--epochs", "1"]), ["--out", OUT, "--epochs", "1"]);
        assert_eq!(given(&["--out", "/x"]), ["--out", "/x"]);
        assert_eq!(given(&["--out=/x"]), ["--out=/x"]);
    }
}
