//! What changes on disk is taken up by itself; what goes, or is half there, changes nothing.

use std::fs;

use super::setup;
use crate::support::Archive;
use crate::support::Sent;
use crate::support::Server;
use crate::support::Setup;
use crate::support::build_of;
use crate::support::eventually;
use crate::support::fixture;
use crate::support::mark_of;

const MODEL: &str = "tells_its_build";
const FILE: &str = "libtells_its_build.so";

fn watched() -> Setup {
    setup("tells-its-build", "").property("sconce_watch", "true").property("sconce_watch_settle_ms", "20")
}

fn is_served_by(server: &Server, build: u32) {
    eventually(&format!("build {build} to serve"), || (server.predict(MODEL, "").body == mark_of(build)).then_some(()));
}

#[test]
fn a_library_is_taken_up_however_it_is_written() {
    let server = watched().start();
    let library = fixture("tells-its-build");
    let place = server.plugins().join(FILE);
    server.put_library(FILE, &build_of(&library, 1));
    is_served_by(&server, 1);
    // In place, as `cp` does.
    fs::write(&place, build_of(&library, 2)).unwrap();
    is_served_by(&server, 2);
    // Another hard link, as cargo makes it.
    let linked = server.work().join("linked.so");
    fs::write(&linked, build_of(&library, 3)).unwrap();
    fs::remove_file(&place).unwrap();
    fs::hard_link(&linked, &place).unwrap();
    is_served_by(&server, 3);
    assert_eq!(server.generations(MODEL)[0]["trigger"], "library");
}

#[test]
fn what_is_gone_or_written_as_it_was_changes_nothing() {
    let server = watched().start();
    let before = server.serving(MODEL);
    let bytes = fs::read(server.plugins().join(FILE)).unwrap();
    fs::remove_file(server.plugins().join(FILE)).unwrap();
    fs::remove_file(server.store().join(format!("{MODEL}.mar"))).unwrap();
    server.put_library(FILE, &bytes);
    // What comes after it is dealt with after it.
    Archive::new("later", MODEL).pack(&server.store());
    eventually("the later one to be served", || (server.send("later", &Sent::body("")).status == 200).then_some(()));
    assert_eq!(server.predict(MODEL, "").body, mark_of(0));
    assert_eq!(server.serving(MODEL), before);
    assert_eq!(server.describe("later")["loadedAtStartup"], false);
}

#[test]
fn an_archive_is_a_whole_also_where_it_is_a_folder() {
    let folder = Archive::new("folder", MODEL).config("batchSize: 2\n").flags(&["--archive-format", "no-archive"]);
    let server = watched().model(&folder).start();
    assert_eq!(server.describe("folder")["batchSize"], 2);
    let before = server.serving("folder");
    fs::write(server.store().join("folder/model-config.yaml"), "batchSize: 5\n").unwrap();
    eventually("the new settings", || (server.describe("folder")["batchSize"] == 5).then_some(()));
    assert!(server.serving("folder") > before);
    assert_eq!(server.generations("folder")[0]["trigger"], "archive");

    // Another version is served beside the one before.
    let newer = Archive::new(MODEL, MODEL).version("2.0").file(&format!("{MODEL}.mar"));
    newer.pack(&server.work());
    fs::rename(server.work().join(format!("{MODEL}.mar")), server.store().join(format!("{MODEL}.mar"))).unwrap();
    eventually("version 2.0", || (server.send(&format!("{MODEL}/2.0"), &Sent::body("")).status == 200).then_some(()));
    assert_eq!(server.send(&format!("{MODEL}/1.0"), &Sent::body("")).body, mark_of(0));
}

#[test]
fn an_archive_waits_for_its_library() {
    let server = watched().start();
    // For another handler, whose library isn't there yet.
    Archive::new(MODEL, "counts_requests").config("batchSize: 6\n").pack(&server.store());
    server.logged(&["swap refused", "no library in", "counts_requests"]);
    assert_eq!(server.predict(MODEL, "").body, mark_of(0));
    server.put_library("libcounts_requests.so", &fs::read(fixture("counts-requests")).unwrap());
    eventually("the new handler", || (server.describe(MODEL)["batchSize"] == 6).then_some(()));
    assert_eq!(server.predict(MODEL, "").ok(), "1");
}

#[test]
fn an_archive_that_is_no_good_does_not_stand_in_the_way_of_a_library() {
    let server = watched().plugin(&fixture("fails-in-initialize")).start();
    let library = fixture("tells-its-build");
    Archive::new(MODEL, "fails_in_initialize").pack(&server.store());
    server.logged(&["swap refused", "initialize failed"]);
    server.put_library(FILE, &build_of(&library, 1));
    is_served_by(&server, 1);
}

#[test]
fn watching_can_be_turned_off() {
    let server = setup("tells-its-build", "").start();
    server.put_library(FILE, &build_of(&fixture("tells-its-build"), 1));
    assert!(!server.log().contains("hot swap: watching"), "{}", server.log());
    // The file is looked at when somebody asks, and not before.
    assert_eq!(server.generations(MODEL).len(), 1);
    server.swap(MODEL);
    assert_eq!(server.predict(MODEL, "").body, mark_of(1));
}
