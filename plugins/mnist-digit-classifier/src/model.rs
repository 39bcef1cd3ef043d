//! What computes the scores: the archive's TorchScript, or the network of this crate over the archive's state dict.

use handler_sdk::ModelKind;
use handler_sdk::prelude::*;

#[cfg(feature = "tch")]
use crate::net::Net;

#[derive(Default)]
pub(crate) enum Model {
    /// The host's.
    #[default]
    Script,
    #[cfg(feature = "tch")]
    Net(Net),
}

// === impl Model ===

impl Model {
    pub(crate) fn load(context: &Context) -> Result<Self> {
        match context.model_kind() {
            Some(ModelKind::StateDict) => Self::over_weights(context),
            // Fails where there is no model: at start, not with each request.
            _ => context.model().map(|_| Self::Script),
        }
    }

    #[cfg(feature = "tch")]
    fn over_weights(context: &Context) -> Result<Self> {
        Ok(Self::Net(Net::new(&context.weights()?)?))
    }

    #[cfg(not(feature = "tch"))]
    fn over_weights(_: &Context) -> Result<Self> {
        Err(Error::new(
            "the model is a state dict, and this library was built without the network for it: build it with its feature `tch`, or save the model as TorchScript",
        ))
    }

    /// From a batch of pictures `[n, 1, 28, 28]` to ten scores each.
    pub(crate) fn forward(&self, pictures: Vec<Value>, context: &Context) -> Result<Value> {
        match self {
            Self::Script => context.model()?.forward(pictures),
            #[cfg(feature = "tch")]
            Self::Net(net) => net.forward(pictures),
        }
    }
}

/// The digit with the best of ten scores; fails where there aren't ten.
pub(crate) fn digit(scores: Value) -> Result<usize> {
    let scores = scores.tensor()?;
    match scores.shape()[..] {
        [10] => scores.argmax(),
        ref other => Err(Error::new(format!(
            "the model gave shape {other:?} for a picture; it must give 10 scores, one a digit"
        ))),
    }
}
