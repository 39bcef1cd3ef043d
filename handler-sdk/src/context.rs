//! What surrounds a call: the model's name and folder, its configuration, the host's services.

use std::any::TypeId;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;

use abi_stable::std_types::RSlice;
use abi_stable::std_types::RStr;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Value as Json;

use crate::Device;
use crate::Error;
use crate::Model;
use crate::Request;
use crate::Response;
use crate::Result;
use crate::Weights;
use crate::abi::NO_MODEL;
use crate::abi::glue::lend;
use crate::abi::raw::RawCall;
use crate::abi::raw::RawMetric;
use crate::abi::raw::RawPair;
use crate::abi::raw::RawStatus;

/// What a handler knows of its place, and what the host does for it.
///
/// One context belongs to one handler object: name, folder and configuration never change during its life.
#[derive(Debug)]
pub struct Context {
    info: ContextInfo,
    device: Device,
    call: Cell<Option<RawCall>>,
    /// Whose `handle` turned out to be the three steps.
    steps_of: Cell<Option<TypeId>>,
}

/// How serious a line for the log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Of use while developing the handler.
    Debug,
    /// Worth knowing.
    Info,
    /// Something to look at.
    Warn,
    /// Something failed.
    Error,
}

/// What kind of number a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// Only grows; the value is added.
    Counter,
    /// Goes up and down; the value replaces the last one.
    Gauge,
    /// A distribution; the value is one observation.
    Histogram,
}

/// What kind of file the archive's model is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ModelKind {
    /// A TorchScript module, to be called with [`Context::model`].
    TorchScript,
    /// Named tensors, to be read with [`Context::weights`].
    StateDict,
    /// A model that PyTorch's compiler made machine code of, an AOTInductor package, to be called with [`Context::model`]; it has no layers and no gradients.
    AotInductor,
    /// A kind that came after this SDK; it can be called.
    #[serde(other)]
    Other,
}

/// The part of a context that is data; it crosses as JSON, so that fields can be added.
#[doc(hidden)]
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ContextInfo {
    pub model_name: String,
    pub model_version: String,
    pub model_dir: PathBuf,
    pub device: String,
    pub model_kind: Option<ModelKind>,
    #[serde(default)]
    pub properties: BTreeMap<String, String>,
    #[serde(default)]
    pub config: Json,
}

// === impl Context ===

impl Context {
    pub(crate) fn new(info: ContextInfo) -> Result<Self> {
        // A device that this SDK is too old to know mustn't keep the handler from serving.
        let device = info.device.parse().unwrap_or(Device::Other);
        Ok(Self { info, device, call: Cell::default(), steps_of: Cell::default() })
    }

    /// Lends the host's services to the context for one call.
    pub(crate) fn with_call<T>(&self, call: RawCall, work: impl FnOnce(&Self) -> T) -> T {
        struct Reset<'a>(&'a Cell<Option<RawCall>>);
        impl Drop for Reset<'_> {
            fn drop(&mut self) {
                self.0.set(None);
            }
        }
        self.call.set(Some(call));
        let _reset = Reset(&self.call);
        work(self)
    }

    /// `H` has the `handle` of the trait, which is running; Rust has no other way to tell that a default wasn't replaced.
    pub(crate) fn mark_steps<H: 'static>(&self) {
        self.steps_of.set(Some(TypeId::of::<H>()));
    }

    /// Whether it was marked; a handler that only calls another's `handle` isn't.
    pub(crate) fn has_steps_of<H: 'static>(&self) -> bool {
        self.steps_of.get() == Some(TypeId::of::<H>())
    }

    pub(crate) fn call(&self) -> Result<RawCall> {
        self.call.get().ok_or_else(|| Error::new("the host can be asked only during a call"))
    }

    /// The name under which the model is served.
    pub fn model_name(&self) -> &str {
        &self.info.model_name
    }

    /// The model's version, `1.0` unless the archive says otherwise.
    pub fn model_version(&self) -> &str {
        &self.info.model_version
    }

    /// The folder with the archive's files; read-only.
    pub fn model_dir(&self) -> &Path {
        &self.info.model_dir
    }

    /// Where the model lives. In the process that tries a library before it is admitted this is always the CPU.
    pub fn device(&self) -> Device {
        self.device
    }

    /// A property of the server: `batch_size`, `gpu_id` (only on a GPU), `server_name`, `server_version`, `limit_max_image_pixels`.
    pub fn property(&self, name: &str) -> Option<&str> {
        self.info.properties.get(name).map(String::as_str)
    }

    /// The archive's `model-config.yaml` as a value; `Null` where there is none.
    pub fn config(&self) -> &Json {
        &self.info.config
    }

    /// What kind of model the archive holds; `None` where it holds none.
    pub fn model_kind(&self) -> Option<ModelKind> {
        self.info.model_kind
    }

    /// The archive's TorchScript model or AOTInductor package, ready to be called; the host owns it, and keeps it when the handler is replaced.
    ///
    /// Fails where the archive holds none.
    pub fn model(&self) -> Result<Model<'_>> {
        match self.info.model_kind {
            Some(ModelKind::TorchScript | ModelKind::AotInductor | ModelKind::Other) => Ok(Model::new(self)),
            Some(ModelKind::StateDict) => Err(Error::new(format!(
                "model {} is a state dict, which holds tensors but no code: read it with `Context::weights` and call a network of your own, or save the model as TorchScript",
                self.model_name()
            ))),
            None => Err(self.no_model()),
        }
    }

    /// The named tensors of the archive's state dict, or the parameters and buffers of its TorchScript model or AOTInductor package, on [`device`](Self::device); the host owns them.
    ///
    /// With the feature `tch` they are shared, not copied: never write to them.
    /// Fails where the archive holds no model.
    pub fn weights(&self) -> Result<Weights> {
        match self.info.model_kind {
            Some(_) => Weights::read(self),
            None => Err(self.no_model()),
        }
    }

    /// Writes a line to the server's log, under the model's name.
    pub fn log(&self, level: Level, message: impl AsRef<str>) {
        if let Some(call) = self.call.get() {
            call.host.log()(call.state, level as u8, RStr::from_str(message.as_ref()));
        }
    }

    /// Gives one value to the server's metrics, under the model's name and version.
    ///
    /// `unit` is free text, as `ms` or `count`; the name is what the dashboards see.
    /// Where the operator has a `metrics.yaml`, it says which names are recorded, and under which labels.
    pub fn metric(&self, kind: MetricKind, name: &str, value: f64, unit: &str) {
        self.metric_with(kind, name, value, unit, &[]);
    }

    /// The same, under labels of the handler's own besides: TorchServe's dimensions.
    ///
    /// A metric has the same labels each time, and each combination of values is a series that the server keeps: take a class, never a request's id.
    ///
    /// ```
    /// # use handler_sdk::prelude::*;
    /// # use handler_sdk::MetricKind;
    /// # fn count(context: &Context) {
    /// context.metric_with(MetricKind::Counter, "Digits", 1.0, "count", &[("digit", "7")]);
    /// # }
    /// ```
    pub fn metric_with(&self, kind: MetricKind, name: &str, value: f64, unit: &str, labels: &[(&str, &str)]) {
        if let Some(call) = self.call.get() {
            let labels: Vec<RawPair<'_>> = labels
                .iter()
                .map(|(label, value)| RawPair { name: RStr::from_str(label), value: RStr::from_str(value) })
                .collect();
            let raw = RawMetric {
                kind: kind as u8,
                value,
                name: RStr::from_str(name),
                unit: RStr::from_str(unit),
                labels: RSlice::from_slice(&labels),
            };
            call.host.metric()(call.state, &raw);
        }
    }

    /// Sends a piece of a request's answer ahead of its end: what `handle` or `postprocess` gives for it comes last.
    ///
    /// The client reads each piece as soon as it is there, as one chunk of the body.
    /// Status, content type and headers are those of the first piece.
    ///
    /// Where the client has gone, or reads too slowly to keep up, this waits no longer than some seconds and gives an error: end the work on that request, as `?` does.
    /// An error after the first piece breaks the answer off, so that the client notices.
    ///
    /// ```
    /// use handler_sdk::prelude::*;
    /// use handler_sdk::testing::{Host, Request as Sent};
    ///
    /// #[derive(Default)]
    /// struct Counts;
    ///
    /// impl Counts {
    ///     fn count(&self, request: &Request, context: &Context) -> Result<Response> {
    ///         let end: u32 = request.input()?.json()?;
    ///         for number in 1..end {
    ///             context.send(request, format!("{number} "))?;
    ///         }
    ///         Ok(Response::text(end.to_string()))
    ///     }
    /// }
    ///
    /// impl Handler for Counts {
    ///     fn handle(&self, batch: &Batch, context: &Context) -> Result<Vec<Response>> {
    ///         Ok(batch.iter().map(|request| self.count(request, context).into()).collect())
    ///     }
    /// }
    ///
    /// let mut counts = Host::new().start::<Counts>()?;
    /// assert_eq!(counts.predict(Sent::body("3"))?.body, b"3");
    /// let pieces = counts.sent();
    /// assert_eq!((pieces[0].body.as_slice(), pieces[1].body.as_slice()), (&b"1 "[..], &b"2 "[..]));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn send(&self, request: &Request<'_>, piece: impl Into<Response>) -> Result<()> {
        let call = self.call()?;
        let send = call.host.send().ok_or_else(|| {
            Error::new(
                "this server is too old to pass on pieces of an answer: update it, or give the whole answer at the end",
            )
        })?;
        let piece = piece.into();
        let piece = piece.outcome().map_err(Clone::clone)?;
        match lend(piece, |raw| send(call.state, request.index(), raw)) {
            RawStatus::OK => Ok(()),
            // As nginx numbers it; nobody reads it, and it is no failure that the log should hold.
            _ => Err(Error::with_status(499, "the client has gone, or reads too slowly")),
        }
    }

    /// Whether the client of a request has gone, so that nobody will read its answer.
    ///
    /// Worth asking from time to time in a long calculation. A server that is too old to tell says no.
    pub fn is_cancelled(&self, request: &Request<'_>) -> bool {
        let asked = self.call.get().and_then(|call| Some((call, call.host.wanted()?)));
        asked.is_some_and(|(call, wanted)| wanted(call.state, request.index()) != RawStatus::OK)
    }

    fn no_model(&self) -> Error {
        Error::new(format!("the archive of {} {NO_MODEL}: pack one with --serialized-file", self.model_name()))
    }
}

// === impl Level ===

impl Level {
    #[doc(hidden)]
    pub fn from_code(code: u8) -> Self {
        match code {
            0 => Self::Debug,
            1 => Self::Info,
            2 => Self::Warn,
            _ => Self::Error,
        }
    }
}

// === impl MetricKind ===

impl MetricKind {
    #[doc(hidden)]
    pub fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Counter),
            1 => Some(Self::Gauge),
            2 => Some(Self::Histogram),
            _ => None,
        }
    }
}
