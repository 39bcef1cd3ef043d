//! `sconce check`: the verdict on a library, as an author reads it.

use std::fs;

use crate::support::Archive;
use crate::support::first_party;
use crate::support::fixture;
use crate::support::says;
use crate::support::sconce;

#[test]
fn a_good_library_passes_and_is_described() {
    for (library, parts) in [
        (first_party("echo"), &["echo (Echo)", "ok: layout, initialize and self_test of echo"][..]),
        (fixture("third-party"), &["shouter (Shouter)", "handler-sdk 1.", "ABI 1.", "panic = \"unwind\""]),
        (fixture("two-handlers"), &["says_one (SaysOne)", "the_other (SaysTwo)", "self_test of the_other"]),
    ] {
        let output = sconce(["check".as_ref(), library.as_os_str()]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(0), "{text}");
        assert_eq!(text.lines().last(), Some("OK: a server takes this plugin"), "{text}");
        says(&text, parts);
    }
}

#[test]
fn each_fault_is_refused_in_one_line_with_the_file_and_the_remedy() {
    for (package, parts) in [
        ("not-a-plugin", &["is a shared library and not a Sconce plugin", "export_handler!"][..]),
        ("no-symbol", &["lacks the symbol", "build it again as a cdylib"]),
        ("wrong-abi", &["handler-sdk 2.0.0 for ABI 2.0", "update the host"]),
        ("newer-sdk", &["handler-sdk 1.99.0 for ABI 1.99", "update the host"]),
        ("wrong-layout", &["functions of another shape", "build it against handler-sdk 1."]),
        ("aborting", &["panic = \"abort\"", "Cargo.toml"]),
        ("fails-in-initialize", &["initialize failed: vocabulary.txt is not in the archive"]),
        ("panics-in-initialize", &["initialize failed: panicked: no time for this"]),
        ("segfaults-in-initialize", &["signal 11 (segmentation fault) in initialize"]),
        ("segfaults-at-load", &["signal 11 (segmentation fault) in opening the library"]),
        ("cant-open-twice", &["signal 6 (abort) in opening it a second time"]),
        ("kills-itself", &["signal 9", "in initialize"]),
        ("loops-in-initialize", &["initialize took longer than 2s and was stopped"]),
        ("fails-self-test", &["self_test failed: two and two gave five"]),
    ] {
        let library = fixture(package);
        let seconds = if package == "loops-in-initialize" { "2" } else { "100" };
        let output = sconce(["check".as_ref(), library.as_os_str(), "--timeout".as_ref(), seconds.as_ref()]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(1), "{package}: {text}");
        let verdict = text.lines().last().unwrap_or_default();
        assert!(verdict.starts_with("REFUSED: "), "{package}: {text}");
        says(verdict, &[library.to_str().unwrap()]);
        says(verdict, parts);
        assert_eq!(text.matches("REFUSED").count(), 1, "{text}");
    }
}

#[test]
fn what_is_no_library_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("libtext.so");
    fs::write(&text, "this is no library").unwrap();
    let cut = folder.path().join("libcut.so");
    let whole = fs::read(fixture("panics")).unwrap();
    fs::write(&cut, &whole[..whole.len() / 2]).unwrap();
    for (path, part) in [
        (text, "is not a shared library for Linux"),
        (cut, "is a library that is damaged or cut short"),
        (folder.path().join("libmissing.so"), "No such file or directory"),
    ] {
        let output = sconce(["check".as_ref(), path.as_os_str()]);
        let verdict = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(1), "{verdict}");
        says(&verdict, &["REFUSED: ", path.to_str().unwrap(), part]);
    }
}

#[test]
fn one_handler_and_an_archive_can_be_named() {
    let library = fixture("two-handlers");
    let run = |handler: &str| sconce(["check", library.to_str().unwrap(), "--handler", handler]);
    let output = run("the_other");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    says(&text, &["self_test of the_other"]);
    assert!(!text.contains("self_test of says_one"), "{text}");

    let output = run("nobody");
    assert_eq!(output.status.code(), Some(1));
    says(&String::from_utf8_lossy(&output.stdout), &["has no handler \"nobody\"", "says_one, the_other"]);

    let folder = tempfile::tempdir().unwrap();
    let archive = Archive::new("shouter", "shouter").config("handler:\n  ending: \"?\"\n").pack(folder.path());
    let library = fixture("third-party");
    let output = sconce(["check", library.to_str().unwrap(), "--archive", archive.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}
