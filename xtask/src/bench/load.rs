//! Load by a public generator: oha or wrk.
//!
//! In a closed loop every connection sends its next request when it has the answer to the one before; in an open loop
//! requests come at a rate, whether the server keeps up or not.

use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use tempfile::NamedTempFile;

use crate::process;

mod oha;
mod wrk;

/// The program that sends.
#[derive(Debug, Clone)]
pub(super) enum Generator {
    Oha {
        program: PathBuf,
    },
    /// It costs the machine less than oha, but knows no open loop.
    Wrk {
        program: PathBuf,
    },
}

/// What is sent, and how.
#[derive(Debug, Clone)]
pub(super) struct Load {
    pub(super) generator: Generator,
    /// One, or several of the same server, which then take turns.
    pub(super) urls: Vec<String>,
    pub(super) body: PathBuf,
    pub(super) connections: usize,
    pub(super) time: Duration,
    /// Requests a second; `None` is a closed loop.
    pub(super) rate: Option<f64>,
}

/// Under way.
#[derive(Debug)]
pub(super) struct Running {
    child: Option<Child>,
    shown: String,
    generator: Generator,
    /// What the generator reads.
    _files: Vec<NamedTempFile>,
}

/// What the generator saw.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Seen {
    pub(super) requests_per_second: f64,
    /// With a status of 2xx.
    pub(super) answered: u64,
    /// In milliseconds.
    pub(super) p50: f64,
    pub(super) p99: f64,
    pub(super) p999: f64,
    /// Requests with another status than 2xx, or without an answer.
    pub(super) errors: u64,
    /// What those were, as `503: 12`.
    pub(super) kinds: Vec<String>,
}

const CONTENT_TYPE: &str = "application/octet-stream";

// === impl Generator ===

impl Generator {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Oha { .. } => "oha",
            Self::Wrk { .. } => "wrk",
        }
    }

    /// What it says of itself.
    pub(super) fn version(&self) -> Option<String> {
        let (Self::Oha { program } | Self::Wrk { program }) = self;
        let output = Command::new(program).arg("--version").output().ok()?;
        // wrk takes it for a wrong call, and tells it all the same.
        let said = String::from_utf8_lossy(if output.stdout.is_empty() { &output.stderr } else { &output.stdout });
        Some(said.lines().next()?.trim().to_owned())
    }
}

// === impl Load ===

impl Load {
    /// Does it all, and tells what was seen.
    pub(super) fn run(&self) -> Result<Seen> {
        self.start()?.finish()
    }

    pub(super) fn start(&self) -> Result<Running> {
        let (mut command, files) = match &self.generator {
            Generator::Oha { program } => oha::command(program, self)?,
            Generator::Wrk { program } => wrk::command(program, self)?,
        };
        let shown = process::shown(&command);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().with_context(|| format!("`{shown}` can't be started"))?;
        Ok(Running { child: Some(child), shown, generator: self.generator.clone(), _files: files })
    }
}

// === impl Running ===

impl Running {
    /// Waits for its end.
    pub(super) fn finish(mut self) -> Result<Seen> {
        let Some(child) = self.child.take() else { bail!("the load was waited for twice; this is a bug") };
        let output = child.wait_with_output().with_context(|| format!("`{}` can't be waited for", self.shown))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("`{}` failed ({}): {}", self.shown, output.status, said.trim());
        }
        let text = String::from_utf8_lossy(&output.stdout);
        let seen = match self.generator {
            Generator::Oha { .. } => oha::read(&text),
            Generator::Wrk { .. } => wrk::read(&text),
        };
        seen.with_context(|| format!("`{}` wrote what isn't understood", self.shown))
    }
}

impl Drop for Running {
    /// After a failure elsewhere it doesn't run on.
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Both fail only when it has just ended.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A file that a generator reads.
fn file(content: &str, what: &str) -> Result<NamedTempFile> {
    let write = || -> std::io::Result<NamedTempFile> {
        let file = NamedTempFile::new()?;
        std::fs::write(file.path(), content)?;
        Ok(file)
    };
    write().with_context(|| format!("{what} can't be written to the temporary folder"))
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn load(program: &str) -> Load {
        Load {
            generator: Generator::Oha { program: program.into() },
            urls: vec!["http://127.0.0.1:1/x".to_owned()],
            body: "/dev/null".into(),
            connections: 8,
            time: Duration::from_millis(1500),
            rate: None,
        }
    }

    #[test]
    fn a_failure_of_the_program_is_quoted() {
        let message = load("cat").run().unwrap_err().to_string();
        assert!(message.contains("failed (exit status: 1)"), "{message}");
    }
}
