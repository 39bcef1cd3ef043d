//! How a model's requests are put together, and in which form the model runs, as JSON says it.

use std::time::Duration;

use serde::Serialize;
use utoipa::ToSchema;

use crate::serving::Batching;
use crate::serving::Optimization;
use crate::serving::Trial;
use crate::serving::Tuning;

/// How requests are put together now.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct BatchingDescription {
    /// `automatic`, `whenIdle` or `delayed`.
    mode: &'static str,
    /// The most requests that a batch has now.
    largest: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    target_latency_ms: Option<u128>,
    /// What a batch of each size takes, the handler's steps included.
    times: Vec<BatchTime>,
}

/// In which form the model runs, and why.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct OptimizationDescription {
    /// `auto`, or a form.
    asked: &'static str,
    /// `asLoaded`, `frozen`, `optimized`, `fused` or `channelsLast`.
    kept: &'static str,
    reason: String,
    trials: Vec<TrialDescription>,
    /// What the trial took when the model was loaded.
    milliseconds: f64,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct TrialDescription {
    form: &'static str,
    /// What the model alone takes for one input of a batch; empty where the form can't be kept.
    times: Vec<InputTime>,
    /// Why it can't be kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    refused: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct BatchTime {
    size: usize,
    milliseconds: f64,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct InputTime {
    batch_size: usize,
    milliseconds: f64,
}

// === impl BatchingDescription ===

impl BatchingDescription {
    pub(super) fn of(batching: Batching) -> Self {
        let time = |(size, time): (usize, Duration)| BatchTime { size, milliseconds: milliseconds(time) };
        Self {
            mode: batching.mode.as_str(),
            largest: batching.largest,
            target_latency_ms: batching.target_latency.map(|target| target.as_millis()),
            times: batching.times.into_iter().map(time).collect(),
        }
    }
}

// === impl OptimizationDescription ===

impl OptimizationDescription {
    pub(super) fn of(asked: Optimization, tuning: &Tuning) -> Self {
        Self {
            asked: asked.as_str(),
            kept: tuning.kept.as_str(),
            reason: tuning.reason.clone(),
            trials: tuning.trials.iter().map(TrialDescription::of).collect(),
            milliseconds: milliseconds(tuning.took),
        }
    }
}

// === impl TrialDescription ===

impl TrialDescription {
    fn of(trial: &Trial) -> Self {
        let time = |(batch_size, time): &(usize, Duration)| InputTime {
            batch_size: *batch_size,
            milliseconds: milliseconds(*time),
        };
        Self {
            form: trial.form.as_str(),
            times: trial.outcome.iter().flatten().map(time).collect(),
            refused: trial.outcome.as_ref().err().cloned(),
        }
    }
}

/// To a thousandth.
fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}
