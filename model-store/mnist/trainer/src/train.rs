//! Training: each step sees digits nobody has drawn before.

use tch::Tensor;
use tch::nn::{self, OptimizerConfig};

use crate::accuracy::Accuracy;
use crate::cli::TrainArgs;
use crate::error::Error;
use crate::evaluate;
use crate::export;
use crate::feed;
use crate::net::{Mode, Net};
use crate::report;
use crate::samples;

pub(crate) const WEIGHTS: &str = "mnist_cnn.safetensors";
const BATCH: u64 = 128;
const PEAK: f64 = 1.5e-3;
/// Drawn digits can be anybody's: the network shouldn't be too sure of any.
const SMOOTHING: f64 = 0.05;

pub(crate) fn train(args: &TrainArgs) -> Result<(), Error> {
    // Before the minutes of training, not after them.
    samples::folder(&args.out)?;
    tch::manual_seed(args.seed as i64);
    tch::set_num_threads(args.threads.into());
    let net = trained(args)?;
    let weights = args.out.join(WEIGHTS);
    net.write(&weights)?;
    report::wrote(&weights);
    export::write(&net, &args.out)?;
    let accuracy: Accuracy = evaluate::held_out(&net);
    report::accuracy("held-out digits", &accuracy);
    Ok(())
}

fn trained(args: &TrainArgs) -> Result<Net, Error> {
    let refused = |what| move |source| Error::Torch { what, source };
    let steps = args.epochs * (args.samples / BATCH);
    let store = nn::VarStore::new(tch::Device::Cpu);
    let mut net = Net::fresh();
    for (i, parameter) in net.parameters_mut().iter_mut().enumerate() {
        *parameter = store.root().var_copy(&i.to_string(), parameter);
    }
    // The answer is an average over the last steps: it generalises better than any one of them.
    let mut average = net.copied();
    let mut optimizer = nn::AdamW::default().build(&store, PEAK).map_err(refused("train"))?;
    let bar = report::bar(steps, "training");
    for (step, batch) in feed::start(args.seed, steps, BATCH).into_iter().enumerate() {
        optimizer.set_lr(rate(step as f64 / steps as f64));
        let answers = net.forward(&batch.pictures(), Mode::Training);
        let loss = loss(&answers, &batch.digits());
        optimizer.backward_step(&loss);
        follow(&mut average, &net, step);
        bar.inc(1);
        if step % 50 == 0 {
            bar.set_message(format!("loss {:.3}", loss.double_value(&[])));
        }
    }
    bar.finish();
    Ok(average)
}

/// Up over the first twentieth, then down along half a cosine.
fn rate(done: f64) -> f64 {
    let warm = (done / 0.05).min(1.0);
    PEAK * warm * (0.5 + 0.5 * (std::f64::consts::PI * done).cos()).max(0.01)
}

fn loss(answers: &Tensor, digits: &Tensor) -> Tensor {
    let even = answers.mean(tch::Kind::Float).neg();
    answers.nll_loss(digits) * (1.0 - SMOOTHING) + even * SMOOTHING
}

fn follow(average: &mut Net, net: &Net, step: usize) {
    // The first steps are forgotten soon: they know nothing yet.
    let keep = (step as f64 / (step as f64 + 10.0)).min(0.998);
    tch::no_grad(|| {
        for (slow, fast) in average.parameters_mut().iter_mut().zip(net.parameters()) {
            let _ = slow.lerp_(fast, 1.0 - keep);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_rises_and_then_falls() {
        let (start, peak, end) = (rate(0.0), rate(0.05), rate(1.0));
        assert!(start < 1e-9 && peak > 0.95 * PEAK && end < 0.02 * PEAK, "{start} {peak} {end}");
    }

    #[test]
    fn a_short_training_already_learns() {
        let out = tempfile::tempdir().unwrap();
        let args = TrainArgs { out: out.path().to_owned(), seed: 1, epochs: 1, samples: 128 * 12, threads: 1 };
        tch::manual_seed(1);
        let net = trained(&args).unwrap();
        let batch = feed::start(2, 1, 256).recv().unwrap();
        let loss = loss(&net.forward(&batch.pictures(), Mode::Answering), &batch.digits());
        assert!(loss.double_value(&[]) < 2.2, "no better than guessing: {loss:?}");
    }
}
