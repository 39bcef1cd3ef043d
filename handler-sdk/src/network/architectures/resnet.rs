//! torchvision's ResNets: of basic blocks or of bottlenecks, wide ones and those with groups among them.

use super::REMEDY;
use super::layers::BatchNorm;
use super::layers::Convolution;
use super::layers::Linear;
use super::layers::Parts;
use crate::Error;
use crate::Result;

#[derive(Debug)]
pub(super) struct ResNet {
    conv1: Convolution,
    bn1: BatchNorm,
    /// Of all four layers, one after the other.
    blocks: Vec<Block>,
    fc: Linear,
}

/// Two or three convolutions, to whose result the input is added.
#[derive(Debug)]
struct Block {
    first: Vec<(Convolution, BatchNorm)>,
    last: (Convolution, BatchNorm),
    /// Brings the input to the shape of the result.
    downsample: Option<(Convolution, BatchNorm)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Two convolutions of 3 x 3.
    Basic,
    /// One of 3 x 3 between two of 1 x 1.
    Bottleneck,
}

/// Where in the network a block stands.
struct Place {
    name: String,
    /// How much wider the block's layer is than the first.
    scale: i64,
    inputs: i64,
    stride: i64,
}

/// The bottlenecks of the first layer: as wide as ResNet-50's, or wider, and in how many groups.
struct Bottleneck {
    width: i64,
    groups: i64,
}

/// Which blocks, and how many of them in each layer, make which network.
const NETWORKS: [(Kind, [usize; 4], &str); 5] = [
    (Kind::Basic, [2, 2, 2, 2], "ResNet-18"),
    (Kind::Basic, [3, 4, 6, 3], "ResNet-34"),
    (Kind::Bottleneck, [3, 4, 6, 3], "ResNet-50"),
    (Kind::Bottleneck, [3, 4, 23, 3], "ResNet-101"),
    (Kind::Bottleneck, [3, 8, 36, 3], "ResNet-152"),
];

/// The channels that the first layer begins with, and with which its basic blocks end.
const CHANNELS: i64 = 64;

/// The channels with which the bottlenecks of the first layer end.
const EXPANDED: i64 = 256;

// === impl ResNet ===

impl ResNet {
    pub(super) fn new(parts: &mut Parts<'_>) -> Result<Self> {
        parts.belong_to("ResNet");
        let kind = if parts.any("layer1.0.conv3.") { Kind::Bottleneck } else { Kind::Basic };
        let counts = [1, 2, 3, 4].map(|layer| parts.count(&format!("layer{layer}.")));
        let known = NETWORKS.iter().find(|(of, has, _)| (*of, *has) == (kind, counts));
        let Some((_, _, name)) = known else {
            return Err(Error::new(format!(
                "the weights look like a ResNet's whose layers have {counts:?} blocks of the kind {kind:?}, and of those built in none has these: {REMEDY}"
            )));
        };
        parts.belong_to(name);
        let [_, colours, _, _] = parts.shape("conv1.weight")?;
        let conv1 = parts.convolution("conv1", [CHANNELS, colours, 7, 7], 2, 3)?;
        let bn1 = parts.batch_norm("bn1", CHANNELS)?;
        let bottleneck = match kind {
            Kind::Basic => None,
            Kind::Bottleneck => Some(Bottleneck::find(parts)?),
        };
        let mut blocks = Vec::new();
        let mut channels = CHANNELS;
        for (layer, count) in counts.into_iter().enumerate() {
            for index in 0..count {
                let place = Place {
                    name: format!("layer{}.{index}", layer + 1),
                    scale: 1 << layer,
                    inputs: channels,
                    // Each layer but the first begins with half the height and width.
                    stride: if layer > 0 && index == 0 { 2 } else { 1 },
                };
                let (block, outputs) = match &bottleneck {
                    None => (Block::basic(parts, &place)?, CHANNELS * place.scale),
                    Some(bottleneck) => (Block::bottleneck(parts, &place, bottleneck)?, EXPANDED * place.scale),
                };
                blocks.push(block);
                channels = outputs;
            }
        }
        Ok(Self { conv1, bn1, blocks, fc: parts.classifier("fc", channels)? })
    }

    pub(super) fn first_weight(&self) -> &tch::Tensor {
        self.conv1.weight()
    }

    pub(super) fn forward(&self, pictures: &tch::Tensor) -> Result<tch::Tensor> {
        let x = self.bn1.forward_relu(&self.conv1.forward(pictures)?)?;
        let mut x = x.f_max_pool2d([3, 3], [2, 2], [1, 1], [1, 1], false)?;
        for block in &self.blocks {
            x = block.forward(&x)?;
        }
        self.fc.forward(&x.f_adaptive_avg_pool2d([1, 1])?.f_flatten(1, -1)?)
    }
}

// === impl Block ===

impl Block {
    fn basic(parts: &mut Parts<'_>, place: &Place) -> Result<Self> {
        let width = CHANNELS * place.scale;
        Ok(Self {
            first: vec![place.step(parts, 1, [width, place.inputs, 3, 3], place.stride)?],
            last: place.step(parts, 2, [width, width, 3, 3], 1)?,
            downsample: place.downsample(parts, width)?,
        })
    }

    /// The stride is in the convolution of 3 x 3, as in torchvision.
    fn bottleneck(parts: &mut Parts<'_>, place: &Place, bottleneck: &Bottleneck) -> Result<Self> {
        let (width, outputs) = (bottleneck.width * place.scale, EXPANDED * place.scale);
        let narrow = place.step(parts, 1, [width, place.inputs, 1, 1], 1)?;
        let (conv2, bn2) = place.step(parts, 2, [width, width / bottleneck.groups, 3, 3], place.stride)?;
        Ok(Self {
            first: vec![narrow, (conv2.with_groups(bottleneck.groups), bn2)],
            last: place.step(parts, 3, [outputs, width, 1, 1], 1)?,
            downsample: place.downsample(parts, outputs)?,
        })
    }

    fn forward(&self, input: &tch::Tensor) -> Result<tch::Tensor> {
        let mut x = input.shallow_clone();
        for (convolution, norm) in &self.first {
            x = norm.forward_relu(&convolution.forward(&x)?)?;
        }
        let (convolution, norm) = &self.last;
        let mut x = norm.forward(&convolution.forward(&x)?)?;
        let sum = match &self.downsample {
            None => x.f_add_(input),
            Some((convolution, norm)) => x.f_add_(&norm.forward(&convolution.forward(input)?)?),
        };
        Ok(sum?.f_relu_()?)
    }
}

// === impl Place ===

impl Place {
    /// The block's convolution of that number, and its norm.
    fn step(
        &self,
        parts: &mut Parts<'_>,
        number: usize,
        shape: [i64; 4],
        stride: i64,
    ) -> Result<(Convolution, BatchNorm)> {
        let name = &self.name;
        let padding = shape[3] / 2;
        let convolution = parts.convolution(&format!("{name}.conv{number}"), shape, stride, padding)?;
        Ok((convolution, parts.batch_norm(&format!("{name}.bn{number}"), shape[0])?))
    }

    /// Where the input has the shape of the result already there is none.
    fn downsample(&self, parts: &mut Parts<'_>, outputs: i64) -> Result<Option<(Convolution, BatchNorm)>> {
        if self.stride == 1 && self.inputs == outputs {
            return Ok(None);
        }
        let name = format!("{}.downsample", self.name);
        let convolution = parts.convolution(&format!("{name}.0"), [outputs, self.inputs, 1, 1], self.stride, 0)?;
        Ok(Some((convolution, parts.batch_norm(&format!("{name}.1"), outputs)?)))
    }
}

// === impl Bottleneck ===

impl Bottleneck {
    fn find(parts: &Parts<'_>) -> Result<Self> {
        let [width, _, _, _] = parts.shape("layer1.0.conv1.weight")?;
        let [_, share, _, _] = parts.shape("layer1.0.conv2.weight")?;
        // Where these don't fit together, the shape that is asked for isn't the one that is there.
        Ok(Self { width, groups: width.checked_div(share).filter(|groups| *groups > 0).unwrap_or(1) })
    }
}
