//! What a comparison leaves: tables in the terminal, and three files.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Context;
use anyhow::Result;
use serde_json::Value;
use serde_json::json;

use super::Bench;
use super::ECHO;
use super::MNIST;
use super::bars;
use super::peers::Peers;
use super::plot;
use super::results::Contest;
use super::scale::Scale;
use super::tables;
use super::tables::Ahead;
use crate::bench::load::Generator;
use crate::bench::machine;
use crate::bench::report::Report;
use crate::bench::report::Section;
use crate::bench::table::Table;
use crate::setup::LIBTORCH;
use crate::workspace;

/// The files, in the folder that was asked for.
const MARKDOWN: &str = "bench.md";
const JSON: &str = "bench.json";
const PLOT: &str = "bench.svg";

/// Tells all of it, and writes it.
pub(super) fn write(bench: &Bench, mut report: Report, contests: &[Contest], scale: &Scale, out: &Path) -> Result<()> {
    fs::create_dir_all(out).with_context(|| format!("{} can't be made", out.display()))?;
    let bars = bars::all(contests, scale, bench.cores);
    report.add(Section {
        title: "Bars",
        method: "What Sconce has set itself, with each contestant at the number of connections where it does most."
            .to_owned(),
        tables: vec![bars::table(&bars)],
    });
    let connections = bench.plan.connections;
    let wins: Vec<Ahead> = contests.iter().flat_map(|contest| tables::ahead(contest, connections)).collect();
    report.add(wins_section(&wins));
    for contest in contests {
        report.add(section(bench, contest));
    }
    let tables = tables::scale(scale);
    if !tables.is_empty() {
        report.add(Section {
            title: "Workers and many models",
            method: "Sconce alone. Memory under a closed loop; many models are copies of MNIST in files of their own, \
                     asked in turn by 32 connections, and echo, which has no weights. With batching off each request is \
                     a call of its own: with many models fewer requests are for the same one, so that fewer can share \
                     a call. libtorch alone calls as many copies in turn, fused, one request a call: what their weights \
                     cost that the processor's cache can't hold."
                .to_owned(),
            tables,
        });
    }
    let json = json!({
        "command": std::env::args().skip(1).collect::<Vec<_>>(),
        "machine": machine::facts(),
        "versions": versions(bench),
        "method": bench.method(),
        "bars": bars.iter().map(bars::Bar::json).collect::<Vec<_>>(),
        "peersAhead": wins.iter().map(Ahead::json).collect::<Vec<_>>(),
        "contests": contests.iter().map(Contest::json).collect::<Vec<_>>(),
        "scale": scale.json(),
    });
    let title = format!("Sconce, its ceilings and its peers: {}", machine::described());
    let portable = |text: &str| portable(bench, text);
    put(&out.join(JSON), &portable(&format!("{json:#}\n")))?;
    put(&out.join(PLOT), &plot::svg(&title, contests, connections, bench.cores))?;
    put(&out.join(MARKDOWN), &portable(&report.markdown()))
}

/// Without the paths of this machine and this run: results are shown to others.
fn portable(bench: &Bench, text: &str) -> String {
    let programs = bench.peers.as_ref().and_then(Peers::programs);
    let within = |folder: &Path| format!("{}/", folder.display());
    let mut short = text.replace(&bench.folder.display().to_string(), "WORK");
    for folder in programs.into_iter().chain([workspace::root().as_path()]) {
        short = short.replace(&within(folder), "");
    }
    short
}

fn section(bench: &Bench, contest: &Contest) -> Section {
    let connections = bench.plan.connections;
    let all = [
        tables::ratios(contest, connections, bench.cores),
        Some(tables::closed(contest, connections)),
        tables::open(contest),
        Some(tables::footprint(contest)),
        tables::alone(contest, bench.cores),
        Some(tables::contestants(contest)),
    ];
    let failure = contest.ceiling_failure.as_ref().map(|why| format!(" libtorch alone isn't measured: {why}."));
    Section {
        title: match contest.name.as_str() {
            ECHO => "Echo",
            MNIST => "MNIST",
            _ => "ResNet-18",
        },
        method: format!(
            "The input is {}. {} The best of each row is in bold. Open loops: rate, then p50 / p99 / p99.9 in \
             milliseconds.{}",
            contest.input,
            bench.method(),
            failure.unwrap_or_default()
        ),
        tables: all.into_iter().flatten().collect(),
    }
}

fn wins_section(wins: &[Ahead]) -> Section {
    let mut table = Table::new(["model, connections", "figure", "peer", "the peer's", "Sconce's"]);
    for win in wins {
        table.row([
            format!("{}, {}", win.model, win.connections),
            win.figure.to_owned(),
            win.peer.clone(),
            format!("{:.2}", win.theirs),
            format!("{:.2}", win.ours),
        ]);
    }
    let (method, tables) = match wins {
        [] => ("Nowhere in what this run measured.".to_owned(), Vec::new()),
        _ => ("By the medians of the rounds.".to_owned(), vec![table]),
    };
    Section { title: "Where a peer is ahead of Sconce", method, tables }
}

fn versions(bench: &Bench) -> Value {
    let said = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).current_dir(workspace::root()).output().ok()?;
        Some(String::from_utf8_lossy(&output.stdout).lines().next()?.trim().to_owned())
    };
    json!({
        "date": said("date", &["-u", "+%Y-%m-%dT%H:%MZ"]),
        "sconce": said("git", &["describe", "--always", "--dirty"]),
        "rustc": said("rustc", &["--version"]),
        "libtorch": LIBTORCH,
        "closedLoop": bench.closed_loop.version(),
        "openLoop": bench.open_loop.as_ref().and_then(Generator::version),
        "peers": bench.peers.as_ref().map(Peers::versions),
    })
}

fn put(file: &Path, content: &str) -> Result<()> {
    fs::write(file, content).with_context(|| format!("{} can't be written", file.display()))?;
    println!("written to {}", file.display());
    Ok(())
}

// === impl Ahead ===

impl Ahead {
    fn json(&self) -> Value {
        json!({
            "model": self.model,
            "connections": self.connections,
            "figure": self.figure,
            "peer": self.peer,
            "theirs": self.theirs,
            "ours": self.ours,
        })
    }
}
