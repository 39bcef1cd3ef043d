//! The trial of a library in a process of its own: what kills it there leaves the server alone.
//!
//! The server starts its own program as a child that opens the library, checks the layout in full, makes the handler, initialises it, runs its self-test, drops it, and opens the library once more as a swap would.
//! Orders and reports travel over a socket that is the child's standard input at first: whatever the library prints goes elsewhere, and can't be taken for a verdict.

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::io::PipeReader;
use std::io::Read;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::ExitStatus;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::mpsc;
use std::time::Duration;
use std::time::Instant;

use handler_sdk::ContextInfo;
use rustix::process::Pid;
use rustix::process::Signal;
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
    Drop,
    OpenAgain,
}

/// What is to be tried.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CanaryRequest {
    pub handler: String,
    pub context: ContextInfo,
    /// The model file, for a handler that asks for it; it is read on the CPU, and only then.
    pub model: Option<PathBuf>,
    /// The content of the archive: with another one, a trial that passed says nothing.
    pub package: Option<Digest>,
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
    /// The same bytes in another file.
    pub(super) again: PathBuf,
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

/// The argument with which the program knows that it is the child; its parent's process id follows.
const CANARY_COMMAND: &str = "canary";

/// The child's last words that are shown, in bytes.
const LAST_WORDS: usize = 600;

/// A report is a line; a longer one comes from no child of ours.
const LONGEST_REPORT: usize = 1 << 20;

/// How long the last words may take to arrive once the child is gone: a grandchild may hold the pipe open.
const LAST_WORDS_WAIT: Duration = Duration::from_millis(200);

/// Between two looks at a child that has closed its socket and not ended yet.
const END_PAUSE: Duration = Duration::from_millis(2);

// === impl Canary ===

impl Canary {
    /// `program` is the sconce binary, which must know the command `canary`.
    pub fn new(program: PathBuf) -> Self {
        Self { program, passed: Mutex::default() }
    }

    /// Runs the trial of a private copy, or returns at once if the same bytes have passed the same trial before.
    pub fn try_library(
        &self,
        staged: &StagedLibrary,
        request: &CanaryRequest,
        limit: Duration,
    ) -> Result<(), PluginError> {
        let unavailable = |reason: String| PluginError::TrialUnavailable { path: staged.source().to_owned(), reason };
        let key = serde_json::to_string(request).map_err(|error| unavailable(error.to_string()))?;
        let key = (staged.digest(), key);
        if self.passed().contains(&key) {
            return Ok(());
        }
        let again = staged.again()?;
        let (library, again_path) = (staged.path().to_owned(), again.path().to_owned());
        let orders = Orders { library, again: again_path, request: request.clone() };
        let mut orders = serde_json::to_vec(&orders).map_err(|error| unavailable(error.to_string()))?;
        orders.push(b'\n');
        let trial = Trial::start(&self.program, limit).map_err(|error| unavailable(error.to_string()))?;
        trial.watch(&orders, staged.source())?;
        self.passed().insert(key);
        Ok(())
    }

    fn passed(&self) -> MutexGuard<'_, HashSet<(Digest, String)>> {
        self.passed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A child at work; it and all that it started are killed when this is dropped.
struct Trial {
    child: Child,
    socket: UnixStream,
    last_words: LastWords,
    limit: Duration,
    end: Instant,
}

/// What the child prints, of which the end is kept.
struct LastWords {
    kept: Arc<Mutex<Vec<u8>>>,
    finished: mpsc::Receiver<()>,
}

// === impl Trial ===

impl Trial {
    fn start(program: &Path, limit: Duration) -> io::Result<Self> {
        let (socket, of_child) = UnixStream::pair()?;
        let (printed, print) = io::pipe()?;
        let child = Command::new(program)
            .arg(CANARY_COMMAND)
            .arg(std::process::id().to_string())
            .stdin(Stdio::from(OwnedFd::from(of_child)))
            .stdout(print.try_clone()?)
            .stderr(print)
            // A group of its own: it dies with all it started, and a Ctrl-C for the server is none for it.
            .process_group(0)
            .spawn()?;
        Ok(Self { child, socket, last_words: LastWords::listen(printed)?, limit, end: Instant::now() + limit })
    }

    fn watch(mut self, orders: &[u8], source: &Path) -> Result<(), PluginError> {
        let path = source.to_owned();
        let mut step = Step::Open;
        // A child that is gone already is told from its end.
        let _ = self.socket.set_write_timeout(Some(self.limit.max(END_PAUSE)));
        let _ = self.socket.write_all(orders);
        let mut received = Vec::new();
        loop {
            while let Some(report) = next_report(&mut received) {
                return match report {
                    Report::Begin(next) => {
                        step = next;
                        continue;
                    }
                    Report::Passed => Ok(()),
                    Report::Failed { step, reason } => Err(PluginError::TrialFailed { path, step, reason }),
                    Report::Layout { reason } => {
                        Err(PluginError::Layout { path, sdk: handler_sdk::abi::SDK_VERSION, reason })
                    }
                };
            }
            match self.receive(&mut received) {
                Some(true) => {}
                Some(false) => return Err(self.died(path, step)),
                None => {
                    return Err(PluginError::TrialTimedOut { path, step, limit: self.limit });
                }
            }
        }
    }

    /// Reads what has come; `Some(false)` where nothing will come any more, `None` where the time is up.
    fn receive(&mut self, received: &mut Vec<u8>) -> Option<bool> {
        let mut buffer = [0; 4096];
        loop {
            let left = self.end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            let read = self.socket.set_read_timeout(Some(left)).and_then(|()| self.socket.read(&mut buffer));
            match read {
                Ok(0) => return Some(false),
                Ok(count) if received.len() + count <= LONGEST_REPORT => {
                    received.extend_from_slice(&buffer[..count]);
                    return Some(true);
                }
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                Ok(_) | Err(_) => return Some(false),
            }
        }
    }

    fn died(&mut self, path: PathBuf, step: Step) -> PluginError {
        let status = loop {
            match self.child.try_wait() {
                Ok(Some(status)) => break Ok(status),
                Ok(None) if Instant::now() < self.end => std::thread::park_timeout(END_PAUSE),
                Ok(None) => {
                    let limit = self.limit;
                    return PluginError::TrialTimedOut { path, step, limit };
                }
                Err(error) => break Err(error),
            }
        };
        let end = status.map_or_else(|error| format!("was lost ({error})"), describe);
        let output = self.last_words.take();
        PluginError::TrialDied { path, step, end, output }
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        // What the library does while its process ends is of no interest: the verdict stands.
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            let _ = rustix::process::kill_process_group(pid, Signal::KILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn next_report(received: &mut Vec<u8>) -> Option<Report> {
    let end = received.iter().position(|&byte| byte == b'\n')?;
    let line: Vec<u8> = received.drain(..=end).collect();
    serde_json::from_slice(&line).ok()
}

// === impl LastWords ===

impl LastWords {
    /// Reads to the end on a thread, so that the child never waits for a reader.
    fn listen(mut printed: PipeReader) -> io::Result<Self> {
        let kept = Arc::new(Mutex::new(Vec::new()));
        let (done, finished) = mpsc::channel();
        let of_thread = Arc::clone(&kept);
        std::thread::Builder::new().name("canary-output".to_owned()).spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = printed.read(&mut buffer) {
                let mut kept = of_thread.lock().unwrap_or_else(PoisonError::into_inner);
                kept.extend_from_slice(&buffer[..read]);
                let surplus = kept.len().saturating_sub(LAST_WORDS);
                kept.drain(..surplus);
            }
            let _ = done.send(());
        })?;
        Ok(Self { kept, finished })
    }

    fn take(&self) -> String {
        let _ = self.finished.recv_timeout(LAST_WORDS_WAIT);
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&kept).trim().replace('\n', " | ")
    }
}

fn describe(status: ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(signal), _) => {
            let name = Signal::from_named_raw(signal).map_or("unknown", signal_name);
            format!("was killed by signal {signal} ({name})")
        }
        (None, Some(code)) => format!("ended by itself with exit status {code}"),
        (None, None) => "ended".to_owned(),
    }
}

fn signal_name(signal: Signal) -> &'static str {
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
            Self::Drop => "dropping the handler",
            Self::OpenAgain => "opening it a second time (as a swap does)",
        })
    }
}
