//! Transforms in a row, from a picture to a tensor.

use super::input::Input;
use super::picture::Picture;
use super::transform;
use super::transform::Transform;
use crate::Context;
use crate::DType;
use crate::Error;
use crate::Field;
use crate::Result;
use crate::Tensor;

/// Transforms that are applied one after the other, as torchvision's `Compose`.
///
/// ```
/// use handler_sdk::vision::Compose;
/// use handler_sdk::vision::Picture;
/// use handler_sdk::vision::Transform;
///
/// let transforms = Compose::new([
///     Transform::Grey,
///     Transform::Fit(28),
///     Transform::ToTensor,
///     Transform::Normalize { mean: vec![0.1307], std: vec![0.3081] },
/// ]);
/// transforms.check()?;
/// let tensor = transforms.apply(Picture::black(60, 40))?;
/// assert_eq!(tensor.shape(), [1, 28, 28]);
/// # Ok::<(), handler_sdk::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Compose {
    transforms: Vec<Transform>,
}

/// What each level of a channel becomes. Behind `ToTensor` all is arithmetic on 256 levels, so it is done once for each, not for each pixel.
type Levels = [f32; 256];

// === impl Compose ===

impl Compose {
    /// The transforms in their order; [`check`](Self::check) says whether that order makes sense.
    pub fn new(transforms: impl IntoIterator<Item = Transform>) -> Self {
        Self { transforms: transforms.into_iter().collect() }
    }

    /// Those of networks that were trained on ImageNet, and of TorchServe's `image_classifier`: `Resize(256)`, `CenterCrop(224)`, `ToTensor`, `Normalize`.
    pub fn imagenet() -> Self {
        Self::new([
            Transform::Resize(256),
            Transform::CenterCrop(224),
            Transform::ToTensor,
            Transform::Normalize { mean: vec![0.485, 0.456, 0.406], std: vec![0.229, 0.224, 0.225] },
        ])
    }

    /// Fails where the transforms can't be applied to any picture: in another order, to a side of 0 pixels, with a deviation of 0 or with as many values as there are no channels.
    ///
    /// Call it in `initialize`, so that the mistake is found when the model is loaded; [`apply`](Self::apply) finds it too.
    pub fn check(&self) -> Result<()> {
        let channels = self.channels();
        let mut is_tensor = false;
        for (place, transform) in self.transforms.iter().enumerate() {
            let wrong = |why: &str| Err(Error::new(format!("transform {}, {transform:?}, {why}", place + 1)));
            match transform {
                Transform::Normalize { .. } if !is_tensor => {
                    return wrong("works on a tensor: put ToTensor before it");
                }
                Transform::Normalize { mean, std } => {
                    if [mean, std].iter().any(|values| values.len() != 1 && values.len() != channels) {
                        return wrong(&format!(
                            "has {} and {} values, and the tensor {channels} channels: give one for each, or one for all",
                            mean.len(),
                            std.len()
                        ));
                    }
                    if std.contains(&0.0) || mean.iter().chain(std).any(|value| !value.is_finite()) {
                        return wrong("divides by a deviation of 0, or holds what is no finite number");
                    }
                }
                _ if is_tensor => return wrong("works on a picture: put it before ToTensor"),
                Transform::ToTensor => is_tensor = true,
                Transform::Resize(0) | Transform::Fit(0) | Transform::CenterCrop(0) => {
                    return wrong("leaves no pixels: give a length of at least 1");
                }
                Transform::ResizeTo { height, width } if height.min(width) == &0 => {
                    return wrong("leaves no pixels: give lengths of at least 1");
                }
                Transform::Grey
                | Transform::Resize(_)
                | Transform::ResizeTo { .. }
                | Transform::Fit(_)
                | Transform::CenterCrop(_) => {}
            }
        }
        match is_tensor {
            true => Ok(()),
            false => Err(Error::new("the transforms end with a picture, and a model takes a tensor: add ToTensor")),
        }
    }

    /// Makes a picture a float32 tensor `[channels, height, width]`: one channel with [`Transform::Grey`], else three.
    pub fn apply(&self, picture: Picture) -> Result<Tensor> {
        self.check()?;
        let mut picture = picture;
        let mut levels = Vec::new();
        let mut rest = self.transforms.as_slice();
        while let Some((transform, behind)) = rest.split_first() {
            rest = behind;
            // The crop that follows says which pixels need to be computed at all.
            let crop = match behind.first() {
                Some(Transform::CenterCrop(side)) => Some(*side),
                _ => None,
            };
            match transform {
                Transform::Grey => picture = picture.grey(),
                Transform::Resize(side) => picture = transform::resize_shorter(picture, *side, crop)?,
                Transform::ResizeTo { height, width } => {
                    picture = transform::resize_to(picture, (u64::from(*width), u64::from(*height)), crop)?;
                }
                Transform::Fit(side) => picture = transform::fit(picture, *side),
                // Behind a resize that has already cropped, this changes nothing.
                Transform::CenterCrop(side) => picture = transform::center_crop(picture, *side),
                Transform::ToTensor => {
                    levels = vec![std::array::from_fn(|level| level as f32 / 255.0); self.channels()]
                }
                Transform::Normalize { mean, std } => normalize(&mut levels, mean, std),
            }
        }
        tensor(&picture.opaque(), &levels)
    }

    /// Reads a request's field and transforms it: a picture; or nested lists of numbers, which pass as they are, in the shape they came in.
    ///
    /// See [`Input`] for all that a field may hold. Fails with status 400 where it holds something else.
    pub fn read(&self, field: &Field<'_>, context: &Context) -> Result<Tensor> {
        match Input::read(field, context)? {
            Input::Tensor(tensor) => Ok(tensor),
            Input::Picture(picture) => self.apply(picture).map_err(|error| match error.status() {
                400 => Error::bad_request(format!("field `{}` {}", field.name(), error.client_text())),
                _ => error,
            }),
        }
    }

    fn channels(&self) -> usize {
        match self.transforms.contains(&Transform::Grey) {
            true => 1,
            false => 3,
        }
    }
}

fn normalize(levels: &mut [Levels], mean: &[f32], std: &[f32]) {
    let of = |values: &[f32], channel: usize| values[channel % values.len()];
    for (channel, levels) in levels.iter_mut().enumerate() {
        for level in levels {
            *level = (*level - of(mean, channel)) / of(std, channel);
        }
    }
}

/// One plane for each channel of `levels`; a grey picture gives the same pixels to all.
fn tensor(picture: &Picture, levels: &[Levels]) -> Result<Tensor> {
    let shape = [levels.len() as i64, i64::from(picture.height()), i64::from(picture.width())];
    let step = picture.channels();
    let count = picture.pixels().len() / step;
    let mut bytes = vec![0; levels.len() * count * size_of::<f32>()];
    // By slices: byte after byte takes several times as long.
    for (channel, (plane, levels)) in bytes.chunks_exact_mut((count * size_of::<f32>()).max(1)).zip(levels).enumerate()
    {
        let samples = picture.pixels().chunks_exact(step).map(|pixel| pixel[channel % step]);
        for (place, sample) in plane.chunks_exact_mut(size_of::<f32>()).zip(samples) {
            place.copy_from_slice(&levels[usize::from(sample)].to_ne_bytes());
        }
    }
    Tensor::from_bytes(DType::F32, &shape, bytes)
}

#[cfg(test)]
mod tests;
