//! Models: weights on a device, owned by the host and kept by content.
//!
//! The layer knows files and tensors; it doesn't know archives, plugins or HTTP.

mod error;
#[cfg_attr(not(feature = "torch"), allow(dead_code))]
mod package;
mod profile;
mod schema;
// Nobody loads weights without libtorch; it is built all the same, so that its tests need no libtorch.
#[cfg_attr(not(feature = "torch"), allow(dead_code, unused_imports))]
mod state_dict;
mod store;
#[cfg(feature = "torch")]
mod torch;
// Nobody has forms without libtorch; the search for them is built all the same, so that its tests need no libtorch.
#[cfg_attr(not(feature = "torch"), allow(dead_code))]
mod tuning;

pub use error::ModelError;
pub use profile::Operand;
pub use profile::Operator;
pub use profile::OperatorKind;
pub use profile::OperatorRecorder;
pub use profile::Operators;
pub use schema::Parameter;
pub use schema::ParameterKind;
pub use schema::Schema;
pub use store::ModelKey;
pub use store::ModelOptions;
pub use store::ModelStore;
pub use store::Place;
pub use store::load;
pub use tuning::BUCKETS;
pub use tuning::Form;
pub use tuning::Optimization;
pub use tuning::Trial;
pub use tuning::Tuning;

use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;

use handler_sdk::Device;
use handler_sdk::ModelKind;
use handler_sdk::abi::raw::RawDoor;
use handler_sdk::abi::raw::RawEvent;
use handler_sdk::abi::raw::RawGradients;

/// A loaded model. It is shared by every handler that uses the same file on the same device, and never changes.
pub trait Model: Debug + Send + Sync {
    /// Whether it can be called, or only read.
    fn kind(&self) -> ModelKind;

    /// Calls a method with inputs that are walked through one after the other, and walks through its value; the error is libtorch's own text.
    fn forward(
        &self,
        method: &str,
        inputs: &[RawEvent<'_>],
        door: RawDoor,
        emit: &mut dyn FnMut(&RawEvent<'_>),
    ) -> Result<(), String>;

    /// Walks through what a submodule gives while a method runs; the error is text.
    fn layer(
        &self,
        method: &str,
        layer: &str,
        inputs: &[RawEvent<'_>],
        door: RawDoor,
        emit: &mut dyn FnMut(&RawEvent<'_>),
    ) -> Result<(), String>;

    /// Gives the gradients that were asked for, as one tensor; the error is text.
    fn gradients(
        &self,
        asked: &RawGradients<'_>,
        door: RawDoor,
        emit: &mut dyn FnMut(&RawEvent<'_>),
    ) -> Result<(), String>;

    /// What a method takes and gives, as far as the model's code says; the error is text.
    fn schema(&self, method: &str) -> Result<Schema, String>;

    /// Finds the form that the method forward runs in from now on, with a sample of what it takes, unless that was done; `None` for what has no forms.
    ///
    /// Call it on a thread that calls the model, before others do: it may take most of a second.
    fn tune(&self, _sample: &[RawEvent<'_>]) -> Option<Arc<Tuning>> {
        None
    }

    /// What was found.
    fn tuning(&self) -> Option<Arc<Tuning>> {
        None
    }

    /// Readies a thread that will call it: on a GPU, with a stream of its own. Call it once, first.
    fn enter_thread(&self) -> Result<(), String> {
        Ok(())
    }

    /// Whether its device still computes.
    fn works(&self) -> bool {
        true
    }

    /// Calls the method forward with batches of these sizes on this thread, made of the sample; nothing where there is none.
    fn warm_up(&self, _sizes: &[usize]) -> Result<(), String> {
        Ok(())
    }

    /// Calls the method forward so many times, and drops what it gives: how fast libtorch alone is.
    fn repeat(&self, inputs: &[RawEvent<'_>], times: usize) -> Result<(), String> {
        (0..times).try_for_each(|_| self.forward("forward", inputs, RawDoor::TORCH, &mut |_| ()))
    }

    /// Walks through the named tensors.
    fn weights(&self, door: RawDoor, emit: &mut dyn FnMut(&RawEvent<'_>)) -> Result<(), String>;

    /// Where its weights are, and how much they take.
    fn footprint(&self) -> Footprint;
}

/// What a model takes of its device's memory: its named tensors, without what libtorch needs beside them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Footprint {
    pub tensors: usize,
    pub bytes: u64,
    /// Of the first weight, on the model's device: while it stays the same, the weights have not moved.
    pub address: Option<usize>,
    /// Whether somebody has written to a weight since the model was loaded.
    pub was_changed: bool,
}

/// The libtorch of this process; without the feature `torch` there is none, and no model can be loaded.
#[derive(Debug, Clone, Copy)]
pub struct Runtime {
    /// How many CUDA devices libtorch can use.
    pub cuda_devices: usize,
}

/// Which devices a process wants to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accelerators {
    /// All that libtorch has a part for at run time.
    All,
    /// None: a process on the CPU starts far quicker.
    None,
}

/// While it lives, libtorch on this thread keeps nothing for gradients.
#[derive(Debug)]
pub struct InferenceMode {
    #[cfg(feature = "torch")]
    _mode: torch::InferenceMode,
}

/// Sets how many threads an operation of libtorch may use that this thread starts.
pub fn set_threads(threads: usize) {
    #[cfg(feature = "torch")]
    torch::set_threads(threads);
    #[cfg(not(feature = "torch"))]
    let _ = threads;
}

/// Gives memory that was freed back to the system, when what took it has gone: the allocator keeps it for the next call.
///
/// Without libtorch it does nothing.
pub fn trim_memory() {
    #[cfg(feature = "torch")]
    torch::trim_memory();
}

/// What a model file holds, or why it can't be loaded, as far as the file alone shows it: nothing is loaded.
pub fn kind_of(path: &Path) -> Result<ModelKind, ModelError> {
    Ok(match state_dict::read(path)? {
        state_dict::Contents::TorchScript => ModelKind::TorchScript,
        state_dict::Contents::StateDict(_) => ModelKind::StateDict,
        state_dict::Contents::Package => {
            let refuse = |reason| ModelError::Package { path: path.to_owned(), reason };
            package::PackageFile::read(path).map_err(refuse)?;
            ModelKind::AotInductor
        }
    })
}

/// Whether a model file holds compiled code, which runs as soon as it is loaded: a canary does that first.
///
/// Fails where that code can't run here, as far as the file shows it.
pub fn is_compiled(path: &Path, device: Device) -> Result<bool, ModelError> {
    // What can't be read, or not without libtorch, is refused when it is loaded.
    if !cfg!(feature = "torch") || !matches!(state_dict::read(path), Ok(state_dict::Contents::Package)) {
        return Ok(false);
    }
    let judged = package::PackageFile::read(path).and_then(|file| file.judge(device));
    judged.map_err(|reason| ModelError::Package { path: path.to_owned(), reason })?;
    Ok(true)
}

/// Opens a library whose start-up code registers operators with libtorch; it is never unmapped.
pub fn open_operators(path: &Path) -> Result<(), ModelError> {
    #[cfg(feature = "torch")]
    return torch::open_operators(path);
    #[cfg(not(feature = "torch"))]
    Err(ModelError::NoTorch { path: path.to_owned() })
}

/// Registers the operators that this program brings for torchvision's detectors, as a model does that needs them.
pub fn register_own_operators() -> Result<(), ModelError> {
    #[cfg(feature = "torch")]
    return torch::register_own_operators();
    #[cfg(not(feature = "torch"))]
    Ok(())
}

/// Whether they are registered: then no library can be opened that has the same.
pub fn has_own_operators() -> bool {
    #[cfg(feature = "torch")]
    return torch::has_own_operators();
    #[cfg(not(feature = "torch"))]
    false
}

// === impl Runtime ===

impl Runtime {
    /// Starts libtorch, and sets how many threads one operation may use.
    ///
    /// Call it once in a process, before any plugin is opened: the loader's lock and CUDA's own loading must not meet.
    pub fn start(accelerators: Accelerators, threads_per_operation: usize) -> Result<Self, ModelError> {
        #[cfg(feature = "torch")]
        return torch::start(accelerators, threads_per_operation);
        #[cfg(not(feature = "torch"))]
        {
            let _ = (accelerators, threads_per_operation);
            Ok(Self { cuda_devices: 0 })
        }
    }

    /// The version of libtorch, `None` where this build has none.
    pub fn libtorch_version() -> Option<&'static str> {
        cfg!(feature = "torch").then_some(handler_sdk::abi::note::LIBTORCH_VERSION)
    }

    /// The device of that kind and number, checked against what there is.
    pub fn device(self, device: Device) -> Result<Device, ModelError> {
        match device {
            Device::Cuda(index) if index >= self.cuda_devices => {
                Err(ModelError::NoSuchDevice { device, count: self.cuda_devices })
            }
            device => Ok(device),
        }
    }
}

// === impl InferenceMode ===

impl InferenceMode {
    /// Enters inference mode on this thread.
    pub fn enter() -> Self {
        Self {
            #[cfg(feature = "torch")]
            _mode: torch::InferenceMode::enter(),
        }
    }
}
