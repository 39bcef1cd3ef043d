//! The models that are served, made once and kept in the target folder; none of them needs Python but the `.pt2`.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;

use super::ECHO;
use super::MNIST;
use super::RESNET;
use super::contestant::Model;
use super::peers::Peers;
use crate::process;
use crate::workspace;

const WEIGHTS: &str = "model-store/mnist/mnist_cnn.safetensors";
const TEXT: &str = "bench/inputs/text.txt";
const DIGIT: &str = "model-store/mnist/digits/7.png";
const PICTURE: &str = "bench/inputs/picture.jpg";

pub(super) fn ready(programs: &Path, folder: &Path, peers: Option<&Peers>) -> Result<Vec<Model>> {
    fs::create_dir_all(folder).with_context(|| format!("{} can't be made", folder.display()))?;
    let (mnist, resnet, pt2) =
        (folder.join("mnist.pt"), folder.join("resnet18.pt"), folder.join("resnet18-frozen.pt2"));
    println!("\n== models");
    // So quick that it isn't worth finding out whether it is up to date.
    let mut export = workspace::program(programs, "mnist-trainer");
    process::run(export.args(["export", "--weights", WEIGHTS, "--out"]).arg(folder))?;
    if !resnet.exists() {
        process::run(workspace::program(programs, "make-resnet").arg(&resnet))?;
    }
    let pt2 = match peers {
        Some(peers) => package(peers, pt2),
        None => None,
    };
    let root = workspace::root();
    let model = |name, handler, file, input: &str, shape, batch| Model {
        name,
        handler,
        file,
        package: None,
        input: root.join(input),
        shape,
        batch,
    };
    Ok(vec![
        model(ECHO, "echo", None, TEXT, "", 1),
        model(MNIST, "mnist_digit_classifier", Some(mnist), DIGIT, "1,28,28", 16),
        Model { package: pt2, ..model(RESNET, "image_classifier", Some(resnet), PICTURE, "3,224,224", 8) },
    ])
}

/// Without it the comparison goes on.
fn package(peers: &Peers, file: PathBuf) -> Option<PathBuf> {
    if file.exists() {
        return Some(file);
    }
    match peers.make("export_pt2.py", &file) {
        Ok(()) => Some(file),
        Err(error) => {
            eprintln!("no .pt2 is measured: {error:#}");
            None
        }
    }
}
