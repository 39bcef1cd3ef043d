//! A running `sconce serve`: started, waited for, watched and stopped as an operator does it.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::NamedTempFile;

use crate::http::Client;
use crate::process;

const READY_WITHIN: Duration = Duration::from_secs(60);
const STOPPED_WITHIN: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(10);
/// How much of its output is shown when something went wrong.
const LAST_LINES: usize = 40;

/// The process, what it said, and where it listens.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    started: Instant,
    lines: Receiver<String>,
    said: Vec<String>,
    inference: Option<String>,
    management: Option<String>,
    metrics: Option<String>,
    announced: bool,
}

/// A line of the server that xtask acts on.
#[derive(Debug, PartialEq, Eq)]
enum Notice {
    Inference(String),
    Management(String),
    Metrics(String),
    Started,
}

// === impl Server ===

impl Server {
    pub(crate) fn start(mut command: Command) -> Result<Self> {
        let shown = process::shown(&command);
        println!("$ {shown}");
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C goes to xtask alone, which then stops the server the way it wants to show.
            .process_group(0);
        let started = Instant::now();
        let mut child = command.spawn().with_context(|| format!("`{shown}` can't be started"))?;
        let (sender, lines) = mpsc::channel();
        if let Some(output) = child.stdout.take() {
            forward(output, sender.clone());
        }
        if let Some(output) = child.stderr.take() {
            forward(output, sender);
        }
        Ok(Self {
            child,
            started,
            lines,
            said: Vec::new(),
            inference: None,
            management: None,
            metrics: None,
            announced: false,
        })
    }

    /// Waits until the server says it has started, answers, and every model has a ready worker.
    /// Returns the time since its start.
    pub(crate) fn wait_until_ready(&mut self, models: &[&str], interrupted: &AtomicBool) -> Result<Duration> {
        let client = Client::new();
        loop {
            self.listen();
            if let Some(status) = self.ended()? {
                return Err(self.explain(&anyhow!("the server ended before it was ready ({status})")));
            }
            if interrupted.load(Ordering::Relaxed) {
                bail!("interrupted");
            }
            let open = self.not_ready(&client, models);
            if open.is_empty() {
                return Ok(self.started.elapsed());
            }
            if self.started.elapsed() > READY_WITHIN {
                return Err(self.explain(&anyhow!(
                    "the server isn't ready after {} s: {}",
                    READY_WITHIN.as_secs(),
                    open.join(", ")
                )));
            }
            thread::sleep(POLL);
        }
    }

    /// Where predictions are asked for, such as `http://127.0.0.1:8080`.
    pub(crate) fn inference_address(&self) -> Result<&str> {
        said(self.inference.as_deref())
    }

    /// Where models are described and reloaded.
    pub(crate) fn management_address(&self) -> Result<&str> {
        said(self.management.as_deref())
    }

    /// Where it shows its counters.
    pub(crate) fn metrics_address(&self) -> Result<&str> {
        said(self.metrics.as_deref())
    }

    /// What the process has in memory.
    pub(crate) fn resident_bytes(&self) -> Result<u64> {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(&path).with_context(|| format!("{path} can't be read"))?;
        resident_in(&status).with_context(|| format!("{path} has no VmRSS"))
    }

    /// Shows the server's output until a signal comes; an end of its own is an error.
    pub(crate) fn run_on(&mut self, interrupted: &AtomicBool) -> Result<()> {
        while !interrupted.load(Ordering::Relaxed) {
            for line in self.lines.try_iter() {
                println!("{line}");
            }
            if let Some(status) = self.ended()? {
                for line in self.unheard() {
                    println!("{line}");
                }
                bail!("the server ended by itself ({status})");
            }
            thread::sleep(POLL);
        }
        Ok(())
    }

    /// Asks the server to end, and checks that it says it went well.
    pub(crate) fn stop(mut self) -> Result<()> {
        kill_process(Pid::from_child(&self.child), Signal::TERM).context("the server can't be sent SIGTERM")?;
        let asked = Instant::now();
        let status = loop {
            if let Some(status) = self.ended()? {
                break status;
            }
            if asked.elapsed() > STOPPED_WITHIN {
                return Err(
                    self.explain(&anyhow!("the server still runs {} s after SIGTERM", STOPPED_WITHIN.as_secs()))
                );
            }
            thread::sleep(POLL);
        };
        if !status.success() {
            return Err(
                self.explain(&anyhow!("the server was asked to end and ended with {status}, not with exit code 0"))
            );
        }
        Ok(())
    }

    /// The error, with what the server said last.
    pub(crate) fn explain(&mut self, error: &Error) -> Error {
        let last = self.unheard();
        self.said.extend(last);
        let first = self.said.len().saturating_sub(LAST_LINES);
        let last: Vec<String> = self.said[first..].iter().map(|line| format!("  {line}")).collect();
        let output = if last.is_empty() {
            "it printed nothing".to_owned()
        } else {
            format!("its output:\n\n{}", last.join("\n"))
        };
        anyhow!("{error:#}; {output}")
    }

    fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().context("the server's process can't be asked")
    }

    fn listen(&mut self) {
        for line in self.lines.try_iter() {
            match notice(&line) {
                Some(Notice::Inference(address)) => self.inference = Some(address),
                Some(Notice::Management(address)) => self.management = Some(address),
                Some(Notice::Metrics(address)) => self.metrics = Some(address),
                Some(Notice::Started) => self.announced = true,
                None => {}
            }
            self.said.push(line);
        }
    }

    /// The lines that are still on their way, when the server has ended; else those that are there.
    fn unheard(&mut self) -> Vec<String> {
        // A process it left behind may hold its output open: not for ever.
        let patience = match self.child.try_wait() {
            Ok(Some(_)) => Duration::from_secs(1),
            _ => Duration::ZERO,
        };
        std::iter::from_fn(|| self.lines.recv_timeout(patience).ok()).collect()
    }

    /// What is still missing, in words.
    fn not_ready(&self, client: &Client, models: &[&str]) -> Vec<String> {
        let (Some(inference), Some(management)) = (&self.inference, &self.management) else {
            return vec!["it hasn't said where it listens".into()];
        };
        if !self.announced {
            return vec!["it hasn't said `Model server started.`".into()];
        }
        let ping = match client.get(&format!("{inference}/ping")) {
            Ok(answer) if answer.status == 200 => None,
            Ok(answer) => Some(format!("/ping answers {}", answer.status)),
            Err(error) => Some(format!("{error:#}")),
        };
        let models = models.iter().filter_map(|model| match client.get(&format!("{management}/models/{model}")) {
            Ok(answer) if answer.status == 200 => {
                let workers = worker_statuses(&answer.body);
                let ready = workers.iter().any(|status| status == "READY");
                (!ready).then(|| format!("the workers of {model} are {workers:?}"))
            }
            Ok(answer) => Some(format!("/models/{model} answers {}", answer.status)),
            Err(error) => Some(format!("{error:#}")),
        });
        ping.into_iter().chain(models).collect()
    }
}

impl Drop for Server {
    /// Nothing stays behind, whichever step failed.
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            // Both fail only when the process has just ended.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// A configuration that lets the system choose the ports, so that nobody is disturbed, with these settings besides.
pub(crate) fn configuration(settings: &[(&str, &str)]) -> Result<NamedTempFile> {
    let write = || -> std::io::Result<NamedTempFile> {
        let mut file = tempfile::Builder::new().suffix(".properties").tempfile()?;
        for api in ["inference", "management", "metrics"] {
            writeln!(file, "{api}_address=http://127.0.0.1:0")?;
        }
        for (key, value) in settings {
            writeln!(file, "{key}={value}")?;
        }
        file.flush()?;
        Ok(file)
    };
    write().context("the server's configuration can't be written to the temporary folder")
}

fn said(address: Option<&str>) -> Result<&str> {
    address.context("the server hasn't said where it listens")
}

/// Passes lines on, so that the server never waits for a reader.
fn forward(output: impl Read + Send + 'static, sender: Sender<String>) {
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
}

/// The lines are TorchServe's, and may stand behind a time and a level.
fn notice(line: &str) -> Option<Notice> {
    if line.contains("Model server started.") {
        return Some(Notice::Started);
    }
    let (before, after) = line.split_once(" API bind to: ")?;
    let address = after.split_whitespace().next()?.trim_end_matches('/');
    match before.rsplit(' ').next()? {
        "Inference" => Some(Notice::Inference(address.to_owned())),
        "Management" => Some(Notice::Management(address.to_owned())),
        "Metrics" => Some(Notice::Metrics(address.to_owned())),
        _ => None,
    }
}

/// From `[{"workers": [{"status": "READY"}]}]`.
fn worker_statuses(body: &str) -> Vec<String> {
    let description: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    description[0]["workers"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|worker| Some(worker["status"].as_str()?.to_owned()))
        .collect()
}

/// From the line `VmRSS:     12345 kB`.
fn resident_in(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
#[path = "server_tests.rs"]
pub(crate) mod tests;
