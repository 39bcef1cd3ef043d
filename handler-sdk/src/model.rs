//! The host's model, as a handler uses it.

use std::collections::BTreeMap;

use abi_stable::std_types::RSlice;
use abi_stable::std_types::RStr;

use crate::Context;
use crate::Error;
use crate::Result;
use crate::Tensor;
use crate::Value;
use crate::abi::raw::RawGradients;
use crate::abi::values::lend;
use crate::abi::values::receive;

/// A TorchScript model or an AOTInductor package that the host owns; a call runs on the calling thread, in inference mode but for gradients.
#[derive(Debug, Clone, Copy)]
pub struct Model<'a> {
    context: &'a Context,
}

/// Named tensors that the host owns.
#[derive(Debug, Clone, Default)]
pub struct Weights {
    tensors: BTreeMap<String, Tensor>,
}

// === impl Model ===

impl<'a> Model<'a> {
    pub(crate) fn new(context: &'a Context) -> Self {
        Self { context }
    }

    /// Calls `forward` with these inputs, in the order of its parameters; plain tensors are brought to the model's device.
    ///
    /// Fails with libtorch's own words where the model raises.
    pub fn forward<V: Into<Value>>(&self, inputs: impl IntoIterator<Item = V>) -> Result<Value> {
        self.call(FORWARD, inputs)
    }

    /// Calls any method of the module that TorchScript has exported; a package has `forward` alone.
    pub fn call<V: Into<Value>>(&self, method: &str, inputs: impl IntoIterator<Item = V>) -> Result<Value> {
        let call = self.context.call()?;
        let inputs: Vec<Value> = inputs.into_iter().map(Into::into).collect();
        one(lend(&inputs, |steps| {
            receive(|door, sink| {
                let (method, steps) = (RStr::from_str(method), RSlice::from_slice(steps));
                call.host.forward()(call.state, method, steps, door, sink)
            })
        })?)
    }

    /// What a submodule gives while `forward` runs with these inputs; `layer` is its path, `encoder.embedding` say.
    ///
    /// Fails where the model has no such layer, calls it several times, or within a branch or a loop.
    pub fn layer<V: Into<Value>>(&self, layer: &str, inputs: impl IntoIterator<Item = V>) -> Result<Value> {
        let call = self.context.call()?;
        let ask = call.host.layer().ok_or_else(too_old)?;
        let inputs: Vec<Value> = inputs.into_iter().map(Into::into).collect();
        one(lend(&inputs, |steps| {
            receive(|door, sink| {
                let (method, layer, steps) =
                    (RStr::from_str(FORWARD), RStr::from_str(layer), RSlice::from_slice(steps));
                ask(call.state, method, layer, steps, door, sink)
            })
        })?)
    }

    /// The gradients of one column of the output `[rows, columns]` of `forward`, summed over its rows, to the first of the inputs, in whose shape they come.
    ///
    /// With a batch whose rows don't depend on each other, that is each row's own gradient.
    /// Of a tuple its first counts, of a dict what it has under `logits`.
    /// The first input must hold floating-point numbers.
    /// This takes about three times as long as [`forward`](Self::forward).
    pub fn gradients<V: Into<Value>>(&self, inputs: impl IntoIterator<Item = V>, target: usize) -> Result<Tensor> {
        let inputs: Vec<Value> = inputs.into_iter().map(Into::into).collect();
        self.gradients_to("", &inputs, target)
    }

    /// The same to what a layer gives, whose place `value` takes; see [`layer`](Self::layer).
    pub fn gradients_at_layer<V: Into<Value>>(
        &self,
        layer: &str,
        value: Tensor,
        inputs: impl IntoIterator<Item = V>,
        target: usize,
    ) -> Result<Tensor> {
        let inputs = std::iter::once(Value::Tensor(value)).chain(inputs.into_iter().map(Into::into));
        let inputs: Vec<Value> = inputs.collect();
        self.gradients_to(layer, &inputs, target)
    }

    fn gradients_to(&self, layer: &str, inputs: &[Value], target: usize) -> Result<Tensor> {
        let call = self.context.call()?;
        let ask = call.host.gradients().ok_or_else(too_old)?;
        let values = lend(inputs, |steps| {
            receive(|door, sink| {
                let asked = RawGradients {
                    method: RStr::from_str(FORWARD),
                    layer: RStr::from_str(layer),
                    target: target as u64,
                    inputs: RSlice::from_slice(steps),
                };
                ask(call.state, &asked, door, sink)
            })
        })?;
        one(values)?.tensor()
    }
}

/// The method that a model is called by.
const FORWARD: &str = "forward";

fn one(mut values: Vec<(String, Value)>) -> Result<Value> {
    match values.pop() {
        Some((_, value)) if values.is_empty() => Ok(value),
        _ => Err(Error::new("the host gave no value, or several, for one call of the model")),
    }
}

fn too_old() -> Error {
    Error::with_status(501, "this server is too old for gradients of its models: update it")
}

// === impl Weights ===

impl Weights {
    pub(crate) fn read(context: &Context) -> Result<Self> {
        let call = context.call()?;
        let values = receive(|door, sink| call.host.weights()(call.state, door, sink))?;
        let tensors = values.into_iter().map(|(name, value)| Ok((name, value.tensor()?))).collect::<Result<_>>()?;
        Ok(Self { tensors })
    }

    /// The tensor of that name; fails where there is none, and names those there are.
    pub fn get(&self, name: &str) -> Result<&Tensor> {
        self.tensors.get(name).ok_or_else(|| {
            let names: Vec<&str> = self.names().collect();
            Error::new(format!("the weights have no {name:?}; they have {names:?}"))
        })
    }

    /// The names, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// How many tensors there are.
    pub fn len(&self) -> usize {
        self.tensors.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }
}
