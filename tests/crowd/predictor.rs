//! A client that predicts with all models, whether they are there or not: the right answer comes, or the reason why none does.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use super::CLIENTS;
use super::Client;
use super::EVERYBODY_S;
use super::MODELS_OF_EACH;
use super::Version;
use super::name;
use crate::support::Chance;

#[derive(Debug)]
pub(super) struct Predictor<'a> {
    client: Client<'a>,
    chance: Chance,
    tally: Tally,
}

/// How many requests were answered, and how.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tally {
    pub(super) answered: u64,
    pub(super) not_there: u64,
    pub(super) without_workers: u64,
}

// === impl Predictor ===

impl<'a> Predictor<'a> {
    pub(super) fn new(client: Client<'a>, chance: Chance) -> Self {
        Self { client, chance, tally: Tally::default() }
    }

    pub(super) fn predict_until(mut self, end: &AtomicBool) -> Tally {
        let names = (0..CLIENTS).flat_map(|client| (0..MODELS_OF_EACH).map(move |model| name(client, model)));
        let names: Vec<_> = names.chain(EVERYBODY_S.map(str::to_owned)).collect();
        assert_eq!(names.len(), 50);
        let mut number = 0;
        while !end.load(Ordering::Relaxed) {
            let version = self.chance.of(&Version::ALL);
            let version = (!self.chance.one_in(2)).then_some(version);
            let body = format!("request {number} ").repeat(1 + self.chance.below(200));
            let name = &names[self.chance.below(names.len())];
            self.predict(name, version, &body);
            number += 1;
        }
        self.tally
    }

    fn predict(&mut self, name: &str, version: Option<Version>, body: &str) {
        let answer = self.client.predict(name, version, body);
        match answer.status {
            200 => {
                let mut by = Version::ALL.into_iter().filter(|by| version.is_none_or(|version| version == *by));
                let text = answer.text();
                assert!(by.any(|by| by.answer(body) == text), "{name} {version:?} made {text:?} of {body:?}");
                self.tally.answered += 1;
            }
            503 => {
                let message = answer.error(503, "ServiceUnavailableException");
                let of_version = version.map(|version| format!(" Version {}", version.text())).unwrap_or_default();
                let start = format!("Model \"{name}\"{of_version} has no worker to serve inference request");
                assert!(message.starts_with(&start), "{message}");
                self.tally.without_workers += 1;
            }
            _ => {
                let json = answer.json();
                let kind = json["type"].as_str().unwrap_or_default();
                let expected = match (kind, version) {
                    ("ModelVersionNotFoundException", Some(version)) => {
                        format!("Model version: {} does not exist for model: {name}", version.text())
                    }
                    _ => format!("Model not found: {name}"),
                };
                assert!(["ModelNotFoundException", "ModelVersionNotFoundException"].contains(&kind), "{json}");
                assert_eq!(answer.error(404, kind), expected);
                self.tally.not_there += 1;
            }
        }
    }
}

// === impl Tally ===

impl Tally {
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            answered: self.answered + other.answered,
            not_there: self.not_there + other.not_there,
            without_workers: self.without_workers + other.without_workers,
        }
    }
}
