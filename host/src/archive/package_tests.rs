//! Opening archives of every form, among them those that TorchServe's archiver makes.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use crate::archive::HandlerRef;
use crate::archive::Package;
use crate::archive::Runtime;

/// Made by torch-model-archiver 0.12.0; `testdata/make.sh` says how.
fn testdata(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/archive/testdata").join(name)
}

fn names(package: &Package) -> Vec<&str> {
    package.members.iter().map(|m| m.name.as_str()).collect()
}

#[test]
fn torchserves_archives_open() {
    let work = tempfile::tempdir().unwrap();
    for file in ["noop.mar", "noop.tar.gz"] {
        let package = Package::open(&testdata(file), work.path()).unwrap();
        assert_eq!(
            names(&package),
            [
                ".dotfile",
                "MAR-INF/MANIFEST.json",
                "index_to_name.json",
                "model-config.yaml",
                "net.py",
                "noop.py",
                "requirements.txt",
                "sub/deep.txt",
                "weights.pt",
            ],
            "{file}"
        );
        let model = &package.manifest.model;
        assert_eq!(package.manifest_name().unwrap().unwrap().as_str(), "noop");
        assert_eq!(model.model_version.as_str(), "1.2");
        assert_eq!(model.model_file.as_deref(), Some("net.py"));
        assert_eq!(package.manifest.archiver_version.as_deref(), Some("0.12.0"));
        let handler = package.handler().unwrap().unwrap();
        assert_eq!(handler.refers_to, HandlerRef::Plugin("noop".to_owned()));
        assert!(handler.named_python);
        let weights = package.serialized_file().unwrap().unwrap();
        assert_eq!(fs::read(weights).unwrap(), b"not really weights\n");
        let config = package.config.as_ref().unwrap();
        assert_eq!(config.settings.workers(), Some((1, 2)));
        assert_eq!(config.value["handler"]["mean"], 0.5);
    }
}

#[test]
fn torchserves_lsp_archive_carries_its_library() {
    let work = tempfile::tempdir().unwrap();
    let package = Package::open(&testdata("noop_lsp.mar"), work.path()).unwrap();
    assert_eq!(package.manifest.runtime, Runtime::Lsp);
    assert_eq!(package.serialized_file().unwrap(), None);
    let Some(HandlerRef::Packed { library, class }) = package.handler().unwrap().map(|handler| handler.refers_to)
    else {
        panic!("not packed");
    };
    assert_eq!(class, "NoopHandler");
    assert!(package.library_path(&library).unwrap().is_file());
    assert!(package.missing().is_empty());
    let message = package.library_path("libother").unwrap_err().to_string();
    assert!(message.contains("has no such member; it has: libnoop_handler.so"), "{message}");
}

#[test]
fn the_private_copy_goes_with_the_package() {
    let work = tempfile::tempdir().unwrap();
    let package = Package::open(&testdata("noop.mar"), work.path()).unwrap();
    assert!(package.root.starts_with(work.path()));
    assert!(package.root.is_dir());
    drop(package);
    assert_eq!(fs::read_dir(work.path()).unwrap().count(), 0);
}

#[test]
fn a_folder_is_copied() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model");
    fs::create_dir_all(model.join("inner/MAR-INF")).unwrap();
    fs::create_dir_all(model.join("inner/.git")).unwrap();
    fs::write(model.join("inner/.git/HEAD"), b"x").unwrap();
    fs::write(model.join("inner/m.pt"), b"w").unwrap();
    let manifest = r#"{"model":{"serializedFile":"m.pt","handler":"echo"}}"#;
    fs::write(model.join("inner/MAR-INF/MANIFEST.json"), manifest).unwrap();
    let work = folder.path().join("work");

    let package = Package::open(&model, &work).unwrap();
    assert!(package.root.starts_with(&work));
    assert_eq!(names(&package), ["MAR-INF/MANIFEST.json", "m.pt"]);
    assert_eq!(package.default_name().unwrap().as_str(), "model");
    let weights = package.serialized_file().unwrap().unwrap();
    assert!(weights.starts_with(&work));
    let direct = Package::open(&model.join("inner"), &work).unwrap();
    assert_eq!(direct.digest, package.digest);

    fs::write(model.join("inner/m.pt"), b"W").unwrap();
    assert_eq!(fs::read(&weights).unwrap(), b"w", "an opened package is a copy");
    drop(package);
    assert!(model.join("inner/m.pt").is_file());
    assert_ne!(Package::open(&model, &work).unwrap().digest, direct.digest);
    std::os::unix::fs::symlink(&model, model.join("inner/loop")).unwrap();
    let message = Package::open(&model, &work).unwrap_err().to_string();
    assert!(message.contains("too many folders deep"), "{message}");
}

#[test]
fn no_manifest_is_legal_and_a_wrong_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let work = tempfile::tempdir().unwrap();
    let open = || Package::open(folder.path(), work.path()).map_err(|e| e.to_string());
    let package = open().unwrap();
    assert_eq!(package.handler().unwrap(), None);
    assert_eq!(package.manifest.model.model_version.as_str(), "1.0");
    assert!(package.config.is_none());

    fs::create_dir(folder.path().join("MAR-INF")).unwrap();
    for (manifest, expected) in [
        ("{", "the manifest of"),
        (r#"{"runtime":"c++"}"#, "runtime \"c++\""),
        (
            r#"{"model":{"configFile":"c.yaml"}}"#,
            "names \"c.yaml\" as its config file, but has no such member; it has: nothing",
        ),
        (r#"{"model":{"configFile":"../c.yaml"}}"#, "no such member"),
    ] {
        fs::write(folder.path().join("MAR-INF/MANIFEST.json"), manifest).unwrap();
        let message = open().unwrap_err();
        assert!(message.contains(expected), "{message}");
    }
    let manifest = r#"{"model":{"serializedFile":"m.pt"}}"#;
    fs::write(folder.path().join("MAR-INF/MANIFEST.json"), manifest).unwrap();
    let message = open().unwrap().serialized_file().unwrap_err().to_string();
    assert!(message.contains("names \"m.pt\" as its serialized file"), "{message}");
    let manifest = r#"{"model":{"requirementsFile":"r.txt"}}"#;
    fs::write(folder.path().join("MAR-INF/MANIFEST.json"), manifest).unwrap();
    let missing = open().unwrap().missing();
    assert_eq!(missing.len(), 1, "{missing:?}");
    let message = missing[0].to_string();
    assert!(message.contains("names \"r.txt\" as its requirements file"), "{message}");
    let message = Package::open(&folder.path().join("none.mar"), Path::new("unused")).unwrap_err().to_string();
    assert!(message.contains("can't open"), "{message}");
}
