//! Requests under load, in rounds without swaps and rounds with one swap a second, in turns.

use std::path::Path;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use anyhow::Result;

use super::Bench;
use super::Plan;
use super::picture;
use super::steps::Taken;
use crate::bench::figures::Bar;
use crate::bench::figures::Spread;
use crate::bench::load::Generator;
use crate::bench::load::Load;
use crate::bench::load::Seen;
use crate::bench::plugin::Plugin;
use crate::bench::report::Section;
use crate::bench::site::Site;
use crate::bench::table::Table;

/// All rounds of one model with one number of connections.
#[derive(Debug, Default)]
struct Rounds {
    without: Vec<Seen>,
    with: Vec<Seen>,
    /// New builds, and what the server made of them.
    puts: u64,
    made: u64,
    refused: u64,
}

/// p99 with swaps, as a multiple of the p99 without.
const RATIO: Bar = Bar { limit: 1.5, unit: "" };

/// One swap in each.
const INTERVAL: Duration = Duration::from_secs(1);

pub(super) fn measure(bench: &Bench, oha: &Path, taken: &mut Vec<Taken>) -> Result<Section> {
    let plan = bench.plan;
    let mut plugins = [bench.echo()?, bench.mnist()?];
    let site = Site::start(&bench.programs, &plugins.each_ref(), &[], &bench.interrupted)?;
    let mut requests = Table::new(["model", "connections", "swaps", "requests/s", "p50 ms", "p99 ms", "errors"]);
    let mut ratios = Table::new(["p99 with swaps / p99 without", "connections", "ratio", "bar", ""]);
    site.during(|site| {
        for plugin in &mut plugins {
            let mut of_this_model =
                Taken::after(site.generation(plugin.model())?, format!("{} under load", plugin.model()));
            for &connections in plan.connections {
                let load = Load {
                    generator: Generator::Oha { program: oha.to_owned() },
                    urls: vec![site.prediction_url(plugin.model())?],
                    body: picture(),
                    connections,
                    time: plan.round,
                    rate: None,
                };
                let rounds = Rounds::of(site, plugin, &load, &plan, &mut of_this_model)?;
                rounds.tell(plugin.model(), connections, &mut requests, &mut ratios);
            }
            taken.push(of_this_model);
        }
        Ok(())
    })?;
    Ok(Section {
        title: "Latency during one swap a second",
        method: format!(
            "Closed loop by oha, {} rounds of {} s each without swaps and with, in turns; \
             median of the rounds (lowest–highest). The ratio is of each round with swaps to the round before it.",
            plan.rounds,
            plan.round.as_secs()
        ),
        tables: vec![requests, ratios],
    })
}

// === impl Rounds ===

impl Rounds {
    fn of(site: &Site<'_>, plugin: &mut Plugin, load: &Load, plan: &Plan, taken: &mut Taken) -> Result<Self> {
        println!(
            "{}, {} connections: {} rounds of {} s without swaps and with, in turns …",
            plugin.model(),
            load.connections,
            plan.rounds,
            plan.round.as_secs()
        );
        Load { time: plan.warm_up, ..load.clone() }.run()?;
        let mut rounds = Self::default();
        for _ in 0..plan.rounds {
            rounds.without.push(load.run()?);
            site.check_interrupted()?;
            rounds.with_swaps(site, plugin, load, taken)?;
        }
        Ok(rounds)
    }

    /// One round, with a new build every second from its first half second on.
    fn with_swaps(&mut self, site: &Site<'_>, plugin: &mut Plugin, load: &Load, taken: &mut Taken) -> Result<()> {
        let before = site.swaps(plugin.model())?;
        let running = load.start()?;
        let started = Instant::now();
        let mut puts = 0;
        let mut due = INTERVAL / 2;
        while due < load.time {
            let build = plugin.next()?;
            thread::sleep(due.saturating_sub(started.elapsed()));
            site.check_interrupted()?;
            site.put(plugin, &build)?;
            puts += 1;
            due += INTERVAL;
        }
        self.with.push(running.finish()?);
        let since = site.swaps_since(plugin.model(), before, puts)?;
        self.puts += puts;
        self.made += since.made;
        self.refused += since.refused;
        taken.add(site.generations(plugin.model())?);
        Ok(())
    }

    fn tell(&self, model: &str, connections: usize, requests: &mut Table, ratios: &mut Table) {
        for (seen, swaps) in [(&self.without, "none".to_owned()), (&self.with, self.swaps())] {
            let spread = |figure: fn(&Seen) -> f64, decimals| {
                Spread::of(seen.iter().map(figure)).map_or_else(String::new, |spread| spread.shown(decimals))
            };
            requests.row([
                model.to_owned(),
                connections.to_string(),
                swaps,
                spread(|seen| seen.requests_per_second, 0),
                spread(|seen| seen.p50, 2),
                spread(|seen| seen.p99, 2),
                errors(seen),
            ]);
        }
        if let Some(ratio) = Spread::of(self.ratios()) {
            let (connections, bar) = (connections.to_string(), format!("≤ {}", RATIO.limit));
            ratios.row([model.to_owned(), connections, ratio.shown(2), bar, RATIO.judge(ratio.median)]);
        }
    }

    /// How many there were, and how many there should have been.
    fn swaps(&self) -> String {
        let Self { puts, made, refused, .. } = self;
        match (puts == made, refused) {
            (true, 0) => made.to_string(),
            (false, 0) => format!("{made} of {puts}"),
            _ => format!("{made} of {puts}, {refused} refused"),
        }
    }

    /// Of each pair of rounds.
    fn ratios(&self) -> impl Iterator<Item = f64> {
        self.without.iter().zip(&self.with).map(|(without, with)| with.p99 / without.p99)
    }
}

/// Their number, and what they were.
fn errors(seen: &[Seen]) -> String {
    let count: u64 = seen.iter().map(|seen| seen.errors).sum();
    if count == 0 {
        return "0".to_owned();
    }
    let kinds: Vec<&str> = seen.iter().flat_map(|seen| &seen.kinds).map(String::as_str).collect();
    format!("{count} ({})", kinds.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(p99: f64, errors: u64) -> Seen {
        let kinds = if errors > 0 { vec![format!("503: {errors}")] } else { Vec::new() };
        Seen { requests_per_second: 1000.0, answered: 5000, p50: 1.0, p99, p999: p99, errors, kinds }
    }

    #[test]
    fn rounds_are_compared_pair_by_pair() {
        let rounds = Rounds {
            without: vec![seen(2.0, 0), seen(4.0, 0)],
            with: vec![seen(4.0, 0), seen(5.0, 3)],
            puts: 11,
            made: 10,
            refused: 1,
        };
        assert_eq!(rounds.ratios().collect::<Vec<_>>(), [2.0, 1.25]);
        let (mut requests, mut ratios) = (Table::new(["", "", "", "", "", "", ""]), Table::new(["", "", "", "", ""]));
        rounds.tell("echo", 32, &mut requests, &mut ratios);
        let text = requests.markdown();
        assert!(
            text.contains("| echo | 32 | none | 1000 (1000–1000) | 1.00 (1.00–1.00) | 3.00 (2.00–4.00) | 0 |"),
            "{text}"
        );
        assert!(text.contains("| echo | 32 | 10 of 11, 1 refused |"), "{text}");
        assert!(text.ends_with("| 4.50 (4.00–5.00) | 3 (503: 3) |"), "{text}");
        let text = ratios.markdown();
        assert!(text.ends_with("| echo | 32 | 1.62 (1.25–2.00) | ≤ 1.5 | missed by 0.12 (8 %) |"), "{text}");
    }
}
