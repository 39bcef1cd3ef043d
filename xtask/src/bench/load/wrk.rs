//! wrk: how it is called, and what the script it runs writes.

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

/// Sends a file to one path after the other, and writes what wrk saw as a line of JSON; times are in microseconds.
const SCRIPT: &str = r#"
local requests, turn = {}, 0

function init(arguments)
    local file = assert(io.open(arguments[1], "rb"))
    wrk.body = file:read("*a")
    file:close()
    wrk.headers["content-type"] = arguments[2]
    for index = 3, #arguments do
        requests[index - 2] = wrk.format("POST", arguments[index])
    end
end

function request()
    turn = turn % #requests + 1
    return requests[turn]
end

function done(summary, latency)
    local errors = summary.errors
    io.write(string.format(
        '\n{"requests":%d,"duration":%d,"p50":%d,"p99":%d,"p999":%d,"connect":%d,"read":%d,"write":%d,"status":%d,"timeout":%d}\n',
        summary.requests, summary.duration,
        latency:percentile(50), latency:percentile(99), latency:percentile(99.9),
        errors.connect, errors.read, errors.write, errors.status, errors.timeout))
end
"#;

/// Its counts of requests that went wrong, and what they are.
const FAILURES: [(&str, &str); 5] = [
    ("status", "another status than 2xx"),
    ("connect", "no connection"),
    ("read", "an answer that broke off"),
    ("write", "a request that broke off"),
    ("timeout", "no answer in a minute"),
];

pub(super) fn command(program: &Path, load: &Load) -> Result<(Command, Vec<NamedTempFile>)> {
    if load.rate.is_some() {
        bail!("wrk has no open loop");
    }
    let script = file(SCRIPT, "wrk's script")?;
    let (server, _) = split(load.urls.first().context("nothing to send to; this is a bug")?)?;
    let mut command = Command::new(program);
    command
        .args(["--threads", "1", "--connections", &load.connections.to_string()])
        // It takes whole seconds.
        .args(["--duration", &format!("{}s", load.time.as_millis().div_ceil(1000).max(1))])
        .args(["--timeout", "60s", "--script"])
        .arg(script.path())
        .arg(server)
        .arg("--")
        .arg(&load.body)
        .arg(CONTENT_TYPE);
    for url in &load.urls {
        command.arg(split(url)?.1);
    }
    Ok((command, vec![script]))
}

/// Into the server and the path.
fn split(url: &str) -> Result<(&str, &str)> {
    let host = url.find("://").map_or(0, |place| place + 3);
    let path = url[host..].find('/').with_context(|| format!("{url} has no path"))?;
    Ok(url.split_at(host + path))
}

pub(super) fn read(text: &str) -> Result<Seen> {
    let line = text.lines().rev().find(|line| line.starts_with('{')).context("it has no line of JSON")?;
    let json: Value = serde_json::from_str(line).context("its last line isn't JSON")?;
    let number = |name: &str| json[name].as_f64().with_context(|| format!("it has no {name}"));
    let failed: Vec<(&str, u64)> = FAILURES
        .iter()
        .map(|(name, what)| (*what, json[*name].as_u64().unwrap_or_default()))
        .filter(|(_, count)| *count > 0)
        .collect();
    let (requests, seconds) = (number("requests")?, number("duration")? / 1e6);
    // A status that isn't wanted is an answer all the same.
    let answered = requests - json["status"].as_f64().unwrap_or_default();
    if answered < 1.0 {
        bail!("nothing was answered ({failed:?})");
    }
    Ok(Seen {
        requests_per_second: requests / seconds,
        answered: answered as u64,
        p50: number("p50")? / 1e3,
        p99: number("p99")? / 1e3,
        p999: number("p999")? / 1e3,
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
    fn the_line_of_the_script_is_found_among_what_wrk_says() {
        let text = "Running 2s test @ http://127.0.0.1:1\n  10 requests in 2.00s\n\
            {\"requests\":10,\"duration\":2000000,\"p50\":1500,\"p99\":2500,\"p999\":9000,\
            \"connect\":0,\"read\":0,\"write\":0,\"status\":3,\"timeout\":1}\n";
        let seen = read(text).unwrap();
        assert_eq!((seen.requests_per_second, seen.answered, seen.errors), (5.0, 7, 4));
        assert_eq!((seen.p50, seen.p99, seen.p999), (1.5, 2.5, 9.0));
        assert_eq!(seen.kinds, ["another status than 2xx: 3", "no answer in a minute: 1"]);
        assert!(read("unable to connect").unwrap_err().to_string().contains("no line of JSON"));
        let silent = text.replace("\"requests\":10", "\"requests\":0").replace("\"status\":3", "\"status\":0");
        assert!(read(&silent).unwrap_err().to_string().contains("nothing was answered"));
    }

    #[test]
    fn it_is_called_as_the_load_says() {
        let mut load = load("");
        load.urls.push("http://127.0.0.1:1/models/y".to_owned());
        let shown = process::shown(&command(Path::new("wrk"), &load).unwrap().0);
        assert!(shown.starts_with("wrk --threads 1 --connections 8 --duration 2s --timeout 60s --script /"), "{shown}");
        let end = " http://127.0.0.1:1 -- /dev/null application/octet-stream /x /models/y";
        assert!(shown.ends_with(end), "{shown}");
        load.rate = Some(5.0);
        assert!(command(Path::new("wrk"), &load).is_err());
    }
}
