//! What each step of the swaps took, as the server tells it.

use std::collections::BTreeMap;

use crate::bench::figures::Bar;
use crate::bench::figures::Spread;
use crate::bench::report::Section;
use crate::bench::site::Generation;
use crate::bench::table::Table;

/// The swaps that were made under one condition.
#[derive(Debug)]
pub(super) struct Taken {
    label: String,
    /// The last one of before.
    last: u64,
    generations: BTreeMap<u64, Generation>,
}

/// What is left to do when the trial has passed.
const SWAP_STEP: [&str; 3] = ["open", "start", "publish"];
const BAR: Bar = Bar { limit: 5.0, unit: " ms" };

// === impl Taken ===

impl Taken {
    pub(super) fn after(last: u64, label: String) -> Self {
        Self { label, last, generations: BTreeMap::new() }
    }

    /// Those of a model's generations that are new and have served. One that was there already comes with the steps it
    /// has taken since.
    pub(super) fn add(&mut self, generations: Vec<Generation>) {
        let published = |one: &Generation| one.steps.iter().any(|(step, _)| step == "publish");
        let ours = generations.into_iter().filter(|one| one.id > self.last && published(one));
        self.generations.extend(ours.map(|one| (one.id, one)));
    }

    fn step(&self, name: &str) -> Option<Spread> {
        let times = self.generations.values().flat_map(|one| &one.steps).filter(|(step, _)| step == name);
        Spread::of(times.map(|(_, time)| *time))
    }

    fn swap_step(&self) -> Option<Spread> {
        let of_one = |one: &Generation| {
            one.steps.iter().filter(|(step, _)| SWAP_STEP.contains(&step.as_str())).map(|(_, time)| time).sum()
        };
        Spread::of(self.generations.values().map(of_one))
    }
}

pub(super) fn section(taken: &[Taken]) -> Section {
    let head = |first: &str| -> Vec<String> {
        std::iter::once(first.to_owned())
            .chain(taken.iter().map(|taken| format!("{} ({} swaps)", taken.label, taken.generations.len())))
            .collect()
    };
    let mut steps = Table::new(head("step, ms"));
    for name in names(taken) {
        let cell = |taken: &Taken| taken.step(name).map_or_else(String::new, |spread| spread.with_most(2));
        steps.row(std::iter::once(name.to_owned()).chain(taken.iter().map(cell)));
    }
    let mut swap = Table::new(["open + start + publish", "ms", "bar", ""]);
    for taken in taken {
        if let Some(spread) = taken.swap_step() {
            let bar = format!("< {} ms", BAR.limit);
            swap.row([taken.label.clone(), spread.with_most(2), bar, BAR.judge_all(spread)]);
        }
    }
    Section {
        title: "Each step",
        method: "Of the swaps above, from `GET /models/{model}/generations`: the median, and the longest.".to_owned(),
        tables: vec![steps, swap],
    }
}

/// In the order they are taken.
fn names(taken: &[Taken]) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for one in taken.iter().flat_map(|taken| taken.generations.values()) {
        // Not every model has every step: one that isn't known yet stands after the one before it.
        let mut place = 0;
        for (step, _) in &one.steps {
            let known = names.iter().position(|name| name == step);
            let at = known.unwrap_or(place);
            if known.is_none() {
                names.insert(at, step);
            }
            place = at + 1;
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generation(id: u64, steps: &[(&str, f64)]) -> Generation {
        let steps = steps.iter().map(|(step, time)| ((*step).to_owned(), *time)).collect();
        Generation { id, state: "retired".to_owned(), reason: None, steps }
    }

    #[test]
    fn the_swap_step_is_a_sum_and_what_never_served_doesnt_count() {
        let mut echo = Taken::after(1, "echo".to_owned());
        echo.add(vec![
            generation(2, &[("trial", 20.0), ("open", 1.0), ("start", 0.5), ("publish", 0.25)]),
            generation(1, &[("open", 100.0), ("publish", 1.0)]),
        ]);
        echo.add(vec![
            generation(4, &[("trial", 30.0)]),
            generation(3, &[("trial", 40.0), ("open", 3.0), ("start", 2.0), ("publish", 1.0)]),
            generation(2, &[("trial", 20.0), ("open", 1.0), ("start", 0.5), ("publish", 0.25), ("drain", 9.0)]),
        ]);
        let mut mnist = Taken::after(0, "mnist".to_owned());
        mnist.add(vec![generation(7, &[("model", 0.5), ("trial", 1.0), ("open", 9.0), ("publish", 1.0)])]);
        let section = section(&[echo, mnist]);
        assert_eq!(
            section.tables[0].markdown(),
            "| step, ms | echo (2 swaps) | mnist (1 swaps) |\n|---|---:|---:|\n\
             | model |  | 0.50, at most 0.50 |\n\
             | trial | 30.00, at most 40.00 | 1.00, at most 1.00 |\n\
             | open | 2.00, at most 3.00 | 9.00, at most 9.00 |\n\
             | start | 1.25, at most 2.00 |  |\n\
             | publish | 0.62, at most 1.00 | 1.00, at most 1.00 |\n\
             | drain | 9.00, at most 9.00 |  |"
        );
        let swap = section.tables[1].markdown();
        let over = "| echo | 3.88, at most 6.00 | < 5 ms | met in the median; the longest is 1.00 ms (20 %) over |\n";
        assert!(swap.contains(over), "{swap}");
        let missed = "| mnist | 10.00, at most 10.00 | < 5 ms | missed by 5.00 ms (100 %) in the median |";
        assert!(swap.ends_with(missed), "{swap}");
    }
}
