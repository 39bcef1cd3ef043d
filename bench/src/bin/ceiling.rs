//! The ceiling of a model: libtorch alone in a loop, with no server, no picture to decode and no answer to write.

#![allow(clippy::print_stdout, reason = "the figures are what the caller waits for")]

use std::path::PathBuf;
use std::sync::Barrier;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context;
use anyhow::Result;
use clap::Parser;
use sconce::model::Accelerators;
use sconce::model::InferenceMode;
use sconce::model::Runtime;
use serde_json::Value;
use serde_json::json;
use tch::CModule;
use tch::Device;
use tch::Kind;
use tch::Tensor;

/// Calls a model from one thread and from several, and prints how many inputs a second it takes, as JSON.
///
/// Every thread calls the same module, in inference mode, with one thread inside libtorch: as a server's workers do.
#[derive(Debug, Parser)]
struct Arguments {
    /// The model: TorchScript.
    model: PathBuf,

    /// The shape of one input, without the batch.
    #[arg(long, value_delimiter = ',', default_value = "1,28,28")]
    shape: Vec<i64>,

    /// The forms in which the model is called.
    #[arg(long, value_delimiter = ',', default_value = "asLoaded")]
    forms: Vec<String>,

    /// How many inputs a call brings.
    #[arg(long, value_delimiter = ',', default_value = "1,8,32")]
    batches: Vec<i64>,

    /// From how many threads it is called at once.
    #[arg(long, value_delimiter = ',', default_value = "1,2")]
    threads: Vec<usize>,

    /// How long each combination is measured.
    #[arg(long, default_value_t = 500)]
    milliseconds: u64,
}

/// What is measured at a time.
#[derive(Debug, Clone, Copy)]
struct Combination {
    batch: i64,
    threads: usize,
    time: Duration,
}

/// Calls of each thread before the clock starts: TorchScript settles in its first few.
const WARM_UP_CALLS: usize = 4;

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    Runtime::start(Accelerators::None, 1).context("libtorch can't be started")?;
    let time = Duration::from_millis(arguments.milliseconds);
    let mut rows = Vec::new();
    for form in &arguments.forms {
        let loaded = load(&arguments, form);
        for &batch in &arguments.batches {
            for &threads in &arguments.threads {
                let combination = Combination { batch, threads, time };
                let figure = loaded.as_ref().map_err(|error| format!("{error:#}")).and_then(|model| {
                    measure(model, &arguments.shape, combination).map_err(|error| format!("{error:#}"))
                });
                rows.push(row(form, combination, &figure));
            }
        }
    }
    println!("{}", Value::from(rows));
    Ok(())
}

fn row(form: &str, combination: Combination, figure: &Result<f64, String>) -> Value {
    let (per_second, error) = match figure {
        Ok(per_second) => (json!(per_second), Value::Null),
        Err(error) => (Value::Null, json!(error)),
    };
    json!({
        "form": form,
        "batch": combination.batch,
        "threads": combination.threads,
        "perSecond": per_second,
        "error": error,
    })
}

fn load(arguments: &Arguments, form: &str) -> Result<CModule> {
    anyhow::ensure!(form == "asLoaded", "no form {form}: there is asLoaded");
    CModule::load_on_device(&arguments.model, Device::Cpu)
        .with_context(|| format!("{} can't be loaded", arguments.model.display()))
}

/// Inputs a second, of all threads together.
fn measure(model: &CModule, shape: &[i64], combination: Combination) -> Result<f64> {
    let started = Barrier::new(combination.threads + 1);
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        let callers: Vec<_> = (0..combination.threads)
            .map(|_| scope.spawn(|| call_until(model, shape, combination.batch, &started, &ended)))
            .collect();
        started.wait();
        let begin = Instant::now();
        thread::sleep(combination.time);
        ended.store(true, Ordering::Relaxed);
        let mut calls = 0;
        for caller in callers {
            calls += caller.join().map_err(|_| anyhow::anyhow!("a thread that called the model panicked"))??;
        }
        Ok((calls * combination.batch as u64) as f64 / begin.elapsed().as_secs_f64())
    })
}

fn call_until(model: &CModule, shape: &[i64], batch: i64, started: &Barrier, ended: &AtomicBool) -> Result<u64> {
    let _mode = InferenceMode::enter();
    let whole: Vec<i64> = std::iter::once(batch).chain(shape.iter().copied()).collect();
    let input = Tensor::rand(whole, (Kind::Float, Device::Cpu));
    let warmed: Result<(), _> = (0..WARM_UP_CALLS).try_for_each(|_| model.forward_ts(&[&input]).map(drop));
    // After a failure too: the others wait for this one.
    started.wait();
    warmed.context("the model can't be called")?;
    let mut calls = 0;
    while !ended.load(Ordering::Relaxed) {
        let _scores = model.forward_ts(&[&input]).context("the model can't be called")?;
        calls += 1;
    }
    Ok(calls)
}
