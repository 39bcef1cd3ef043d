//! The bars that Sconce has set itself, and how far each figure is from its own.

use serde_json::Value;
use serde_json::json;

use super::BARE;
use super::ECHO;
use super::MNIST;
use super::MOSEC;
use super::RESNET;
use super::SCONCE;
use super::SCONCE_PT2;
use super::TORCHSERVE;
use super::TORCHSERVE_TUNED;
use super::entry;
use super::results::Contest;
use super::results::Round;
use super::scale::Batching;
use super::scale::Crowd;
use super::scale::Scale;
use crate::bench::table::Table;

/// One bar.
#[derive(Debug)]
pub(super) struct Bar {
    what: String,
    /// `None` where this run didn't measure it.
    figure: Option<f64>,
    limit: Limit,
    unit: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Limit {
    AtLeast(f64),
    AtMost(f64),
}

use Limit::AtLeast;
use Limit::AtMost;

/// Connections at which p99 is held against p50.
const TAIL_CONNECTIONS: usize = 8;
/// What an AOTInductor package of ResNet-18 gains over the best form of TorchScript where it was first measured.
const PACKAGE_GAIN: f64 = 1.35;
const MEGABYTE: f64 = 1e6;

/// All bars, those that weren't measured too.
pub(super) fn all(contests: &[Contest], scale: &Scale, cores: usize) -> Vec<Bar> {
    let best = |model: &str, name: &str| entry(contests, model, name)?.best();
    let of = |one: Option<f64>, other: Option<f64>| Some(one? / other?);
    let contest = |model: &str| contests.iter().find(|contest| contest.name == model);
    let alone = |model: &str| contest(model)?.best_alone(cores)?.median();
    let of_libtorch = |model: &str| contest(model)?.best_of_libtorch(cores)?.median();
    let package = contest(RESNET).and_then(|contest| contest.best_package(cores)?.median());
    // What a package gains is the machine's; the bar is not above what libtorch alone shows.
    let gain = of(package, alone(RESNET)).map_or(PACKAGE_GAIN, |gain| gain.min(PACKAGE_GAIN));
    let plain = contest(MNIST).and_then(|contest| contest.alone("asLoaded", 1, cores)?.median());
    let (mnist, resnet) = (best(MNIST, SCONCE), best(RESNET, SCONCE));
    let better =
        [best(RESNET, TORCHSERVE), best(RESNET, TORCHSERVE_TUNED)].into_iter().flatten().max_by(f64::total_cmp);
    let tail = entry(contests, MNIST, SCONCE).and_then(|entry| {
        let closed = entry.closed(TAIL_CONNECTIONS)?;
        Some(closed.spread(|round| round.seen.p99)?.median / closed.spread(|round| round.seen.p50)?.median)
    });
    let taken = |model: &str| entry(contests, model, SCONCE)?.taken;
    let slowest_start =
        contests.iter().filter_map(|contest| contest.entry(SCONCE)).filter_map(|entry| entry.median_start());
    let errors = contests.iter().filter_map(|contest| contest.entry(SCONCE)).flat_map(|entry| &entry.closed);
    let errors: u64 = errors.flat_map(|closed| &closed.rounds).map(|round: &Round| round.seen.errors).sum();
    let mut bars = vec![
        ratio("MNIST: Sconce / libtorch alone at its best in the same form", of(mnist, alone(MNIST)), AtLeast(0.75)),
        ratio(
            "MNIST: Sconce / libtorch alone at its best in a form of its own",
            of(mnist, of_libtorch(MNIST)),
            AtLeast(0.75),
        ),
        ratio("MNIST: Sconce / libtorch alone as loaded, batch 1, all cores", of(mnist, plain), AtLeast(1.25)),
        ratio("MNIST: Sconce / mosec", of(mnist, best(MNIST, MOSEC)), AtLeast(3.5)),
        ratio("MNIST: Sconce / TorchServe tuned", of(mnist, best(MNIST, TORCHSERVE_TUNED)), AtLeast(5.0)),
        ratio("MNIST: Sconce / TorchServe default", of(mnist, best(MNIST, TORCHSERVE)), AtLeast(15.0)),
        ratio("MNIST: p99 / p50 at 8 connections", tail, AtMost(3.0)),
        ratio(
            "ResNet-18: Sconce / libtorch alone at its best in the same form",
            of(resnet, alone(RESNET)),
            AtLeast(0.9),
        ),
        ratio(
            "ResNet-18: Sconce / libtorch alone at its best in a form of its own",
            of(resnet, of_libtorch(RESNET)),
            AtLeast(0.9),
        ),
        ratio("ResNet-18: Sconce / the better TorchServe", of(resnet, better), AtLeast(1.5)),
        ratio(
            "ResNet-18: Sconce with .pt2 / Sconce with TorchScript",
            of(best(RESNET, SCONCE_PT2), resnet),
            AtLeast(gain),
        ),
        ratio("Echo: Sconce / the bare axum route", of(best(ECHO, SCONCE), best(ECHO, BARE)), AtLeast(0.6)),
        ratio("ResNet-18: memory of 4 workers / of 1", scale.memory_ratio(), AtMost(1.1)),
        Bar {
            what: "Seconds to the first answer, slowest model".to_owned(),
            figure: slowest_start.max_by(f64::total_cmp),
            limit: AtMost(1.0),
            unit: " s",
        },
        Bar {
            what: "Resident memory with MNIST".to_owned(),
            figure: taken(MNIST).map(|taken| taken.resident_bytes as f64 / MEGABYTE),
            limit: AtMost(200.0),
            unit: " MB",
        },
        Bar {
            what: "Errors of Sconce in all closed loops".to_owned(),
            figure: (!contests.is_empty()).then_some(errors as f64),
            limit: AtMost(0.0),
            unit: "",
        },
    ];
    for (model, batching) in [(MNIST, Batching::Automatic), (MNIST, Batching::Off), (ECHO, Batching::Automatic)] {
        let same = |crowd: &&Crowd| (crowd.model, crowd.batching) == (model, batching);
        let most = scale.crowds.iter().filter(same).map(|crowd| crowd.models).max();
        let most = most.filter(|most| *most > 1);
        let what = format!(
            "{} models of {model}: cost per request / one model's, batching {}",
            most.map_or("Many".to_owned(), |most| most.to_string()),
            batching.shown()
        );
        bars.push(ratio(&what, most.and_then(|most| scale.cost_ratio(model, most, batching)), AtMost(1.2)));
    }
    bars
}

pub(super) fn table(bars: &[Bar]) -> Table {
    let mut table = Table::new(["bar", "figure", "at least / at most", ""]);
    for bar in bars {
        table.row([bar.what.clone(), bar.shown_figure(), bar.shown_limit(), bar.judged()]);
    }
    table
}

fn ratio(what: &str, figure: Option<f64>, limit: Limit) -> Bar {
    Bar { what: what.to_owned(), figure, limit, unit: "" }
}

/// To two digits at most.
fn rounded(limit: f64) -> f64 {
    (limit * 100.0).round() / 100.0
}

// === impl Bar ===

impl Bar {
    fn is_met(&self) -> Option<bool> {
        let figure = self.figure?;
        Some(match self.limit {
            AtLeast(limit) => figure >= limit,
            AtMost(limit) => figure <= limit,
        })
    }

    fn judged(&self) -> String {
        let (Some(figure), Some(is_met)) = (self.figure, self.is_met()) else {
            return "not measured in this run".to_owned();
        };
        if is_met {
            return "met".to_owned();
        }
        let (AtLeast(limit) | AtMost(limit)) = self.limit;
        let away = (figure - limit).abs();
        match limit {
            0.0 => format!("**missed by {away:.0}{}**", self.unit),
            _ => format!("**missed by {away:.2}{} ({:.0} %)**", self.unit, away / limit * 100.0),
        }
    }

    fn shown_figure(&self) -> String {
        self.figure.map_or_else(|| "–".to_owned(), |figure| format!("{figure:.2}{}", self.unit))
    }

    fn shown_limit(&self) -> String {
        match self.limit {
            AtLeast(limit) => format!("≥ {}{}", rounded(limit), self.unit),
            AtMost(limit) => format!("≤ {}{}", rounded(limit), self.unit),
        }
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "bar": self.what,
            "figure": self.figure,
            "limit": self.shown_limit(),
            "met": self.is_met(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::results::tests::alone;
    use super::super::results::tests::entry;
    use super::super::scale::tests::scale;
    use super::*;

    fn judged(bars: &[Bar], what: &str) -> String {
        let bar = bars.iter().find(|bar| bar.what.starts_with(what)).unwrap();
        format!("{} {}: {}", bar.shown_figure(), bar.shown_limit(), bar.judged())
    }

    #[test]
    fn every_bar_is_judged_by_the_run() {
        let mnist = Contest {
            name: MNIST.to_owned(),
            entries: vec![entry(SCONCE, &[9000.0]), entry(MOSEC, &[2000.0]), entry(TORCHSERVE_TUNED, &[2000.0])],
            ceiling: vec![alone("asLoaded", 1, 2, &[6000.0]), alone("optimized", 16, 2, &[14000.0])],
            ..Contest::default()
        };
        let bars = all(&[mnist], &scale(), 2);
        assert_eq!(judged(&bars, "MNIST: Sconce / libtorch alone at"), "0.64 ≥ 0.75: **missed by 0.11 (14 %)**");
        assert_eq!(judged(&bars, "MNIST: Sconce / libtorch alone as"), "1.50 ≥ 1.25: met");
        assert_eq!(judged(&bars, "MNIST: Sconce / mosec"), "4.50 ≥ 3.5: met");
        assert_eq!(judged(&bars, "MNIST: Sconce / TorchServe tuned"), "4.50 ≥ 5: **missed by 0.50 (10 %)**");
        assert_eq!(judged(&bars, "MNIST: Sconce / TorchServe default"), "– ≥ 15: not measured in this run");
        assert_eq!(judged(&bars, "MNIST: p99"), "2.00 ≤ 3: met");
        assert_eq!(judged(&bars, "ResNet-18: memory"), "1.20 ≤ 1.1: **missed by 0.10 (9 %)**");
        assert_eq!(judged(&bars, "Resident"), "100.00 MB ≤ 200 MB: met");
        assert_eq!(
            judged(&bars, "64 models of mnist: cost per request / one model's, batching off"),
            "1.10 ≤ 1.2: met"
        );
        assert_eq!(judged(&bars, "Errors"), "0.00 ≤ 0: met");
        assert_eq!(table(&bars).markdown().lines().count(), bars.len() + 2);
        assert_eq!(bars[0].json()["met"], false);
        assert_eq!(bars[5].json()["met"], Value::Null);
    }
}
