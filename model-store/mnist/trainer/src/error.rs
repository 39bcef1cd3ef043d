//! What can go wrong, said so that the reader knows what to do next.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

#[derive(Debug, Error)]
pub(crate) enum Error {
    #[cfg(any(test, feature = "torch"))]
    #[error("can't read {}: {source}; check that the path is right", .path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("can't write {}: {source}; choose a folder you may write to with --out", .path.display())]
    Write { path: PathBuf, source: io::Error },
    #[cfg(any(test, feature = "torch"))]
    #[error("{} is no picture this program can read: {why}; give PNG files in MNIST's layout", .path.display())]
    Picture { path: PathBuf, why: String },
    #[cfg(any(test, feature = "torch"))]
    #[error("{} holds no PNG named after its digit; name the files like 7.png or 7-second.png", .path.display())]
    NoPictures { path: PathBuf },
    #[cfg(any(test, feature = "torch"))]
    #[error("{} is no idx file of MNIST: {why}", .path.display())]
    Idx { path: PathBuf, why: String },
    #[cfg(feature = "torch")]
    #[error("{} has no usable weights: {why}; make new ones with the command `mnist-trainer train`", .path.display())]
    Weights { path: PathBuf, why: String },
    #[cfg(feature = "torch")]
    #[error("{} gives other answers than the weights it came from ({why}); this is a bug, don't use the file", .path.display())]
    Export { path: PathBuf, why: String },
    #[cfg(feature = "torch")]
    #[error("libtorch refused to {what}: {source}")]
    Torch { what: &'static str, source: tch::TchError },
}

// === impl Error ===

impl Error {
    #[cfg(any(test, feature = "torch"))]
    pub(crate) fn read(path: &Path, source: io::Error) -> Self {
        Self::Read { path: path.to_owned(), source }
    }

    pub(crate) fn write(path: &Path, source: io::Error) -> Self {
        Self::Write { path: path.to_owned(), source }
    }
}
