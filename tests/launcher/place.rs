//! A machine of a test's own, as far as a launcher sees one.

use std::fs;
use std::io::BufRead as _;
use std::io::BufReader;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;
use std::thread;

use rustix::process::Pid;
use tempfile::TempDir;

use super::STARTED;
use crate::support::Archive;
use crate::support::first_party;

/// A folder in which programs are called, with a temporary folder and a model store of its own.
pub(super) struct Place {
    pub(super) folder: TempDir,
}

impl Place {
    pub(super) fn new() -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap() };
        for name in ["tmp", "store", "plugins", "bin"] {
            fs::create_dir(place.path(name)).unwrap();
        }
        for name in ["sconce", "torchserve", "torch-model-archiver"] {
            symlink(env!("CARGO_BIN_EXE_sconce"), place.path("bin").join(name)).unwrap();
        }
        let properties = [
            "inference_address=http://127.0.0.1:0",
            "management_address=http://127.0.0.1:0",
            "metrics_address=http://127.0.0.1:0",
            "default_workers_per_model=1",
            "plugins_path=plugins",
            "disable_token_authorization=true",
            "",
        ];
        fs::write(place.path("config.properties"), properties.join("\n")).unwrap();
        place
    }

    pub(super) fn with_echo() -> Self {
        let place = Self::new();
        place.serves(&first_party("echo"), &Archive::new("echo", "echo"));
        place
    }

    pub(super) fn serves(&self, library: &Path, archive: &Archive) {
        fs::copy(library, self.path("plugins").join(library.file_name().unwrap())).unwrap();
        archive.pack(&self.path("store"));
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn pid_file(&self) -> PathBuf {
        self.path("tmp/.model_server.pid")
    }

    /// The process that the pid file names.
    pub(super) fn pid(&self) -> Pid {
        let text = fs::read_to_string(self.pid_file()).unwrap();
        Pid::from_raw(text.trim().parse().unwrap()).unwrap()
    }

    pub(super) fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.path("bin").join(program));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("TS_") {
                command.env_remove(name);
            }
        }
        for name in ["SCONCE_LOG", "LOG_LOCATION", "TEMP", "TMP"] {
            command.env_remove(name);
        }
        command.current_dir(self.folder.path()).env("TMPDIR", self.path("tmp")).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    #[track_caller]
    pub(super) fn call(&self, program: &str, arguments: &[&str], status: i32) -> Output {
        let output = self.command(program, arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(status), "{program} {arguments:?}: {output:?}");
        output
    }

    /// What a call prints to standard output.
    #[track_caller]
    pub(super) fn told(&self, program: &str, arguments: &[&str], status: i32) -> String {
        String::from_utf8(self.call(program, arguments, status).stdout).unwrap()
    }

    /// What a call prints to standard error.
    #[track_caller]
    pub(super) fn complains(&self, program: &str, arguments: &[&str], status: i32) -> String {
        String::from_utf8(self.call(program, arguments, status).stderr).unwrap()
    }

    /// Starts the server in the background, and gives the address of its predictions.
    #[track_caller]
    pub(super) fn start(&self, program: &str, arguments: &[&str]) -> String {
        let told = self.told(program, arguments, 0);
        assert!(told.lines().any(|line| line == STARTED), "{told}");
        let address = told.lines().find_map(|line| line.strip_prefix("Inference API bind to: "));
        address.unwrap_or_else(|| panic!("no address in {told}")).to_owned()
    }

    /// A server in the foreground that takes requests.
    pub(super) fn foreground(&self, program: &str, arguments: &[&str]) -> Child {
        let mut child = self.command(program, arguments).stderr(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.map_while(Result::ok).any(|line| line == STARTED), "it ended");
        child
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // A test that failed must not leave its server behind; one whose process isn't a server's any more is left alone.
        let stopped = self.command("sconce", &["stop"]).output();
        if thread::panicking() {
            let log = fs::read_to_string(self.path("logs/ts_log.log")).unwrap_or_default();
            eprintln!("{stopped:?}; the server's log:\n{log}");
        }
    }
}
