//! `sconce new`: what it makes is tested, built, checked, packed and served as its own README says.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Output;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::Sent;
use crate::support::Setup;
use crate::support::cargo_in;
use crate::support::repository;
use crate::support::says;
use crate::support::sconce;

/// A project, and the folder that it lies in.
struct Project {
    root: PathBuf,
    readme: String,
    /// Held for its drop.
    _folder: TempDir,
}

#[test]
fn a_new_project_works_as_its_readme_says() {
    Project::new(&["word-count"]).works("word-count", "word_count");
}

#[cfg(feature = "torch")]
#[test]
fn a_new_project_with_tch_works_as_its_readme_says() {
    Project::new(&["score-reader", "--tch"]).works("score-reader", "score_reader");
}

#[test]
fn what_was_made_and_what_comes_next_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let text = made(&new_in(folder.path(), &["word-count"]));
    says(&text, &["made word-count, with the handler word_count", "src/lib.rs", "  cd word-count\n  cargo test\n"]);
    let sdk = repository().join("handler-sdk").canonicalize().unwrap();
    says(&text, &[&format!("handler-sdk: {} (this sconce was built there)", sdk.display()), "--sdk PATH|VERSION"]);
    says(&read(folder.path(), "word-count/Cargo.toml"), &[&format!("handler-sdk = {{ path = {sdk:?} }}")]);

    // An empty folder that is there already, and a version.
    fs::create_dir(folder.path().join("empty")).unwrap();
    let text = made(&new_in(folder.path(), &["scores", "--tch", "--path", "empty", "--sdk", "1.0"]));
    says(
        &text,
        &["made empty, with the handler scores", "version 1.0 from cargo's registry", "libtorch: none was found"],
    );
    let manifest = read(folder.path(), "empty/Cargo.toml");
    says(&manifest, &["handler-sdk = { version = \"1.0\", features = [\"tch\"] }"]);
    // The versions of tch and libtorch pair exactly, in the server and in its handlers.
    let workspace = fs::read_to_string(repository().join("Cargo.toml")).unwrap();
    for name in ["tch = ", "torch-sys = "] {
        let line = workspace.lines().find(|line| line.starts_with(name)).unwrap();
        says(&manifest, &[line]);
    }
}

#[test]
fn what_can_t_be_made_is_refused_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("full")).unwrap();
    fs::write(folder.path().join("full/notes.txt"), "mine").unwrap();
    let sdk = repository().join("host");
    for (arguments, parts) in [
        (&["full"][..], &["full is not empty: notes.txt lies in it", "--path FOLDER"][..]),
        (&["x", "--path", "full/notes.txt"], &["full/notes.txt is a file", "--path FOLDER"]),
        (&["2fast"], &["\"2fast\" can't be the name of a project", "must start with a small letter"]),
        (&["match"], &["it is a word of Rust; try my-match"]),
        (&["x", "--sdk", "nowhere"], &["--sdk nowhere: give the folder handler-sdk", "No such file"]),
        (&["x", "--sdk", sdk.to_str().unwrap()], &["Cargo.toml is not that of a package named handler-sdk"]),
    ] {
        let output = new_in(folder.path(), arguments);
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {complaint}");
        assert_eq!((complaint.lines().count(), output.stdout.len()), (1, 0), "{complaint}");
        says(&complaint, parts);
    }
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["full"]);
    assert_eq!(fs::read_dir(folder.path().join("full")).unwrap().count(), 1);
}

// === impl Project ===

impl Project {
    /// Made in a folder that is somebody else's workspace, which must make no difference.
    fn new(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("Cargo.toml"), "[workspace]\nresolver = \"3\"\n").unwrap();
        made(&new_in(folder.path(), arguments));
        let root = folder.path().join(arguments[0]);
        // The versions that this checkout was built with are there, so that no network is needed.
        fs::copy(repository().join("Cargo.lock"), root.join("Cargo.lock")).unwrap();
        Self { readme: read(&root, "README.md"), root, _folder: folder }
    }

    fn works(&self, name: &str, handler: &str) {
        cargo_in(&self.root, &["test"]);
        let library = cargo_in(&self.root, &["build"]).join(format!("lib{handler}.so"));
        let output = sconce(["check".as_ref(), library.as_os_str()]);
        let verdict = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(verdict.ends_with("OK: a server takes this plugin\n"), "{verdict}");
        self.says_what_is_packed(name, handler);

        let output = Command::new(env!("CARGO_BIN_EXE_sconce"))
            .current_dir(&self.root)
            .args(self.command("sconce archive"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let setup = Setup::new().plugin(&library);
        let archive = format!("{name}.mar");
        fs::copy(self.root.join("store").join(&archive), setup.store().join(&archive)).unwrap();
        // All that bears the project's name, since the next one lies elsewhere and shares nothing with it.
        cargo_in(&self.root, &["clean", "--package", name]);

        let server = setup.start();
        let curl = self.readme.lines().find(|line| line.starts_with("curl ")).unwrap();
        says(curl, &[&format!("/predictions/{name} ")]);
        let (before, request) = curl.strip_suffix('\'').unwrap().rsplit_once(" -d '").unwrap();
        let content_type = before.strip_suffix('\'').unwrap().rsplit_once("content-type: ").unwrap().1;
        let answer = server.send(name, &Sent::body(request).content_type(content_type));
        answer.ok();
        let promised = self.readme.split_once("```json\n").unwrap().1.split_once("```").unwrap().0;
        let promised: Value = serde_json::from_str(promised).unwrap();
        assert!(is_close(&answer.json(), &promised), "{}, not {promised}", answer.text());
        server.predict(name, "").error(400, "BadRequestException");
    }

    /// What other programs read of it, through cargo.
    fn says_what_is_packed(&self, name: &str, handler: &str) {
        let output = Command::new(env!("CARGO"))
            .current_dir(&self.root)
            .args(["metadata", "--no-deps", "--format-version", "1"])
            .output()
            .unwrap();
        let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
        let packages = metadata["packages"].as_array().unwrap();
        assert_eq!(packages.len(), 1, "{metadata:#}");
        let expected = serde_json::json!({
            "model-name": name,
            "version": "1.0",
            "handler": handler,
            "extra-files": [],
            "config-file": "model-config.yaml",
        });
        assert_eq!(packages[0]["metadata"]["sconce"], expected);
        for key in expected.as_object().unwrap().keys() {
            says(&self.readme, &[&format!("| `{key}` |")]);
        }
    }

    /// The arguments of a command that the README shows.
    fn command(&self, start: &str) -> Vec<String> {
        let rest = &self.readme[self.readme.find(&format!("\n{start} ")).unwrap()..];
        let text = rest.replace("\\\n", " ");
        let line = text.lines().nth(1).unwrap();
        line.split_whitespace().skip(1).map(str::to_owned).collect()
    }
}

fn new_in(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sconce"));
    command.current_dir(folder).env_remove("LIBTORCH").arg("new").args(arguments).output().unwrap()
}

/// What it said, where it succeeded.
#[track_caller]
fn made(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn read(folder: &Path, file: &str) -> String {
    fs::read_to_string(folder.join(file)).unwrap()
}

/// Equal, but for the last digits of its numbers, which another processor may round otherwise.
fn is_close(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => (one.as_f64().unwrap() - other.as_f64().unwrap()).abs() < 1e-5,
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| is_close(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one.iter().zip(other).all(|(one, other)| one.0 == other.0 && is_close(one.1, other.1))
        }
        _ => one == other,
    }
}
