//! Why a model can't be loaded.

use std::path::PathBuf;

use handler_sdk::Device;

use super::package::PackageError;
use super::state_dict::StateDictError;

#[derive(Debug, Clone, thiserror::Error)]
pub enum ModelError {
    #[error(
        "{path} is for libtorch, and this sconce was built without libtorch: build it with the feature `torch` (on by default), or serve archives without a model"
    )]
    NoTorch { path: PathBuf },

    #[error("{path} is not a model file that can be loaded: the name must end in .pt, .pth, .pt2 or .safetensors")]
    UnknownFormat { path: PathBuf },

    #[error(
        "{path} is a bare library, as TorchServe takes one with pt2: export: aot_compile: make a package of the model with torch._inductor.aoti_compile_and_package, which tells what it takes, and archive that .pt2"
    )]
    BareLibrary { path: PathBuf },

    #[error("libtorch can't load {path}: {reason}")]
    Load { path: PathBuf, reason: String },

    #[error("can't load {path}: {reason}")]
    Weights { path: PathBuf, reason: StateDictError },

    #[error("can't serve the package {path}: {reason}")]
    Package { path: PathBuf, reason: PackageError },

    #[error("can't open {path} for its operators: {reason}; it must be built for libtorch {version}", version = handler_sdk::abi::note::LIBTORCH_VERSION)]
    Operators { path: PathBuf, reason: String },

    #[error("there is no model file {path}")]
    Missing { path: PathBuf },

    #[error("can't read {path}: {reason}")]
    Read { path: PathBuf, reason: String },

    #[error(
        "there is no {device}: libtorch sees {count} CUDA device(s) here; set deviceType: cpu in the model's config"
    )]
    NoSuchDevice { device: Device, count: usize },

    #[error(
        "libtorch's CUDA part is there and can't be opened: {reason}; install the driver it needs, or use a CPU libtorch"
    )]
    Cuda { reason: String },
}
