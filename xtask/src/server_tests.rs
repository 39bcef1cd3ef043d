//! The server's process against a stand-in: a shell that prints the server's lines, and a thread that answers
//! HTTP as the server does.

use std::io::Write;
use std::net::{TcpListener, TcpStream};

use super::*;

/// Answers every request until the process ends; a picture is one byte, its digit.
pub(crate) fn stand_in() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            thread::spawn(move || while answer(stream.as_ref().unwrap()).is_some() {});
        }
    });
    address
}

fn answer(mut stream: &TcpStream) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    let mut request = String::new();
    reader.read_line(&mut request).ok()?;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        if line.trim().is_empty() {
            break;
        }
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let (status, body) = match request.split(' ').nth(1)? {
        "/ping" => (200, r#"{"status":"Healthy"}"#.to_owned()),
        "/models/slow" => (200, r#"[{"workers":[{"status":"LOADING"}]}]"#.to_owned()),
        path if path.starts_with("/models/") => (200, r#"[{"workers":[{"status":"READY"}]}]"#.to_owned()),
        path if path.starts_with("/predictions/") => (200, (body.len() % 10).to_string()),
        _ => (404, String::new()),
    };
    write!(stream, "HTTP/1.1 {status} OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).ok()
}

/// A shell that says what the server says, and ends with this code on SIGTERM.
fn shell(address: &str, exit_code: i32) -> Command {
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!(
        "trap 'exit {exit_code}' TERM; \
         echo 'Inference API bind to: {address}'; echo 'Management API bind to: {address}'; \
         echo 'Model server started.'; while :; do sleep 0.05; done"
    ));
    command
}

#[test]
fn a_server_is_waited_for_asked_and_stopped() {
    let address = stand_in();
    let mut server = Server::start(shell(&address, 0)).unwrap();
    let uninterrupted = AtomicBool::new(false);
    let ready = server.wait_until_ready(&["mnist"], &uninterrupted).unwrap();
    assert!(ready > Duration::ZERO);
    assert_eq!(server.inference_address().unwrap(), address);
    assert!(server.resident_bytes().unwrap() > 100_000);
    server.run_on(&AtomicBool::new(true)).unwrap();
    server.stop().unwrap();
}

#[test]
fn a_server_that_dies_is_quoted() {
    let uninterrupted = AtomicBool::new(false);
    let mut command = Command::new("sh");
    command.args(["-c", "echo 'port 8080 is taken' >&2; exit 3"]);
    let mut server = Server::start(command).unwrap();
    let error = server.wait_until_ready(&["mnist"], &uninterrupted);
    let message = error.unwrap_err().to_string();
    assert!(message.contains("exit status: 3"), "{message}");
    assert!(message.contains("port 8080 is taken"), "{message}");
}

#[test]
fn waiting_ends_with_a_signal_and_the_process_with_it() {
    let mut server = Server::start(shell(&stand_in(), 0)).unwrap();
    let pid = server.child.id();
    let error = server.wait_until_ready(&["slow"], &AtomicBool::new(true));
    assert_eq!(error.unwrap_err().to_string(), "interrupted");
    drop(server);
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
}

#[test]
fn a_bad_exit_code_fails_the_stop() {
    let address = stand_in();
    let mut server = Server::start(shell(&address, 7)).unwrap();
    server.wait_until_ready(&["mnist"], &AtomicBool::new(false)).unwrap();
    let message = server.stop().unwrap_err().to_string();
    assert!(message.contains("exit status: 7"), "{message}");
}

#[test]
fn addresses_are_read_from_lines_with_and_without_a_prefix() {
    let inference = |address: &str| Some(Notice::Inference(address.into()));
    for (line, expected) in [
        ("Inference API bind to: http://127.0.0.1:8080", inference("http://127.0.0.1:8080")),
        (
            "2026-01-02T03:04:05 [INFO ] main org.x - Inference API bind to: http://127.0.0.1:1/ ",
            inference("http://127.0.0.1:1"),
        ),
        ("Management API bind to: http://[::1]:8081", Some(Notice::Management("http://[::1]:8081".into()))),
        ("Metrics API bind to: http://127.0.0.1:8082", Some(Notice::Metrics("http://127.0.0.1:8082".into()))),
        ("Model server started.", Some(Notice::Started)),
        ("Model mnist loaded.", None),
    ] {
        assert_eq!(notice(line), expected, "{line}");
    }
}

#[test]
fn workers_and_memory_are_read_from_what_others_write() {
    let body = r#"[{"modelName":"mnist","workers":[{"id":"9000","status":"READY"},{"status":"LOADING"}]}]"#;
    assert_eq!(worker_statuses(body), ["READY", "LOADING"]);
    assert!(worker_statuses("no JSON").is_empty());
    assert_eq!(resident_in("Name:\tsconce\nVmRSS:\t  117000 kB\n"), Some(119_808_000));
    assert_eq!(resident_in("Name:\tkthreadd\n"), None);
}

#[test]
fn the_system_chooses_the_ports() {
    let config = std::fs::read_to_string(configuration(&[("sconce_unload", "unmap")]).unwrap().path()).unwrap();
    assert_eq!(config.lines().count(), 4);
    assert!(config.contains("management_address=http://127.0.0.1:0\n"));
    assert!(config.ends_with("sconce_unload=unmap\n"));
}
