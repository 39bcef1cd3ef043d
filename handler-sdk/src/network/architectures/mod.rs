//! Networks that are built over a state dict, so that its model needs neither Python nor TorchScript.
//!
//! What a state dict holds says which network it belongs to; every tensor must then be there, in the shape that the
//! network has for it, and none may be left over. The tensors stay the host's: shared, never copied, never written to.

mod densenet;
mod layers;
mod mnist;
mod resnet;
#[cfg(test)]
mod tests;

use crate::Error;
use crate::Result;
use crate::Value;
use crate::Weights;

use densenet::DenseNet;
use layers::Parts;
use mnist::Mnist;
use resnet::ResNet;

/// A network that was recognised by its weights, in the state in which it predicts.
#[derive(Debug)]
pub(crate) struct Architecture {
    name: &'static str,
    network: Network,
    /// Lies where all weights lie, in the precision that all have.
    first_weight: tch::Tensor,
    /// The lengths of the pictures' dimensions; `None` where any will do.
    takes: [Option<i64>; 4],
}

#[derive(Debug)]
enum Network {
    /// TorchServe's example: `conv1`, `conv2`, `fc1`, `fc2`.
    Mnist(Mnist),
    /// `conv1`, `layer1` to `layer4`, `fc`.
    ResNet(ResNet),
    /// `features.denseblock1` to `features.denseblock4`, `classifier`.
    DenseNet(DenseNet),
}

/// What there is, for those whose weights are none of it.
const KNOWN: &str = "the MNIST network of TorchServe's example, and in torchvision's names ResNet-18, 34, 50, 101 and 152 (Wide ResNet and ResNeXt, too) and DenseNet-121, 161, 169 and 201";

/// What to do with another network's weights.
const REMEDY: &str = "save the model as TorchScript, which brings its own code";

/// How many names a message shows.
const SHOWN: usize = 8;

/// The one input of all these networks, out of a model's.
pub(crate) fn pictures(inputs: Vec<Value>) -> Result<tch::Tensor> {
    match <[Value; 1]>::try_from(inputs) {
        Ok([pictures]) => pictures.tensor()?.into_tch(),
        Err(inputs) => Err(Error::new(format!(
            "the networks that are built in take one input, a batch of pictures, and not {}",
            inputs.len()
        ))),
    }
}

// === impl Architecture ===

impl Architecture {
    /// The network to which these weights belong.
    ///
    /// Fails where there is none, and where a tensor of it is missing, has another shape or is left over.
    pub(crate) fn recognise(weights: &Weights) -> Result<Self> {
        let mut parts = Parts::new(weights)?;
        let network = if parts.any("features.denseblock") {
            Network::DenseNet(DenseNet::new(&mut parts)?)
        } else if parts.any("layer1.") {
            Network::ResNet(ResNet::new(&mut parts)?)
        } else if parts.any("conv1.") && parts.any("fc1.") {
            Network::Mnist(Mnist::new(&mut parts)?)
        } else {
            let names: Vec<&str> = weights.names().take(SHOWN).collect();
            return Err(Error::new(format!(
                "the state dict belongs to no network that is built in; of its {} names the first are {names:?}, and built in are {KNOWN}: {REMEDY}",
                weights.len()
            )));
        };
        let first_weight = match &network {
            Network::Mnist(network) => network.first_weight(),
            Network::ResNet(network) => network.first_weight(),
            Network::DenseNet(network) => network.first_weight(),
        };
        let takes = match network {
            Network::Mnist(_) => [None, Some(1), Some(28), Some(28)],
            _ => [None, first_weight.size().get(1).copied(), None, None],
        };
        Ok(Self { name: parts.finish()?, first_weight: first_weight.shallow_clone(), takes, network })
    }

    /// From pictures `[n, channels, height, width]` to a row of scores each, on the weights' device and in their precision.
    pub(crate) fn forward(&self, pictures: &tch::Tensor) -> Result<tch::Tensor> {
        self.check(&pictures.size())?;
        let pictures = pictures.f_to_device_(self.first_weight.device(), self.first_weight.f_kind()?, false, false)?;
        match &self.network {
            Network::Mnist(network) => network.forward(&pictures),
            Network::ResNet(network) => network.forward(&pictures),
            Network::DenseNet(network) => network.forward(&pictures),
        }
    }

    /// The gradients of `forward(pictures)[row, target]`, summed over the rows, to the pictures.
    ///
    /// To be called outside of libtorch's inference mode, which keeps nothing that gradients could be computed from.
    pub(crate) fn gradients(&self, pictures: &tch::Tensor, target: usize) -> Result<tch::Tensor> {
        // A copy: what was made in inference mode takes no gradients, and the caller's tensor isn't to be marked.
        let pictures = pictures.f_detach()?.f_to_device_(pictures.device(), pictures.f_kind()?, false, true)?;
        let pictures = pictures.f_set_requires_grad(true)?;
        let scores = self.forward(&pictures)?;
        let classes = scores.size().last().copied().unwrap_or_default();
        let column = i64::try_from(target).ok().filter(|column| *column < classes).ok_or_else(|| {
            Error::bad_request(format!(
                "the target {target} is no class of the model: it has {classes}, numbered from 0 to {}",
                classes - 1
            ))
        })?;
        let sum = scores.f_select(1, column)?.f_sum(None)?;
        let gradients = tch::Tensor::f_run_backward(&[&sum], &[&pictures], false, false)?;
        gradients.into_iter().next().ok_or_else(|| Error::new("libtorch gave no gradients"))
    }

    fn check(&self, shape: &[i64]) -> Result<()> {
        let fits = |(found, taken): (&i64, &Option<i64>)| taken.is_none_or(|taken| taken == *found);
        if shape.len() == self.takes.len() && shape.iter().zip(&self.takes).all(fits) {
            return Ok(());
        }
        let lengths = self.takes.iter().zip(["n", "channels", "height", "width"]);
        let lengths = lengths.map(|(length, name)| length.map_or(name.to_owned(), |length| length.to_string()));
        Err(Error::bad_request(format!(
            "the model is a {}, which takes pictures of shape [{}], not {shape:?}",
            self.name,
            lengths.collect::<Vec<_>>().join(", ")
        )))
    }
}
