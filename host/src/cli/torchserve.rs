//! Called by the names of TorchServe's programs: `torchserve` and `torch-model-archiver`, as links to this one.

use std::ffi::OsStr;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;

use crate::cli::archive;
use crate::cli::archive::ArchiveArgs;
use crate::cli::serve;
use crate::cli::serve::CalledAs;
use crate::cli::serve::ServeArgs;

/// Whose habits the program has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Program {
    Sconce,
    Torchserve,
    Archiver,
}

/// Serves models over HTTP, in the background unless told otherwise.
#[derive(Debug, Parser)]
// argparse takes the beginning of a flag for the flag, as long as there is one that begins so.
#[command(name = "torchserve", disable_version_flag = true, infer_long_args = true)]
struct Torchserve {
    #[command(flatten)]
    args: ServeArgs,
}

/// Makes an archive of a model.
#[derive(Debug, Parser)]
#[command(name = "torch-model-archiver", disable_version_flag = true, infer_long_args = true)]
struct Archiver {
    #[command(flatten)]
    args: ArchiveArgs,
}

// === impl Program ===

impl Program {
    /// By the name that it was called by.
    pub(super) fn called(name: Option<&OsStr>) -> Self {
        match name.map(Path::new).and_then(Path::file_name).and_then(OsStr::to_str) {
            Some("torchserve") => Self::Torchserve,
            Some("torch-model-archiver") => Self::Archiver,
            _ => Self::Sconce,
        }
    }
}

pub(super) fn torchserve() -> ExitCode {
    let result = serve::run(&Torchserve::parse().args, CalledAs::Torchserve);
    result.unwrap_or_else(|error| {
        // Its scripts read the standard output.
        println!("{error:#}");
        ExitCode::FAILURE
    })
}

pub(super) fn archiver() -> ExitCode {
    let result = archive::run(Archiver::parse().args);
    result.unwrap_or_else(|error| {
        eprintln!("torch-model-archiver: error: {error:#}");
        ExitCode::FAILURE
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn a_program_is_what_it_is_called() {
        for (name, expected) in [
            ("torchserve", Program::Torchserve),
            ("/usr/local/bin/torchserve", Program::Torchserve),
            ("./torch-model-archiver", Program::Archiver),
            ("sconce", Program::Sconce),
            ("/proc/self/exe", Program::Sconce),
            ("/opt/torchserve/", Program::Torchserve),
        ] {
            assert_eq!(Program::called(Some(OsStr::new(name))), expected, "{name}");
        }
        assert_eq!(Program::called(None), Program::Sconce);
    }

    #[test]
    fn the_flags_fit_together() {
        Torchserve::command().debug_assert();
        Archiver::command().debug_assert();
    }
}
