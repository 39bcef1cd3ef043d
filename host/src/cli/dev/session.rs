//! The session: waits for a save, builds, packs where something packed has changed, swaps, and says what came of it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::RecvTimeoutError;
use std::thread;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;

use anyhow::Context as _;
use time::OffsetDateTime;

use super::build::Built;
use super::build::Cargo;
use super::library;
use super::lines::swapped;
use super::lines::time;
use super::project::Keys;
use super::project::Project;
use super::snapshot::Snapshot;
use crate::archive::ArchiveFormat;
use crate::archive::Existing;
use crate::archive::PackRequest;
use crate::archive::Runtime;
use crate::archive::pack;
use crate::cli::say;
use crate::ids::GenerationId;
use crate::plugin::own_thread;
use crate::reload::Depth;
use crate::reload::Hint;
use crate::reload::Place;
use crate::reload::Watcher;
use crate::serving::Endpoint;
use crate::serving::GenerationRecord;
use crate::serving::GenerationState;
use crate::serving::Registry;
use crate::serving::SwapError;
use crate::serving::Swapped;
use crate::serving::Trigger;

/// Serves one project until the process ends.
#[derive(Debug)]
pub(super) struct Session {
    project: Project,
    cargo: Arc<Cargo>,
    registry: Arc<Registry>,
    /// What the latest build was made from besides the project's own sources, as cargo tells.
    inputs: Vec<Place>,
    /// What the archive in the store was packed from.
    packed: Option<Contents>,
    /// Cargo hasn't told yet what the project is like by now.
    is_outdated: bool,
    /// The archive in the store has never served.
    has_new_archive: bool,
    /// The library in the plugins path has never served.
    has_new_library: bool,
    /// The generation that was last said to serve.
    told: Option<GenerationId>,
}

/// What an archive is packed from; the same makes the same archive.
#[derive(Debug, PartialEq, Eq)]
struct Contents {
    keys: Keys,
    handler: String,
    files: Snapshot,
}

/// A library that was built and put into the plugins path.
struct Library {
    /// The only handler that it has, or the one that is asked for.
    handler: String,
    took: Duration,
}

/// After a save there is silence for so long before a build begins: editors write several files, in several steps.
const SETTLE: Duration = Duration::from_millis(50);

/// Where there is no silence, a build begins all the same.
const LONGEST_SETTLE: Duration = Duration::from_secs(1);

/// Between two looks at what serves: it may have been rolled back.
const LOOK: Duration = Duration::from_millis(500);

/// How long a line waits for the old generation's end, so that it can say what became of it.
const FAREWELL: Duration = Duration::from_millis(500);

// === impl Session ===

impl Session {
    pub(super) fn new(project: Project, cargo: Arc<Cargo>, registry: Arc<Registry>) -> Self {
        Self {
            project,
            cargo,
            registry,
            inputs: Vec::new(),
            packed: None,
            is_outdated: false,
            has_new_archive: false,
            has_new_library: false,
            told: None,
        }
    }

    /// Begins, on a thread that ends with the process.
    pub(super) fn start(self, inference: SocketAddr) {
        let started = thread::Builder::new().name("dev".to_owned()).spawn(move || {
            own_thread();
            self.run(inference);
        });
        if let Err(error) = started {
            tracing::error!(%error, "no thread to build on");
        }
    }

    fn run(mut self, inference: SocketAddr) {
        let (sender, hints) = mpsc::channel();
        // A watcher without events drops its own sender at once.
        let _kept = sender.clone();
        let mut watcher = Watcher::new(None, move |hint| drop(sender.send(hint)));
        let mut built = None;
        while !self.cargo.has_ended() {
            let places = self.places();
            watcher.watch(&places);
            let mut seen = self.look(&places);
            if built.as_ref() == Some(&seen) {
                self.wait(&hints, watcher.pause());
                continue;
            }
            let started = SystemTime::now();
            if let Err(error) = self.round(&seen, built.as_ref(), inference) {
                self.tell(&format!("{error:#}; {}", self.what_serves()));
            }
            // What is watched from now on was built as it is, unless it was written meanwhile.
            let watched = self.places();
            let further: Vec<_> = watched.iter().filter(|place| !places.contains(place)).cloned().collect();
            seen.keep(&watched);
            seen.add_unknown(self.look(&further), started);
            built = Some(seen);
        }
    }

    /// From the sources to the line that says what came of them.
    fn round(&mut self, seen: &Snapshot, before: Option<&Snapshot>, inference: SocketAddr) -> anyhow::Result<()> {
        let changed = |path: &PathBuf| before.is_some_and(|before| seen.differs_in(before, path));
        self.is_outdated |= self.project.manifests().iter().any(changed);
        if self.is_outdated {
            self.project = self.project.read_again()?;
            self.is_outdated = false;
        }
        let Some(library) = self.build()? else { return Ok(()) };
        // What was refused with a new archive is tried with it again.
        self.has_new_archive |= self.pack(&library.handler)?;
        let trigger = if self.has_new_archive { Trigger::Archive } else { Trigger::Library };
        let (name, version) = (self.project.model_name(), self.project.version());
        match self.registry.find(name, Some(version)) {
            // What has served may have been rolled back, and isn't to come again by itself.
            Ok(_) if !self.has_new_archive && !self.has_new_library => self.tell_unchanged(&library),
            Ok(endpoint) => {
                let old = endpoint.status().generation;
                let result = self.registry.refresh(name, Some(version), trigger);
                self.has_new_archive &= result.is_err();
                self.has_new_library &= result.is_err();
                self.tell_swap(&endpoint, result, old, &library, inference);
            }
            Err(_) => self.add(&library, inference)?,
        }
        Ok(())
    }

    /// The library, copied to where the server looks for it; `None` where there is none, which was said.
    fn build(&mut self) -> anyhow::Result<Option<Library>> {
        let started = Instant::now();
        let built = self.cargo.build(&self.project)?;
        let took = started.elapsed();
        let Built::Library(file) = built else {
            self.tell(&format!("build failed ({}): {}", time(took), self.what_serves()));
            return Ok(None);
        };
        let depth = Depth::Entries;
        let inputs = library::inputs(&file).into_iter().filter(|path| !path.starts_with(self.project.target()));
        self.inputs = inputs.map(|path| Place { path, depth }).collect();
        let handler = match &self.project.keys().handler {
            Some(handler) => handler.clone(),
            None => library::only_handler(&file)?,
        };
        self.has_new_library |= library::put(&file, &self.project.plugins())?;
        Ok(Some(Library { handler, took }))
    }

    /// Packs the archive, unless it would be the one that is there; tells whether it did.
    fn pack(&mut self, handler: &str) -> anyhow::Result<bool> {
        let project = &self.project;
        let files = self.look(&project.packed());
        let contents = Contents { keys: project.keys().clone(), handler: handler.to_owned(), files };
        if self.packed.as_ref() == Some(&contents) {
            return Ok(false);
        }
        let request = PackRequest {
            model_name: project.model_name().to_owned(),
            version: project.version().to_owned(),
            handler: handler.to_owned(),
            serialized_file: project.serialized_file(),
            model_file: None,
            extra_files: Some(project.extra_files()),
            runtime: Runtime::default(),
            export_path: project.store(),
            // Packed and opened in the time of a copy.
            format: ArchiveFormat::ZipStore,
            existing: Existing::Replace,
            requirements_file: None,
            config_file: project.config_file(),
            // The same contents make the same archive.
            created_on: OffsetDateTime::UNIX_EPOCH,
        };
        let packed = pack(&request).context("not packed")?;
        // Of the settings the server warns by itself.
        let of_config = request.config_file.map(|file| format!("{}: ", file.display()));
        let is_of_config = |warning: &String| of_config.as_ref().is_some_and(|start| warning.starts_with(start));
        for warning in packed.warnings.iter().filter(|warning| !is_of_config(warning)) {
            tracing::warn!("{warning}");
        }
        self.packed = Some(contents);
        Ok(true)
    }

    /// Serves a model of that name and version for the first time.
    fn add(&mut self, library: &Library, inference: SocketAddr) -> anyhow::Result<()> {
        let (name, version) = (self.project.model_name().to_owned(), self.project.version().to_owned());
        let file_name = format!("{name}.mar");
        self.registry.archive_added(&self.project.store().join(&file_name), None, file_name);
        let endpoint = self.registry.find(&name, Some(&version)).context("the archive can't be opened")?;
        let records = endpoint.generations();
        let Some(record) = records.first() else { return Ok(()) };
        if record.state == GenerationState::Refused {
            self.tell_refused(record.reason.as_deref().unwrap_or_default());
        } else {
            (self.has_new_archive, self.has_new_library) = (false, false);
            self.tell_serving(&endpoint, record, library, inference);
        }
        Ok(())
    }

    fn tell_swap(
        &mut self,
        endpoint: &Endpoint,
        result: Result<Swapped, SwapError>,
        old: Option<GenerationId>,
        library: &Library,
        inference: SocketAddr,
    ) {
        match result {
            Ok(Swapped::Yes(new)) if old.is_none() => self.tell_serving(endpoint, &new, library, inference),
            Ok(Swapped::Yes(new)) => {
                self.told = Some(new.id);
                let old = old.and_then(|old| farewell(endpoint, old));
                let line = swapped(&new, Some(library.took), old.as_ref());
                self.tell(&format!("swapped to generation {}: {line}", new.id));
            }
            Ok(Swapped::Unchanged(_)) => self.tell_unchanged(library),
            Err(SwapError::Refused { error, .. }) => self.tell_refused(&error.to_string()),
            Err(error) => self.tell_refused(&error.to_string()),
        }
    }

    fn tell_serving(&mut self, endpoint: &Endpoint, new: &GenerationRecord, library: &Library, inference: SocketAddr) {
        self.told = Some(new.id);
        let (name, version) = (endpoint.name(), endpoint.version());
        // The version that was served first is the one that is meant where none is named.
        let is_default = self.registry.find(name.as_str(), None).is_ok_and(|default| default.version() == version);
        let rest = if is_default { String::new() } else { format!("/{version}") };
        let url = format!("http://{inference}/predictions/{name}{rest}");
        self.tell(&format!("serving {name} {version} at {url}"));
        if let Some(request) = self.project.sample_request() {
            self.tell(&format!("  curl {url}{request}"));
        }
        self.tell(&format!("  generation {}: {}", new.id, swapped(new, Some(library.took), None)));
        self.tell(&format!("watching {}; Ctrl-C ends", self.project.watched()));
    }

    fn tell_unchanged(&self, library: &Library) {
        self.tell(&format!(
            "nothing changed: built in {}, and it is the same; {}",
            time(library.took),
            self.what_serves()
        ));
    }

    fn tell_refused(&self, reason: &str) {
        self.tell(&format!("refused: {reason}; {}", self.what_serves()));
    }

    /// Says what happened without a save: a rollback after panics, or one that somebody asked the management API for.
    fn tell_unexpected(&mut self) {
        let Some(told) = self.told else { return };
        let found = self.registry.find(self.project.model_name(), Some(self.project.version()));
        let Ok(endpoint) = found else { return };
        let Some(serving) = endpoint.status().generation.filter(|serving| *serving != told) else { return };
        self.told = Some(serving);
        let records = endpoint.generations();
        let Some(now) = records.iter().find(|record| record.id == serving) else { return };
        let why = match now.trigger {
            Trigger::Panics => format!("generation {told} panicked again and again, and the code before it serves"),
            trigger => format!("asked for over the management API ({})", trigger.as_str()),
        };
        self.tell(&format!("swapped to generation {serving}: {why}; {}", swapped(now, None, None)));
    }

    /// Nothing is said of what ends because the session does.
    fn tell(&self, line: &str) {
        if !self.cargo.has_ended() {
            say(line);
        }
    }

    fn what_serves(&self) -> String {
        let endpoint = self.registry.find(self.project.model_name(), Some(self.project.version()));
        match endpoint.ok().and_then(|endpoint| endpoint.status().generation) {
            Some(generation) => format!("generation {generation} goes on serving"),
            None => "nothing is served yet; it is built again at the next save".to_owned(),
        }
    }

    fn places(&self) -> Vec<Place> {
        let mut places = self.project.places();
        places.extend(self.inputs.iter().cloned());
        places.sort();
        places.dedup();
        places
    }

    fn look(&self, places: &[Place]) -> Snapshot {
        Snapshot::of(places, self.project.target())
    }

    /// Waits until something may have changed and nothing more does, or it is time to look.
    fn wait(&mut self, hints: &Receiver<Hint>, pause: Duration) {
        let end = Instant::now() + pause;
        while Instant::now() < end && !self.cargo.has_ended() {
            match hints.recv_timeout(LOOK.min(pause)) {
                Ok(_) => {
                    let end = Instant::now() + LONGEST_SETTLE;
                    while Instant::now() < end && hints.recv_timeout(SETTLE).is_ok() {}
                    return;
                }
                Err(RecvTimeoutError::Timeout) => self.tell_unexpected(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }
}

/// The old generation when it has ended, or as it is by then.
fn farewell(endpoint: &Endpoint, id: GenerationId) -> Option<GenerationRecord> {
    let end = Instant::now() + FAREWELL;
    loop {
        let record = endpoint.generations().into_iter().find(|record| record.id == id)?;
        if record.residue.is_some() || Instant::now() >= end {
            return Some(record);
        }
        thread::sleep(Duration::from_millis(2));
    }
}
