//! The trait that authors write.

use std::time::Instant;

use crate::Batch;
use crate::Context;
use crate::Error;
use crate::MetricKind;
use crate::Request;
use crate::Response;
use crate::Result;
use crate::Value;
use crate::abi::STAGE_METRICS;

/// Answers requests: TorchServe's `BaseHandler`, with the same steps.
///
/// Most handlers write [`preprocess`](Self::preprocess) and [`postprocess`](Self::postprocess) and leave the rest.
/// Each request passes these two on its own, so that one that fails never harms its batch; [`inference`](Self::inference) sees the batch.
/// A handler without a model writes [`handle`](Self::handle) alone.
///
/// Every worker has an object of its own, made, called and dropped on that worker's thread: nothing here needs to be `Send` or `Sync`, and a `RefCell` is enough for state.
/// A panic is caught, answered as an error of the requests it concerns, and the object is replaced by a fresh one, without the state of the first.
///
/// # State that survives a swap
///
/// When a handler is swapped, new objects take the place of the old ones and start afresh, and so do caches and counters.
/// A handler that has a [`STATE_VERSION`](Self::STATE_VERSION) hands them over, as bytes:
///
/// ```
/// use std::cell::Cell;
///
/// use handler_sdk::prelude::*;
/// use handler_sdk::testing::{Host, Request as Sent};
///
/// /// Counts the requests of its life, and of the lives before.
/// #[derive(Default)]
/// struct Counter(Cell<u64>);
///
/// impl Handler for Counter {
///     const STATE_VERSION: Option<u32> = Some(1);
///
///     fn export_state(&self, _: &Context) -> Result<Vec<u8>> {
///         Ok(self.0.get().to_le_bytes().to_vec())
///     }
///
///     fn import_state(&mut self, version: u32, state: &[u8], _: &Context) -> Result<()> {
///         if version != 1 {
///             return Err(Error::new(format!("Counter reads state of version 1, this one is {version}")));
///         }
///         // Added to what is there: where workers became fewer, several old objects hand their state to this one.
///         self.0.set(self.0.get() + u64::from_le_bytes(state.try_into()?));
///         Ok(())
///     }
///
///     fn handle(&self, batch: &Batch, _: &Context) -> Result<Vec<Response>> {
///         let count = |_| {
///             self.0.set(self.0.get() + 1);
///             Response::text(self.0.get().to_string())
///         };
///         Ok(batch.iter().map(count).collect())
///     }
/// }
///
/// let mut old = Host::new().start::<Counter>()?;
/// old.predict(Sent::body("one"))?;
/// let (version, state) = old.export_state()?;
/// let mut new = Host::new().state(version, state).start::<Counter>()?;
/// assert_eq!(new.predict(Sent::body("two"))?.body, b"2");
/// # Ok::<(), Error>(())
/// ```
///
/// The server pauses the endpoint's queue between the old objects' last batch and the new objects' first: requests wait, none is lost, and none is answered from a state that has been handed over already.
/// They wait for as long as the state is written and read, so keep it small.
/// State passes only where both the old and the new code have a `STATE_VERSION`; else the new objects start afresh.
#[allow(unused_variables)] // The defaults show the names that authors see in their editors.
pub trait Handler: Default + 'static {
    /// The version of what [`export_state`](Self::export_state) writes; `None`, the default, hands nothing over.
    ///
    /// Raise it when the bytes change their form: the new code learns from it which code wrote them.
    const STATE_VERSION: Option<u32> = None;

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

    /// Called when a swap takes this object's place, after its last batch: the state, for an object of the new code.
    ///
    /// The new code may still refuse the swap, and then this object goes on: leave the state as it is.
    /// An error is logged, and the new object starts afresh: code that can't write its state must be replaceable all the same.
    fn export_state(&self, context: &Context) -> Result<Vec<u8>> {
        Ok(Vec::new())
    }

    /// Called on an initialised object that has passed its self-test, before its first request: once for each old object whose state is handed to it, which is several times where the workers became fewer, and not at all where they became more.
    ///
    /// `version` is the old code's `STATE_VERSION`, whatever the new code's is: what this code can't read it refuses, or leaves and starts afresh.
    /// An error refuses the swap: the old code goes on with its state, and the operator reads the text.
    fn import_state(&mut self, version: u32, state: &[u8], context: &Context) -> Result<()> {
        Ok(())
    }
}

fn three_steps<H: Handler>(handler: &H, batch: &Batch, context: &Context) -> Result<Vec<Response>> {
    let [preprocess, inference, postprocess] = STAGE_METRICS;
    let prepared: Vec<Result<Value>> =
        timed(preprocess, context, || batch.iter().map(|request| handler.preprocess(request, context)).collect());
    let mut failed = Vec::new();
    let mut inputs = Vec::new();
    for input in prepared {
        match input {
            Ok(input) => {
                inputs.push(input);
                failed.push(None);
            }
            Err(error) => failed.push(Some(error)),
        }
    }
    let count = inputs.len();
    let outputs = match count {
        0 => Vec::new(),
        _ => timed(inference, context, || handler.inference(inputs, context))?,
    };
    if outputs.len() != count {
        return Err(Error::new(format!("inference gave {} outputs for {count} inputs", outputs.len())));
    }
    let mut outputs = outputs.into_iter();
    let answer = |(failed, request): (Option<Error>, _)| match failed {
        Some(error) => error.into(),
        // The count was compared above, so there is one for each that didn't fail.
        None => outputs
            .next()
            .ok_or_else(|| Error::new("an output is missing"))
            .and_then(|output| handler.postprocess(output, request, context))
            .into(),
    };
    Ok(timed(postprocess, context, || failed.into_iter().zip(batch).map(answer).collect()))
}

/// Runs one step for a batch, and tells the host what it took.
fn timed<T>(name: &str, context: &Context, step: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let made = step();
    context.metric(MetricKind::Gauge, name, began.elapsed().as_secs_f64() * 1e3, "ms");
    made
}
