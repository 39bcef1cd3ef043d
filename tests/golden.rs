//! The default handlers beside TorchServe's own: the same archives, pictures and texts, the same numbers.
//!
//! What TorchServe answers lies in `golden/`, whose README tells how it was made; no Python runs here.
#![cfg(feature = "torch")]

mod expected;
mod explanations;
mod forms;
mod operators;
mod pictures;
mod texts;

use std::fs;
use std::path::PathBuf;

use crate::support::Archive;
use crate::support::Server;
use crate::support::Setup;
use crate::support::first_party;
use crate::support::repository;

use expected::Case;
use expected::Expected;

/// The folder with what TorchServe answers.
fn folder() -> PathBuf {
    repository().join("tests/golden")
}

fn picture(name: &str) -> Vec<u8> {
    let file = folder().join("pictures").join(name);
    fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// An archive of one of the models, made by `sconce archive`, with all that the model's folder holds.
fn packed(name: &str, model: &str, handler: &str) -> Archive {
    let models = folder().join("models");
    let mut archive = Archive::new(name, handler).weights(&models.join(format!("{model}.pt")));
    let mut files: Vec<_> = fs::read_dir(models.join(name))
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().path().to_str().unwrap().to_owned())
        .collect();
    files.sort();
    if !files.is_empty() {
        archive = archive.flags(&["--extra-files", &files.join(",")]);
    }
    archive
}

/// A server with a plugin of this workspace and these archives; and with those of these names that torch-model-archiver made, as they are.
fn server(plugin: &str, theirs: &[&str], archives: &[Archive]) -> Server {
    let mut setup = Setup::new().plugin(&first_party(plugin));
    for name in theirs.iter().map(|name| format!("{name}.mar")) {
        fs::copy(folder().join("archives").join(&name), setup.store().join(&name)).unwrap();
    }
    for archive in archives {
        setup = setup.model(archive);
    }
    setup.start()
}
