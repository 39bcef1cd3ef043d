//! oha: how it is called, and what its JSON says.

use std::path::Path;
use std::process::Command;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use serde_json::Value;
use tempfile::NamedTempFile;

use super::CONTENT_TYPE;
use super::Load;
use super::Seen;
use super::file;

pub(super) fn command(program: &Path, load: &Load) -> Result<(Command, Vec<NamedTempFile>)> {
    let mut files = Vec::new();
    let mut command = Command::new(program);
    command
        // Requests on their way at the end are waited for, and are no errors.
        .args(["--no-tui", "--output-format", "json", "-w", "-m", "POST", "-T", CONTENT_TYPE])
        .arg("-D")
        .arg(&load.body)
        .args(["-c", &load.connections.to_string()])
        .args(["-z", &format!("{}ms", load.time.as_millis())]);
    if let Some(rate) = load.rate {
        // A request that couldn't be sent when it was due counts from then: latency as a client has it.
        command.args(["--latency-correction", "-q", &format!("{}", rate.round().max(1.0))]);
    }
    match load.urls.as_slice() {
        [url] => {
            command.arg(url);
        }
        urls => {
            let list = file(&urls.join("\n"), "the list of addresses")?;
            command.arg("--urls-from-file").arg(list.path());
            files.push(list);
        }
    }
    Ok((command, files))
}

pub(super) fn read(text: &str) -> Result<Seen> {
    let json: Value = serde_json::from_str(text).context("it isn't JSON")?;
    let number = |path: &str| json.pointer(path).and_then(Value::as_f64).with_context(|| format!("it has no {path}"));
    let counts = |name: &str| -> Vec<(String, u64)> {
        let counts = json[name].as_object().into_iter().flatten();
        counts.map(|(kind, count)| (kind.clone(), count.as_u64().unwrap_or_default())).collect()
    };
    let statuses = counts("statusCodeDistribution");
    if statuses.is_empty() {
        bail!("it has no statusCodeDistribution: nothing was answered ({:?})", counts("errorDistribution"));
    }
    let (wanted, unwanted): (Vec<_>, Vec<_>) = statuses.into_iter().partition(|(status, _)| status.starts_with('2'));
    let failed: Vec<(String, u64)> = unwanted.into_iter().chain(counts("errorDistribution")).collect();
    let p99 = number("/latencyPercentiles/p99")?;
    Ok(Seen {
        requests_per_second: number("/summary/requestsPerSec")?,
        answered: wanted.iter().map(|(_, count)| count).sum(),
        p50: number("/latencyPercentiles/p50")? * 1e3,
        p99: p99 * 1e3,
        // With too few requests for it there is none; the highest that there is says the same then.
        p999: json["latencyPercentiles"]["p99.9"].as_f64().unwrap_or(p99) * 1e3,
        errors: failed.iter().map(|(_, count)| count).sum(),
        kinds: failed.iter().map(|(kind, count)| format!("{kind}: {count}")).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::load;
    use super::*;
    use crate::process;

    #[test]
    fn figures_are_read_from_the_json() {
        let seen = read(
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
            answered: 6000,
            p50: 2.5,
            p99: 12.5,
            p999: 12.5,
            errors: 5,
            kinds: vec!["503: 2".to_owned(), "connection closed: 3".to_owned()],
        };
        assert_eq!(seen, expected);
    }

    #[test]
    fn what_is_missing_is_named() {
        let message = |text: &str| format!("{:#}", read(text).unwrap_err());
        assert!(message("error: no such option").starts_with("it isn't JSON"));
        let without_p50 = r#"{"latencyPercentiles": {"p99": 1}, "summary": {"requestsPerSec": 1}, "statusCodeDistribution": {"200": 1}}"#;
        assert_eq!(message(without_p50), "it has no /latencyPercentiles/p50");
        let refused = r#"{"statusCodeDistribution": {}, "errorDistribution": {"refused": 9}}"#;
        assert!(message(refused).contains(r#"nothing was answered ([("refused", 9)])"#));
    }

    #[test]
    fn it_is_called_as_the_load_says() {
        let shown = |load: &Load| process::shown(&command(Path::new("oha"), load).unwrap().0);
        let mut load = load("oha");
        let text = shown(&load);
        assert!(text.ends_with("-D /dev/null -c 8 -z 1500ms http://127.0.0.1:1/x"), "{text}");
        load.rate = Some(99.6);
        load.urls.push("http://127.0.0.1:1/y".to_owned());
        let text = shown(&load);
        assert!(text.contains("-z 1500ms --latency-correction -q 100 --urls-from-file /"), "{text}");
    }
}
