//! The search for a form, on models that are only numbers.

use super::*;

/// Microseconds for a batch of 1 and for each further input, by form; `None` can't be made.
struct Fake {
    costs: [Option<(u64, u64)>; 5],
    differs: Option<Form>,
    largest: usize,
    has_forms: bool,
    has_batch_dimension: bool,
    spent: Duration,
}

impl Fake {
    fn new(costs: [Option<(u64, u64)>; 5]) -> Self {
        Self { costs, differs: None, largest: 32, has_forms: true, has_batch_dimension: true, spent: Duration::ZERO }
    }

    fn cost(&self, form: Form) -> Result<(u64, u64), String> {
        self.costs[Form::ALL.iter().position(|known| *known == form).unwrap()].ok_or("no such form".to_owned())
    }
}

impl Stage for Fake {
    fn prepare(&mut self, form: Form) -> Result<(), String> {
        self.cost(form).map(drop)
    }

    fn difference(&mut self, form: Form) -> Result<Option<String>, String> {
        // A model that never gives the same is never given the same by its forms.
        Ok((self.differs == Some(form) || self.differs == Some(Form::AsLoaded)).then(|| "by 1".to_owned()))
    }

    fn spent(&self) -> Duration {
        self.spent
    }

    fn has_forms(&self) -> bool {
        self.has_forms
    }

    fn has_batch_dimension(&self) -> bool {
        self.has_batch_dimension
    }

    fn batch_difference(&mut self, _: Form, size: usize) -> Result<Option<String>, String> {
        Ok((size > self.largest).then(|| "rows differ".to_owned()))
    }

    fn time(&mut self, form: Form, size: usize, calls: u32) -> Result<Duration, String> {
        let (one, more) = self.cost(form)?;
        let time = Duration::from_micros(one + more * (size as u64 - 1)) * calls;
        self.spent += time;
        Ok(time)
    }
}

#[test]
fn the_fastest_form_that_gives_the_same_is_kept() {
    let mnist = [Some((280, 500)), Some((310, 480)), Some((243, 137)), Some((228, 125)), Some((260, 200))];
    let auto = Optimization::Auto;
    let only = Optimization::Only;
    for (name, fake, wish, kept, reason) in [
        ("fastest", Fake::new(mnist), auto, Form::Fused, "it gives the same and takes 0."),
        ("another answer", Fake { differs: Some(Form::Fused), ..Fake::new(mnist) }, auto, Form::Optimized, "it gives"),
        (
            "never the same",
            Fake { differs: Some(Form::AsLoaded), ..Fake::new(mnist) },
            auto,
            Form::AsLoaded,
            "different answers",
        ),
        (
            "not worth it",
            Fake::new([Some((100, 100)), Some((99, 99)), None, None, None]),
            auto,
            Form::AsLoaded,
            "no other form",
        ),
        ("none", Fake::new([Some((100, 100)), None, None, None, None]), auto, Form::AsLoaded, "no other form"),
        (
            "asked for, slower",
            Fake::new([Some((100, 100)), Some((200, 200)), None, None, None]),
            only(Form::Frozen),
            Form::Frozen,
            "asks for it",
        ),
        (
            "asked for, wrong",
            Fake { differs: Some(Form::Frozen), ..Fake::new(mnist) },
            only(Form::Frozen),
            Form::AsLoaded,
            "by 1",
        ),
        ("asked for as it is", Fake::new(mnist), only(Form::AsLoaded), Form::AsLoaded, "asks for it"),
        // At batch 1 the fused one is faster, and at 8 it isn't.
        (
            "by batches",
            Fake::new([Some((280, 280)), None, Some((270, 100)), Some((260, 400)), None]),
            auto,
            Form::Optimized,
            "takes",
        ),
        // The second would be faster still; what is clear already isn't paid for again.
        (
            "a clear gain",
            Fake::new([Some((280, 280)), None, Some((100, 100)), Some((200, 200)), None]),
            auto,
            Form::Fused,
            "takes",
        ),
    ] {
        let mut fake = fake;
        let tuning = Tuning::find(wish, &mut fake);
        assert_eq!(tuning.kept, kept, "{name}: {tuning:?}");
        assert!(tuning.reason.contains(reason), "{name}: {}", tuning.reason);
    }
}

#[test]
fn batches_end_where_rows_differ_or_the_time_does() {
    let costs = |one, more| [Some((one, more)), None, None, None, None];
    for (name, fake, largest) in [
        ("all", Fake::new(costs(100, 100)), 32),
        ("rows differ", Fake { largest: 4, ..Fake::new(costs(100, 100)) }, 4),
        ("no batch dimension", Fake { has_batch_dimension: false, ..Fake::new(costs(100, 100)) }, 1),
        ("slow", Fake::new(costs(20_000, 10_000)), 12),
        ("slow, and a tenth faster together", Fake::new(costs(20_000, 16_000)), 1),
        (
            "compiled, slow, and a tenth faster together",
            Fake { has_forms: false, ..Fake::new(costs(20_000, 16_000)) },
            16,
        ),
        ("compiled, and too slow", Fake { has_forms: false, ..Fake::new(costs(1_000_000, 500_000)) }, 1),
        ("slow, and no faster together", Fake::new(costs(20_000, 20_000)), 1),
        ("slower", Fake::new(costs(1_000_000, 500_000)), 1),
    ] {
        let mut fake = fake;
        let tuning = Tuning::find(Optimization::Auto, &mut fake);
        assert_eq!(tuning.largest_batch(), largest, "{name}: {tuning:?}");
    }
}

#[test]
fn the_words_of_a_config_are_those_of_describe() {
    for word in Optimization::WORDS {
        assert_eq!(Optimization::parse(word).unwrap().as_str(), word);
    }
    assert_eq!(Optimization::parse("Auto"), None);
}
