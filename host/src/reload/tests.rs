//! The loop over real files: everything by which a file may come to have other bytes, and everything that only looks like it.

use std::fs;
use std::fs::File;
use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::mpsc;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::mpsc::Sender;
use std::time::Duration;

use super::Action;
use super::Listing;
use super::Places;
use super::Reloader;
use super::Target;
use super::Watcher;
use crate::archive::LoadModels;
use crate::archive::Store;
use crate::config::WatchConfig;
use crate::ids::ModelName;
use crate::ids::ModelVersion;
use crate::serving::Served;

/// Longer than a tick of the kernel's clock.
const SETTLE: Duration = Duration::from_millis(10);

/// How long a test waits for what should come at once.
pub(super) fn patience() -> Duration {
    let seconds = std::env::var("SCONCE_TEST_PATIENCE").ok();
    Duration::from_secs(seconds.and_then(|text| text.parse().ok()).unwrap_or(60))
}

/// Serves nothing, and says what it was told.
struct Recorder {
    served: Mutex<Vec<Served>>,
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
struct Bench {
    folder: tempfile::TempDir,
    places: Places,
    served: Vec<Served>,
}

/// A reloader at work.
struct Running {
    recorder: Arc<Recorder>,
    actions: Receiver<Action>,
    /// Rewritten to find out that all that went before has been dealt with.
    bell: PathBuf,
    rings: u32,
    reloader: Option<Reloader>,
}

impl Bench {
    /// With `plugins/a.so`, which serves the model `m`, `plugins/bell.so`, which serves the model `bell`, and `store/m.mar`.
    fn new() -> Self {
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

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, bytes: &str) {
        fs::write(self.path(name), bytes).unwrap();
    }

    fn serve(&mut self, name: &str, archive: &str, library: &str) {
        self.served.push(Served {
            name: ModelName::parse(name).unwrap(),
            version: ModelVersion::default(),
            ready: true,
            archive: self.path(archive),
            library: Some(self.path(library)),
            by_name: true,
        });
    }

    fn start(&self) -> Running {
        let baseline = Listing::take(&self.places);
        self.launch(|target| self.reloader(target, &baseline)).settled()
    }

    fn reloader(&self, target: Arc<dyn Target>, baseline: &Listing) -> Reloader {
        let config = WatchConfig { settle: SETTLE, poll: None };
        Reloader::start(target, self.places.clone(), &config, baseline.clone()).unwrap()
    }

    fn launch(&self, start: impl FnOnce(Arc<dyn Target>) -> Reloader) -> Running {
        let (sender, actions) = mpsc::channel();
        let recorder = Arc::new(Recorder { served: Mutex::new(self.served.clone()), actions: Mutex::new(sender) });
        let target = Arc::<Recorder>::clone(&recorder);
        Running { recorder, actions, bell: self.path("plugins/bell.so"), rings: 0, reloader: Some(start(target)) }
    }
}

impl Running {
    /// Goes on once all that was there at the start has been read.
    fn settled(mut self) -> Self {
        assert_eq!(self.until_quiet(), []);
        self
    }

    fn next(&self) -> Action {
        self.actions.recv_timeout(patience()).unwrap()
    }

    /// What was done until nothing was left to do.
    fn until_quiet(&mut self) -> Vec<Action> {
        let mut done = self.until_bell();
        // Actions of one round come in any order, and those of the next one later.
        done.extend(self.until_bell());
        done
    }

    /// What was done until a change that came last was dealt with.
    fn until_bell(&mut self) -> Vec<Action> {
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

fn swap(name: &str) -> Action {
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

fn touch(path: &Path) {
    let time = fs::metadata(path).unwrap().modified().unwrap() + Duration::from_secs(5);
    File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}

#[test]
fn a_library_that_is_rewritten_in_place() {
    let bench = Bench::new();
    let mut running = bench.start();
    for bytes in ["two", "six", "one", "one and more"] {
        bench.write("plugins/a.so", bytes);
        assert_eq!(running.next(), swap("m"), "{bytes}");
    }
    assert_eq!(running.until_quiet(), []);
}

#[test]
fn a_library_that_is_replaced_in_one_step() {
    let bench = Bench::new();
    let mut running = bench.start();
    for bytes in ["two", "six"] {
        bench.write("aside/a.so", bytes);
        fs::rename(bench.path("aside/a.so"), bench.path("plugins/a.so")).unwrap();
        assert_eq!(running.next(), swap("m"), "{bytes}");
    }
    assert_eq!(running.until_quiet(), []);
}

#[test]
fn a_library_that_cargo_links_anew() {
    let bench = Bench::new();
    let mut running = bench.start();
    for bytes in ["two", "six"] {
        // Written beside, under a name with a hash; the old link is removed, and another made.
        let _ = fs::remove_file(bench.path("aside/a-0123.so"));
        bench.write("aside/a-0123.so", bytes);
        fs::remove_file(bench.path("plugins/a.so")).unwrap();
        fs::hard_link(bench.path("aside/a-0123.so"), bench.path("plugins/a.so")).unwrap();
        assert_eq!(running.next(), swap("m"), "{bytes}");
    }
    assert_eq!(running.until_quiet(), []);
}

#[test]
fn a_slow_copy_counts_when_it_is_whole() {
    let bench = Bench::new();
    let mut running = bench.start();
    let library = library();
    let (half, rest) = library.split_at(100);
    let mut file = File::create(bench.path("plugins/a.so")).unwrap();
    file.write_all(half).unwrap();
    // It stands still for longer than it takes another to settle.
    assert_eq!(running.until_bell(), []);
    file.write_all(rest).unwrap();
    drop(file);
    assert_eq!(running.next(), swap("m"));
    assert_eq!(running.until_quiet(), []);
}

#[test]
fn what_does_not_change_the_bytes_changes_nothing() {
    let bench = Bench::new();
    let mut running = bench.start();
    let library = bench.path("plugins/a.so");
    touch(&library);
    assert_eq!(running.until_quiet(), [], "touched");
    touch(&library);
    bench.write("plugins/a.so", "one");
    assert_eq!(running.until_quiet(), [], "touched again, and written with the same bytes");
    fs::remove_file(&library).unwrap();
    assert_eq!(running.until_quiet(), [], "removed");
    bench.write("plugins/a.so", "one");
    assert_eq!(running.until_quiet(), [], "back");
    fs::rename(bench.path("plugins"), bench.path("away")).unwrap();
    fs::rename(bench.path("away"), bench.path("plugins")).unwrap();
    assert_eq!(running.until_quiet(), [], "the folder gone and back");
    for name in ["plugins/.a.so.swp", "plugins/a.so~", "plugins/notes.txt", "store/.m.mar.part", "aside/b.so"] {
        bench.write(name, "noise");
    }
    fs::read(&library).unwrap();
    fs::set_permissions(&library, Permissions::from_mode(0o700)).unwrap();
    assert_eq!(running.until_quiet(), [], "noise");
    bench.write("plugins/a.so", "two");
    assert_eq!(running.next(), swap("m"));
}

#[test]
fn archives_are_taken_in_and_added() {
    let mut bench = Bench::new();
    bench.places.load = Some(LoadModels::All);
    fs::create_dir_all(bench.path("store/folder/extra")).unwrap();
    bench.write("store/folder/extra/names.json", "1");
    bench.write("store/folder/weights.pt", "weights");
    bench.serve("folder", "store/folder", "plugins/none.so");
    let mut running = bench.start();
    let take_in = |name: &str| Action::TakeIn { archive: bench.path(name) };
    let add = |name: &str| Action::Add { archive: bench.path("store").join(name), name: None, url: name.to_owned() };

    bench.write("aside/m.mar", "two");
    fs::rename(bench.path("aside/m.mar"), bench.path("store/m.mar")).unwrap();
    assert_eq!(running.next(), take_in("store/m.mar"));
    bench.write("aside/names.json", "2");
    fs::rename(bench.path("aside/names.json"), bench.path("store/folder/extra/names.json")).unwrap();
    assert_eq!(running.next(), take_in("store/folder"));
    fs::create_dir(bench.path("store/folder/more")).unwrap();
    bench.write("store/folder/more/new.json", "");
    assert_eq!(running.next(), take_in("store/folder"));
    File::options().append(true).open(bench.path("store/folder/more/new.json")).unwrap().write_all(b"1").unwrap();
    assert_eq!(running.next(), take_in("store/folder"));
    // An archive that comes is served, and so is a package that is moved here.
    bench.write("store/new.mar", "new");
    assert_eq!(running.next(), add("new.mar"));
    fs::create_dir(bench.path("aside/package")).unwrap();
    bench.write("aside/package/weights.pt", "1");
    fs::rename(bench.path("aside/package"), bench.path("store/package")).unwrap();
    assert_eq!(running.next(), add("package"));
    fs::remove_file(bench.path("store/m.mar")).unwrap();
    fs::remove_dir_all(bench.path("store/package")).unwrap();
    assert_eq!(running.until_quiet(), []);
}

#[test]
fn an_archive_that_a_client_asked_for_later() {
    let mut bench = Bench::new();
    bench.write("store/late.mar", "one");
    bench.write("store/other.mar", "one");
    let mut running = bench.start();
    bench.serve("late", "store/late.mar", "plugins/a.so");
    // No file tells of it. What is on disk is what was registered until it changes.
    *running.recorder.served.lock().unwrap() = bench.served.clone();
    bench.write("store/late.mar", "two");
    assert_eq!(running.next(), Action::TakeIn { archive: bench.path("store/late.mar") });
    bench.write("store/other.mar", "two");
    touch(&bench.path("store/late.mar"));
    assert_eq!(running.until_quiet(), []);
}

#[test]
fn a_mount_whose_data_are_swapped_by_a_link() {
    let mut bench = Bench::new();
    // As Kubernetes mounts a ConfigMap.
    for (version, bytes) in [("..1", "one"), ("..2", "two")] {
        fs::create_dir_all(bench.path("mount").join(version)).unwrap();
        fs::write(bench.path("mount").join(version).join("c.so"), bytes).unwrap();
    }
    symlink("..1", bench.path("mount/..data")).unwrap();
    symlink("..data/c.so", bench.path("mount/c.so")).unwrap();
    // One place is the folder, the other a single file by way of another link.
    symlink("mount", bench.path("mounted")).unwrap();
    bench.places.plugins.extend([bench.path("mount"), bench.path("mounted/c.so")]);
    bench.serve("c", "store/c.mar", "mount/c.so");
    bench.serve("d", "store/d.mar", "mounted/c.so");
    let mut running = bench.start();
    symlink("..2", bench.path("mount/..tmp")).unwrap();
    fs::rename(bench.path("mount/..tmp"), bench.path("mount/..data")).unwrap();
    let two = |running: &Running| {
        let mut two = [running.next(), running.next()];
        two.sort_by_key(|action| format!("{action:?}"));
        two
    };
    assert_eq!(two(&running), [swap("c"), swap("d")]);
    // The link's target is watched, too.
    bench.write("mount/..2/c.so", "six");
    assert_eq!(two(&running), [swap("c"), swap("d")]);
    assert_eq!(running.until_quiet(), []);
}

#[test]
fn a_plugins_path_that_comes_later() {
    let mut bench = Bench::new();
    bench.places.plugins.push(bench.path("later/plugins"));
    bench.serve("late", "store/late.mar", "later/plugins/z.so");
    let mut running = bench.start();
    fs::create_dir_all(bench.path("later/plugins")).unwrap();
    bench.write("later/plugins/z.so", "one");
    assert_eq!(running.next(), swap("late"));
    bench.write("later/plugins/z.so", "two");
    assert_eq!(running.next(), swap("late"));
    assert_eq!(running.until_quiet(), []);
}

#[test]
fn what_changed_while_the_models_were_loaded_is_dealt_with_first() {
    let bench = Bench::new();
    let baseline = Listing::take(&bench.places);
    bench.write("store/m.mar", "two");
    let mut running = bench.launch(|target| bench.reloader(target, &baseline));
    assert_eq!(running.next(), Action::TakeIn { archive: bench.path("store/m.mar") });
    assert_eq!(running.until_quiet(), []);
}

#[test]
fn without_events_it_looks_from_time_to_time() {
    let bench = Bench::new();
    let mut running = bench
        .launch(|target| {
            let watcher = Watcher::deaf(Duration::from_millis(3));
            let baseline = Listing::take(&bench.places);
            Reloader::start_with(watcher, mpsc::channel(), target, bench.places.clone(), SETTLE, baseline).unwrap()
        })
        .settled();
    for bytes in ["two", "six", "one and more"] {
        bench.write("plugins/a.so", bytes);
        assert_eq!(running.next(), swap("m"), "{bytes}");
    }
    touch(&bench.path("plugins/a.so"));
    assert_eq!(running.until_quiet(), []);
}

#[test]
fn a_folder_that_anyone_may_write_to_is_left_alone() {
    let mut bench = Bench::new();
    fs::create_dir(bench.path("open")).unwrap();
    fs::set_permissions(bench.path("open"), Permissions::from_mode(0o777)).unwrap();
    bench.write("open/o.so", "one");
    bench.places.plugins.extend([bench.path("open")]);
    bench.serve("o", "store/o.mar", "open/o.so");
    let mut running = bench.start();
    bench.write("open/o.so", "two");
    assert_eq!(running.until_quiet(), []);
}

#[test]
fn dropping_it_ends_it() {
    let bench = Bench::new();
    let mut running = bench.start();
    running.reloader.take();
    bench.write("plugins/a.so", "two");
    // The recorder is the last that holds on to the actions' sender.
    drop(running.recorder);
    assert_eq!(running.actions.recv_timeout(patience()), Err(RecvTimeoutError::Disconnected));
}
