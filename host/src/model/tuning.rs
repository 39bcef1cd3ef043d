//! In which form a model runs, and with which sizes of batches: tried when it is loaded, and told afterwards.
//!
//! The trial knows nothing of libtorch: it asks a [`Stage`], and decides.

use std::time::Duration;

/// A form that a TorchScript model can run in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Form {
    /// As the file has it.
    AsLoaded,
    /// With its weights as constants, and what follows from them worked out: `torch.jit.freeze`.
    Frozen,
    /// Frozen, with weights that lie as the processor's kernels want them: `torch.jit.optimize_for_inference`.
    Optimized,
    /// Frozen, with convolutions and linear layers that are one kernel each with what follows them, as torch.compile makes them, and the rest as in [`Form::Optimized`].
    Fused,
    /// Frozen, with pictures and the weights of convolutions channels last.
    ChannelsLast,
}

/// Which form a model's owner wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Optimization {
    /// The fastest of those that give the same.
    #[default]
    Auto,
    /// That one, unless it gives something else.
    Only(Form),
}

/// What became of the trial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tuning {
    pub kept: Form,
    /// One sentence.
    pub reason: String,
    pub trials: Vec<Trial>,
    /// Sizes of batches with the time of one call in the form that was kept: 1 first, and last the largest that gives each request the same as it gets alone, as those between do. Empty where the sample has no batch dimension.
    pub batches: Vec<(usize, Duration)>,
    /// What was spent on all of it.
    pub took: Duration,
}

/// What was seen of one form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trial {
    pub form: Form,
    /// The time for one input, by the size of the batch that it came in; or why it can't be kept.
    pub outcome: Result<Vec<(usize, Duration)>, String>,
}

/// The model on trial. Every error is text.
pub(super) trait Stage {
    /// Whether there are forms to choose from.
    fn has_forms(&self) -> bool;

    /// Brings the model into a form.
    fn prepare(&mut self, form: Form) -> Result<(), String>;

    /// Why this form gives something else than the model as it was loaded; `None` where it doesn't. For that itself: whether it gives the same twice.
    fn difference(&mut self, form: Form) -> Result<Option<String>, String>;

    /// Whether its inputs can be put together along their first dimension.
    fn has_batch_dimension(&self) -> bool;

    /// Why a batch of that size gives something else than its inputs give one by one.
    fn batch_difference(&mut self, form: Form, size: usize) -> Result<Option<String>, String>;

    /// What the trial has cost so far, on the clock by which calls are timed.
    fn spent(&self) -> Duration;

    /// So many calls with batches of that size, one after the other.
    fn time(&mut self, form: Form, size: usize, calls: u32) -> Result<Duration, String>;
}

/// The sizes of batches that are taken where the size is left to the server: few, since libtorch prepares itself for each.
pub const BUCKETS: [usize; 10] = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32];

/// The larger batch that forms are compared with beside 1.
const COMPARED: usize = 8;

/// A trial takes no longer than about this; what it didn't get to isn't used.
const BUDGET: Duration = Duration::from_millis(1000);

/// A form must be that much faster than the model as it was loaded: it takes memory.
const WORTH_IT: f64 = 0.97;

/// With such a gain the others aren't tried: it holds much of theirs already, and a start is to be short.
const CLEAR: f64 = 0.9;

/// A slow model whose batches of two take less time than that for each input is tried with larger ones: it takes as long as all of their inputs one by one. What is about a tenth comes and goes with how busy the machine is.
const SHARES: f64 = 0.85;

/// Timed calls that are shorter are repeated, so that a moment's disturbance doesn't decide.
const LONG_ENOUGH: Duration = Duration::from_millis(4);

// === impl Form ===

impl Form {
    const ALL: [Self; 5] = [Self::AsLoaded, Self::Frozen, Self::Optimized, Self::Fused, Self::ChannelsLast];

    /// As configs say it and clients read it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AsLoaded => "asLoaded",
            Self::Frozen => "frozen",
            Self::Optimized => "optimized",
            Self::Fused => "fused",
            Self::ChannelsLast => "channelsLast",
        }
    }
}

// === impl Optimization ===

impl Optimization {
    /// What a config may say.
    pub const WORDS: [&str; 6] = ["auto", "asLoaded", "frozen", "optimized", "fused", "channelsLast"];

    /// From the word in a config.
    pub fn parse(word: &str) -> Option<Self> {
        let form = Form::ALL.into_iter().find(|form| form.as_str() == word);
        form.map(Self::Only).or_else(|| (word == Self::Auto.as_str()).then_some(Self::Auto))
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Only(form) => form.as_str(),
        }
    }
}

// === impl Tuning ===

impl Tuning {
    /// Finds the form to keep, and the sizes of batches that can be used with it.
    pub(super) fn find(wish: Optimization, stage: &mut dyn Stage) -> Self {
        let began = stage.spent();
        let mut search = Search { stage, began, trials: Vec::new() };
        let (kept, reason) = search.form(wish);
        let batches = search.batches(kept);
        let took = search.spent();
        Self { kept, reason, trials: search.trials, batches, took }
    }

    /// The same for a model whose form failed on an input that the model itself can take.
    pub(super) fn given_up(&self) -> Self {
        let reason = format!(
            "{} was kept, and then failed on an input that the model as it was loaded can take",
            self.kept.as_str()
        );
        Self { kept: Form::AsLoaded, reason, ..self.clone() }
    }

    /// The largest batch that gives each request the same as it gets alone; 1 where none was tried.
    pub fn largest_batch(&self) -> usize {
        self.batches.last().map_or(1, |(size, _)| *size)
    }
}

/// Why a form is out.
enum NotKept {
    Because(String),
    /// So are all others: the model itself doesn't give the same twice.
    NothingToCompare(String),
}

struct Search<'a> {
    stage: &'a mut dyn Stage,
    began: Duration,
    trials: Vec<Trial>,
}

impl From<String> for NotKept {
    fn from(reason: String) -> Self {
        Self::Because(reason)
    }
}

impl Search<'_> {
    fn form(&mut self, wish: Optimization) -> (Form, String) {
        let keep = |reason: &str| (Form::AsLoaded, reason.to_owned());
        if !self.stage.has_forms() {
            return keep("its code is compiled, and has no other form");
        }
        let candidates: &[Form] = match wish {
            Optimization::Only(Form::AsLoaded) => return keep("model-config.yaml asks for it"),
            // The likeliest first: a clear gain or the budget's end spare the rest.
            Optimization::Auto => &[Form::Fused, Form::Optimized, Form::ChannelsLast, Form::Frozen],
            Optimization::Only(form) => &[form],
        };
        let mut right = match self.time(Form::AsLoaded, 1) {
            Ok(alone) => vec![(Form::AsLoaded, vec![(1, alone)])],
            Err(error) => return keep(&format!("the model fails on the sample: {error}")),
        };
        for &form in candidates {
            // What is optimised is frozen first.
            if form == Form::Frozen && right.iter().any(|(known, _)| *known == Form::Optimized) {
                continue;
            }
            if fastest(&right).is_some_and(|(_, gain)| gain < CLEAR) {
                break;
            }
            let outcome = match self.has_time() {
                true => self.try_form(form),
                false => Err(NotKept::Because("there was no time left to try it".to_owned())),
            };
            match outcome {
                Ok(alone) => right.push((form, vec![(1, alone)])),
                Err(NotKept::Because(reason)) => self.trials.push(Trial { form, outcome: Err(reason) }),
                Err(NotKept::NothingToCompare(difference)) => {
                    return keep(&format!(
                        "the model gives different answers to the same input ({difference}), so that no other form can be compared with it"
                    ));
                }
            }
        }
        self.time_larger(&mut right);
        let fastest = fastest(&right);
        self.trials.extend(right.into_iter().map(|(form, times)| Trial { form, outcome: Ok(times) }));
        self.trials.sort_by_key(|trial| Form::ALL.iter().position(|form| *form == trial.form));
        match (wish, fastest) {
            (Optimization::Only(form), _) => match self.trials.iter().find(|trial| trial.form == form) {
                Some(Trial { outcome: Err(reason), .. }) => {
                    keep(&format!("model-config.yaml asks for {}, which can't be kept: {reason}", form.as_str()))
                }
                _ => (form, "model-config.yaml asks for it, and it gives the same".to_owned()),
            },
            (Optimization::Auto, Some((form, gain))) => {
                (form, format!("it gives the same and takes {gain:.2} of the time of the model as it was loaded"))
            }
            (Optimization::Auto, None) => keep("no other form gives the same in less time"),
        }
    }

    /// The time of one call, where the form gives what it should.
    fn try_form(&mut self, form: Form) -> Result<Duration, NotKept> {
        self.stage.prepare(form)?;
        let Some(difference) = self.stage.difference(form)? else {
            return Ok(self.time(form, 1)?);
        };
        // Asked only now: a form that gives the same shows that the model does, too.
        match self.stage.difference(Form::AsLoaded)? {
            Some(difference) => Err(NotKept::NothingToCompare(difference)),
            None => Err(NotKept::Because(format!("it gives something else: {difference}"))),
        }
    }

    /// Batches show more of a form than single inputs do; all that are compared are timed, or none is.
    fn time_larger(&mut self, right: &mut [(Form, Vec<(usize, Duration)>)]) {
        let longest = right.iter().map(|(_, times)| times[0].1).max().unwrap_or_default();
        // Two to warm up, and two or more to be timed.
        let needed = longest * (4 * COMPARED * right.len()) as u32;
        if right.len() < 2 || !self.stage.has_batch_dimension() || needed > self.left() / 2 {
            return;
        }
        let times: Result<Vec<Duration>, String> = right.iter().map(|(form, _)| self.time(*form, COMPARED)).collect();
        for ((_, known), time) in right.iter_mut().zip(times.unwrap_or_default()) {
            known.push((COMPARED, time / COMPARED as u32));
        }
    }

    /// The largest size that there is time for is compared, and those below it go with it.
    fn batches(&mut self, form: Form) -> Vec<(usize, Duration)> {
        if !self.stage.has_batch_dimension() {
            return Vec::new();
        }
        let Ok(alone) = self.known_time(form, 1).map_or_else(|| self.time(form, 1), Ok) else {
            return Vec::new();
        };
        let mut batches = vec![(1, alone)];
        // Compiled code has nothing else to try: the time is there, and what a batch of eight gains doesn't show in one of two.
        if alone >= LONG_ENOUGH && self.stage.has_forms() && !self.shares(form, alone) {
            return batches;
        }
        for size in BUCKETS.into_iter().skip(1).rev() {
            // One by one, as a batch to be compared and to warm up, and to be timed.
            if alone * 3 * u32::try_from(size).unwrap_or(u32::MAX) > self.left() {
                continue;
            }
            let is_largest = batches.len() == 1;
            if is_largest && !matches!(self.stage.batch_difference(form, size), Ok(None)) {
                continue;
            }
            match self.known_time(form, size).map_or_else(|| self.time_batch(form, size, alone), Ok) {
                Ok(time) => batches.insert(1, (size, time)),
                Err(_) => break,
            }
        }
        batches
    }

    /// Whether a slow model does two at once in less time than one after the other.
    fn shares(&mut self, form: Form, alone: Duration) -> bool {
        let shares = |both: Duration, alone: Duration| both < alone.mul_f64(2.0 * SHARES);
        // The first call prepares for the shape; forms are compared by two inputs at once.
        let compared = self.trials.iter().any(|trial| trial.form != Form::AsLoaded && trial.outcome.is_ok());
        if !compared && self.stage.time(form, 2, 1).is_err() {
            return false;
        }
        let Ok(both) = self.stage.time(form, 2, 1) else { return false };
        // One alone may have been the first when it was timed, and then it took too long.
        shares(both, alone) && self.stage.time(form, 1, 1).is_ok_and(|again| shares(both, alone.min(again)))
    }

    /// Of a batch that was timed when forms were compared.
    fn known_time(&self, form: Form, size: usize) -> Option<Duration> {
        let trial = self.trials.iter().find(|trial| trial.form == form)?;
        let (_, each) = trial.outcome.as_ref().ok()?.iter().find(|(known, _)| *known == size)?;
        Some(*each * u32::try_from(size).ok()?)
    }

    /// Long ones are timed by a single call.
    fn time_batch(&mut self, form: Form, size: usize, alone: Duration) -> Result<Duration, String> {
        match alone >= LONG_ENOUGH {
            true => self.stage.time(form, size, 1),
            false => self.time(form, size),
        }
    }

    /// One call, the shortest of some.
    fn time(&mut self, form: Form, size: usize) -> Result<Duration, String> {
        // The first calls prepare for the shape.
        let mut best = self.stage.time(form, size, 1)?;
        if best * 8 < LONG_ENOUGH {
            self.stage.time(form, size, 2)?;
        }
        if best >= LONG_ENOUGH * 4 {
            // What the first call prepares is little beside it.
            return Ok(best.min(self.stage.time(form, size, 1)?));
        }
        let calls = if best >= LONG_ENOUGH { 1 } else { 4 };
        let rounds = if best >= LONG_ENOUGH { 2 } else { 3 };
        best = Duration::MAX;
        for _ in 0..rounds {
            best = best.min(self.stage.time(form, size, calls)? / calls);
        }
        Ok(best)
    }

    fn left(&self) -> Duration {
        BUDGET.saturating_sub(self.spent())
    }

    fn spent(&self) -> Duration {
        self.stage.spent().saturating_sub(self.began)
    }

    fn has_time(&self) -> bool {
        !self.left().is_zero()
    }
}

/// The form other than the first that needs the least time for one input, and its share of what the first needs; `None` where it isn't worth it.
fn fastest(right: &[(Form, Vec<(usize, Duration)>)]) -> Option<(Form, f64)> {
    let best =
        |times: &[(usize, Duration)]| times.iter().map(|(_, time)| time.as_secs_f64()).fold(f64::INFINITY, f64::min);
    let ((first, first_times), others) = right.split_first()?;
    if *first != Form::AsLoaded {
        return None;
    }
    let as_loaded = best(first_times);
    let gains = others.iter().map(|(form, times)| (*form, best(times) / as_loaded));
    gains.min_by(|one, other| one.1.total_cmp(&other.1)).filter(|(_, gain)| *gain < WORTH_IT)
}

#[cfg(test)]
mod tests;
