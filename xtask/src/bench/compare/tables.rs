//! Tables of a comparison: a column for each contestant, and the best of each row in bold.

use super::BARE;
use super::SCONCE;
use super::results::Alone;
use super::results::Closed;
use super::results::Contest;
use super::results::Entry;
use super::results::Round;
use super::scale::Scale;
use crate::bench::figures::Spread;
use crate::bench::table::Table;

/// A figure of a closed loop, and how it is told.
struct Figure {
    name: &'static str,
    of: fn(&Round) -> f64,
    decimals: usize,
    best: Best,
    /// Whether a peer that is ahead in it is told as winning.
    counts: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Best {
    Highest,
    Lowest,
}

/// A place where somebody else is ahead of Sconce.
#[derive(Debug, PartialEq)]
pub(super) struct Ahead {
    pub(super) model: String,
    pub(super) connections: usize,
    pub(super) figure: &'static str,
    pub(super) peer: String,
    pub(super) theirs: f64,
    pub(super) ours: f64,
}

const FIGURES: [Figure; 5] = [
    Figure { name: "requests/s", of: Round::throughput, decimals: 0, best: Best::Highest, counts: true },
    Figure { name: "p50 ms", of: |round| round.seen.p50, decimals: 2, best: Best::Lowest, counts: true },
    Figure { name: "p99 ms", of: |round| round.seen.p99, decimals: 2, best: Best::Lowest, counts: true },
    Figure { name: "p99.9 ms", of: |round| round.seen.p999, decimals: 2, best: Best::Lowest, counts: true },
    Figure { name: "CPU µs/request", of: Round::cpu_per_request, decimals: 0, best: Best::Lowest, counts: true },
];

const NOTHING: &str = "–";
const MEGABYTE: f64 = 1e6;

/// Throughput, latency and errors under closed loops.
pub(super) fn closed(contest: &Contest, connections: &[usize]) -> Table {
    let mut table = table(contest, "connections, figure");
    for &connections in connections {
        for figure in &FIGURES {
            let spreads = contest.entries.iter().map(|entry| entry.closed(connections)?.spread(figure.of)).collect();
            row(&mut table, format!("{connections}, {}", figure.name), spreads, figure);
        }
        let errors = contest.entries.iter().map(|entry| entry.closed(connections).map_or(NOTHING.to_owned(), errors));
        table.row(std::iter::once(format!("{connections}, errors")).chain(errors));
    }
    table
}

/// Latency at fixed rates.
pub(super) fn open(contest: &Contest) -> Option<Table> {
    let mut shares: Vec<&str> = Vec::new();
    for open in contest.entries.iter().flat_map(|entry| &entry.open) {
        if !shares.contains(&open.share.as_str()) {
            shares.push(&open.share);
        }
    }
    if shares.is_empty() {
        return None;
    }
    let mut table = table(contest, "rate");
    for share in shares {
        let cells = contest.entries.iter().map(|entry| {
            let open = entry.open.iter().find(|open| open.share == share);
            open.map_or(NOTHING.to_owned(), |open| {
                let seen = &open.seen;
                let errors = if seen.errors > 0 { format!(", {} errors", seen.errors) } else { String::new() };
                format!("{:.0}/s: {:.2} / {:.2} / {:.2}{errors}", open.rate, seen.p50, seen.p99, seen.p999)
            })
        });
        table.row(std::iter::once(share.to_owned()).chain(cells));
    }
    Some(table)
}

/// Start-up and memory.
pub(super) fn footprint(contest: &Contest) -> Table {
    let mut table = table(contest, "figure");
    let single = |figure: Option<f64>| Spread::of(figure);
    let lowest = |decimals| Figure { name: "", of: |_| 0.0, decimals, best: Best::Lowest, counts: true };
    let starts = contest.entries.iter().map(|entry| Spread::of(entry.started.iter().copied())).collect();
    row(&mut table, "seconds to the first answer".to_owned(), starts, &lowest(2));
    let memory = |bytes: fn(&super::group::Taken) -> u64| {
        let of = |entry: &Entry| single(entry.taken.as_ref().map(|taken| bytes(taken) as f64 / MEGABYTE));
        contest.entries.iter().map(of).collect::<Vec<_>>()
    };
    row(&mut table, "resident MB".to_owned(), memory(|taken| taken.resident_bytes), &lowest(0));
    row(
        &mut table,
        "of it, shared pages counted once, MB".to_owned(),
        memory(|taken| taken.proportional_bytes),
        &lowest(0),
    );
    let processes = |entry: &Entry| entry.taken.map_or(NOTHING.to_owned(), |taken| taken.processes.to_string());
    table.row(std::iter::once("processes".to_owned()).chain(contest.entries.iter().map(processes)));
    table
}

/// Who they are, and why one is missing.
pub(super) fn contestants(contest: &Contest) -> Table {
    let mut table = Table::new(["contestant", "settings", "what it answers"]);
    for entry in &contest.entries {
        let answer = match &entry.failure {
            Some(failure) => format!("not measured, or not to the end: {}", failure.lines().next().unwrap_or_default()),
            None => format!("`{}`", entry.answer.replace('|', " ")),
        };
        table.row([entry.name.clone(), entry.settings.clone(), answer]);
    }
    table
}

/// libtorch alone, inputs a second.
pub(super) fn alone(contest: &Contest, cores: usize) -> Option<Table> {
    if contest.ceiling.is_empty() {
        return None;
    }
    let mut threads = vec![1];
    if cores > 1 {
        threads.push(cores as u64);
    }
    let head = threads.iter().map(|threads| format!("{threads} threads, inputs/s"));
    let mut table = Table::new(["form".to_owned(), "batch".to_owned()].into_iter().chain(head));
    let best = contest.best_alone(cores).and_then(Alone::median);
    let mut seen: Vec<(&str, u64)> = Vec::new();
    for row in &contest.ceiling {
        let key = (row.form.as_str(), row.batch);
        if seen.contains(&key) {
            continue;
        }
        seen.push(key);
        let cells = threads.iter().map(|threads| {
            let alone = contest.alone(key.0, key.1, *threads as usize);
            match alone.map(|alone| (alone, Spread::of(alone.per_second.iter().copied()))) {
                Some((_, Some(spread))) if Some(spread.median) == best => format!("**{}**", spread.shown(0)),
                Some((_, Some(spread))) => spread.shown(0),
                Some((alone, None)) => alone.failure.clone().unwrap_or_else(|| NOTHING.to_owned()),
                None => NOTHING.to_owned(),
            }
        });
        table.row([key.0.to_owned(), key.1.to_string()].into_iter().chain(cells));
    }
    Some(table)
}

/// Sconce's throughput as a multiple of everybody else's.
pub(super) fn ratios(contest: &Contest, connections: &[usize], cores: usize) -> Option<Table> {
    let ours = contest.entry(SCONCE)?;
    let at = |entry: &Entry, connections| Some(entry.closed(connections)?.spread(Round::throughput)?.median);
    let head = connections.iter().map(|connections| format!("{connections} connections"));
    let mut table =
        Table::new(std::iter::once("Sconce / …".to_owned()).chain(head).chain(["each at its best".to_owned()]));
    let mut add = |name: &str, theirs: &dyn Fn(Option<usize>) -> Option<f64>| {
        let mine = |connections: Option<usize>| connections.map_or_else(|| ours.best(), |number| at(ours, number));
        let columns = connections.iter().map(|number| Some(*number)).chain([None]);
        let cells: Vec<String> = columns
            .map(|column| {
                let ratio = mine(column).zip(theirs(column)).map(|(mine, theirs)| mine / theirs);
                ratio.map_or(NOTHING.to_owned(), |ratio| format!("{ratio:.2}"))
            })
            .collect();
        table.row(std::iter::once(name.to_owned()).chain(cells));
    };
    if let Some(best) = contest.best_alone(cores) {
        add(&format!("libtorch alone at its best, {cores} threads"), &|_| best.median());
    }
    if let Some(package) = contest.best_package(cores) {
        add(&format!("libtorch alone with the .pt2, {cores} threads"), &|_| package.median());
    }
    if let Some(plain) = contest.alone("asLoaded", 1, cores) {
        add(&format!("libtorch alone as loaded, batch 1, {cores} threads"), &|_| plain.median());
    }
    for entry in contest.entries.iter().filter(|entry| entry.name != SCONCE) {
        add(&entry.name, &|connections| connections.map_or_else(|| entry.best(), |number| at(entry, number)));
    }
    Some(table)
}

/// Memory of workers, and the cost of a request among many models.
pub(super) fn scale(scale: &Scale) -> Vec<Table> {
    let mut workers = Table::new(["workers of ResNet-18", "resident MB"]);
    for one in &scale.workers {
        workers.row([one.count.to_string(), format!("{:.0}", one.resident_bytes as f64 / MEGABYTE)]);
    }
    let mut crowds = Table::new([
        "model, batching",
        "models loaded",
        "requests/s",
        "CPU µs/request",
        "times one model's",
        "errors",
        "resident MB",
        "s until all answer",
    ]);
    for crowd in &scale.crowds {
        let spread = |figure: fn(&Round) -> f64| {
            Spread::of(crowd.rounds.iter().map(figure)).map_or(NOTHING.to_owned(), |spread| spread.shown(0))
        };
        let ratio = scale.cost_ratio(crowd.model, crowd.models, crowd.batching);
        crowds.row([
            format!("{}, {}", crowd.model, crowd.batching.shown()),
            crowd.models.to_string(),
            spread(Round::throughput),
            spread(Round::cpu_per_request),
            ratio.map_or(NOTHING.to_owned(), |ratio| format!("{ratio:.2}")),
            crowd.rounds.iter().map(|round| round.seen.errors).sum::<u64>().to_string(),
            format!("{:.0}", crowd.resident_bytes as f64 / MEGABYTE),
            format!("{:.2}", crowd.seconds_to_start),
        ]);
    }
    let mut alone = Table::new(["libtorch alone, models", "CPU µs/request", "times one model's"]);
    let one = scale.alone.iter().find(|(models, _)| *models == 1).map(|(_, cost)| *cost);
    for (models, cost) in &scale.alone {
        let ratio = one.map_or(NOTHING.to_owned(), |one| format!("{:.2}", cost / one));
        alone.row([models.to_string(), format!("{cost:.0}"), ratio]);
    }
    let measured =
        [(workers, scale.workers.is_empty()), (crowds, scale.crowds.is_empty()), (alone, scale.alone.is_empty())];
    measured.into_iter().filter(|(_, is_empty)| !is_empty).map(|(table, _)| table).collect()
}

/// Where a peer is ahead of Sconce; the bare route is no peer, and Sconce in another form is none either.
pub(super) fn ahead(contest: &Contest, connections: &[usize]) -> Vec<Ahead> {
    let Some(ours) = contest.entry(SCONCE) else { return Vec::new() };
    let mut found = Vec::new();
    for &connections in connections {
        for figure in FIGURES.iter().filter(|figure| figure.counts) {
            let of = |entry: &Entry| Some(entry.closed(connections)?.spread(figure.of)?.median);
            let Some(mine) = of(ours) else { continue };
            for peer in contest.entries.iter().filter(|entry| !entry.name.starts_with(SCONCE) && entry.name != BARE) {
                let Some(theirs) = of(peer).filter(|theirs| figure.best.prefers(*theirs, mine)) else { continue };
                found.push(Ahead {
                    model: contest.name.clone(),
                    connections,
                    figure: figure.name,
                    peer: peer.name.clone(),
                    theirs,
                    ours: mine,
                });
            }
        }
    }
    found
}

// === impl Best ===

impl Best {
    fn prefers(self, one: f64, other: f64) -> bool {
        match self {
            Self::Highest => one > other,
            Self::Lowest => one < other,
        }
    }
}

/// A table with the contestants' names at its head.
fn table(contest: &Contest, first: &str) -> Table {
    Table::new(std::iter::once(first).chain(contest.entries.iter().map(|entry| entry.name.as_str())))
}

/// A row whose best figure is in bold, where there are several.
fn row(table: &mut Table, name: String, spreads: Vec<Option<Spread>>, figure: &Figure) {
    let medians: Vec<f64> = spreads.iter().flatten().map(|spread| spread.median).collect();
    let best = medians.iter().copied().reduce(|one, other| if figure.best.prefers(other, one) { other } else { one });
    let cells = spreads.into_iter().map(|spread| match spread {
        None => NOTHING.to_owned(),
        Some(spread) => {
            let alone = format!("{:.*}", figure.decimals, spread.median);
            let text = if spread.lowest == spread.highest { alone } else { spread.shown(figure.decimals) };
            if medians.len() > 1 && Some(spread.median) == best { format!("**{text}**") } else { text }
        }
    });
    table.row(std::iter::once(name).chain(cells));
}

/// Their number in all rounds, and what they were.
fn errors(closed: &Closed) -> String {
    let count: u64 = closed.rounds.iter().map(|round| round.seen.errors).sum();
    let kinds: Vec<&str> = closed.rounds.iter().flat_map(|round| &round.seen.kinds).map(String::as_str).collect();
    if count == 0 { "0".to_owned() } else { format!("{count} ({})", kinds.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::super::MOSEC;
    use super::super::results::Open;
    use super::super::results::tests::alone as by_itself;
    use super::super::results::tests::entry;
    use super::super::scale::tests::scale as small;
    use super::*;

    fn contest() -> Contest {
        let mut contest = Contest {
            name: "mnist".to_owned(),
            entries: vec![entry(SCONCE, &[100.0, 300.0]), entry(MOSEC, &[400.0])],
            ceiling: vec![by_itself("asLoaded", 1, 2, &[250.0]), by_itself("frozen", 8, 2, &[800.0])],
            ..Contest::default()
        };
        contest.entries[1].closed[0].rounds[0].seen.p50 = 9.0;
        contest
    }

    #[test]
    fn the_best_of_each_row_is_bold_whoever_it_is() {
        let text = closed(&contest(), &[8, 32]).markdown();
        assert!(text.starts_with("| connections, figure | Sconce | mosec |"), "{text}");
        assert!(text.contains("| 8, requests/s | 200 (100–300) | **400** |"), "{text}");
        assert!(text.contains("| 8, p50 ms | **1.00** | 9.00 |"), "{text}");
        assert!(text.contains("| 8, errors | 0 | 0 |") && text.contains("| 32, requests/s | – | – |"), "{text}");
        let ahead = ahead(&contest(), &[8, 32]);
        assert_eq!(ahead.len(), 1, "{ahead:?}");
        assert_eq!((ahead[0].peer.as_str(), ahead[0].figure, ahead[0].theirs), (MOSEC, "requests/s", 400.0));
    }

    #[test]
    fn ratios_are_to_each_at_its_best_too() {
        let text = ratios(&contest(), &[8], 2).unwrap().markdown();
        assert!(text.contains("| libtorch alone at its best, 2 threads | 0.25 | 0.25 |"), "{text}");
        assert!(text.contains("| libtorch alone as loaded, batch 1, 2 threads | 0.80 | 0.80 |"), "{text}");
        assert!(text.ends_with("| mosec | 0.50 | 0.50 |"), "{text}");
    }

    #[test]
    fn every_measurement_has_its_table() {
        let mut contest = contest();
        assert!(open(&contest).is_none());
        let seen = contest.entries[0].closed[0].rounds[0].seen.clone();
        contest.entries[0].open.push(Open { share: "50 % of its own".to_owned(), rate: 150.0, seen });
        let text = open(&contest).unwrap().markdown();
        assert!(text.ends_with("| 50 % of its own | 150/s: 1.00 / 2.00 / 4.00 | – |"), "{text}");
        contest.entries[1].failure = Some("it fell\nover".to_owned());
        assert!(contestants(&contest).markdown().contains("not measured, or not to the end: it fell |"));
        assert!(footprint(&contest).markdown().contains("| resident MB | **100** | **100** |"));
        let text = alone(&contest, 2).unwrap().markdown();
        assert!(text.contains("| frozen | 8 | – | **800 (800–800)** |"), "{text}");
        let tables = scale(&small());
        assert!(tables[0].markdown().ends_with("| 4 | 120 |"));
        assert!(
            tables[1]
                .markdown()
                .contains("| mnist, off | 64 | 1000 (1000–1000) | 110 (110–110) | 1.10 | 0 | 1 | 1.00 |")
        );
        assert!(tables[2].markdown().ends_with("| 64 | 400 | 2.00 |"));
    }
}
