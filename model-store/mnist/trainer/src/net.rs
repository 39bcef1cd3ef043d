//! The network of the MNIST example of TorchServe, over named tensors.

use std::path::Path;

use tch::{Kind, TchError, Tensor};

use crate::error::Error;

/// Names and shapes, as PyTorch's modules have them.
const PARAMETERS: [(&str, &[i64]); 8] = [
    ("conv1.weight", &[32, 1, 3, 3]),
    ("conv1.bias", &[32]),
    ("conv2.weight", &[64, 32, 3, 3]),
    ("conv2.bias", &[64]),
    ("fc1.weight", &[128, 9216]),
    ("fc1.bias", &[128]),
    ("fc2.weight", &[10, 128]),
    ("fc2.bias", &[10]),
];

/// Training forgets some of what it sees on purpose; answering doesn't.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Training,
    Answering,
}

/// The parameters, in the order of `PARAMETERS`.
#[derive(Debug)]
pub(crate) struct Net {
    parameters: Vec<Tensor>,
}

// === impl Net ===

impl Net {
    /// Fresh parameters, spread as PyTorch's modules spread theirs; `tch::manual_seed` decides which.
    pub(crate) fn fresh() -> Self {
        let mut parameters = Vec::new();
        let mut bound = 1.0;
        for (_, shape) in PARAMETERS {
            if let [_, inputs @ ..] = shape
                && !inputs.is_empty()
            {
                bound = 1.0 / (inputs.iter().product::<i64>() as f64).sqrt();
            }
            let mut tensor = Tensor::zeros(shape, (Kind::Float, tch::Device::Cpu));
            let _ = tensor.uniform_(-bound, bound);
            parameters.push(tensor);
        }
        Self { parameters }
    }

    /// A second set of the same values.
    pub(crate) fn copied(&self) -> Self {
        Self { parameters: self.parameters.iter().map(|p| p.detach().copy()).collect() }
    }

    pub(crate) fn parameters(&self) -> &[Tensor] {
        &self.parameters
    }

    pub(crate) fn parameters_mut(&mut self) -> &mut [Tensor] {
        &mut self.parameters
    }

    /// Log-probabilities [N, 10] of pictures [N, 1, 28, 28].
    pub(crate) fn forward(&self, pictures: &Tensor, mode: Mode) -> Tensor {
        let [conv1, bias1, conv2, bias2, fc1, bias3, fc2, bias4] = self.parameters.as_slice() else {
            unreachable!("a net always has all its parameters; this is a bug")
        };
        let conv = |x: &Tensor, weight, bias| x.conv2d(weight, Some(bias), [1, 1], [0, 0], [1, 1], 1);
        let x = conv(pictures, conv1, bias1).relu();
        let x = conv(&x, conv2, bias2).relu();
        let x = x.max_pool2d([2, 2], [2, 2], [0, 0], [1, 1], false);
        let x = dropped(x, 0.25, mode);
        // Not a view by size: tracing would write this batch's size into the model.
        let x = x.flatten(1, 3);
        let x = dropped(x.linear(fc1, Some(bias3)).relu(), 0.5, mode);
        x.linear(fc2, Some(bias4)).log_softmax(1, None)
    }

    pub(crate) fn write(&self, path: &Path) -> Result<(), Error> {
        let named: Vec<_> = PARAMETERS.iter().map(|(name, _)| *name).zip(&self.parameters).collect();
        Tensor::write_safetensors(&named, path).map_err(|source| Error::Torch { what: "write the weights", source })
    }

    pub(crate) fn read(path: &Path) -> Result<Self, Error> {
        let wrong = |why: String| Error::Weights { path: path.to_owned(), why };
        // The reader of tensors would say "IoError" and no more.
        std::fs::File::open(path).map_err(|source| Error::read(path, source))?;
        let mut named = Tensor::read_safetensors(path).map_err(|err| wrong(reason(err)))?;
        let mut parameters = Vec::new();
        for (name, shape) in PARAMETERS {
            let Some(at) = named.iter().position(|(n, _)| n == name) else {
                return Err(wrong(format!("it lacks {name}")));
            };
            let (_, tensor) = named.swap_remove(at);
            if tensor.size() != shape {
                return Err(wrong(format!("{name} has shape {:?}, not {shape:?}", tensor.size())));
            }
            parameters.push(tensor.to_kind(Kind::Float));
        }
        Ok(Self { parameters })
    }
}

/// What the reader found, without its own mention of the path.
fn reason(err: TchError) -> String {
    match err {
        TchError::SafeTensorError { err, .. } => format!("it is no safetensors file ({err:?})"),
        other => other.to_string(),
    }
}

fn dropped(x: Tensor, share: f64, mode: Mode) -> Tensor {
    // Left out altogether when answering, so that the traced model carries no idle step.
    if mode == Mode::Training { x.dropout(share, true) } else { x }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_come_back_from_their_file_under_their_names() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.safetensors");
        let net = Net::fresh();
        net.write(&path).unwrap();
        assert!(std::fs::metadata(&path).unwrap().len() < 5_000_000);
        let pictures = Tensor::rand([3, 1, 28, 28], (Kind::Float, tch::Device::Cpu));
        let (a, b) = (net.forward(&pictures, Mode::Answering), Net::read(&path).unwrap());
        assert_eq!(a.size(), [3, 10]);
        assert_eq!(a, b.forward(&pictures, Mode::Answering));
    }

    #[test]
    fn a_file_that_is_no_set_of_weights_is_refused_with_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.safetensors");
        let some = Tensor::zeros([3], (Kind::Float, tch::Device::Cpu));
        for (name, reason) in [("conv1.weight", "shape [3]"), ("other", "lacks conv1.weight")] {
            Tensor::write_safetensors(&[(name, &some)], &path).unwrap();
            let text = Net::read(&path).unwrap_err().to_string();
            assert!(text.contains(reason) && text.contains("mnist-trainer train"), "{text}");
        }
    }
}
