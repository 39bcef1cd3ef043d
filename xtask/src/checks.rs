//! `test` and `check`: what has to pass before a commit.

use std::ffi::OsString;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::process;
use crate::setup;

/// Whether the part that needs libtorch is tested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Torch {
    With,
    Without,
}

/// How much `check` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    Full,
    Quick,
}

/// One named call of cargo.
#[derive(Debug)]
struct Step {
    name: &'static str,
    command: Command,
}

/// Runs the tests with libtorch and without, or only without.
pub(crate) fn test(torch: Torch, arguments: &[OsString]) -> Result<()> {
    if torch == Torch::With {
        setup::run()?;
    }
    run_all(test_steps(torch, arguments))
}

/// Runs every check, also after one failed: who commits wants to see all of them.
pub(crate) fn check(depth: Depth) -> Result<()> {
    setup::run()?;
    let mut steps = vec![
        step("format", &["fmt", "--all", "--check"]),
        step("lints", &lints(&[])),
        step("lints without libtorch", &lints(&["--no-default-features"])),
    ];
    if depth == Depth::Full {
        steps.extend(test_steps(Torch::With, &[]));
    }
    let mut docs = step("docs", &["doc", "--workspace", "--no-deps"]);
    docs.command.env("RUSTDOCFLAGS", "-D warnings");
    steps.push(docs);
    run_all(steps)
}

// === steps ===

fn step(name: &'static str, arguments: &[&str]) -> Step {
    let mut command = process::cargo();
    command.args(arguments);
    Step { name, command }
}

fn lints(features: &[&'static str]) -> Vec<&'static str> {
    let call = ["clippy", "--workspace", "--all-targets"];
    [&call, features, &["--", "-D", "warnings"]].concat()
}

fn test_steps(torch: Torch, arguments: &[OsString]) -> Vec<Step> {
    let mut steps = Vec::new();
    if torch == Torch::With {
        steps.push(step("tests", &["test", "--workspace"]));
    }
    steps.push(step("tests without libtorch", &["test", "--workspace", "--no-default-features"]));
    for step in &mut steps {
        step.command.args(arguments);
    }
    steps
}

fn run_all(steps: Vec<Step>) -> Result<()> {
    let mut results = Vec::new();
    for mut step in steps {
        println!("\n== {}", step.name);
        let started = Instant::now();
        let result = process::run(&mut step.command);
        if let Err(error) = &result {
            eprintln!("error: {error:#}");
        }
        results.push((step.name, started.elapsed(), result.is_ok()));
    }
    println!("\n{}", summary(&results));
    let failed: Vec<&str> = results.iter().filter(|(_, _, passed)| !passed).map(|(name, _, _)| *name).collect();
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

fn summary(results: &[(&str, Duration, bool)]) -> String {
    results
        .iter()
        .map(|(name, time, passed)| {
            let verdict = if *passed { "ok" } else { "FAILED" };
            format!("  {name:24} {verdict:6} {:7.1} s", time.as_secs_f64())
        })
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_torch_only_the_second_call_is_left() {
        let shown = |torch| {
            test_steps(torch, &["swap".into()]).iter().map(|step| process::shown(&step.command)).collect::<Vec<_>>()
        };
        let without = "cargo test --workspace --no-default-features swap";
        assert_eq!(shown(Torch::Without), [without]);
        assert_eq!(shown(Torch::With), ["cargo test --workspace swap", without]);
    }

    #[test]
    fn the_summary_names_what_failed() {
        let text = summary(&[("format", Duration::from_millis(400), true), ("tests", Duration::from_secs(75), false)]);
        assert!(text.contains("format                   ok         0.4 s"), "{text}");
        assert!(text.contains("tests                    FAILED    75.0 s"), "{text}");
    }
}
