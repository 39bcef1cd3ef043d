//! The load generators: found, or installed once.

use std::env;
use std::ffi::OsStr;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;

use crate::process;

/// What may be done where it isn't there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Install {
    Allowed,
    Forbidden,
}

const OHA: &str = "oha";
/// Known to write the JSON that `load` reads.
const OHA_VERSION: &str = "1.16.0";

/// The program wrk, where it is; distributions have it, cargo doesn't.
pub(super) fn wrk() -> Option<PathBuf> {
    process::find_program(OsStr::new("wrk"), &env::var_os("PATH").unwrap_or_default())
}

/// The program oha; `None` where it isn't there and must not be installed.
pub(super) fn oha(target: &Path, install: Install) -> Result<Option<PathBuf>> {
    let root = target.join("tools");
    let installed = root.join("bin").join(OHA);
    let search = env::var_os("PATH").unwrap_or_default();
    let found = process::find_program(OsStr::new(OHA), &search)
        .or_else(|| process::find_program(installed.as_os_str(), OsStr::new("")));
    if found.is_some() || install == Install::Forbidden {
        return Ok(found);
    }
    println!(
        "\n== install {OHA}, the load generator (it isn't on PATH; once, takes minutes)\n\
         It goes to {}, and nowhere else.",
        root.display()
    );
    let mut cargo = process::cargo();
    // With its features as they are: it doesn't compile without TLS, and with the system's it needs OpenSSL's headers.
    cargo.args(["install", OHA, "--version", OHA_VERSION, "--locked", "--root"]).arg(&root);
    // Kept after a failure, so that the next try goes on where this one stopped.
    cargo.arg("--target-dir").arg(root.join("build"));
    process::run(&mut cargo).with_context(|| {
        format!(
            "{OHA} couldn't be installed. Without a network: put an {OHA} of your own on PATH, \
             or measure all but the latency under load with --no-install"
        )
    })?;
    Ok(Some(installed))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_was_installed_is_found_again() {
        let target = tempfile::tempdir().unwrap();
        let folder = target.path().join("tools/bin");
        fs::create_dir_all(&folder).unwrap();
        let program = folder.join(OHA);
        fs::write(&program, "").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let found = oha(target.path(), Install::Forbidden).unwrap().unwrap();
        // Unless this machine has one on PATH, which comes first.
        assert_eq!(found.file_name(), program.file_name());
    }
}
