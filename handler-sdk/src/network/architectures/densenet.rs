//! torchvision's DenseNets.

use super::REMEDY;
use super::layers::BatchNorm;
use super::layers::Convolution;
use super::layers::Linear;
use super::layers::Parts;
use crate::Error;
use crate::Result;

#[derive(Debug)]
pub(super) struct DenseNet {
    conv0: Convolution,
    norm0: BatchNorm,
    blocks: Vec<Block>,
    norm5: BatchNorm,
    classifier: Linear,
}

/// Layers of which each sees the input and what all before it gave.
#[derive(Debug)]
struct Block {
    layers: Vec<Layer>,
    /// What stands between this block and the next.
    transition: Option<(BatchNorm, Convolution)>,
}

#[derive(Debug)]
struct Layer {
    norm1: BatchNorm,
    conv1: Convolution,
    norm2: BatchNorm,
    conv2: Convolution,
}

/// Which number of layers in each block makes which network; how wide it is, its shapes say.
const NETWORKS: [([usize; 4], &str); 4] = [
    ([6, 12, 24, 16], "DenseNet-121"),
    ([6, 12, 36, 24], "DenseNet-161"),
    ([6, 12, 32, 32], "DenseNet-169"),
    ([6, 12, 48, 32], "DenseNet-201"),
];

// === impl DenseNet ===

impl DenseNet {
    pub(super) fn new(parts: &mut Parts<'_>) -> Result<Self> {
        parts.belong_to("DenseNet");
        let counts = [1, 2, 3, 4].map(|block| {
            // The layers are numbered from 1.
            parts.count(&format!("features.denseblock{block}.denselayer")).saturating_sub(1)
        });
        let Some((_, name)) = NETWORKS.iter().find(|(has, _)| *has == counts) else {
            return Err(Error::new(format!(
                "the weights look like a DenseNet's whose blocks have {counts:?} layers, and of those built in none has these: {REMEDY}"
            )));
        };
        parts.belong_to(name);
        let [mut channels, colours, _, _] = parts.shape("features.conv0.weight")?;
        let conv0 = parts.convolution("features.conv0", [channels, colours, 7, 7], 2, 3)?;
        let norm0 = parts.batch_norm("features.norm0", channels)?;
        let mut block = |number: usize| -> Result<Block> {
            let mut layers = Vec::new();
            for layer in 1..=counts[number - 1] {
                let name = format!("features.denseblock{number}.denselayer{layer}");
                let layer = Layer::new(parts, &name, channels)?;
                channels += layer.growth();
                layers.push(layer);
            }
            let transition = match number {
                4 => None,
                _ => {
                    let name = format!("features.transition{number}");
                    let norm = parts.batch_norm(&format!("{name}.norm"), channels)?;
                    let shape = [channels / 2, channels, 1, 1];
                    channels /= 2;
                    Some((norm, parts.convolution(&format!("{name}.conv"), shape, 1, 0)?))
                }
            };
            Ok(Block { layers, transition })
        };
        let blocks = vec![block(1)?, block(2)?, block(3)?, block(4)?];
        let norm5 = parts.batch_norm("features.norm5", channels)?;
        Ok(Self { conv0, norm0, blocks, norm5, classifier: parts.classifier("classifier", channels)? })
    }

    pub(super) fn first_weight(&self) -> &tch::Tensor {
        self.conv0.weight()
    }

    pub(super) fn forward(&self, pictures: &tch::Tensor) -> Result<tch::Tensor> {
        let x = self.norm0.forward_relu(&self.conv0.forward(pictures)?)?;
        let mut x = x.f_max_pool2d([3, 3], [2, 2], [1, 1], [1, 1], false)?;
        for block in &self.blocks {
            x = block.forward(x)?;
        }
        let x = self.norm5.forward_relu(&x)?;
        self.classifier.forward(&x.f_adaptive_avg_pool2d([1, 1])?.f_flatten(1, -1)?)
    }
}

// === impl Block ===

impl Block {
    fn forward(&self, x: tch::Tensor) -> Result<tch::Tensor> {
        let mut features = vec![x];
        for layer in &self.layers {
            features.push(layer.forward(&tch::Tensor::f_cat(&features, 1)?)?);
        }
        let x = tch::Tensor::f_cat(&features, 1)?;
        match &self.transition {
            None => Ok(x),
            Some((norm, convolution)) => {
                let x = convolution.forward(&norm.forward_relu(&x)?)?;
                Ok(x.f_avg_pool2d([2, 2], [2, 2], [0, 0], false, true, None)?)
            }
        }
    }
}

// === impl Layer ===

impl Layer {
    fn new(parts: &mut Parts<'_>, name: &str, inputs: i64) -> Result<Self> {
        let [width, _, _, _] = parts.shape(&format!("{name}.conv1.weight"))?;
        let [growth, _, _, _] = parts.shape(&format!("{name}.conv2.weight"))?;
        Ok(Self {
            norm1: parts.batch_norm(&format!("{name}.norm1"), inputs)?,
            conv1: parts.convolution(&format!("{name}.conv1"), [width, inputs, 1, 1], 1, 0)?,
            norm2: parts.batch_norm(&format!("{name}.norm2"), width)?,
            conv2: parts.convolution(&format!("{name}.conv2"), [growth, width, 3, 3], 1, 1)?,
        })
    }

    /// How many channels it adds.
    fn growth(&self) -> i64 {
        self.conv2.outputs()
    }

    fn forward(&self, x: &tch::Tensor) -> Result<tch::Tensor> {
        let x = self.conv1.forward(&self.norm1.forward_relu(x)?)?;
        self.conv2.forward(&self.norm2.forward_relu(&x)?)
    }
}
