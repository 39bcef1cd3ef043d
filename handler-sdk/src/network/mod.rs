//! What computes a handler's outputs, whichever way the archive holds the model.

use crate::Context;
use crate::Error;
use crate::ModelKind;
use crate::Result;
use crate::Tensor;
use crate::Value;

/// The network of a handler that serves an archive's model as it comes: the host's TorchScript module.
#[derive(Debug, Default)]
pub struct Network(Kind);

#[derive(Debug, Default)]
enum Kind {
    #[default]
    Script,
}

// === impl Network ===

impl Network {
    /// Looks at what the archive holds; to be called in `initialize`.
    ///
    /// Fails where it holds no model, or a state dict of a network that isn't built in.
    pub fn load(context: &Context) -> Result<Self> {
        match context.model_kind() {
            Some(ModelKind::StateDict) => Err(Error::new(format!(
                "the model {} is a state dict, and this library was built without networks for one: build it with the feature `architectures` of handler-sdk, or save the model as TorchScript",
                context.model_name()
            ))),
            // Fails where there is no model: at start, not with each request.
            _ => context.model().map(|_| Self(Kind::Script)),
        }
    }

    /// The output for the inputs of a batch, each `[n, …]`.
    pub fn forward(&self, inputs: Vec<Value>, context: &Context) -> Result<Value> {
        match &self.0 {
            Kind::Script => context.model()?.forward(inputs),
        }
    }

    /// The gradients of the output's column `target`, summed over the rows, to the first of the inputs; see [`Model::gradients`](crate::Model::gradients).
    pub fn gradients(&self, inputs: Vec<Value>, target: usize, context: &Context) -> Result<Tensor> {
        match &self.0 {
            Kind::Script => context.model()?.gradients(inputs, target),
        }
    }
}
