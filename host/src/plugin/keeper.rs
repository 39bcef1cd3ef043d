//! The server's side of a keeper: starts it, sends it orders, hears what its canaries report, and kills it where they don't end.
//!
//! Orders and reports travel over a socket that is the keeper's standard input at first: whatever a library prints goes elsewhere, and can't be taken for a verdict.

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

use rustix::io::Errno;
use rustix::process::Pid;
use rustix::process::Signal;
use rustix::process::WaitOptions;

use super::PluginError;
use super::canary::Report;
use super::canary::Step;
use super::trial::be_keeper;
use super::trial::fork;

/// A process that forks canaries; it is killed when this is dropped, with the canary it has.
#[derive(Debug)]
pub struct Keeper {
    /// `None` once it is reaped.
    process: Arc<Mutex<Option<Pid>>>,
    socket: UnixStream,
    received: Vec<u8>,
    /// The canary at work.
    canary: Option<Pid>,
    output: Output,
}

/// What a keeper and its canaries print, of which the end is kept.
#[derive(Debug)]
struct Output {
    kept: Arc<Mutex<Vec<u8>>>,
    /// Something was printed, or nothing will be any more.
    heard: mpsc::Receiver<()>,
}

/// What came over the socket.
enum Heard {
    Report(Report),
    /// The keeper is gone.
    End,
    TimeIsUp,
}

/// The argument with which the program knows that it is a keeper; its parent's process id follows.
const KEEPER_COMMAND: &str = "keeper";

/// The last words of a canary that are shown, in bytes.
const LAST_WORDS: usize = 600;

/// What is kept of them: libtorch says what was wrong before its frames, of which it prints a hundred.
const LAST_WORDS_KEPT: usize = 16 << 10;

/// How such a frame begins.
const FRAME: &str = "frame #";

/// A report is a line; a longer one comes from no canary of ours.
const LONGEST_REPORT: usize = 1 << 20;

/// How long the last words may take to arrive once the canary is gone.
const LAST_WORDS_WAIT: Duration = Duration::from_millis(100);

/// How long a killed canary may take to be reported as ended.
const FUNERAL: Duration = Duration::from_secs(2);

// === impl Keeper ===

impl Keeper {
    /// Forks this process, which has one thread yet, and has opened no library: such a keeper is there at once, and shares libtorch's memory with the server.
    ///
    /// Call it on the process's first thread: the kernel kills the keeper with the thread that made it.
    pub fn fork() -> io::Result<Self> {
        let (socket, of_keeper) = UnixStream::pair()?;
        let (printed, print) = io::pipe()?;
        let server = rustix::process::getpid();
        match fork()? {
            Some(process) => {
                drop((of_keeper, print));
                Self::of(socket, printed, move || Ok(process))
            }
            None => {
                drop((socket, printed));
                be_keeper(&of_keeper, print, server)
            }
        }
    }

    /// Starts the program once more, which takes libtorch a quarter of a second.
    pub(super) fn start(program: &Path) -> io::Result<Self> {
        let (socket, of_keeper) = UnixStream::pair()?;
        let (printed, print) = io::pipe()?;
        let mut command = Command::new(program);
        command
            .arg(KEEPER_COMMAND)
            .arg(std::process::id().to_string())
            .stdin(Stdio::from(OwnedFd::from(of_keeper)))
            .stdout(print.try_clone()?)
            .stderr(print)
            // A group of its own: a Ctrl-C for the server is none for it.
            .process_group(0);
        Self::of(socket, printed, move || {
            let child = command.spawn()?;
            i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or_else(|| io::Error::other("no process id"))
        })
    }

    fn of(
        socket: UnixStream,
        printed: PipeReader,
        start: impl FnOnce() -> io::Result<Pid> + Send + 'static,
    ) -> io::Result<Self> {
        let (process, output) = Output::of(start, printed)?;
        Ok(Self { process, socket, received: Vec::new(), canary: None, output })
    }

    /// Whether it still waits for orders: one that has waited too long has ended.
    pub(super) fn is_waiting(&self) -> bool {
        if self.canary.is_some() {
            return false;
        }
        let mut byte = [0];
        let asked = self.socket.set_nonblocking(true).and_then(|()| (&self.socket).read(&mut byte));
        let waits = matches!(asked, Err(error) if error.kind() == io::ErrorKind::WouldBlock);
        waits && self.socket.set_nonblocking(false).is_ok()
    }

    /// Has one library tried. After an error the keeper is dropped, so that the next trial begins clean whatever happened.
    pub(super) fn try_out(&mut self, orders: &[u8], source: &Path, limit: Duration) -> Result<(), PluginError> {
        let path = source.to_owned();
        let end = Instant::now() + limit;
        let mut step = Step::Open;
        self.output.forget();
        // A keeper that is gone is told from its end.
        let _ = self.socket.set_write_timeout(Some(limit.max(FUNERAL)));
        let _ = self.socket.write_all(orders);
        let verdict = loop {
            match self.hear(end) {
                Heard::Report(Report::Born { process }) => self.canary = Pid::from_raw(process),
                Heard::Report(Report::Begin(next)) => step = next,
                Heard::Report(Report::Passed) => break Ok(()),
                Heard::Report(Report::Failed { step, reason }) => {
                    break Err(PluginError::TrialFailed { path, step, reason });
                }
                Heard::Report(Report::Layout { reason }) => {
                    break Err(PluginError::Layout { path, sdk: handler_sdk::abi::SDK_VERSION, reason });
                }
                Heard::Report(Report::Ended { status }) => {
                    self.canary = None;
                    return Err(self.died(path, step, describe(ExitStatus::from_raw(status))));
                }
                Heard::End => return Err(PluginError::TrialLost { path, step }),
                Heard::TimeIsUp => return Err(PluginError::TrialTimedOut { path, step, limit }),
            }
        };
        // What the library does while its process ends is of no interest: the verdict stands.
        self.bury();
        verdict
    }

    /// Kills the canary and all that it started, and waits until the keeper says so.
    fn bury(&mut self) {
        self.kill_canary();
        let end = Instant::now() + FUNERAL;
        loop {
            match self.hear(end) {
                Heard::Report(Report::Ended { .. }) => {
                    self.canary = None;
                    return;
                }
                // Late words of the canary.
                Heard::Report(_) => {}
                Heard::End | Heard::TimeIsUp => return,
            }
        }
    }

    fn hear(&mut self, end: Instant) -> Heard {
        let mut buffer = [0; 4096];
        loop {
            if let Some(report) = next_report(&mut self.received) {
                return Heard::Report(report);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Heard::TimeIsUp;
            }
            let read = self.socket.set_read_timeout(Some(left)).and_then(|()| self.socket.read(&mut buffer));
            match read {
                Ok(count @ 1..) if self.received.len() + count <= LONGEST_REPORT => {
                    self.received.extend_from_slice(&buffer[..count]);
                }
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                Ok(_) | Err(_) => return Heard::End,
            }
        }
    }

    fn died(&self, path: PathBuf, step: Step, end: String) -> PluginError {
        PluginError::TrialDied { path, step, end, output: self.output.last_words() }
    }

    fn kill_canary(&self) {
        if let Some(canary) = self.canary {
            // The keeper hasn't reaped it before it has said so; the number is nobody else's.
            let _ = rustix::process::kill_process_group(canary, Signal::KILL);
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.kill_canary();
        // While it isn't reaped, the number is nobody else's.
        if let Some(process) = *self.process.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = rustix::process::kill_process_group(process, Signal::KILL);
        }
    }
}

fn next_report(received: &mut Vec<u8>) -> Option<Report> {
    loop {
        let end = received.iter().position(|&byte| byte == b'\n')?;
        let line: Vec<u8> = received.drain(..=end).collect();
        if let Ok(report) = serde_json::from_slice(&line) {
            return Some(report);
        }
    }
}

// === impl Output ===

impl Output {
    /// Starts the process, and reads what it prints, on a thread that lives as long as the process.
    ///
    /// The kernel kills a process with the thread that started it, so one that starts now is started there.
    fn of(
        start: impl FnOnce() -> io::Result<Pid> + Send + 'static,
        printed: PipeReader,
    ) -> io::Result<(Arc<Mutex<Option<Pid>>>, Self)> {
        let kept = Arc::new(Mutex::new(Vec::new()));
        let (tell, heard) = mpsc::sync_channel(1);
        let (born, birth) = mpsc::channel();
        let process = Arc::new(Mutex::new(None));
        let (of_thread, known) = (Arc::clone(&kept), Arc::clone(&process));
        std::thread::Builder::new().name("canary-output".to_owned()).spawn(move || {
            // What it held of the pipe's other end is closed when it returns.
            match start() {
                Ok(process) => {
                    *known.lock().unwrap_or_else(PoisonError::into_inner) = Some(process);
                    let _ = born.send(Ok(()));
                    listen(printed, &of_thread, &tell);
                    reap(process, &known);
                }
                Err(error) => drop(born.send(Err(error))),
            }
        })?;
        let lost = || io::Error::other("the thread that was to start it is gone");
        birth.recv().map_err(|_| lost())??;
        Ok((process, Self { kept, heard }))
    }

    fn forget(&self) {
        self.lock().clear();
        while self.heard.try_recv().is_ok() {}
    }

    /// Waits a moment for what is on its way.
    fn last_words(&self) -> String {
        let end = Instant::now() + LAST_WORDS_WAIT;
        while self.heard.recv_timeout(end.saturating_duration_since(Instant::now())).is_ok() {}
        without_frames(&String::from_utf8_lossy(&self.lock()))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<u8>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The end of what was printed, in one line and without the frames of libtorch's exceptions.
fn without_frames(printed: &str) -> String {
    let told: Vec<&str> = printed.trim().lines().filter(|line| !line.starts_with(FRAME)).collect();
    let told = told.join(" | ");
    let told = told.trim_end_matches(" | ");
    let from = told.len().saturating_sub(LAST_WORDS);
    let from = (from..told.len()).find(|&at| told.is_char_boundary(at));
    from.map(|from| told[from..].to_owned()).unwrap_or_default()
}

/// Reads to the end, so that no canary ever waits for a reader.
fn listen(mut printed: PipeReader, kept: &Mutex<Vec<u8>>, tell: &mpsc::SyncSender<()>) {
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = printed.read(&mut buffer) {
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend_from_slice(&buffer[..read]);
        let surplus = kept.len().saturating_sub(LAST_WORDS_KEPT);
        kept.drain(..surplus);
        drop(kept);
        // Said once is enough; nobody listens once the keeper is dropped.
        let _ = tell.try_send(());
    }
}

/// What a library has started and left behind may hold the pipe open; a keeper that has closed it is gone in any case.
fn reap(process: Pid, known: &Mutex<Option<Pid>>) {
    let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
    let _ = rustix::process::kill_process(process, Signal::KILL);
    while matches!(rustix::process::waitpid(Some(process), WaitOptions::empty()), Err(Errno::INTR)) {}
    *known = None;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_words_say_what_was_wrong_and_not_where_in_libtorch() {
        let frames: String = (0..40)
            .map(|number| format!("frame #{number}: <unknown function> + 0x5b206d (0x55 in /lib/libc10.so)\n"))
            .collect();
        let printed = format!("terminate called\n  what():  registered twice: hunt\n{frames}\n");
        assert_eq!(without_frames(&printed), "terminate called |   what():  registered twice: hunt");
        assert_eq!(without_frames("frame #0: nothing else\n"), "");
        let long = without_frames(&format!("{}é{}", "-".repeat(9), "x".repeat(LAST_WORDS - 1)));
        assert_eq!(long, "x".repeat(LAST_WORDS - 1));
    }
}
