//! Which parts of an input made a model answer as it did: integrated gradients.
//!
//! The method of Sundararajan, Taly and Yan (<https://arxiv.org/abs/1703.01365>), in the numbers of Captum's `IntegratedGradients`: the gradients along the straight line from a baseline to the input, weighted by Gauss and Legendre's rule, times the difference of the two.

use serde_json::Value as Json;

use crate::Context;
use crate::Error;
use crate::Network;
use crate::Request;
use crate::Result;
use crate::Tensor;
use crate::Value;
use crate::classes;

/// Integrated gradients in so many steps.
///
/// ```
/// use handler_sdk::Network;
/// use handler_sdk::attribution::IntegratedGradients;
/// use handler_sdk::prelude::*;
/// use handler_sdk::testing::{Host, Request as Sent};
///
/// #[derive(Default)]
/// struct Why(Network);
///
/// impl Handler for Why {
///     fn initialize(&mut self, context: &Context) -> Result<()> {
///         self.0 = Network::load(context)?;
///         Ok(())
///     }
///
///     fn explain(&self, request: &Request, context: &Context) -> Result<Response> {
///         let row = self.preprocess(request, context)?.tensor()?;
///         let shares = IntegratedGradients::new(15).of_input(&self.0, row, 0, context)?;
///         Ok(Response::json(&shares.to_json()?))
///     }
/// }
///
/// // The model a² + 2b, with its gradients 2a and 2.
/// fn rows(values: &[Value]) -> Result<Vec<f32>> {
///     values[0].as_tensor()?.to_vec::<f32>()
/// }
/// let host = Host::new()
///     .model(|inputs| {
///         let sums: Vec<f32> = rows(inputs)?.chunks(2).map(|row| row[0] * row[0] + 2.0 * row[1]).collect();
///         Ok(Tensor::from_slice(&[sums.len() as i64, 1], &sums)?.into())
///     })
///     .gradients(|_, inputs, _| {
///         let found: Vec<f32> = rows(inputs)?.chunks(2).flat_map(|row| [2.0 * row[0], 2.0]).collect();
///         Tensor::from_slice(&inputs[0].as_tensor()?.shape(), &found)
///     });
/// let answer = host.start::<Why>()?.explain(Sent::json(&[3.0, 1.0]))?;
/// let shares: Vec<f64> = serde_json::from_slice(&answer.body)?;
/// assert!((shares[0] - 9.0).abs() < 1e-5 && (shares[1] - 2.0).abs() < 1e-5);
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct IntegratedGradients {
    /// On the line from the baseline (0) to the input (1), each with its weight.
    points: Vec<(f32, f32)>,
}

/// More steps than this cost much and change nothing.
const MOST_STEPS: u64 = 1000;

/// So many steps at once: what a network keeps for its gradients grows with them, and a thousand pictures would take tens of gigabytes.
const MOST_ROWS: usize = 16;

/// Where a request names the class to explain.
const TARGET: &str = "target";

// === impl IntegratedGradients ===

impl IntegratedGradients {
    /// With so many steps: that many times the model runs forward and backward, in batches where it can.
    pub fn new(steps: usize) -> Self {
        Self { points: gauss_legendre(steps.max(1)) }
    }

    /// With the steps that `handler: {n_steps: …}` of model-config.yaml names, else `steps`.
    ///
    /// Fails where that isn't a number from 1 to 1000.
    pub fn from_config(context: &Context, steps: usize) -> Result<Self> {
        match &context.config()["handler"]["n_steps"] {
            Json::Null => Ok(Self::new(steps)),
            named => match named.as_u64() {
                #[allow(clippy::cast_possible_truncation)] // At most a thousand.
                Some(steps @ 1..=MOST_STEPS) => Ok(Self::new(steps as usize)),
                _ => Err(Error::new(format!(
                    "model-config.yaml has `handler: {{n_steps: {named}}}`, which must be a number from 1 to {MOST_STEPS}"
                ))),
            },
        }
    }

    /// The share of each number of `input` (of one request, without the batch dimension) in the output's column `target`, against an input of zeros; in the shape of `input`.
    ///
    /// Fails with status 400 where the model's output has no such column: the client names it.
    pub fn of_input(&self, network: &Network, input: Tensor, target: usize, context: &Context) -> Result<Tensor> {
        let shape = input.shape();
        let numbers = floats(&input)?;
        let output = network.forward(vec![Tensor::stack(&[input])?.into()], context)?;
        check_target(output, target)?;
        let gradients = |points: &[(f32, f32)]| {
            let scaled: Vec<f32> =
                points.iter().flat_map(|(alpha, _)| numbers.iter().map(move |number| alpha * number)).collect();
            let rows = i64::try_from(points.len())?;
            let batch = Tensor::from_slice(&[&[rows], &shape[..]].concat(), &scaled)?;
            floats(&network.gradients(vec![batch.into()], target, context)?)
        };
        let mut sums = vec![0.0_f32; numbers.len()];
        let mut add_all = |points: &[(f32, f32)], gradients: &[f32]| {
            for (row, (_, weight)) in gradients.chunks_exact(numbers.len().max(1)).zip(points) {
                add(&mut sums, row, *weight);
            }
        };
        for points in self.points.chunks(MOST_ROWS) {
            match gradients(points) {
                Ok(found) => add_all(points, &found),
                // A model that was traced with one input takes no batch.
                Err(_) if points.len() > 1 => {
                    for point in points.chunks(1) {
                        add_all(point, &gradients(point)?);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        sums.iter_mut().zip(&numbers).for_each(|(sum, number)| *sum *= number);
        Tensor::from_slice(&shape, &sums)
    }

    /// The share of each number that the model's submodule `layer` gives for `inputs`, against what it gives for `baselines`; in the shape of what it gives.
    ///
    /// For inputs that have no gradients themselves: a text's tokens, of which `layer` is the embedding.
    /// Fails with status 400 where the model's output has no column `target`.
    pub fn of_layer(
        &self,
        layer: &str,
        inputs: &[Value],
        baselines: &[Value],
        target: usize,
        context: &Context,
    ) -> Result<Tensor> {
        let model = context.model()?;
        check_target(model.forward(inputs.to_vec())?, target)?;
        let given = model.layer(layer, inputs.to_vec())?.tensor()?;
        let shape = given.shape();
        let (end, start) = (floats(&given)?, floats(&model.layer(layer, baselines.to_vec())?.tensor()?)?);
        if end.len() != start.len() {
            return Err(Error::new(format!(
                "the layer {layer:?} gives {} numbers for the input and {} for the baseline, and they must be as many",
                end.len(),
                start.len()
            )));
        }
        let mut sums = vec![0.0_f32; end.len()];
        // One after the other: what the model does behind the layer may mix the rows.
        for (alpha, weight) in &self.points {
            let between: Vec<f32> = start.iter().zip(&end).map(|(start, end)| start + alpha * (end - start)).collect();
            let between = Tensor::from_slice(&shape, &between)?;
            add(&mut sums, &floats(&model.gradients_at_layer(layer, between, inputs.to_vec(), target)?)?, *weight);
        }
        sums.iter_mut().zip(start.iter().zip(&end)).for_each(|(sum, (start, end))| *sum *= end - start);
        Tensor::from_slice(&shape, &sums)
    }
}

/// The class that a request asks about, by its number: in the field `target`, or under `target` of a JSON object that is its input; 0 where it names none.
///
/// Fails with status 400 where that is no number of a class.
pub fn target(request: &Request) -> Result<usize> {
    let named = match request.field(TARGET) {
        Some(field) => String::from_utf8_lossy(field.bytes()).trim().to_owned(),
        None => request.input().ok().and_then(|field| in_object(field.bytes())).unwrap_or_default(),
    };
    // As TorchServe takes what is empty.
    if named.is_empty() || named == "null" {
        return Ok(0);
    }
    named.parse().map_err(|_| {
        let found: String = named.chars().take(16).flat_map(char::escape_debug).collect();
        Error::bad_request(format!(
            "field `{TARGET}` begins with \"{found}\", and must be the number of a class, counted from 0: send 3, say, or leave the field away for class 0"
        ))
    })
}

/// What a JSON object has under `target`, as a form would have it.
fn in_object(input: &[u8]) -> Option<String> {
    if !input.trim_ascii_start().starts_with(b"{") {
        return None;
    }
    match serde_json::from_slice::<Json>(input).ok()?.get(TARGET)? {
        Json::String(text) => Some(text.trim().to_owned()),
        other => Some(other.to_string()),
    }
}

fn add(sums: &mut [f32], gradients: &[f32], weight: f32) {
    sums.iter_mut().zip(gradients).for_each(|(sum, gradient)| *sum += weight * gradient);
}

#[allow(clippy::cast_possible_truncation)] // float32 is what models compute with.
fn floats(tensor: &Tensor) -> Result<Vec<f32>> {
    Ok(tensor.to_f64()?.into_iter().map(|number| number as f32).collect())
}

fn check_target(output: Value, target: usize) -> Result<()> {
    let shape = classes::among(output).tensor().map_err(|error| error.context("explanations"))?.shape();
    match shape[..] {
        [_, columns, ..] if usize::try_from(columns).is_ok_and(|columns| target < columns) => Ok(()),
        [_, columns, ..] => Err(Error::bad_request(format!(
            "field `target` asks for class {target}, and the model has {columns} classes, counted from 0"
        ))),
        _ => Err(Error::new(format!(
            "explanations need a model that gives scores of shape [batch, classes]; this one gives {shape:?}"
        ))),
    }
}

/// The roots of Legendre's polynomial of degree `count`, moved from (-1, 1) to (0, 1), ascending, each with its weight.
fn gauss_legendre(count: usize) -> Vec<(f32, f32)> {
    #[allow(clippy::cast_precision_loss)] // A thousand at most.
    let number = |index: usize| index as f64;
    let degree = number(count);
    let root = |index: usize| {
        // Tricomi's guess, which Newton's method makes exact within a few rounds.
        let mut x = (std::f64::consts::PI * (number(index) + 0.75) / (degree + 0.5)).cos();
        let mut slope = 1.0;
        for _ in 0..100 {
            let (mut last, mut value) = (1.0, x);
            for step in 2..=count {
                let step = number(step);
                (last, value) = (value, ((2.0 * step - 1.0) * x * value - (step - 1.0) * last) / step);
            }
            slope = degree * (x * value - last) / (x * x - 1.0);
            let change = value / slope;
            x -= change;
            if change.abs() < 1e-15 {
                break;
            }
        }
        let weight = 2.0 / ((1.0 - x * x) * slope * slope);
        #[allow(clippy::cast_possible_truncation)]
        (((1.0 + x) / 2.0) as f32, (weight / 2.0) as f32)
    };
    (0..count).rev().map(root).collect()
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use serde_json::json;

    use super::*;
    use crate::Handler;
    use crate::Response;
    use crate::testing::Host;
    use crate::testing::Request as Sent;

    /// Explains with 40 steps, and answers with the target.
    #[derive(Default)]
    struct Why(Network);

    impl Handler for Why {
        fn initialize(&mut self, context: &Context) -> Result<()> {
            self.0 = Network::load(context)?;
            Ok(())
        }

        fn preprocess(&self, _: &Request, _: &Context) -> Result<Value> {
            Ok(Tensor::from_slice(&[2], &[3.0_f32, 1.0])?.into())
        }

        fn explain(&self, request: &Request, context: &Context) -> Result<Response> {
            let row = self.preprocess(request, context)?.tensor()?;
            let target = target(request)?;
            let shares = IntegratedGradients::new(40).of_input(&self.0, row, target, context)?;
            Ok(json!({"shares": shares.to_json()?, "target": target}).into())
        }
    }

    /// The model a² + b², with ten times the same score, of which no more than `most` rows can have gradients at once; with the rows of each call.
    fn squares(most: usize) -> (Host, Rc<RefCell<Vec<usize>>>) {
        let calls = Rc::new(RefCell::new(Vec::new()));
        let seen = Rc::clone(&calls);
        let host = Host::new().model(|_| Ok(Tensor::from_slice(&[1, 10], &[10.0_f32; 10])?.into())).gradients(
            move |_, inputs, _| {
                let input = inputs[0].as_tensor()?;
                let rows = usize::try_from(input.shape()[0])?;
                seen.borrow_mut().push(rows);
                if rows > most {
                    return Err(Error::new("the model takes no such batch"));
                }
                let twice: Vec<f32> = input.to_vec::<f32>()?.into_iter().map(|number| number * 2.0).collect();
                Tensor::from_slice(&input.shape(), &twice)
            },
        );
        (host, calls)
    }

    fn explain(host: Host, sent: Sent) -> Result<Json> {
        Ok(serde_json::from_slice(&host.start::<Why>()?.explain(sent)?.body)?)
    }

    #[test]
    fn many_steps_are_many_small_batches_and_one_at_a_time_where_the_model_takes_no_batch() {
        for (most, expected) in [
            (usize::MAX, vec![16, 16, 8]),
            (1, [vec![16], vec![1; 16], vec![16], vec![1; 16], vec![8], vec![1; 8]].concat()),
        ] {
            let (host, calls) = squares(most);
            let answer = explain(host, Sent::body("x")).unwrap();
            assert_eq!(*calls.borrow(), expected);
            for (index, share) in [9.0, 1.0].into_iter().enumerate() {
                assert!((answer["shares"][index].as_f64().unwrap() - share).abs() < 1e-5, "{answer}");
            }
        }
        // What fails alone, too, is told in the model's own words.
        let error = explain(squares(0).0, Sent::body("x")).unwrap_err();
        assert!(error.log_text().contains("the model takes no such batch"), "{error}");
    }

    #[test]
    fn a_request_names_the_class_to_explain_in_a_form_or_in_json() {
        let form = |target: &str| Sent::default().field("data", "x").field("target", target);
        for (sent, expected) in [
            (Sent::body("x"), 0),
            (form(""), 0),
            (form(" 7 "), 7),
            (form("null"), 0),
            (Sent::json(&json!({"data": "x", "target": 3})), 3),
            (Sent::json(&json!({"data": "x", "target": "3"})), 3),
            (Sent::json(&json!({"data": "x", "target": null})), 0),
            (Sent::json(&json!({"data": "x"})), 0),
            (Sent::json(&json!(["target"])), 0),
        ] {
            assert_eq!(explain(squares(16).0, sent).unwrap()["target"], expected);
        }
        for (sent, part) in [
            (form("-1"), "begins with \"-1\""),
            (form("tab\tby, and much more than that"), "begins with \"tab\\tby, and much\""),
            (Sent::json(&json!({"data": "x", "target": [3]})), "begins with \"[3]\""),
            (form("10"), "asks for class 10"),
        ] {
            let error = explain(squares(16).0, sent).unwrap_err();
            assert_eq!(error.status(), 400, "{error}");
            assert!(error.client_text().contains(part), "{error}");
        }
    }

    #[test]
    fn the_points_are_those_of_gauss_and_legendre() {
        // numpy.polynomial.legendre.leggauss, moved to (0, 1).
        assert_eq!(gauss_legendre(1), [(0.5, 1.0)]);
        let three = [(0.112_701_66, 0.277_777_8), (0.5, 0.444_444_45), (0.887_298_3, 0.277_777_8)];
        for (found, wanted) in gauss_legendre(3).into_iter().zip(three) {
            assert!((found.0 - wanted.0).abs() < 1e-7 && (found.1 - wanted.1).abs() < 1e-7, "{found:?} {wanted:?}");
        }
        for count in [2, 15, 50, 1000] {
            // Exact for polynomials of degree 2n - 1: the integral of x³ over (0, 1) is 1/4.
            let points = gauss_legendre(count);
            let integral: f64 = points.iter().map(|&(x, weight)| f64::from(weight) * f64::from(x).powi(3)).sum();
            assert!((integral - 0.25).abs() < 1e-6, "{count}: {integral}");
            assert!(points.is_sorted_by(|a, b| a.0 < b.0));
        }
    }
}
