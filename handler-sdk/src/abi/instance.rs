//! The host's side: owns one handler object, lends it services during calls, copies out what it answers.

use std::cell::RefCell;
use std::ffi::c_void;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;

use abi_stable::prefix_type::WithMetadata;
use abi_stable::std_types::RSlice;
use abi_stable::std_types::RStr;

use super::raw::RawBatch;
use super::raw::RawByteSink;
use super::raw::RawCall;
use super::raw::RawCallState;
use super::raw::RawDoor;
use super::raw::RawEvent;
use super::raw::RawEventKind;
use super::raw::RawExport;
use super::raw::RawFailure;
use super::raw::RawGradients;
use super::raw::RawHandlerRef;
use super::raw::RawHost;
use super::raw::RawHostRef;
use super::raw::RawInstance;
use super::raw::RawMetric;
use super::raw::RawResponse;
use super::raw::RawSink;
use super::raw::RawStateVersion;
use super::raw::RawStatus;
use super::raw::WHOLE_CALL;
use crate::Error;
use crate::Level;
use crate::MetricKind;
use crate::context::ContextInfo;
use crate::response::Answer;

/// What the host does for a handler during a call; called on the thread of that call.
pub trait HostServices {
    /// A line for the log.
    fn log(&self, level: Level, message: &str);

    /// One value for the metrics.
    fn metric(&self, kind: MetricKind, name: &str, value: f64, unit: &str, labels: &[(&str, &str)]);

    /// Calls a method of the model and walks through its value; the error is text for the handler.
    fn forward(
        &self,
        method: &str,
        inputs: &[RawEvent<'_>],
        door: RawDoor,
        emit: &mut dyn FnMut(&RawEvent<'_>),
    ) -> Result<(), String>;

    /// Walks through the model's named tensors; the error is text for the handler.
    fn weights(&self, door: RawDoor, emit: &mut dyn FnMut(&RawEvent<'_>)) -> Result<(), String>;

    /// Walks through what a submodule of the model gives while a method runs; the error is text for the handler.
    fn layer(
        &self,
        _method: &str,
        _layer: &str,
        _inputs: &[RawEvent<'_>],
        _door: RawDoor,
        _emit: &mut dyn FnMut(&RawEvent<'_>),
    ) -> Result<(), String> {
        Err("this host can't look into a model".to_owned())
    }

    /// Gives the gradients that were asked for, as one tensor; the error is text for the handler.
    fn gradients(
        &self,
        _asked: &RawGradients<'_>,
        _door: RawDoor,
        _emit: &mut dyn FnMut(&RawEvent<'_>),
    ) -> Result<(), String> {
        Err("this host has no gradients".to_owned())
    }
}

/// Those who wait for the answers to a batch, by the place of their request in it; asked on the thread of the call.
pub trait Clients {
    /// Passes a piece of an answer on, ahead of its end; status and headers count in the first one. `false` where nobody takes it.
    fn send(&self, index: usize, piece: Answer) -> bool;

    /// Whether somebody still waits.
    fn want(&self, index: usize) -> bool;
}

/// Why a call as a whole failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallError {
    /// The handler returned an error.
    Failed(Error),
    /// The handler panicked; its object must be replaced.
    Panicked(Error),
}

/// The outcome of one request; `None` where the call ended before it was answered.
pub type Outcome = Option<Result<Answer, Error>>;

/// One handler object. It is made, called and dropped on one thread.
pub struct Instance {
    pub(super) handler: RawHandlerRef,
    pub(super) raw: RawInstance,
}

/// The host's state during one call, behind a [`RawCallState`].
pub(super) struct CallState<'a> {
    services: &'a dyn HostServices,
    /// `None` in a call that is for no request.
    clients: Option<&'a dyn Clients>,
    pub(super) outcomes: RefCell<Vec<Outcome>>,
    /// What `export_state` gives.
    exported: RefCell<Vec<u8>>,
    failure: RefCell<Option<Error>>,
}

// === impl Instance ===

impl Instance {
    /// Makes a handler object.
    ///
    /// # Safety
    ///
    /// The library that `export` comes from must stay mapped until the instance, and all that it prepares, is dropped.
    pub unsafe fn create(export: &RawExport, services: &dyn HostServices) -> Result<Self, CallError> {
        let handler = export.handler;
        let mut raw = RawInstance(std::ptr::null_mut());
        let create = handler.create();
        CallState::new(services, 0).run(|call| create(call, &mut raw))?;
        Ok(Self { handler, raw })
    }

    /// Tells the handler its place.
    pub fn initialize(&mut self, info: &ContextInfo, services: &dyn HostServices) -> Result<(), CallError> {
        let text = serde_json::to_string(info).map_err(|error| CallError::Failed(error.into()))?;
        let initialize = self.handler.initialize();
        CallState::new(services, 0).run(|call| initialize(self.raw, call, RStr::from_str(&text)))
    }

    /// Runs the handler's own test.
    pub fn self_test(&mut self, services: &dyn HostServices) -> Result<(), CallError> {
        let self_test = self.handler.self_test();
        CallState::new(services, 0).run(|call| self_test(self.raw, call))
    }

    /// Answers a batch; the outcomes stand in the order of its requests, whether or not the call as a whole failed.
    pub fn handle(
        &mut self,
        batch: &RawBatch<'_>,
        services: &dyn HostServices,
        clients: &dyn Clients,
    ) -> (Vec<Outcome>, Result<(), CallError>) {
        let state = CallState::of_clients(services, batch.requests.len(), clients);
        let result = state.run(|call| self.handler.handle()(self.raw, call, batch));
        (state.outcomes.into_inner(), result)
    }

    /// The version of the state that this handler hands over; `None` where it hands none.
    pub fn state_version(&self) -> Option<u32> {
        self.handler.state_version().and_then(RawStateVersion::get)
    }

    /// The object's state, copied.
    pub fn export_state(&mut self, services: &dyn HostServices) -> Result<Vec<u8>, CallError> {
        let export_state = self.stateful(self.handler.export_state())?;
        let state = CallState::new(services, 0);
        state.run(|call| export_state(self.raw, call, RawByteSink(host_take)))?;
        Ok(state.exported.into_inner())
    }

    /// Hands over a state that an object of this or another version has exported.
    pub fn import_state(&mut self, version: u32, state: &[u8], services: &dyn HostServices) -> Result<(), CallError> {
        let import_state = self.stateful(self.handler.import_state())?;
        CallState::new(services, 0).run(|call| import_state(self.raw, call, version, RSlice::from_slice(state)))
    }

    /// A function that only handlers with a state have; the tables of the first plugins don't hold it.
    fn stateful<F>(&self, function: Option<F>) -> Result<F, CallError> {
        let function = function.filter(|_| self.state_version().is_some());
        function.ok_or_else(|| {
            CallError::Failed(Error::new("the handler takes part in no hand-over of state: it has no STATE_VERSION"))
        })
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        struct Silence;
        impl HostServices for Silence {
            fn log(&self, _: Level, _: &str) {}
            fn metric(&self, _: MetricKind, _: &str, _: f64, _: &str, _: &[(&str, &str)]) {}
            fn forward(
                &self,
                _: &str,
                _: &[RawEvent<'_>],
                _: RawDoor,
                _: &mut dyn FnMut(&RawEvent<'_>),
            ) -> Result<(), String> {
                Err("the handler is being dropped".to_owned())
            }
            fn weights(&self, _: RawDoor, _: &mut dyn FnMut(&RawEvent<'_>)) -> Result<(), String> {
                Err("the handler is being dropped".to_owned())
            }
        }
        // A panic while dropping has been caught on the other side; there is nobody left to tell.
        let _ = CallState::new(&Silence, 0).run(|call| self.handler.destroy()(self.raw, call));
    }
}

impl std::fmt::Debug for Instance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Instance").field("raw", &self.raw).finish_non_exhaustive()
    }
}

// === impl CallState ===

impl<'a> CallState<'a> {
    abi_stable::staticref! {
        const HOST: WithMetadata<RawHost> = WithMetadata::new(RawHost {
            log: host_log,
            metric: host_metric,
            respond: host_respond,
            fail: host_fail,
            forward: host_forward,
            weights: host_weights,
            send: host_send,
            wanted: host_wanted,
            layer: host_layer,
            gradients: host_gradients,
        });
    }

    pub(super) fn of_clients(services: &'a dyn HostServices, requests: usize, clients: &'a dyn Clients) -> Self {
        Self { clients: Some(clients), ..Self::new(services, requests) }
    }

    pub(super) fn new(services: &'a dyn HostServices, requests: usize) -> Self {
        Self {
            services,
            clients: None,
            outcomes: RefCell::new(vec![None; requests]),
            exported: RefCell::default(),
            failure: RefCell::new(None),
        }
    }

    pub(super) fn run(&self, call: impl FnOnce(RawCall) -> RawStatus) -> Result<(), CallError> {
        let status = call(RawCall {
            host: RawHostRef(CallState::HOST.as_prefix()),
            state: RawCallState(std::ptr::from_ref(self).cast::<c_void>()),
        });
        let failure = || {
            let error = self.failure.borrow_mut().take();
            error
                .unwrap_or_else(|| Error::new(format!("the handler ended with status {} and gave no reason", status.0)))
        };
        match status {
            RawStatus::OK => Ok(()),
            RawStatus::PANICKED => Err(CallError::Panicked(failure())),
            _ => Err(CallError::Failed(failure())),
        }
    }

    /// Runs the host's own code on behalf of a plugin; a panic of the host must not unwind through the plugin's frames.
    fn serve<T>(state: RawCallState, fallback: T, work: impl FnOnce(&CallState<'_>) -> T) -> T {
        // SAFETY: `run` made the state from a `CallState` that outlives the call; a plugin gets it only through the SDK, which forgets it when the call ends.
        let state = unsafe { &*state.0.cast::<CallState<'_>>() };
        catch_unwind(AssertUnwindSafe(|| work(state))).unwrap_or(fallback)
    }
}

extern "C" fn host_log(state: RawCallState, level: u8, message: RStr<'_>) {
    CallState::serve(state, (), |state| state.services.log(Level::from_code(level), message.as_str()));
}

extern "C" fn host_metric(state: RawCallState, metric: &RawMetric<'_>) {
    CallState::serve(state, (), |state| {
        if let Some(kind) = MetricKind::from_code(metric.kind) {
            let labels: Vec<_> = metric.labels.iter().map(|pair| (pair.name.as_str(), pair.value.as_str())).collect();
            state.services.metric(kind, metric.name.as_str(), metric.value, metric.unit.as_str(), &labels);
        }
    });
}

extern "C" fn host_respond(state: RawCallState, index: usize, response: &RawResponse<'_>) {
    CallState::serve(state, (), |state| {
        let answer = copy(response);
        if let Some(outcome) = state.outcomes.borrow_mut().get_mut(index) {
            *outcome = Some(Ok(answer));
        }
    });
}

extern "C" fn host_fail(state: RawCallState, index: usize, failure: &RawFailure<'_>) {
    CallState::serve(state, (), |state| {
        let error = Error::from_parts(failure.status, failure.client.as_str(), failure.log.as_str());
        if index == WHOLE_CALL {
            *state.failure.borrow_mut() = Some(error);
        } else if let Some(outcome) = state.outcomes.borrow_mut().get_mut(index) {
            *outcome = Some(Err(error));
        }
    });
}

extern "C" fn host_forward(
    state: RawCallState,
    method: RStr<'_>,
    inputs: RSlice<'_, RawEvent<'_>>,
    door: RawDoor,
    sink: RawSink,
) -> RawStatus {
    hand_over(state, sink, |services, emit| services.forward(method.as_str(), inputs.as_slice(), door, emit))
}

extern "C" fn host_weights(state: RawCallState, door: RawDoor, sink: RawSink) -> RawStatus {
    hand_over(state, sink, |services, emit| services.weights(door, emit))
}

extern "C" fn host_layer(
    state: RawCallState,
    method: RStr<'_>,
    layer: RStr<'_>,
    inputs: RSlice<'_, RawEvent<'_>>,
    door: RawDoor,
    sink: RawSink,
) -> RawStatus {
    let (method, layer, inputs) = (method.as_str(), layer.as_str(), inputs.as_slice());
    hand_over(state, sink, |services, emit| services.layer(method, layer, inputs, door, emit))
}

extern "C" fn host_gradients(state: RawCallState, asked: &RawGradients<'_>, door: RawDoor, sink: RawSink) -> RawStatus {
    hand_over(state, sink, |services, emit| services.gradients(asked, door, emit))
}

extern "C" fn host_send(state: RawCallState, index: usize, piece: &RawResponse<'_>) -> RawStatus {
    ask_clients(state, |clients| clients.send(index, copy(piece)))
}

extern "C" fn host_wanted(state: RawCallState, index: usize) -> RawStatus {
    ask_clients(state, |clients| clients.want(index))
}

fn ask_clients(state: RawCallState, ask: impl FnOnce(&dyn Clients) -> bool) -> RawStatus {
    let said = CallState::serve(state, false, |state| state.clients.is_some_and(ask));
    if said { RawStatus::OK } else { RawStatus::FAILED }
}

fn copy(response: &RawResponse<'_>) -> Answer {
    Answer {
        status: response.status,
        content_type: Some(response.content_type.as_str().to_owned()).filter(|text| !text.is_empty()),
        headers: response
            .headers
            .iter()
            .map(|pair| (pair.name.as_str().to_owned(), pair.value.as_str().to_owned()))
            .collect(),
        body: response.body.as_slice().to_vec(),
    }
}

extern "C" fn host_take(state: RawCallState, bytes: RSlice<'_, u8>) {
    CallState::serve(state, (), |state| state.exported.borrow_mut().extend_from_slice(bytes.as_slice()));
}

fn hand_over(
    state: RawCallState,
    sink: RawSink,
    work: impl FnOnce(&dyn HostServices, &mut dyn FnMut(&RawEvent<'_>)) -> Result<(), String>,
) -> RawStatus {
    let mut emit = |event: &RawEvent<'_>| (sink.emit)(sink.state, event);
    let result = CallState::serve(state, Err("the host panicked".to_owned()), |state| work(state.services, &mut emit));
    match result {
        Ok(()) => RawStatus::OK,
        Err(text) => {
            emit(&RawEvent::mark(RawEventKind::ERROR, &text));
            RawStatus::FAILED
        }
    }
}
