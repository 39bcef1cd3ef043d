//! `bench`: what Sconce costs, measured on the machine at hand and compared with its own bars.
//!
//! A subject starts a server of its own (`site`), puts new builds of plugins (`plugin`) where it finds them, asks it by
//! itself or through a public load generator (`load`, from `tools`), and tells what it saw as tables (`report`).

use std::path::Path;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use clap::Subcommand;

mod compare;
mod figures;
mod load;
mod machine;
mod metrics;
mod plugin;
mod report;
mod site;
mod swap;
mod table;
mod tools;

/// What can be measured.
#[derive(Debug, Subcommand)]
pub(crate) enum Subject {
    /// What a hot swap costs: requests, time and memory.
    ///
    /// Runs setup, builds the server and three plugins (release), starts servers on free ports, and
    /// measures:
    ///
    ///  1. requests/s, p50 and p99 under a closed loop of connections, on echo and on MNIST, in rounds
    ///     without swaps and rounds with one swap a second in turns.
    ///     Bar: p99 with swaps at most 1.5 times the p99 without, in the median of the rounds; no errors.
    ///  2. From the moment a new build has settled to the first answer by it, trial included.
    ///     Bar: under 500 ms.
    ///  3. Each step of those swaps, as `GET /models/{model}/generations` tells them.
    ///     Bar: open + start + publish, which is the swap after a passed trial, under 5 ms.
    ///  4. Memory: resident and mapped bytes that each swap leaves, with sconce_unload=retain and =unmap.
    ///     Bar: with unmap less than 20 MB in 1,000 swaps.
    ///
    /// Every swap brings a build that the server hasn't seen: the plugin's bytes with others appended,
    /// put in place by a rename, found by the server's watcher.
    ///
    /// The load generator is oha, https://github.com/hatoo/oha: the one on PATH, else one that is
    /// installed once, with `cargo install`, into the target folder.
    #[command(verbatim_doc_comment)]
    Swap(SwapArgs),
}

#[derive(Debug, Args)]
pub(crate) struct SwapArgs {
    /// Shorter and fewer rounds, one count of connections: under a minute, and rougher figures.
    #[arg(long)]
    quick: bool,

    /// Measure what was built before: no setup, no build.
    #[arg(long)]
    no_build: bool,

    /// Don't install oha. Where it isn't there either, latency under load is left out.
    #[arg(long)]
    no_install: bool,

    /// Write the figures to this file too, as Markdown.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
}

/// What is compared where no subject is named.
#[derive(Debug, Args)]
pub(crate) struct CompareArgs {
    /// Under three minutes without peers: short rounds, 8 and 32 connections, no open loops; rougher figures.
    #[arg(long)]
    quick: bool,

    /// Measure TorchServe 0.12.0 and mosec 0.9.8, too: they are installed from PyPI, once, below the target folder.
    #[arg(long)]
    peers: bool,

    /// An interpreter that has the peers already; nothing is installed then.
    #[arg(long, value_name = "PROGRAM", requires = "peers")]
    python: Option<PathBuf>,

    /// Measure only these: echo, mnist, resnet18.
    #[arg(long, value_name = "MODEL", value_delimiter = ',', value_parser = ["echo", "mnist", "resnet18"])]
    only: Vec<String>,

    /// Measure what was built before: no setup, no build.
    #[arg(long)]
    no_build: bool,

    /// Don't install oha. Where it isn't there either, open loops are left out.
    #[arg(long)]
    no_install: bool,

    /// Write bench.json, bench.md and bench.svg to this folder [default: bench/results below the target folder].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

// === impl CompareArgs ===

impl CompareArgs {
    fn out(&self, target: &Path) -> PathBuf {
        self.out.clone().unwrap_or_else(|| target.join("bench/results"))
    }
}

pub(crate) fn run(subject: Option<&Subject>, arguments: &CompareArgs) -> Result<()> {
    match subject {
        Some(Subject::Swap(arguments)) => swap::run(arguments),
        None => compare::run(arguments),
    }
}
