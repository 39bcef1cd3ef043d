//! A server of the bench's own, with folders of its own, whose plugins are replaced as an author replaces them.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context;
use anyhow::Result;
use anyhow::anyhow;
use anyhow::bail;
use serde_json::Value;
use tempfile::NamedTempFile;
use tempfile::TempDir;

use super::metrics;
use super::plugin::Build;
use super::plugin::Plugin;
use crate::http::Answer;
use crate::http::Client;
use crate::server;
use crate::server::Server;
use crate::workspace;

/// The server, where it finds its plugins, and a client.
#[derive(Debug)]
pub(super) struct Site<'a> {
    // Before the folders, so that it has ended when they go.
    server: Server,
    client: Client,
    plugins: PathBuf,
    /// Beside the plugins, where nobody looks.
    next: PathBuf,
    interrupted: &'a AtomicBool,
    _config: NamedTempFile,
    _folder: TempDir,
}

/// One entry of `GET /models/{model}/generations`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Generation {
    pub(super) id: u64,
    pub(super) state: String,
    pub(super) reason: Option<String>,
    /// Milliseconds, in the order the steps were taken.
    pub(super) steps: Vec<(String, f64)>,
}

/// How many swaps of a model the server has counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Swaps {
    pub(super) made: u64,
    pub(super) refused: u64,
}

const POLL: Duration = Duration::from_millis(5);
/// Far longer than any swap takes.
const PATIENCE: Duration = Duration::from_secs(60);
/// A server that is still about to swap has done so by then.
const QUIET: Duration = Duration::from_secs(3);

// === impl Site ===

impl<'a> Site<'a> {
    /// Packs the plugins' archives, puts the plugins in place and serves them.
    pub(super) fn start(
        programs: &Path,
        plugins: &[&Plugin],
        settings: &[(&str, &str)],
        interrupted: &'a AtomicBool,
    ) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("sconce-bench-").tempdir();
        let folder = folder.context("no folder can be made in the temporary folder")?;
        let make = |name: &str| -> Result<PathBuf> {
            let path = folder.path().join(name);
            fs::create_dir(&path).with_context(|| format!("{} can't be made", path.display()))?;
            Ok(path)
        };
        let (store, places, work) = (make("store")?, make("plugins")?, make("work")?);
        for plugin in plugins {
            pack(programs, plugin, &store)?;
            let place = places.join(&plugin.file_name);
            fs::write(&place, plugin.first()).with_context(|| format!("{} can't be written", place.display()))?;
        }
        let config = server::configuration(settings)?;
        let mut command = workspace::program(programs, "sconce");
        command.arg("serve").arg("--model-store").arg(&store).args(["--models", "all", "--plugins-path"]);
        command.arg(&places).arg("--work-dir").arg(work).arg("--ts-config").arg(config.path());
        command.arg("--disable-token-auth");
        let mut server = Server::start(command)?;
        let models: Vec<&str> = plugins.iter().map(|plugin| plugin.model()).collect();
        server.wait_until_ready(&models, interrupted)?;
        let next = folder.path().join("next");
        Ok(Self { server, client: Client::new(), plugins: places, next, interrupted, _config: config, _folder: folder })
    }

    /// Does this while the server runs, and stops it; a failure is told with what the server said.
    pub(super) fn during<T>(mut self, work: impl FnOnce(&Self) -> Result<T>) -> Result<T> {
        match work(&self) {
            Ok(done) => self.server.stop().map(|()| done),
            Err(error) if self.is_interrupted() => Err(error),
            Err(error) => Err(self.server.explain(&error)),
        }
    }

    /// Puts a build in a plugin's place, in one step, and returns when.
    pub(super) fn put(&self, plugin: &Plugin, build: &Build) -> Result<Instant> {
        let place = self.plugins.join(&plugin.file_name);
        fs::write(&self.next, &build.bytes)
            .and_then(|()| fs::rename(&self.next, &place))
            .with_context(|| format!("{} can't be replaced", place.display()))?;
        Ok(Instant::now())
    }

    /// Waits until the server has dealt with so many new builds, and what was before them is gone; returns what it
    /// counted since. It may count fewer: builds that come faster than it swaps are taken together.
    pub(super) fn swaps_since(&self, model: &str, before: Swaps, puts: u64) -> Result<Swaps> {
        let mut last = (before, Instant::now());
        let since = self.wait(&format!("the new builds of {model} to be served"), || {
            let now = self.swaps(model)?;
            if now != last.0 {
                last = (now, Instant::now());
            }
            let since = Swaps { made: now.made - before.made, refused: now.refused - before.refused };
            let done = since.made + since.refused >= puts || last.1.elapsed() > QUIET;
            Ok(done.then_some(since))
        })?;
        self.wait_for_rest(model)?;
        Ok(since)
    }

    /// Fails if a generation after this one was refused.
    pub(super) fn check_not_refused(&self, model: &str, last: u64) -> Result<()> {
        let generations = self.generations(model)?;
        match generations.iter().find(|one| one.id > last && one.state == "refused") {
            Some(one) => {
                bail!(
                    "the server refused a build of {model}: {}",
                    one.reason.as_deref().unwrap_or("it doesn't say why")
                )
            }
            None => Ok(()),
        }
    }

    /// Waits until no generation is being made or retired.
    pub(super) fn wait_for_rest(&self, model: &str) -> Result<()> {
        self.wait(&format!("the generations of {model} to retire"), || {
            Ok(at_rest(&self.generations(model)?).then_some(()))
        })
    }

    /// Asks again and again, not for ever, and not after a signal.
    pub(super) fn wait<T>(&self, what: &str, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
        let started = Instant::now();
        loop {
            if let Some(found) = look()? {
                return Ok(found);
            }
            self.check_interrupted()?;
            if started.elapsed() > PATIENCE {
                bail!("waited {} s for {what}", PATIENCE.as_secs());
            }
            thread::sleep(POLL);
        }
    }

    pub(super) fn check_interrupted(&self) -> Result<()> {
        if self.is_interrupted() {
            bail!("interrupted");
        }
        Ok(())
    }

    fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    pub(super) fn prediction_url(&self, model: &str) -> Result<String> {
        Ok(format!("{}/predictions/{model}", self.server.inference_address()?))
    }

    pub(super) fn predict(&self, model: &str, body: &[u8]) -> Result<String> {
        let url = self.prediction_url(model)?;
        ok(&url, self.client.post(&url, "application/octet-stream", body)?)
    }

    /// The number of the generation that serves.
    pub(super) fn generation(&self, model: &str) -> Result<u64> {
        let url = format!("{}/models/{model}", self.server.management_address()?);
        let described = json(&url, &ok(&url, self.client.get(&url)?)?)?;
        described[0]["generation"].as_u64().with_context(|| format!("GET {url} tells no generation"))
    }

    /// Newest first.
    pub(super) fn generations(&self, model: &str) -> Result<Vec<Generation>> {
        let url = format!("{}/models/{model}/generations", self.server.management_address()?);
        let listed = json(&url, &ok(&url, self.client.get(&url)?)?)?;
        let mut generations: Vec<Generation> = listed.as_array().into_iter().flatten().map(Generation::read).collect();
        generations.sort_by_key(|generation| std::cmp::Reverse(generation.id));
        Ok(generations)
    }

    /// Asks for a swap, and returns when it is made.
    pub(super) fn reload(&self, model: &str) -> Result<()> {
        let url = format!("{}/models/{model}/reload", self.server.management_address()?);
        ok(&url, self.client.post(&url, "application/json", b"")?)?;
        Ok(())
    }

    pub(super) fn swaps(&self, model: &str) -> Result<Swaps> {
        let model = format!("model_name=\"{model}\"");
        let text = self.metrics()?;
        let all = metrics::sum(&text, "sconce_swaps_total", &[&model]) as u64;
        let made = metrics::sum(&text, "sconce_swaps_total", &[&model, "outcome=\"swapped\""]) as u64;
        Ok(Swaps { made, refused: all - made })
    }

    /// Address space of handlers' libraries.
    pub(super) fn library_bytes(&self) -> Result<f64> {
        Ok(metrics::sum(&self.metrics()?, "sconce_library_bytes_mapped", &[]))
    }

    pub(super) fn resident_bytes(&self) -> Result<f64> {
        Ok(self.server.resident_bytes()? as f64)
    }

    fn metrics(&self) -> Result<String> {
        let url = format!("{}/metrics", self.server.metrics_address()?);
        ok(&url, self.client.get(&url)?)
    }
}

// === impl Generation ===

impl Generation {
    fn read(entry: &Value) -> Self {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let steps = entry["milliseconds"].as_object().into_iter().flatten();
        Self {
            id: entry["generation"].as_u64().unwrap_or_default(),
            state: text(&entry["state"]).unwrap_or_default(),
            reason: text(&entry["reason"]),
            steps: steps.filter_map(|(step, time)| Some((step.clone(), time.as_f64()?))).collect(),
        }
    }
}

fn at_rest(generations: &[Generation]) -> bool {
    let serving = generations.iter().filter(|one| one.state == "serving").count();
    serving == 1 && generations.iter().all(|one| one.state != "preparing" && one.state != "draining")
}

fn pack(programs: &Path, plugin: &Plugin, store: &Path) -> Result<()> {
    let mut sconce = workspace::program(programs, "sconce");
    let output = plugin.archive.pack(&mut sconce, store).output().context("sconce archive can't be started")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("the archive of {} can't be packed: {}", plugin.model(), said.trim());
    }
    Ok(())
}

fn ok(url: &str, answer: Answer) -> Result<String> {
    if answer.status == 200 {
        return Ok(answer.body);
    }
    Err(anyhow!("{url} answered {}: {}", answer.status, answer.body.trim()))
}

fn json(url: &str, text: &str) -> Result<Value> {
    serde_json::from_str(text).with_context(|| format!("{url} answered what isn't JSON"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generations_are_read_as_the_server_tells_them() {
        let entry = serde_json::json!({
            "generation": 3, "state": "retired", "trigger": "library",
            "milliseconds": {"copy": 0.5, "open": 1.25},
        });
        let generation = Generation::read(&entry);
        assert_eq!((generation.id, generation.state.as_str()), (3, "retired"));
        assert_eq!(generation.steps, [("copy".to_owned(), 0.5), ("open".to_owned(), 1.25)]);
        let serving = Generation { state: "serving".to_owned(), ..generation.clone() };
        assert!(at_rest(&[serving.clone(), generation.clone()]));
        assert!(!at_rest(&[serving, Generation { state: "draining".to_owned(), ..generation }]));
    }
}
