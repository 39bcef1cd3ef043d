//! The trait that authors write.

use crate::Batch;
use crate::Context;
use crate::Error;
use crate::Request;
use crate::Response;
use crate::Result;
use crate::Value;

/// Answers requests: TorchServe's `BaseHandler`, with the same steps.
///
/// Most handlers write [`preprocess`](Self::preprocess) and [`postprocess`](Self::postprocess) and leave the rest.
/// Each request passes these two on its own, so that one that fails never harms its batch; [`inference`](Self::inference) sees the batch.
/// A handler without a model writes [`handle`](Self::handle) alone.
///
/// Every worker has an object of its own, made, called and dropped on that worker's thread: nothing here needs to be `Send` or `Sync`, and a `RefCell` is enough for state.
/// A panic is caught, answered as an error of the requests it concerns, and the object is replaced by a fresh one.
#[allow(unused_variables)] // The defaults show the names that authors see in their editors.
pub trait Handler: Default + 'static {
    /// Called once, before any request: reads files of the archive, builds a network on the host's weights.
    ///
    /// An error keeps the handler from serving; its text is shown to the operator.
    fn initialize(&mut self, context: &Context) -> Result<()> {
        Ok(())
    }

    /// Called after `initialize`: first in a process of its own, before a library is admitted to the server, where an error or a crash costs the server nothing; then by each worker before it takes requests.
    ///
    /// Make sample input, call the steps, compare. A call of the model here also warms it up, so that no request waits for that.
    fn self_test(&self, context: &Context) -> Result<()> {
        Ok(())
    }

    /// From one request to the model's input, without the batch dimension: a tensor, or a list of them for a model with several inputs.
    ///
    /// By default the input field is read as nested JSON lists of numbers.
    /// What `postprocess` needs of the request it reads from the request: nothing passes through `self`.
    fn preprocess(&self, request: &Request, context: &Context) -> Result<Value> {
        Ok(request.input()?.tensor()?.into())
    }

    /// From the inputs of a batch to one output each, in the same order.
    ///
    /// By default they are put together ([`Value::batch`]), the model is called once, and its value is split along the first dimension ([`Value::split`]).
    fn inference(&self, inputs: Vec<Value>, context: &Context) -> Result<Vec<Value>> {
        let count = inputs.len();
        context.model()?.forward(Value::batch(inputs)?)?.split(count)
    }

    /// From one output, without the batch dimension, to the answer.
    ///
    /// By default a tensor becomes nested JSON lists, as `tolist()` gives them.
    fn postprocess(&self, output: Value, request: &Request, context: &Context) -> Result<Response> {
        Ok(Response::json(&output.tensor()?.to_json()?))
    }

    /// The whole call: as many responses as the batch has requests, in the same order.
    ///
    /// By default the three steps one after the other.
    /// `Err` fails every request of the batch; for one alone, put `Response::from(error)` in its place.
    fn handle(&self, batch: &Batch, context: &Context) -> Result<Vec<Response>> {
        three_steps(self, batch, context)
    }
}

fn three_steps<H: Handler>(handler: &H, batch: &Batch, context: &Context) -> Result<Vec<Response>> {
    let mut failed = Vec::new();
    let mut inputs = Vec::new();
    for request in batch {
        match handler.preprocess(request, context) {
            Ok(input) => {
                inputs.push(input);
                failed.push(None);
            }
            Err(error) => failed.push(Some(error)),
        }
    }
    let count = inputs.len();
    let outputs = if inputs.is_empty() { Vec::new() } else { handler.inference(inputs, context)? };
    if outputs.len() != count {
        return Err(Error::new(format!("inference gave {} outputs for {count} inputs", outputs.len())));
    }
    let mut outputs = outputs.into_iter();
    Ok(failed
        .into_iter()
        .zip(batch)
        .map(|(failed, request)| match failed {
            Some(error) => error.into(),
            // The count was compared above, so there is one for each that didn't fail.
            None => outputs
                .next()
                .ok_or_else(|| Error::new("an output is missing"))
                .and_then(|output| handler.postprocess(output, request, context))
                .into(),
        })
        .collect())
}
