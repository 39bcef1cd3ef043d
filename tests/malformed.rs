//! Ten thousand requests with every kind of malformed input: each is answered as its kind demands or its connection is closed, and the server stays as it was.
//!
//! `SCONCE_TEST_SEED` says what is sent, `SCONCE_TEST_REQUESTS` how many requests.

mod bodies;
mod heads;
mod kinds;
mod slow;
mod wire;

use std::fs;
use std::thread;
use std::time::Instant;

use self::kinds::KINDS;
use self::kinds::Kind;
use self::kinds::Port;
use self::kinds::Then;
use self::wire::Reply;
use self::wire::Wire;
use crate::support::Chance;
use crate::support::LeftOver;
use crate::support::Seed;
use crate::support::Server;
use crate::support::Setup;
use crate::support::eventually;

const CLIENTS: usize = 4;

/// So large may a body be.
const MOST: usize = 100_000;

/// How much the memory of the server may grow from the first half to the second.
const GROWTH: i64 = 8 << 20;

#[test]
fn nothing_that_is_sent_brings_the_server_down() {
    let seed = Seed::of_this_run();
    let server = Setup::with_echo()
        .property("max_request_size", &MOST.to_string())
        .property("enable_model_api", "true")
        .property("sconce_watch", "false")
        .start();
    server.still_serves();
    server.comes_to_rest();
    let (before, files) = (LeftOver::of(&server), files(&server));
    let started = Instant::now();
    half(&server, &seed, 0);
    let resident = server.resident();
    half(&server, &seed, 1);
    let growth = server.resident() - resident;
    eprintln!("{} requests in {:.1?}; {} KiB more resident", requests(), started.elapsed(), growth / 1024);
    assert!(growth < GROWTH, "{growth} bytes more");
    closes_its_connections(&server, files);
    before.is_all_there_is(&server);
    assert!(!server.log().contains("panicked"));
}

fn requests() -> usize {
    let number = std::env::var("SCONCE_TEST_REQUESTS").ok();
    number.map_or(10_000, |text| text.parse().unwrap())
}

/// Half of the requests, kind by kind.
fn half(server: &Server, seed: &Seed, number: usize) {
    let of_each = requests().div_ceil(2 * CLIENTS * KINDS.len());
    for (index, kind) in KINDS.iter().enumerate() {
        thread::scope(|scope| {
            for client in 0..CLIENTS {
                let chance = seed.chance((number * KINDS.len() + index) * CLIENTS + client);
                scope.spawn(move || send_all(server, kind, chance, of_each));
            }
        });
        server.still_serves();
    }
}

/// So many requests of a kind, on one connection where the server keeps it.
fn send_all(server: &Server, kind: &Kind, mut chance: Chance, count: usize) {
    let mut kept: Option<(Port, Wire)> = None;
    for _ in 0..count {
        let sent = (kind.make)(&mut chance);
        let wire = kept.take().filter(|(port, _)| *port == sent.port).map(|(_, wire)| wire);
        let mut wire = wire.unwrap_or_else(|| Wire::to(sent.port.of(server)));
        wire.send(&sent.bytes);
        let shown = || format!("{} at {:?}: {:?}", kind.name, sent.port, start(&sent.bytes));
        match sent.then {
            Then::OneReply => {
                let reply = wire.reply().unwrap_or_else(|| panic!("no answer to {}", shown()));
                kind.allows(Some(&reply), &shown);
                if !reply.closes {
                    kept = Some((sent.port, wire));
                }
            }
            Then::Closes => {
                kind.allows(wire.reply().as_ref(), &shown);
                wire.is_closed();
            }
            Then::Ends => {
                wire.end();
                let first = wire.reply();
                kind.allows(first.as_ref(), &shown);
                let mut last = first;
                while let Some(reply) = last {
                    kind.allows(Some(&reply), &shown);
                    last = wire.reply();
                }
            }
        }
    }
}

/// Waits until the server has no more files and connections open than it had.
fn closes_its_connections(server: &Server, before: usize) {
    eventually(&format!("at most {before} open files"), || (files(server) <= before).then_some(()));
}

fn files(server: &Server) -> usize {
    fs::read_dir(format!("/proc/{}/fd", server.id())).unwrap().count()
}

fn start(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(300)]).into_owned()
}

// === impl Kind ===

impl Kind {
    /// Asserts that the answer is one of those that this kind of input may get, in the form of all errors.
    fn allows(&self, reply: Option<&Reply>, shown: &dyn Fn() -> String) {
        let status = reply.map_or(kinds::NONE, |reply| reply.status);
        let body = reply.map(|reply| String::from_utf8_lossy(&reply.body)).unwrap_or_default();
        assert!(self.allowed.contains(&status), "{status}, and not one of {:?}, {body}, for {}", self.allowed, shown());
        if status >= 400 && !body.is_empty() {
            let json: serde_json::Value = serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}"));
            assert!(json["code"] == status && json["type"].is_string() && json["message"].is_string(), "{json}");
        }
    }
}
