//! A client at the models that all clients change at once: each answer is one of those that some order of what all have asked explains.

use super::Client;
use super::EVERYBODY_S;
use super::Version;
use super::owner::status;
use crate::support::Answer;
use crate::support::Chance;

#[derive(Debug)]
pub(super) struct Everybody<'a> {
    client: Client<'a>,
    chance: Chance,
}

/// So many workers at most.
const MOST_WORKERS: usize = 2;

// === impl Everybody ===

impl<'a> Everybody<'a> {
    pub(super) fn new(client: Client<'a>, chance: Chance) -> Self {
        Self { client, chance }
    }

    pub(super) fn act(&mut self) {
        let name = self.chance.of(&EVERYBODY_S);
        let version = self.chance.of(&Version::ALL);
        match self.chance.below(6) {
            0 => self.register(name, version),
            1 => self.scale(name, version),
            2 => self.describe(name),
            3 => self.set_default(name, version),
            4 => self.unregister(name, version),
            _ => self.unregister_default(name),
        }
    }

    /// Unregisters what there is, when nobody else does anything any more.
    pub(super) fn take_all_out(&mut self) {
        for name in EVERYBODY_S {
            for version in Version::ALL {
                self.unregister(name, version);
            }
            // Either the default one was first, and stayed, or nothing is left.
            self.unregister_default(name);
            assert_eq!(self.client.ask("GET", &format!("/models/{name}"), "").status, 404);
        }
    }

    fn register(&mut self, name: &str, version: Version) {
        let workers = self.chance.below(MOST_WORKERS + 1);
        let synchronous = self.chance.one_in(2);
        let url = version.url();
        let path = format!("/models?url={url}&model_name={name}&initial_workers={workers}&synchronous={synchronous}");
        let answer = self.client.ask("POST", &path, "");
        let version = version.text();
        let registered = format!("Model \"{name}\" Version: {version} registered with {workers} initial workers");
        match answer.status {
            200 => assert!(status(&answer, 200).starts_with(&registered), "{}", answer.text()),
            202 => assert!(!synchronous && workers > 0),
            _ => {
                let message = answer.error(409, "ConflictStatusException");
                let there = format!("Model version {version} is already registered for model {name}");
                // Another client was quicker, at the one or at the other.
                let gone = format!("Model version {version} of model {name} was unregistered before it had workers");
                assert!(message == there || (synchronous && message == gone), "{message}");
            }
        }
    }

    fn scale(&mut self, name: &str, version: Version) {
        let workers = self.chance.below(MOST_WORKERS + 1);
        let synchronous = self.chance.one_in(2);
        let version = version.text();
        let path = format!("/models/{name}/{version}?min_worker={workers}&synchronous={synchronous}");
        let answer = self.client.ask("PUT", &path, "");
        let expected = match synchronous {
            true => (200, format!("Workers scaled to {workers} for model: {name}, version: {version}")),
            false => (202, "Processing worker updates...".to_owned()),
        };
        if answer.status == expected.0 {
            assert_eq!(status(&answer, expected.0), expected.1);
        } else {
            not_there(&answer, name, &["1.0", "2.0"]);
        }
    }

    fn describe(&mut self, name: &str) {
        let answer = self.client.ask("GET", &format!("/models/{name}/all"), "");
        if answer.status != 200 {
            return not_there(&answer, name, &[]);
        }
        let json = answer.json();
        let versions = json.as_array().unwrap();
        assert!((1..=Version::ALL.len()).contains(&versions.len()), "{json:#}");
        for one in versions {
            assert_eq!(one["modelName"], name);
            let version = Version::ALL.into_iter().find(|version| one["modelVersion"] == version.text()).unwrap();
            assert_eq!(one["modelUrl"], version.url());
            let state = one["status"].as_str().unwrap();
            let workers = one["workers"].as_array().unwrap().len();
            assert!(workers <= MOST_WORKERS && one["minWorkers"] == one["maxWorkers"], "{one:#}");
            assert!(["IDLE", "LOADING", "READY"].contains(&state) && (state != "IDLE" || workers == 0), "{one:#}");
        }
    }

    fn set_default(&mut self, name: &str, version: Version) {
        let version = version.text();
        let answer = self.client.ask("PUT", &format!("/models/{name}/{version}/set-default"), "");
        match answer.status {
            200 => {
                let text = format!("Default version successfully updated for model \"{name}\" to \"{version}\"");
                assert_eq!(status(&answer, 200), text);
            }
            _ if answer.json()["type"] == "ModelVersionNotFoundException" => {
                let text = format!("Model version {version} does not exist for model {name}");
                assert_eq!(answer.error(404, "ModelVersionNotFoundException"), text);
            }
            _ => not_there(&answer, name, &[]),
        }
    }

    fn unregister(&mut self, name: &str, version: Version) {
        let path = format!("/models/{name}/{}", version.text());
        let answer = self.client.ask("DELETE", &path, "");
        unregistered(&answer, name, &[version.text()]);
    }

    fn unregister_default(&mut self, name: &str) {
        let answer = self.client.ask("DELETE", &format!("/models/{name}"), "");
        unregistered(&answer, name, &[]);
    }
}

fn unregistered(answer: &Answer, name: &str, versions: &[&str]) {
    match answer.status {
        200 => assert_eq!(status(answer, 200), format!("Model \"{name}\" unregistered")),
        403 => {
            let text = format!("Cannot remove default version for model {name}");
            assert_eq!(answer.error(403, "InvalidModelVersionException"), text);
        }
        _ => not_there(answer, name, versions),
    }
}

/// Neither the model nor, where versions are named, one of these is there.
fn not_there(answer: &Answer, name: &str, versions: &[&str]) {
    if answer.json()["type"] == "ModelVersionNotFoundException" {
        let message = answer.error(404, "ModelVersionNotFoundException");
        let said = |version: &&str| message == format!("Model version: {version} does not exist for model: {name}");
        assert!(versions.iter().any(said), "{message}");
    } else {
        assert_eq!(answer.error(404, "ModelNotFoundException"), format!("Model not found: {name}"));
    }
}
