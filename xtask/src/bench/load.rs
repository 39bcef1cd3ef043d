//! Load by oha, a closed loop: every connection sends its next request when it has the answer to the one before.

use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use serde_json::Value;

use crate::process;

/// What is sent, and how.
#[derive(Debug, Clone)]
pub(super) struct Load {
    pub(super) oha: PathBuf,
    pub(super) url: String,
    pub(super) body: PathBuf,
    pub(super) connections: usize,
    pub(super) time: Duration,
}

/// Under way.
#[derive(Debug)]
pub(super) struct Running {
    child: Option<Child>,
    shown: String,
}

/// What oha saw.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Seen {
    pub(super) requests_per_second: f64,
    /// In milliseconds.
    pub(super) p50: f64,
    pub(super) p99: f64,
    /// Requests with another status than 2xx, or without an answer.
    pub(super) errors: u64,
    /// What those were, as `503: 12`.
    pub(super) kinds: Vec<String>,
}

// === impl Load ===

impl Load {
    pub(super) fn start(&self) -> Result<Running> {
        let mut command = self.command();
        let shown = process::shown(&command);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().with_context(|| format!("`{shown}` can't be started"))?;
        Ok(Running { child: Some(child), shown })
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.oha);
        command
            // Requests on their way at the end are waited for, and are no errors.
            .args(["--no-tui", "--output-format", "json", "-w", "-m", "POST", "-T", "application/octet-stream"])
            .arg("-D")
            .arg(&self.body)
            .args(["-c", &self.connections.to_string()])
            .args(["-z", &format!("{}ms", self.time.as_millis())])
            .arg(&self.url);
        command
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
        Seen::read(&text).with_context(|| format!("`{}` wrote what isn't understood", self.shown))
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

// === impl Seen ===

impl Seen {
    /// From oha's JSON.
    fn read(text: &str) -> Result<Self> {
        let json: Value = serde_json::from_str(text).context("it isn't JSON")?;
        let number =
            |path: &str| json.pointer(path).and_then(Value::as_f64).with_context(|| format!("it has no {path}"));
        let counts = |name: &str| -> Vec<(String, u64)> {
            let counts = json[name].as_object().into_iter().flatten();
            counts.map(|(kind, count)| (kind.clone(), count.as_u64().unwrap_or_default())).collect()
        };
        let statuses = counts("statusCodeDistribution");
        if statuses.is_empty() {
            bail!("it has no statusCodeDistribution: nothing was answered ({:?})", counts("errorDistribution"));
        }
        let unwanted = statuses.into_iter().filter(|(status, _)| !status.starts_with('2'));
        let failed: Vec<(String, u64)> = unwanted.chain(counts("errorDistribution")).collect();
        Ok(Self {
            requests_per_second: number("/summary/requestsPerSec")?,
            p50: number("/latencyPercentiles/p50")? * 1e3,
            p99: number("/latencyPercentiles/p99")? * 1e3,
            errors: failed.iter().map(|(_, count)| count).sum(),
            kinds: failed.iter().map(|(kind, count)| format!("{kind}: {count}")).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_from_the_json() {
        let seen = Seen::read(
            r#"{
                "summary": {"successRate": 1.0, "total": 5.0, "requestsPerSec": 1234.5},
                "latencyPercentiles": {"p10": 0.001, "p50": 0.0025, "p99": 0.0125, "p99.9": null},
                "statusCodeDistribution": {"200": 6000, "503": 2},
                "errorDistribution": {"connection closed": 3}
            }"#,
        )
        .unwrap();
        let expected = Seen {
            requests_per_second: 1234.5,
            p50: 2.5,
            p99: 12.5,
            errors: 5,
            kinds: vec!["503: 2".to_owned(), "connection closed: 3".to_owned()],
        };
        assert_eq!(seen, expected);
    }

    #[test]
    fn what_is_missing_is_named() {
        let message = |text: &str| format!("{:#}", Seen::read(text).unwrap_err());
        assert!(message("error: no such option").starts_with("it isn't JSON"));
        let without_p50 = r#"{"summary": {"requestsPerSec": 1}, "statusCodeDistribution": {"200": 1}}"#;
        assert_eq!(message(without_p50), "it has no /latencyPercentiles/p50");
        let refused = r#"{"statusCodeDistribution": {}, "errorDistribution": {"refused": 9}}"#;
        assert!(message(refused).contains(r#"nothing was answered ([("refused", 9)])"#));
    }

    #[test]
    fn a_failure_of_the_program_is_quoted() {
        let load = Load {
            oha: "cat".into(),
            url: "http://127.0.0.1:1/x".to_owned(),
            body: "/dev/null".into(),
            connections: 8,
            time: Duration::from_millis(1500),
        };
        let shown = process::shown(&load.command());
        assert!(shown.ends_with("-D /dev/null -c 8 -z 1500ms http://127.0.0.1:1/x"), "{shown}");
        let message = load.start().unwrap().finish().unwrap_err().to_string();
        assert!(message.contains("failed (exit status: 1)"), "{message}");
    }
}
