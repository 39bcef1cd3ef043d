//! Who is measured: how each is set up and started, with the same model and the same input.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;

use super::group::Group;
use super::peers::Peers;
use super::peers::Tuning;
use crate::archive::Archive;
use crate::http::Client;
use crate::process;
use crate::workspace;

/// What is served, and what is sent to it.
#[derive(Debug, Clone)]
pub(super) struct Model {
    pub(super) name: &'static str,
    /// The plugin that serves it.
    pub(super) handler: &'static str,
    pub(super) file: Option<PathBuf>,
    /// The same network, compiled by AOTInductor, where the peers' Python could make it.
    pub(super) package: Option<PathBuf>,
    pub(super) input: PathBuf,
    /// Of one input to libtorch alone, as `1,28,28`.
    pub(super) shape: &'static str,
    /// For peers whose batches are configured.
    pub(super) batch: usize,
}

/// One of those that serve it.
#[derive(Debug, Clone)]
pub(super) struct Contestant<'a> {
    pub(super) name: &'static str,
    pub(super) kind: Kind<'a>,
}

#[derive(Debug, Clone)]
pub(super) enum Kind<'a> {
    /// The route without a server around it.
    Bare,
    /// As a new user has it; with another model file where one is named.
    Sconce {
        file: Option<PathBuf>,
    },
    TorchServe {
        peers: &'a Peers,
        tuning: Tuning,
    },
    Mosec {
        peers: &'a Peers,
    },
}

/// One that answers.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) group: Group,
    pub(super) url: String,
    client: Client,
    input: Vec<u8>,
    /// What it said to the input.
    pub(super) answer: String,
    /// From its start to that answer.
    pub(super) seconds: f64,
}

/// Where one may write and listen.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) folder: PathBuf,
    pub(super) ports: [u16; 5],
}

/// TorchServe with many workers takes its time, and so do many models.
const READY_WITHIN: Duration = Duration::from_secs(300);
const POLL: Duration = Duration::from_millis(5);

// === impl Contestant ===

impl Contestant<'_> {
    pub(super) fn is_a_peer(&self) -> bool {
        matches!(self.kind, Kind::TorchServe { .. } | Kind::Mosec { .. })
    }

    /// In a few words, for the report.
    pub(super) fn settings(&self, model: &Model) -> String {
        match &self.kind {
            Kind::Bare => "one axum route, tokio with a thread for each core".to_owned(),
            Kind::Sconce { .. } | Kind::TorchServe { tuning: Tuning::Default, .. } => {
                "as it is, without any setting".to_owned()
            }
            Kind::TorchServe { tuning: Tuning::Tuned, .. } => {
                format!("2 workers, 1 thread each, batchSize {}, maxBatchDelay 5 ms", model.batch)
            }
            Kind::Mosec { .. } => {
                format!("2 workers, 1 thread each, max_batch_size {}, max_wait_time 5 ms", model.batch)
            }
        }
    }

    /// Writes what it needs, and says how it is started and where it answers.
    pub(super) fn prepare(&self, model: &Model, programs: &Path, place: &Place) -> Result<(Command, String)> {
        if let (Kind::TorchServe { .. }, Some(why)) = (&self.kind, Peers::without_java()) {
            bail!(why);
        }
        fs::create_dir_all(&place.folder).with_context(|| format!("{} can't be made", place.folder.display()))?;
        let base = format!("http://127.0.0.1:{}", place.ports[0]);
        let url = format!("{base}/predictions/{}", model.name);
        let command = match &self.kind {
            Kind::Bare => {
                let mut command = workspace::program(programs, "bare");
                command.arg(format!("127.0.0.1:{}", place.ports[0]));
                command
            }
            Kind::Sconce { file } => {
                let file = file.clone().or_else(|| model.file.clone());
                let store = place.folder.join("store");
                pack(&Model { file, ..model.clone() }, programs, &store, "")?;
                serve(programs, place, &store)?
            }
            Kind::TorchServe { peers, tuning } => peers.torchserve(model, *tuning, place)?,
            Kind::Mosec { peers } => return Ok((peers.mosec(model, place)?, format!("{base}/inference"))),
        };
        Ok((command, url))
    }
}

// === impl Running ===

impl Running {
    /// Starts a command, and waits until each of these addresses has answered; the first is the one that is kept.
    pub(super) fn start(
        command: Command,
        urls: &[String],
        input: &Path,
        place: &Place,
        interrupted: &AtomicBool,
    ) -> Result<Self> {
        let input = fs::read(input).with_context(|| format!("{} can't be read", input.display()))?;
        let client = Client::new();
        let mut group = Group::start(command, &place.folder.join("said"))?;
        let mut answer = String::new();
        for url in urls.iter().rev() {
            answer = first_answer(&client, &mut group, url, &input, interrupted)?;
        }
        let seconds = group.started.elapsed().as_secs_f64();
        let url = urls.first().context("nothing to ask; this is a bug")?.clone();
        Ok(Self { group, url, client, input, answer, seconds })
    }

    /// Waits until it has answered what was sent to it before.
    pub(super) fn settle(&self) -> Result<()> {
        let answer = self.client.post(&self.url, "application/octet-stream", &self.input)?;
        if answer.status != 200 {
            bail!("{} answers {}: {}", self.url, answer.status, short(&answer.body));
        }
        Ok(())
    }
}

fn first_answer(
    client: &Client,
    group: &mut Group,
    url: &str,
    input: &[u8],
    interrupted: &AtomicBool,
) -> Result<String> {
    let mut last;
    loop {
        match client.post(url, "application/octet-stream", input) {
            Ok(answer) if answer.status == 200 => return Ok(short(&answer.body)),
            Ok(answer) => last = format!("it answers {}: {}", answer.status, short(&answer.body)),
            Err(error) => last = format!("{error:#}"),
        }
        if interrupted.load(Ordering::Relaxed) {
            bail!("interrupted");
        }
        if group.has_ended() || group.started.elapsed() > READY_WITHIN {
            bail!("it doesn't serve: {last}; its last words were:\n{}", group.said());
        }
        thread::sleep(POLL);
    }
}

// === impl Place ===

impl Place {
    /// With ports that nobody has now.
    pub(super) fn new(folder: PathBuf) -> Result<Self> {
        let listen = || TcpListener::bind("127.0.0.1:0");
        let listeners = [listen(), listen(), listen(), listen(), listen()];
        let mut ports = [0; 5];
        for (port, listener) in ports.iter_mut().zip(&listeners) {
            let listener = listener.as_ref().map_err(|error| anyhow::anyhow!("no port is free: {error}"))?;
            *port = listener.local_addr().context("a port has no number")?.port();
        }
        Ok(Self { folder, ports })
    }
}

/// Packs the model's archive into a store, with the lines of a model-config.yaml.
pub(super) fn pack(model: &Model, programs: &Path, store: &Path, config: &str) -> Result<()> {
    fs::create_dir_all(store).with_context(|| format!("{} can't be made", store.display()))?;
    let mut pack = workspace::program(programs, "sconce");
    Archive { model: model.name, handler: model.handler, serialized_file: None }.pack(&mut pack, store);
    if let Some(file) = &model.file {
        pack.arg("--serialized-file").arg(file);
    }
    if !config.is_empty() {
        let file = store.with_extension("yaml");
        fs::write(&file, config).with_context(|| format!("{} can't be written", file.display()))?;
        pack.arg("--config-file").arg(file);
    }
    let output = pack.output().context("sconce archive can't be started")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`{}` failed: {}", process::shown(&pack), said.trim());
    }
    Ok(())
}

/// The server over a store, as a new user starts it, but for the ports.
pub(super) fn serve(programs: &Path, place: &Place, store: &Path) -> Result<Command> {
    let file = place.folder.join("config.properties");
    let addresses: String = ["inference", "management", "metrics"]
        .iter()
        .zip(place.ports)
        .map(|(api, port)| format!("{api}_address=http://127.0.0.1:{port}\n"))
        .collect();
    fs::write(&file, addresses).with_context(|| format!("{} can't be written", file.display()))?;
    let mut command = workspace::program(programs, "sconce");
    command.arg("serve").arg("--model-store").arg(store).args(["--models", "all", "--plugins-path"]);
    command.arg(programs).arg("--disable-token-auth").arg("--ts-config").arg(file);
    Ok(command)
}

/// The beginning of an answer, on one line.
fn short(answer: &str) -> String {
    answer.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(120).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_ends_at_once_is_quoted() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::new(folder.path().to_owned()).unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo no such model >&2"]);
        let urls = [format!("http://127.0.0.1:{}/x", place.ports[0])];
        let never = AtomicBool::new(false);
        let message = Running::start(command, &urls, Path::new("/dev/null"), &place, &never).unwrap_err().to_string();
        assert!(message.starts_with("it doesn't serve: POST http://127.0.0.1:"), "{message}");
        assert!(message.ends_with("no such model"), "{message}");
    }

    #[test]
    fn an_answer_is_told_on_one_line() {
        assert_eq!(short("{\n  \"7\": 1\n}\n"), "{ \"7\": 1 }");
        assert_eq!(short(&"x".repeat(500)).len(), 120);
    }

    #[test]
    fn every_place_has_ports_of_its_own() {
        let place = Place::new("/x".into()).unwrap();
        let mut ports = place.ports.to_vec();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 5);
    }
}
