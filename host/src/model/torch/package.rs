//! AOTInductor packages as models.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::PoisonError;

use handler_sdk::Device;
use handler_sdk::ModelKind;
use handler_sdk::abi::raw::RawDoor;
use handler_sdk::abi::raw::RawEvent;
use handler_sdk::abi::raw::RawEventKind;
use handler_sdk::abi::raw::RawGradients;
use tch::Tensor;

use super::aoti::Lending;
use super::aoti::RawPackage;
use super::arrange::Arranged;
use super::arrange::arrange;
use super::device;
use super::device::Health;
use super::dtype_of;
use super::forms::RawForm;
use super::lend;
use super::marks::Marks;
use super::shim::Input;
use super::shim::RawModel;
use super::shim::Receiver;
use super::shim::Step;
use super::tune::Subject;
use super::tune::Tuned;
use crate::model::Footprint;
use crate::model::Model;
use crate::model::ModelError;
use crate::model::Optimization;
use crate::model::Parameter;
use crate::model::ParameterKind;
use crate::model::Schema;
use crate::model::Tuning;
use crate::model::package::Inputs;
use crate::model::package::PackageError;
use crate::model::package::PackageFile;
use crate::model::package::Spec;
use crate::model::package::Threads;

/// Compiled code on one device.
struct PackageModel {
    raw: RawPackage,
    device: Device,
    inputs: Inputs,
    parameters: Vec<(String, Spec)>,
    /// What messages call each of the inputs.
    paths: Vec<String>,
    outputs: Spec,
    threads: Threads,
    gate: Gate,
    tuned: Tuned,
    health: Health,
    /// The compiled kernels of a GPU are read when they are first needed.
    _folder: Option<tempfile::TempDir>,
}

/// Lets no more calls in than there are runners: libtorch's own queue for them forgets who waits when a call fails.
struct Gate {
    free: Mutex<usize>,
    freed: Condvar,
}

/// A runner that is taken until this is dropped.
struct Pass<'a>(&'a Gate);

/// The only method of compiled code.
const METHOD: &str = "forward";

/// At least so many calls at a time: workers may be added while the model is in memory, and a runner takes a few kilobytes.
const FEWEST_RUNNERS: usize = 16;

const INFERENCE_ONLY: &str = "an AOTInductor package is compiled for inference alone: serve the model as TorchScript where its layers or gradients are wanted, as for explanations";

pub(super) fn load(path: &Path, device: Device) -> Result<Arc<dyn Model>, ModelError> {
    let refuse = |reason: PackageError| ModelError::Package { path: path.to_owned(), reason };
    let fail = |reason: String| ModelError::Load { path: path.to_owned(), reason };
    let mut file = PackageFile::read(path).map_err(refuse)?;
    file.judge(device).map_err(refuse)?;
    let unpacked = file.unpack().map_err(refuse)?;
    let runners = std::thread::available_parallelism().map_or(1, usize::from).max(FEWEST_RUNNERS);
    let raw = RawPackage::load(&unpacked.library, unpacked.folder.path(), device, runners)
        .map_err(|reason| fail(with_remedy(reason)))?;
    let [inputs, outputs] = raw.specs().map_err(fail)?;
    let parameters = Spec::parse(&inputs).map_err(refuse)?.parameters();
    let outputs = Spec::parse(&outputs).map_err(refuse)?;
    let parameters = known(parameters, file.inputs.0.len());
    let mut paths = Vec::new();
    for (name, spec) in &parameters {
        spec.paths(name, &mut paths);
    }
    let threads = file.threads;
    if threads.fixed > threads_of_libtorch() && threads.all_needed {
        tracing::warn!(
            model = %path.display(),
            "its compiled code starts {} threads for each worker, whatever the server's settings: compile it with inductor_configs={{\"cpp.threads\": 1}}, or with \"cpp.dynamic_threads\": True",
            threads.fixed
        );
    }
    // Mapped by now, and so it needs no name any more: nothing is left behind even by a server that is killed.
    let folder = (device != Device::Cpu).then_some(unpacked.folder);
    let gate = Gate { free: Mutex::new(runners), freed: Condvar::new() };
    Ok(Arc::new(PackageModel {
        raw,
        device,
        inputs: file.inputs,
        parameters,
        paths,
        outputs,
        threads,
        gate,
        tuned: Tuned::default(),
        health: Health::default(),
        _folder: folder,
    }))
}

/// The parameters, or as many plain tensors as the code takes where some of the parameters aren't tensors: the code has those built in.
fn known(parameters: Vec<(String, Spec)>, tensors: usize) -> Vec<(String, Spec)> {
    if parameters.iter().map(|(_, spec)| spec.tensors()).sum::<usize>() == tensors {
        return parameters;
    }
    (0..tensors).map(|place| (format!("input{place}"), Spec::Tensor)).collect()
}

fn with_remedy(reason: String) -> String {
    let version = handler_sdk::abi::note::LIBTORCH_VERSION;
    if reason.contains("undefined symbol") {
        return format!("its code was compiled for another libtorch: compile it with torch {version} ({reason})");
    }
    if reason.contains("failed to map segment") {
        return format!(
            "code may not run from the folder for temporary files: set TMPDIR to one without noexec ({reason})"
        );
    }
    reason
}

/// As this thread's operations use them.
fn threads_of_libtorch() -> usize {
    usize::try_from(tch::get_num_threads()).unwrap_or(1)
}

// === impl PackageModel ===

impl Model for PackageModel {
    fn kind(&self) -> ModelKind {
        ModelKind::AotInductor
    }

    fn forward(
        &self,
        method: &str,
        inputs: &[RawEvent<'_>],
        door: RawDoor,
        emit: &mut dyn FnMut(&RawEvent<'_>),
    ) -> Result<(), String> {
        if method != METHOD {
            return Err(format!("an AOTInductor package has no method but {METHOD}, so none is called {method}"));
        }
        let inputs = inputs.iter().map(|event| Input::take(event, self.device)).collect::<Result<Vec<_>, _>>()?;
        let Arranged(tensors) = arrange(inputs, &self.parameters)?;
        let tensors = self.admit(tensors)?;
        // Asked for first, for it also tells this thread's OpenMP how many it may use.
        let one_thread = threads_of_libtorch() == 1 && self.threads.fixed > 1 && !self.threads.all_needed;
        let mut marks = Marks::new(&self.outputs);
        let _pass = self.gate.enter();
        let called = self.raw.run(&tensors, one_thread, &mut |step| {
            let name = marks.next(emit)?;
            if step.kind == RawEventKind::BEGIN_LIST {
                emit(&RawEvent::mark(RawEventKind::BEGIN_LIST, &name));
                emit(&RawEvent::mark(RawEventKind::END, ""));
                return Ok(());
            }
            lend(&Step { name: &name, ..step }, door, emit)
        });
        called.inspect_err(|error| self.health.examine(self.device, error))?;
        marks.end(emit)
    }

    fn tune(&self, sample: &[RawEvent<'_>]) -> Option<Arc<Tuning>> {
        let inputs: Result<Vec<_>, _> = sample.iter().map(|event| Input::take(event, self.device)).collect();
        // What can't be taken fails in the call that follows, with a text for whoever made it.
        Some(self.tuned.find(self, Optimization::Auto, &inputs.ok()?))
    }

    fn tuning(&self) -> Option<Arc<Tuning>> {
        self.tuned.get(self)
    }

    fn warm_up(&self, sizes: &[usize]) -> Result<(), String> {
        self.tuned.warm_up(self, sizes)
    }

    fn works(&self) -> bool {
        !self.health.is_lost()
    }

    fn enter_thread(&self) -> Result<(), String> {
        device::enter_stream(self.device)
    }

    fn layer(
        &self,
        _: &str,
        _: &str,
        _: &[RawEvent<'_>],
        _: RawDoor,
        _: &mut dyn FnMut(&RawEvent<'_>),
    ) -> Result<(), String> {
        Err(INFERENCE_ONLY.to_owned())
    }

    fn gradients(&self, _: &RawGradients<'_>, _: RawDoor, _: &mut dyn FnMut(&RawEvent<'_>)) -> Result<(), String> {
        Err(INFERENCE_ONLY.to_owned())
    }

    fn schema(&self, method: &str) -> Result<Schema, String> {
        if method != METHOD {
            return Err(format!("an AOTInductor package has no method {method}"));
        }
        let parameters = self.parameters.iter().map(|(name, spec)| Parameter {
            name: name.clone(),
            kind: parameter_kind(spec),
            is_optional: false,
        });
        let outputs = match &self.outputs {
            Spec::Tensor => Some(1),
            Spec::List(items) => items.iter().all(|item| *item == Spec::Tensor).then_some(items.len()),
            Spec::Dict(_) => None,
        };
        Ok(Schema { parameters: parameters.collect(), outputs })
    }

    fn weights(&self, door: RawDoor, emit: &mut dyn FnMut(&RawEvent<'_>)) -> Result<(), String> {
        self.raw.weights(Lending::Copies, &mut |step| lend(&step, door, emit))
    }

    fn footprint(&self) -> Footprint {
        let mut footprint = Footprint::default();
        // What was counted before one that can't be stands.
        let _ = self.raw.weights(Lending::Own, &mut |step| footprint.count(&step));
        footprint
    }
}

impl Subject for PackageModel {
    fn module(&self) -> Option<&RawModel> {
        None
    }

    fn call(&self, _: Option<&RawForm>, inputs: &[Input], receiver: Receiver<'_>) -> Result<(), String> {
        let events: Vec<RawEvent<'_>> = inputs.iter().map(Input::lend).collect();
        let mut taken = Ok(());
        self.forward(METHOD, &events, RawDoor::TORCH, &mut |event| {
            let step = Step { kind: event.kind, name: event.name.as_str(), tensor: event.tensor.torch };
            if taken.is_ok() {
                taken = receiver(step);
            }
        })?;
        taken
    }

    fn repeat(&self, form: Option<&RawForm>, inputs: &[Input], times: usize) -> Result<(), String> {
        (0..times).try_for_each(|_| self.call(form, inputs, &mut |_| Ok(())))
    }

    fn repeat_kept(&self, inputs: &[Input], times: usize) -> Result<(), String> {
        Subject::repeat(self, None, inputs, times)
    }
}

impl PackageModel {
    /// The tensors as the code may be called with them; says no where it may not.
    fn admit(&self, tensors: Vec<Tensor>) -> Result<Vec<Tensor>, String> {
        let mut given = Vec::new();
        for (tensor, path) in tensors.iter().zip(&self.paths) {
            let kind = tensor.f_kind().map_err(|error| error.to_string())?;
            let dtype =
                dtype_of(kind).ok_or_else(|| format!("{path} is of {kind:?}, which no model can be called with"))?;
            given.push((dtype, tensor.size()));
        }
        self.inputs.check(&self.paths, &given)?;
        let rows = tensors.into_iter().zip(&self.inputs.0).zip(&self.paths);
        rows.map(|((tensor, input), path)| {
            lay_out(tensor, &input.strides, self.device).map_err(|why| format!("{path} {why}"))
        })
        .collect()
    }
}

/// A tensor with the same numbers in the layout that the code was compiled for.
fn lay_out(tensor: Tensor, wanted: &[Option<i64>], device: Device) -> Result<Tensor, String> {
    // Compiled kernels of a GPU read several numbers at once, from where those may begin.
    let is_aligned = device == Device::Cpu || (tensor.data_ptr() as usize).is_multiple_of(16);
    if tensor.is_sparse() {
        return Err("is sparse, and the model takes dense tensors".to_owned());
    }
    if is_aligned && fits(&tensor, wanted) {
        return Ok(tensor);
    }
    let text = |error: tch::TchError| error.to_string();
    let dense = tensor.f_contiguous().map_err(text)?;
    if is_aligned && fits(&dense, wanted) {
        return Ok(dense);
    }
    let strides: Option<Vec<i64>> = wanted.iter().copied().collect();
    let Some(strides) = strides else {
        return Err(format!("must be laid out with the strides {wanted:?}, which depend on its size"));
    };
    let mut laid = Tensor::f_empty_strided(tensor.size(), strides, (dense.kind(), dense.device())).map_err(text)?;
    laid.f_copy_(&dense).map_err(text)?;
    Ok(laid)
}

/// Whether a tensor lies as it should; where the code reads one number of a dimension, its stride is nobody's.
///
/// A stride that depends on sizes is that of a tensor without gaps.
fn fits(tensor: &Tensor, wanted: &[Option<i64>]) -> bool {
    let (sizes, strides) = (tensor.size(), tensor.stride());
    let is_dense = wanted.iter().all(Option::is_some) || tensor.is_contiguous();
    is_dense
        && sizes
            .iter()
            .zip(&strides)
            .zip(wanted)
            .all(|((&size, &stride), &wanted)| size <= 1 || wanted.is_none_or(|wanted| wanted == stride))
}

fn parameter_kind(spec: &Spec) -> ParameterKind {
    match spec {
        Spec::Tensor => ParameterKind::Tensor,
        Spec::List(items) if items.iter().all(|item| *item == Spec::Tensor) => ParameterKind::List,
        Spec::Dict(entries) if entries.iter().all(|entry| entry.1 == Spec::Tensor) => ParameterKind::Dict,
        Spec::List(_) | Spec::Dict(_) => ParameterKind::Other,
    }
}

impl fmt::Debug for PackageModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PackageModel").field("device", &self.device).finish_non_exhaustive()
    }
}

// === impl Gate ===

impl Gate {
    fn enter(&self) -> Pass<'_> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free = self.freed.wait_while(free, |free| *free == 0).unwrap_or_else(PoisonError::into_inner);
        *free -= 1;
        Pass(self)
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.freed.notify_one();
    }
}
