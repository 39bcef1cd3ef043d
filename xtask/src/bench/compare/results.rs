//! What a comparison has measured: plain figures, and the same as JSON.

use serde_json::Value;
use serde_json::json;

use super::group::Taken;
use crate::bench::figures::Spread;
use crate::bench::load::Seen;

/// One model, and all that served it.
#[derive(Debug, Default)]
pub(super) struct Contest {
    /// As `mnist`.
    pub(super) name: String,
    /// What was sent.
    pub(super) input: String,
    pub(super) entries: Vec<Entry>,
    /// libtorch alone.
    pub(super) ceiling: Vec<Alone>,
    /// Why there is none, where there should be.
    pub(super) ceiling_failure: Option<String>,
}

/// One contestant.
#[derive(Debug, Default)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) settings: String,
    pub(super) command: String,
    /// Why it isn't measured, or not further.
    pub(super) failure: Option<String>,
    /// What it said to the input.
    pub(super) answer: String,
    /// Seconds from the start to the first answer.
    pub(super) started: Vec<f64>,
    pub(super) closed: Vec<Closed>,
    pub(super) open: Vec<Open>,
    /// After all closed loops.
    pub(super) taken: Option<Taken>,
}

/// A closed loop with so many connections, round by round.
#[derive(Debug)]
pub(super) struct Closed {
    pub(super) connections: usize,
    pub(super) rounds: Vec<Round>,
}

#[derive(Debug)]
pub(super) struct Round {
    pub(super) seen: Seen,
    /// Of the server's processes.
    pub(super) cpu_seconds: f64,
}

/// An open loop.
#[derive(Debug)]
pub(super) struct Open {
    /// As `50 % of its own`.
    pub(super) share: String,
    pub(super) rate: f64,
    pub(super) seen: Seen,
}

/// Calls of the model by libtorch alone, round by round.
#[derive(Debug)]
pub(super) struct Alone {
    pub(super) form: String,
    pub(super) batch: u64,
    pub(super) threads: u64,
    pub(super) per_second: Vec<f64>,
    pub(super) failure: Option<String>,
}

/// The form of an AOTInductor package, which has no others.
pub(super) const PACKAGE: &str = "pt2";
/// The form that libtorch doesn't offer for TorchScript by itself: Sconce makes it.
pub(super) const FUSED: &str = "fused";

// === impl Contest ===

impl Contest {
    pub(super) fn entry(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.name == name)
    }

    /// The fastest that libtorch alone is with so many threads and the TorchScript model.
    pub(super) fn best_alone(&self, threads: usize) -> Option<&Alone> {
        self.fastest(|alone| alone.threads == threads as u64 && alone.form != PACKAGE)
    }

    /// The same in a form that libtorch offers by itself.
    pub(super) fn best_of_libtorch(&self, threads: usize) -> Option<&Alone> {
        self.fastest(|alone| alone.threads == threads as u64 && ![PACKAGE, FUSED].contains(&alone.form.as_str()))
    }

    /// The same with the package.
    pub(super) fn best_package(&self, threads: usize) -> Option<&Alone> {
        self.fastest(|alone| alone.threads == threads as u64 && alone.form == PACKAGE)
    }

    fn fastest(&self, wanted: impl Fn(&Alone) -> bool) -> Option<&Alone> {
        let measured = self.ceiling.iter().filter(|alone| alone.median().is_some() && wanted(alone));
        measured.max_by(|one, other| one.median().unwrap_or(0.0).total_cmp(&other.median().unwrap_or(0.0)))
    }

    pub(super) fn alone(&self, form: &str, batch: u64, threads: usize) -> Option<&Alone> {
        let same = |alone: &&Alone| (alone.form.as_str(), alone.batch, alone.threads) == (form, batch, threads as u64);
        self.ceiling.iter().find(same)
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "model": self.name,
            "input": self.input,
            "libtorchAlone": self.ceiling.iter().map(Alone::json).collect::<Vec<_>>(),
            "libtorchAloneFailure": self.ceiling_failure,
            "contestants": self.entries.iter().map(Entry::json).collect::<Vec<_>>(),
        })
    }
}

// === impl Entry ===

impl Entry {
    pub(super) fn closed(&self, connections: usize) -> Option<&Closed> {
        self.closed.iter().find(|closed| closed.connections == connections && !closed.rounds.is_empty())
    }

    /// Requests a second, at the number of connections where they are most.
    pub(super) fn best(&self) -> Option<f64> {
        self.closed.iter().filter_map(|closed| Some(closed.spread(Round::throughput)?.median)).max_by(f64::total_cmp)
    }

    pub(super) fn median_start(&self) -> Option<f64> {
        Spread::of(self.started.iter().copied()).map(|spread| spread.median)
    }

    fn json(&self) -> Value {
        json!({
            "name": self.name,
            "settings": self.settings,
            "command": self.command,
            "failure": self.failure,
            "answer": self.answer,
            "secondsToFirstAnswer": self.started,
            "processes": self.taken.map(|taken| taken.processes),
            "residentBytes": self.taken.map(|taken| taken.resident_bytes),
            "proportionalBytes": self.taken.map(|taken| taken.proportional_bytes),
            "closedLoop": self.closed.iter().map(Closed::json).collect::<Vec<_>>(),
            "openLoop": self.open.iter().map(Open::json).collect::<Vec<_>>(),
        })
    }
}

// === impl Closed ===

impl Closed {
    pub(super) fn spread(&self, figure: impl Fn(&Round) -> f64) -> Option<Spread> {
        Spread::of(self.rounds.iter().map(figure))
    }

    fn json(&self) -> Value {
        let rounds = self.rounds.iter().map(|round| {
            let mut json = seen(&round.seen);
            json["cpuSeconds"] = json!(round.cpu_seconds);
            json
        });
        json!({ "connections": self.connections, "rounds": rounds.collect::<Vec<_>>() })
    }
}

// === impl Round ===

impl Round {
    pub(super) fn throughput(&self) -> f64 {
        self.seen.requests_per_second
    }

    /// Microseconds of processor time that the server takes for a request.
    pub(super) fn cpu_per_request(&self) -> f64 {
        let requests = self.seen.answered + self.seen.errors;
        self.cpu_seconds / requests.max(1) as f64 * 1e6
    }
}

// === impl Open ===

impl Open {
    fn json(&self) -> Value {
        let mut json = seen(&self.seen);
        json["share"] = json!(self.share);
        json["rate"] = json!(self.rate);
        json
    }
}

// === impl Alone ===

impl Alone {
    pub(super) fn median(&self) -> Option<f64> {
        Spread::of(self.per_second.iter().copied()).map(|spread| spread.median)
    }

    fn json(&self) -> Value {
        json!({
            "form": self.form,
            "batch": self.batch,
            "threads": self.threads,
            "perSecond": self.per_second,
            "failure": self.failure,
        })
    }
}

fn seen(seen: &Seen) -> Value {
    json!({
        "requestsPerSecond": seen.requests_per_second,
        "answered": seen.answered,
        "p50Ms": seen.p50,
        "p99Ms": seen.p99,
        "p999Ms": seen.p999,
        "errors": seen.errors,
        "errorKinds": seen.kinds,
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A contestant that answered so many requests a second in each round, at 8 connections.
    pub(in super::super) fn entry(name: &str, per_second: &[f64]) -> Entry {
        let rounds = per_second.iter().map(|&requests_per_second| Round {
            seen: Seen {
                requests_per_second,
                answered: 1000,
                p50: 1.0,
                p99: 2.0,
                p999: 4.0,
                errors: 0,
                kinds: Vec::new(),
            },
            cpu_seconds: 0.1,
        });
        Entry {
            name: name.to_owned(),
            closed: vec![Closed { connections: 8, rounds: rounds.collect() }],
            started: vec![0.5],
            taken: Some(Taken {
                processes: 1,
                resident_bytes: 100_000_000,
                proportional_bytes: 90_000_000,
                cpu_seconds: 1.0,
            }),
            ..Entry::default()
        }
    }

    pub(in super::super) fn alone(form: &str, batch: u64, threads: u64, per_second: &[f64]) -> Alone {
        Alone { form: form.to_owned(), batch, threads, per_second: per_second.to_vec(), failure: None }
    }

    #[test]
    fn the_best_are_found() {
        let mut contest = Contest { entries: vec![entry("a", &[100.0, 300.0, 200.0])], ..Contest::default() };
        contest.ceiling = vec![
            alone("asLoaded", 1, 2, &[500.0]),
            alone("optimized", 8, 2, &[700.0, 900.0]),
            alone("asLoaded", 1, 1, &[9e9]),
        ];
        assert_eq!(contest.entry("a").unwrap().best(), Some(200.0));
        assert_eq!(contest.best_alone(2).map(|best| best.form.as_str()), Some("optimized"));
        assert!(contest.best_alone(4).is_none() && contest.best_package(2).is_none());
        contest.ceiling.push(alone(PACKAGE, 1, 2, &[1000.0]));
        assert_eq!(contest.best_alone(2).map(|best| best.form.as_str()), Some("optimized"));
        assert!(contest.best_package(2).is_some());
        let round = &contest.entries[0].closed[0].rounds[0];
        assert!((round.cpu_per_request() - 100.0).abs() < 1e-9);
    }

    #[test]
    fn the_json_holds_every_round() {
        let contest =
            Contest { name: "mnist".to_owned(), entries: vec![entry("a", &[100.0, 300.0])], ..Contest::default() };
        let json = contest.json();
        assert_eq!(json["contestants"][0]["closedLoop"][0]["rounds"][1]["requestsPerSecond"], 300.0);
        assert_eq!(json["contestants"][0]["residentBytes"], 100_000_000);
        assert_eq!(json["libtorchAlone"], json!([]));
    }
}
