//! `sconce dev`: a project is edited while a client asks without a pause, and every answer is from code that was built and passed.

use std::fs;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::ExitStatus;
use std::process::Output;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use rustix::process::Pid;
use rustix::process::Signal;
use rustix::process::kill_process;
use serde_json::Value;
use serde_json::json;
use tempfile::TempDir;
use ureq::Agent;

use crate::support::Sent;
use crate::support::agent;
use crate::support::cargo_in;
use crate::support::dev_in;
use crate::support::eventually;
use crate::support::repository;
use crate::support::says;
use crate::support::sconce;

/// A project with a session in it.
struct Session {
    root: PathBuf,
    child: Child,
    stdout: Text,
    stderr: Text,
    agent: Agent,
    url: String,
    _folder: TempDir,
}

/// What a stream has said so far.
#[derive(Clone, Default)]
struct Text(Arc<Mutex<String>>);

/// A client that asks on and on.
struct Load {
    ends: Arc<AtomicBool>,
    client: JoinHandle<usize>,
}

const FREE_PORTS: [&str; 6] = [
    "--inference-address",
    "http://127.0.0.1:0",
    "--management-address",
    "http://127.0.0.1:0",
    "--metrics-address",
    "http://127.0.0.1:0",
];

#[test]
fn what_is_saved_is_served_and_no_request_is_lost() {
    let mut session = Session::start("shout", |_| {});
    session.stdout.tells(&["  curl http://", "/predictions/shout -H 'content-type: text/plain' -d 'To be"]);
    session.stdout.tells(&[
        "watching ",
        "Cargo.toml, ",
        "model-config.yaml, ",
        "src, and the crate handler-sdk",
        "Ctrl-C ends",
    ]);
    assert_eq!(session.words(), json!([{"word": "a", "count": 2}, {"word": "b", "count": 1}]));
    let load = session.load();

    // The code.
    session.edit("src/lib.rs", r#"json!({"word": word, "count": count})"#, r#"json!(format!("{word}{count}"))"#);
    session.answers(&json!(["a2", "b1"]));
    let line = session.stdout.tells(&["swapped to generation 2: built in "]);
    says(&line, &["checked in ", "started in ", "swapped in ", "; generation 1 is unmapped"]);

    // An error of the compiler, with cargo's own words, and its mending.
    session.edit("src/lib.rs", "counts.truncate(self.words);", "counts.truncate(self.wrods);");
    session.stdout.tells(&["build failed (", "generation 2 goes on serving"]);
    says(&session.stderr.get(), &["no field `wrods`", "could not compile `shout`"]);
    assert_eq!(session.words(), json!(["a2", "b1"]));
    session.edit("src/lib.rs", "counts.truncate(self.wrods);", "counts.truncate(self.words);");
    session.stdout.tells(&["nothing changed: built in "]);

    // What is packed.
    session.edit("model-config.yaml", "words: 3", "words: 1");
    session.answers(&json!(["a2"]));
    session.stdout.tells(&["swapped to generation 3: built in "]);

    // A file that a source includes from elsewhere, and that comes with it.
    fs::write(session.root.join("ending.txt"), "!").unwrap();
    session.edit(
        "src/lib.rs",
        r#"json!(format!("{word}{count}"))"#,
        r#"json!(format!("{word}{}", include_str!("../ending.txt")))"#,
    );
    session.answers(&json!(["a!"]));
    fs::write(session.root.join("ending.txt"), "?").unwrap();
    session.answers(&json!(["a?"]));

    // Code that builds and doesn't pass.
    session.edit(
        "src/lib.rs",
        "    /// One response for each request",
        "    fn self_test(&self, _: &Context) -> Result<()> { Err(Error::new(\"two and two are five\")) }\n    /// One response for each request",
    );
    let line = session.stdout.tells(&["refused: ", "generation 5 goes on serving"]);
    says(&line, &["two and two are five"]);
    assert_eq!(session.words(), json!(["a?"]));
    session.edit("model-config.yaml", "words: 1", "words: 2");
    eventually("another refusal", || (session.stdout.get().matches("\nrefused: ").count() == 2).then_some(()));
    session.edit("src/lib.rs", "Err(Error::new(\"two and two are five\"))", "Ok(())");
    session.answers(&json!(["a?", "b?"]));
    session.stdout.tells(&["swapped to generation 8: "]);

    // Settings that can't be packed.
    session.edit("model-config.yaml", "batchSize: 1", "batchSize: [");
    session.stdout.tells(&["not packed: ", "model-config.yaml", "generation 8 goes on serving"]);

    let answered = load.end();
    assert!(answered > 0);
    assert!(session.end(Signal::INT).success());
    cargo_in(&session.root, &["clean", "--package", "shout"]);
}

#[test]
fn a_session_waits_for_its_first_build_and_ends_in_the_middle_of_one() {
    let mut session = Session::start_unserved("late", |root| {
        write(root, "src/lib.rs", NEVER_RIGHT);
        write(
            root,
            "build.rs",
            "fn main() { while std::path::Path::new(\"slow\").exists() { std::thread::park_timeout(std::time::Duration::from_millis(5)); } }\n",
        );
        // Said by nobody: the library has one handler.
        edit(root, "Cargo.toml", "handler = \"late\"\n", "");
    });
    session.stdout.tells(&["build failed (", "nothing is served yet; it is built again at the next save"]);
    session.edit("src/lib.rs", "this is no Rust", "");
    session.stdout.tells(&["refused: ", "not yet", "nothing is served yet; it is built again at the next save"]);
    session.edit("src/lib.rs", "Err(Error::new(\"not yet\"))", "Ok(())");
    session.serves();
    assert_eq!(session.words(), json!(2));

    // Code that passes, and panics when it is called.
    session.edit("src/lib.rs", "Response::text(\"2\")", "panic!(\"oh no\")");
    session.stdout.tells(&["swapped to generation 3: "]);
    eventually("the code before to serve again", || {
        let answer = request().try_send(&session.agent, &session.url).unwrap();
        (answer.status == 200).then_some(())
    });
    session.stdout.tells(&["swapped to generation 4: generation 3 panicked again and again"]);
    // Saved as it is, it doesn't come back.
    session.edit("src/lib.rs", "panic!(\"oh no\")", "panic!(\"oh no\")");
    session.stdout.tells(&["nothing changed: ", "generation 4 goes on serving"]);
    session.edit("src/lib.rs", "panic!(\"oh no\")", "Response::text(\"3\")");
    session.answers(&json!(3));

    session.edit("Cargo.toml", "version = \"1.0\"", "version = \"2.0\"");
    session.stdout.tells(&["serving late 2.0 at ", "/predictions/late/2.0"]);
    session.edit("Cargo.toml", "version = \"2.0\"", "verison = \"2.0\"");
    session.stdout.tells(&["unknown field `verison`", "generation 6 goes on serving"]);
    session.edit("Cargo.toml", "verison = \"2.0\"", "version = \"2.0\"");
    session.stdout.tells(&["nothing changed: ", "generation 6 goes on serving"]);

    // A build that doesn't end by itself ends with the session, and so does all that it has started.
    fs::write(session.root.join("slow"), "").unwrap();
    session.edit(
        "build.rs",
        "fn main() {",
        "fn main() { std::fs::write(\"started\", std::process::id().to_string()).unwrap();",
    );
    let id =
        eventually("the slow build", || fs::read_to_string(session.root.join("started")).ok()?.parse::<u32>().ok());
    assert!(session.end(Signal::TERM).success());
    eventually("the end of what cargo had started", || {
        (!Path::new("/proc").join(id.to_string()).exists()).then_some(())
    });
    assert!(!session.stdout.get().lines().last().unwrap().starts_with("build failed"), "{}", session.stdout.get());
    fs::remove_file(session.root.join("slow")).unwrap();
    cargo_in(&session.root, &["clean", "--package", "late"]);
}

#[test]
fn what_is_no_handler_project_is_told_what_it_lacks() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let refused = |parts: &[&str]| {
        let output = run_to_end(root, &[]);
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{complaint}");
        says(&complaint, parts);
    };
    refused(&["no Cargo.toml in ", "--manifest-path", "`sconce new NAME`"]);
    let package = "[package]\nname = \"plain\"\nedition = \"2024\"\n[workspace]\n";
    write(root, "src/lib.rs", "");
    write(root, "Cargo.toml", package);
    refused(&["has no [package.metadata.sconce]", "model-name = \"plain\"", "`sconce new NAME`"]);
    write(root, "Cargo.toml", &format!("{package}[package.metadata.sconce]\n"));
    refused(&["makes no shared library", "crate-type = [\"cdylib\"]"]);
    write(root, "Cargo.toml", &format!("{package}[package.metadata.sconce]\nhandlr = \"x\"\n"));
    refused(&["[package.metadata.sconce] of ", "unknown field `handlr`"]);
    write(root, "Cargo.toml", "[workspace]\nresolver = \"3\"\nmembers = [\"one\"]\n");
    write(root, "one/Cargo.toml", "[package]\nname = \"one\"\nedition = \"2024\"\n");
    write(root, "one/src/lib.rs", "");
    refused(&["is that of a workspace: go to a handler project in it"]);
    write(root, "Cargo.toml", "[package\n");
    refused(&["cargo can't read ", "says why above"]);

    let output = run_to_end(root, &["--manifest-path", "nowhere/Cargo.toml"]);
    says(&String::from_utf8_lossy(&output.stderr), &["--manifest-path nowhere/Cargo.toml: there is no such file"]);
}

/// A handler that doesn't build, and when it does, doesn't pass.
const NEVER_RIGHT: &str = "\
use handler_sdk::prelude::*;

#[derive(Default)]
struct Late;

this is no Rust
impl Handler for Late {
    fn self_test(&self, _: &Context) -> Result<()> {
        Err(Error::new(\"not yet\"))
    }

    fn handle(&self, batch: &Batch, _: &Context) -> Result<Vec<Response>> {
        Ok(batch.iter().map(|_| Response::text(\"2\")).collect())
    }
}

export_handler!(Late);
";

// === impl Session ===

impl Session {
    /// With a project of that name, changed before the first build, which is waited for.
    fn start(name: &str, change: impl FnOnce(&Path)) -> Self {
        let mut session = Self::start_unserved(name, change);
        session.serves();
        session
    }

    fn start_unserved(name: &str, change: impl FnOnce(&Path)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap().join(name);
        let made = sconce(["new".as_ref(), name.as_ref(), "--path".as_ref(), root.as_os_str()]);
        assert!(made.status.success(), "{made:?}");
        // The versions that this checkout was built with are there, so that no network is needed.
        fs::copy(repository().join("Cargo.lock"), root.join("Cargo.lock")).unwrap();
        change(&root);
        let mut command = dev_in(&root);
        command.args(FREE_PORTS).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdout = Text::of(child.stdout.take().unwrap());
        let stderr = Text::of(child.stderr.take().unwrap());
        Self { root, child, stdout, stderr, agent: agent(), url: String::new(), _folder: folder }
    }

    /// Waits for the line that says where it is served.
    fn serves(&mut self) {
        let line = self.stdout.tells(&["serving ", " at http://"]);
        self.url = line.split_once(" at ").unwrap().1.to_owned();
    }

    fn edit(&self, file: &str, from: &str, to: &str) {
        edit(&self.root, file, from, to);
    }

    fn words(&self) -> Value {
        let answer = request().try_send(&self.agent, &self.url).unwrap();
        answer.ok();
        answer.json()
    }

    fn answers(&self, expected: &Value) {
        eventually(&format!("the answer {expected}"), || (self.words() == *expected).then_some(()));
    }

    fn load(&self) -> Load {
        let (agent, url) = (self.agent.clone(), self.url.clone());
        let ends = Arc::<AtomicBool>::default();
        let until = Arc::clone(&ends);
        let client = std::thread::spawn(move || {
            let mut answered = 0;
            while !until.load(Ordering::Relaxed) {
                request().try_send(&agent, &url).unwrap().ok();
                answered += 1;
            }
            answered
        });
        Load { ends, client }
    }

    fn end(&mut self, signal: Signal) -> ExitStatus {
        let id = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(id, signal).unwrap();
        eventually("the session's end", || self.child.try_wait().unwrap())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("standard output:\n{}\nstandard error:\n{}", self.stdout.get(), self.stderr.get());
        }
    }
}

// === impl Text ===

impl Text {
    fn of(stream: impl Read + Send + 'static) -> Self {
        let text = Self::default();
        let kept = text.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                let mut text = kept.0.lock().unwrap();
                text.push_str(&line);
                text.push('\n');
            }
        });
        text
    }

    fn get(&self) -> String {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// Waits for a line that says all of these, and gives it.
    fn tells(&self, parts: &[&str]) -> String {
        eventually(&format!("a line with {parts:?}"), || {
            let text = self.get();
            text.lines().find(|line| parts.iter().all(|part| line.contains(part))).map(str::to_owned)
        })
    }
}

// === impl Load ===

impl Load {
    /// How many requests were answered; one that wasn't fails the test.
    fn end(self) -> usize {
        self.ends.store(true, Ordering::Relaxed);
        self.client.join().unwrap()
    }
}

fn request() -> Sent {
    Sent::body("a b a").content_type("text/plain")
}

fn run_to_end(folder: &Path, flags: &[&str]) -> Output {
    dev_in(folder).args(FREE_PORTS).args(flags).output().unwrap()
}

fn write(root: &Path, file: &str, text: &str) {
    let path = root.join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn edit(root: &Path, file: &str, from: &str, to: &str) {
    let text = fs::read_to_string(root.join(file)).unwrap();
    assert_eq!(text.matches(from).count(), 1, "{from:?} in {file}:\n{text}");
    write(root, file, &text.replace(from, to));
}
