//! One model, served by each contestant in turn: A B C, A B C, …, while those whose turn it isn't are at rest.

use std::time::Duration;

use anyhow::Result;

use super::Bench;
use super::ceiling;
use super::contestant::Contestant;
use super::contestant::Model;
use super::contestant::Place;
use super::contestant::Running;
use super::results::Closed;
use super::results::Contest;
use super::results::Entry;
use super::results::Open;
use super::results::Round;
use crate::bench::load::Generator;
use crate::bench::load::Load;
use crate::process;
use crate::workspace;

/// A contestant, while it is measured.
struct Standing<'a> {
    contestant: &'a Contestant<'a>,
    entry: Entry,
    /// `None` once it has failed.
    running: Option<Running>,
}

/// Shares of its own closed loop's throughput at which a contestant is asked in an open loop.
const SHARES: [f64; 3] = [0.25, 0.5, 0.75];

/// What all are asked at: half of what the slowest can.
const COMMON_SHARE: f64 = 0.5;

const WARM_UP_CONNECTIONS: usize = 8;

/// Measures all of it.
pub(super) fn run(bench: &Bench, model: &Model, contestants: &[Contestant<'_>]) -> Result<Contest> {
    println!("\n== {}", model.name);
    let mut standing = Vec::new();
    for contestant in contestants {
        standing.push(Standing::start(bench, model, contestant)?);
    }
    let mut contest =
        Contest { name: model.name.to_owned(), input: workspace::short(&model.input), ..Contest::default() };
    for one in &mut standing {
        one.during("warm-up", |running| load(bench, model, running, WARM_UP_CONNECTIONS, bench.plan.warm_up).run());
    }
    for round in 1..=bench.plan.rounds {
        println!("  round {round} of {}", bench.plan.rounds);
        if model.file.is_some() {
            ceiling::round(bench, model, &mut contest);
        }
        for &connections in bench.plan.connections {
            for one in &mut standing {
                bench.check_interrupted()?;
                one.closed(bench, model, connections);
            }
        }
    }
    for one in &mut standing {
        one.entry.taken = one.running.as_ref().map(|running| running.group.taken());
    }
    open(bench, model, &mut standing)?;
    contest.entries = standing.into_iter().map(|one| one.entry).collect();
    Ok(contest)
}

// === impl Standing ===

impl<'a> Standing<'a> {
    /// Starts it as often as its start is measured; the last one stays.
    fn start(bench: &Bench, model: &Model, contestant: &'a Contestant<'a>) -> Result<Self> {
        let mut entry =
            Entry { name: contestant.name.to_owned(), settings: contestant.settings(model), ..Entry::default() };
        let mut running = None;
        for start in 0..bench.plan.starts {
            // Peers take long, and the first start tells enough.
            if start > 0 && contestant.is_a_peer() {
                break;
            }
            running = None;
            match Self::start_once(bench, model, contestant, start, &mut entry) {
                Ok(started) => running = Some(started),
                Err(error) => {
                    bench.check_interrupted()?;
                    eprintln!("  {}: {error:#}", contestant.name);
                    entry.failure = Some(format!("{error:#}"));
                    break;
                }
            }
        }
        if let Some(running) = &running {
            println!("  {} answers {:.2} s after its start: {}", contestant.name, running.seconds, running.answer);
            running.group.pause();
        }
        Ok(Self { contestant, entry, running })
    }

    fn start_once(
        bench: &Bench,
        model: &Model,
        contestant: &Contestant<'_>,
        start: usize,
        entry: &mut Entry,
    ) -> Result<Running> {
        let folder = bench.folder.join(format!("{}-{}-{start}", model.name, contestant.name.replace(' ', "-")));
        let place = Place::new(folder)?;
        let (command, url) = contestant.prepare(model, &bench.programs, &place)?;
        entry.command = process::shown(&command);
        let running = Running::start(command, &[url], &model.input, &place, &bench.interrupted)?;
        entry.started.push(running.seconds);
        entry.answer.clone_from(&running.answer);
        Ok(running)
    }

    fn closed(&mut self, bench: &Bench, model: &Model, connections: usize) {
        let round = self.during(&format!("{connections} connections"), |running| {
            let before = running.group.taken().cpu_seconds;
            let seen = load(bench, model, running, connections, bench.plan.round).run()?;
            Ok(Round { seen, cpu_seconds: running.group.taken().cpu_seconds - before })
        });
        let Some(round) = round else { return };
        println!(
            "    {:20} {connections:3} connections: {:8.0} requests/s, p50 {:.2} ms, p99 {:.2} ms{}",
            self.contestant.name,
            round.seen.requests_per_second,
            round.seen.p50,
            round.seen.p99,
            if round.seen.errors > 0 { format!(", {} errors", round.seen.errors) } else { String::new() }
        );
        match self.entry.closed.iter_mut().find(|closed| closed.connections == connections) {
            Some(closed) => closed.rounds.push(round),
            None => self.entry.closed.push(Closed { connections, rounds: vec![round] }),
        }
    }

    fn open(&mut self, bench: &Bench, model: &Model, generator: &Generator, share: &str, rate: f64) {
        let seen = self.during(&format!("{rate:.0} requests/s"), |running| {
            let most = bench.plan.connections.iter().copied().max().unwrap_or(1);
            let closed = load(bench, model, running, most, bench.plan.open);
            Load { generator: generator.clone(), rate: Some(rate), ..closed }.run()
        });
        let Some(seen) = seen else { return };
        println!(
            "    {:20} open loop, {rate:.0} requests/s ({share}): p50 {:.2} ms, p99 {:.2} ms",
            self.contestant.name, seen.p50, seen.p99
        );
        self.entry.open.push(Open { share: share.to_owned(), rate, seen });
    }

    /// Does this while only this one runs. A failure is its own and ends its part.
    fn during<T>(&mut self, what: &str, work: impl FnOnce(&Running) -> Result<T>) -> Option<T> {
        let running = self.running.as_ref()?;
        running.group.resume();
        // What the generator has given up when its time was over is still computed: not on the next one's time, and not
        // on this one's next turn.
        match work(running).and_then(|done| running.settle().map(|()| done)) {
            Ok(done) => {
                running.group.pause();
                Some(done)
            }
            Err(error) => {
                let text = format!("{what}: {error:#}; its last words were:\n{}", running.group.said());
                eprintln!("  {}: {text}", self.contestant.name);
                self.entry.failure = Some(text);
                self.running = None;
                None
            }
        }
    }
}

/// Open loops: each at shares of what it can by itself, then all at one rate.
fn open(bench: &Bench, model: &Model, standing: &mut [Standing<'_>]) -> Result<()> {
    let Some(generator) = &bench.open_loop else { return Ok(()) };
    if bench.plan.open.is_zero() {
        return Ok(());
    }
    for share in SHARES {
        for one in &mut *standing {
            bench.check_interrupted()?;
            if let Some(most) = one.entry.best() {
                let shown = format!("{:.0} % of its own", share * 100.0);
                one.open(bench, model, generator, &shown, most * share);
            }
        }
    }
    let slowest = standing.iter().filter(|one| one.running.is_some()).filter_map(|one| one.entry.best());
    if let Some(slowest) = slowest.min_by(f64::total_cmp) {
        for one in &mut *standing {
            bench.check_interrupted()?;
            one.open(bench, model, generator, "the same for all", slowest * COMMON_SHARE);
        }
    }
    Ok(())
}

fn load(bench: &Bench, model: &Model, running: &Running, connections: usize, time: Duration) -> Load {
    Load {
        generator: bench.closed_loop.clone(),
        urls: vec![running.url.clone()],
        body: model.input.clone(),
        connections,
        time,
        rate: None,
    }
}
