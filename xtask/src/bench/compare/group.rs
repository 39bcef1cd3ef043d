//! A server with all the processes it starts: asked to rest while others are measured, counted, and ended as one.

use std::fs;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context;
use anyhow::Result;
use rustix::process::Pid;
use rustix::process::Signal;
use rustix::process::kill_process_group;

use crate::process;

/// A process group of its own, which Ctrl-C doesn't reach.
#[derive(Debug)]
pub(super) struct Group {
    child: Child,
    pub(super) started: Instant,
    said: PathBuf,
}

/// What the processes of a group have taken so far.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Taken {
    pub(super) processes: usize,
    /// Of all together; what several share counts for each of them.
    pub(super) resident_bytes: u64,
    /// The same, but what several share counts once.
    pub(super) proportional_bytes: u64,
    pub(super) cpu_seconds: f64,
}

/// What a line of `/proc/PID/stat` says.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    group: i32,
    ticks: u64,
}

/// The unit of times in /proc, the same on every Linux of today.
const TICKS_PER_SECOND: f64 = 100.0;

const ENDED_WITHIN: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(10);
const LAST_LINES: usize = 8;

// === impl Group ===

impl Group {
    /// Starts it; what it says goes to this file.
    pub(super) fn start(mut command: Command, said: &Path) -> Result<Self> {
        let shown = process::shown(&command);
        let output = File::create(said).with_context(|| format!("{} can't be written", said.display()))?;
        let errors = output.try_clone().context("a file can't be opened twice")?;
        command.stdin(Stdio::null()).stdout(output).stderr(errors).process_group(0);
        let started = Instant::now();
        let child = command.spawn().with_context(|| format!("`{shown}` can't be started"))?;
        Ok(Self { child, started, said: said.to_owned() })
    }

    pub(super) fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Until it is resumed it gets no processor time.
    pub(super) fn pause(&self) {
        self.signal(Signal::STOP);
    }

    pub(super) fn resume(&self) {
        self.signal(Signal::CONT);
    }

    pub(super) fn taken(&self) -> Taken {
        let mut taken = Taken::default();
        let group = self.child.id().cast_signed();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let read = |name: &str| fs::read_to_string(entry.path().join(name)).unwrap_or_default();
            let Some(stat) = stat(&read("stat")).filter(|stat| stat.group == group) else { continue };
            let resident = kibibytes(&read("status"), "VmRSS:").unwrap_or_default() * 1024;
            taken.processes += 1;
            taken.resident_bytes += resident;
            taken.proportional_bytes +=
                kibibytes(&read("smaps_rollup"), "Pss:").map_or(resident, |kibibytes| kibibytes * 1024);
            taken.cpu_seconds += stat.ticks as f64 / TICKS_PER_SECOND;
        }
        taken
    }

    /// Its last words.
    pub(super) fn said(&self) -> String {
        let said = fs::read(&self.said).unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        let lines: Vec<&str> = said.lines().collect();
        lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
    }

    fn signal(&self, signal: Signal) {
        // Fails only when all of it has ended.
        let _ = kill_process_group(Pid::from_child(&self.child), signal);
    }
}

impl Drop for Group {
    /// Asks first; what then still runs is killed, whatever it is. Nothing stays behind.
    fn drop(&mut self) {
        self.resume();
        self.signal(Signal::TERM);
        let asked = Instant::now();
        while asked.elapsed() < ENDED_WITHIN && !self.has_ended() {
            thread::sleep(POLL);
        }
        self.signal(Signal::KILL);
        let _ = self.child.wait();
    }
}

/// From `pid (name) state ppid pgrp … utime stime …`; the name may have blanks and parentheses of its own.
fn stat(line: &str) -> Option<Stat> {
    let fields: Vec<&str> = line.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    Some(Stat { group: fields.get(2)?.parse().ok()?, ticks: number(11)? + number(12)? })
}

/// From a line `name   12 kB`.
fn kibibytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix(" kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_s_lines_are_read() {
        let line = "12 (a (b) c) S 1 77 77 0 -1 4194560 900 0 0 0 250 50 0 0 20 0 9 0 5 1 2";
        assert_eq!(stat(line), Some(Stat { group: 77, ticks: 300 }));
        assert_eq!(stat("12 (a) S 1"), None);
        assert_eq!(kibibytes("Rss: 5 kB\nPss:    1234 kB\n", "Pss:"), Some(1234));
        assert_eq!(kibibytes("", "Pss:"), None);
    }

    #[test]
    fn a_group_is_counted_and_ends_as_one() {
        let folder = tempfile::tempdir().unwrap();
        let said = folder.path().join("said");
        let mut command = Command::new("sh");
        // The second is a child of the first, and would outlive it.
        command.args(["-c", "echo here; sleep 1000 & exec sleep 1000"]);
        let mut group = Group::start(command, &said).unwrap();
        while group.taken().processes < 2 || group.said().is_empty() {
            assert!(!group.has_ended(), "{}", group.said());
            thread::yield_now();
        }
        assert_eq!(group.said(), "here");
        group.pause();
        let id = group.child.id().cast_signed();
        drop(group);
        let left = fs::read_dir("/proc").unwrap().flatten().filter(|entry| {
            let line = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            // A zombie is its new parent's to bury.
            !line.contains(") Z ") && stat(&line).is_some_and(|stat| stat.group == id)
        });
        assert_eq!(left.count(), 0);
    }
}
