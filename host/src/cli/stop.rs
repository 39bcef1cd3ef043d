//! `sconce stop`: ends the server of a pid file, and waits for its end.

use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use rustix::io::Errno;
use rustix::process::Signal;
use rustix::process::kill_process;

use crate::cli::pid_file;
use crate::cli::pid_file::Holder;
use crate::cli::say;

/// Ends the server that was started in the background, and waits for its end.
///
/// What the server has taken in is answered first. A second call ends it at once.
#[derive(Debug, Clone, Args)]
pub struct StopArgs {
    /// Where the server has written its process id.
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
}

/// How long an end is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

pub fn run(args: &StopArgs) -> anyhow::Result<ExitCode> {
    match &args.pid_file {
        Some(file) => stop(file),
        None => stop(&pid_file::usual_place()?),
    }
}

/// Says what became of it, in TorchServe's words.
pub(super) fn stop(path: &Path) -> anyhow::Result<ExitCode> {
    let running = match pid_file::look(path)? {
        Holder::Nobody => {
            say("TorchServe is not currently running.");
            return Ok(ExitCode::SUCCESS);
        }
        Holder::Gone => {
            pid_file::remove(path)?;
            say("TorchServe already stopped.");
            return Ok(ExitCode::SUCCESS);
        }
        Holder::Running(running) => running,
    };
    let pid = running.pid;
    match kill_process(pid, Signal::TERM) {
        // It has just ended by itself.
        Ok(()) | Err(Errno::SRCH) => {}
        Err(error) => return Err(error).context(format!("can't stop the process {}", pid.as_raw_nonzero())),
    }
    let (ended, end) = mpsc::channel();
    std::thread::spawn(move || ended.send(running.wait()));
    match end.recv_timeout(PATIENCE) {
        Ok(waited) => waited.context("can't see whether the server has ended")?,
        Err(_) => anyhow::bail!(
            "Stopping TorchServe took too long: the process {} still answers what it has taken in. Stop it again to end it at once.",
            pid.as_raw_nonzero()
        ),
    }
    // A process that was killed leaves it behind.
    if matches!(pid_file::look(path)?, Holder::Gone) {
        pid_file::remove(path)?;
    }
    say("TorchServe has stopped.");
    Ok(ExitCode::SUCCESS)
}
