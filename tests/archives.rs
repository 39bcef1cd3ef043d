//! Archives of every form, and those that are broken, hostile or made for somebody else.

use std::fs;
use std::io::Write;
use std::path::Path;

use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use crate::support::Archive;
use crate::support::Sent;
use crate::support::Setup;
use crate::support::fixture;
use crate::support::says;

const MANIFEST: &str =
    r#"{"runtime": "python", "model": {"modelName": "hand", "handler": "echo", "modelVersion": "1.0"}}"#;

fn zip(path: &Path, members: &[(&str, &str)]) {
    let mut writer = ZipWriter::new(fs::File::create(path).unwrap());
    for (name, content) in members {
        writer.start_file(*name, SimpleFileOptions::default()).unwrap();
        writer.write_all(content.as_bytes()).unwrap();
    }
    writer.finish().unwrap();
}

#[test]
fn every_form_of_archive_is_served() {
    let echo = |name: &str, format: &str| Archive::new(name, "echo").flags(&["--archive-format", format]);
    let server = Setup::with_echo()
        .model(&echo("stored", "zip-store"))
        .model(&echo("tarred", "tgz"))
        .model(&echo("folder", "no-archive"))
        .start();
    for name in ["echo", "stored", "tarred", "folder"] {
        assert_eq!(server.predict(name, name).ok(), name);
    }
    let urls = ["stored.mar", "tarred.tar.gz", "folder"];
    for (name, url) in ["stored", "tarred", "folder"].into_iter().zip(urls) {
        assert_eq!(server.describe(name)["modelUrl"], url);
    }
}

#[test]
fn an_archive_made_by_hand_is_served() {
    let setup = Setup::with_echo();
    zip(&setup.store().join("hand.mar"), &[("MAR-INF/MANIFEST.json", MANIFEST), ("notes.txt", "by hand")]);
    let server = setup.start();
    assert_eq!(server.predict("hand", "made").ok(), "made");
}

#[test]
fn a_gzipped_tar_without_a_folder_is_served() {
    let setup = Setup::with_echo();
    let file = fs::File::create(setup.store().join("flat.tar.gz")).unwrap();
    let mut tar = tar::Builder::new(flate2::write::GzEncoder::new(file, flate2::Compression::fast()));
    for (name, content) in [("MAR-INF/MANIFEST.json", MANIFEST), ("notes.txt", "no folder around them")] {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, content.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap();
    let server = setup.start();
    assert_eq!(server.predict("hand", "flat").ok(), "flat");
}

#[test]
fn an_archive_without_a_manifest_is_served_by_the_default_handler() {
    let setup = Setup::with_echo().property("default_service_handler", "echo");
    zip(&setup.store().join("bare-one.mar"), &[("notes.txt", "no manifest beside them")]);
    let server = setup.start();
    assert_eq!(server.predict("bare_one", "x").ok(), "x");
}

#[test]
fn a_library_in_the_archive_is_served_from_there() {
    let library = fixture("third-party");
    let handler = format!("{}:Shouter", library.with_extension("").display());
    let server = Setup::with_echo().model(&Archive::new("packed", &handler).flags(&["--runtime", "LSP"])).start();
    assert_eq!(server.predict("packed", "from inside").ok(), "FROM INSIDE!");
    assert_eq!(server.describe("packed")["runtime"], "LSP");
}

#[test]
fn a_broken_or_hostile_archive_is_refused_and_the_others_are_served() {
    let setup = Setup::with_echo();
    let store = setup.store();
    let outside = store.parent().unwrap().join("evil.txt");
    zip(&store.join("bare.mar"), &[("weights.bin", "no manifest beside them")]);
    zip(&store.join("hostile.mar"), &[("MAR-INF/MANIFEST.json", MANIFEST), ("../../evil.txt", "evil")]);
    zip(&store.join("absolute.mar"), &[("MAR-INF/MANIFEST.json", MANIFEST), ("/tmp/evil.txt", "evil")]);
    zip(&store.join("garbled.mar"), &[("MAR-INF/MANIFEST.json", "{\"runtime\": ")]);
    zip(
        &store.join("lacking.mar"),
        &[(
            "MAR-INF/MANIFEST.json",
            r#"{"model": {"modelName": "lacking", "handler": "echo", "serializedFile": "net.pt"}}"#,
        )],
    );
    let whole = fs::read(store.join("echo.mar")).unwrap();
    fs::write(store.join("cut.mar"), &whole[..whole.len() / 2]).unwrap();
    fs::write(store.join("text.mar"), "this is no archive").unwrap();
    fs::write(store.join("empty.mar"), "").unwrap();
    let server = setup.start();
    for (file, parts) in [
        ("hostile.mar", &["../../evil.txt", "would land outside the package", "build the archive again"][..]),
        ("absolute.mar", &["/tmp/evil.txt", "has an absolute path", "relative paths"]),
        ("garbled.mar", &["manifest", "can't be read", "correct MAR-INF/MANIFEST.json"]),
        ("cut.mar", &["broken or cut short", "copy it or build it again"]),
        ("text.mar", &["neither a zip nor a gzipped tar", "sconce archive"]),
        ("empty.mar", &["sconce archive"]),
    ] {
        let line = server.logged(&["ERROR", "failed to load model", &format!("url={file}")]);
        says(&line, parts);
    }
    // As in TorchServe, an archive without a manifest is one whose handler the server chooses.
    says(&server.failure("bare"), &["bare.mar names no handler", "--handler NAME", "default_service_handler"]);
    says(&server.failure("lacking"), &["names \"net.pt\"", "has no such member"]);
    assert!(!outside.exists() && !Path::new("/tmp/evil.txt").exists());
    let list = server.management("/models", &Sent::get()).json();
    let names: Vec<_> = list["models"].as_array().unwrap().iter().map(|model| &model["modelName"]).collect();
    assert_eq!(names, ["bare", "echo", "lacking"]);
    server.still_serves();
}

#[test]
fn a_python_handler_is_refused_with_the_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("my_handler.py");
    fs::write(&script, "def handle(data, context): return data\n").unwrap();
    let server = Setup::with_echo().model(&Archive::new("snake", script.to_str().unwrap())).start();
    let why = server.failure("snake");
    says(&why, &["snake.mar", "Python handler", "my_handler.py", "handlers here are native plugins"]);
    says(&why, &["put a plugin named \"my_handler\" into the plugins path", "pack the archive again with --handler"]);
    server.still_serves();
}

#[test]
fn a_plugin_takes_the_place_of_the_python_handler_of_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("shouter.py");
    fs::write(&script, "def handle(data, context): return data\n").unwrap();
    let server = Setup::with_echo()
        .plugin(&fixture("third-party"))
        .model(&Archive::new("snake", script.to_str().unwrap()))
        .start();
    assert_eq!(server.predict("snake", "hiss").ok(), "HISS!");
}
