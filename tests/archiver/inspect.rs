//! `sconce archive --inspect`: what is in an archive, and what would serve it.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::Inputs;
use crate::support::Archive;
use crate::support::first_party;
use crate::support::says;
use crate::support::sconce;

#[test]
fn inspect_tells_what_would_serve() {
    let folder = tempfile::tempdir().unwrap();
    let plugins = folder.path().join("plugins");
    fs::create_dir(&plugins).unwrap();
    let echo = first_party("echo");
    fs::copy(&echo, plugins.join("libecho.so")).unwrap();
    let inputs = Inputs::new();
    let script = inputs.path("net.py").display().to_string();
    let packed = format!("{}:Echo", echo.with_extension("").display());
    let wrong = format!("{}:Gone", echo.with_extension("").display());
    for (name, handler, flags, with, without) in [
        (
            "named",
            "echo",
            &[][..],
            ("served", "by the handler \"echo\" of "),
            ("depends", "give --plugins-path FOLDER"),
        ),
        ("gone", "gone", &[], ("refused", "has a handler named \"gone\""), ("depends", "handler \"gone\"")),
        ("snake", &script, &[], ("refused", "is a Python handler"), ("depends", "which Sconce doesn't run")),
        ("packed", &packed, &["--runtime", "LSP"], ("served", "libecho.so in this archive"), ("served", "\"echo\"")),
        ("wrong", &wrong, &["--runtime", "LSP"], ("refused", "has no handler \"Gone\""), ("refused", "it has echo")),
    ] {
        let archive = Archive::new(name, handler).flags(flags).pack(folder.path());
        let inspect = [Path::new("archive"), Path::new("--inspect"), &archive];
        let looked_up = [Path::new("--plugins-path"), &plugins];
        for (more, (verdict, detail)) in [(&looked_up[..], with), (&[], without)] {
            let output = sconce(inspect.iter().chain(more).copied().chain([Path::new("--json")]));
            assert!(output.status.success(), "{output:?}");
            let json: Value = serde_json::from_slice(&output.stdout).unwrap();
            assert_eq!((&json["servedBy"]["verdict"], &json["whole"]), (&verdict.into(), &true.into()), "{json:#}");
            says(json["servedBy"]["detail"].as_str().unwrap(), &[detail]);
            assert_eq!((&json["manifest"]["model"]["modelName"], &json["format"]), (&name.into(), &"zip".into()));
            assert_eq!(json["members"][0]["name"], "MAR-INF/MANIFEST.json");
            let text = String::from_utf8(sconce(inspect.iter().chain(more)).stdout).unwrap();
            let not = if verdict == "refused" { "\nserved   not: " } else { "\nserved   by " };
            says(&text, &[not, detail, &format!("\"modelName\": \"{name}\""), "  MAR-INF/MANIFEST.json\n"]);
        }
    }
}

#[test]
fn inspect_tells_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let inspect = |archive: &Path, problems: &[&str]| {
        let output = sconce([Path::new("archive"), Path::new("--inspect"), archive]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        says(&String::from_utf8(output.stdout).unwrap(), problems);
        let output = sconce([Path::new("archive"), Path::new("--json"), Path::new("--inspect"), archive]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let json: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((&json["whole"], json["problems"].as_array().unwrap().len()), (&false.into(), problems.len()));
    };
    let by_hand = folder.path().join("by_hand");
    fs::create_dir_all(by_hand.join("MAR-INF")).unwrap();
    let manifest = r#"{"runtime": "LSP", "model": {"modelName": "a b", "handler": "libx:X", "serializedFile": "m.pt", "modelFile": "net.py"}}"#;
    fs::write(by_hand.join("MAR-INF/MANIFEST.json"), manifest).unwrap();
    let lacks =
        ["\"m.pt\" as its serialized file", "\"net.py\" as its model file", "\"libx.so\" as its handler's library"];
    inspect(&by_hand, &[&lacks[..], &["\"a b\" is not a model name"]].concat());
    let cut = folder.path().join("cut.mar");
    let whole = fs::read(Archive::new("whole", "echo").pack(folder.path())).unwrap();
    fs::write(&cut, &whole[..whole.len() / 2]).unwrap();
    inspect(&cut, &["broken or cut short"]);
    inspect(&folder.path().join("gone.mar"), &["can't open"]);
}

#[test]
fn inspect_warns_of_what_a_server_ignores_or_refuses() {
    let folder = tempfile::tempdir().unwrap();
    let inputs = Inputs::new();
    let path = |name: &str| inputs.path(name).display().to_string();
    let (weights, net, requirements) = (path("weights.pt"), path("net.py"), path("requirements.txt"));
    let flags = ["--serialized-file", &weights, "--model-file", &net, "--requirements-file", &requirements];
    let archive = Archive::new("m", "echo").config("batchSize: many\n").flags(&flags).pack(folder.path());
    let hidden = folder.path().join(".m.zip");
    fs::rename(archive, &hidden).unwrap();
    let output = sconce([Path::new("archive"), Path::new("--inspect"), &hidden]);
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let warnings: Vec<&str> = text.lines().filter(|line| line.starts_with("warning  ")).collect();
    assert_eq!(warnings.len(), 5, "{text}");
    says(
        &text,
        &[
            "batchSize: \"many\" is ignored",
            "a server doesn't load its model: can't load weights.pt: ",
            "requirements.txt: Sconce installs no Python packages",
            "net.py: Sconce doesn't read an architecture written in Python",
            "a server that loads all of its store passes it over",
        ],
    );
}
