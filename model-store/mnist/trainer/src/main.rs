//! Draws handwritten digits, trains the demo's network on them, and writes the files it is served from.

#[cfg(any(test, feature = "torch"))]
mod accuracy;
mod cli;
mod compass;
mod curve;
mod draw;
mod error;
#[cfg(feature = "torch")]
mod evaluate;
#[cfg(feature = "torch")]
mod export;
#[cfg(feature = "torch")]
mod feed;
#[cfg(any(test, feature = "torch"))]
mod folder;
#[cfg(any(test, feature = "torch"))]
mod idx;
mod layout;
#[cfg(feature = "torch")]
mod net;
mod pen;
mod picture;
mod random;
mod report;
mod samples;
mod skeleton;
#[cfg(feature = "torch")]
mod train;
mod warp;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command};
use error::Error;

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report::failed(&error);
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<(), Error> {
    match command {
        Command::Digits(args) => samples::digits(&args),
        Command::Sheet(args) => samples::sheet(&args),
        #[cfg(feature = "torch")]
        Command::Train(args) => train::train(&args),
        #[cfg(feature = "torch")]
        Command::Export(args) => export::export(&args),
        #[cfg(feature = "torch")]
        Command::Evaluate(args) => evaluate::evaluate(&args),
    }
}
