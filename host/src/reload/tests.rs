//! The loop over real files: everything by which a file may come to have other bytes, and everything that only looks like it.

use std::fs;
use std::fs::File;
use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::fs::symlink;
use std::sync::mpsc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use super::Action;
use super::Listing;
use super::Reloader;
use super::Watcher;
use super::bench::Bench;
use super::bench::Running;
use super::bench::SETTLE;
use super::bench::library;
use super::bench::patience;
use super::bench::swap;
use super::bench::touch;
use crate::archive::LoadModels;

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
    // Nor what only a link leads to from a folder that is trusted.
    symlink(bench.path("open/o.so"), bench.path("plugins/link.so")).unwrap();
    bench.serve("l", "store/l.mar", "plugins/link.so");
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
