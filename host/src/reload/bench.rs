//! What the tests of this layer stand on: folders with real files, and a target that only says what it was told.

use std::fs;
use std::fs::File;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::mpsc;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::Sender;
use std::time::Duration;

use super::Action;
use super::Listing;
use super::Places;
use super::Reloader;
use super::Target;
use crate::archive::Store;
use crate::config::WatchConfig;
use crate::ids::ModelName;
use crate::ids::ModelVersion;
use crate::serving::Served;

/// Longer than a tick of the kernel's clock.
pub(super) const SETTLE: Duration = Duration::from_millis(10);

/// How long a test waits for what should come at once.
pub(super) fn patience() -> Duration {
    let seconds = std::env::var("SCONCE_TEST_PATIENCE").ok();
    Duration::from_secs(seconds.and_then(|text| text.parse().ok()).unwrap_or(60))
}

/// Serves nothing, and says what it was told.
pub(super) struct Recorder {
    pub(super) served: Mutex<Vec<Served>>,
    actions: Mutex<Sender<Action>>,
}

impl Target for Recorder {
    fn served(&self) -> Vec<Served> {
        self.served.lock().unwrap().clone()
    }

    fn carry_out(&self, action: Action) {
        let _ = self.actions.lock().unwrap().send(action);
    }
}

/// A folder with a model store, plugins, and a place to prepare files in.
pub(super) struct Bench {
    folder: tempfile::TempDir,
    pub(super) places: Places,
    pub(super) served: Vec<Served>,
}

/// A reloader at work.
pub(super) struct Running {
    pub(super) recorder: Arc<Recorder>,
    pub(super) actions: Receiver<Action>,
    /// Rewritten to find out that all that went before has been dealt with.
    bell: PathBuf,
    rings: u32,
    pub(super) reloader: Option<Reloader>,
}

impl Bench {
    /// With `plugins/a.so`, which serves the model `m`, `plugins/bell.so`, which serves the model `bell`, and `store/m.mar`.
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["store", "plugins", "aside"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let places = Places {
            store: Some(Store::new(folder.path().join("store"))),
            plugins: vec![folder.path().join("plugins")],
            load: None,
        };
        let mut bench = Self { folder, places, served: Vec::new() };
        bench.write("plugins/a.so", "one");
        bench.write("plugins/bell.so", "bell");
        bench.write("store/m.mar", "one");
        bench.serve("m", "store/m.mar", "plugins/a.so");
        bench.serve("bell", "store/bell.mar", "plugins/bell.so");
        bench
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn write(&self, name: &str, bytes: &str) {
        fs::write(self.path(name), bytes).unwrap();
    }

    pub(super) fn serve(&mut self, name: &str, archive: &str, library: &str) {
        self.served.push(Served {
            name: ModelName::parse(name).unwrap(),
            version: ModelVersion::default(),
            ready: true,
            archive: self.path(archive),
            library: Some(self.path(library)),
            by_name: true,
        });
    }

    pub(super) fn start(&self) -> Running {
        let baseline = Listing::take(&self.places);
        self.launch(|target| self.reloader(target, &baseline)).settled()
    }

    pub(super) fn reloader(&self, target: Arc<dyn Target>, baseline: &Listing) -> Reloader {
        let config = WatchConfig { settle: SETTLE, poll: None };
        Reloader::start(target, self.places.clone(), &config, baseline.clone()).unwrap()
    }

    pub(super) fn launch(&self, start: impl FnOnce(Arc<dyn Target>) -> Reloader) -> Running {
        let (sender, actions) = mpsc::channel();
        let recorder = Arc::new(Recorder { served: Mutex::new(self.served.clone()), actions: Mutex::new(sender) });
        let target = Arc::<Recorder>::clone(&recorder);
        Running { recorder, actions, bell: self.path("plugins/bell.so"), rings: 0, reloader: Some(start(target)) }
    }
}

impl Running {
    /// Goes on once all that was there at the start has been read.
    pub(super) fn settled(mut self) -> Self {
        assert_eq!(self.until_quiet(), []);
        self
    }

    pub(super) fn next(&self) -> Action {
        self.actions.recv_timeout(patience()).unwrap()
    }

    /// What was done until nothing was left to do.
    pub(super) fn until_quiet(&mut self) -> Vec<Action> {
        let mut done = self.until_bell();
        // Actions of one round come in any order, and those of the next one later.
        done.extend(self.until_bell());
        done
    }

    /// What was done until a change that came last was dealt with.
    pub(super) fn until_bell(&mut self) -> Vec<Action> {
        self.rings += 1;
        fs::write(&self.bell, format!("bell {}", self.rings)).unwrap();
        let mut before = Vec::new();
        loop {
            let action = self.next();
            if action == swap("bell") {
                return before;
            }
            before.push(action);
        }
    }
}

pub(super) fn swap(name: &str) -> Action {
    Action::SwapHandler { name: ModelName::parse(name).unwrap(), version: ModelVersion::default() }
}

/// The frame of a library: a header, and a table of one section at the end.
pub(super) fn library() -> Vec<u8> {
    let mut library = vec![0; 164];
    library[..6].copy_from_slice(b"\x7fELF\x02\x01");
    library[0x28] = 100;
    library[0x3a] = 64;
    library[0x3c] = 1;
    library
}

pub(super) fn touch(path: &Path) {
    let time = fs::metadata(path).unwrap().modified().unwrap() + Duration::from_secs(5);
    File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}
