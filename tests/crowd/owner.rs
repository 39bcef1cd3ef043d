//! A client that alone changes some models, and so knows what every answer must be.

use std::collections::BTreeMap;

use serde_json::Value;
use serde_json::json;

use super::Client;
use super::MODELS_OF_EACH;
use super::Version;
use super::name;
use crate::support::Answer;
use crate::support::Chance;
use crate::support::eventually;

#[derive(Debug)]
pub(super) struct Owner<'a> {
    client: Client<'a>,
    number: usize,
    pub(super) chance: Chance,
    models: Vec<Model>,
    /// What it has done so far; told when it fails.
    done: Vec<String>,
}

/// A model as it must be.
#[derive(Debug)]
struct Model {
    name: String,
    versions: BTreeMap<Version, Workers>,
    /// The first that was registered, or what was asked for since.
    default: Version,
}

/// How many workers a version has, or is about to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Workers {
    count: usize,
    /// Whether they are there; else they were asked for in the background.
    are_there: bool,
}

const CHANGES_OF_MIND: usize = 4;

/// So much of what was done is told.
const TOLD: usize = 20;

const IN_PROGRESS: &str = "Processing worker updates...";

// === impl Owner ===

impl<'a> Owner<'a> {
    pub(super) fn new(client: Client<'a>, number: usize, chance: Chance) -> Self {
        let model = |model| Model { name: name(number, model), versions: BTreeMap::new(), default: Version::Echoes };
        Self { client, number, chance, models: (0..MODELS_OF_EACH).map(model).collect(), done: Vec::new() }
    }

    /// One operation on one of its models.
    pub(super) fn act(&mut self) {
        let model = self.chance.below(MODELS_OF_EACH);
        match self.chance.below(16) {
            0..4 => self.register(model),
            4..7 => self.scale(model),
            7 => self.change_mind(model),
            8..10 => self.describe(model),
            10 => self.list(),
            11..13 => self.set_default(model),
            13 => self.unregister(model),
            _ => self.predict(model),
        }
    }

    /// Unregisters all that it has registered.
    pub(super) fn take_all_out(&mut self) {
        for model in 0..MODELS_OF_EACH {
            let default = self.models[model].default;
            let others: Vec<_> = self.models[model].versions.keys().copied().filter(|&one| one != default).collect();
            others.into_iter().for_each(|version| self.take_out(model, Some(version)));
            // As it was to be, however it came to that.
            if self.models[model].versions.contains_key(&default) {
                self.describe_one(model, None);
                self.take_out(model, None);
            }
        }
        self.list();
    }

    fn register(&mut self, model: usize) {
        let version = self.chance.of(&Version::ALL);
        let workers = self.chance.below(3);
        let in_background = self.chance.one_in(2);
        let (name, url) = (self.models[model].name.clone(), version.url());
        let answer = if self.chance.one_in(2) {
            let body = json!({
                "url": url, "model_name": name, "initial_workers": workers, "synchronous": !in_background,
            });
            self.ask("POST", "/models", &body.to_string())
        } else {
            let synchronous = if in_background { "&synchronous=false" } else { "" };
            let path = format!("/models?url={url}&model_name={name}&initial_workers={workers}{synchronous}");
            self.ask("POST", &path, "")
        };
        if self.models[model].versions.contains_key(&version) {
            let text = format!("Model version {} is already registered for model {name}", version.text());
            assert_eq!(answer.error(409, "ConflictStatusException"), text);
            return;
        }
        let start = format!("Model \"{name}\" Version: {} registered with {workers} initial workers", version.text());
        match (workers, in_background) {
            (0, _) => {
                let text = format!("{start}. Use scale workers API to add workers for the model.");
                assert_eq!(status(&answer, 200), text);
            }
            (_, false) => assert_eq!(status(&answer, 200), start),
            (_, true) => assert_eq!(status(&answer, 202), IN_PROGRESS),
        }
        let are_there = workers == 0 || !in_background;
        if self.models[model].versions.is_empty() {
            self.models[model].default = version;
        }
        self.models[model].versions.insert(version, Workers { count: workers, are_there });
    }

    fn scale(&mut self, model: usize) {
        let (version, in_background) = (self.any_version(), self.chance.one_in(2));
        self.scale_now(model, version, in_background);
    }

    /// Says one thing after the other and waits for none; the last one counts.
    fn change_mind(&mut self, model: usize) {
        let version = self.any_version();
        (0..CHANGES_OF_MIND).for_each(|_| self.scale_now(model, version, true));
        self.scale_now(model, version, false);
        self.describe_one(model, version);
    }

    fn scale_now(&mut self, model: usize, version: Option<Version>, in_background: bool) {
        let workers = self.chance.below(4);
        let name = self.models[model].name.clone();
        let synchronous = if in_background { "" } else { "&synchronous=true" };
        let query = format!("min_worker={workers}{synchronous}");
        let path = match version {
            None => format!("/models/{name}?{query}"),
            Some(version) if self.chance.one_in(2) => {
                format!("/models/{name}?model_version={}&{query}", version.text())
            }
            Some(version) => format!("/models/{name}/{}?{query}", version.text()),
        };
        let answer = self.ask("PUT", &path, "");
        let Some(found) = self.found(model, version, &answer) else { return };
        if in_background {
            assert_eq!(status(&answer, 202), IN_PROGRESS);
        } else {
            let of_version = version.map(|version| format!(", version: {}", version.text())).unwrap_or_default();
            let text = format!("Workers scaled to {workers} for model: {name}{of_version}");
            assert_eq!(status(&answer, 200), text);
        }
        self.models[model].versions.insert(found, Workers { count: workers, are_there: !in_background });
    }

    fn describe(&mut self, model: usize) {
        if !self.chance.one_in(2) {
            let version = self.any_version();
            return self.describe_one(model, version);
        }
        for version in Version::ALL {
            self.wait_for_workers(model, version);
        }
        let answer = self.ask("GET", &format!("/models/{}/all", self.models[model].name), "");
        let Model { name, versions, .. } = &self.models[model];
        if versions.is_empty() {
            assert_eq!(answer.error(404, "ModelNotFoundException"), format!("Model not found: {name}"));
            return;
        }
        let expected: Vec<_> = versions.iter().map(|(&version, workers)| told(name, version, workers.count)).collect();
        assert_eq!(described(&answer), expected);
    }

    fn describe_one(&mut self, model: usize, version: Option<Version>) {
        let wanted = version.unwrap_or(self.models[model].default);
        self.wait_for_workers(model, wanted);
        let answer = self.ask("GET", &format!("/models/{}{}", self.models[model].name, in_path(version)), "");
        let Some(found) = self.found(model, version, &answer) else { return };
        let Model { name, versions, .. } = &self.models[model];
        assert_eq!(described(&answer), [told(name, found, versions[&found].count)]);
    }

    /// Of others' models the list may hold any.
    fn list(&mut self) {
        let answer = self.ask("GET", "/models?limit=100", "");
        let json = answer.json();
        assert_eq!((answer.status, json.get("nextPageToken")), (200, None), "{json}");
        let all: Vec<_> =
            json["models"].as_array().unwrap().iter().map(|one| one["modelName"].as_str().unwrap()).collect();
        assert!(all.is_sorted(), "{all:?}");
        let own = format!("c{}-", self.number);
        let listed = json["models"].as_array().unwrap().iter();
        let listed: Vec<_> = listed
            .filter(|one| one["modelName"].as_str().is_some_and(|name| name.starts_with(&own)))
            .cloned()
            .collect();
        let present = self.models.iter().filter(|model| !model.versions.is_empty());
        let expected: Vec<_> =
            present.map(|model| json!({"modelName": model.name, "modelUrl": model.default.url()})).collect();
        assert_eq!(listed, expected);
    }

    fn set_default(&mut self, model: usize) {
        let version = self.chance.of(&Version::ALL);
        let name = self.models[model].name.clone();
        let answer = self.ask("PUT", &format!("/models/{name}/{}/set-default", version.text()), "");
        let text = version.text();
        if self.models[model].versions.is_empty() {
            assert_eq!(answer.error(404, "ModelNotFoundException"), format!("Model not found: {name}"));
        } else if self.models[model].versions.contains_key(&version) {
            let expected = format!("Default version successfully updated for model \"{name}\" to \"{text}\"");
            assert_eq!(status(&answer, 200), expected);
            self.models[model].default = version;
        } else {
            let expected = format!("Model version {text} does not exist for model {name}");
            assert_eq!(answer.error(404, "ModelVersionNotFoundException"), expected);
        }
    }

    fn unregister(&mut self, model: usize) {
        let version = self.any_version();
        self.take_out(model, version);
    }

    fn take_out(&mut self, model: usize, version: Option<Version>) {
        let name = self.models[model].name.clone();
        let answer = self.ask("DELETE", &format!("/models/{name}{}", in_path(version)), "");
        let Some(found) = self.found(model, version, &answer) else { return };
        let Model { versions, default, .. } = &mut self.models[model];
        if found == *default && versions.len() > 1 {
            let text = format!("Cannot remove default version for model {name}");
            assert_eq!(answer.error(403, "InvalidModelVersionException"), text);
            return;
        }
        assert_eq!(status(&answer, 200), format!("Model \"{name}\" unregistered"));
        versions.remove(&found);
    }

    fn predict(&mut self, model: usize) {
        let version = self.any_version();
        let name = self.models[model].name.clone();
        let body = format!("{name} {}", self.done.len());
        self.done.push(format!("predict {name}{}", in_path(version)));
        let answer = self.client.predict(&name, version, &body);
        let Some(found) = self.found(model, version, &answer) else { return };
        let Workers { count, are_there } = self.models[model].versions[&found];
        match answer.status {
            200 if count > 0 || !are_there => assert_eq!(answer.text(), found.answer(&body)),
            _ if count == 0 || !are_there => {
                let of_version = version.map(|version| format!(" Version {}", version.text())).unwrap_or_default();
                let text = format!("Model \"{name}\"{of_version} has no worker to serve inference request. Please");
                let message = answer.error(503, "ServiceUnavailableException");
                assert!(message.starts_with(&text), "{message}");
            }
            _ => panic!("{} for {found:?}: {}", answer.status, answer.text()),
        }
    }

    /// Where workers were asked for in the background: waits until the server says that they are there.
    fn wait_for_workers(&mut self, model: usize, version: Version) {
        let Model { name, versions, .. } = &mut self.models[model];
        let Some(workers) = versions.get_mut(&version).filter(|workers| !workers.are_there) else { return };
        workers.are_there = true;
        let path = format!("/models/{name}{}", in_path(Some(version)));
        self.done.push(format!("wait for {} workers: {path}", workers.count));
        let expected = [told(name, version, workers.count)];
        eventually(&format!("the workers of {path} to be {expected:?}"), || {
            (described(&self.client.ask("GET", &path, "")) == expected).then_some(())
        });
    }

    /// The version that is there, or the answer says that none is.
    fn found(&self, model: usize, version: Option<Version>, answer: &Answer) -> Option<Version> {
        let Model { name, versions, default } = &self.models[model];
        if versions.is_empty() {
            assert_eq!(answer.error(404, "ModelNotFoundException"), format!("Model not found: {name}"));
            return None;
        }
        let wanted = version.unwrap_or(*default);
        if !versions.contains_key(&wanted) {
            let text = format!("Model version: {} does not exist for model: {name}", wanted.text());
            assert_eq!(answer.error(404, "ModelVersionNotFoundException"), text);
            return None;
        }
        Some(wanted)
    }

    /// None, most times: the default one is meant.
    fn any_version(&mut self) -> Option<Version> {
        let version = self.chance.of(&Version::ALL);
        (!self.chance.one_in(2)).then_some(version)
    }

    fn ask(&mut self, method: &str, path: &str, json: &str) -> Answer {
        self.done.push(format!("{method} {path} {json}"));
        self.client.ask(method, path, json)
    }
}

impl Drop for Owner<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let last = self.done.len().saturating_sub(TOLD);
            eprintln!(
                "client {} has done:\n{}\nand its models are {:#?}",
                self.number,
                self.done[last..].join("\n"),
                self.models
            );
        }
    }
}

/// What is foretold of a description.
fn told(name: &str, version: Version, workers: usize) -> Value {
    let state = if workers == 0 { "IDLE" } else { "READY" };
    json!({
        "modelName": name, "modelVersion": version.text(), "modelUrl": version.url(), "minWorkers": workers,
        "maxWorkers": workers, "workers": vec!["READY"; workers], "status": state, "loadedAtStartup": false,
    })
}

/// The same of what the server says.
fn described(answer: &Answer) -> Vec<Value> {
    let json: Value = serde_json::from_str(&answer.ok()).unwrap();
    let told = |one: &Value| {
        let keys = [
            "modelName",
            "modelVersion",
            "modelUrl",
            "minWorkers",
            "maxWorkers",
            "workers",
            "status",
            "loadedAtStartup",
        ];
        let states = |workers: &Value| workers.as_array().unwrap().iter().map(|one| one["status"].clone()).collect();
        let value = |key: &str| if key == "workers" { states(&one[key]) } else { one[key].clone() };
        keys.into_iter().map(|key| (key.to_owned(), value(key))).collect()
    };
    json.as_array().unwrap().iter().map(told).collect()
}

fn in_path(version: Option<Version>) -> String {
    version.map(|version| format!("/{}", version.text())).unwrap_or_default()
}

#[track_caller]
pub(super) fn status(answer: &Answer, code: u16) -> String {
    assert_eq!(answer.status, code, "{}", answer.text());
    answer.json()["status"].as_str().unwrap().to_owned()
}
