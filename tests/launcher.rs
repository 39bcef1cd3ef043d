//! The habits of TorchServe's launcher: in the background and back, its names, its messages, its exit codes.

mod place;

use std::fs;
use std::net::TcpListener;
use std::thread;

use rustix::process::Pid;
use rustix::process::Signal;
use rustix::process::kill_process;
use rustix::process::test_kill_process;

use crate::support::Archive;
use crate::support::Gate;
use crate::support::Sent;
use crate::support::agent;
use crate::support::eventually;
use crate::support::fixture;
use crate::support::mark_of;
use crate::support::says;
use place::Place;

const STARTED: &str = "Model server started.";
const STOPPED: &str = "TorchServe has stopped.\n";

fn is_gone(pid: Pid) -> bool {
    // A process that has ended and that nobody waits for is still there, as a zombie.
    let status = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    test_kill_process(pid).is_err() || status.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z'))
}

/// Its files are closed, and the process is in its very last steps.
fn is_going(pid: Pid) {
    eventually("the process's end", || is_gone(pid).then_some(()));
}

fn echoes(address: &str) {
    let answer = eventually("the model to be served", || {
        let answer = Sent::body("hello").try_send(&agent(), &format!("{address}/predictions/echo")).unwrap();
        (answer.status == 200).then_some(answer)
    });
    assert_eq!(answer.ok(), "hello");
}

#[test]
fn torchserve_starts_in_the_background_and_stops() {
    let place = Place::with_echo();
    let arguments = ["--start", "--model-store", "store", "--models", "echo=echo.mar", "--ncs"];
    let address = place.start("torchserve", &arguments);
    echoes(&address);
    let pid = place.pid();
    assert!(!is_gone(pid));
    let log = fs::read_to_string(place.path("logs/ts_log.log")).unwrap();
    says(&log, &[&format!("Inference API bind to: {address}"), STARTED]);

    // Neither of its names starts a second one.
    let already = "TorchServe is already running, please use torchserve --stop to stop TorchServe.";
    assert_eq!(place.told("torchserve", &arguments, 1), format!("{already}\n"));
    let already = format!("sconce: a server is already running, as process {}: ", pid.as_raw_nonzero());
    says(&place.complains("sconce", &["serve", "--background"], 1), &[&already, "`sconce stop --pid-file "]);
    echoes(&address);

    assert_eq!(place.told("torchserve", &["--stop"], 0), STOPPED);
    is_going(pid);
    assert!(!place.pid_file().exists());
    assert_eq!(place.told("torchserve", &["--stop"], 0), "TorchServe is not currently running.\n");
    // The next one has the folder to itself.
    let address = place.start("torchserve", &["--model-st", "store", "--models", "all"]);
    echoes(&address);
    assert_eq!(place.told("torchserve", &["--stop", "--foreground"], 0), STOPPED);
}

#[test]
fn sconce_serve_goes_into_the_background_where_it_is_told_to() {
    let place = Place::with_echo();
    let arguments = ["serve", "--background", "--model-store", "store", "--models", "all"];
    let mut command = place.command("sconce", &arguments);
    let output = command.env("LOG_LOCATION", place.path("elsewhere")).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    says(&String::from_utf8_lossy(&output.stdout), &[STARTED, "elsewhere/ts_log.log"]);
    says(&fs::read_to_string(place.path("elsewhere/ts_log.log")).unwrap(), &[STARTED]);
    let pid = place.pid();
    // It is in a session of its own, which no terminal ends.
    assert_eq!(rustix::process::getsid(Some(pid)).unwrap(), pid);
    assert_eq!(place.told("sconce", &["stop"], 0), "The server has stopped.\n");
    is_going(pid);

    let address = place.start(
        "sconce",
        &["serve", "--background", "--pid-file", "own.pid", "--model-store", "store", "--models", "all"],
    );
    echoes(&address);
    assert!(!place.pid_file().exists());
    assert_eq!(place.told("sconce", &["stop"], 0), "No server is running.\n");
    assert_eq!(place.told("sconce", &["stop", "--pid-file", "own.pid"], 0), "The server has stopped.\n");
    assert!(!place.path("own.pid").exists());
}

#[test]
fn a_start_tells_where_the_keys_are() {
    let place = Place::with_echo();
    let mut text = fs::read_to_string(place.path("config.properties")).unwrap();
    text.push_str("disable_token_authorization=false\n");
    fs::write(place.path("config.properties"), text).unwrap();
    let told = place.told("torchserve", &["--model-store", "store"], 0);
    let keys = fs::canonicalize(place.folder.path()).unwrap().join("key_file.json");
    says(&told, &[&format!("Key file located at {}", keys.display())]);
    assert!(keys.exists());
    assert_eq!(place.told("torchserve", &["--stop"], 0), STOPPED);
    assert!(!keys.exists());
}

#[test]
fn a_start_that_fails_says_why() {
    let place = Place::with_echo();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", taken.local_addr().unwrap());
    let arguments = ["serve", "--background", "--model-store", "store", "--inference-address", &address];
    says(&place.complains("sconce", &arguments, 1), &["can't listen on", &address, "choose another port"]);
    assert!(!place.pid_file().exists());
    let arguments = ["--model-store", "store", "--inference-address", "ftp://x"];
    says(&place.complains("torchserve", &arguments, 1), &["Invalid configuration: flag --inference-address"]);
    assert!(!place.pid_file().exists());
}

#[test]
fn the_pid_file_of_a_process_that_was_killed_is_an_orphan() {
    let place = Place::with_echo();
    place.start("torchserve", &["--model-store", "store"]);
    let kill = || {
        kill_process(place.pid(), Signal::KILL).unwrap();
        // The last of its threads lets go of it.
        let file = fs::File::open(place.pid_file()).unwrap();
        eventually("the process's end", || file.try_lock_shared().ok());
    };
    kill();
    let told = place.told("torchserve", &["--model-store", "store"], 0);
    says(&told, &["Removing orphan pid file.", STARTED]);
    kill();
    assert_eq!(place.told("torchserve", &["--stop"], 0), "TorchServe already stopped.\n");
    assert!(!place.pid_file().exists());
    // The number may be another process's by now, which is nobody's to stop: here it is this very test.
    fs::write(place.pid_file(), std::process::id().to_string()).unwrap();
    assert_eq!(place.told("torchserve", &["--stop"], 0), "TorchServe already stopped.\n");
    assert_eq!(place.told("torchserve", &["--stop"], 0), "TorchServe is not currently running.\n");
}

#[test]
fn stopping_waits_for_what_was_taken_in() {
    let place = Place::with_echo();
    place.serves(&fixture("waits"), &Archive::new("waits", "waits"));
    let address = place.start("torchserve", &["--model-store", "store", "--models", "all"]);
    echoes(&address);
    let gate = Gate::new();
    thread::scope(|scope| {
        let _open = gate.opener();
        let in_flight = scope
            .spawn(|| Sent::body(gate.body()).try_send(&agent(), &format!("{address}/predictions/waits")).unwrap());
        gate.wait_for_a_call();
        let pid = place.pid();
        let stop = scope.spawn(|| place.told("torchserve", &["--stop"], 0));
        eventually("the server to refuse more", || {
            let answer = Sent::body("late").try_send(&agent(), &format!("{address}/predictions/echo")).unwrap();
            (answer.status == 503).then_some(())
        });
        assert!(!stop.is_finished() && !is_gone(pid), "a request is open");
        gate.open();
        assert_eq!(in_flight.join().unwrap().body, mark_of(0));
        assert_eq!(stop.join().unwrap(), STOPPED);
        is_going(pid);
    });
}

#[test]
fn torchserve_in_the_foreground_can_be_stopped_from_elsewhere() {
    let place = Place::with_echo();
    let mut child = place.foreground("torchserve", &["--foreground", "--model-store", "store"]);
    assert_eq!(place.pid(), Pid::from_child(&child));
    assert_eq!(place.told("torchserve", &["--stop"], 0), STOPPED);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(!place.pid_file().exists());
}

#[test]
fn what_is_missing_is_told_in_torchserve_s_words() {
    let place = Place::new();
    fs::write(place.path("log.xml"), "").unwrap();
    for (arguments, expected) in [
        (&["--start"][..], "Missing mandatory parameter --model-store\n"),
        (&["--ts-config", "gone.properties"], "--ts-config file not found: gone.properties\n"),
        (&["--log-config", "gone.xml"], "--log-config file not found: gone.xml\n"),
        (&["--cpp-log-config", "gone.xml"], "--cpp-log-config file not found: gone.xml\n"),
        (&["--model-store", "gone"], "--model-store directory not found: gone\n"),
        (&["--model-store", "store", "--workflow-store", "gone"], "--workflow-store directory not found: gone\n"),
    ] {
        assert_eq!(place.told("torchserve", arguments, 1), expected, "{arguments:?}");
        assert!(!place.pid_file().exists(), "{arguments:?}");
    }
    assert_eq!(
        place.complains("sconce", &["serve", "--model-store", "gone"], 1),
        "sconce: --model-store directory not found: gone\n"
    );
    let mut command = place.command("torchserve", &["--model-store", "store"]);
    let output = command.env("TS_CONFIG_FILE", "gone.properties").output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "--ts-config file not found: gone.properties\n");
    let output = place.command("torchserve", &["--stop"]).env("TEMP", "gone").output().unwrap();
    let expected = "Invalid temp directory: gone, please check TEMP environment variable.\n";
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stdout).as_ref()), (Some(1), expected));
}

#[test]
fn flags_of_no_effect_are_taken_and_told() {
    let place = Place::with_echo();
    fs::write(place.path("log.xml"), "").unwrap();
    let arguments = [
        "--start",
        "--model-store",
        "store",
        "--workflow-store",
        "store",
        "--log-config",
        "log.xml",
        "--cpp-log-config",
        "log.xml",
        "--no-config-snapshots",
        "--ppath",
        "plugins",
        "--dt",
        "--enable-model-api",
        "--models",
        "echo=echo.mar",
        "e.mar",
    ];
    let address = place.start("torchserve", &arguments);
    echoes(&address);
    let log = fs::read_to_string(place.path("logs/ts_log.log")).unwrap();
    let expected = [
        "flag --workflow-store: workflow_store has no effect",
        "flag --log-config: ",
        "flag --cpp-log-config: cpp_log_config has no effect",
        "Model not found at: e.mar",
    ];
    says(&log, &expected);
    assert_eq!(place.told("torchserve", &["--stop"], 0), STOPPED);
}

#[test]
fn the_names_of_torchserve_s_programs() {
    let place = Place::new();
    let version = env!("CARGO_PKG_VERSION");
    for flag in ["--version", "-v"] {
        let expected = format!("TorchServe Version is 0.12.0 (Sconce {version})\n");
        assert_eq!(place.told("torchserve", &[flag], 0), expected);
        assert_eq!(place.told("sconce", &["serve", flag], 0), format!("sconce {version}\n"));
    }
    says(&place.complains("torchserve", &["--unknown"], 2), &["unexpected argument '--unknown'"]);
    place.call("torchserve", &["--start", "--stop"], 2);
    says(&place.complains("torch-model-archiver", &["--model-name", "m"], 2), &["required", "--handler"]);
    let arguments = ["--model-name", "m", "--version", "1.0", "--handler", "echo", "--export-path", "store"];
    place.call("torch-model-archiver", &arguments, 0);
    assert!(place.path("store/m.mar").is_file());
}

#[test]
fn the_configuration_is_shown_with_where_it_comes_from() {
    let place = Place::new();
    let mut text = fs::read_to_string(place.path("config.properties")).unwrap();
    text.push_str("enable_envvars_config=true\nkeystore_pass=hunter2\njob_queue_sise=1\nvmargs=-Xmx1g\n");
    fs::write(place.path("config.properties"), text).unwrap();
    let run = |arguments: &[&str]| {
        let output = place.command("sconce", arguments).env("TS_JOB_QUEUE_SIZE", "7").output().unwrap();
        assert!(output.status.success(), "{output:?}");
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (table, warnings) = run(&["config", "--models", "a.mar", "b=b.mar", "--dt"]);
    let line = |key: &str| {
        let line = table.lines().find(|line| line.split_whitespace().next() == Some(key));
        line.unwrap_or_else(|| panic!("no line {key} in {table}")).split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(line("job_queue_size"), "job_queue_size 7 environment variable TS_JOB_QUEUE_SIZE");
    assert_eq!(line("load_models"), "load_models a.mar,b=b.mar flag --models");
    assert_eq!(line("disable_token_authorization"), "disable_token_authorization true flag --disable-token-auth");
    assert_eq!(line("max_request_size"), "max_request_size 6553500 default");
    says(&line("default_workers_per_model"), &["1", "config.properties, line 4"]);
    says(&line("vmargs"), &["-Xmx1g", "JVM"]);
    says(&warnings, &["warning: ", "job_queue_sise is unknown; is job_queue_size meant?", "vmargs has no effect"]);
    let (json, nothing) = run(&["config", "--json"]);
    assert_eq!(nothing, "");
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let setting = |key: &str| json["settings"].as_array().unwrap().iter().find(|s| s["key"] == key).unwrap().clone();
    assert_eq!(setting("job_queue_size")["from"], "environment");
    assert_eq!(setting("keystore_pass")["value"], "***");
    assert_eq!(json["warnings"].as_array().unwrap().len(), 3);
    assert!(![table, warnings, json.to_string()].concat().contains("hunter2"));
    says(
        &place.complains("sconce", &["config", "--inference-address", "x"], 1),
        &["Invalid configuration: flag --inference-address"],
    );
}
