//! A crowd at the management API: 50 models come, are scaled, described, listed, made the default and go, in random order, while others predict.
//!
//! Of most models one client is the only one to change them, so that it can foretell the status and the text of every answer; two are everybody's, and there the answer is one of a few.
//! `SCONCE_TEST_SEED` says what happens, `SCONCE_TEST_OPERATIONS` how many operations each client does.

mod everybody;
mod owner;
mod predictor;

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Instant;

use ureq::Agent;

use self::everybody::Everybody;
use self::owner::Owner;
use self::predictor::Predictor;
use self::predictor::Tally;
use crate::support::Answer;
use crate::support::Archive;
use crate::support::Chance;
use crate::support::LeftOver;
use crate::support::Seed;
use crate::support::Sent;
use crate::support::Server;
use crate::support::Setup;
use crate::support::agent;
use crate::support::first_party;
use crate::support::fixture;

const CLIENTS: usize = 8;
const PREDICTORS: usize = 4;

/// With the two that are everybody's these are 50.
const MODELS_OF_EACH: usize = 6;
const EVERYBODY_S: [&str; 2] = ["everybody-s-0", "everybody-s-1"];

/// How much the memory of the server may grow from the first round to the second.
const GROWTH: i64 = 24 << 20;

/// The two versions that every model may have, each from an archive of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Version {
    /// Answers with what it was sent.
    Echoes,
    /// Answers in capital letters.
    Shouts,
}

/// A client with connections of its own.
#[derive(Debug)]
struct Client<'a> {
    server: &'a Server,
    agent: Agent,
}

/// Ends the predictors when dropped, so that a failed test doesn't wait for them.
struct End<'a>(&'a AtomicBool);

#[test]
fn fifty_models_come_and_go_while_others_predict() {
    let seed = Seed::of_this_run();
    let server = Setup::new()
        .plugin(&first_party("echo"))
        .plugin(&fixture("explains"))
        .model(&Archive::new("echo", "echo"))
        .model(&Archive::new("any", "echo").version("1.0").file("echoes.mar"))
        .model(&Archive::new("any", "explains").version("2.0").file("shouts.mar"))
        .property("enable_model_api", "true")
        .property("sconce_watch", "false")
        .property("sconce_unload", "unmap")
        .models("echo.mar")
        .start();
    server.still_serves();
    server.comes_to_rest();
    let before = LeftOver::of(&server);
    // The first round makes what is kept: buffers, the labels of metrics, the allocator's own.
    let operations = operations();
    round(&server, &seed, 0, operations.div_ceil(3));
    before.is_all_there_is(&server);
    let resident = server.resident();
    let started = Instant::now();
    let tally = round(&server, &seed, 1, operations);
    let time = started.elapsed();
    before.is_all_there_is(&server);
    let growth = server.resident() - resident;
    eprintln!(
        "{} operations in {time:.1?}, and meanwhile {tally:?}; {} KiB more resident",
        operations * CLIENTS,
        growth / 1024
    );
    assert!([tally.answered, tally.not_there, tally.without_workers].iter().all(|&count| count > 0));
    assert!(growth < GROWTH, "{growth} bytes more");
    assert!(!server.log().contains("panicked"));
    server.still_serves();
}

fn operations() -> usize {
    let number = std::env::var("SCONCE_TEST_OPERATIONS").ok();
    number.map_or(200, |text| text.parse().unwrap())
}

/// So many operations by each client, and then all models go.
fn round(server: &Server, seed: &Seed, number: usize, operations: usize) -> Tally {
    let end = AtomicBool::new(false);
    let chance = |of: usize| seed.chance(number * 100 + of);
    let tally = thread::scope(|scope| {
        let end_of_all = End(&end);
        let predictors: Vec<_> = (0..PREDICTORS)
            .map(|predictor| {
                let (chance, end) = (chance(CLIENTS + predictor), &end);
                scope.spawn(move || Predictor::new(Client::new(server), chance).predict_until(end))
            })
            .collect();
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let chance = chance(client);
                scope.spawn(move || act(server, client, chance, operations))
            })
            .collect();
        clients.into_iter().for_each(|client| client.join().unwrap());
        drop(end_of_all);
        predictors.into_iter().map(|predictor| predictor.join().unwrap()).fold(Tally::default(), Tally::and)
    });
    Everybody::new(Client::new(server), chance(99)).take_all_out();
    let listed = Client::new(server).ask("GET", "/models", "");
    assert_eq!(listed.json()["models"].as_array().unwrap().len(), 1, "{}", listed.text());
    tally
}

/// What one client does.
fn act(server: &Server, client: usize, mut chance: Chance, operations: usize) {
    let mut everybody = Everybody::new(Client::new(server), chance.branch());
    let mut owner = Owner::new(Client::new(server), client, chance);
    for _ in 0..operations {
        if owner.chance.one_in(5) {
            everybody.act();
        } else {
            owner.act();
        }
    }
    owner.take_all_out();
}

fn name(client: usize, model: usize) -> String {
    format!("c{client}-{model}")
}

// === impl Version ===

impl Version {
    const ALL: [Self; 2] = [Self::Echoes, Self::Shouts];

    fn text(self) -> &'static str {
        match self {
            Self::Echoes => "1.0",
            Self::Shouts => "2.0",
        }
    }

    fn url(self) -> &'static str {
        match self {
            Self::Echoes => "echoes.mar",
            Self::Shouts => "shouts.mar",
        }
    }

    /// What it makes of a body.
    fn answer(self, body: &str) -> String {
        match self {
            Self::Echoes => body.to_owned(),
            Self::Shouts => body.to_uppercase(),
        }
    }
}

// === impl Client ===

impl<'a> Client<'a> {
    fn new(server: &'a Server) -> Self {
        Self { server, agent: agent() }
    }

    /// Asks the management API; that no answer comes is a failure.
    fn ask(&self, method: &str, path: &str, json: &str) -> Answer {
        let mut request = Sent::body(json).method(method);
        if !json.is_empty() {
            request = request.content_type("application/json");
        }
        let url = format!("http://{}{path}", self.server.management_address());
        let answer = request.try_send(&self.agent, &url);
        answer.unwrap_or_else(|error| panic!("no answer for {method} {path} {json}: {error}"))
    }

    fn predict(&self, model: &str, version: Option<Version>, body: &str) -> Answer {
        let version = version.map(|version| format!("/{}", version.text())).unwrap_or_default();
        let url = format!("http://{}/predictions/{model}{version}", self.server.address());
        let answer = Sent::body(body).try_send(&self.agent, &url);
        answer.unwrap_or_else(|error| panic!("no answer for {model}{version} {body}: {error}"))
    }
}

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
