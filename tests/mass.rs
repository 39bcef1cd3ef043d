//! Many clients at once: every one gets its own answer.

use std::collections::HashSet;
use std::sync::Mutex;
use std::thread;

use crate::support::Archive;
use crate::support::Setup;

const CLIENTS: usize = 32;
const REQUESTS: usize = 200;

#[test]
fn every_one_of_many_gets_its_own_answer() {
    let server = Setup::with_echo()
        .model(&Archive::new("many", "echo").config("batchSize: 8\nmaxBatchDelay: 2\nminWorkers: 3\nmaxWorkers: 3\n"))
        .start();
    let ids = Mutex::new(HashSet::new());
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (server, ids) = (&server, &ids);
            scope.spawn(move || {
                for number in 0..REQUESTS {
                    // Of every length up to some thousand bytes, and none like another.
                    let body = format!("{client}/{number} ").repeat((client * 31 + number * 7) % 300 + 1);
                    let model = if number % 2 == 0 { "many" } else { "echo" };
                    let answer = server.predict(model, &body);
                    assert_eq!(answer.ok(), body);
                    let id = answer.header("x-request-id").unwrap().to_owned();
                    assert!(ids.lock().unwrap().insert(id), "an id came twice");
                }
            });
        }
    });
    assert_eq!(ids.lock().unwrap().len(), CLIENTS * REQUESTS);
    let metrics = server.metrics().ok();
    let counted: usize = metrics
        .lines()
        .filter(|line| line.starts_with("ts_inference_requests_total{"))
        .map(|line| line.rsplit(' ').next().unwrap().parse::<usize>().unwrap())
        .sum();
    assert_eq!(counted, CLIENTS * REQUESTS, "{metrics}");
}
