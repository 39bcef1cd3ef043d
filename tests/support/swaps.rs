//! What a test of swaps asks of a server: to take new files, and to tell what became of its generations.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use super::Answer;
use super::Sent;
use super::Server;
use super::eventually;

impl Server {
    /// Puts a library into the plugins path in one step, as a careful copy does.
    pub(crate) fn put_library(&self, name: &str, content: &[u8]) {
        put(&self.plugins().join(name), content);
    }

    pub(crate) fn reload(&self, model: &str) -> Answer {
        self.management(&format!("/models/{model}/reload"), &Sent::body(""))
    }

    pub(crate) fn roll_back(&self, model: &str) -> Answer {
        self.management(&format!("/models/{model}/rollback"), &Sent::body(""))
    }

    /// Reloads, and gives the record of the generation that serves now.
    #[track_caller]
    pub(crate) fn swap(&self, model: &str) -> Value {
        swapped(&self.reload(model))
    }

    /// The records of a model's generations, the latest first.
    pub(crate) fn generations(&self, model: &str) -> Vec<Value> {
        let answer = self.management(&format!("/models/{model}/generations"), &Sent::get());
        serde_json::from_str(&answer.ok()).unwrap()
    }

    pub(crate) fn generation(&self, model: &str, number: u64) -> Value {
        let all = self.generations(model);
        let found = all.iter().find(|generation| generation["generation"] == number).cloned();
        found.unwrap_or_else(|| panic!("no generation {number} in {all:#?}"))
    }

    /// Waits until a generation is retired, and gives its record.
    pub(crate) fn retired(&self, model: &str, number: u64) -> Value {
        eventually(&format!("generation {number} to be retired"), || {
            Some(self.generation(model, number)).filter(|generation| generation["state"] == "retired")
        })
    }

    /// The number of the generation that serves.
    pub(crate) fn serving(&self, model: &str) -> u64 {
        self.describe(model)["generation"].as_u64().unwrap()
    }

    /// The sum of a metric's whole numbers, over all labels among which are these.
    pub(crate) fn metric(&self, name: &str, labels: &[&str]) -> u64 {
        let text = self.metrics().ok();
        let ours = |line: &&str| {
            let rest = line.strip_prefix(name).unwrap_or_default();
            rest.starts_with([' ', '{']) && labels.iter().all(|label| line.contains(label))
        };
        text.lines().filter(ours).map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    }

    /// Waits until so many libraries are mapped.
    pub(crate) fn maps_libraries(&self, count: u64) {
        eventually(&format!("{count} libraries to be mapped"), || {
            (self.metric("sconce_libraries_mapped", &[]) == count).then_some(())
        });
    }

    /// How many private copies of libraries it has on disk.
    pub(crate) fn copies(&self) -> usize {
        files(&self.work()).iter().filter(|path| path.extension().is_some_and(|extension| extension == "so")).count()
    }

    /// The memory of its process, in bytes.
    pub(crate) fn resident(&self) -> i64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches("kB").trim().parse::<i64>().unwrap() * 1024
    }

    /// The names of its threads.
    pub(crate) fn threads(&self) -> Vec<String> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.id())).unwrap();
        // One that has ended meanwhile has no name.
        let names = tasks.filter_map(|task| fs::read_to_string(task.unwrap().path().join("comm")).ok());
        names.map(|name| name.trim_end().to_owned()).collect()
    }

    /// How many libraries are on trial: each in a child of a child that keeps such processes.
    pub(crate) fn trials(&self) -> usize {
        let processes = fs::read_dir("/proc").unwrap();
        let stats = processes.filter_map(|process| fs::read_to_string(process.unwrap().path().join("stat")).ok());
        let families: Vec<(u32, u32)> = stats
            .filter_map(|stat| {
                // The name between may hold anything, but for the last bracket.
                let (id, rest) = (stat.split(' ').next()?, stat.rsplit_once(')')?.1);
                Some((id.parse().ok()?, rest.split(' ').nth(2)?.parse().ok()?))
            })
            .collect();
        let children_of = |parent: u32| families.iter().filter(move |family| family.1 == parent).map(|family| family.0);
        children_of(self.id()).flat_map(children_of).count()
    }

    /// Waits until nothing is left of the making and the retiring of generations.
    pub(crate) fn comes_to_rest(&self) {
        eventually("the threads and processes of swaps to end", || {
            let threads = self.threads();
            let at_work = threads.iter().any(|name| name.starts_with("open") || name.starts_with("retire"));
            (!at_work && self.trials() == 0).then_some(())
        });
    }
}

/// The record of the generation that a reload or a rollback has made.
#[track_caller]
pub(crate) fn swapped(answer: &Answer) -> Value {
    let json: Value = serde_json::from_str(&answer.ok()).unwrap();
    assert_eq!(json["status"], "swapped", "{json:#}");
    json["generation"].clone()
}

/// How long a step of a generation took.
pub(crate) fn step(generation: &Value, name: &str) -> Duration {
    let milliseconds = generation["milliseconds"][name].as_f64();
    let milliseconds = milliseconds.unwrap_or_else(|| panic!("no step {name} in {generation:#}"));
    Duration::from_secs_f64(milliseconds / 1000.0)
}

/// Writes a file beside the folder, and moves it to its place.
pub(crate) fn put(place: &Path, content: &[u8]) {
    let folder = place.parent().unwrap().parent().unwrap();
    let new = folder.join("new");
    fs::write(&new, content).unwrap();
    fs::rename(&new, place).unwrap();
}

/// All files below a folder; what goes meanwhile is left out.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}
