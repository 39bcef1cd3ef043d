//! Hundreds of swaps while 32 clients ask without a pause: each is answered by one of two builds, and the memory stays.
//!
//! `SCONCE_TEST_SWAPS` says how many swaps there are.

use std::time::Duration;
use std::time::Instant;

use super::setup;
use crate::support::Load;
use crate::support::Server;
use crate::support::Tally;
use crate::support::build_of;
use crate::support::eventually;
use crate::support::fixture;
use crate::support::step;

/// So few that every generation is remembered.
const WARM_UP: u32 = 30;

/// How much the memory of the server may grow after the first swaps.
const GROWTH: i64 = 20 << 20;

/// Batches and two workers, so that a swap meets each in another state.
pub(super) const CONFIG: &str = "batchSize: 4\nmaxBatchDelay: 1\nminWorkers: 2\nmaxWorkers: 2\n";

fn swaps() -> u32 {
    let number = std::env::var("SCONCE_TEST_SWAPS").ok();
    number.map_or(200, |text| text.parse().unwrap())
}

/// Two builds of a fixture that take turns.
struct Turns<'a> {
    server: &'a Server,
    model: String,
    file: String,
    builds: [Vec<u8>; 2],
    done: u32,
    publish: Vec<Duration>,
}

impl<'a> Turns<'a> {
    fn new(server: &'a Server, package: &str) -> Self {
        let library = fixture(package);
        Self {
            server,
            model: package.replace('-', "_"),
            file: library.file_name().unwrap().to_str().unwrap().to_owned(),
            builds: [0, 1].map(|number| build_of(&library, number)),
            done: 0,
            publish: Vec::new(),
        }
    }

    /// Swaps under load, and waits after each until somebody was answered.
    fn take(&mut self, count: u32) -> Tally {
        let (server, model) = (self.server, self.model.clone());
        let ((), tally) = Load::new(server, &model, 0..2).during(|come| {
            for _ in 0..count {
                self.swap();
                let before = come();
                eventually("an answer after the swap", || (come() > before).then_some(()));
            }
        });
        server.comes_to_rest();
        tally
    }

    fn swap(&mut self) {
        self.done += 1;
        self.server.put_library(&self.file, &self.builds[self.done as usize % 2]);
        let generation = self.server.swap(&self.model);
        self.publish.push(step(&generation, "publish"));
    }

    /// The median and the longest time that the queue took to change hands.
    fn publish(&mut self) -> (Duration, Duration) {
        self.publish.sort_unstable();
        (self.publish[self.publish.len() / 2], self.publish[self.publish.len() - 1])
    }
}

/// Swaps many times under load: every request is answered once, and the memory stays as it was after the first swaps.
pub(super) fn swap_many(server: &Server, package: &str) -> Tally {
    let mut turns = Turns::new(server, package);
    let mut tally = turns.take(WARM_UP);
    let model = turns.model.clone();
    let generations = server.generations(&model);
    let counted: u64 = generations.iter().map(|generation| generation["requests"].as_u64().unwrap()).sum();
    assert_eq!((generations.len(), counted), (WARM_UP as usize + 1, tally.all_answered()), "by the generations' count");

    let (resident, started) = (server.resident(), Instant::now());
    let count = swaps();
    tally.add(&turns.take(count));
    let (time, growth) = (started.elapsed(), server.resident() - resident);
    let (median, longest) = turns.publish();
    eprintln!(
        "{package}: {count} swaps and {} requests in {time:.1?}; publish {median:.1?} in the median, {longest:.1?} at most; {} KiB more resident",
        tally.sent,
        growth / 1024
    );

    assert_eq!(tally.sent, tally.all_answered());
    assert!(tally.answered.len() == 2, "both builds answered: {:?}", tally.answered);
    let label = format!("model_name=\"{model}\"");
    let sum = |metric, labels: &[&str]| server.metric(metric, labels);
    assert_eq!(sum("ts_inference_requests_total", &[&label]), tally.sent);
    assert_eq!(sum("sconce_swaps_total", &["outcome=\"swapped\""]), u64::from(count + WARM_UP));
    assert_eq!(server.generations(&model)[0]["state"], "serving");
    assert!(growth < GROWTH, "{growth} bytes more");
    // The last one and `echo`.
    server.maps_libraries(2);
    // Those two, and three that could be gone back to.
    eventually("the copies to go", || (server.copies() == 5).then_some(()));
    server.still_serves();
    tally
}

#[test]
fn no_request_is_lost_and_the_memory_stays() {
    let server = setup("tells-its-build", CONFIG).start();
    swap_many(&server, "tells-its-build");
    assert_eq!(server.metric("sconce_model_loads_total", &[]), 0, "there is no model to load");
}

#[test]
fn thread_locals_with_destructors_leave_nothing() {
    let server = setup("keeps-thread-locals", CONFIG).start();
    swap_many(&server, "keeps-thread-locals");
}

#[test]
fn a_library_that_is_retained_costs_what_it_maps() {
    const SWAPS: u32 = 100;
    let server = setup("tells-its-build", CONFIG).property("sconce_unload", "retain").start();
    let mut turns = Turns::new(&server, "tells-its-build");
    let before = (server.metric("sconce_library_bytes_mapped", &[]), server.resident());
    for _ in 0..SWAPS {
        turns.swap();
    }
    server.comes_to_rest();
    let mapped = (server.metric("sconce_library_bytes_mapped", &[]) - before.0) / u64::from(SWAPS);
    let resident = (server.resident() - before.1) / i64::from(SWAPS);
    eprintln!("retain: {} KiB mapped and {} KiB resident a swap", mapped / 1024, resident / 1024);
    // With the first one and `echo`.
    server.maps_libraries(u64::from(SWAPS) + 2);
    let retired = server.generations("tells_its_build").pop().unwrap();
    let text = retired["loaded"]["text"].as_str().unwrap();
    assert!(text.ends_with("stay mapped, as configured"), "{text}");
    assert!(retired["loaded"]["mappedBytes"].as_u64().unwrap() > 0, "{retired:#}");
}
