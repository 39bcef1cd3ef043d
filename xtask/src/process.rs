//! Other programs: finding, showing and running them.

use std::env;
use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result, bail};
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::workspace;

/// Cargo, in the repository's root, as if it had been called from a shell.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace::root());
    // `cargo run` describes xtask in these; build scripts that watch them would run again each
    // time the caller changes between xtask and a plain cargo.
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&*name);
        }
    }
    // Set but empty counts as not set; then .cargo/config.toml gives the value.
    if env::var_os("LIBTORCH").is_some_and(|value| value.is_empty()) {
        command.env_remove("LIBTORCH");
    }
    command
}

/// The command as one would type it, with the variables that were set for it; not the search path, which is the machine's.
pub(crate) fn shown(command: &Command) -> String {
    let variables = command.get_envs().filter(|(name, _)| *name != "PATH");
    let variables = variables.filter_map(|(name, value)| Some(format!("{}={:?}", name.to_string_lossy(), value?)));
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let arguments = std::iter::once(program).chain(command.get_args()).map(quoted);
    variables.chain(arguments).collect::<Vec<_>>().join(" ")
}

/// Runs a command with its output shown, after printing it.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let shown = shown(command);
    println!("$ {shown}");
    let status = command.status().with_context(|| format!("`{shown}` can't be started"))?;
    if !status.success() {
        bail!("`{shown}` failed ({status}); its own message is above");
    }
    Ok(())
}

/// From now on a signal to end only sets this flag, so that what was started can be stopped first.
pub(crate) fn interruption() -> Result<Arc<AtomicBool>> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&interrupted)).context("signals can't be listened for")?;
    }
    Ok(interrupted)
}

/// The first program of this name on a search path such as $PATH; a name with a `/` is a path.
pub(crate) fn find_program(name: &OsStr, search: &OsStr) -> Option<PathBuf> {
    if name.as_encoded_bytes().contains(&b'/') {
        let path = PathBuf::from(name);
        return is_program(&path).then_some(path);
    }
    env::split_paths(search).map(|folder| folder.join(name)).find(|path| is_program(path))
}

fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

fn quoted(argument: &OsStr) -> String {
    let text = argument.to_string_lossy();
    if text.contains(|c: char| c.is_whitespace() || "'\"$\\".contains(c)) {
        format!("'{}'", text.replace('\'', r"'\''"))
    } else {
        text.into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_as_one_types_it() {
        let mut command = Command::new("/somewhere/bin/cargo");
        command.args(["doc", "--no-deps", "a b"]).env("RUSTDOCFLAGS", "-D warnings").env_remove("HOME");
        assert_eq!(shown(&command), r#"RUSTDOCFLAGS="-D warnings" cargo doc --no-deps 'a b'"#);
    }

    #[test]
    fn programs_are_found_in_order_and_must_be_executable() {
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = (folder.path().join("1"), folder.path().join("2"));
        for (parent, mode) in [(&first, 0o644), (&second, 0o755)] {
            std::fs::create_dir(parent).unwrap();
            let file = parent.join("tool");
            std::fs::write(&file, "").unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        let search = env::join_paths([&first, &second]).unwrap();
        assert_eq!(find_program(OsStr::new("tool"), &search), Some(second.join("tool")));
        assert_eq!(find_program(OsStr::new("no-such"), &search), None);
        let path = second.join("tool");
        assert_eq!(find_program(path.as_os_str(), OsStr::new("")), Some(path));
    }
}
