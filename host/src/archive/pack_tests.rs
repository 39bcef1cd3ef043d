//! Making archives: all forms round-trip, and what can't be packed is said.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use tempfile::TempDir;
use time::macros::datetime;

use crate::archive::ArchiveFormat;
use crate::archive::Existing;
use crate::archive::HandlerRef;
use crate::archive::PackRequest;
use crate::archive::Package;
use crate::archive::Runtime;
use crate::archive::pack;

/// A folder of files to pack, and a request to pack none of them yet.
struct Bench {
    folder: TempDir,
    request: PackRequest,
}

impl Bench {
    fn new(files: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, format!("content of {file}")).unwrap();
        }
        let request = PackRequest {
            model_name: "m".to_owned(),
            version: "1.0".to_owned(),
            handler: "echo".to_owned(),
            serialized_file: None,
            model_file: None,
            extra_files: None,
            runtime: Runtime::Python,
            export_path: folder.path().join("out"),
            format: ArchiveFormat::Mar,
            existing: Existing::Refuse,
            requirements_file: None,
            config_file: None,
            created_on: datetime!(2026-11-22 01:33:04 UTC),
        };
        Self { folder, request }
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    fn text(&self, file: &str) -> String {
        self.path(file).display().to_string()
    }

    fn members(&self) -> Vec<String> {
        let packed = pack(&self.request).unwrap();
        packed.members.into_iter().map(|m| m.name).collect()
    }

    fn refused(&self) -> String {
        pack(&self.request).unwrap_err().to_string()
    }
}

const MANIFEST: &str = "MAR-INF/MANIFEST.json";

#[test]
fn every_form_opens_to_the_same_package() {
    let mut bench = Bench::new(&["m.pt", "extra/a.json", "extra/sub/b.txt", "out/.keep"]);
    fs::write(bench.path("c.yaml"), "batchSize: 3\n").unwrap();
    bench.request.serialized_file = Some(bench.path("m.pt"));
    bench.request.config_file = Some(bench.path("c.yaml"));
    bench.request.extra_files = Some(bench.text("extra"));
    let mut digests = Vec::new();
    for (format, file) in [
        (ArchiveFormat::Mar, "m.mar"),
        (ArchiveFormat::ZipStore, "m.mar"),
        (ArchiveFormat::Tgz, "m.tar.gz"),
        (ArchiveFormat::Folder, "m"),
    ] {
        bench.request.format = format;
        bench.request.existing = Existing::Replace;
        let packed = pack(&bench.request).unwrap();
        assert_eq!(packed.path, bench.path("out").join(file));
        // A zip that is not compressed has the name of one that is.
        let overwriting = format!("Overwriting {} ...", packed.path.display());
        let expected: &[String] = if format == ArchiveFormat::ZipStore { &[overwriting] } else { &[] };
        assert_eq!(packed.warnings, expected);
        let bytes = packed.path.is_file().then(|| fs::read(&packed.path).unwrap());
        let package = Package::open(&packed.path, &bench.path("work")).unwrap();
        assert_eq!(package.manifest, packed.manifest);
        assert_eq!(package.digest, packed.digest, "{format:?}");
        let names: Vec<&str> = package.members.iter().map(|m| m.name.as_str()).collect();
        assert_eq!(names, [MANIFEST, "a.json", "c.yaml", "m.pt", "sub/b.txt"]);
        assert_eq!(package.config.as_ref().unwrap().settings.batch_size, Some(3));
        assert_eq!(fs::read(package.root.join("m.pt")).unwrap(), b"content of m.pt");
        digests.push(package.digest);
        // The same request makes the same bytes.
        let again = pack(&bench.request).unwrap();
        assert_eq!(bytes, again.path.is_file().then(|| fs::read(&again.path).unwrap()));
    }
    digests.dedup();
    assert_eq!(digests.len(), 1);
    let left: Vec<_> = fs::read_dir(bench.path("out")).unwrap().collect();
    assert_eq!(left.len(), 4, "m, m.mar, m.tar.gz, .keep: {left:?}");
}

#[test]
fn the_archive_can_be_read_by_others() {
    use std::os::unix::fs::PermissionsExt;
    let bench = Bench::new(&[]);
    let packed = pack(&bench.request).unwrap();
    let plain = bench.path("plain");
    fs::write(&plain, "").unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&packed.path), mode(&plain));
}

#[test]
fn nothing_is_overwritten_unasked() {
    let mut bench = Bench::new(&["out/m.mar", "out/m/precious.txt"]);
    assert!(bench.refused().contains("m.mar already exists; give --force"));
    bench.request.format = ArchiveFormat::Folder;
    assert!(bench.refused().contains("already exists; give --force"));
    // TorchServe's archiver would merge; a folder that no archiver made is not ours to replace.
    bench.request.existing = Existing::Replace;
    assert!(bench.refused().contains("is not a package made by an archiver"));
    assert!(bench.path("out/m/precious.txt").is_file());
    bench.request.format = ArchiveFormat::Mar;
    pack(&bench.request).unwrap();
    bench.request.export_path = bench.path("out/m.mar");
    assert!(bench.refused().contains("is not a folder"));
}

#[test]
fn extra_files() {
    let files = [
        "e/a.txt",
        "e/.hidden",
        "e/sub/b.txt",
        "e/.git/config",
        "e/__pycache__/x.pyc",
        "e/sub/__MACOSX/y",
        "e/MAR-INF/MANIFEST.json",
        "g/one.json",
        "g/two.json",
        "g/three.txt",
    ];
    let mut bench = Bench::new(&files);
    bench.request.existing = Existing::Replace;
    let (e, g) = (bench.text("e"), bench.text("g"));
    for (extra, expected) in [
        (e.clone(), vec![".hidden", "a.txt", "sub/b.txt"]),
        (format!(" {e}/a.txt , {g}/three.txt "), vec!["a.txt", "three.txt"]),
        (format!("{g}/*.json"), vec!["one.json", "two.json"]),
        (format!("{g}/t[wh]*,"), vec!["three.txt", "two.json"]),
        (format!("{e}/*"), vec!["a.txt", "b.txt"]),
        (format!("{e}/.h*"), vec![".hidden"]),
        (format!("{e}/.*/config"), vec!["config"]),
        (format!("{e}/./*/config"), vec![]),
        (format!("{g}/*.none"), vec![]),
        (format!("{g}/**.json"), vec!["one.json", "two.json"]),
        // As in TorchServe's archiver: two stars stand for one folder, not for any number.
        (format!("{e}/**/b.txt"), vec!["b.txt"]),
        (format!("{e}/**/a.txt"), vec![]),
        // One file named twice is one file.
        (format!("{e}/a.txt,{e}/./a.txt"), vec!["a.txt"]),
    ] {
        bench.request.extra_files = Some(extra.clone());
        let mut wanted = vec![MANIFEST];
        wanted.extend(expected);
        assert_eq!(bench.members(), wanted, "{extra}");
    }
    bench.request.extra_files = Some(format!("{g}/*.none"));
    assert!(pack(&bench.request).unwrap().warnings[0].contains("Given wildcard pattern did not match any file: "));
    bench.request.extra_files = Some(e.clone());
    assert!(pack(&bench.request).unwrap().warnings[0].contains("is left out: the archive gets"));
    bench.request.extra_files = Some(format!("{e}/gone.txt"));
    assert!(bench.refused().contains("no such file for --extra-files: "));
    bench.request.extra_files = Some(format!("{g}/[*"));
    assert!(bench.refused().contains("is not a file pattern"));
}

#[test]
fn no_file_takes_anothers_place() {
    let mut bench = Bench::new(&["a/m.pt", "b/m.pt", "c/x", "d/x/y"]);
    bench.request.serialized_file = Some(bench.path("a/m.pt"));
    bench.request.extra_files = Some(bench.text("b"));
    let message = bench.refused();
    assert!(message.contains("would become the member \"m.pt\""), "{message}");
    assert!(message.contains("a/m.pt and ") && message.contains("b/m.pt"), "{message}");
    for order in [["c", "d"], ["d", "c"]] {
        bench.request.extra_files = Some(order.map(|part| bench.text(part)).join(","));
        assert!(bench.refused().contains("two files would become"));
    }
    assert!(!bench.path("out").exists(), "nothing is made for a refused request");
    // A copy takes nobody's place.
    bench.request.extra_files = Some(bench.text("b"));
    fs::copy(bench.path("a/m.pt"), bench.path("b/m.pt")).unwrap();
    assert_eq!(bench.members(), [MANIFEST, "m.pt"]);
}

#[test]
fn what_is_being_made_is_not_packed() {
    let mut bench = Bench::new(&["out/m.mar", "out/weights.pt"]);
    bench.request.existing = Existing::Replace;
    bench.request.extra_files = Some(bench.text("out"));
    assert_eq!(bench.members(), [MANIFEST, "weights.pt"]);
}

#[test]
fn python_handlers() {
    let mut bench = Bench::new(&["h/mnist.py", "h/libx.so"]);
    bench.request.existing = Existing::Replace;
    let h = bench.text("h");
    for (handler, named, packed) in [
        ("image_classifier".to_owned(), "image_classifier", false),
        ("mnist_digit_classifier".to_owned(), "mnist_digit_classifier", false),
        ("densenet_handler".to_owned(), "densenet_handler", false),
        (format!("{h}/mnist.py"), "mnist.py", true),
        (format!("{h}/mnist"), "mnist", true),
        (format!("{h}/mnist:handle"), "mnist:handle", true),
        (format!("{h}/mnist.py:handle"), "mnist.py:handle", true),
    ] {
        bench.request.handler = handler.clone();
        let made = pack(&bench.request).unwrap();
        assert_eq!(made.manifest.model.handler.as_deref(), Some(named), "{handler}");
        assert_eq!(made.members.len(), 1 + usize::from(packed), "{handler}");
        let warned = made.warnings.iter().any(|w| w.contains("doesn't run Python"));
        assert_eq!(warned, packed, "{handler}");
    }
    for (handler, expected) in [
        (format!("{h}/gone.py"), "no such file for --handler: "),
        ("gone.py".to_owned(), "no such file for --handler: gone.py"),
        ("gone:handle".to_owned(), "no such file for --handler: gone.py"),
        (format!("{h}/libx:X"), "give --runtime LSP"),
        ("a b".to_owned(), "can't be a handler"),
    ] {
        bench.request.handler = handler;
        let message = bench.refused();
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn packed_libraries() {
    let library = format!("h/libx{}", std::env::consts::DLL_SUFFIX);
    let mut bench = Bench::new(&[&library]);
    bench.request.existing = Existing::Replace;
    bench.request.runtime = Runtime::Lsp;
    let h = bench.text("h");
    for given in ["libx", "x", library.rsplit('/').next().unwrap()] {
        bench.request.handler = format!("{h}/{given}:Named");
        let made = pack(&bench.request).unwrap();
        assert_eq!(made.manifest.model.handler.as_deref(), Some("libx:Named"));
        let package = Package::open(&made.path, &bench.path("work")).unwrap();
        assert!(package.library_path("libx").unwrap().is_file());
        let packed = HandlerRef::Packed { library: "libx".to_owned(), class: "Named".to_owned() };
        assert_eq!(package.handler().unwrap().unwrap().refers_to, packed);
    }
    bench.request.handler = "BaseHandler".to_owned();
    assert_eq!(bench.members(), [MANIFEST]);
    for (handler, expected) in [
        (format!("{h}/y:Named"), "looked for "),
        (format!("{h}/y:Named"), "/liby"),
        (format!("{h}/libx"), "say which handler of it"),
        (format!("{h}/libx:"), "can't be a handler"),
    ] {
        bench.request.handler = handler;
        let message = bench.refused();
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn requests_that_make_no_sense() {
    let mut bench = Bench::new(&["c.yaml"]);
    fs::write(bench.path("c.yaml"), "a: [").unwrap();
    bench.request.config_file = Some(bench.path("c.yaml"));
    assert!(bench.refused().contains("c.yaml, line "));
    bench.request.config_file = None;
    bench.request.serialized_file = Some(bench.path("gone.pt"));
    assert!(bench.refused().contains("no such file for --serialized-file: "));
    bench.request.serialized_file = Some(bench.folder.path().to_owned());
    assert!(bench.refused().contains("is not a regular file"));
    bench.request.model_name = "../m".to_owned();
    assert!(bench.refused().contains("is not a model name"));
}
