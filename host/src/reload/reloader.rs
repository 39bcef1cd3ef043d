//! The loop that joins watching, looking and planning.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::mpsc::Sender;
use std::thread;
use std::thread::JoinHandle;
use std::time::Duration;
use std::time::Instant;

use super::errands::Errands;
use super::listing::Item;
use super::listing::ItemKind;
use super::listing::Listing;
use super::listing::Places;
use super::plan::plan;
use super::survey::Survey;
use super::target::Target;
use super::watcher::Hint;
use super::watcher::Watcher;
use crate::config::WatchConfig;

/// Tells serving what has changed on disk, until it is dropped.
#[derive(Debug)]
pub struct Reloader {
    messages: Sender<Message>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
pub(super) enum Message {
    Hint(Hint),
    Stop,
}

/// The state of the thread.
struct Rounds {
    target: Arc<dyn Target>,
    places: Places,
    watcher: Watcher,
    survey: Survey,
    seen: Listing,
    /// Folders that were complained of.
    refused: BTreeSet<PathBuf>,
    errands: Errands,
    messages: Receiver<Message>,
}

/// Events come in swarms; so long they are gathered before a look.
const GATHERING: Duration = Duration::from_millis(5);

// === impl Reloader ===

impl Reloader {
    /// Starts to watch. `baseline` was taken before the models were loaded: what has changed since is dealt with at once.
    pub fn start(target: Arc<dyn Target>, places: Places, config: &WatchConfig, baseline: Listing) -> io::Result<Self> {
        let (sender, messages) = mpsc::channel();
        let hints = sender.clone();
        let tell = move |hint| {
            // Nobody listens once the reloader is stopped.
            let _ = hints.send(Message::Hint(hint));
        };
        let watcher = Watcher::new(config.poll, tell);
        Self::start_with(watcher, (sender, messages), target, places, config.settle, baseline)
    }

    pub(super) fn start_with(
        watcher: Watcher,
        (sender, messages): (Sender<Message>, Receiver<Message>),
        target: Arc<dyn Target>,
        places: Places,
        settle: Duration,
        baseline: Listing,
    ) -> io::Result<Self> {
        let stop = Arc::<AtomicBool>::default();
        let mut rounds = Rounds {
            errands: Errands::new(Arc::clone(&target)),
            target,
            places,
            watcher,
            survey: Survey::new(settle, Arc::clone(&stop)),
            seen: baseline,
            refused: BTreeSet::new(),
            messages,
        };
        let thread = thread::Builder::new().name("reload".to_owned()).spawn(move || rounds.run())?;
        Ok(Self { messages: sender, stop, thread: Some(thread) })
    }
}

impl Drop for Reloader {
    /// Actions under way run to their end.
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.messages.send(Message::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

// === impl Rounds ===

impl Rounds {
    fn run(&mut self) {
        let mut hint = Hint::Rescan;
        let mut look_at_all = Instant::now();
        let mut announced = false;
        loop {
            self.complain();
            self.watcher.watch(&self.places.watched());
            if !announced {
                self.announce();
                announced = true;
            }
            if hint == Hint::Rescan {
                look_at_all = Instant::now();
            }
            let next = self.round(&hint);
            let poll = look_at_all + self.watcher.pause();
            match self.wait(next.map_or(poll, |next| next.min(poll))) {
                Some(Hint::Look(paths)) if paths.is_empty() && Instant::now() >= poll => hint = Hint::Rescan,
                Some(next) => hint = next,
                None => return,
            }
        }
    }

    /// Looks once, and has done what is to be done. Returns when to look again even without a hint.
    fn round(&mut self, hint: &Hint) -> Option<Instant> {
        let served = self.target.served();
        let expected = self.places.expected();
        let wanted = |item: &Item| match item.kind {
            ItemKind::Library => true,
            // A store may hold far more archives than are served.
            ItemKind::Archive => {
                expected.iter().any(|expected| expected.archive == item.path)
                    || served.iter().any(|served| served.archive == item.path)
            }
        };
        let look = self.survey.look(self.places.items(), wanted, hint, Instant::now());
        for action in plan(&self.seen, &look.listing, &served, &expected) {
            tracing::debug!(?action, "files have changed");
            self.errands.run(&action);
        }
        self.seen.remember(look.listing);
        look.next
    }

    /// Waits for hints, and gathers those that follow closely; an empty one where none came. `None` is the end.
    fn wait(&self, until: Instant) -> Option<Hint> {
        let mut end = until;
        let mut gathered = Vec::new();
        loop {
            match self.messages.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(Message::Hint(Hint::Look(paths))) => {
                    if gathered.is_empty() {
                        end = Instant::now() + GATHERING;
                    }
                    gathered.extend(paths);
                }
                Ok(Message::Hint(Hint::Rescan)) => return Some(Hint::Rescan),
                Err(RecvTimeoutError::Timeout) => {
                    gathered.sort_unstable();
                    gathered.dedup();
                    return Some(Hint::Look(gathered));
                }
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
    }

    fn complain(&mut self) {
        for folder in self.places.refused() {
            if self.refused.insert(folder.clone()) {
                let folder = folder.display();
                tracing::warn!(
                    "hot swap from {folder} is off: anyone may write there; `chmod o-w {folder}` turns it on"
                );
            }
        }
    }

    fn announce(&self) {
        let places: Vec<_> = self.places.watched().iter().map(|place| place.path.display().to_string()).collect();
        let events = if self.watcher.has_events() { "by events, and " } else { "" };
        let (places, pause) = (places.join(", "), self.watcher.pause());
        tracing::info!("hot swap: watching {places} {events}by looking every {pause:?}");
    }
}
