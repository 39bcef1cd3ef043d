//! Where this clone lies, and where cargo builds it.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::process;

/// The repository's root folder.
pub(crate) fn root() -> PathBuf {
    // Cargo sets the variable for `cargo run`; the folder at build time serves a binary run by hand.
    let package =
        env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    package.parent().map_or_else(|| package.clone(), Path::to_path_buf)
}

/// The folder of the built programs and plugins, for release builds.
pub(crate) fn release_folder() -> Result<PathBuf> {
    Ok(target_folder()?.join("release"))
}

/// Where cargo builds.
///
/// Cargo is asked, because CARGO_TARGET_DIR and a user's own configuration can move it.
pub(crate) fn target_folder() -> Result<PathBuf> {
    let output = process::cargo()
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .output()
        .context("cargo metadata can't be started")?;
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("`cargo metadata` failed: {}", String::from_utf8_lossy(&output.stderr).trim()))?;
    let target = metadata["target_directory"].as_str().context("`cargo metadata` named no target_directory")?;
    Ok(PathBuf::from(target))
}

/// Builds these packages for release and returns the folder with what was built.
pub(crate) fn build_release(packages: &[&str]) -> Result<PathBuf> {
    // Each alone, so that no crate is built with features that only another one asked for.
    for package in packages {
        process::run(process::cargo().args(["build", "--release", "-p", package]))?;
    }
    release_folder()
}

/// A built program, run in the repository's root.
pub(crate) fn program(folder: &Path, name: &str) -> Command {
    let mut command = Command::new(folder.join(name));
    command.current_dir(root());
    command
}

/// A path as one types it in the repository's root: relative where it lies inside.
pub(crate) fn short(path: &Path) -> String {
    let root = root();
    path.strip_prefix(&root).unwrap_or(path).display().to_string()
}
