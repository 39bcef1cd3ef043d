//! `bench swap`: what a hot swap costs. Latency under load, then the first answer, each step, and memory.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::Result;

use super::SwapArgs;
use super::plugin::Plugin;
use super::report::Report;
use super::tools;
use super::tools::Install;
use crate::archive::Archive;
use crate::process;
use crate::setup;
use crate::workspace;

mod first_answer;
mod growth;
mod latency;
mod steps;

/// With what is measured, and how long.
#[derive(Debug)]
struct Bench {
    programs: PathBuf,
    /// Where the plugin lies whose answers tell the build.
    teller: PathBuf,
    plan: Plan,
    interrupted: Arc<AtomicBool>,
}

/// How much of each.
#[derive(Debug, Clone, Copy)]
struct Plan {
    connections: &'static [usize],
    /// Of each kind, without swaps and with.
    rounds: usize,
    round: Duration,
    /// Under load, before the first round.
    warm_up: Duration,
    /// Of the first answer.
    repetitions: usize,
    /// Whose memory is counted, and those before them.
    swaps: u32,
    swaps_before: u32,
}

const FULL: Plan = Plan {
    connections: &[32, 8],
    rounds: 5,
    round: Duration::from_secs(5),
    warm_up: Duration::from_secs(3),
    repetitions: 20,
    swaps: 200,
    swaps_before: 30,
};

const QUICK: Plan = Plan {
    connections: &[32],
    rounds: 2,
    round: Duration::from_secs(3),
    warm_up: Duration::from_secs(1),
    repetitions: 5,
    swaps: 30,
    swaps_before: 10,
};

const BUILT: [&str; 3] = ["sconce", "echo", "mnist-digit-classifier"];
const PICTURE: &str = "model-store/mnist/digits/7.png";

const ECHO: Archive = Archive { model: "echo", handler: "echo", serialized_file: None };
const MNIST: Archive = Archive {
    model: "mnist_state_dict",
    handler: "mnist_digit_classifier",
    serialized_file: Some("model-store/mnist/mnist_cnn.safetensors"),
};
const TELLER: Archive = Archive { model: "tells_its_build", handler: "tells_its_build", serialized_file: None };

pub(super) fn run(arguments: &SwapArgs) -> Result<()> {
    let target = workspace::target_folder()?;
    let teller_target = target.join("bench");
    let programs = if arguments.no_build {
        workspace::release_folder()?
    } else {
        setup::run()?;
        println!("\n== build (the first time takes minutes)");
        Plugin::build_teller(&teller_target)?;
        workspace::build_release(&BUILT)?
    };
    let teller = Plugin::teller_folder(&teller_target);
    let plan = if arguments.quick { QUICK } else { FULL };
    let mut bench = Bench { programs, teller, plan, interrupted: Arc::default() };
    // What --no-build misses shows now, and not after the minutes that installing oha may take.
    for plugin in [bench.echo(), bench.mnist(), bench.teller()] {
        plugin?;
    }
    let install = if arguments.no_install { Install::Forbidden } else { Install::Allowed };
    let oha = tools::oha(&target, install)?;
    bench.interrupted = process::interruption()?;

    let mut report = Report::begin("What a hot swap costs");
    let mut taken = Vec::new();
    match oha {
        Some(oha) => report.add(latency::measure(&bench, &oha, &mut taken)?),
        None => println!("\noha isn't on PATH and --no-install was given: latency under load is left out"),
    }
    report.add(first_answer::measure(&bench, &mut taken)?);
    report.add(steps::section(&taken));
    report.add(growth::measure(&bench)?);
    match &arguments.markdown {
        Some(file) => report.write_markdown(file),
        None => Ok(()),
    }
}

// === impl Bench ===

impl Bench {
    fn echo(&self) -> Result<Plugin> {
        Plugin::load(&self.programs, ECHO)
    }

    fn mnist(&self) -> Result<Plugin> {
        Plugin::load(&self.programs, MNIST)
    }

    fn teller(&self) -> Result<Plugin> {
        Plugin::load_teller(&self.teller, TELLER)
    }
}

fn picture() -> PathBuf {
    workspace::root().join(PICTURE)
}
