//! The shim's functions as Rust sees them, and the little that makes them safe to call.

use std::ffi::CStr;
use std::ffi::CString;
use std::ffi::c_char;
use std::ffi::c_int;
use std::ffi::c_void;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::path::Path;
use std::ptr::null_mut;

use handler_sdk::Device;
use handler_sdk::abi::raw::RawEvent;
use handler_sdk::abi::raw::RawEventKind;
use handler_sdk::abi::raw::RawTensor;
use tch::Tensor;

use crate::model::Parameter;
use crate::model::ParameterKind;
use crate::model::Schema;

type Tell = extern "C" fn(sink: *mut c_void, kind: c_int, name: *const c_char, is_optional: bool);

pub(super) type Emit = extern "C" fn(sink: *mut c_void, kind: c_int, name: *const c_char, tensor: *const c_void);

unsafe extern "C" {
    fn sconce_message_free(message: *mut c_char);
    fn sconce_memory_trim();
    fn sconce_cuda_open(opened: *mut bool) -> *mut c_char;
    fn sconce_library_open(path: *const c_char) -> *mut c_char;
    fn sconce_operators_register() -> *mut c_char;
    fn sconce_operators_registered() -> bool;
    fn sconce_inference_mode_enter() -> *mut c_void;
    fn sconce_inference_mode_leave(mode: *mut c_void);
    fn sconce_model_load(path: *const c_char, device: c_int, out: *mut *mut c_void) -> *mut c_char;
    fn sconce_state_dict_new() -> *mut c_void;
    fn sconce_state_dict_add(
        model: *mut c_void,
        name: *const c_char,
        tensor: *const c_void,
        device: c_int,
    ) -> *mut c_char;
    fn sconce_model_free(model: *mut c_void);
    fn sconce_model_forward(
        model: *const c_void,
        method: *const c_char,
        inputs: *const RawInput,
        count: usize,
        sink: *mut c_void,
        emit: Emit,
    ) -> *mut c_char;
    fn sconce_model_layer(
        model: *const c_void,
        method: *const c_char,
        layer: *const c_char,
        inputs: *const RawInput,
        count: usize,
        sink: *mut c_void,
        emit: Emit,
    ) -> *mut c_char;
    fn sconce_model_gradients(
        model: *const c_void,
        method: *const c_char,
        layer: *const c_char,
        inputs: *const RawInput,
        count: usize,
        target: i64,
        sink: *mut c_void,
        emit: Emit,
    ) -> *mut c_char;
    fn sconce_model_schema(
        model: *const c_void,
        method: *const c_char,
        sink: *mut c_void,
        tell: Tell,
        outputs: *mut c_int,
    ) -> *mut c_char;
    fn sconce_model_tensors(model: *const c_void, sink: *mut c_void, emit: Emit) -> *mut c_char;
}

/// One step through a value; the tensor is an `at::Tensor *`, null unless the kind is a tensor.
pub(super) struct Step<'a> {
    pub(super) kind: RawEventKind,
    pub(super) name: &'a str,
    pub(super) tensor: *const c_void,
}

/// One step through what a method is called with.
#[derive(Debug)]
pub(super) struct Input {
    pub(super) kind: RawEventKind,
    pub(super) name: String,
    /// Set where the kind is a tensor.
    pub(super) tensor: Option<Tensor>,
}

/// An [`Input`] as the shim sees it.
#[repr(C)]
pub(super) struct RawInput {
    kind: c_int,
    name: *const c_char,
    tensor: *const c_void,
}

/// Inputs as the shim sees them, with what they point to.
pub(super) struct Lent<'a> {
    pub(super) raw: Vec<RawInput>,
    _names: Vec<CString>,
    _inputs: &'a [Input],
}

/// What takes the steps; an error stops nothing, the first one is kept.
pub(super) type Receiver<'a> = &'a mut dyn FnMut(Step<'_>) -> Result<(), String>;

/// A model in C++'s hands.
#[derive(Debug)]
pub(super) struct RawModel(*mut c_void);

/// Inference mode on this thread, until dropped.
#[derive(Debug)]
pub(crate) struct InferenceMode(*mut c_void);

// SAFETY: the C++ object is changed through `&mut` only, and libtorch lets several threads call one module.
unsafe impl Send for RawModel {}
// SAFETY: as above.
unsafe impl Sync for RawModel {}

/// Opens CUDA's part of libtorch if it is there.
pub(super) fn open_cuda() -> Result<bool, String> {
    let mut opened = false;
    // SAFETY: the pointer is valid for the call.
    check(unsafe { sconce_cuda_open(&raw mut opened) })?;
    Ok(opened)
}

/// Opens a library for all that comes after it, and for ever.
pub(super) fn open_library(path: &Path) -> Result<(), String> {
    let path = CString::new(path.as_os_str().as_encoded_bytes()).map_err(|error| error.to_string())?;
    // SAFETY: the path lives through the call; what the library's start-up code does was tried in a canary.
    check(unsafe { sconce_library_open(path.as_ptr()) })
}

/// Gives memory that was freed back to the system.
pub(in crate::model) fn trim_memory() {
    // SAFETY: no conditions.
    unsafe { sconce_memory_trim() }
}

/// Registers the shim's own operators, unless they are known from elsewhere.
pub(super) fn register_operators() -> Result<(), String> {
    // SAFETY: no conditions.
    check(unsafe { sconce_operators_register() })
}

/// Whether the shim's own operators are registered.
pub(super) fn are_operators_registered() -> bool {
    // SAFETY: no conditions.
    unsafe { sconce_operators_registered() }
}

// === impl Step ===

impl Step<'_> {
    /// The tensor, which lives on as long as this does.
    pub(super) fn share(&self) -> Result<Tensor, String> {
        if self.tensor.is_null() {
            return Err("a step without a tensor was taken for one; this is a bug".to_owned());
        }
        // SAFETY: the shim lends an `at::Tensor` for the duration of the step.
        Ok(unsafe { Tensor::clone_from_ptr(self.tensor.cast_mut().cast()) })
    }
}

// === impl Input ===

impl Input {
    /// As a call of the model takes it.
    pub(super) fn lend(&self) -> RawEvent<'_> {
        match &self.tensor {
            Some(tensor) => RawEvent::tensor(&self.name, RawTensor::torch(tensor.as_ptr().cast())),
            None => RawEvent::mark(self.kind, &self.name),
        }
    }

    /// The same, of which tensors are shared.
    pub(super) fn share(&self) -> Self {
        let tensor = self.tensor.as_ref().map(Tensor::shallow_clone);
        Self { kind: self.kind, name: self.name.clone(), tensor }
    }
}

// === impl RawModel ===

impl RawModel {
    pub(super) fn pointer(&self) -> *const c_void {
        self.0
    }

    /// Loads TorchScript.
    pub(super) fn load(path: &Path, device: Device) -> Result<Self, String> {
        let path = CString::new(path.as_os_str().as_encoded_bytes()).map_err(|error| error.to_string())?;
        let mut model = null_mut();
        // SAFETY: the pointers are valid for the call; on success the model is ours.
        check(unsafe { sconce_model_load(path.as_ptr(), index(device), &raw mut model) })?;
        Ok(Self(model))
    }

    /// A state dict without tensors, to be filled with `add`.
    pub(super) fn empty() -> Self {
        // SAFETY: the new object is ours.
        Self(unsafe { sconce_state_dict_new() })
    }

    /// Adds a tensor to a state dict; on a CPU its memory is shared, not copied.
    pub(super) fn add(&mut self, name: &str, tensor: &Tensor, device: Device) -> Result<(), String> {
        let name = CString::new(name).map_err(|error| error.to_string())?;
        // SAFETY: `&mut` says that nobody else uses the object; name and tensor live through the call.
        check(unsafe { sconce_state_dict_add(self.0, name.as_ptr(), tensor.as_ptr().cast(), index(device)) })
    }

    pub(super) fn forward(&self, method: &str, inputs: &[Input], mut receiver: Receiver<'_>) -> Result<(), String> {
        let method = text(method)?;
        let inputs = Lent::new(inputs)?;
        let raw = &inputs.raw;
        let mut sink = Sink::new(&mut receiver);
        // SAFETY: the model is TorchScript or raises; names, tensors and the sink live through the call.
        check(unsafe { sconce_model_forward(self.0, method.as_ptr(), raw.as_ptr(), raw.len(), sink.pointer(), emit) })?;
        sink.result
    }

    pub(super) fn layer(
        &self,
        method: &str,
        layer: &str,
        inputs: &[Input],
        mut receiver: Receiver<'_>,
    ) -> Result<(), String> {
        let (method, layer) = (text(method)?, text(layer)?);
        let inputs = Lent::new(inputs)?;
        let (raw, count) = (inputs.raw.as_ptr(), inputs.raw.len());
        let mut sink = Sink::new(&mut receiver);
        // SAFETY: as for `forward`.
        check(unsafe {
            sconce_model_layer(self.0, method.as_ptr(), layer.as_ptr(), raw, count, sink.pointer(), emit)
        })?;
        sink.result
    }

    pub(super) fn gradients(
        &self,
        method: &str,
        layer: &str,
        inputs: &[Input],
        target: u64,
        mut receiver: Receiver<'_>,
    ) -> Result<(), String> {
        let (method, layer) = (text(method)?, text(layer)?);
        let inputs = Lent::new(inputs)?;
        let (raw, count) = (inputs.raw.as_ptr(), inputs.raw.len());
        // A column beyond any output's is refused like one that is just beyond this one's.
        let target = i64::try_from(target).unwrap_or(i64::MAX);
        let mut sink = Sink::new(&mut receiver);
        // SAFETY: as for `forward`.
        check(unsafe {
            sconce_model_gradients(self.0, method.as_ptr(), layer.as_ptr(), raw, count, target, sink.pointer(), emit)
        })?;
        sink.result
    }

    pub(super) fn schema(&self, method: &str) -> Result<Schema, String> {
        let method = CString::new(method).map_err(|error| error.to_string())?;
        let mut parameters: Vec<Parameter> = Vec::new();
        let mut outputs = -1;
        let sink = (&raw mut parameters).cast();
        // SAFETY: the model is TorchScript or raises; the name, the list and the number live through the call.
        check(unsafe { sconce_model_schema(self.0, method.as_ptr(), sink, tell, &raw mut outputs) })?;
        Ok(Schema { parameters, outputs: usize::try_from(outputs).ok() })
    }

    pub(super) fn tensors(&self, mut receiver: Receiver<'_>) -> Result<(), String> {
        let mut sink = Sink::new(&mut receiver);
        // SAFETY: the sink lives through the call.
        check(unsafe { sconce_model_tensors(self.0, sink.pointer(), emit) })?;
        sink.result
    }
}

impl Drop for RawModel {
    fn drop(&mut self) {
        // SAFETY: the object is ours, and this is its end.
        unsafe { sconce_model_free(self.0) }
        trim_memory();
    }
}

// === impl InferenceMode ===

impl InferenceMode {
    pub(crate) fn enter() -> Self {
        // SAFETY: no conditions; the guard stays on this thread, since a raw pointer is not Send.
        Self(unsafe { sconce_inference_mode_enter() })
    }
}

impl Drop for InferenceMode {
    fn drop(&mut self) {
        // SAFETY: the pointer comes from `enter`, on this thread.
        unsafe { sconce_inference_mode_leave(self.0) }
    }
}

// === impl Lent ===

impl<'a> Lent<'a> {
    pub(super) fn new(inputs: &'a [Input]) -> Result<Self, String> {
        let names: Vec<CString> = inputs.iter().map(|input| text(&input.name)).collect::<Result<_, _>>()?;
        let raw = inputs.iter().zip(&names).map(|(input, name)| RawInput {
            kind: c_int::from(input.kind.0),
            name: name.as_ptr(),
            tensor: input.tensor.as_ref().map_or(std::ptr::null(), |tensor| tensor.as_ptr().cast()),
        });
        Ok(Self { raw: raw.collect(), _names: names, _inputs: inputs })
    }
}

pub(super) fn text(text: &str) -> Result<CString, String> {
    CString::new(text).map_err(|error| error.to_string())
}

// === Steps ===

pub(super) struct Sink<'a, 'b> {
    receiver: &'a mut Receiver<'b>,
    pub(super) result: Result<(), String>,
}

impl<'a, 'b> Sink<'a, 'b> {
    pub(super) fn new(receiver: &'a mut Receiver<'b>) -> Self {
        Self { receiver, result: Ok(()) }
    }

    pub(super) fn pointer(&mut self) -> *mut c_void {
        std::ptr::from_mut(self).cast()
    }
}

/// Called by the shim for every step; no panic may unwind into C++.
pub(super) extern "C" fn emit(sink: *mut c_void, kind: c_int, name: *const c_char, tensor: *const c_void) {
    // SAFETY: the pointer is the `Sink` of the call that is running.
    let sink = unsafe { &mut *sink.cast::<Sink<'_, '_>>() };
    // SAFETY: the shim passes a C string that lives through this call.
    let name = unsafe { CStr::from_ptr(name) }.to_string_lossy();
    let kind = u8::try_from(kind).map_or(RawEventKind::ERROR, RawEventKind);
    let step = Step { kind, name: &name, tensor };
    let taken = catch_unwind(AssertUnwindSafe(|| (sink.receiver)(step)));
    let taken = taken.unwrap_or_else(|_| Err("the host panicked while it took the model's answer".to_owned()));
    if sink.result.is_ok() {
        sink.result = taken;
    }
}

/// Called by the shim for every parameter of a method.
extern "C" fn tell(sink: *mut c_void, kind: c_int, name: *const c_char, is_optional: bool) {
    // SAFETY: the pointer is the list of the call that is running.
    let parameters = unsafe { &mut *sink.cast::<Vec<Parameter>>() };
    // SAFETY: the shim passes a C string that lives through this call.
    let name = unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned();
    let kind = match kind {
        0 => ParameterKind::Tensor,
        1 => ParameterKind::List,
        2 => ParameterKind::Dict,
        _ => ParameterKind::Other,
    };
    parameters.push(Parameter { name, kind, is_optional });
}

pub(super) fn check(message: *mut c_char) -> Result<(), String> {
    if message.is_null() {
        return Ok(());
    }
    // SAFETY: the shim returns null or a C string that is ours to free.
    let text = unsafe { CStr::from_ptr(message) }.to_string_lossy().into_owned();
    // SAFETY: as above; it isn't used after this.
    unsafe { sconce_message_free(message) };
    Err(text)
}

/// The shim's number for a device: -1 is the CPU.
pub(super) fn index(device: Device) -> c_int {
    match device {
        Device::Cpu => -1,
        Device::Cuda(index) => c_int::try_from(index).unwrap_or(c_int::MAX),
        // Refused by libtorch.
        _ => c_int::MAX,
    }
}
