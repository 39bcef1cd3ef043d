//! The ceiling of a model: libtorch alone in a loop, with no server, no picture to decode and no answer to write.
//!
//! The forms are the host's own (`optimization` in model-config.yaml); the loop of calls is C++, in its shim.

#![allow(clippy::print_stdout, reason = "the figures are what the caller waits for")]

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Barrier;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context;
use anyhow::Result;
use clap::Parser;
use handler_sdk::DType;
use handler_sdk::Device;
use handler_sdk::abi::raw::RawEvent;
use handler_sdk::abi::raw::RawTensor;
use sconce::model;
use sconce::model::Accelerators;
use sconce::model::InferenceMode;
use sconce::model::Model;
use sconce::model::ModelOptions;
use sconce::model::Optimization;
use sconce::model::Runtime;
use sconce::model::set_threads;
use serde_json::Value;
use serde_json::json;

/// Calls a model from one thread and from several, and prints how many inputs a second it takes, as JSON.
///
/// Every thread calls the same model, in inference mode, with one thread inside libtorch: as a server's workers do.
#[derive(Debug, Parser)]
struct Arguments {
    /// The model: TorchScript, or an AOTInductor package.
    model: PathBuf,

    /// The shape of one input of 32-bit floats, without the batch.
    #[arg(long, value_delimiter = ',', default_value = "1,28,28")]
    shape: Vec<i64>,

    /// The forms in which the model is called: asLoaded, frozen, optimized, fused, channelsLast; pt2 for a package, which has no others.
    #[arg(long, value_delimiter = ',', default_value = "asLoaded,frozen,optimized,fused,channelsLast")]
    forms: Vec<String>,

    /// How many inputs a call brings.
    #[arg(long, value_delimiter = ',', default_value = "1,8,32")]
    batches: Vec<i64>,

    /// From how many threads it is called at once.
    #[arg(long, value_delimiter = ',', default_value = "1,2")]
    threads: Vec<usize>,

    /// So many copies of the model, each with weights of its own, called in turn: what many models cost without a server.
    #[arg(long, default_value_t = 1)]
    copies: usize,

    /// How long each combination is measured.
    #[arg(long, default_value_t = 500)]
    milliseconds: u64,
}

/// What is measured at a time.
#[derive(Debug, Clone, Copy)]
struct Combination {
    threads: usize,
    time: Duration,
}

/// A batch of inputs.
#[derive(Debug, Clone)]
struct Inputs {
    shape: Vec<i64>,
    bytes: Vec<u8>,
}

/// Calls of each thread before the clock starts: libtorch settles in its first few.
const WARM_UP_CALLS: usize = 4;

/// Calls are made in rows of about so long, so that looking at the clock costs nothing.
const ROW: Duration = Duration::from_millis(5);

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    Runtime::start(Accelerators::None, 1).context("libtorch can't be started")?;
    let time = Duration::from_millis(arguments.milliseconds);
    let mut rows = Vec::new();
    for form in &arguments.forms {
        let copies = (0..arguments.copies.max(1)).map(|_| load(&arguments, form));
        let loaded = copies.collect::<Result<Vec<_>>>().map_err(|error| format!("{error:#}"));
        for &batch in &arguments.batches {
            let inputs = Inputs::new(batch, &arguments.shape);
            for &threads in &arguments.threads {
                let calls = loaded.as_ref().map_err(String::clone).and_then(|models| {
                    measure(models, &inputs, Combination { threads, time }).map_err(|error| format!("{error:#}"))
                });
                rows.push(json!({
                    "form": form,
                    "batch": batch,
                    "threads": threads,
                    "perSecond": calls.as_ref().ok().map(|calls| calls * batch as f64),
                    "error": calls.as_ref().err(),
                }));
            }
        }
    }
    println!("{}", Value::from(rows));
    Ok(())
}

/// Loads the model in a form; an error where it can't be kept in it.
fn load(arguments: &Arguments, form: &str) -> Result<Arc<dyn Model>> {
    let wish = match form {
        "pt2" => None,
        form => Some(Optimization::parse(form).with_context(|| format!("there is no form {form}"))?),
    };
    let options = ModelOptions { optimization: wish.unwrap_or_default() };
    let model = model::load(&arguments.model, Device::Cpu, options)?;
    if wish.is_some() {
        let sample = Inputs::new(1, &arguments.shape);
        let tuning = sample.lend(|event| model.tune(&[event])).context("this model has no forms")?;
        anyhow::ensure!(tuning.kept.as_str() == form, "{}", tuning.reason);
    }
    Ok(model)
}

/// Calls a second, of all threads together.
fn measure(models: &[Arc<dyn Model>], inputs: &Inputs, combination: Combination) -> Result<f64> {
    let started = Barrier::new(combination.threads + 1);
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        let callers: Vec<_> =
            (0..combination.threads).map(|_| scope.spawn(|| call_until(models, inputs, &started, &ended))).collect();
        started.wait();
        thread::sleep(combination.time);
        ended.store(true, Ordering::Relaxed);
        let mut per_second = 0.0;
        for caller in callers {
            per_second += caller.join().map_err(|_| anyhow::anyhow!("a thread that called the model panicked"))??;
        }
        Ok(per_second)
    })
}

/// Calls a second of this thread.
fn call_until(models: &[Arc<dyn Model>], inputs: &Inputs, started: &Barrier, ended: &AtomicBool) -> Result<f64> {
    // Said on each thread: some of libtorch's kernels ask nobody else how many threads they may use.
    set_threads(1);
    let _mode = InferenceMode::enter();
    let call = |model: &Arc<dyn Model>, times: usize| {
        let called = inputs.lend(|event| model.repeat(&[event], times));
        called.map_err(|error| anyhow::anyhow!("the model can't be called: {error}"))
    };
    // Of several models each is called once before the next one is.
    let row_of = |calls: usize| -> Result<Duration> {
        let begin = Instant::now();
        match models {
            [model] => call(model, calls)?,
            _ => models.iter().cycle().take(calls).try_for_each(|model| call(model, 1))?,
        }
        Ok(begin.elapsed())
    };
    let warmed = models.iter().try_for_each(|model| call(model, WARM_UP_CALLS)).and_then(|()| row_of(1));
    // After a failure too: the others wait for this one.
    started.wait();
    let once = warmed?;
    let fits = (ROW.as_secs_f64() / once.as_secs_f64().max(1e-9)).clamp(1.0, 1e4) as usize;
    // Whole rounds, so that each model comes as often as the others.
    let row = fits.next_multiple_of(models.len());
    let (mut calls, mut taken) = (0, Duration::ZERO);
    while !ended.load(Ordering::Relaxed) {
        taken += row_of(row)?;
        calls += row;
    }
    anyhow::ensure!(calls > 0, "the time was too short for a single call");
    Ok(calls as f64 / taken.as_secs_f64())
}

// === impl Inputs ===

impl Inputs {
    /// Between 0 and 1, none like its neighbours.
    fn new(batch: i64, shape: &[i64]) -> Self {
        let shape: Vec<i64> = std::iter::once(batch).chain(shape.iter().copied()).collect();
        let count = shape.iter().product::<i64>();
        let bytes = (0..count).flat_map(|place| ((place % 97) as f32 / 97.0).to_ne_bytes()).collect();
        Self { shape, bytes }
    }

    fn lend<T>(&self, work: impl FnOnce(RawEvent<'_>) -> T) -> T {
        work(RawEvent::tensor("", RawTensor::plain(DType::F32.code(), &self.shape, &self.bytes)))
    }
}
