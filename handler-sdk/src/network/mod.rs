//! What computes a handler's outputs, whichever way the archive holds the model.

#[cfg(feature = "architectures")]
mod architectures;

use crate::Context;
use crate::ModelKind;
use crate::Result;
use crate::Tensor;
use crate::Value;
#[cfg(feature = "architectures")]
use architectures::Architecture;

/// The network of a handler that serves an archive's model as it comes: the host's TorchScript module or AOTInductor package, or with the feature `architectures` one that is built in, over the host's state dict.
///
/// Built in are torchvision's ResNet-18, 34, 50, 101 and 152 (Wide ResNet and ResNeXt among them), its DenseNet-121, 161, 169 and 201, each with any number of classes, and the network of TorchServe's MNIST example.
/// Which one it is, the names and shapes of the weights say; names are torchvision's, those of the first DenseNet checkpoints and the `module.` of `DataParallel` are understood, too.
/// The weights stay the host's: shared by all workers, wherever and in whatever precision they are.
#[derive(Debug, Default)]
pub struct Network(Kind);

#[derive(Debug, Default)]
enum Kind {
    #[default]
    Script,
    #[cfg(feature = "architectures")]
    Built(Box<Architecture>),
}

// === impl Network ===

impl Network {
    /// Looks at what the archive holds; to be called in `initialize`.
    ///
    /// Fails where it holds no model, or a state dict of a network that isn't built in.
    pub fn load(context: &Context) -> Result<Self> {
        match context.model_kind() {
            Some(ModelKind::StateDict) => Self::over_weights(context),
            // Fails where there is no model: at start, not with each request.
            _ => context.model().map(|_| Self(Kind::Script)),
        }
    }

    #[cfg(feature = "architectures")]
    fn over_weights(context: &Context) -> Result<Self> {
        let network = Architecture::recognise(&context.weights()?)
            .map_err(|error| error.context(format!("the model {}", context.model_name())))?;
        Ok(Self(Kind::Built(Box::new(network))))
    }

    #[cfg(not(feature = "architectures"))]
    fn over_weights(context: &Context) -> Result<Self> {
        Err(crate::Error::new(format!(
            "the model {} is a state dict, and this library was built without networks for one: build it with the feature `architectures` of handler-sdk, or save the model as TorchScript",
            context.model_name()
        )))
    }

    /// The output for the inputs of a batch, each `[n, …]`.
    pub fn forward(&self, inputs: Vec<Value>, context: &Context) -> Result<Value> {
        match &self.0 {
            Kind::Script => context.model()?.forward(inputs),
            #[cfg(feature = "architectures")]
            Kind::Built(network) => Ok(Tensor::from(network.forward(&architectures::pictures(inputs)?)?).into()),
        }
    }

    /// The gradients of the output's column `target`, summed over the rows, to the first of the inputs; see [`Model::gradients`](crate::Model::gradients).
    pub fn gradients(&self, inputs: Vec<Value>, target: usize, context: &Context) -> Result<Tensor> {
        match &self.0 {
            Kind::Script => context.model()?.gradients(inputs, target),
            #[cfg(feature = "architectures")]
            Kind::Built(network) => Ok(network.gradients(&architectures::pictures(inputs)?, target)?.into()),
        }
    }
}
