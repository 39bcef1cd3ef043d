//! What developers type: `cargo xtask <command>`.
//! It never links libtorch: its first job is to fetch it.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this is a command for people: what it prints is what it is for"
)]

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

mod archive;
mod bench;
mod checks;
mod demo;
mod golden;
mod http;
mod plugins;
mod process;
mod progress;
mod python;
mod server;
mod setup;
mod train;
mod workspace;

use bench::CompareArgs;
use bench::Subject;
use checks::{Depth, Torch};
use demo::Afterwards;
use golden::Golden;

#[derive(Debug, Parser)]
#[command(
    bin_name = "cargo xtask",
    about = "Everything one types to work on Sconce",
    after_help = "New here? `cargo xtask demo` does it all: it fetches libtorch, builds, and serves ten digits."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Fetch libtorch, once for all clones of this user.
    ///
    /// Downloads libtorch with pip (about 530 MB on x86-64, 420 MB on aarch64), keeps what the
    /// build needs in the cache, checks every file against its digest, and makes the link
    /// `.libtorch` in the repository.
    /// The next clone downloads nothing, and an interrupted download goes on where it can.
    ///
    /// The cache is the first of these that is set: $SCONCE_CACHE_DIR, $XDG_CACHE_HOME/sconce,
    /// ~/.cache/sconce.
    ///
    /// With a libtorch of your own, set LIBTORCH to its folder: then nothing is downloaded and
    /// only its version is checked.
    Setup,

    /// Build the server and all plugins (release), to serve archives that were made for TorchServe.
    ///
    /// Runs setup, and builds each package in a call of its own, so that no plugin gets features
    /// that only another one asked for. What was built lies in target/release.
    Plugins,

    /// Build, serve two MNIST models and look at ten digits.
    ///
    /// Runs setup, builds the server, two plugins and the trainer (release), exports the model,
    /// packs three archives into model-store/, starts a server on free ports, posts
    /// model-store/mnist/digits/*.png to both models over HTTP and checks the answers.
    Demo(DemoArgs),

    /// Measure how fast Sconce is on this machine, beside its ceilings and its peers.
    ///
    /// Runs setup, builds for release, makes the models, and measures in one run, in turn, repeated:
    /// libtorch alone in a loop, a bare axum route, and Sconce with three models (an echo, MNIST, and
    /// ResNet-18); with --peers also TorchServe and mosec, with the same model files and inputs.
    /// Each figure that Sconce has set itself a bar for is compared with it. A bar that is missed is
    /// told, with by how much; it is no failure of the command.
    /// Close what else needs the processor: with other load the figures say little.
    ///
    /// Load comes from wrk where it is on PATH, else from oha, which is installed once; open loops
    /// always from oha. bench/README.md tells how each figure is measured and how to read it.
    #[command(args_conflicts_with_subcommands = true)]
    Bench {
        #[command(subcommand)]
        subject: Option<Subject>,

        #[command(flatten)]
        compare: CompareArgs,
    },

    /// Make the numbers anew that the default handlers are compared with.
    ///
    /// TorchServe's own handlers run on small pictures, texts and tiny models, all made by tests/golden/make out of
    /// formulas and seeds; what they answer goes to tests/golden, whose README tells more.
    /// Python is needed for this command only: the tests compare with what is committed.
    ///
    /// The first call installs torch 2.11.0, torchvision 0.26.0, captum 0.9.0 and torchserve 0.12.0 below target/golden.
    Golden(Golden),

    /// Run all tests, with libtorch and without.
    ///
    /// Runs setup, `cargo test --workspace` and `cargo test --workspace --no-default-features`.
    Test(TestArgs),

    /// Format, lints, tests and docs: what has to pass before a commit.
    Check(CheckArgs),

    /// Train the MNIST model again, into model-store/mnist.
    ///
    /// Runs setup and then the trainer; what follows goes to the trainer as it is.
    /// `cargo xtask train-mnist -- --help` shows what it takes.
    TrainMnist {
        /// Arguments for `mnist-trainer train`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
}

#[derive(Debug, Args)]
struct DemoArgs {
    /// Leave the server running on the default ports (8080, 8081, 8082) until Ctrl-C.
    #[arg(long)]
    keep: bool,
}

#[derive(Debug, Args)]
struct TestArgs {
    /// Only what needs no libtorch: no setup, and tests with --no-default-features only.
    #[arg(long)]
    no_torch: bool,

    /// Arguments for both `cargo test` calls, after `--`: `cargo xtask test -- swap` runs the tests
    /// whose name has `swap` in it.
    #[arg(last = true)]
    arguments: Vec<OsString>,
}

#[derive(Debug, Args)]
struct CheckArgs {
    /// Leave the tests out.
    #[arg(long)]
    quick: bool,
}

fn main() -> ExitCode {
    match dispatch(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nerror: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: Command) -> Result<()> {
    match command {
        Command::Setup => {
            setup::run()?;
            println!("Next: `cargo xtask demo` serves a model, `cargo build` builds the server.");
            Ok(())
        }
        Command::Plugins => plugins::run(),
        Command::Demo(DemoArgs { keep }) => demo::run(if keep { Afterwards::Keep } else { Afterwards::Stop }),
        Command::Bench { subject, compare } => bench::run(subject.as_ref(), &compare),
        Command::Golden(golden) => golden::run(&golden),
        Command::Test(TestArgs { no_torch, arguments }) => {
            let torch = if no_torch { Torch::Without } else { Torch::With };
            checks::test(torch, &arguments)
        }
        Command::Check(CheckArgs { quick }) => checks::check(if quick { Depth::Quick } else { Depth::Full }),
        Command::TrainMnist { arguments } => train::run(arguments),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn arguments_for_other_programs_pass_through() {
        let cli = Cli::parse_from(["xtask", "test", "--no-torch", "--", "swap"]);
        let Command::Test(test) = cli.command else { panic!("not test") };
        assert!(test.no_torch);
        assert_eq!(test.arguments, ["swap"]);

        let cli = Cli::parse_from(["xtask", "train-mnist", "--epochs", "3"]);
        let Command::TrainMnist { arguments } = cli.command else { panic!("not train-mnist") };
        assert_eq!(arguments, ["--epochs", "3"]);
    }
}
