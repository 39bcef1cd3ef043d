//! Starting the server in the background: a process of its own, which writes to a log file.

use std::fs;
use std::fs::File;
use std::io;
use std::io::Read as _;
use std::io::Seek as _;
use std::io::SeekFrom;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;

use crate::cli::say;

/// What became of a start.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It takes requests.
    Serves,
    /// It has ended before, with these last words.
    Ended { said: String },
}

/// The hidden flag of the process in the background; its pid file follows.
const DETACHED: &str = "--detached";

/// What the server says when it takes requests.
pub(super) const STARTED: &str = "Model server started.";

/// Between two looks at what the server has written.
const LOOK: Duration = Duration::from_millis(10);

const LOG_FILE: &str = "ts_log.log";
/// TorchServe's variable for the folder of its logs, and the folder without it.
const LOG_LOCATION: &str = "LOG_LOCATION";
const LOG_FOLDER: &str = "logs";

/// What the server has written since it was started.
struct Written {
    file: File,
    text: String,
    /// Up to here its lines were looked at.
    seen: usize,
}

/// Starts this program again under the name that it was called by and with the same flags, and returns when it takes requests, or has failed to.
pub(super) fn start(name: &str, pid_file: &Path) -> anyhow::Result<Outcome> {
    let log = log_file();
    let failed =
        || format!("can't write the log {}: name another folder with the variable {LOG_LOCATION}", log.display());
    let file = open(&log).with_context(failed)?;
    let mut written = Written::from_here(&log).with_context(failed)?;
    // The file behind this name is this very program, even where another has been put in its place meanwhile.
    let mut child = Command::new("/proc/self/exe")
        .arg0(name)
        .args(std::env::args_os().skip(1))
        .arg(DETACHED)
        .arg(pid_file)
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .spawn()
        .context("can't start the server's process")?;
    loop {
        // Whether it has ended comes first: all that it wrote is then there to be read.
        let ended = child.try_wait().context("can't see whether the server runs")?;
        for line in written.new_lines()? {
            if line.contains(" API bind to: ") {
                say(&line);
            }
            if line == STARTED {
                say(STARTED);
                say(&format!("It runs in the background as process {}; its log is {}", child.id(), log.display()));
                return Ok(Outcome::Serves);
            }
        }
        if ended.is_some() {
            return Ok(Outcome::Ended { said: written.text });
        }
        std::thread::sleep(LOOK);
    }
}

fn log_file() -> PathBuf {
    let folder = std::env::var_os(LOG_LOCATION).filter(|folder| !folder.is_empty());
    PathBuf::from(folder.unwrap_or_else(|| LOG_FOLDER.into())).join(LOG_FILE)
}

fn open(log: &Path) -> io::Result<File> {
    if let Some(folder) = log.parent() {
        fs::create_dir_all(folder)?;
    }
    File::options().append(true).create(true).open(log)
}

// === impl Written ===

impl Written {
    fn from_here(log: &Path) -> io::Result<Self> {
        let mut file = File::open(log)?;
        file.seek(SeekFrom::End(0))?;
        Ok(Self { file, text: String::new(), seen: 0 })
    }

    /// The whole lines that have come since the last call.
    fn new_lines(&mut self) -> io::Result<Vec<String>> {
        let mut bytes = Vec::new();
        self.file.read_to_end(&mut bytes)?;
        self.text.push_str(&String::from_utf8_lossy(&bytes));
        let new = &self.text[self.seen..];
        let whole = new.rfind('\n').map_or(0, |end| end + 1);
        self.seen += whole;
        Ok(new[..whole].lines().map(str::to_owned).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn only_whole_lines_are_read_and_each_once() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("logs/ts_log.log");
        let mut file = open(&log).unwrap();
        writeln!(file, "of an earlier server").unwrap();
        let mut written = Written::from_here(&log).unwrap();
        assert!(written.new_lines().unwrap().is_empty());
        write!(file, "one\ntw").unwrap();
        assert_eq!(written.new_lines().unwrap(), ["one"]);
        writeln!(file, "o\nthree").unwrap();
        assert_eq!(written.new_lines().unwrap(), ["two", "three"]);
        assert_eq!(written.text, "one\ntwo\nthree\n");
    }
}
