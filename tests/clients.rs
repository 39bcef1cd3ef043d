//! Scripts and command lines as TorchServe's users have them, run by the programs that they are written for.

use std::fs;
use std::process::Command;
use std::process::Stdio;

use crate::support::Archive;
use crate::support::Sent;
use crate::support::Server;
use crate::support::Setup;
use crate::support::fixture;
use crate::support::repository;
use crate::support::says;

const SCRIPT: &str = include_str!("clients/script.py");

/// With tokens, and nothing served yet: three archives wait in the store.
fn server() -> Server {
    Setup::with_echo()
        .plugin(&fixture("explains"))
        .model(&Archive::new("noop", "echo").version("1.11").file("noop.mar"))
        .model(&Archive::new("noop", "explains").version("2.0").file("noop_2.mar"))
        .model(&Archive::new("mnist", "explains").file("mnist.mar"))
        .with_tokens()
        .property("enable_model_api", "true")
        .models("none")
        .start()
}

/// Whether a command can be run here; says so where it can't.
fn is_here(program: &str, arguments: &[&str]) -> bool {
    let here = Command::new(program).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
    let here = here.is_ok_and(|status| status.success());
    if !here {
        eprintln!("left out: `{program} {}` doesn't work here", arguments.join(" "));
    }
    here
}

/// A command in the folder of the key file that knows where the server answers.
fn run(server: &Server, program: &str, arguments: &[&str]) -> String {
    fs::write(server.current_dir().join("7.png"), "seven").unwrap();
    let output = Command::new(program)
        .args(arguments)
        .current_dir(server.current_dir())
        .env("INFERENCE", format!("http://{}", server.address()))
        .env("MANAGEMENT", format!("http://{}", server.management_address()))
        .env("METRICS", format!("http://{}", server.metrics_address()))
        // A proxy that somebody has set isn't meant for these.
        .env("no_proxy", "127.0.0.1,localhost")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{program}: {}\n{said}\n{complained}", output.status);
    said.into_owned()
}

fn nothing_is_left(server: &Server) {
    let key = server.key("management");
    let list = server.management("/models", &Sent::get().bearer(key.as_deref())).json();
    assert_eq!(list["models"], serde_json::json!([]));
}

#[test]
fn python_scripts_work_unchanged() {
    for library in ["requests", "urllib.request"] {
        if !is_here("python3", &["-c", &format!("import {library}")]) {
            continue;
        }
        let server = server();
        let said = run(&server, "python3", &["-c", SCRIPT, library]);
        assert_eq!(said, format!("all is well with {library}\n"));
        nothing_is_left(&server);
    }
}

/// The lines that the documentation shows are those that are run here.
#[test]
fn the_documented_curl_lines_work() {
    if !is_here("curl", &["--version"]) {
        return;
    }
    let document = fs::read_to_string(repository().join("docs/torchserve-compatibility.md")).unwrap();
    let (_, rest) = document.split_once("## Try it with curl").unwrap();
    let (_, rest) = rest.split_once("```sh\n").unwrap();
    let (script, _) = rest.split_once("```").unwrap();
    assert!(script.lines().filter(|line| line.starts_with("ask ") || line.starts_with("manage ")).count() > 30);
    let server = server();
    let said = run(&server, "sh", &["-euc", script]);
    for part in [
        "\"status\": \"Healthy\"",
        "Model \\\"mnist\\\" Version: 1.0 registered with 1 initial workers",
        "Model \\\"noop\\\" Version: 1.11 registered with 0 initial workers. Use scale workers API",
        "Workers scaled to 2 for model: mnist",
        "Processing worker updates...",
        "\"modelName\": \"mnist\"",
        "SEVEN",
        "\"letters\": 5",
        "Default version successfully updated for model \\\"noop\\\" to \\\"2.0\\\"",
        "\"ready\": true",
        "\"live\": true",
        "ts_inference_requests_total{",
        "Model \\\"mnist\\\" unregistered",
    ] {
        says(&said, &[part]);
    }
    // By -T, by -F, as bytes, of a version, by SageMaker's routes and by the old one.
    assert_eq!(said.matches("SEVEN").count(), 7, "{said}");
    nothing_is_left(&server);
}
