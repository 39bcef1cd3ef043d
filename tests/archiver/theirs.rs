//! torch-model-archiver beside ours: what it makes, refuses and warns of.
//!
//! It is installed into a virtual environment below the target folder, once. Where there is no Python or no network,
//! these tests are left out, with the reason printed.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;
use std::sync::OnceLock;
use std::time::Duration;
use std::time::Instant;

use super::FORMATS;
use super::Inputs;
use super::Members;
use super::manifest;
use super::read_by_python;
use crate::support::Setup;
use crate::support::first_party;
use crate::support::patience;
use crate::support::says;

/// The environment's interpreter with the archiver.
struct Theirs {
    python: PathBuf,
}

/// The release that TorchServe ended with.
const RELEASE: &str = "0.12.0";

// === impl Theirs ===

impl Theirs {
    /// The archiver, installed by whoever asks first; says so where that can't be done.
    fn get() -> Option<&'static Self> {
        static INSTALLED: OnceLock<Result<Theirs, String>> = OnceLock::new();
        match INSTALLED.get_or_init(Self::install) {
            Ok(archiver) => Some(archiver),
            Err(why) => {
                eprintln!("left out: torch-model-archiver can't be installed: {why}");
                None
            }
        }
    }

    fn install() -> Result<Self, String> {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let home = target.join(format!("torch-model-archiver-{RELEASE}"));
        let archiver = Self { python: home.join("bin/python") };
        if archiver.python.exists() {
            return Ok(archiver);
        }
        fs::create_dir_all(target).map_err(|e| e.to_string())?;
        // Under another name until it is whole: other tests may install it at the same time.
        let private = tempfile::tempdir_in(target).map_err(|e| e.to_string())?;
        let fresh = private.path().join("env");
        within_patience(Command::new("python3").args(["-m", "venv"]).arg(&fresh))?;
        within_patience(
            Command::new(fresh.join("bin/python"))
                .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"])
                .args(["--timeout", "10", "--retries", "1"])
                .arg(format!("torch-model-archiver=={RELEASE}")),
        )?;
        match fs::rename(&fresh, &home) {
            Err(error) if !archiver.python.exists() => Err(error.to_string()),
            _ => Ok(archiver),
        }
    }

    fn pack(&self, inputs: &Inputs, arguments: &[&str]) -> Output {
        let mut command = Command::new(&self.python);
        // It removes a folder of the model's name there.
        command.env("TMPDIR", inputs.path("tmp")).current_dir(inputs.folder.path());
        command.args(["-m", "model_archiver.model_packaging"]).args(arguments).output().unwrap()
    }
}

/// Runs a command to its end; what takes longer than patience is killed.
fn within_patience(command: &mut Command) -> Result<(), String> {
    let shown = format!("{command:?}");
    let piped = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = piped.spawn().map_err(|error| format!("{shown}: {error}"))?;
    let end = Instant::now() + patience();
    loop {
        if let Some(status) = child.try_wait().map_err(|error| error.to_string())? {
            let mut said = String::new();
            child.stderr.take().unwrap().read_to_string(&mut said).map_err(|error| error.to_string())?;
            return if status.success() { Ok(()) } else { Err(format!("{shown}: {status}: {said}")) };
        }
        if Instant::now() > end {
            let _ = child.kill();
            let _ = child.wait();
            return Err(format!("{shown} took longer than {:?}", patience()));
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// What is packed alike: the arguments behind `--model-name NAME`.
const ALIKE: [&[&str]; 31] = [
    &["--version", "1.0", "--handler", "image_classifier"],
    &["-v", "1.0", "--handler", "base_handler"],
    &["-v", "1.0", "--handler", "text_classifier"],
    &["-v", "1.0", "--handler", "object_detector"],
    &["-v", "1.0", "--handler", "image_segmenter"],
    &["-v", "1.0", "--handler", "dali_image_classifier"],
    &["-v", "1.0", "--handler", "vllm_handler"],
    &["-v", "1.0", "--handler", "trt_llm_handler"],
    &[
        "-v",
        "1.2",
        "--handler",
        "echo.py",
        "--serialized-file",
        "weights.pt",
        "--model-file",
        "net.py",
        "--extra-files",
        "extra",
        "-r",
        "requirements.txt",
        "-c",
        "model-config.yaml",
        "--runtime",
        "python3",
    ],
    &["-v", "1.0", "--handler", "echo"],
    &["-v", "1.0", "--handler", "echo:handle"],
    &["-v", "1.0", "--handler", "handlers/echo"],
    &["-v", "1.0", "--handler", "handlers/echo:handle"],
    &["-v", "1.0", "--handler", "./handlers/echo.py", "--serialized-file", "./weights.pt"],
    &["-v", "1.0", "--handler", "BaseHandler", "--runtime", "LSP"],
    &["-v", "1.0", "--handler", "TorchScriptHandler", "--runtime", "LSP", "--serialized-file", "weights.pt"],
    &["-v", "1.0", "--handler", "native/libnative:Native", "--runtime", "LSP", "--extra-files", "docs/one.md"],
    &["-v", "1.0", "--handler", "echo.py", "--serialized-file", "large.bin"],
    &["-v", "1.0", "--handler", "echo.py", "--extra-files", "docs/one.md,docs/three.txt"],
    &["-v", "1.0", "--handler", "echo.py", "--extra-files", "docs/one.md,"],
    &["-v", "1.0", "--handler", "echo.py", "--extra-files", "docs/*.md"],
    &["-v", "1.0", "--handler", "echo.py", "--extra-files", "docs/*.md ,docs/three.txt"],
    &["-v", "1.0", "--handler", "echo.py", "--extra-files", "docs/t[wh]*,docs/?ne.md"],
    &["-v", "1.0", "--handler", "echo.py", "--extra-files", "docs/[!o]*.md"],
    &["-v", "1.0", "--handler", "echo.py", "--extra-files", "docs/*"],
    &["-v", "1.0", "--handler", "echo.py", "--extra-files", "docs/**"],
    &["-v", "1.0", "--handler", "echo.py", "--extra-files", "**/*.md"],
    &["-v", "1.0", "--handler", "echo.py", "--extra-files", "docs/.*.md,extra/"],
    &["-v", "1.0", "--handler", "echo.py", "--extra-files", "docs/*.none,extra/sub"],
    &["-v", "v2 beta/\"1\" ü", "--handler", "echo.py", "--config", "model-config.yaml", "--req", "requirements.txt"],
    &["-v", "0", "-v", "3", "--handler", "echo.py", "--serialized=weights.pt", "--model-f=net.py"],
];

#[test]
fn the_same_inputs_make_the_same_archive() {
    let Some(archiver) = Theirs::get() else { return };
    let inputs = Inputs::new();
    let mut made = Vec::new();
    for (number, arguments) in ALIKE.iter().enumerate() {
        for (format, ending) in FORMATS {
            let name = format!("my.model-{number}_A");
            let mut both = Vec::new();
            for whose in ["ours", "theirs"] {
                let out = inputs.out(whose, format);
                let mut all = vec!["--model-name", &name, "--archive-format", format];
                all.extend(["--export-path", out.to_str().unwrap()]);
                all.extend(*arguments);
                let output = match whose {
                    "ours" => inputs.ours(&all),
                    _ => archiver.pack(&inputs, &all),
                };
                assert!(output.status.success(), "{whose}, {all:?}: {output:?}");
                both.push(out.join(format!("{name}{ending}")));
            }
            made.push((*arguments, both));
        }
    }
    let paths: Vec<PathBuf> = made.iter().flat_map(|(_, both)| both.clone()).collect();
    let read = read_by_python(&archiver.python, &paths);
    assert_eq!(read.len(), ALIKE.len() * FORMATS.len() * 2);
    for ((arguments, both), members) in made.iter().zip(read.chunks(2)) {
        let (mut ours, mut theirs) = (members[0].clone(), members[1].clone());
        assert_eq!(manifest(&mut ours, "sconce "), manifest(&mut theirs, RELEASE), "{arguments:?}, {both:?}");
        let names = |members: &Members| members.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&ours), names(&theirs), "{arguments:?}, {both:?}");
        assert!(ours == theirs, "the content differs: {arguments:?}, {both:?}");
    }
}

#[test]
fn what_is_refused_there_is_refused_here_with_the_same_exit_code() {
    let Some(archiver) = Theirs::get() else { return };
    let inputs = Inputs::new();
    fs::write(inputs.path("there.mar"), "before").unwrap();
    for (arguments, code, said) in [
        (&["-v", "1.0", "--handler", "echo.py"][..], 2, "--model-name"),
        (&["--model-name", "m", "--handler", "echo.py"], 2, "--version"),
        (&["--model-name", "m", "-v", "1.0"], 2, "--handler"),
        (&["--model-name", "m", "-v", "1.0", "--handler", "echo.py", "--runtime", "java"], 2, "LSP"),
        (&["--model-name", "m", "-v", "1.0", "--handler", "echo.py", "--archive-format", "rar"], 2, "no-archive"),
        (&["--model-name", "m", "-v", "1.0", "--handler", "echo.py", "--unknown"], 2, "--unknown"),
        (&["--model-name", "m n", "-v", "1.0", "--handler", "echo.py"], 1, "is not a model name"),
        (&["--model-name", "../m", "-v", "1.0", "--handler", "echo.py"], 1, "is not a model name"),
        (&["--model-name", "m", "-v", "1.0", "--handler", "gone.py"], 1, "no such file for --handler: gone.py"),
        (&["--model-name", "m", "-v", "1.0", "--handler", "gone:handle"], 1, "no such file for --handler: gone.py"),
        (&["--model-name", "m", "-v", "1.0", "--handler", "libgone:G", "--runtime", "LSP"], 1, "looked for libgone.so"),
        (
            &["--model-name", "m", "-v", "1.0", "--handler", "echo.py", "--serialized-file", "gone.pt"],
            1,
            "no such file for --serialized-file: gone.pt",
        ),
        (
            &["--model-name", "m", "-v", "1.0", "--handler", "echo.py", "--extra-files", "docs,gone.txt"],
            1,
            "no such file for --extra-files: gone.txt",
        ),
        (
            &["--model-name", "m", "-v", "1.0", "--handler", "echo.py", "--export-path", "net.py"],
            1,
            "the export path net.py is not a folder",
        ),
        (&["--model-name", "there", "-v", "1.0", "--handler", "echo.py"], 1, "there.mar already exists; give --force"),
    ] {
        let (ours, theirs) = (inputs.ours(arguments), archiver.pack(&inputs, arguments));
        assert_eq!((ours.status.code(), theirs.status.code()), (Some(code), Some(code)), "{arguments:?}: {ours:?}");
        let text = String::from_utf8(ours.stderr).unwrap();
        says(&text, &[said]);
        // One sentence where theirs has a traceback.
        assert!(code == 2 || (text.starts_with("sconce: ") && text.lines().count() == 1), "{text}");
    }
    assert_eq!(fs::read(inputs.path("there.mar")).unwrap(), b"before");
    assert!(!inputs.path("m.mar").exists());
}

#[test]
fn warnings_have_the_archivers_words() {
    let Some(archiver) = Theirs::get() else { return };
    let inputs = Inputs::new();
    let out = inputs.out("one", "default");
    let arguments = |extra: &'static str| {
        vec!["--model-name", "m", "-v", "1.0", "--handler", "base_handler", "-f", "--extra-files", extra]
    };
    let warnings = |output: &Output| -> Vec<String> {
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let mut lines: Vec<_> = text.lines().filter(|line| line.starts_with("WARNING - ")).map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let export = ["--export-path", out.to_str().unwrap()];
    let plain: Vec<&str> = arguments("docs/one.md").into_iter().chain(export).collect();
    assert_eq!(warnings(&inputs.ours(&plain)), [] as [&str; 0]);
    let warned: Vec<&str> = arguments("docs/*.none").into_iter().chain(export).collect();
    let ours = warnings(&inputs.ours(&warned));
    assert_eq!(ours, warnings(&archiver.pack(&inputs, &warned)));
    assert_eq!(ours.len(), 2, "{ours:?}");
}

#[test]
fn archives_of_torch_model_archiver_are_served() {
    let Some(archiver) = Theirs::get() else { return };
    let inputs = Inputs::new();
    let setup = Setup::new().plugin(&first_party("echo"));
    let store = setup.store();
    let pack = |name: &str, flags: &[&str]| {
        let mut arguments = vec!["--model-name", name, "-v", "1.0", "--export-path", store.to_str().unwrap()];
        arguments.extend(flags);
        let output = archiver.pack(&inputs, &arguments);
        assert!(output.status.success(), "{output:?}");
    };
    for (format, _) in FORMATS {
        let config = ["--config-file", "model-config.yaml", "--extra-files", "extra", "--archive-format", format];
        pack(format, &[&["--handler", "echo.py"][..], &config].concat());
    }
    pack("named", &["--handler", "handlers/echo:handle", "--runtime", "python3"]);
    let library = first_party("echo").with_extension("");
    pack("native", &["--handler", &format!("{}:Echo", library.display()), "--runtime", "LSP"]);
    pack("missing", &["--handler", "net.py"]);
    let server = setup.start();
    for name in FORMATS.map(|(format, _)| format).into_iter().chain(["named", "native"]) {
        assert_eq!(server.predict(name, name).ok(), name);
    }
    says(&server.failure("missing"), &["Python handler", "net.py", "pack the archive again with --handler"]);
}
