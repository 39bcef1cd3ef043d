//! `demo`: from a bare clone to answers over HTTP, through the programs and files a user has.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::archive::Archive;
use crate::server::{self, Server};
use crate::{process, setup, workspace};

mod digits;
mod picture;

const STORE: &str = "model-store";
const WEIGHTS: &str = "model-store/mnist/mnist_cnn.safetensors";
const DIGITS: &str = "model-store/mnist/digits";

const BUILT: [&str; 4] = ["sconce", "echo", "mnist-digit-classifier", "mnist-trainer"];

/// What happens to the server in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Afterwards {
    Stop,
    Keep,
}

const ARCHIVES: [Archive; 3] = [
    Archive {
        model: digits::SCRIPTED,
        handler: "mnist_digit_classifier",
        serialized_file: Some("model-store/mnist/mnist.pt"),
    },
    Archive { model: digits::STATE_DICT, handler: "mnist_digit_classifier", serialized_file: Some(WEIGHTS) },
    Archive { model: "echo", handler: "echo", serialized_file: None },
];

/// Fails when a step fails or an answer is wrong.
pub(crate) fn run(afterwards: Afterwards) -> Result<()> {
    setup::run()?;

    println!("\n== build (the first time takes minutes)");
    let programs = workspace::build_release(&BUILT)?;

    println!("\n== export the model, pack the archives");
    process::run(
        workspace::program(&programs, "mnist-trainer")
            .args(["export", "--weights", WEIGHTS])
            .args(["--out", "model-store/mnist"]),
    )?;
    for archive in &ARCHIVES {
        process::run(archive.pack(&mut workspace::program(&programs, "sconce"), Path::new(STORE)))?;
    }

    println!("\n== serve");
    let config = match afterwards {
        Afterwards::Stop => Some(server::configuration(&[])?),
        Afterwards::Keep => None,
    };
    let mut command = serve(&programs);
    if let Some(config) = &config {
        command.arg("--ts-config").arg(config.path());
    }
    // From here on a signal first stops the server.
    let interrupted = process::interruption()?;
    let models = ARCHIVES.map(|archive| archive.model);
    let mut server = Server::start(command)?;
    let ready = server.wait_until_ready(&models, &interrupted)?;
    println!(
        "ready in {:.2} s, {} models, resident memory {:.0} MB",
        ready.as_secs_f64(),
        models.len(),
        server.resident_bytes()? as f64 / 1e6
    );

    println!("\n== ask");
    let wrong = digits::ask(server.inference_address()?, &workspace::root().join(DIGITS));
    let wrong = wrong.map_err(|error| server.explain(&error))?;

    if afterwards == Afterwards::Keep && wrong == 0 {
        println!("\n{}", what_to_try(&programs, Afterwards::Keep));
        println!("\n== the server runs on, and its output follows; Ctrl-C ends it");
        server.run_on(&interrupted)?;
    }
    server.stop()?;
    println!("the server ended with exit code 0");
    if wrong > 0 {
        bail!("{wrong} of the answers are wrong: the table above marks them");
    }
    if afterwards == Afterwards::Stop {
        println!("\n{}", what_to_try(&programs, Afterwards::Stop));
    }
    Ok(())
}

fn serve(programs: &Path) -> Command {
    let plugins = PathBuf::from(workspace::short(programs));
    let mut command = workspace::program(programs, "sconce");
    command
        .args(["serve", "--model-store", STORE, "--models"])
        .args(ARCHIVES.map(|archive| format!("{0}={0}.mar", archive.model)))
        // What is shown next are plain curl lines.
        .arg("--disable-token-auth")
        .arg("--plugins-path")
        .arg(plugins);
    command
}

fn what_to_try(programs: &Path, afterwards: Afterwards) -> String {
    let sconce = workspace::short(&programs.join("sconce"));
    let serve = process::shown(&serve(programs)).replacen("sconce", &sconce, 1);
    let ask = format!(
        "  curl http://127.0.0.1:8080/predictions/mnist -T {DIGITS}/{}.png\n  \
         curl http://127.0.0.1:8080/predictions/echo -d hello -H 'content-type: text/plain'\n  \
         curl http://127.0.0.1:8081/models/mnist\n  \
         curl http://127.0.0.1:8082/metrics",
        digits::SHOWN
    );
    match afterwards {
        Afterwards::Keep => format!("Try in another terminal:\n\n{ask}"),
        Afterwards::Stop => format!(
            "Try it yourself:\n\n  {serve}\n\nand in another terminal:\n\n{ask}\n\n\
             `cargo xtask demo --keep` leaves the server running."
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archives_are_packed_as_a_user_packs_them() {
        let packed = |index: usize| {
            let mut command = Command::new("target/release/sconce");
            process::shown(ARCHIVES[index].pack(&mut command, Path::new(STORE)))
        };
        assert_eq!(
            packed(0),
            "sconce archive --model-name mnist --version 1.0 --handler mnist_digit_classifier \
             --export-path model-store --force --serialized-file model-store/mnist/mnist.pt"
        );
        assert_eq!(
            packed(2),
            "sconce archive --model-name echo --version 1.0 --handler echo \
             --export-path model-store --force"
        );
    }

    #[test]
    fn what_to_try_can_be_pasted() {
        let programs = workspace::root().join("target/release");
        let text = what_to_try(&programs, Afterwards::Stop);
        assert!(
            text.contains(
                "\n  target/release/sconce serve --model-store model-store --models \
                 mnist=mnist.mar mnist_state_dict=mnist_state_dict.mar echo=echo.mar \
                 --disable-token-auth --plugins-path target/release\n"
            ),
            "{text}"
        );
    }
}
