//! The host's model, as a handler uses it.

use std::collections::BTreeMap;

use abi_stable::std_types::RSlice;

use crate::Context;
use crate::Error;
use crate::Output;
use crate::Result;
use crate::Tensor;
use crate::abi::values::receive;
use crate::abi::values::to_raw;

/// A TorchScript model that the host owns; a call runs on the calling thread, in inference mode.
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

    /// Calls `forward` with these tensors, in the order of its parameters; plain ones are brought to the model's device.
    ///
    /// Fails with libtorch's own words where the model raises.
    pub fn forward(&self, inputs: &[Tensor]) -> Result<Output> {
        let call = self.context.call()?;
        let forward = call.host.forward();
        // Shapes live beside the raw tensors that point to them.
        let shapes: Vec<Vec<i64>> = inputs.iter().map(Tensor::shape).collect();
        let raw: Vec<_> = inputs.iter().zip(&shapes).map(|(tensor, shape)| to_raw(tensor, shape)).collect();
        let mut values = receive(|door, sink| forward(call.state, RSlice::from_slice(&raw), door, sink))?;
        match values.pop() {
            Some((_, value)) if values.is_empty() => Ok(value),
            _ => Err(Error::new("the host gave no value, or several, for one call of the model")),
        }
    }
}

// === impl Weights ===

impl Weights {
    pub(crate) fn read(context: &Context) -> Result<Self> {
        let call = context.call()?;
        let weights = call.host.weights();
        let values = receive(|door, sink| weights(call.state, door, sink))?;
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
