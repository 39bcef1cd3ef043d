//! Tells what kind of file it is, by its name and its first bytes.

use std::fs::File;
use std::io;
use std::io::Read;
use std::path::Path;

use super::NamedTensor;
use super::StateDictError;
use super::safetensors_file;
use super::torch_file;
use crate::model::ModelError;

/// What a model file holds.
#[derive(Debug)]
pub(crate) enum Contents {
    /// Code with its weights: libtorch reads it.
    TorchScript,
    /// Compiled code with its weights: an AOTInductor package.
    Package,
    /// Weights alone, in the order of their names.
    StateDict(Vec<NamedTensor>),
}

/// How much of a file's beginning is looked at.
const HEAD: u64 = 512;

/// Where a tar file says that it is one.
const TAR_MAGIC: (usize, &[u8]) = (257, b"ustar");

/// The number 0x1950a86a20f9469cfc6c as protocol 2 and later write it, with which the format before PyTorch 1.6 begins.
const LEGACY_MAGIC: &[u8] = &[0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];

/// The magic number stands behind the pickle's own first bytes, a frame's length among them.
const LEGACY_MAGIC_WITHIN: usize = 32;

/// Reads what the file says of its tensors; their bytes stay where they are until they are asked for.
pub(crate) fn read(path: &Path) -> Result<Contents, ModelError> {
    let path_of = || path.to_owned();
    let extension = path.extension().and_then(|extension| extension.to_str());
    if extension == Some("so") {
        return Err(ModelError::BareLibrary { path: path_of() });
    }
    if !matches!(extension, Some("pt" | "pth" | "pt2" | "safetensors")) {
        return Err(ModelError::UnknownFormat { path: path_of() });
    }
    let file = File::open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => ModelError::Missing { path: path_of() },
        _ => ModelError::Read { path: path_of(), reason: error.to_string() },
    })?;
    let contents = match extension {
        Some("safetensors") => safetensors_file::read(file).map(Contents::StateDict),
        _ => read_torch(path, &file),
    };
    contents.map_err(|reason| ModelError::Weights { path: path_of(), reason })
}

fn read_torch(path: &Path, file: &File) -> Result<Contents, StateDictError> {
    let mut head = Vec::new();
    file.take(HEAD).read_to_end(&mut head)?;
    let (tar_at, tar_magic) = TAR_MAGIC;
    if head.starts_with(b"PK\x03\x04") {
        torch_file::read_zip(path, file)
    } else if head.get(tar_at..tar_at + tar_magic.len()) == Some(tar_magic) {
        Err(StateDictError::Tar)
    } else if has_legacy_magic(&head) {
        torch_file::read_legacy(path, file).map(Contents::StateDict)
    } else {
        let start = head.get(..32).unwrap_or(&head);
        Err(StateDictError::NotTorch { start: start.escape_ascii().to_string() })
    }
}

fn has_legacy_magic(head: &[u8]) -> bool {
    let start = head.get(..LEGACY_MAGIC_WITHIN).unwrap_or(head);
    start.windows(LEGACY_MAGIC.len()).any(|window| window == LEGACY_MAGIC)
}
