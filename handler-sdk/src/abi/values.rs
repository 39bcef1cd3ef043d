//! Tensors, and structures of them, on their way across.

use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;

use super::glue::panic_text;
use super::raw::RawDoor;
use super::raw::RawEvent;
use super::raw::RawEventKind;
use super::raw::RawSink;
use super::raw::RawSinkState;
use super::raw::RawStatus;
use super::raw::RawTensor;
use crate::DType;
use crate::Error;
use crate::Result;
use crate::Tensor;
use crate::Value;
use crate::tensor::Repr;

/// Lends a tensor for a call; `shape` is its shape, kept by the caller.
pub(crate) fn to_raw<'a>(tensor: &'a Tensor, shape: &'a [i64]) -> RawTensor<'a> {
    match tensor.repr() {
        Repr::Plain(plain) => RawTensor::plain(plain.dtype.code(), shape, &plain.bytes),
        #[cfg(feature = "tch")]
        Repr::Torch(tensor) => RawTensor::torch(tensor.as_ptr().cast()),
    }
}

/// Lends several values for a call, as the steps through them one after the other.
pub(crate) fn lend<T>(values: &[Value], call: impl FnOnce(&[RawEvent<'_>]) -> T) -> T {
    // Shapes live beside the raw tensors that point to them, in the order of the walk.
    let mut shapes = Vec::new();
    values.iter().for_each(|value| collect_shapes(value, &mut shapes));
    let mut steps = Vec::new();
    let mut left = shapes.iter();
    values.iter().for_each(|value| walk("", value, &mut left, &mut steps));
    call(&steps)
}

fn collect_shapes(value: &Value, shapes: &mut Vec<Vec<i64>>) {
    match value {
        Value::Tensor(tensor) => shapes.push(tensor.shape()),
        Value::List(items) => items.iter().for_each(|item| collect_shapes(item, shapes)),
        Value::Dict(entries) => entries.iter().for_each(|(_, item)| collect_shapes(item, shapes)),
    }
}

fn walk<'a>(
    name: &'a str,
    value: &'a Value,
    shapes: &mut std::slice::Iter<'a, Vec<i64>>,
    steps: &mut Vec<RawEvent<'a>>,
) {
    match value {
        Value::Tensor(tensor) => {
            let shape = shapes.next().map(Vec::as_slice).unwrap_or_default();
            steps.push(RawEvent::tensor(name, to_raw(tensor, shape)));
        }
        Value::List(items) => {
            steps.push(RawEvent::mark(RawEventKind::BEGIN_LIST, name));
            items.iter().for_each(|item| walk("", item, shapes, steps));
            steps.push(RawEvent::mark(RawEventKind::END, ""));
        }
        Value::Dict(entries) => {
            steps.push(RawEvent::mark(RawEventKind::BEGIN_DICT, name));
            entries.iter().for_each(|(key, item)| walk(key, item, shapes, steps));
            steps.push(RawEvent::mark(RawEventKind::END, ""));
        }
    }
}

/// Takes lent values over, from the steps through them.
pub(crate) fn take(steps: &[RawEvent<'_>]) -> Result<Vec<Value>> {
    let mut builder = Builder::default();
    steps.iter().try_for_each(|step| builder.take(step))?;
    Ok(builder.done.into_iter().map(|(_, value)| value).collect())
}

/// Takes a lent tensor over: plain memory is copied, a libtorch tensor shared.
fn from_raw(raw: &RawTensor<'_>) -> Result<Tensor> {
    match raw.door {
        RawDoor::PLAIN => {
            let dtype = DType::from_code(raw.dtype)
                .ok_or_else(|| Error::new(format!("unknown element type {} across the boundary", raw.dtype)))?;
            Tensor::from_bytes(dtype, raw.shape.as_slice(), raw.bytes.as_slice().to_vec())
        }
        #[cfg(feature = "tch")]
        RawDoor::TORCH if !raw.torch.is_null() => {
            // SAFETY: the lender keeps the `at::Tensor` alive during this call, and both sides use one libtorch: the note was compared before the library was opened.
            let tensor = unsafe { tch::Tensor::clone_from_ptr(raw.torch.cast_mut().cast()) };
            Ok(tensor.into())
        }
        other => Err(Error::new(format!("a tensor came through door {}, which this build doesn't have", other.0))),
    }
}

/// Collects what the host hands over while `ask` runs.
pub(crate) fn receive(ask: impl FnOnce(RawDoor, RawSink) -> RawStatus) -> Result<Vec<(String, Value)>> {
    let door = if cfg!(feature = "tch") { RawDoor::TORCH } else { RawDoor::PLAIN };
    let mut builder = Builder::default();
    let sink = RawSink { state: RawSinkState(std::ptr::from_mut(&mut builder).cast()), emit: Builder::emit };
    let status = ask(door, sink);
    if let Some(error) = builder.error {
        return Err(error);
    }
    if status != RawStatus::OK || !builder.open.is_empty() {
        return Err(Error::new("the host's answer broke off"));
    }
    Ok(builder.done)
}

/// Builds values from the steps through them.
#[derive(Default)]
struct Builder {
    done: Vec<(String, Value)>,
    /// The lists and dicts begun and not ended, innermost last.
    open: Vec<Open>,
    error: Option<Error>,
}

/// A list or a dict that is being built.
struct Open {
    kind: RawEventKind,
    name: String,
    values: Vec<(String, Value)>,
}

// === impl Builder ===

impl Builder {
    extern "C" fn emit(state: RawSinkState, event: &RawEvent<'_>) {
        // SAFETY: `receive` made the state from a `Builder` that outlives the host's call, and nothing else uses it meanwhile.
        let builder = unsafe { &mut *state.0.cast::<Self>() };
        let result = catch_unwind(AssertUnwindSafe(|| builder.take(event)));
        let error = match result {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error,
            Err(payload) => Error::new(panic_text(payload.as_ref())),
        };
        builder.error.get_or_insert(error);
    }

    fn take(&mut self, event: &RawEvent<'_>) -> Result<()> {
        let name = event.name.as_str().to_owned();
        match event.kind {
            RawEventKind::TENSOR => self.add(name, Value::Tensor(from_raw(&event.tensor)?)),
            RawEventKind::BEGIN_LIST | RawEventKind::BEGIN_DICT => {
                self.open.push(Open { kind: event.kind, name, values: Vec::new() })
            }
            RawEventKind::END => {
                let ended = self.open.pop().ok_or_else(|| Error::new("the host ended what it never began"))?;
                let value = if ended.kind == RawEventKind::BEGIN_DICT {
                    Value::Dict(ended.values)
                } else {
                    Value::List(ended.values.into_iter().map(|(_, value)| value).collect())
                };
                self.add(ended.name, value);
            }
            RawEventKind::ERROR => return Err(Error::new(name)),
            other => return Err(Error::new(format!("the host sent a step of unknown kind {}", other.0))),
        }
        Ok(())
    }

    fn add(&mut self, name: String, value: Value) {
        match self.open.last_mut() {
            Some(inner) => inner.values.push((name, value)),
            None => self.done.push((name, value)),
        }
    }
}
