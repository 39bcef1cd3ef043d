//! The trial of a library in a process of its own: what kills it there leaves the server alone.
//!
//! The server starts its own program as a child that opens the library, checks the layout in full, makes the handler, initialises it and runs its self-test.
//! The child reads its orders as JSON from standard input, and writes one line before each step and a last one at the end.

use std::collections::HashSet;
use std::fmt;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::ChildStderr;
use std::process::Command;
use std::process::ExitStatus;
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;
use std::time::Instant;

use handler_sdk::ContextInfo;
use serde::Deserialize;
use serde::Serialize;

use super::PluginError;
use super::StagedLibrary;
use crate::ids::Digest;

/// A step of the trial, as it is named to people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    Open,
    Create,
    Initialize,
    SelfTest,
}

/// What is to be tried.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CanaryRequest {
    pub handler: String,
    pub context: ContextInfo,
    pub model: Option<CanaryModel>,
}

/// The model file, for a handler that asks for it; it is read on the CPU, and only then.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CanaryModel {
    pub path: PathBuf,
}

/// Tries libraries, and remembers which have passed.
#[derive(Debug)]
pub struct Canary {
    program: PathBuf,
    /// By the library's digest and all that it was tried with.
    passed: Mutex<HashSet<(Digest, String)>>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Orders {
    pub(super) library: PathBuf,
    pub(super) request: CanaryRequest,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Report {
    Begin(Step),
    Failed { step: Step, reason: String },
    Layout { reason: String },
    Passed,
}

/// Before each line of the report, since a plugin may print too.
pub(super) const MARK: &str = "sconce-canary ";

/// The argument with which the program knows that it is the child.
const CANARY_COMMAND: &str = "canary";

/// The child's last words that are shown, in bytes.
const LAST_WORDS: usize = 600;

// === impl Canary ===

impl Canary {
    /// `program` is the sconce binary, which must know the command `canary`.
    pub fn new(program: PathBuf) -> Self {
        Self {
            program,
            passed: Mutex::default(),
        }
    }

    /// Runs the trial of a private copy, or returns at once if the same bytes have passed the same trial before.
    pub fn try_library(
        &self,
        staged: &StagedLibrary,
        request: &CanaryRequest,
        limit: Duration,
    ) -> Result<(), PluginError> {
        let orders = Orders {
            library: staged.path().to_owned(),
            request: request.clone(),
        };
        let unavailable = |reason: String| PluginError::TrialUnavailable {
            path: staged.source().to_owned(),
            reason,
        };
        let key = serde_json::to_string(request).map_err(|error| unavailable(error.to_string()))?;
        let key = (staged.digest(), key);
        if self
            .passed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(&key)
        {
            return Ok(());
        }
        let orders = serde_json::to_vec(&orders).map_err(|error| unavailable(error.to_string()))?;
        let child = self.start(&orders).map_err(|error| unavailable(error.to_string()))?;
        child.watch(limit, staged.source())?;
        self.passed.lock().unwrap_or_else(PoisonError::into_inner).insert(key);
        Ok(())
    }

    fn start(&self, orders: &[u8]) -> std::io::Result<Trial> {
        let mut child = Command::new(&self.program)
            .arg(CANARY_COMMAND)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        if let Some(mut input) = child.stdin.take() {
            input.write_all(orders)?;
        }
        let (sender, lines) = mpsc::channel();
        if let Some(output) = child.stdout.take() {
            std::thread::Builder::new()
                .name("canary-report".to_owned())
                .spawn(move || {
                    for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
                        let line = String::from_utf8_lossy(&line).into_owned();
                        if sender.send(line).is_err() {
                            break;
                        }
                    }
                })?;
        }
        let last_words = match child.stderr.take() {
            Some(stderr) => Some(
                std::thread::Builder::new()
                    .name("canary-stderr".to_owned())
                    .spawn(move || tail(stderr))?,
            ),
            None => None,
        };
        Ok(Trial {
            child,
            lines,
            last_words,
        })
    }
}

/// Reads to the end, so that the child never waits for a reader, and keeps the last of it.
fn tail(mut stderr: ChildStderr) -> String {
    let mut kept = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = stderr.read(&mut buffer) {
        kept.extend_from_slice(&buffer[..read]);
        kept.drain(..kept.len().saturating_sub(LAST_WORDS));
    }
    String::from_utf8_lossy(&kept).trim().replace('\n', " | ")
}

/// A child at work.
struct Trial {
    child: Child,
    lines: mpsc::Receiver<String>,
    last_words: Option<JoinHandle<String>>,
}

impl Trial {
    fn watch(mut self, limit: Duration, source: &Path) -> Result<(), PluginError> {
        let end = Instant::now() + limit;
        let path = source.to_owned();
        let mut step = Step::Open;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let line = match self.lines.recv_timeout(left) {
                Ok(line) => line,
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    let _ = self.child.kill();
                    let _ = self.child.wait();
                    return Err(PluginError::TrialTimedOut { path, step, limit });
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => return Err(self.died(path, step)),
            };
            let Some(report) = line.strip_prefix(MARK).and_then(|text| serde_json::from_str(text).ok()) else {
                tracing::debug!(target: "handler", library = %path.display(), "said in its trial: {line}");
                continue;
            };
            let verdict = match report {
                Report::Begin(next) => {
                    step = next;
                    continue;
                }
                Report::Passed => Ok(()),
                Report::Failed { step, reason } => Err(PluginError::TrialFailed { path, step, reason }),
                Report::Layout { reason } => Err(PluginError::Layout {
                    path,
                    sdk: handler_sdk::abi::SDK_VERSION,
                    reason,
                }),
            };
            // The verdict stands: what the library does while its process ends is of no interest.
            let _ = self.child.kill();
            let _ = self.child.wait();
            return verdict;
        }
    }

    fn died(&mut self, path: PathBuf, step: Step) -> PluginError {
        let end = match self.child.wait() {
            Ok(status) => describe(status),
            Err(error) => format!("was lost ({error})"),
        };
        let output = self
            .last_words
            .take()
            .and_then(|thread| thread.join().ok())
            .unwrap_or_default();
        PluginError::TrialDied {
            path,
            step,
            end,
            output,
        }
    }
}

fn describe(status: ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(signal), _) => {
            let name = rustix::process::Signal::from_named_raw(signal).map_or("unknown", signal_name);
            format!("was killed by signal {signal} ({name})")
        }
        (None, Some(code)) => format!("ended by itself with exit status {code}"),
        (None, None) => "ended".to_owned(),
    }
}

fn signal_name(signal: rustix::process::Signal) -> &'static str {
    use rustix::process::Signal;
    match signal {
        Signal::SEGV => "segmentation fault",
        Signal::ABORT => "abort",
        Signal::BUS => "bus error",
        Signal::ILL => "illegal instruction",
        Signal::FPE => "arithmetic error",
        Signal::KILL => "killed from outside, perhaps for want of memory",
        Signal::TERM => "asked to end from outside",
        _ => "see signal(7)",
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "opening the library",
            Self::Create => "making the handler",
            Self::Initialize => "initialize",
            Self::SelfTest => "self_test",
        })
    }
}
