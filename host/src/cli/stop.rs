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
use crate::cli::serve::CalledAs;

/// Ends the server that was started in the background, and waits for its end.
///
/// What the server has taken in is answered first. A second call ends it at once.
#[derive(Debug, Clone, Args)]
pub struct StopArgs {
    /// Where the server has written its process id. The default is .model_server.pid in the temporary folder, as of servers in the background.
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
}

/// How long an end is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

pub fn run(args: &StopArgs) -> anyhow::Result<ExitCode> {
    match &args.pid_file {
        Some(file) => stop(file, CalledAs::Sconce),
        None => stop(&pid_file::usual_place()?, CalledAs::Sconce),
    }
}

/// Says what became of it, in the words of the program that was called.
pub(super) fn stop(path: &Path, called: CalledAs) -> anyhow::Result<ExitCode> {
    let tell = |torchserve, sconce| {
        say(match called {
            CalledAs::Torchserve => torchserve,
            CalledAs::Sconce => sconce,
        });
    };
    let running = match pid_file::look(path)? {
        Holder::Nobody => {
            tell("TorchServe is not currently running.", "No server is running.");
            return Ok(ExitCode::SUCCESS);
        }
        Holder::Gone => {
            pid_file::remove(path)?;
            tell("TorchServe already stopped.", "The server had ended already.");
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
            "Stopping took too long: the process {} still answers what it has taken in. Stop it again to end it at once.",
            pid.as_raw_nonzero()
        ),
    }
    // A process that was killed leaves it behind.
    if matches!(pid_file::look(path)?, Holder::Gone) {
        pid_file::remove(path)?;
    }
    tell("TorchServe has stopped.", "The server has stopped.");
    Ok(ExitCode::SUCCESS)
}
