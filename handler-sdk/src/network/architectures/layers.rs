//! What networks are made of, over the tensors of a state dict.

use std::collections::BTreeMap;

use super::REMEDY;
use super::SHOWN;
use crate::Error;
use crate::Result;
use crate::Tensor;
use crate::Weights;

/// A state dict's tensors, from which a network takes its own one after the other.
pub(super) struct Parts<'a> {
    /// By torchvision's name of today; what was taken is gone.
    tensors: BTreeMap<String, (&'a str, &'a Tensor)>,
    network: &'static str,
}

#[derive(Debug)]
pub(super) struct Convolution {
    weight: tch::Tensor,
    bias: Option<tch::Tensor>,
    stride: i64,
    padding: i64,
    groups: i64,
}

/// Batch normalisation by the statistics of the training.
#[derive(Debug)]
pub(super) struct BatchNorm {
    weight: tch::Tensor,
    bias: tch::Tensor,
    mean: tch::Tensor,
    variance: tch::Tensor,
}

#[derive(Debug)]
pub(super) struct Linear {
    weight: tch::Tensor,
    bias: tch::Tensor,
}

/// PyTorch's default, which all of torchvision's networks here have.
const EPSILON: f64 = 1e-5;

/// What `DataParallel` puts before each name.
const WRAPPER: &str = "module.";

// === impl Parts ===

impl<'a> Parts<'a> {
    pub(super) fn new(weights: &'a Weights) -> Result<Self> {
        let wrapped = weights.names().all(|name| name.starts_with(WRAPPER));
        let mut tensors = BTreeMap::new();
        for name in weights.names() {
            // How often batch normalisation was trained; no prediction needs it.
            if !name.ends_with(".num_batches_tracked") {
                let own = name.strip_prefix(WRAPPER).filter(|_| wrapped).unwrap_or(name);
                tensors.insert(of_today(own), (name, weights.get(name)?));
            }
        }
        Ok(Self { tensors, network: "network" })
    }

    /// Says in messages whose parts they are.
    pub(super) fn belong_to(&mut self, network: &'static str) {
        self.network = network;
    }

    /// Whether any name begins with `prefix`.
    pub(super) fn any(&self, prefix: &str) -> bool {
        self.tensors.range(prefix.to_owned()..).next().is_some_and(|(name, _)| name.starts_with(prefix))
    }

    /// One more than the largest number that follows `prefix` in a name: of blocks that are numbered from 0, how many there are.
    pub(super) fn count(&self, prefix: &str) -> usize {
        let number = |name: &str| name.strip_prefix(prefix)?.split('.').next()?.parse::<usize>().ok();
        self.tensors.keys().filter_map(|name| number(name)).max().map_or(0, |last| last.saturating_add(1))
    }

    /// The shape of a part from which a network learns how wide it is; it has `N` dimensions.
    pub(super) fn shape<const N: usize>(&self, name: &str) -> Result<[i64; N]> {
        let shape = self.get(name)?.shape();
        shape.as_slice().try_into().map_err(|_| {
            Error::new(format!(
                "the weights' {name:?} has shape {shape:?}, but that of a {} has {N} dimensions: {REMEDY}",
                self.network
            ))
        })
    }

    pub(super) fn convolution(
        &mut self,
        name: &str,
        shape: [i64; 4],
        stride: i64,
        padding: i64,
    ) -> Result<Convolution> {
        Ok(Convolution { weight: self.take(name, "weight", &shape)?, bias: None, stride, padding, groups: 1 })
    }

    pub(super) fn batch_norm(&mut self, name: &str, channels: i64) -> Result<BatchNorm> {
        Ok(BatchNorm {
            weight: self.take(name, "weight", &[channels])?,
            bias: self.take(name, "bias", &[channels])?,
            mean: self.take(name, "running_mean", &[channels])?,
            variance: self.take(name, "running_var", &[channels])?,
        })
    }

    /// A layer with as many outputs as its bias has numbers.
    pub(super) fn classifier(&mut self, name: &str, inputs: i64) -> Result<Linear> {
        let [classes] = self.shape(&format!("{name}.bias"))?;
        self.linear(name, inputs, classes)
    }

    pub(super) fn linear(&mut self, name: &str, inputs: i64, outputs: i64) -> Result<Linear> {
        Ok(Linear {
            weight: self.take(name, "weight", &[outputs, inputs])?,
            bias: self.take(name, "bias", &[outputs])?,
        })
    }

    /// The network's name; fails where tensors are left that it has no place for.
    pub(super) fn finish(self) -> Result<&'static str> {
        let names: Vec<&str> = self.tensors.values().map(|(name, _)| *name).collect();
        match names.len() {
            0 => Ok(self.network),
            count => Err(Error::new(format!(
                "the weights look like a {}'s, which has no place for {count} of them: {:?}{}: {REMEDY}",
                self.network,
                &names[..count.min(SHOWN)],
                if count > SHOWN { " and others" } else { "" }
            ))),
        }
    }

    fn get(&self, name: &str) -> Result<&'a Tensor> {
        self.tensors.get(name).map(|(_, tensor)| *tensor).ok_or_else(|| {
            Error::new(format!("the weights look like a {}'s, but have no {name:?}: {REMEDY}", self.network))
        })
    }

    fn take(&mut self, layer: &str, part: &str, shape: &[i64]) -> Result<tch::Tensor> {
        let name = format!("{layer}.{part}");
        let tensor = self.get(&name)?;
        if tensor.shape() != shape {
            return Err(Error::new(format!(
                "the weights' {name:?} has shape {:?}, but that of a {} has {shape:?}: {REMEDY}",
                tensor.shape(),
                self.network
            )));
        }
        self.tensors.remove(&name);
        tensor.clone().into_tch()
    }
}

/// torchvision's name of today: the first DenseNets had `denselayer1.norm.1.weight` for `denselayer1.norm1.weight`.
fn of_today(name: &str) -> String {
    match name.contains(".denselayer") {
        true => name.replace(".norm.", ".norm").replace(".conv.", ".conv"),
        false => name.to_owned(),
    }
}

// === impl Convolution ===

impl Convolution {
    pub(super) fn with_bias(mut self, parts: &mut Parts<'_>, name: &str) -> Result<Self> {
        self.bias = Some(parts.take(name, "bias", &self.weight.size()[..1])?);
        Ok(self)
    }

    /// So many of which each sees its own share of the channels.
    pub(super) fn with_groups(mut self, groups: i64) -> Self {
        self.groups = groups;
        self
    }

    pub(super) fn weight(&self) -> &tch::Tensor {
        &self.weight
    }

    /// The channels that it gives.
    pub(super) fn outputs(&self) -> i64 {
        self.weight.size().first().copied().unwrap_or_default()
    }

    pub(super) fn forward(&self, x: &tch::Tensor) -> Result<tch::Tensor> {
        let twice = |length: i64| [length, length];
        let (stride, padding) = (twice(self.stride), twice(self.padding));
        Ok(x.f_conv2d(&self.weight, self.bias.as_ref(), stride, padding, [1, 1], self.groups)?)
    }
}

// === impl BatchNorm ===

impl BatchNorm {
    pub(super) fn forward(&self, x: &tch::Tensor) -> Result<tch::Tensor> {
        let (weight, bias) = (Some(&self.weight), Some(&self.bias));
        let (mean, variance) = (Some(&self.mean), Some(&self.variance));
        // The momentum is the training's; nothing is written to the statistics here.
        Ok(x.f_batch_norm(weight, bias, mean, variance, false, 0.1, EPSILON, true)?)
    }

    /// The same, and what is negative becomes 0.
    pub(super) fn forward_relu(&self, x: &tch::Tensor) -> Result<tch::Tensor> {
        Ok(self.forward(x)?.f_relu_()?)
    }
}

// === impl Linear ===

impl Linear {
    pub(super) fn forward(&self, x: &tch::Tensor) -> Result<tch::Tensor> {
        Ok(x.f_linear(&self.weight, Some(&self.bias))?)
    }
}
