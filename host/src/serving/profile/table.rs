//! A trace as tables for people: what the stages took, and which of libtorch's operators took it.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::trace::SpanKind;
use super::trace::Trace;
use crate::model::Operand;
use crate::model::Operator;
use crate::model::Runtime;

/// Calls of one thing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Row {
    calls: u32,
    total: Duration,
    /// Without the operators within.
    own: Duration,
}

/// What one call adds to its row.
#[derive(Debug, Clone, Copy)]
struct Times {
    /// Nothing where the call ran within another of the same row, which has counted it.
    total: Duration,
    /// Without the operators within.
    own: Duration,
}

/// The one column that isn't filled up: a concatenation may have a long list.
const SHAPES: &str = "Input shapes";

// === impl Trace ===

impl Trace {
    /// As text: the stages, then the operators by the time that they took themselves.
    pub fn table(&self) -> String {
        let mut text = self.headline();
        text.push('\n');
        write_table(&mut text, &["Stage", "Calls", "Total ms", "Mean ms", "Share"], self.stages());
        text.push('\n');
        if self.operators() == 0 {
            text.push_str(match Runtime::libtorch_version() {
                Some(_) => "No operator of libtorch ran on the worker's thread.\n",
                None => "This server is built without libtorch, so there are no operators to record.\n",
            });
            return text;
        }
        let names = ["Operator", "Self %", "Self ms", "Total %", "Total ms", "Mean ms", "Calls", SHAPES];
        write_table(&mut text, &names, self.operator_rows());
        text
    }

    fn headline(&self) -> String {
        let began = OffsetDateTime::from(self.began).format(&Rfc3339).unwrap_or_default();
        let mut text = format!("{} {}, {began}", self.model, self.version);
        let mut say = |count: usize, one: &str, more: &str| {
            // A String takes any text.
            let _ = write!(text, ", {count} {}", if count == 1 { one } else { more });
        };
        say(self.batches.len(), "batch", "batches");
        say(self.requests(), "request", "requests");
        if let Some(answer) = &self.answer {
            let _ = write!(text, ", answered {} with {} bytes", answer.status, answer.bytes);
        }
        text.push('\n');
        if self.dropped() > 0 {
            let _ = writeln!(text, "{} calls came after there was no more room, and are left out.", self.dropped());
        }
        text
    }

    /// Each within the one above that stands further left.
    fn stages(&self) -> Vec<Vec<String>> {
        let mut rows: Vec<((usize, String), Row)> = Vec::new();
        let mut add = |depth: usize, name: &str, took: Duration| {
            let key = (depth, name.to_owned());
            match rows.iter_mut().find(|(other, _)| *other == key) {
                Some((_, row)) => row.add(took, took),
                None => rows.push((key, Row { calls: 1, total: took, own: took })),
            }
        };
        for request in self.batches.iter().flat_map(|batch| &batch.requests) {
            add(0, "queue", request.queued);
        }
        for batch in &self.batches {
            let mut spans: Vec<_> = batch.spans.iter().collect();
            spans.sort_by_key(|span| (span.began, span.kind));
            spans.into_iter().for_each(|span| add(span.kind.depth(), &span.name, span.took));
        }
        let batches = rows.iter().find(|((depth, name), _)| *depth == 0 && name == SpanKind::Batch.as_str());
        let whole = batches.map(|(_, row)| row.total).unwrap_or_default();
        let row = |((depth, name), row): &((usize, String), Row)| {
            let share = if name == "queue" { String::new() } else { percent(row.total, whole) };
            let name = format!("{:indent$}{name}", "", indent = 2 * depth);
            vec![name, row.calls.to_string(), milliseconds(row.total), milliseconds(row.mean()), share]
        };
        rows.iter().map(row).collect()
    }

    fn operator_rows(&self) -> Vec<Vec<String>> {
        let mut rows: HashMap<(&str, String), Row> = HashMap::new();
        for batch in &self.batches {
            for (operator, times) in batch.operators.list.iter().zip(times(&batch.operators.list)) {
                let key = (operator.name.as_str(), shapes(&operator.inputs));
                rows.entry(key).or_default().add(times.total, times.own);
            }
        }
        let whole = rows.values().map(|row| row.own).sum();
        let mut rows: Vec<_> = rows.into_iter().collect();
        rows.sort_by(|(one, a), (other, b)| b.own.cmp(&a.own).then_with(|| one.cmp(other)));
        let row = |((name, shapes), row): ((&str, String), Row)| {
            vec![
                name.to_owned(),
                percent(row.own, whole),
                milliseconds(row.own),
                percent(row.total, whole),
                milliseconds(row.total),
                milliseconds(row.mean()),
                row.calls.to_string(),
                shapes,
            ]
        };
        let mut rows: Vec<_> = rows.into_iter().map(row).collect();
        rows.push(vec!["all".to_owned(), percent(whole, whole), milliseconds(whole)]);
        rows
    }
}

// === impl Row ===

impl Row {
    fn add(&mut self, total: Duration, own: Duration) {
        self.calls += 1;
        self.total += total;
        self.own += own;
    }

    fn mean(&self) -> Duration {
        self.total / self.calls.max(1)
    }
}

/// What each operator adds to its row.
fn times(operators: &[Operator]) -> Vec<Times> {
    let mut times: Vec<_> =
        operators.iter().map(|operator| Times { total: operator.took, own: operator.took }).collect();
    let mut open: Vec<usize> = Vec::new();
    for (index, operator) in operators.iter().enumerate() {
        open.truncate(operator.depth);
        if let Some(&outer) = open.last() {
            times[outer].own = times[outer].own.saturating_sub(operator.took);
        }
        // libtorch tells TorchScript's methods twice, one within the other.
        let is_same =
            |&outer: &usize| operators[outer].name == operator.name && operators[outer].inputs == operator.inputs;
        if open.iter().any(is_same) {
            times[index].total = Duration::ZERO;
        }
        open.push(index);
    }
    times
}

/// As `[[1, 3, 224, 224], [64, 3, 7, 7], []]`: what is no tensor has no shape.
fn shapes(operands: &[Operand]) -> String {
    let each: Vec<_> = operands
        .iter()
        .map(|operand| match operand {
            Operand::Tensor { shape, .. } => format!("{shape:?}"),
            Operand::Tensors(list) => shapes(list),
            Operand::Scalar | Operand::Other => "[]".to_owned(),
        })
        .collect();
    format!("[{}]", each.join(", "))
}

/// Names stand at the left, and numbers at the right.
fn write_table(text: &mut String, names: &[&str], rows: Vec<Vec<String>>) {
    let mut all = vec![names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>()];
    all.extend(rows);
    let width = |column: usize| all.iter().filter_map(|row| Some(row.get(column)?.chars().count())).max().unwrap_or(0);
    let widths: Vec<_> = (0..names.len()).map(width).collect();
    for (index, row) in all.iter().enumerate() {
        let cell = |(column, value): (usize, &String)| match column {
            0 => format!("{value:width$}", width = widths[column]),
            _ if names[column] == SHAPES => value.clone(),
            _ => format!("{value:>width$}", width = widths[column]),
        };
        let line = row.iter().enumerate().map(cell).collect::<Vec<_>>().join("  ");
        text.push_str(line.trim_end());
        text.push('\n');
        if index == 0 {
            let rule = |(&name, &width): (&&str, &usize)| "-".repeat(if name == SHAPES { name.len() } else { width });
            text.push_str(&names.iter().zip(&widths).map(rule).collect::<Vec<_>>().join("  "));
            text.push('\n');
        }
    }
}

fn milliseconds(time: Duration) -> String {
    format!("{:.3}", time.as_secs_f64() * 1e3)
}

fn percent(part: Duration, whole: Duration) -> String {
    if whole.is_zero() {
        return String::new();
    }
    format!("{:.2}%", 100.0 * part.as_secs_f64() / whole.as_secs_f64())
}
