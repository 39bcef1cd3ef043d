//! The three steps of a prediction, one after the other, or each on its own.

use std::time::Duration;
use std::time::Instant;

use crate::Batch;
use crate::Context;
use crate::Error;
use crate::Handler;
use crate::MetricKind;
use crate::Request;
use crate::Response;
use crate::Result;
use crate::Value;
use crate::abi::STAGE_METRICS;

/// How far one request has come.
///
/// It may pass from thread to thread, and from one object of the handler to another.
#[derive(Debug)]
pub(crate) struct Underway {
    at: Stage,
    /// What `preprocess` took.
    preprocess: Duration,
}

#[derive(Debug)]
enum Stage {
    Input(Value),
    Output(Value),
    /// With an error of its own, which is its answer in the end.
    Failed(Error),
    /// A step has taken the value, and didn't come to its end.
    Taken,
}

const _: () = {
    const fn is_send<T: Send>() {}
    is_send::<Underway>();
};

/// All steps for all requests.
pub(crate) fn all<H: Handler>(handler: &H, batch: &Batch, context: &Context) -> Result<Vec<Response>> {
    context.mark_steps::<H>();
    let mut requests: Vec<Underway> = batch.iter().map(|request| prepare(handler, request, context)).collect();
    infer(handler, requests.iter_mut(), context)?;
    let mut responses = Vec::with_capacity(batch.len());
    finish(handler, batch.iter().zip(&mut requests), context, |_, response| responses.push(response));
    Ok(responses)
}

/// `preprocess`; an error stays with the request.
pub(crate) fn prepare<H: Handler>(handler: &H, request: &Request<'_>, context: &Context) -> Underway {
    let began = Instant::now();
    let at = match handler.preprocess(request, context) {
        Ok(input) => Stage::Input(input),
        Err(error) => Stage::Failed(error),
    };
    Underway { at, preprocess: began.elapsed() }
}

/// `inference` for those that have an input.
pub(crate) fn infer<'a, H: Handler>(
    handler: &H,
    batch: impl Iterator<Item = &'a mut Underway>,
    context: &Context,
) -> Result<()> {
    let mut took = Duration::ZERO;
    let (mut waiting, mut inputs) = (Vec::new(), Vec::new());
    for request in batch {
        took += request.preprocess;
        if let Some(input) = request.take_input() {
            waiting.push(request);
            inputs.push(input);
        }
    }
    tell(STAGE_METRICS[0], took, context);
    let count = inputs.len();
    if count == 0 {
        return Ok(());
    }
    let began = Instant::now();
    let outputs = handler.inference(inputs, context);
    tell(STAGE_METRICS[1], began.elapsed(), context);
    let outputs = outputs?;
    if outputs.len() != count {
        return Err(Error::new(format!("inference gave {} outputs for {count} inputs", outputs.len())));
    }
    waiting.into_iter().zip(outputs).for_each(|(request, output)| request.at = Stage::Output(output));
    Ok(())
}

/// `postprocess` for each; the answer is passed on before the next is made.
pub(crate) fn finish<'a, H: Handler>(
    handler: &H,
    batch: impl Iterator<Item = (&'a Request<'a>, &'a mut Underway)>,
    context: &Context,
    mut answer: impl FnMut(&Request<'_>, Response),
) {
    let mut took = Duration::ZERO;
    for (request, underway) in batch {
        let response = match std::mem::replace(&mut underway.at, Stage::Taken) {
            Stage::Output(output) => {
                let began = Instant::now();
                let response = handler.postprocess(output, request, context);
                took += began.elapsed();
                response.into()
            }
            Stage::Failed(error) => error.into(),
            Stage::Input(_) | Stage::Taken => Error::new("the request has no output; this is a bug").into(),
        };
        answer(request, response);
    }
    tell(STAGE_METRICS[2], took, context);
}

/// Tells the host what one step took for a batch.
fn tell(name: &str, took: Duration, context: &Context) {
    context.metric(MetricKind::Gauge, name, took.as_secs_f64() * 1e3, "ms");
}

// === impl Underway ===

impl Underway {
    fn take_input(&mut self) -> Option<Value> {
        match std::mem::replace(&mut self.at, Stage::Taken) {
            Stage::Input(input) => Some(input),
            other => {
                self.at = other;
                None
            }
        }
    }
}
