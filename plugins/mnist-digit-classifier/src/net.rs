//! The network of TorchServe's MNIST example, over the tensors of a state dict.

use handler_sdk::Weights;
use handler_sdk::prelude::*;

/// What to do with another network's weights.
const REMEDY: &str = "save the model as TorchScript, or change the network in this handler";

/// The network; it holds the host's tensors, not copies.
pub(crate) struct Net {
    conv1: Layer,
    conv2: Layer,
    fc1: Layer,
    fc2: Layer,
}

struct Layer {
    weight: tch::Tensor,
    bias: tch::Tensor,
}

// === impl Net ===

impl Net {
    /// Takes the tensors it knows; fails where one is missing, has another shape, or is left over.
    pub(crate) fn new(weights: &Weights) -> Result<Self> {
        let net = Self {
            conv1: Layer::new(weights, "conv1", &[32, 1, 3, 3])?,
            conv2: Layer::new(weights, "conv2", &[64, 32, 3, 3])?,
            fc1: Layer::new(weights, "fc1", &[128, 9216])?,
            fc2: Layer::new(weights, "fc2", &[10, 128])?,
        };
        let left_over: Vec<&str> =
            weights.names().filter(|name| !["conv1", "conv2", "fc1", "fc2"].contains(&layer_of(name))).collect();
        if left_over.is_empty() {
            return Ok(net);
        }
        Err(Error::new(format!(
            "the weights also hold {left_over:?}, for which the network of TorchServe's MNIST example has no place: {REMEDY}"
        )))
    }

    /// From pictures `[n, 1, 28, 28]` to the logarithms of ten probabilities each, `[n, 10]`.
    pub(crate) fn forward(&self, inputs: Vec<Value>) -> Result<Value> {
        let pictures = inputs.into_iter().next().ok_or_else(|| Error::new("no pictures"))?.tensor()?.into_tch()?;
        tch::no_grad(|| {
            // The host's tensors say where to compute, and how precisely.
            let place = self.conv1.weight.device();
            let precision = self.conv1.weight.f_kind()?;
            let x = pictures.f_to_device_(place, precision, false, false)?;
            let x = self.conv1.convolve(&x)?.f_relu()?;
            let x = self.conv2.convolve(&x)?.f_relu()?;
            let x = x.f_max_pool2d([2, 2], [2, 2], [0, 0], [1, 1], false)?;
            let x = x.f_flatten(1, -1)?;
            let x = self.fc1.multiply(&x)?.f_relu()?;
            let x = self.fc2.multiply(&x)?;
            Ok(Tensor::from(x.f_log_softmax(1, tch::Kind::Float)?).into())
        })
    }
}

// === impl Layer ===

impl Layer {
    fn new(weights: &Weights, name: &str, shape: &[i64]) -> Result<Self> {
        Ok(Self {
            weight: tensor(weights, &format!("{name}.weight"), shape)?,
            bias: tensor(weights, &format!("{name}.bias"), &shape[..1])?,
        })
    }

    fn convolve(&self, x: &tch::Tensor) -> Result<tch::Tensor> {
        Ok(x.f_conv2d(&self.weight, Some(&self.bias), [1, 1], [0, 0], [1, 1], 1)?)
    }

    fn multiply(&self, x: &tch::Tensor) -> Result<tch::Tensor> {
        Ok(x.f_linear(&self.weight, Some(&self.bias))?)
    }
}

fn tensor(weights: &Weights, name: &str, shape: &[i64]) -> Result<tch::Tensor> {
    let tensor = weights.get(name)?;
    if tensor.shape() != shape {
        return Err(Error::new(format!(
            "the weights' {name:?} has shape {:?}, but the network of TorchServe's MNIST example needs {shape:?}: {REMEDY}",
            tensor.shape()
        )));
    }
    tensor.clone().into_tch()
}

fn layer_of(name: &str) -> &str {
    name.strip_suffix(".weight").or_else(|| name.strip_suffix(".bias")).unwrap_or_default()
}
