//! Who has a key gets in, and nobody else.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::Answer;
use crate::support::Sent;
use crate::support::Server;
use crate::support::Setup;
use crate::support::says;

const REFUSED: &str = "Token Authorization failed. Token either incorrect, expired, or not provided correctly";
const NOT_RENEWED: &str = "Token Authentication failed. Token either incorrect, expired, or not provided correctly";

fn server() -> Server {
    Setup::with_echo().with_tokens().start()
}

/// A request with the key of this kind.
fn with(server: &Server, kind: &str) -> Sent {
    Sent::body("hello").bearer(Some(&server.key(kind).unwrap()))
}

#[track_caller]
fn refused(answer: &Answer) {
    assert_eq!(answer.error(400, "InvalidKeyException"), REFUSED);
    assert_eq!(answer.header("www-authenticate"), None);
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(answer.header("x-request-id").is_some());
}

#[test]
fn each_api_asks_for_its_own_key() {
    let server = server();
    let (inference, management, api) = (with(&server, "inference"), with(&server, "management"), with(&server, "API"));
    let (none, wrong) = (Sent::body("hello"), Sent::body("hello").bearer(Some("wrong")));
    assert_eq!(server.inference("/predictions/echo", &inference).ok(), "hello");
    assert_eq!(server.inference("/ping", &inference.clone().method("GET")).status, 200);
    assert_eq!(server.inference("/nothing", &inference).status, 404);
    for path in ["/predictions/echo", "/predictions/unknown", "/ping", "/nothing", "/", "/token?type=inference"] {
        for sent in [&none, &wrong, &management, &api] {
            refused(&server.inference(path, sent));
        }
    }
    let get = management.method("GET");
    assert_eq!(server.management("/models/echo", &get).status, 200);
    assert_eq!(server.management("/models/nothing", &get).status, 404);
    for path in ["/models", "/models/echo", "/models/echo/reload", "/nothing", "/models/token"] {
        for sent in [&none, &wrong, &inference, &api] {
            refused(&server.management(path, sent));
        }
    }
    // Neither the metrics nor what describes the API are behind a key.
    assert_eq!(server.metrics().status, 200);
    let options = Sent::get().method("OPTIONS");
    assert_ne!(server.inference("/", &options).status, 400);
    assert_ne!(server.management("/", &options).status, 400);
}

#[test]
fn the_key_file_is_its_owner_s_and_goes_with_the_server() {
    let server = server();
    let path = server.current_dir().join("key_file.json");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let keys: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    let names = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&keys), ["management", "inference", "API"]);
    assert_eq!(names(&keys["inference"]), ["key", "expiration time"]);
    assert_eq!(names(&keys["API"]), ["key"]);
    let told = keys["management"]["expiration time"].as_str().unwrap();
    assert_eq!((told.len(), told.ends_with('Z')), ("2024-02-16T21:12:24.801167Z".len(), true), "{told}");
    for kind in ["management", "inference", "API"] {
        assert_eq!(server.key(kind).unwrap().len(), 43, "256 bits as base64url");
    }
    let line = server.logged(&["Key file located at"]);
    says(&line, &[path.to_str().unwrap(), "--disable-token-auth"]);
    assert!(!server.log().contains(&server.key("API").unwrap()), "a key is in the log");
    server.signal(Signal::TERM);
    assert_eq!(server.ended().code(), Some(0));
    assert!(!path.exists());
}

#[test]
fn who_has_the_api_key_renews_the_others() {
    let server = server();
    let api = with(&server, "API").method("GET");
    let (old, other) = (with(&server, "inference"), with(&server, "management"));
    let answer = server.management("/token?type=inference", &api);
    assert_eq!((answer.ok().as_str(), answer.header("content-type")), ("\n", Some("application/json")));
    refused(&server.inference("/predictions/echo", &old));
    assert_eq!(server.inference("/predictions/echo", &with(&server, "inference")).ok(), "hello");
    assert_eq!(server.management("/models", &other.clone().method("GET")).status, 200);

    // Whatever the method is.
    server.management("/token?type=management", &with(&server, "API")).ok();
    refused(&server.management("/models", &other));
    assert_eq!(server.management("/models", &with(&server, "management").method("GET")).status, 200);

    let management = with(&server, "management");
    for (path, sent) in [
        ("/token?type=inference", &management),
        ("/token?type=inference", &Sent::get()),
        ("/token?type=API", &api),
        ("/token", &api),
    ] {
        assert_eq!(server.management(path, sent).error(400, "InvalidKeyException"), NOT_RENEWED, "{path}");
    }
    // Only this path renews: one that merely has the word in it is an ordinary one.
    assert_eq!(server.management("/models/token?url=/token", &management.method("GET")).status, 404);
}

#[test]
fn a_key_that_has_expired_is_refused_until_it_is_renewed() {
    // A key of a nanosecond has expired when the first request comes.
    let server = Setup::new().with_tokens().property("token_expiration_min", "2e-11").start_bare();
    refused(&server.inference("/ping", &with(&server, "inference")));
    refused(&server.management("/models", &with(&server, "management")));
    let before = server.key("inference");
    server.management("/token?type=inference", &with(&server, "API")).ok();
    assert_ne!(server.key("inference"), before);
}

#[test]
fn nobody_is_asked_where_tokens_are_off() {
    let server = Setup::with_echo().start();
    server.still_serves();
    assert!(!server.current_dir().join("key_file.json").exists());
    server.management("/token?type=inference", &Sent::get()).error(404, "ResourceNotFoundException");
}

#[test]
fn an_address_of_both_apis_can_be_managed() {
    // A port that was free a moment ago: the two addresses must be the same.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = format!("http://127.0.0.1:{port}");
    let server = Setup::with_echo()
        .with_tokens()
        .property("inference_address", &address)
        .property("management_address", &address)
        .property("metrics_address", &address)
        .start();
    let (inference, management) = (with(&server, "inference"), with(&server, "management").method("GET"));
    assert_eq!(server.inference("/predictions/echo", &inference).ok(), "hello");
    assert_eq!(server.management("/models/echo/1.0", &management).status, 200);
    refused(&server.inference("/predictions/echo", &management));
    refused(&server.management("/models/echo/1.0", &inference));
    assert_eq!(server.metrics().status, 200);
    server.management("/token?type=management", &with(&server, "API")).ok();
}

#[test]
fn a_folder_that_cannot_be_written_is_told() {
    let setup = Setup::new().with_tokens();
    // Nothing can be put in the place of a folder, whoever asks.
    fs::create_dir_all(setup.current_dir().join("key_file.json/full")).unwrap();
    let output = setup.run_to_end();
    assert_eq!(output.status.code(), Some(1));
    says(
        &String::from_utf8_lossy(&output.stderr),
        &["can't write the tokens to key_file.json", "--disable-token-auth"],
    );
}

#[test]
fn a_second_server_leaves_the_first_one_s_file() {
    let server = server();
    let (before, address) = (server.key("API"), format!("http://{}", server.address()));
    let mut second = Command::new(env!("CARGO_BIN_EXE_sconce"));
    second.current_dir(server.current_dir()).args(["serve", "--inference-address", &address]);
    let output = second.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    says(&String::from_utf8_lossy(&output.stderr), &["can't listen on"]);
    assert_eq!(server.key("API"), before);
    assert_eq!(server.inference("/predictions/echo", &with(&server, "inference")).ok(), "hello");
}
