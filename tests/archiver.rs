//! `sconce archive` and torch-model-archiver: the same archives from the same inputs, each read by the other side.

mod inspect;
mod theirs;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Output;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::eventually;
use crate::support::sconce;

/// What each form is called, and what becomes of a name in it.
const FORMATS: [(&str, &str); 4] = [("default", ".mar"), ("zip-store", ".mar"), ("tgz", ".tar.gz"), ("no-archive", "")];

/// Prints, for each archive that it is given, the members with their content, as Python's own modules read them.
const READER: &str = r#"
import json, os, sys, tarfile, zipfile

def members(path):
    if os.path.isdir(path):
        files = [os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names]
        return {os.path.relpath(file, path): open(file, "rb").read() for file in files}
    if path.endswith(".mar"):
        with zipfile.ZipFile(path) as archive:
            assert archive.testzip() is None
            names = archive.namelist()
            assert len(set(names)) == len(names), names
            return {name: archive.read(name) for name in names}
    found = {}
    with tarfile.open(path, "r:gz") as archive:
        for member in archive.getmembers():
            assert member.isfile(), member
            # TorchServe cuts off the first folder of each, whatever its name.
            top, name = member.name.split("/", 1)
            assert top == os.path.basename(path)[: -len(".tar.gz")], member.name
            assert name not in found, name
            found[name] = archive.extractfile(member).read()
    return found

print(json.dumps([{name: content.hex() for name, content in members(path).items()} for path in sys.argv[1:]]))
"#;

/// The members of an archive by their names.
type Members = BTreeMap<String, String>;

/// Files to pack.
struct Inputs {
    folder: TempDir,
}

// === impl Inputs ===

impl Inputs {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in [
            ("echo.py", "def handle(data, context):\n    return data\n"),
            ("handlers/echo.py", "def handle(data, context):\n    return list(data)\n"),
            ("net.py", "class Net: pass\n"),
            ("weights.pt", "\0\u{1}\u{2}not really weights\u{7f}"),
            ("requirements.txt", "numpy\n"),
            ("model-config.yaml", "minWorkers: 1\nmaxWorkers: 1\nhandler:\n  mean: 0.5\n"),
            ("native/libnative.so", "not really a library"),
            ("extra/index_to_name.json", "{\"0\": \"zero\"}"),
            ("extra/.hidden", "kept"),
            ("extra/empty", ""),
            ("extra/sub/deep/er.txt", "deep"),
            ("extra/sub/ü ber.txt", "far"),
            ("extra/.git/config", "left out"),
            ("extra/__pycache__/x.pyc", "left out"),
            ("extra/sub/__MACOSX/y", "left out"),
            ("docs/one.md", "1"),
            ("docs/two.md", "2"),
            ("docs/three.txt", "3"),
            ("docs/.four.md", "4"),
            ("docs/more/five.md", "5"),
        ] {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        std::os::unix::fs::symlink("../weights.pt", folder.path().join("extra/linked.pt")).unwrap();
        // What is larger than any buffer on the way.
        let large: Vec<u8> = (0..700_000_u32).flat_map(|n| (n.wrapping_mul(2_654_435_761)).to_le_bytes()).collect();
        fs::write(folder.path().join("large.bin"), large).unwrap();
        fs::create_dir(folder.path().join("tmp")).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Where an archiver puts what it makes.
    fn out(&self, whose: &str, format: &str) -> PathBuf {
        let folder = self.path(&format!("out/{whose}/{format}"));
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    fn ours(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sconce"));
        command.env_remove("SCONCE_LOG").env("TMPDIR", self.path("tmp")).current_dir(self.folder.path());
        command.arg("archive").args(arguments).output().unwrap()
    }
}

/// Reads archives with Python's own modules.
fn read_by_python(python: &Path, archives: &[PathBuf]) -> Vec<Members> {
    let output = Command::new(python).args(["-c", READER]).args(archives).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Takes the manifest out of the members, without what may differ.
fn manifest(members: &mut Members, archiver: &str) -> String {
    let hex = members.remove("MAR-INF/MANIFEST.json").unwrap();
    let bytes: Vec<u8> =
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
    let mut manifest: Value = serde_json::from_slice(&bytes).unwrap();
    let fields = manifest.as_object_mut().unwrap();
    let created = fields.shift_remove("createdOn").unwrap();
    let form: String = created.as_str().unwrap().chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    assert_eq!(form, "00/00/0000 00:00:00");
    let version = fields.shift_remove("archiverVersion").unwrap();
    assert!(version.as_str().unwrap().starts_with(archiver), "{version}");
    // As text, so that the order of the fields counts.
    manifest.to_string()
}

/// TorchServe unpacks with its own code, by these rules: a zip of files, or a gzipped tar of which it drops the first
/// folder, with `MAR-INF/MANIFEST.json` in it.
#[test]
fn python_reads_what_we_make() {
    let python = Path::new("python3");
    if Command::new(python).arg("--version").output().is_err() {
        eprintln!("left out: there is no python3");
        return;
    }
    let inputs = Inputs::new();
    let mut archives = Vec::new();
    for (format, ending) in FORMATS {
        let out = inputs.out("ours", format);
        let output = inputs.ours(&[
            "--model-name",
            "m",
            "-v",
            "1.0",
            "--handler",
            "echo.py",
            "--serialized-file",
            "large.bin",
            "--extra-files",
            "extra,docs",
            "--archive-format",
            format,
            "--export-path",
            out.to_str().unwrap(),
        ]);
        assert!(output.status.success(), "{output:?}");
        archives.push(out.join(format!("m{ending}")));
    }
    for mut members in read_by_python(python, &archives) {
        assert!(manifest(&mut members, "sconce ").starts_with(r#"{"runtime":"python","model":{"modelName":"m","#));
        let names: Vec<&str> = members.keys().map(String::as_str).collect();
        let expected = [
            ".four.md",
            ".hidden",
            "echo.py",
            "empty",
            "index_to_name.json",
            "large.bin",
            "linked.pt",
            "more/five.md",
            "one.md",
            "sub/deep/er.txt",
            "sub/ü ber.txt",
            "three.txt",
            "two.md",
        ];
        assert_eq!(names, expected);
        let large: String = fs::read(inputs.path("large.bin")).unwrap().iter().map(|b| format!("{b:02x}")).collect();
        assert!(members["large.bin"] == large);
    }
}

#[test]
fn a_killed_archiver_leaves_nothing_under_the_archives_name() {
    let folder = tempfile::tempdir().unwrap();
    // A hole: it takes no room, and a while to pack.
    let huge = folder.path().join("huge.bin");
    fs::File::create(&huge).unwrap().set_len(64 << 30).unwrap();
    for (format, before) in [("default", None), ("tgz", None), ("default", Some("the one before"))] {
        let out = tempfile::tempdir().unwrap();
        let place = out.path().join(if format == "tgz" { "m.tar.gz" } else { "m.mar" });
        if let Some(before) = before {
            fs::write(&place, before).unwrap();
        }
        let mut child = Command::new(env!("CARGO_BIN_EXE_sconce"))
            .args(["archive", "--model-name", "m", "-v", "1.0", "--handler", "echo", "--force"])
            .args(["--archive-format", format, "--export-path"])
            .arg(out.path())
            .arg("--serialized-file")
            .arg(&huge)
            .spawn()
            .unwrap();
        let files =
            || -> Vec<PathBuf> { fs::read_dir(out.path()).unwrap().map(|entry| entry.unwrap().path()).collect() };
        let hidden = eventually("the half-written archive", || {
            assert!(child.try_wait().unwrap().is_none(), "it should still be packing");
            let hidden = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with('.');
            files().into_iter().find(|path| hidden(path) && path.metadata().is_ok_and(|kind| kind.len() > 0))
        });
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(fs::read_to_string(&place).ok().as_deref(), before);
        assert!(hidden.exists());
        // The next one is not in its way, and takes it away once it is old enough to be nobody's.
        fs::File::open(&hidden).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
        let output = sconce([
            "archive",
            "--model-name",
            "m",
            "-v",
            "1.0",
            "--handler",
            "echo",
            "--force",
            "--archive-format",
            format,
            "--export-path",
            out.path().to_str().unwrap(),
        ]);
        assert!(output.status.success(), "{output:?}");
        assert_eq!(files(), [place]);
    }
}

/// TorchServe's archiver removes that folder, first and last.
#[test]
fn a_folder_of_the_models_name_in_tmpdir_is_nobodys_business() {
    let inputs = Inputs::new();
    let precious = inputs.path("tmp/m/precious.txt");
    fs::create_dir(inputs.path("tmp/m")).unwrap();
    fs::write(&precious, "mine").unwrap();
    for (format, ending) in FORMATS {
        let name = if format == "no-archive" { "other" } else { "m" };
        let output = inputs.ours(&[
            "--model-name",
            name,
            "-v",
            "1.0",
            "--handler",
            "echo.py",
            "-f",
            "--archive-format",
            format,
            "--export-path",
            "tmp",
        ]);
        assert!(output.status.success(), "{output:?}");
        assert!(inputs.path(&format!("tmp/{name}{ending}")).exists(), "{format}");
        assert_eq!(fs::read_to_string(&precious).unwrap(), "mine");
    }
    assert!(inputs.path("tmp/other/echo.py").is_file(), "what was made in the temporary folder stays");
}
