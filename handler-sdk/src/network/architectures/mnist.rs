//! The network of TorchServe's MNIST example.

use super::layers::Convolution;
use super::layers::Linear;
use super::layers::Parts;
use crate::Result;

#[derive(Debug)]
pub(super) struct Mnist {
    conv1: Convolution,
    conv2: Convolution,
    fc1: Linear,
    fc2: Linear,
}

// === impl Mnist ===

impl Mnist {
    pub(super) fn new(parts: &mut Parts<'_>) -> Result<Self> {
        parts.belong_to("network of TorchServe's MNIST example");
        Ok(Self {
            conv1: parts.convolution("conv1", [32, 1, 3, 3], 1, 0)?.with_bias(parts, "conv1")?,
            conv2: parts.convolution("conv2", [64, 32, 3, 3], 1, 0)?.with_bias(parts, "conv2")?,
            fc1: parts.linear("fc1", 9216, 128)?,
            fc2: parts.linear("fc2", 128, 10)?,
        })
    }

    pub(super) fn first_weight(&self) -> &tch::Tensor {
        self.conv1.weight()
    }

    /// From pictures `[n, 1, 28, 28]` to the logarithms of ten probabilities each.
    pub(super) fn forward(&self, pictures: &tch::Tensor) -> Result<tch::Tensor> {
        let x = self.conv1.forward(pictures)?.f_relu_()?;
        let x = self.conv2.forward(&x)?.f_relu_()?;
        let x = x.f_max_pool2d([2, 2], [2, 2], [0, 0], [1, 1], false)?;
        let x = self.fc1.forward(&x.f_flatten(1, -1)?)?.f_relu_()?;
        let x = self.fc2.forward(&x)?;
        Ok(x.f_log_softmax(1, tch::Kind::Float)?)
    }
}
