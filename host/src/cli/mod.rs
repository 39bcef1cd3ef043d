//! The command line.

#![allow(clippy::print_stdout, clippy::print_stderr)] // What the commands answer goes to the terminal.

pub mod archive;
pub mod check;
pub mod config;
pub mod dev;
pub mod new;
pub mod serve;
pub mod stop;

mod background;
mod pid_file;
mod serve_flags;
mod server_flags;
mod torchserve;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser;
use clap::Subcommand;
use torchserve::Program;

/// A model server for PyTorch models whose handlers are native plugins.
///
/// Pack a model with `sconce archive`, serve it with `sconce serve`; `sconce check` tells whether a plugin can be used.
/// `sconce config` shows what a server goes by, and `sconce stop` ends one in the background.
/// `sconce new` makes a project for a handler of your own, and `sconce dev` serves it while you write it.
#[derive(Debug, Parser)]
#[command(name = "sconce", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::ServeArgs),
    Stop(stop::StopArgs),
    Config(config::ConfigArgs),
    Archive(archive::ArchiveArgs),
    Check(check::CheckArgs),
    New(new::NewArgs),
    Dev(dev::DevArgs),
    /// Keeps the processes in which libraries are tried; the server starts itself with this, and nobody else needs it.
    #[command(hide = true)]
    Keeper {
        parent: u32,
    },
}

/// Runs the command; 0 on success, 1 where it failed, 2 where it was called in a wrong way.
///
/// Called as `torchserve` or `torch-model-archiver`, it has the habits of those.
pub fn main() -> ExitCode {
    match Program::called(std::env::args_os().next().as_deref()) {
        Program::Sconce => sconce(),
        Program::Torchserve => torchserve::torchserve(),
        Program::Archiver => torchserve::archiver(),
    }
}

fn sconce() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Serve(args) => serve::run(&args, serve::CalledAs::Sconce),
        Command::Stop(args) => stop::run(&args),
        Command::Config(args) => config::run(&args),
        Command::Archive(args) => archive::run(args),
        Command::Check(args) => check::run(&args),
        Command::New(args) => new::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Dev(args) => dev::run(&args),
        Command::Keeper { parent } => crate::plugin::run_keeper(parent).map(|()| ExitCode::SUCCESS),
    };
    result.unwrap_or_else(|error| {
        eprintln!("sconce: {error:#}");
        ExitCode::FAILURE
    })
}

/// Writes a line to standard output; a server goes on when nobody reads there any more.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
