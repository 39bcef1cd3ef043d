//! Cargo builds the project, and tells where the library lies.

use std::io::BufReader;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use anyhow::Context as _;
use cargo_metadata::Artifact;
use cargo_metadata::Message;
use cargo_metadata::TargetKind;
use rustix::process::Pid;
use rustix::process::Signal;
use rustix::process::kill_process_group;

use super::project::Project;

/// The builds of a session, one at a time.
#[derive(Debug, Default)]
pub(super) struct Cargo {
    state: Mutex<State>,
}

/// How a build ended that could be begun.
#[derive(Debug)]
pub(super) enum Built {
    /// The library's file. Cargo writes the next one in its place.
    Library(PathBuf),
    /// Cargo has said why.
    Failed,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Idle,
    /// With the leader of cargo's process group.
    Building(Pid),
    Ended,
}

// === impl Cargo ===

impl Cargo {
    /// Builds the project's library; what cargo says is shown on standard error.
    pub(super) fn build(&self, project: &Project) -> anyhow::Result<Built> {
        let mut child = self.spawn(project)?;
        let mut library = None;
        if let Some(messages) = child.stdout.take() {
            for message in Message::parse_stream(BufReader::new(messages)) {
                if let Ok(Message::CompilerArtifact(artifact)) = message
                    && artifact.package_id.repr == project.package_id()
                {
                    library = shared_library(&artifact).or(library);
                }
            }
        }
        let mut state = self.lock();
        // It has closed its output, so it is about to end.
        let status = child.wait().context("can't wait for cargo")?;
        if matches!(*state, State::Building(_)) {
            *state = State::Idle;
        }
        drop(state);
        if !status.success() {
            return Ok(Built::Failed);
        }
        let library = library.context("cargo built no shared library, which is what a server opens")?;
        Ok(Built::Library(library))
    }

    /// Ends the build that is under way, with the compilers that it has started, and begins no other.
    pub(super) fn end(&self) {
        if let State::Building(leader) = std::mem::replace(&mut *self.lock(), State::Ended) {
            // It may have ended by itself.
            let _ = kill_process_group(leader, Signal::TERM);
        }
    }

    pub(super) fn has_ended(&self) -> bool {
        matches!(*self.lock(), State::Ended)
    }

    fn spawn(&self, project: &Project) -> anyhow::Result<Child> {
        let mut command = Command::new(super::project::cargo());
        command
            // Its configuration is looked up from here.
            .current_dir(project.root())
            .args(["build", "--lib", "--message-format=json-render-diagnostics", "--package", project.package_id()])
            .arg("--manifest-path")
            .arg(project.manifest())
            .args(project.flags())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            // A group of its own: rustc is ended with it, and neither before the session is.
            .process_group(0);
        let mut state = self.lock();
        anyhow::ensure!(!matches!(*state, State::Ended), "the session has ended");
        let child = command.spawn().context("can't start cargo: is it in the PATH?")?;
        if let Some(leader) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
            *state = State::Building(leader);
        }
        Ok(child)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn shared_library(artifact: &Artifact) -> Option<PathBuf> {
    if !artifact.target.is_kind(TargetKind::CDyLib) {
        return None;
    }
    let name = artifact.filenames.iter().find(|name| name.extension() == Some("so"))?;
    Some(name.clone().into_std_path_buf())
}
