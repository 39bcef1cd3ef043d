//! Archives, made by the program that users make them with.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Output;

/// What is to be packed.
#[derive(Debug, Clone)]
pub(crate) struct Archive {
    name: String,
    version: String,
    handler: String,
    file: Option<String>,
    config: Option<String>,
    flags: Vec<String>,
}

impl Archive {
    /// Version 1.0 of a model without weights, served by this handler.
    pub(crate) fn new(name: &str, handler: &str) -> Self {
        Self {
            name: name.to_owned(),
            version: "1.0".to_owned(),
            handler: handler.to_owned(),
            file: None,
            config: None,
            flags: Vec::new(),
        }
    }

    pub(crate) fn version(mut self, version: &str) -> Self {
        self.version = version.to_owned();
        self
    }

    /// The text of its `model-config.yaml`.
    pub(crate) fn config(mut self, yaml: &str) -> Self {
        self.config = Some(yaml.to_owned());
        self
    }

    /// The archive's name in the model store, where it isn't the model's.
    pub(crate) fn file(mut self, name: &str) -> Self {
        self.file = Some(name.to_owned());
        self
    }

    /// Further flags for `sconce archive`.
    pub(crate) fn flags(mut self, flags: &[&str]) -> Self {
        self.flags.extend(flags.iter().map(|&flag| flag.to_owned()));
        self
    }

    #[cfg_attr(not(feature = "torch"), allow(dead_code))] // Only models of libtorch have a file of known content.
    pub(crate) fn weights(self, file: &Path) -> Self {
        self.flags(&["--serialized-file", file.to_str().unwrap()])
    }

    /// Packs it into a folder, and tells where it lies.
    pub(crate) fn pack(&self, folder: &Path) -> PathBuf {
        let work = tempfile::tempdir().unwrap();
        let made = work.path().join("made");
        let mut command = Command::new(env!("CARGO_BIN_EXE_sconce"));
        command
            .arg("archive")
            .args(["--model-name", &self.name, "--version", &self.version])
            .args(["--handler", &self.handler, "--export-path"])
            .arg(&made)
            .args(&self.flags);
        if let Some(config) = &self.config {
            let file = work.path().join("model-config.yaml");
            fs::write(&file, config).unwrap();
            command.arg("--config-file").arg(file);
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{command:?}: {output:?}");
        let packed = fs::read_dir(&made).unwrap().next().unwrap().unwrap().path();
        let name = self.file.as_deref().map_or_else(|| packed.file_name().unwrap(), AsRef::as_ref);
        let place = folder.join(name);
        move_to(&packed, &place);
        place
    }
}

/// Moves a file or a folder to another file system, if need be.
fn move_to(from: &Path, to: &Path) {
    if fs::rename(from, to).is_ok() {
        return;
    }
    if from.is_file() {
        fs::copy(from, to).unwrap();
        return;
    }
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        move_to(&entry.path(), &to.join(entry.file_name()));
    }
}

/// Runs a command of the program to its end.
pub(crate) fn sconce<S: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = S>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sconce"));
    command.env_remove("SCONCE_LOG").args(arguments).output().unwrap()
}
