//! Hints that something may have changed, from the kernel's events where there are any.
//!
//! Nothing is promised but this: whoever looks at the places at every hint, and after every [`Watcher::pause`] without one, misses nothing.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use notify::ErrorKind;
use notify::Event;
use notify::EventKind;
use notify::INotifyWatcher;
use notify::RecursiveMode;
use notify::Watcher as _;
use notify::event::AccessKind;
use notify::event::AccessMode;

use super::file_system;
use super::scope::Place;
use super::scope::Scope;

/// Watches folders and files.
#[derive(Debug)]
pub struct Watcher {
    /// Why there are none, where there are none.
    events: Result<INotifyWatcher, String>,
    scope: Arc<Mutex<Scope>>,
    watched: BTreeSet<PathBuf>,
    /// Folders where changes may come without an event, and why.
    unheard: BTreeMap<PathBuf, String>,
    /// What the operator wants instead of our pauses.
    poll: Option<Duration>,
}

/// What may have changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hint {
    /// These files or folders, by names that are free of symbolic links. Their bytes may differ even where their metadata doesn't.
    Look(Vec<PathBuf>),
    /// Anything.
    Rescan,
}

/// Between two looks where changes may come without an event.
const POLL: Duration = Duration::from_secs(1);

/// Between two looks where every change should come with an event.
const SAFETY_POLL: Duration = Duration::from_secs(30);

// === impl Watcher ===

impl Watcher {
    /// Watches nothing yet. `tell` is called on a thread of the watcher's; `poll` replaces its choice of a [`pause`](Self::pause).
    pub fn new(poll: Option<Duration>, tell: impl Fn(Hint) + Send + 'static) -> Self {
        let scope = Arc::<Mutex<Scope>>::default();
        let known = Arc::clone(&scope);
        // Links are followed by the scope.
        let config = notify::Config::default().with_follow_symlinks(false);
        let handler = move |event: notify::Result<Event>| {
            if let Some(hint) = hint(event, &known) {
                tell(hint);
            }
        };
        let events = INotifyWatcher::new(handler, config).map_err(|error| error.to_string());
        Self::with(events, scope, poll)
    }

    /// One that gets no events, as where the kernel grants no more watches.
    #[cfg(test)]
    pub(super) fn deaf(poll: Duration) -> Self {
        Self::with(Err("the test wants none".to_owned()), Arc::default(), Some(poll))
    }

    fn with(events: Result<INotifyWatcher, String>, scope: Arc<Mutex<Scope>>, poll: Option<Duration>) -> Self {
        Self { events, scope, watched: BTreeSet::new(), unheard: BTreeMap::new(), poll }
    }

    /// Watches these places from now on, and no others.
    ///
    /// Call it before every look: folders and links that came or were replaced since are watched then, so that what is seen by the look is watched already.
    pub fn watch(&mut self, places: &[Place]) {
        let scope = Scope::of(places);
        let wanted = scope.watched();
        // First, so that no event of a new folder is taken for one that doesn't count.
        *lock(&self.scope) = scope;
        let mut unheard = BTreeMap::new();
        for folder in &wanted {
            if let Err(reason) = self.listen(folder) {
                unheard.insert(folder.clone(), reason);
            } else if let Some(name) = file_system::unheard(folder) {
                unheard.insert(folder.clone(), format!("it lies on {name}, where others may write without an event"));
            }
        }
        if let Ok(events) = &mut self.events {
            for folder in self.watched.difference(&wanted) {
                // It may be gone, and its watch with it.
                let _ = events.unwatch(folder);
            }
        }
        self.watched = wanted;
        let before = std::mem::replace(&mut self.unheard, unheard);
        for (folder, reason) in self.unheard.iter().filter(|(folder, _)| !before.contains_key(*folder)) {
            tracing::warn!(folder = %folder.display(), every = ?self.pause(), "looking for changes from time to time: {reason}");
        }
    }

    /// The longest time to let pass between two looks.
    pub fn pause(&self) -> Duration {
        self.poll.unwrap_or(if self.unheard.is_empty() { SAFETY_POLL } else { POLL })
    }

    /// Whether the kernel tells of changes at all.
    pub fn has_events(&self) -> bool {
        self.events.is_ok()
    }

    /// Asks for the events of a folder, also of one that was asked for before: another may have taken its place.
    fn listen(&mut self, folder: &Path) -> Result<(), String> {
        let events = self.events.as_mut().map_err(|reason| format!("there are no events: {reason}"))?;
        match events.watch(folder, RecursiveMode::NonRecursive) {
            Ok(()) => Ok(()),
            // It went a moment ago, which is an event of the folder above it.
            Err(error) if matches!(error.kind, ErrorKind::PathNotFound) => Ok(()),
            Err(error) if matches!(error.kind, ErrorKind::MaxFilesWatch) => {
                Err("the kernel grants no more watches; raise fs.inotify.max_user_watches".to_owned())
            }
            Err(error) => Err(format!("there are no events: {error}")),
        }
    }
}

/// What an event hints at, if it does.
fn hint(event: notify::Result<Event>, scope: &Mutex<Scope>) -> Option<Hint> {
    match event {
        Ok(event) if event.need_rescan() => {
            tracing::info!("more changes than the kernel could tell of: looking at all files");
            Some(Hint::Rescan)
        }
        Ok(event) if changes_something(&event.kind) => {
            let scope = lock(scope);
            let paths: Vec<_> = event.paths.into_iter().filter(|path| scope.counts(path)).collect();
            (!paths.is_empty()).then_some(Hint::Look(paths))
        }
        Ok(_) => None,
        Err(error) => {
            tracing::warn!(%error, "events of the file system may be lost: looking at all files");
            Some(Hint::Rescan)
        }
    }
}

/// Reading changes nothing, and we read ourselves. But a file that was written through a mapping, as linkers do, tells so only when it is closed.
fn changes_something(kind: &EventKind) -> bool {
    !kind.is_access() || matches!(kind, EventKind::Access(AccessKind::Close(AccessMode::Write)))
}

fn lock(scope: &Mutex<Scope>) -> MutexGuard<'_, Scope> {
    scope.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::mpsc;
    use std::sync::mpsc::Receiver;

    use notify::event::Flag;

    use super::super::scope::Depth;
    use super::*;
    use crate::reload::bench::patience;

    fn watcher() -> (Watcher, Receiver<Hint>) {
        let (sender, hints) = mpsc::channel();
        let tell = move |hint| drop(sender.send(hint));
        (Watcher::new(None, tell), hints)
    }

    /// Waits until a path is named, and returns what was named before it.
    fn named_before(hints: &Receiver<Hint>, path: &Path) -> Vec<PathBuf> {
        let mut before = Vec::new();
        loop {
            let Hint::Look(paths) = hints.recv_timeout(patience()).unwrap() else { continue };
            if paths.iter().any(|named| named == path) {
                return before;
            }
            before.extend(paths);
        }
    }

    #[test]
    fn a_tree_tells_of_what_is_written_and_not_of_what_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        fs::create_dir(root.join("src")).unwrap();
        fs::write(root.join("src/lib.rs"), "1").unwrap();
        let (mut watcher, hints) = watcher();
        let places = [Place { path: root.join("src"), depth: Depth::Tree }];
        watcher.watch(&places);
        assert_eq!(watcher.watched, BTreeSet::from([root.join("src")]));
        fs::read(root.join("src/lib.rs")).unwrap();
        fs::write(root.join("beside"), "").unwrap();
        fs::create_dir(root.join("src/inner")).unwrap();
        assert_eq!(named_before(&hints, &root.join("src/inner")), Vec::<PathBuf>::new());
        // The folder is watched from the next look on.
        watcher.watch(&places);
        fs::write(root.join("src/inner/new.rs"), "1").unwrap();
        named_before(&hints, &root.join("src/inner/new.rs"));
        fs::rename(root.join("src/inner"), root.join("moved")).unwrap();
        named_before(&hints, &root.join("src/inner"));
    }

    #[test]
    fn a_folder_that_was_replaced_is_watched_again() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let (mut watcher, hints) = watcher();
        let plugins = root.join("plugins");
        let places = [Place { path: plugins.clone(), depth: Depth::Entries }];
        watcher.watch(&places);
        for round in 0..3 {
            fs::create_dir(&plugins).unwrap();
            named_before(&hints, &plugins);
            watcher.watch(&places);
            fs::write(plugins.join("a.so"), round.to_string()).unwrap();
            named_before(&hints, &plugins.join("a.so"));
            fs::rename(&plugins, root.join(format!("old{round}"))).unwrap();
            named_before(&hints, &plugins);
            watcher.watch(&places);
        }
        // Without a look between, either way of going.
        fs::create_dir(&plugins).unwrap();
        named_before(&hints, &plugins);
        watcher.watch(&places);
        fs::rename(&plugins, root.join("away")).unwrap();
        fs::create_dir(&plugins).unwrap();
        named_before(&hints, &plugins);
        watcher.watch(&places);
        fs::write(plugins.join("b.so"), "").unwrap();
        named_before(&hints, &plugins.join("b.so"));
        fs::remove_dir_all(&plugins).unwrap();
        fs::create_dir(&plugins).unwrap();
        named_before(&hints, &plugins);
        watcher.watch(&places);
        fs::write(plugins.join("c.so"), "").unwrap();
        named_before(&hints, &plugins.join("c.so"));
        assert_eq!(watcher.pause(), SAFETY_POLL);
        watcher.watch(&[]);
        assert!(watcher.watched.is_empty());
    }

    #[test]
    fn writing_through_a_mapping_shows_when_the_file_is_closed() {
        let scope = Mutex::new(Scope::of(&[Place { path: "/nowhere".into(), depth: Depth::Entries }]));
        let event = |kind| Event::new(EventKind::Access(kind)).add_path("/nowhere".into());
        let look = Hint::Look(vec!["/nowhere".into()]);
        assert_eq!(hint(Ok(event(AccessKind::Close(AccessMode::Write))), &scope), Some(look));
        for reading in [AccessKind::Open(AccessMode::Any), AccessKind::Close(AccessMode::Read), AccessKind::Read] {
            assert_eq!(hint(Ok(event(reading)), &scope), None);
        }
    }

    #[test]
    fn an_overflow_asks_for_a_look_at_everything() {
        let scope = Mutex::default();
        let overflow = Event::new(EventKind::Other).set_flag(Flag::Rescan);
        assert_eq!(hint(Ok(overflow), &scope), Some(Hint::Rescan));
        assert_eq!(hint(Err(notify::Error::generic("lost")), &scope), Some(Hint::Rescan));
        // Of nothing that counts.
        assert_eq!(hint(Ok(Event::new(EventKind::Any).add_path("/x".into())), &scope), None);
    }

    #[test]
    fn without_events_looks_come_often_unless_the_operator_says_when() {
        let folder = tempfile::tempdir().unwrap();
        let mut watcher = Watcher::with(Err("none left".to_owned()), Arc::default(), None);
        assert_eq!(watcher.pause(), SAFETY_POLL);
        watcher.watch(&[Place { path: folder.path().to_owned(), depth: Depth::Entries }]);
        assert_eq!(watcher.pause(), POLL);
        let poll = Duration::from_millis(20);
        assert_eq!(Watcher::new(Some(poll), drop).pause(), poll);
    }
}
