//! Tests for handlers, with no server and no shared library.
//!
//! The handler is called through the same boundary as in the host: a panic is caught, an answer is copied out, a wrong number of answers is an error.
//!
//! ```
//! use handler_sdk::prelude::*;
//! use handler_sdk::testing::{Host, Request as Sent};
//!
//! #[derive(Default)]
//! struct Greeter;
//!
//! impl Handler for Greeter {
//!     fn handle(&self, batch: &Batch, context: &Context) -> Result<Vec<Response>> {
//!         let greeting = context.config()["greeting"].as_str().unwrap_or("Hello");
//!         Ok(batch
//!             .iter()
//!             .map(|request| match request.input().and_then(|field| field.text()) {
//!                 Ok(name) => Response::text(format!("{greeting}, {name}!")),
//!                 Err(error) => error.into(),
//!             })
//!             .collect())
//!     }
//! }
//!
//! let mut greeter = Host::new().config(serde_json::json!({"greeting": "Moin"})).start::<Greeter>()?;
//! let answers = greeter.handle(&[Sent::body("Ada"), Sent::body(*b"\xff")]);
//! assert_eq!(answers[0].as_ref().unwrap().body, b"Moin, Ada!");
//! assert_eq!(answers[1].as_ref().unwrap_err().status(), 400);
//! # Ok::<(), Error>(())
//! ```

#![allow(unsafe_code)]

mod request;
mod services;
mod steps;

use std::cell::RefCell;
use std::path::PathBuf;

use abi_stable::std_types::RSlice;

use crate::Answer;
use crate::Error;
use crate::Handler;
use crate::Level;
use crate::MetricKind;
use crate::ModelKind;
use crate::Result;
use crate::Tensor;
use crate::Value;
use crate::abi::instance::CallError;
use crate::abi::instance::Clients;
use crate::abi::instance::Instance;
use crate::abi::instance::Outcome;
use crate::abi::raw::RawBatch;
use crate::abi::raw::RawExport;
use crate::abi::raw::RawVerb;
use crate::context::ContextInfo;
use crate::export::private::export;

pub use request::Request;
use services::Services;

/// One value that a handler has given to the metrics.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Metric {
    /// What kind of number it is.
    pub kind: MetricKind,
    /// As the dashboards see it.
    pub name: String,
    /// The value as it was given.
    pub value: f64,
    /// Free text, as `ms` or `count`.
    pub unit: String,
    /// Those of [`Context::metric_with`](crate::Context::metric_with), in its order.
    pub labels: Vec<(String, String)>,
}

/// Stands in for the server: made with what an archive would hold, then [`start`](Self::start)ed with a handler.
pub struct Host {
    info: ContextInfo,
    states: Vec<(u32, Vec<u8>)>,
    services: Services,
}

/// A handler that was initialised and has passed its self-test.
#[derive(Debug)]
pub struct Running {
    instance: Instance,
    /// Prepares requests, and finishes them; made when it is first needed.
    second: Option<Instance>,
    export: RawExport,
    info: ContextInfo,
    services: Services,
    audience: Audience,
}

/// The clients of a test's requests.
#[derive(Debug, Default)]
struct Audience {
    /// In the last call.
    pieces: RefCell<Vec<Answer>>,
    /// How many pieces they take; `None` for all.
    patience: Option<usize>,
}

// === impl Host ===

impl Host {
    /// A host whose archive is empty: model `test`, version `1.0`, no files, on the CPU.
    #[allow(clippy::new_without_default)] // It reads as what it is: the start of a sentence.
    pub fn new() -> Self {
        Self {
            info: ContextInfo {
                model_name: "test".to_owned(),
                model_version: "1.0".to_owned(),
                model_dir: PathBuf::new(),
                device: "cpu".to_owned(),
                model_kind: None,
                properties: [("batch_size".to_owned(), "1".to_owned())].into(),
                config: serde_json::Value::Null,
            },
            states: Vec::new(),
            services: Services::default(),
        }
    }

    /// The folder with the archive's files.
    #[must_use]
    pub fn model_dir(mut self, folder: impl Into<PathBuf>) -> Self {
        self.info.model_dir = folder.into();
        self
    }

    /// The content of `model-config.yaml`.
    #[must_use]
    pub fn config(mut self, config: serde_json::Value) -> Self {
        self.info.config = config;
        self
    }

    /// A property of the server.
    #[must_use]
    pub fn property(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.info.properties.insert(name.into(), value.into());
        self
    }

    /// A TorchScript model: what `forward` (or any other method) gives for the inputs it is called with.
    #[must_use]
    pub fn model(mut self, forward: impl Fn(&[Value]) -> Result<Value> + 'static) -> Self {
        self.info.model_kind = Some(ModelKind::TorchScript);
        self.services.model = Some(Box::new(forward));
        self
    }

    /// What the model gives for [`Model::layer`](crate::Model::layer): from the layer's path and the inputs.
    #[must_use]
    pub fn layer(mut self, layer: impl Fn(&str, &[Value]) -> Result<Value> + 'static) -> Self {
        self.services.layer = Some(Box::new(layer));
        self
    }

    /// The model's gradients: from the layer's path (empty for those to the first input), the inputs (where there is a layer, its value comes first) and the target column.
    ///
    /// A server computes them from the model; here the test says what they are:
    ///
    /// ```
    /// use handler_sdk::prelude::*;
    /// use handler_sdk::testing::{Host, Request as Sent};
    ///
    /// #[derive(Default)]
    /// struct Steepest;
    ///
    /// impl Handler for Steepest {
    ///     fn explain(&self, request: &Request, context: &Context) -> Result<Response> {
    ///         let row = self.preprocess(request, context)?.tensor()?;
    ///         let gradients = context.model()?.gradients([Tensor::stack(&[row])?], 0)?;
    ///         Ok(Response::text(gradients.argmax()?.to_string()))
    ///     }
    /// }
    ///
    /// // The model 3a + 5b.
    /// let host = Host::new().model(|_| Err(Error::new("not called"))).gradients(|_, inputs, _| {
    ///     Tensor::from_slice(&inputs[0].as_tensor()?.shape(), &[3.0_f32, 5.0])
    /// });
    /// assert_eq!(host.start::<Steepest>()?.explain(Sent::json(&[1.0, 1.0]))?.body, b"1");
    /// # Ok::<(), Error>(())
    /// ```
    #[must_use]
    pub fn gradients(mut self, gradients: impl Fn(&str, &[Value], usize) -> Result<Tensor> + 'static) -> Self {
        self.services.gradients = Some(Box::new(gradients));
        self
    }

    /// A state dict: tensors by name.
    #[must_use]
    pub fn weights<N: Into<String>>(mut self, tensors: impl IntoIterator<Item = (N, Tensor)>) -> Self {
        self.info.model_kind = Some(ModelKind::StateDict);
        self.services.weights = tensors.into_iter().map(|(name, tensor)| (name.into(), tensor)).collect();
        self
    }

    /// The state of an old object whose place the handler takes; once for each of them.
    ///
    /// `version` is the old code's `STATE_VERSION`.
    /// A test can hold bytes that earlier code wrote, or take those of [`Running::export_state`]:
    ///
    /// ```
    /// # use handler_sdk::prelude::*;
    /// use handler_sdk::testing::Host;
    ///
    /// #[derive(Default)]
    /// struct Words(Vec<String>);
    ///
    /// impl Handler for Words {
    ///     // Version 1 had a word in each line.
    ///     const STATE_VERSION: Option<u32> = Some(2);
    ///
    ///     fn export_state(&self, _: &Context) -> Result<Vec<u8>> {
    ///         Ok(serde_json::to_vec(&self.0)?)
    ///     }
    ///
    ///     fn import_state(&mut self, version: u32, state: &[u8], _: &Context) -> Result<()> {
    ///         match version {
    ///             1 => self.0.extend(std::str::from_utf8(state)?.lines().map(str::to_owned)),
    ///             2 => self.0.extend(serde_json::from_slice::<Vec<String>>(state)?),
    ///             _ => return Err(Error::new(format!("Words can't read state of version {version}"))),
    ///         }
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let mut words = Host::new().state(1, "one\ntwo").state(2, r#"["three"]"#).start::<Words>()?;
    /// assert_eq!(words.export_state()?, (2, br#"["one","two","three"]"#.to_vec()));
    ///
    /// let refused = Host::new().state(3, "").start::<Words>().unwrap_err();
    /// assert_eq!(refused.log_text(), "Words can't read state of version 3");
    /// # Ok::<(), Error>(())
    /// ```
    #[must_use]
    pub fn state(mut self, version: u32, state: impl Into<Vec<u8>>) -> Self {
        self.states.push((version, state.into()));
        self
    }

    /// Makes a handler, initialises it, runs its self-test and hands it the [`state`](Self::state)s; fails with the error of the first step that failed.
    pub fn start<H: Handler>(self) -> Result<Running> {
        let names = (std::any::type_name::<H>(), std::any::type_name::<H>());
        let export = export::<H>(names);
        let mut instance = make(&export, &self.info, &self.services)?;
        for (version, state) in &self.states {
            instance.import_state(*version, state, &self.services).map_err(reason)?;
        }
        let Self { info, services, .. } = self;
        Ok(Running { instance, second: None, export, info, services, audience: Audience::default() })
    }
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host").field("info", &self.info).finish_non_exhaustive()
    }
}

// === impl Running ===

impl Running {
    /// Sends one request.
    #[allow(clippy::needless_pass_by_value)] // A request made in place reads best.
    pub fn predict(&mut self, request: Request) -> Result<Answer> {
        self.handle(std::slice::from_ref(&request)).pop().unwrap_or_else(|| Err(Error::new("no answer")))
    }

    /// Asks for the explanation of one request.
    #[allow(clippy::needless_pass_by_value)] // As above.
    pub fn explain(&mut self, request: Request) -> Result<Answer> {
        self.explain_batch(std::slice::from_ref(&request)).pop().unwrap_or_else(|| Err(Error::new("no answer")))
    }

    /// What the handler says of itself.
    pub fn describe(&mut self) -> Result<Option<serde_json::Value>> {
        let answers = self.call(RawVerb::DESCRIBE, &[Request::default()]);
        let answer = answers.into_iter().next().unwrap_or_else(|| Err(Error::new("no answer")))?;
        let words: serde_json::Value = serde_json::from_slice(&answer.body)?;
        Ok(Some(words).filter(|words| !words.is_null()))
    }

    /// Sends a batch; one result for each request, in order.
    pub fn handle(&mut self, requests: &[Request]) -> Vec<Result<Answer>> {
        self.call(RawVerb::PREDICT, requests)
    }

    /// Asks for the explanations of a batch; one result for each request, in order.
    pub fn explain_batch(&mut self, requests: &[Request]) -> Vec<Result<Answer>> {
        self.call(RawVerb::EXPLAIN, requests)
    }

    /// The pieces of answers that the handler has sent ahead in its last call, to whichever request.
    pub fn sent(&self) -> Vec<Answer> {
        self.audience.pieces.borrow().clone()
    }

    /// From now on every client goes after having read so many pieces in a call: what is sent to it then is an error.
    pub fn leave_after(&mut self, pieces: usize) {
        self.audience.patience = Some(pieces);
    }

    fn call(&mut self, verb: RawVerb, requests: &[Request]) -> Vec<Result<Answer>> {
        self.audience.pieces.borrow_mut().clear();
        let views: Vec<_> = requests.iter().map(Request::view).collect();
        let raw: Vec<_> = views.iter().map(request::View::raw).collect();
        let batch = RawBatch { verb, requests: RSlice::from_slice(&raw) };
        let (outcomes, result) = self.instance.handle(&batch, &self.services, &self.audience);
        answers(outcomes, result)
    }

    /// What the handler would hand over at a swap, for [`Host::state`]: its `STATE_VERSION` and its state.
    ///
    /// A handler without a `STATE_VERSION` gives an error.
    pub fn export_state(&mut self) -> Result<(u32, Vec<u8>)> {
        let state = self.instance.export_state(&self.services).map_err(reason)?;
        Ok((self.instance.state_version().unwrap_or_default(), state))
    }

    /// What the handler has written to the log so far.
    pub fn log(&self) -> Vec<(Level, String)> {
        self.services.log.borrow().clone()
    }

    /// The metrics that the handler has given so far, as `(kind, name, value)`.
    pub fn metrics(&self) -> Vec<(MetricKind, String, f64)> {
        self.labelled_metrics().into_iter().map(|metric| (metric.kind, metric.name, metric.value)).collect()
    }

    /// The same with units and labels.
    pub fn labelled_metrics(&self) -> Vec<Metric> {
        self.services.metrics.borrow().clone()
    }
}

/// An object that is initialised and has passed its self-test.
fn make(export: &RawExport, info: &ContextInfo, services: &Services) -> Result<Instance> {
    // SAFETY: the handler's code is part of this program, which stays mapped.
    let mut instance = unsafe { Instance::create(export, services) }.map_err(reason)?;
    instance.initialize(info, services).map_err(reason)?;
    instance.self_test(services).map_err(reason)?;
    Ok(instance)
}

/// One for each request: its own outcome, or what became of the call.
fn answers(outcomes: Vec<Outcome>, result: Result<(), CallError>) -> Vec<Result<Answer>> {
    let whole = result.map_err(reason).err().unwrap_or_else(|| Error::new("the handler gave no answer"));
    outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(|| Err(whole.clone()))).collect()
}

fn reason(error: CallError) -> Error {
    match error {
        CallError::Failed(error) | CallError::Panicked(error) => error,
    }
}

// === impl Audience ===

impl Clients for Audience {
    fn send(&self, index: usize, piece: Answer) -> bool {
        let wanted = self.want(index);
        if wanted {
            self.pieces.borrow_mut().push(piece);
        }
        wanted
    }

    fn want(&self, _index: usize) -> bool {
        self.patience.is_none_or(|patience| self.pieces.borrow().len() < patience)
    }
}
