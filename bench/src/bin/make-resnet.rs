//! A ResNet-18 as TorchScript, without Python: random weights in the SDK's own network, traced.
//!
//! How fast a network is doesn't hang on what it was trained for, so long as its numbers stay finite.

#![allow(clippy::print_stdout, reason = "a command says what it wrote")]

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Parser;
use handler_sdk::Network;
use handler_sdk::Tensor;
use handler_sdk::prelude::*;
use handler_sdk::testing::Host;
use tch::CModule;
use tch::Device;
use tch::Kind;

/// Writes the model, and checks that it takes any number of pictures at once.
#[derive(Debug, Parser)]
struct Arguments {
    /// The file to write.
    out: PathBuf,
}

/// Traces the network when it is handed the weights, as a handler's object is.
#[derive(Default)]
struct Tracer;

/// Where the tracer writes, in the handler's configuration.
const OUT: &str = "out";

const CLASSES: i64 = 1000;
const PICTURE: [i64; 3] = [3, 224, 224];
/// The same weights every time.
const SEED: i64 = 18;

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    tch::manual_seed(SEED);
    let weights = tch::no_grad(weights);
    let weights = weights.into_iter().map(|(name, tensor)| (name, Tensor::from(tensor)));
    let config = serde_json::json!({ OUT: arguments.out });
    Host::new().weights(weights).config(config).start::<Tracer>().map_err(|error| anyhow::anyhow!("{error}"))?;
    for pictures in [1, 3] {
        check(&arguments.out, pictures)?;
    }
    println!("wrote {}", arguments.out.display());
    Ok(())
}

// === impl Tracer ===

impl Handler for Tracer {
    fn initialize(&mut self, context: &Context) -> Result<()> {
        let out = context.config()[OUT].as_str().unwrap_or_default();
        let network = Network::load(context)?;
        let mut failure = None;
        let module = tch::no_grad(|| {
            CModule::create_by_tracing("ResNet18", "forward", &[pictures(2)], &mut |inputs| {
                let scores = network
                    .forward(vec![Tensor::from(inputs[0].shallow_clone()).into()], context)
                    .and_then(|value| value.tensor()?.into_tch());
                vec![scores.unwrap_or_else(|error| {
                    failure = Some(error);
                    tch::Tensor::new()
                })]
            })
        });
        match failure {
            Some(error) => Err(error),
            None => Ok(module?.save(out)?),
        }
    }
}

/// A trace can keep the batch size it was made with, and would then fail on the first other batch.
fn check(file: &PathBuf, count: i64) -> anyhow::Result<()> {
    let module = CModule::load(file).with_context(|| format!("{} can't be loaded", file.display()))?;
    let scores = tch::no_grad(|| module.forward_ts(&[pictures(count)])).context("the traced model can't be called")?;
    anyhow::ensure!(scores.size() == [count, CLASSES], "it gave shape {:?} for {count} pictures", scores.size());
    let largest = scores.abs().max().double_value(&[]);
    // A NaN is below no limit.
    anyhow::ensure!(largest < 1e4, "its scores are out of bounds: {largest}");
    Ok(())
}

fn pictures(count: i64) -> tch::Tensor {
    let [colours, height, width] = PICTURE;
    tch::Tensor::rand([count, colours, height, width], (Kind::Float, Device::Cpu))
}

/// By torchvision's names, and so large that a picture's numbers neither vanish nor grow on their way.
fn weights() -> Vec<(String, tch::Tensor)> {
    let mut all = Vec::new();
    step(&mut all, ("conv1", "bn1"), [64, PICTURE[0], 7, 7]);
    let mut inputs = 64;
    for layer in 1..=4 {
        let outputs = 64 << (layer - 1);
        for block in 0..2 {
            let name = format!("layer{layer}.{block}");
            step(&mut all, (&format!("{name}.conv1"), &format!("{name}.bn1")), [outputs, inputs, 3, 3]);
            step(&mut all, (&format!("{name}.conv2"), &format!("{name}.bn2")), [outputs, outputs, 3, 3]);
            if inputs != outputs {
                let names = (format!("{name}.downsample.0"), format!("{name}.downsample.1"));
                step(&mut all, (&names.0, &names.1), [outputs, inputs, 1, 1]);
            }
            inputs = outputs;
        }
    }
    all.push(("fc.weight".to_owned(), random(&[CLASSES, inputs], 0.05)));
    all.push(("fc.bias".to_owned(), constant(CLASSES, 0.0)));
    all
}

/// A convolution and its norm.
fn step(all: &mut Vec<(String, tch::Tensor)>, (convolution, norm): (&str, &str), shape: [i64; 4]) {
    let [outputs, inputs, height, width] = shape;
    let spread = (2.0 / (inputs * height * width) as f64).sqrt();
    all.push((format!("{convolution}.weight"), random(&shape, spread)));
    for (part, value) in [("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0)] {
        all.push((format!("{norm}.{part}"), constant(outputs, value)));
    }
}

fn random(shape: &[i64], spread: f64) -> tch::Tensor {
    tch::Tensor::randn(shape, (Kind::Float, Device::Cpu)) * spread
}

fn constant(length: i64, value: f64) -> tch::Tensor {
    tch::Tensor::full([length], value, (Kind::Float, Device::Cpu))
}
