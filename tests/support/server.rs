//! The real server, in a folder of its own, on ports that the system chose.

use std::fmt::Write as _;
use std::fs;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::ExitStatus;
use std::process::Output;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::Mutex;

use rustix::process::Pid;
use rustix::process::Signal;
use rustix::process::kill_process;
use serde_json::Value;
use tempfile::TempDir;
use ureq::Agent;

use super::Answer;
use super::Archive;
use super::Sent;
use super::client;
use super::eventually;
use super::first_party;
use super::patience;

/// A folder with a model store, plugins and a configuration.
#[derive(Debug)]
pub(crate) struct Setup {
    folder: TempDir,
    properties: String,
    models: String,
    variables: Vec<(String, String)>,
}

/// A running server; killed when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Mutex<Child>,
    inference: String,
    management: String,
    metrics: String,
    log: Arc<Mutex<String>>,
    agent: Agent,
    folder: TempDir,
}

// === impl Setup ===

impl Setup {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["models", "plugins", "elsewhere"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        // One worker does for most tests, and makes what they see plain.
        let work = format!("sconce_work_dir={}", folder.path().join("work").display());
        let properties = [
            &work,
            "inference_address=http://127.0.0.1:0",
            "management_address=http://127.0.0.1:0",
            "metrics_address=http://127.0.0.1:0",
            "default_workers_per_model=1",
            // Most tests are about something else.
            "disable_token_authorization=true",
            "",
        ];
        Self { folder, properties: properties.join("\n"), models: "all".to_owned(), variables: Vec::new() }
    }

    /// With the model `echo`, which shows whether the server serves.
    pub(crate) fn with_echo() -> Self {
        Self::new().plugin(&first_party("echo")).model(&Archive::new("echo", "echo"))
    }

    pub(crate) fn plugin(self, library: &Path) -> Self {
        let name = library.file_name().unwrap();
        fs::copy(library, self.plugins().join(name)).unwrap();
        self
    }

    pub(crate) fn model(self, archive: &Archive) -> Self {
        archive.pack(&self.store());
        self
    }

    /// A line of `config.properties`; the last one counts.
    pub(crate) fn property(mut self, key: &str, value: &str) -> Self {
        writeln!(self.properties, "{key}={value}").unwrap();
        self
    }

    /// A variable of the server's environment.
    pub(crate) fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A file beside `config.properties`; gives its path.
    pub(crate) fn file(&self, name: &str, content: &str) -> String {
        let path = self.folder.path().join(name);
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Clients need a token.
    pub(crate) fn with_tokens(self) -> Self {
        self.property("disable_token_authorization", "false")
    }

    /// What to load, where it isn't all that the store has.
    pub(crate) fn models(mut self, models: &str) -> Self {
        models.clone_into(&mut self.models);
        self
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.folder.path().join("models")
    }

    pub(crate) fn plugins(&self) -> PathBuf {
        self.folder.path().join("plugins")
    }

    /// Where it runs.
    pub(crate) fn current_dir(&self) -> PathBuf {
        self.folder.path().join("elsewhere")
    }

    /// Starts it and waits until every model is served or has failed.
    pub(crate) fn start(self) -> Server {
        let server = self.start_bare();
        eventually("every model to be served or to have failed", || server.has_settled().then_some(()));
        server
    }

    /// Starts it and waits until it takes requests.
    pub(crate) fn start_bare(self) -> Server {
        let mut child = self.command().spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let kept = Arc::clone(&log);
        let stderr = child.stderr.take().unwrap();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
                let mut log = kept.lock().unwrap();
                log.push_str(&String::from_utf8_lossy(&line));
                log.push('\n');
            }
        });
        let lines = Arc::new(Mutex::new(Vec::<String>::new()));
        let read = Arc::clone(&lines);
        let stdout = child.stdout.take().unwrap();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                read.lock().unwrap().push(line);
            }
        });
        let mut server = Server {
            child: Mutex::new(child),
            inference: String::new(),
            management: String::new(),
            metrics: String::new(),
            log,
            agent: client::agent(),
            folder: self.folder,
        };
        eventually("the line `Model server started.`", || {
            assert!(server.status().is_none(), "the server ended at once");
            lines.lock().unwrap().iter().any(|line| line == "Model server started.").then_some(())
        });
        let lines = lines.lock().unwrap();
        let bound = |api: &str| {
            let start = format!("{api} API bind to: ");
            let line = lines.iter().find_map(|line| line.strip_prefix(&start));
            line.unwrap_or_else(|| panic!("no line {start:?} in {lines:?}")).to_owned()
        };
        server.inference = bound("Inference");
        server.management = bound("Management");
        server.metrics = bound("Metrics");
        server
    }

    /// Starts a server that is expected to end by itself.
    pub(crate) fn run_to_end(self) -> Output {
        let mut child = self.command().spawn().unwrap();
        let status = eventually("the server's end", || child.try_wait().unwrap());
        let mut output = Output { status, stdout: Vec::new(), stderr: Vec::new() };
        child.stdout.take().unwrap().read_to_end(&mut output.stdout).unwrap();
        child.stderr.take().unwrap().read_to_end(&mut output.stderr).unwrap();
        output
    }

    fn command(&self) -> Command {
        let folder = self.folder.path();
        fs::write(folder.join("config.properties"), &self.properties).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_sconce"));
        for (name, _) in std::env::vars_os() {
            let others = ["SCONCE_LOG", "METRICS_LOCATION", "ENABLE_TORCH_PROFILER"];
            if name.to_string_lossy().starts_with("TS_") || others.iter().any(|other| name == *other) {
                command.env_remove(name);
            }
        }
        command
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .current_dir(self.current_dir())
            .arg("serve")
            .arg("--ts-config")
            .arg(folder.join("config.properties"))
            .arg("--model-store")
            .arg(self.store())
            .arg("--plugins-path")
            .arg(self.plugins())
            .args(["--models", &self.models])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }
}

// === impl Server ===

impl Server {
    /// POSTs a body to a model, or to `model/version`.
    pub(crate) fn predict(&self, model: &str, body: impl AsRef<[u8]>) -> Answer {
        self.send(model, &Sent::body(body))
    }

    /// Sends a request to a model, or to `model/version`.
    pub(crate) fn send(&self, model: &str, request: &Sent) -> Answer {
        self.inference(&format!("/predictions/{model}"), request)
    }

    /// The same, where no answer may come.
    pub(crate) fn try_predict(&self, model: &str, body: impl AsRef<[u8]>) -> Result<Answer, ureq::Error> {
        let url = format!("{}/predictions/{model}", self.inference);
        Sent::body(body).try_send(&self.agent, &url)
    }

    pub(crate) fn inference(&self, path: &str, request: &Sent) -> Answer {
        let url = format!("{}{path}", self.inference);
        request.try_send(&self.agent, &url).unwrap_or_else(|error| panic!("{url}: {error}"))
    }

    pub(crate) fn management(&self, path: &str, request: &Sent) -> Answer {
        request.try_send(&self.agent, &format!("{}{path}", self.management)).unwrap()
    }

    /// The text of the metrics.
    pub(crate) fn metrics(&self) -> Answer {
        self.metrics_api("/metrics", &Sent::get())
    }

    pub(crate) fn metrics_api(&self, path: &str, request: &Sent) -> Answer {
        request.try_send(&self.agent, &format!("{}{path}", self.metrics)).unwrap()
    }

    /// What the management API says of a model's default version.
    pub(crate) fn describe(&self, model: &str) -> Value {
        let answer = self.management(&format!("/models/{model}"), &Sent::get());
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()[0].clone()
    }

    /// Why a model isn't served.
    pub(crate) fn failure(&self, model: &str) -> String {
        let description = self.describe(model);
        assert_eq!(description["status"], "FAILED", "{description:#}");
        description["error"].as_str().unwrap().to_owned()
    }

    /// Asserts that the model `echo` is served.
    #[track_caller]
    pub(crate) fn still_serves(&self) {
        assert_eq!(self.predict("echo", "are you there?").ok(), "are you there?");
        assert_eq!(self.inference("/ping", &Sent::get()).ok(), "{\n  \"status\": \"Healthy\"\n}\n");
    }

    /// What was written to standard error so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Waits for a line of the log that says all of these, and gives it.
    pub(crate) fn logged(&self, parts: &[&str]) -> String {
        eventually(&format!("a line of the log with {parts:?}"), || {
            let log = self.log();
            let line = log.lines().find(|line| parts.iter().all(|part| line.contains(part)));
            line.map(str::to_owned)
        })
    }

    /// `127.0.0.1:PORT` of the inference API.
    pub(crate) fn address(&self) -> &str {
        self.inference.strip_prefix("http://").unwrap()
    }

    /// The same of the management API.
    pub(crate) fn management_address(&self) -> &str {
        self.management.strip_prefix("http://").unwrap()
    }

    /// The same of the metrics API.
    pub(crate) fn metrics_address(&self) -> &str {
        self.metrics.strip_prefix("http://").unwrap()
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.folder.path().join("models")
    }

    pub(crate) fn plugins(&self) -> PathBuf {
        self.folder.path().join("plugins")
    }

    /// Where it keeps its private copies.
    pub(crate) fn work(&self) -> PathBuf {
        self.folder.path().join("work")
    }

    /// Where it runs, and keeps the key file.
    pub(crate) fn current_dir(&self) -> PathBuf {
        self.folder.path().join("elsewhere")
    }

    /// The key for `management`, `inference` or `API`, as it is now; none where nobody needs one.
    pub(crate) fn key(&self, kind: &str) -> Option<String> {
        let file = fs::read_to_string(self.current_dir().join("key_file.json")).ok()?;
        let keys: Value = serde_json::from_str(&file).unwrap();
        Some(keys[kind]["key"].as_str().unwrap().to_owned())
    }

    /// Of its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.lock().unwrap().id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.id()).unwrap();
        kill_process(Pid::from_raw(id).unwrap(), signal).unwrap();
    }

    /// Waits for the end of the process.
    pub(crate) fn ended(&self) -> ExitStatus {
        eventually("the server's end", || self.status())
    }

    fn status(&self) -> Option<ExitStatus> {
        self.child.lock().unwrap().try_wait().unwrap()
    }

    fn has_settled(&self) -> bool {
        let get = Sent::get().bearer(self.key("management").as_deref());
        let list = self.management("/models", &get).json();
        list["models"].as_array().unwrap().iter().all(|model| {
            let name = model["modelName"].as_str().unwrap();
            let versions = self.management(&format!("/models/{name}/all"), &get).json();
            versions.as_array().unwrap().iter().all(|version| version["status"] != "LOADING")
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let child = self.child.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        let _ = child.kill();
        let _ = child.wait();
        if std::thread::panicking() {
            let log = self.log.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            eprintln!("the server's log (patience {:?}):\n{log}", patience());
        }
    }
}
