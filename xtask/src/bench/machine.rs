//! On what the figures were taken.

use std::fs;
use std::thread;

use serde_json::Value;
use serde_json::json;

/// One line: processor, cores, memory, kernel, and how busy it was with other things.
pub(super) fn described() -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let cores = thread::available_parallelism().map_or(1, usize::from);
    described_by(
        &read("/proc/cpuinfo"),
        cores,
        &read("/proc/meminfo"),
        &read("/proc/sys/kernel/osrelease"),
        &read("/proc/loadavg"),
    )
}

/// The same for programs.
pub(super) fn facts() -> Value {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let number = |text: &str| text.split_whitespace().next()?.parse::<f64>().ok();
    json!({
        "processor": value(&read("/proc/cpuinfo"), "model name"),
        "architecture": std::env::consts::ARCH,
        "cores": thread::available_parallelism().map_or(1, usize::from),
        "memoryBytes": value(&read("/proc/meminfo"), "MemTotal").and_then(number).map(|kibibytes| kibibytes * 1024.0),
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
        "loadAtTheEnd": number(&read("/proc/loadavg")),
    })
}

/// What a kernel doesn't say is left out.
fn described_by(cpuinfo: &str, cores: usize, meminfo: &str, release: &str, loadavg: &str) -> String {
    let processor = value(cpuinfo, "model name").unwrap_or(std::env::consts::ARCH);
    let kibibytes: Option<f64> =
        value(meminfo, "MemTotal").and_then(|text| text.strip_suffix(" kB")).and_then(|text| text.trim().parse().ok());
    let memory = kibibytes.map(|kibibytes| format!("{:.0} GiB of memory", kibibytes / 1024.0 / 1024.0));
    let kernel = Some(release.trim()).filter(|text| !text.is_empty()).map(|text| format!("Linux {text}"));
    let load =
        loadavg.split(' ').next().filter(|text| !text.is_empty()).map(|text| format!("load {text} before the run"));
    let parts = [Some(processor.to_owned()), Some(format!("{cores} cores")), memory, kernel, load];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// From the first `name : value`.
fn value<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_is_one_line() {
        let line = described_by(
            "processor\t: 0\nmodel name\t: A CPU @ 2 GHz\nmodel name\t: A CPU @ 2 GHz\n",
            2,
            "MemTotal:       16777216 kB\nMemFree: 1 kB\n",
            "6.1.0\n",
            "0.52 0.58 0.59 1/257 1234\n",
        );
        assert_eq!(line, "A CPU @ 2 GHz, 2 cores, 16 GiB of memory, Linux 6.1.0, load 0.52 before the run");
        assert_eq!(described_by("", 1, "", "", ""), format!("{}, 1 cores", std::env::consts::ARCH));
    }
}
