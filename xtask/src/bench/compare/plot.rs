//! The plot: for each model how many requests a second, and how long the slowest of a hundred takes. SVG, written by
//! hand: bars and text are all it needs.

use std::fmt::Write;

use super::results::Contest;
use super::results::Round;

/// One plot of bars.
struct Panel {
    title: String,
    unit: &'static str,
    /// Under the axis.
    groups: Vec<String>,
    series: Vec<Series>,
    /// A figure that holds for all groups, and what it is.
    line: Option<(f64, String)>,
    scale: Scale,
}

/// The bars of one contestant.
struct Series {
    name: String,
    values: Vec<Option<f64>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Scale {
    Linear,
    Logarithmic,
}

const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 300.0;
const HEAD: f64 = 64.0;
/// Around the bars of a panel.
const LEFT: f64 = 58.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 46.0;
const BOTTOM: f64 = 40.0;
/// Each is told from the others without colour vision, too.
const COLOURS: [&str; 6] = ["#c1440e", "#7a9e9f", "#e3b23c", "#3d5a80", "#98c1d9", "#5c5470"];

/// The plot of all contests, as the content of a file.
pub(super) fn svg(title: &str, contests: &[Contest], connections: &[usize], cores: usize) -> String {
    let names = names(contests);
    let rows = contests.len().max(1) as f64;
    let (width, height) = (WIDTH * 2.0, HEAD + HEIGHT * rows);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
    );
    text(&mut out, (16.0, 24.0), "start", "font-size=\"16\" font-weight=\"bold\"", title);
    legend(&mut out, &names);
    for (index, contest) in contests.iter().enumerate() {
        let top = HEAD + HEIGHT * index as f64;
        for (column, panel) in panels(contest, connections, cores).iter().enumerate() {
            panel.draw(&mut out, (WIDTH * column as f64, top), &names);
        }
    }
    out.push_str("</svg>\n");
    out
}

fn panels(contest: &Contest, connections: &[usize], cores: usize) -> [Panel; 2] {
    let groups: Vec<String> = connections.iter().map(ToString::to_string).collect();
    let series = |figure: fn(&Round) -> f64| {
        let of = |entry: &super::results::Entry| Series {
            name: entry.name.clone(),
            values: connections.iter().map(|number| Some(entry.closed(*number)?.spread(figure)?.median)).collect(),
        };
        contest.entries.iter().map(of).collect::<Vec<_>>()
    };
    let ceiling =
        contest.best_alone(cores).and_then(|best| Some((best.median()?, format!("libtorch alone, {cores} threads"))));
    [
        Panel {
            title: format!("{}: throughput by connections", contest.name),
            unit: "requests/s",
            groups: groups.clone(),
            series: series(Round::throughput),
            line: ceiling,
            scale: Scale::Linear,
        },
        Panel {
            title: format!("{}: p99 by connections", contest.name),
            unit: "ms, logarithmic",
            groups,
            series: series(|round| round.seen.p99),
            line: None,
            scale: Scale::Logarithmic,
        },
    ]
}

/// Of all contestants, each once.
fn names(contests: &[Contest]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for entry in contests.iter().flat_map(|contest| &contest.entries) {
        if !names.contains(&entry.name) {
            names.push(entry.name.clone());
        }
    }
    names
}

fn colour(names: &[String], name: &str) -> &'static str {
    let index = names.iter().position(|known| known == name).unwrap_or_default();
    COLOURS[index % COLOURS.len()]
}

fn legend(out: &mut String, names: &[String]) {
    let mut left = 16.0;
    for name in names {
        rectangle(out, (left, 36.0), (12.0, 12.0), colour(names, name));
        text(out, (left + 17.0, 46.0), "start", "font-size=\"12\"", name);
        left += 40.0 + 7.0 * name.chars().count() as f64;
    }
}

// === impl Panel ===

impl Panel {
    fn draw(&self, out: &mut String, (left, top): (f64, f64), names: &[String]) {
        let (x, right) = (left + LEFT, left + WIDTH - RIGHT);
        let (y, bottom) = (top + TOP, top + HEIGHT - BOTTOM);
        let (lowest, highest) = self.range();
        let place = |value: f64| bottom - self.scale.share(value, lowest, highest) * (bottom - y);
        text(out, (x, top + 22.0), "start", "font-size=\"13\" font-weight=\"bold\"", &self.title);
        text(out, (x - 6.0, y - 8.0), "start", "fill=\"#555555\"", self.unit);
        for tick in self.scale.ticks(lowest, highest) {
            let height = place(tick);
            line(out, (x, height), (right, height), "stroke=\"#dddddd\"");
            text(out, (x - 6.0, height + 4.0), "end", "fill=\"#555555\"", &short(tick));
        }
        let group = (right - x) / self.groups.len().max(1) as f64;
        let bar = group * 0.84 / self.series.len().max(1) as f64;
        for (index, name) in self.groups.iter().enumerate() {
            let start = x + group * (index as f64 + 0.08);
            for (number, series) in self.series.iter().enumerate() {
                let Some(value) = series.values[index] else { continue };
                let (left, height) = (start + bar * number as f64, place(value));
                rectangle(out, (left, height), (bar * 0.92, bottom - height), colour(names, &series.name));
                text(out, (left + bar * 0.46, height - 3.0), "middle", "font-size=\"9\"", &short(value));
            }
            text(out, (start + group * 0.42, bottom + 16.0), "middle", "", name);
        }
        text(out, (x + (right - x) / 2.0, bottom + 32.0), "middle", "fill=\"#555555\"", "connections");
        if let Some((value, name)) = &self.line {
            let height = place(*value);
            line(out, (x, height), (right, height), "stroke=\"#222222\" stroke-dasharray=\"6 4\"");
            text(out, (right, height - 4.0), "end", "", &format!("{name}: {}", short(*value)));
        }
        line(out, (x, bottom), (right, bottom), "stroke=\"#222222\"");
    }

    /// With room above the highest.
    fn range(&self) -> (f64, f64) {
        let values = self.series.iter().flat_map(|series| &series.values).flatten().copied();
        let all: Vec<f64> =
            values.chain(self.line.iter().map(|(value, _)| *value)).filter(|value| *value > 0.0).collect();
        let highest = all.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
        let lowest = all.iter().copied().fold(highest, f64::min);
        match self.scale {
            Scale::Linear => (0.0, highest * 1.12),
            Scale::Logarithmic => (10f64.powf((lowest / 1.5).log10().floor()), highest * 1.6),
        }
    }
}

// === impl Scale ===

impl Scale {
    /// How high a value stands, from 0 to 1.
    fn share(self, value: f64, lowest: f64, highest: f64) -> f64 {
        let share = match self {
            Self::Linear => (value - lowest) / (highest - lowest),
            Self::Logarithmic => (value.max(lowest) / lowest).ln() / (highest / lowest).ln(),
        };
        if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 }
    }

    fn ticks(self, lowest: f64, highest: f64) -> Vec<f64> {
        match self {
            Self::Linear => {
                let rough = (highest - lowest) / 5.0;
                let power = 10f64.powf(rough.log10().floor());
                let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power).into_iter().find(|step| *step >= rough);
                let step = step.unwrap_or(rough);
                (0..=10).map(|number| lowest + step * f64::from(number)).filter(|tick| *tick <= highest).collect()
            }
            Self::Logarithmic => {
                let first = lowest.log10().round() as i32;
                (first..first + 12).map(|power| 10f64.powi(power)).filter(|tick| *tick <= highest).collect()
            }
        }
    }
}

/// With as many digits as matter.
fn short(value: f64) -> String {
    match value {
        value if value >= 10_000.0 => format!("{:.1}k", value / 1000.0),
        value if value >= 100.0 || value == 0.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn rectangle(out: &mut String, (x, y): (f64, f64), (width, height): (f64, f64), colour: &str) {
    // Writing to a String can't fail, here and below.
    let _ = writeln!(
        out,
        "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{colour}\"/>"
    );
}

fn line(out: &mut String, (x1, y1): (f64, f64), (x2, y2): (f64, f64), style: &str) {
    let _ = writeln!(out, "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" {style}/>");
}

fn text(out: &mut String, (x, y): (f64, f64), anchor: &str, style: &str, words: &str) {
    let words = words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let _ = writeln!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" {style}>{words}</text>");
}

#[cfg(test)]
mod tests {
    use super::super::results::tests::alone;
    use super::super::results::tests::entry;
    use super::*;

    #[test]
    fn the_plot_is_well_formed_and_names_everybody() {
        let contest = Contest {
            name: "mnist".to_owned(),
            entries: vec![entry("Sconce", &[9000.0]), entry("a < b & c", &[20.0])],
            ceiling: vec![alone("frozen", 8, 2, &[14000.0])],
            ..Contest::default()
        };
        let svg = svg("Title", &[contest], &[8, 32], 2);
        // Every element is closed in itself, or by its own end.
        for element in ["svg", "text"] {
            assert_eq!(svg.matches(&format!("<{element} ")).count(), svg.matches(&format!("</{element}>")).count());
        }
        let opened = svg.matches('<').count() - svg.matches("</").count();
        assert_eq!(opened, svg.matches("/>").count() + svg.matches("</").count());
        assert_eq!(svg.matches('<').count(), svg.matches('>').count());
        assert!(svg.contains(">a &lt; b &amp; c</text>") && svg.contains("libtorch alone, 2 threads: 14.0k"), "{svg}");
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }

    #[test]
    fn nothing_measured_is_no_failure() {
        let svg = svg("Title", &[Contest::default()], &[8], 2);
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }

    #[test]
    fn ticks_are_round() {
        assert_eq!(Scale::Linear.ticks(0.0, 11_000.0), [0.0, 5000.0, 10_000.0]);
        assert_eq!(Scale::Logarithmic.ticks(0.1, 50.0), [0.1, 1.0, 10.0]);
        assert_eq!(
            ["0", "0.50", "12.3", "1234", "12.3k"],
            [0.0, 0.5, 12.34, 1234.0, 12_345.0].map(short).each_ref().map(String::as_str)
        );
    }
}
