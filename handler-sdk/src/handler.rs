//! The trait that authors write.

use serde_json::Value as Json;

use crate::Batch;
use crate::Context;
use crate::Error;
use crate::Request;
use crate::Response;
use crate::Result;
use crate::Value;
use crate::steps;

/// Answers requests: TorchServe's `BaseHandler`, with the same steps.
///
/// Most handlers write [`preprocess`](Self::preprocess) and [`postprocess`](Self::postprocess) and leave the rest.
/// Each request passes these two on its own, so that one that fails never harms its batch; [`inference`](Self::inference) sees the batch.
/// A handler without a model writes [`handle`](Self::handle) alone.
///
/// Every object is made, called and dropped on one thread: nothing here needs to be `Send` or `Sync`, and a `RefCell` is enough for state.
/// A panic is caught, answered as an error of the requests it concerns, and the object is replaced by a fresh one, without the state of the first.
///
/// # Which object runs which step
///
/// Every worker has an object, which answers batches by [`handle`](Self::handle).
/// Where that turns out to be the trait's own, which the first batch shows, a server may run the three steps apart, to have the model busy all the time: a request is prepared as soon as it is there, on a thread with an object of its own, by one call of `preprocess`; a worker's object runs `inference` for the batch; and `postprocess` runs on either thread while the next batch is in the model.
/// So what one step leaves in `self` another step may not find there, and a request that was prepared may never reach `inference`: its client has gone, or the handler was swapped.
/// Then it is prepared anew by the new code; what an old one has prepared never reaches it.
///
/// Each object is still initialised and tested, and does one thing at a time; caches and counters are one per object.
/// A handler with a [`STATE_VERSION`](Self::STATE_VERSION) has all three steps of a request run by the same object.
/// [`Running::handle_in_steps`](crate::testing::Running::handle_in_steps) tests a handler in this way.
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
    /// What `postprocess` needs of the request it reads from the request: nothing passes through `self`, which may be another object then.
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
    /// By default the three steps one after the other; where it is replaced, it is always called for the batch as a whole.
    /// `Err` fails every request of the batch; for one alone, put `Response::from(error)` in its place.
    fn handle(&self, batch: &Batch, context: &Context) -> Result<Vec<Response>> {
        steps::all(self, batch, context)
    }

    /// Why the handler answers a request as it does: TorchServe's `get_insights`, asked for at `/explanations/NAME`.
    ///
    /// Without one of its own a handler answers status 501.
    ///
    /// ```
    /// use handler_sdk::prelude::*;
    /// use handler_sdk::testing::{Host, Request as Sent};
    /// use serde_json::json;
    ///
    /// /// Sums up numbers; the explanation is each one's share.
    /// #[derive(Default)]
    /// struct Sum;
    ///
    /// impl Handler for Sum {
    ///     fn handle(&self, batch: &Batch, _: &Context) -> Result<Vec<Response>> {
    ///         let sum = |request: &Request| -> Result<Response> {
    ///             let numbers: Vec<f64> = request.input()?.json()?;
    ///             Ok(Response::text(numbers.iter().sum::<f64>().to_string()))
    ///         };
    ///         Ok(batch.iter().map(|request| sum(request).into()).collect())
    ///     }
    ///
    ///     fn explain(&self, request: &Request, _: &Context) -> Result<Response> {
    ///         let numbers: Vec<f64> = request.input()?.json()?;
    ///         let sum: f64 = numbers.iter().sum();
    ///         Ok(json!({"shares": numbers.iter().map(|number| number / sum).collect::<Vec<_>>()}).into())
    ///     }
    ///
    ///     fn describe(&self, _: &Context) -> Result<Option<serde_json::Value>> {
    ///         Ok(Some(json!({"takes": "a list of numbers"})))
    ///     }
    /// }
    ///
    /// let mut sum = Host::new().start::<Sum>()?;
    /// assert_eq!(sum.predict(Sent::json(&[1, 3]))?.body, b"4");
    /// let explanation: serde_json::Value = serde_json::from_slice(&sum.explain(Sent::json(&[1, 3]))?.body)?;
    /// assert_eq!(explanation["shares"], json!([0.25, 0.75]));
    /// assert_eq!(sum.describe()?, Some(json!({"takes": "a list of numbers"})));
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// A handler of the three steps begins with `self.preprocess(request, context)?`, and may call the model as often as it likes.
    /// The model's gradients are at [`Model::gradients`](crate::Model::gradients), and integrated ones, as TorchServe's handlers give them, in [`attribution`](crate::attribution).
    ///
    /// Unlike predictions, explanations run outside of libtorch's inference mode, so that a network of the handler's own can be differentiated, too.
    fn explain(&self, request: &Request, context: &Context) -> Result<Response> {
        Err(Error::with_status(
            501,
            format!(
                "The handler of model \"{}\" has no explanations. Ask for predictions, or serve the model with a handler that implements explain.",
                context.model_name()
            ),
        ))
    }

    /// All explanations of a batch, as many as it has requests, in the same order; requests to explain never share a batch with others.
    ///
    /// By default one [`explain`](Self::explain) after the other, so that one that fails never harms its batch.
    fn explain_batch(&self, batch: &Batch, context: &Context) -> Result<Vec<Response>> {
        Ok(batch.iter().map(|request| self.explain(request, context).into()).collect())
    }

    /// What the handler says of itself, as a JSON object: TorchServe's `describe_handle`.
    ///
    /// It stands under `customizedMetadata` where the model is described with `?customized=true`, and is the answer to a request with the header `describe: True`.
    /// `None`, the default, is nothing to say.
    fn describe(&self, context: &Context) -> Result<Option<Json>> {
        Ok(None)
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
