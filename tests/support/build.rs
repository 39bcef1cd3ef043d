//! Plugins, each built once a run by a cargo of its own.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::sync::OnceLock;
use std::sync::PoisonError;

use super::repository;

/// The members of this workspace whose feature `tch` is on by default.
const WITH_TORCH: [&str; 3] = ["densenet-handler", "image-classifier", "mnist-digit-classifier"];

/// A member of this workspace, as `echo`: built with the host's profile into the host's target folder.
pub(crate) fn first_party(package: &str) -> PathBuf {
    static BUILT: Mutex<Vec<String>> = Mutex::new(Vec::new());
    let profile = Profile::of_the_host();
    // One plugin that can't be built fails its own tests, and no others.
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    if !built.iter().any(|name| name == package) {
        let mut cargo = cargo(Flags::Kept);
        cargo.current_dir(repository()).args(["build", "-p", package]);
        // Without libtorch its plugins are built without it, too.
        if !cfg!(feature = "torch") && WITH_TORCH.contains(&package) {
            cargo.arg("--no-default-features");
        }
        finish(profile.apply(&mut cargo));
        built.push(package.to_owned());
    }
    library(&profile.folder, package)
}

/// A crate of `fixtures/handlers`: built with that workspace's lock file and profiles into a folder apart.
pub(crate) fn fixture(package: &str) -> PathBuf {
    static ALL: OnceLock<()> = OnceLock::new();
    static ABORTING: OnceLock<()> = OnceLock::new();
    static TORCH: OnceLock<()> = OnceLock::new();
    const OF_TORCH: [&str; 2] = ["torch-tensors", "tells-its-build-in-torch"];
    let target = Profile::of_the_host().target().join("fixtures");
    let build = |flags: &[&str]| {
        let mut cargo = cargo(Flags::Dropped);
        cargo
            .current_dir(repository().join("tests/fixtures/handlers"))
            .args(["build", "--locked"])
            .args(flags)
            .arg("--target-dir")
            .arg(&target);
        finish(&mut cargo);
    };
    match package {
        "aborting" => {
            ABORTING.get_or_init(|| build(&["-p", "aborting", "--profile", "aborting"]));
            library(&target.join("aborting"), package)
        }
        // In a call of its own: else all would get the SDK with libtorch.
        package if OF_TORCH.contains(&package) => {
            TORCH.get_or_init(|| build(&["-p", OF_TORCH[0], "-p", OF_TORCH[1]]));
            library(&target.join("debug"), package)
        }
        _ => {
            ALL.get_or_init(|| {
                let mut flags = vec!["--workspace", "--exclude", "aborting"];
                OF_TORCH.iter().for_each(|package| flags.extend(["--exclude", *package]));
                build(&flags);
            });
            library(&target.join("debug"), package)
        }
    }
}

/// Runs cargo in a project outside the repository, as its author would; gives the folder with what it has built.
///
/// What the projects stand on is built once for all of them.
pub(crate) fn cargo_in(project: &Path, arguments: &[&str]) -> PathBuf {
    let target = Profile::of_the_host().target().join("new");
    let mut cargo = cargo(Flags::Dropped);
    cargo.current_dir(project).args(arguments).arg("--target-dir").arg(&target);
    if project.join(".cargo/config.toml").exists() {
        // The cargo that runs these tests has set it, and the project's own would then not be tried.
        cargo.env_remove("LIBTORCH");
    }
    finish(&mut cargo);
    target.join("debug")
}

/// `sconce dev`, as it is typed in such a project; it shares what [`cargo_in`] has built.
pub(crate) fn dev_in(project: &Path) -> Command {
    let mut command = without_ours(Command::new(env!("CARGO_BIN_EXE_sconce")), Flags::Dropped);
    command
        .current_dir(project)
        .env("CARGO", env!("CARGO"))
        .env("CARGO_TARGET_DIR", Profile::of_the_host().target().join("new"))
        .env_remove("SCONCE_LOG")
        .arg("dev");
    command
}

/// Another build of a fixture, without a compiler: its bytes with this number in the mark that it answers with.
pub(crate) fn build_of(library: &Path, number: u32) -> Vec<u8> {
    with_bytes(&fs::read(library).unwrap(), &mark_of(0), &mark_of(number))
}

/// What that build answers with.
pub(crate) fn mark_of(number: u32) -> Vec<u8> {
    format!("sconce-build-{number:03}").into_bytes()
}

/// A file's content with other bytes where these stood, once.
pub(crate) fn with_bytes(content: &[u8], old: &[u8], new: &[u8]) -> Vec<u8> {
    assert_eq!(old.len(), new.len(), "nothing may move");
    let places: Vec<usize> = (0..content.len()).filter(|&place| content[place..].starts_with(old)).collect();
    assert_eq!(places.len(), 1, "{:?} should be there once", String::from_utf8_lossy(old));
    let mut content = content.to_vec();
    content[places[0]..places[0] + new.len()].copy_from_slice(new);
    content
}

/// Runs the trainer's program with these arguments.
#[cfg(feature = "torch")]
pub(crate) fn trainer(arguments: &[&std::ffi::OsStr]) {
    let profile = Profile::of_the_host();
    let mut cargo = cargo(Flags::Kept);
    cargo.current_dir(repository()).args(["run", "-p", "mnist-trainer"]);
    profile.apply(&mut cargo).arg("--").args(arguments);
    finish(&mut cargo);
}

/// What the host was built with, told by where it lies.
struct Profile {
    /// As `target/debug`.
    folder: PathBuf,
}

impl Profile {
    fn of_the_host() -> Self {
        let folder = Path::new(env!("CARGO_BIN_EXE_sconce")).parent().unwrap().to_owned();
        Self { folder }
    }

    fn target(&self) -> &Path {
        self.folder.parent().unwrap()
    }

    fn apply<'a>(&self, cargo: &'a mut Command) -> &'a mut Command {
        let name = match self.folder.file_name().and_then(|name| name.to_str()).unwrap() {
            "debug" => "dev",
            name => name,
        };
        cargo.args(["--profile", name, "--target-dir"]).arg(self.target())
    }
}

/// What becomes of the compiler flags in the environment.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flags {
    /// The build is part of this workspace's, and would else compile its dependencies again.
    Kept,
    Dropped,
}

/// A cargo that knows nothing of the one that runs these tests, but where things are.
fn cargo(flags: Flags) -> Command {
    without_ours(Command::new(env!("CARGO")), flags)
}

fn without_ours(mut command: Command, flags: Flags) -> Command {
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let ours = text.starts_with("CARGO") && !kept(&text);
        let compiler = text.starts_with("RUSTFLAGS") || text.starts_with("CARGO_ENCODED_RUSTFLAGS");
        if (ours && !compiler) || (compiler && flags == Flags::Dropped) || text == "RUSTC_WORKSPACE_WRAPPER" {
            command.env_remove(&name);
        }
    }
    command
}

/// How cargo reaches its registry and shares the machine is the user's choice.
fn kept(variable: &str) -> bool {
    variable == "CARGO_HOME"
        || ["CARGO_NET_", "CARGO_HTTP_", "CARGO_REGISTR", "CARGO_SOURCE_", "CARGO_BUILD_JOBS"]
            .iter()
            .any(|prefix| variable.starts_with(prefix))
}

fn finish(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?} failed:\n{}", String::from_utf8_lossy(&output.stderr));
}

fn library(folder: &Path, package: &str) -> PathBuf {
    folder.join(format!("lib{}.so", package.replace('-', "_")))
}
