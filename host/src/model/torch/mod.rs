//! Models in libtorch: the one place that knows tch and the shim.

#![allow(unsafe_code)] // The shim is one of the three homes of unsafe code.

mod aoti;
mod arrange;
mod device;
mod forms;
mod marks;
mod package;
mod profile;
mod shim;
mod tune;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use handler_sdk::DType;
use handler_sdk::Device;
use handler_sdk::ModelKind;
use handler_sdk::abi::raw::RawDoor;
use handler_sdk::abi::raw::RawEvent;
use handler_sdk::abi::raw::RawEventKind;
use handler_sdk::abi::raw::RawGradients;
use handler_sdk::abi::raw::RawTensor;
use tch::Kind;
use tch::Tensor;

use super::Accelerators;
use super::Footprint;
use super::Model;
use super::ModelError;
use super::ModelOptions;
use super::Runtime;
use super::Schema;
use super::state_dict;
use super::state_dict::Contents;
use super::state_dict::NamedTensor;
use super::tuning::Tuning;
use device::Health;
pub(crate) use profile::Recording;
pub(crate) use shim::InferenceMode;
use shim::Input;
use shim::RawModel;
use shim::Step;
pub(super) use shim::trim_memory;
use tune::Tuned;

/// A TorchScript module or a state dict, on one device.
struct TorchModel {
    raw: RawModel,
    kind: ModelKind,
    device: Device,
    versions_when_loaded: i64,
    options: ModelOptions,
    tuned: Tuned,
    health: Health,
}

pub(super) fn start(accelerators: Accelerators, threads_per_operation: usize) -> Result<Runtime, ModelError> {
    let cuda = match accelerators {
        Accelerators::All => shim::open_cuda().map_err(|reason| ModelError::Cuda { reason })?,
        Accelerators::None => false,
    };
    set_threads(threads_per_operation);
    tch::set_num_interop_threads(1);
    forms::set_executor(cuda);
    let devices = if cuda { tch::Cuda::device_count() } else { 0 };
    Ok(Runtime { cuda_devices: usize::try_from(devices).unwrap_or(0) })
}

pub(super) fn set_threads(threads: usize) {
    tch::set_num_threads(i32::try_from(threads).unwrap_or(1));
}

pub(super) fn open_operators(path: &Path) -> Result<(), ModelError> {
    shim::open_library(path).map_err(|reason| ModelError::Operators { path: path.to_owned(), reason })
}

pub(super) fn register_own_operators() -> Result<(), ModelError> {
    shim::register_operators().map_err(|reason| ModelError::Operators { path: "torchvision".into(), reason })
}

pub(super) fn has_own_operators() -> bool {
    shim::are_operators_registered()
}

pub(super) fn load(path: &Path, device: Device, options: ModelOptions) -> Result<Arc<dyn Model>, ModelError> {
    let fail = |reason| ModelError::Load { path: path.to_owned(), reason };
    let (raw, kind) = match state_dict::read(path)? {
        Contents::TorchScript => {
            let raw = RawModel::load(path, device).map_err(|reason| fail(with_remedy(reason)))?;
            (raw, ModelKind::TorchScript)
        }
        Contents::Package => return package::load(path, device),
        Contents::StateDict(tensors) => {
            let mut raw = RawModel::empty();
            // One at a time, so that only one tensor's bytes are ever in memory twice.
            for named in tensors {
                let tensor = tensor_of(&named, path)?;
                raw.add(&named.name, &tensor, device).map_err(fail)?;
            }
            (raw, ModelKind::StateDict)
        }
    };
    Ok(Arc::new(TorchModel::new(raw, kind, device, options)))
}

/// Where an operator is missing, what brings it.
fn with_remedy(reason: String) -> String {
    if !reason.contains("Unknown builtin op") {
        return reason;
    }
    format!(
        "it calls an operator that libtorch doesn't have: put the library that registers it into the archive, and name it in model-config.yaml, as `torchLibraries: [libmy_operators.so]`; libtorch says:{reason}"
    )
}

fn tensor_of(named: &NamedTensor, path: &Path) -> Result<Tensor, ModelError> {
    let bytes = named.bytes().map_err(|reason| ModelError::Weights { path: path.to_owned(), reason })?;
    let fail = |reason| ModelError::Load { path: path.to_owned(), reason };
    let kind = kind_of(named.dtype).ok_or_else(|| fail(format!("libtorch has no element type {:?}", named.dtype)))?;
    Tensor::f_from_data_size(&bytes, &named.shape, kind).map_err(|error| fail(error.to_string()))
}

// === impl TorchModel ===

impl Model for TorchModel {
    fn kind(&self) -> ModelKind {
        self.kind
    }

    fn forward(
        &self,
        method: &str,
        inputs: &[RawEvent<'_>],
        door: RawDoor,
        emit: &mut dyn FnMut(&RawEvent<'_>),
    ) -> Result<(), String> {
        let inputs = self.take(inputs)?;
        let called = self.raw.forward(method, &inputs, &mut |step| lend(&step, door, emit));
        called.inspect_err(|error| self.health.examine(self.device, error))
    }

    fn layer(
        &self,
        method: &str,
        layer: &str,
        inputs: &[RawEvent<'_>],
        door: RawDoor,
        emit: &mut dyn FnMut(&RawEvent<'_>),
    ) -> Result<(), String> {
        let inputs = self.take(inputs)?;
        self.raw.layer(method, layer, &inputs, &mut |step| lend(&step, door, emit))
    }

    fn gradients(
        &self,
        asked: &RawGradients<'_>,
        door: RawDoor,
        emit: &mut dyn FnMut(&RawEvent<'_>),
    ) -> Result<(), String> {
        let inputs = self.take(asked.inputs.as_slice())?;
        let (method, layer) = (asked.method.as_str(), asked.layer.as_str());
        self.raw.gradients(method, layer, &inputs, asked.target, &mut |step| lend(&step, door, emit))
    }

    fn schema(&self, method: &str) -> Result<Schema, String> {
        self.raw.schema(method)
    }

    fn tune(&self, sample: &[RawEvent<'_>]) -> Option<Arc<Tuning>> {
        if self.kind != ModelKind::TorchScript {
            return None;
        }
        // What can't be taken fails in the call that follows, with a text for whoever made it.
        let inputs = self.take(sample).ok()?;
        Some(self.tuned.find(&self.raw, self.options.optimization, &inputs))
    }

    fn tuning(&self) -> Option<Arc<Tuning>> {
        self.tuned.get(&self.raw)
    }

    fn enter_thread(&self) -> Result<(), String> {
        device::enter_stream(self.device)
    }

    fn works(&self) -> bool {
        !self.health.is_lost()
    }

    fn warm_up(&self, sizes: &[usize]) -> Result<(), String> {
        self.tuned.warm_up(&self.raw, sizes)
    }

    fn repeat(&self, inputs: &[RawEvent<'_>], times: usize) -> Result<(), String> {
        self.raw.repeat_as_kept(&self.take(inputs)?, times)
    }

    fn weights(&self, door: RawDoor, emit: &mut dyn FnMut(&RawEvent<'_>)) -> Result<(), String> {
        self.raw.tensors(&mut |step| lend(&step, door, emit))
    }

    fn footprint(&self) -> Footprint {
        let mut footprint = Footprint::default();
        // What was counted before one that can't be stands.
        let _ = self.raw.tensors(&mut |step| footprint.count(&step));
        footprint.was_changed = self.versions() != self.versions_when_loaded;
        footprint
    }
}

impl TorchModel {
    fn new(raw: RawModel, kind: ModelKind, device: Device, options: ModelOptions) -> Self {
        let tuned = Tuned::default();
        let mut model = Self { raw, kind, device, versions_when_loaded: 0, options, tuned, health: Health::default() };
        model.versions_when_loaded = model.versions();
        model
    }

    fn take(&self, inputs: &[RawEvent<'_>]) -> Result<Vec<Input>, String> {
        inputs.iter().map(|event| Input::take(event, self.device)).collect()
    }

    /// The sum of what libtorch counts for each tensor: one more for each time it is written to in place.
    fn versions(&self) -> i64 {
        let mut sum = 0;
        let counted = self.raw.tensors(&mut |step| {
            let tensor = step.share()?;
            sum += tensor.f_internal_version().map_err(|error| error.to_string())?;
            Ok(())
        });
        // A tensor made in inference mode isn't counted; what was counted before it is compared all the same.
        drop(counted);
        sum
    }
}

impl fmt::Debug for TorchModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TorchModel").field("kind", &self.kind).field("device", &self.device).finish_non_exhaustive()
    }
}

impl Input {
    fn take(event: &RawEvent<'_>, device: Device) -> Result<Self, String> {
        let is_tensor = event.kind == RawEventKind::TENSOR;
        Ok(Self {
            kind: event.kind,
            name: event.name.as_str().to_owned(),
            tensor: is_tensor.then(|| take(&event.tensor, device)).transpose()?,
        })
    }
}

/// A plugin's tensor as one of ours, on the model's device; libtorch tensors are shared, plain memory is copied.
fn take(raw: &RawTensor<'_>, device: Device) -> Result<Tensor, String> {
    let text = |error: tch::TchError| error.to_string();
    let tensor = match raw.door {
        RawDoor::TORCH if !raw.torch.is_null() => {
            // SAFETY: the plugin lends its `at::Tensor` for this call, and uses the libtorch of this process: its note was compared with ours.
            unsafe { Tensor::clone_from_ptr(raw.torch.cast_mut().cast()) }
        }
        RawDoor::PLAIN => {
            let dtype = DType::from_code(raw.dtype).ok_or_else(|| format!("unknown element type {}", raw.dtype))?;
            return device::place(raw.bytes.as_slice(), raw.shape.as_slice(), dtype, device);
        }
        other => return Err(format!("unknown door {}", other.0)),
    };
    tensor.f_to_device(torch_device(device)).map_err(text)
}

/// Hands one step to a plugin, through the door it asked for.
fn lend(step: &Step<'_>, door: RawDoor, emit: &mut dyn FnMut(&RawEvent<'_>)) -> Result<(), String> {
    if step.kind != RawEventKind::TENSOR {
        emit(&RawEvent::mark(step.kind, step.name));
        return Ok(());
    }
    if door == RawDoor::TORCH {
        emit(&RawEvent::tensor(step.name, RawTensor::torch(step.tensor)));
        return Ok(());
    }
    let tensor = step.share()?;
    let text = |error: tch::TchError| error.to_string();
    let kind = tensor.f_kind().map_err(text)?;
    let dtype = dtype_of(kind).ok_or_else(|| format!("a tensor of {kind:?} can't be handed over as plain memory"))?;
    let tensor = device::fetch(&tensor)?;
    let length = tensor.numel() * dtype.size();
    let bytes: &[u8] = if length == 0 {
        &[]
    } else {
        // SAFETY: a contiguous CPU tensor has that many bytes there, and lives until the end of this function.
        unsafe { std::slice::from_raw_parts(tensor.data_ptr().cast(), length) }
    };
    let shape = tensor.size();
    emit(&RawEvent::tensor(step.name, RawTensor::plain(dtype.code(), &shape, bytes)));
    Ok(())
}

impl Footprint {
    fn count(&mut self, step: &Step<'_>) -> Result<(), String> {
        let tensor = step.share()?;
        let size = tensor.f_kind().map_err(|error| error.to_string())?.elt_size_in_bytes();
        self.tensors += 1;
        self.bytes += (tensor.numel() * size) as u64;
        self.address = self.address.or_else(|| device::address(&tensor));
        Ok(())
    }
}

fn torch_device(device: Device) -> tch::Device {
    match device {
        Device::Cpu => tch::Device::Cpu,
        Device::Cuda(index) => tch::Device::Cuda(index),
        // No model is ever loaded there.
        _ => tch::Device::Cpu,
    }
}

const KINDS: [(DType, Kind); 10] = [
    (DType::Bool, Kind::Bool),
    (DType::U8, Kind::Uint8),
    (DType::I8, Kind::Int8),
    (DType::I16, Kind::Int16),
    (DType::I32, Kind::Int),
    (DType::I64, Kind::Int64),
    (DType::F16, Kind::Half),
    (DType::BF16, Kind::BFloat16),
    (DType::F32, Kind::Float),
    (DType::F64, Kind::Double),
];

fn kind_of(dtype: DType) -> Option<Kind> {
    KINDS.iter().find(|row| row.0 == dtype).map(|row| row.1)
}

fn dtype_of(kind: Kind) -> Option<DType> {
    KINDS.iter().find(|row| row.1 == kind).map(|row| row.0)
}

#[cfg(test)]
mod tests;
