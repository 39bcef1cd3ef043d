//! `bench` without a subject: Sconce beside the ceilings and beside its peers, in one run.
//!
//! For each model every contestant (`contestant`, `peers`) is started in a process group of its own (`group`) and
//! measured in turn (`contest`, `ceiling`), then what comes with scale is (`scale`); what was seen (`results`) becomes
//! tables (`tables`), bars (`bars`), a plot (`plot`) and a JSON.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use tempfile::TempDir;

use super::CompareArgs;
use super::load::Generator;
use super::report::Report;
use super::tools;
use super::tools::Install;
use crate::process;
use crate::setup;
use crate::workspace;

mod bars;
mod ceiling;
mod contest;
mod contestant;
mod group;
mod models;
mod output;
mod peers;
mod plot;
mod results;
mod scale;
mod tables;

use contestant::Contestant;
use contestant::Kind;
use contestant::Model;
use peers::Peers;
use peers::Tuning;
use results::Contest;

/// With what is measured, and how long.
#[derive(Debug)]
struct Bench {
    programs: PathBuf,
    plan: Plan,
    cores: usize,
    closed_loop: Generator,
    /// `None` where there is no program for it.
    open_loop: Option<Generator>,
    peers: Option<Peers>,
    folder: PathBuf,
    interrupted: Arc<AtomicBool>,
    _folder: TempDir,
}

/// How much of each.
#[derive(Debug, Clone, Copy)]
struct Plan {
    connections: &'static [usize],
    rounds: usize,
    round: Duration,
    /// Of each contestant, before the first round.
    warm_up: Duration,
    /// An open loop at one rate; zero leaves them out.
    open: Duration,
    /// libtorch alone, each combination in each round.
    alone: Duration,
    /// How often a start is measured; peers are started once.
    starts: usize,
    /// How many models are loaded at once.
    models: &'static [usize],
}

const FULL: Plan = Plan {
    connections: &[1, 8, 32],
    rounds: 3,
    round: Duration::from_secs(3),
    warm_up: Duration::from_secs(2),
    open: Duration::from_secs(3),
    alone: Duration::from_millis(300),
    starts: 3,
    models: &[1, 2, 8, 32, 64],
};

const QUICK: Plan = Plan {
    connections: &[8, 32],
    rounds: 2,
    round: Duration::from_secs(2),
    warm_up: Duration::from_secs(1),
    open: Duration::ZERO,
    alone: Duration::from_millis(150),
    starts: 1,
    models: &[1, 8],
};

const BUILT: [&str; 6] =
    ["sconce", "echo", "mnist-digit-classifier", "image-classifier", "mnist-trainer", "sconce-bench"];

const ECHO: &str = "echo";
const MNIST: &str = "mnist";
const RESNET: &str = "resnet18";

const SCONCE: &str = "Sconce";
const SCONCE_PT2: &str = "Sconce .pt2";
const BARE: &str = "bare axum route";
const TORCHSERVE: &str = "TorchServe";
const TORCHSERVE_TUNED: &str = "TorchServe tuned";
const MOSEC: &str = "mosec";

pub(super) fn run(arguments: &CompareArgs) -> Result<()> {
    let target = workspace::target_folder()?;
    let programs = if arguments.no_build {
        workspace::release_folder()?
    } else {
        setup::run()?;
        println!("\n== build (the first time takes minutes)");
        workspace::build_release(&BUILT)?
    };
    let install = if arguments.no_install { Install::Forbidden } else { Install::Allowed };
    let oha = tools::oha(&target, install)?.map(|program| Generator::Oha { program });
    let closed_loop = tools::wrk()
        .map(|program| Generator::Wrk { program })
        .or_else(|| oha.clone())
        .context("there is no load generator: put wrk or oha on PATH, or leave --no-install out")?;
    let peers = if arguments.peers { Some(Peers::ready(arguments.python.as_deref())?) } else { None };
    let folder = tempfile::Builder::new().prefix("sconce-bench-").tempdir();
    let folder = folder.context("no folder can be made in the temporary folder")?;
    let bench = Bench {
        programs,
        plan: if arguments.quick { QUICK } else { FULL },
        cores: thread::available_parallelism().map_or(1, usize::from),
        closed_loop,
        open_loop: oha,
        peers,
        folder: folder.path().to_owned(),
        interrupted: process::interruption()?,
        _folder: folder,
    };
    let models = models::ready(&bench.programs, &target.join("bench/models"), bench.peers.as_ref())?;

    let report = Report::begin("Sconce, its ceilings and its peers");
    let wanted = |name: &str| arguments.only.is_empty() || arguments.only.iter().any(|only| only == name);
    let mut contests = Vec::new();
    for model in models.iter().filter(|model| wanted(model.name)) {
        contests.push(contest::run(&bench, model, &contestants(model, bench.peers.as_ref()))?);
    }
    let mut scale = scale::Scale::default();
    if let Some(resnet) = models.iter().find(|model| model.name == RESNET && wanted(RESNET)) {
        scale.workers(&bench, resnet)?;
    }
    if let Some(mnist) = models.iter().find(|model| model.name == MNIST && wanted(MNIST)) {
        scale.alone(&bench, mnist);
        scale.models(&bench, mnist, &[scale::Batching::Automatic, scale::Batching::Off])?;
    }
    if let Some(echo) = models.iter().find(|model| model.name == ECHO && wanted(ECHO)) {
        scale.models(&bench, echo, &[scale::Batching::Automatic])?;
    }
    output::write(&bench, report, &contests, &scale, &arguments.out(&target))
}

// === impl Bench ===

impl Bench {
    fn check_interrupted(&self) -> Result<()> {
        if self.interrupted.load(Ordering::Relaxed) {
            bail!("interrupted");
        }
        Ok(())
    }

    /// How it was measured, in a sentence or two.
    fn method(&self) -> String {
        let Plan { rounds, round, open, .. } = self.plan;
        let open = match &self.open_loop {
            Some(generator) if !open.is_zero() => format!(
                "; open loops of {} s by {}, whose latency counts from when a request was due",
                open.as_secs(),
                generator.name()
            ),
            _ => String::new(),
        };
        format!(
            "Closed loops by {} on the same machine, {rounds} rounds of {} s each, contestants in turn while the \
             others' processes are stopped{open}. Median of the rounds (lowest–highest).",
            self.closed_loop.name(),
            round.as_secs()
        )
    }
}

// === impl Plan ===

impl Plan {
    /// The batch sizes at which libtorch alone is measured; large pictures take long.
    fn batches(&self, model: &Model) -> &'static str {
        if model.name == RESNET { "1,8" } else { "1,8,16,32" }
    }
}

/// Who serves a model, in the order of the tables.
fn contestants<'a>(model: &Model, peers: Option<&'a Peers>) -> Vec<Contestant<'a>> {
    let sconce = || Kind::Sconce { file: None };
    if model.name == ECHO {
        return vec![Contestant { name: SCONCE, kind: sconce() }, Contestant { name: BARE, kind: Kind::Bare }];
    }
    let mut all = vec![Contestant { name: SCONCE, kind: sconce() }];
    if let Some(file) = &model.package {
        all.push(Contestant { name: SCONCE_PT2, kind: Kind::Sconce { file: Some(file.clone()) } });
    }
    if let Some(peers) = peers {
        all.extend([
            Contestant { name: TORCHSERVE, kind: Kind::TorchServe { peers, tuning: Tuning::Default } },
            Contestant { name: TORCHSERVE_TUNED, kind: Kind::TorchServe { peers, tuning: Tuning::Tuned } },
            Contestant { name: MOSEC, kind: Kind::Mosec { peers } },
        ]);
    }
    all
}

/// All contests' entry of one name for one model.
fn entry<'a>(contests: &'a [Contest], model: &str, name: &str) -> Option<&'a results::Entry> {
    contests.iter().find(|contest| contest.name == model)?.entry(name)
}
