//! A model on trial: its forms, where it is TorchScript, and its batches, compared and timed on a sample of its input.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::OnceLock;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use handler_sdk::abi::raw::RawEventKind;
use tch::Kind;
use tch::TchError;
use tch::Tensor;

use super::forms::RawForm;
use super::shim::Input;
use super::shim::RawModel;
use super::shim::Receiver;
use super::shim::trim_memory;
use crate::model::tuning::Form;
use crate::model::tuning::Optimization;
use crate::model::tuning::Stage;
use crate::model::tuning::Tuning;

/// What was found for one model, by whoever came first.
#[derive(Debug, Default)]
pub(super) struct Tuned {
    searching: Mutex<()>,
    found: OnceLock<Found>,
}

#[derive(Debug)]
struct Found {
    tuning: Arc<Tuning>,
    /// Locked only while batches are made of it.
    sample: Mutex<Sample>,
}

/// What the method forward takes, and variations of it.
#[derive(Debug)]
struct Sample {
    inputs: Vec<Input>,
    /// Whether all inputs are tensors whose first dimension is the batch's, which is 1.
    has_batch_dimension: bool,
}

/// One value as a walk through it gives it.
type Output = Vec<(RawEventKind, String, Option<Tensor>)>;

/// What can be tried.
pub(super) trait Subject {
    /// The module, where it can be brought into another form.
    fn module(&self) -> Option<&RawModel>;

    /// Calls the method forward; `None` is the model as it was loaded.
    fn call(&self, form: Option<&RawForm>, inputs: &[Input], receiver: Receiver<'_>) -> Result<(), String>;

    /// Calls it so many times, and drops what it gives.
    fn repeat(&self, form: Option<&RawForm>, inputs: &[Input], times: usize) -> Result<(), String>;

    /// The same in the form that is kept.
    fn repeat_kept(&self, inputs: &[Input], times: usize) -> Result<(), String>;
}

struct TorchStage<'a> {
    model: &'a dyn Subject,
    sample: &'a Sample,
    /// For a GPU, whose work the processor only waits for; what a CPU does is measured by this thread's own time, which other threads don't disturb.
    began: Instant,
    /// What the model as it was loaded gives for two inputs.
    expected: Option<Output>,
    forms: Vec<(Form, RawForm)>,
    /// What the inputs of a batch give one by one.
    rows: Vec<Output>,
}

/// Of the largest number in an output, and in all; kernels of another kind add in another order.
const RELATIVE: f64 = 1e-4;
const ABSOLUTE: f64 = 1e-6;

// === impl Tuned ===

impl Tuned {
    /// What was found, as it is now.
    pub(super) fn get(&self, model: &dyn Subject) -> Option<Arc<Tuning>> {
        let tuning = &self.found.get()?.tuning;
        let runs_in_form = model.module().is_some_and(RawModel::runs_in_form);
        if tuning.kept == Form::AsLoaded || runs_in_form {
            return Some(Arc::clone(tuning));
        }
        Some(Arc::new(tuning.given_up()))
    }

    /// Finds the form to run in, unless that was done.
    pub(super) fn find(&self, model: &dyn Subject, wish: Optimization, inputs: &[Input]) -> Arc<Tuning> {
        let _searching = self.searching.lock().unwrap_or_else(PoisonError::into_inner);
        let found = self.found.get_or_init(|| {
            let sample = Sample::new(inputs);
            let mut stage = TorchStage {
                model,
                sample: &sample,
                began: Instant::now(),
                expected: None,
                forms: Vec::new(),
                rows: Vec::new(),
            };
            let tuning = Tuning::find(wish, &mut stage);
            let kept = stage.forms.into_iter().find(|(form, _)| *form == tuning.kept);
            if let (Some((_, form)), Some(module)) = (kept, model.module()) {
                module.keep(form);
            }
            drop(stage.expected);
            drop(stage.rows);
            // Forms and batches that were tried would stay as a hole in the heap.
            trim_memory();
            Found { tuning: Arc::new(tuning), sample: Mutex::new(sample) }
        });
        Arc::clone(&found.tuning)
    }

    /// Calls the model with a batch of each size on this thread; once, since the trial has called it with all sizes but one that somebody asked for.
    pub(super) fn warm_up(&self, model: &dyn Subject, sizes: &[usize]) -> Result<(), String> {
        let Some(found) = self.found.get() else { return Ok(()) };
        for &size in sizes {
            let inputs = found.sample.lock().unwrap_or_else(PoisonError::into_inner).batch(size)?;
            model.repeat_kept(&inputs, 1)?;
        }
        // What the largest batch took is wanted again only once so many requests wait.
        trim_memory();
        Ok(())
    }
}

// === impl Sample ===

impl Sample {
    fn new(inputs: &[Input]) -> Self {
        let has_batch_dimension = !inputs.is_empty()
            && inputs.iter().all(|input| {
                let first = input.tensor.as_ref().and_then(|tensor| tensor.size().first().copied());
                input.kind == RawEventKind::TENSOR && first == Some(1)
            });
        Self { inputs: inputs.iter().map(Input::share).collect(), has_batch_dimension }
    }

    fn is_on_cpu(&self) -> bool {
        self.inputs.iter().filter_map(|input| input.tensor.as_ref()).all(|tensor| tensor.device() == tch::Device::Cpu)
    }

    /// The inputs of one request: the sample itself, and for the others something that isn't the same and that the model can take, too.
    fn row(&self, number: usize) -> Result<Vec<Input>, String> {
        self.map(|tensor| vary(tensor, number))
    }

    /// So many of them, put together; as it is where it has no batch dimension.
    fn batch(&self, size: usize) -> Result<Vec<Input>, String> {
        if !self.has_batch_dimension {
            return self.row(0);
        }
        self.map(|tensor| {
            let rows: Vec<Tensor> = (0..size).map(|number| vary(tensor, number)).collect::<Result<_, _>>()?;
            Tensor::f_cat(&rows, 0)
        })
    }

    fn map(&self, mut make: impl FnMut(&Tensor) -> Result<Tensor, TchError>) -> Result<Vec<Input>, String> {
        let one = |input: &Input| {
            let tensor = input.tensor.as_ref().map(&mut make).transpose().map_err(|error| error.to_string())?;
            Ok(Input { kind: input.kind, name: input.name.clone(), tensor })
        };
        self.inputs.iter().map(one).collect()
    }
}

/// Numbers are moved a little; whole ones only change places, since an index must stay one that the model knows.
fn vary(tensor: &Tensor, number: usize) -> Result<Tensor, TchError> {
    if number == 0 {
        return Ok(tensor.shallow_clone());
    }
    if !tensor.is_floating_point() {
        return tensor.f_flatten(0, -1)?.f_roll([number as i64], [0])?.f_view(&tensor.size()[..]);
    }
    let count = i64::try_from(tensor.numel()).unwrap_or(0);
    let places = Tensor::f_arange(count, (Kind::Float, tensor.device()))?;
    let waves = (places * (0.37 + 0.11 * number as f64)).f_sin()?.f_view(&tensor.size()[..])?;
    tensor.f_add(&waves.f_to_kind(tensor.kind())?)
}

// === impl RawModel ===

impl Subject for RawModel {
    fn module(&self) -> Option<&RawModel> {
        Some(self)
    }

    fn call(&self, form: Option<&RawForm>, inputs: &[Input], receiver: Receiver<'_>) -> Result<(), String> {
        self.forward_in(form, inputs, receiver)
    }

    fn repeat(&self, form: Option<&RawForm>, inputs: &[Input], times: usize) -> Result<(), String> {
        self.repeat_in(form, inputs, times)
    }

    fn repeat_kept(&self, inputs: &[Input], times: usize) -> Result<(), String> {
        self.repeat_as_kept(inputs, times)
    }
}

// === impl TorchStage ===

impl TorchStage<'_> {
    fn form(&self, form: Form) -> Result<Option<&RawForm>, String> {
        if form == Form::AsLoaded {
            return Ok(None);
        }
        let made = self.forms.iter().find(|(known, _)| *known == form).map(|(_, raw)| raw);
        made.map(Some).ok_or_else(|| "it wasn't made; this is a bug".to_owned())
    }

    fn output(&self, form: Form, inputs: &[Input]) -> Result<Output, String> {
        let mut output = Output::new();
        self.model.call(self.form(form)?, inputs, &mut |step| {
            let tensor = (!step.tensor.is_null()).then(|| step.share()).transpose()?;
            output.push((step.kind, step.name.to_owned(), tensor));
            Ok(())
        })?;
        Ok(output)
    }

    /// Two at once show more than one; a model that takes one alone is compared by that.
    fn sample_output(&self, form: Form) -> Result<Output, String> {
        let both = self.output(form, &self.sample.batch(2)?);
        both.or_else(|_| self.output(form, &self.sample.row(0)?))
    }
}

impl Stage for TorchStage<'_> {
    fn prepare(&mut self, form: Form) -> Result<(), String> {
        let raw = self.model.module().ok_or("its code is compiled")?.make_form(form)?;
        self.forms.push((form, raw));
        Ok(())
    }

    fn difference(&mut self, form: Form) -> Result<Option<String>, String> {
        if self.expected.is_none() {
            self.expected = Some(self.sample_output(Form::AsLoaded)?);
        }
        let output = self.sample_output(form)?;
        match &self.expected {
            Some(expected) => compare(expected, &output),
            None => Ok(None),
        }
    }

    fn spent(&self) -> Duration {
        if self.sample.is_on_cpu() {
            let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
            return Duration::try_from(time).unwrap_or_default();
        }
        self.began.elapsed()
    }

    fn has_forms(&self) -> bool {
        self.model.module().is_some()
    }

    fn has_batch_dimension(&self) -> bool {
        self.sample.has_batch_dimension
    }

    fn batch_difference(&mut self, form: Form, size: usize) -> Result<Option<String>, String> {
        for number in self.rows.len()..size {
            self.rows.push(self.output(form, &self.sample.row(number)?)?);
        }
        let batch = self.output(form, &self.sample.batch(size)?)?;
        for (number, alone) in self.rows[..size].iter().enumerate() {
            let number = i64::try_from(number).unwrap_or(i64::MAX);
            let row = |(kind, name, tensor): &(RawEventKind, String, Option<Tensor>)| {
                let row = tensor.as_ref().map(|tensor| match tensor.size().first() {
                    Some(&rows) if rows == size as i64 => {
                        tensor.f_narrow(0, number, 1).map_err(|error| error.to_string())
                    }
                    _ => Err(format!("an output of shape {:?} has no row for each of {size} inputs", tensor.size())),
                });
                Ok((*kind, name.clone(), row.transpose()?))
            };
            let row = batch.iter().map(row).collect::<Result<Output, String>>()?;
            if let Some(difference) = compare(alone, &row)? {
                return Ok(Some(difference));
            }
        }
        Ok(None)
    }

    fn time(&mut self, form: Form, size: usize, calls: u32) -> Result<Duration, String> {
        let inputs = self.sample.batch(size)?;
        let began = self.spent();
        self.model.repeat(self.form(form)?, &inputs, calls as usize)?;
        Ok(self.spent().saturating_sub(began))
    }
}

/// How two values differ; `None` where they are the same but for the order in which numbers were added.
fn compare(expected: &Output, found: &Output) -> Result<Option<String>, String> {
    let walk = |output: &Output| -> Vec<(RawEventKind, String)> {
        output.iter().map(|(kind, name, _)| (*kind, name.clone())).collect()
    };
    if walk(expected) != walk(found) {
        return Ok(Some("a value of another structure".to_owned()));
    }
    let tensors = |output: &'_ Output| -> Vec<Tensor> {
        output.iter().filter_map(|(_, _, tensor)| tensor.as_ref().map(Tensor::shallow_clone)).collect()
    };
    for (one, other) in tensors(expected).iter().zip(&tensors(found)) {
        let difference = compare_tensors(one, other).map_err(|error| error.to_string())?;
        if difference.is_some() {
            return Ok(difference);
        }
    }
    Ok(None)
}

fn compare_tensors(expected: &Tensor, found: &Tensor) -> Result<Option<String>, TchError> {
    let kinds = (expected.f_kind()?, found.f_kind()?);
    if expected.size() != found.size() || kinds.0 != kinds.1 {
        return Ok(Some(format!(
            "{:?} of shape {:?} in place of {:?} of shape {:?}",
            kinds.1,
            found.size(),
            kinds.0,
            expected.size()
        )));
    }
    if expected.numel() == 0 {
        return Ok(None);
    }
    let (expected, found) = (expected.f_to_kind(Kind::Double)?, found.f_to_kind(Kind::Double)?);
    let size = f64::try_from(expected.f_nan_to_num(0.0, 0.0, 0.0)?.f_abs()?.f_max()?)?;
    let allowed = if matches!(kinds.0, Kind::Float | Kind::Half | Kind::BFloat16 | Kind::Double) {
        ABSOLUTE + RELATIVE * size
    } else {
        0.0
    };
    if found.f_allclose(&expected, 0.0, allowed, true)? {
        return Ok(None);
    }
    let most = f64::try_from((found - expected).f_abs()?.f_max()?)?;
    Ok(Some(format!("a number differs by {most:.3e}, where the largest is {size:.3e} and {allowed:.1e} is allowed")))
}
