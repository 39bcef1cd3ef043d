//! The program `sconce`.

use std::process::ExitCode;

fn main() -> ExitCode {
    sconce::cli::main()
}
