//! What torch.save writes: a zip since PyTorch 1.6, a row of pickles before.
//!
//! The crate `pytorch-reader` reads both: it bounds nesting, copies and lengths, and leaves each tensor in the
//! file until it is asked for. What it leaves open is closed here before it sees the file: how far a compressed
//! or expanded file may grow, formats that nobody needs, and zips that it would misread. `zip` has its second home
//! here, to look before that.

mod misread;
mod root_class;

use std::collections::HashMap;
use std::fs::File;
use std::io::BufReader;
use std::io::Read;
use std::io::Seek;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::path::PathBuf;

use handler_sdk::DType;
use pytorch_reader::PickleValue;
use pytorch_reader::PytorchError;
use pytorch_reader::PytorchReader;
use zip::ZipArchive;
use zip::ZipReadOptions;
use zip::read::ArchiveOffset;
use zip::read::Config;

use super::Contents;
use super::NamedTensor;
use super::StateDictError;
use super::tensors::Place;
use super::tensors::shape_of;
use crate::model::package::is_compiled_member;
use misread::copy_if_misread;
use root_class::legacy_module_class;
use root_class::root_class;

/// The keys under which a checkpoint's state dict is looked for.
const STATE_DICT_KEYS: [&str; 3] = ["state_dict", "model_state_dict", "model"];

/// The largest pickle in a zip. Those of models with ten thousand tensors have one or two million bytes, and a
/// byte can become a hundred in memory.
const PICKLE_LIMIT: u64 = 16 << 20;

/// How much of a pickle is looked at for the class of its object.
const PICKLE_HEAD: u64 = 4096;

/// What tensors may take up in memory: views of one storage become copies, and torch.save never compresses.
fn memory_limit(file_length: u64) -> u64 {
    file_length.saturating_mul(4).saturating_add(1 << 30)
}

pub(super) fn read_zip(path: &Path, file: &File) -> Result<Contents, StateDictError> {
    let file_length = file.metadata()?.len();
    // Said to begin where the file begins, as it does to libtorch: see `misread` for what looking for it leads to.
    let config = Config { archive_offset: ArchiveOffset::Known(0) };
    let archive = ZipArchive::with_config(config, BufReader::new(file));
    let mut archive = archive.map_err(|error| StateDictError::damaged(&error))?;
    let names: Vec<String> = archive
        .file_names()
        .map(|name| name.map(|name| name.to_string()))
        .collect::<Result<_, _>>()
        .map_err(|error| StateDictError::damaged(&error))?;
    // Every record lies in one folder, named after the file; only TorchScript has constants.
    if names.iter().any(|name| is_record(name, "constants.pkl")) {
        return Ok(Contents::TorchScript);
    }
    if names.iter().any(|name| is_compiled_member(name)) {
        return Ok(Contents::Package);
    }
    if names.iter().any(|name| is_record(name, "archive_format")) {
        return Err(StateDictError::Exported);
    }
    let Some(pickle) = names.iter().position(|name| is_record(name, "data.pkl")) else {
        return Err(StateDictError::damaged("it is a zip file without a data.pkl"));
    };
    let mut total = 0_u64;
    for index in 0..archive.len() {
        let record = archive.by_index_raw(index).map_err(|error| StateDictError::damaged(&error))?;
        total = total.saturating_add(record.size());
    }
    check_size("records", total, memory_limit(file_length))?;
    // Its checksum is left to who reads it: PyTorch can be told to write none.
    let options = ZipReadOptions::new().ignore_crc32(true);
    let record = archive.by_index_with_options(pickle, options);
    let mut record = record.map_err(|error| StateDictError::damaged(&error))?;
    check_size("pickle", record.size(), PICKLE_LIMIT)?;
    let mut head = Vec::new();
    record.by_ref().take(PICKLE_HEAD).read_to_end(&mut head).map_err(|error| StateDictError::damaged(&error))?;
    drop(record);
    if let Some(class) = root_class(&head) {
        return Err(StateDictError::Object { class });
    }
    // The tensors keep it open, and it is gone when they are.
    let copy = copy_if_misread(path, file)?;
    let copied = copy.as_ref().map(|copy| PathBuf::from(format!("/proc/self/fd/{}", copy.as_raw_fd())));
    let tensors = read_tensors(copied.as_deref().unwrap_or(path), file_length);
    tensors.map(Contents::StateDict).map_err(Failure::into_error)
}

pub(super) fn read_legacy(path: &Path, mut file: &File) -> Result<Vec<NamedTensor>, StateDictError> {
    let file_length = file.metadata()?.len();
    let mut head = Vec::new();
    file.rewind()?;
    file.take(PICKLE_HEAD).read_to_end(&mut head)?;
    read_tensors(path, file_length).map_err(|failure| match (&failure, legacy_module_class(&head)) {
        (Failure::Unreadable(_), Some(class)) => StateDictError::Object { class },
        _ => failure.into_error(),
    })
}

fn is_record(name: &str, record: &str) -> bool {
    name == record || name.split_once('/').is_some_and(|(_, rest)| rest == record)
}

fn check_size(what: &'static str, claimed: u64, limit: u64) -> Result<(), StateDictError> {
    if claimed > limit {
        return Err(StateDictError::TooLarge { what, claimed, limit });
    }
    Ok(())
}

/// Why there are no tensors: the pickle can't be read, or is and holds something else.
enum Failure {
    Unreadable(PytorchError),
    Refused(StateDictError),
}

fn read_tensors(path: &Path, file_length: u64) -> Result<Vec<NamedTensor>, Failure> {
    // The crate tells what a dict holds and gives its tensors by two calls, each of which reads the pickle.
    let root = match PytorchReader::read_pickle_data(path, None)? {
        PickleValue::Dict(entries) => entries,
        PickleValue::Unsupported(class) => return Err(Failure::Refused(StateDictError::Object { class })),
        _ => {
            return Err(Failure::Refused(StateDictError::NoTensors { entries: "none".to_owned() }));
        }
    };
    let mut tensors = HashMap::new();
    for key in STATE_DICT_KEYS {
        if matches!(root.get(key), Some(PickleValue::Dict(_))) {
            tensors = PytorchReader::with_top_level_key(path, key)?.into_tensors();
        }
        if !tensors.is_empty() {
            break;
        }
    }
    if tensors.is_empty() {
        tensors = PytorchReader::new(path)?.into_tensors();
        // Not those of inner dicts: they are an optimizer's as likely as a model's.
        tensors.retain(|name, _| matches!(root.get(name), Some(PickleValue::Unsupported(_))));
    }
    if tensors.is_empty() {
        let entries = name_entries(&root);
        return Err(Failure::Refused(StateDictError::NoTensors { entries }));
    }
    let total = tensors.values().map(|tensor| tensor.byte_len() as u64);
    let total = total.fold(0, u64::saturating_add);
    check_size("tensors", total, memory_limit(file_length)).map_err(Failure::Refused)?;
    let mut tensors = tensors.into_values().map(named).collect::<Result<Vec<_>, _>>().map_err(Failure::Refused)?;
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(tensors)
}

fn named(tensor: pytorch_reader::Tensor) -> Result<NamedTensor, StateDictError> {
    let Some(dtype) = dtype_of(tensor.dtype()) else {
        return Err(StateDictError::ElementType { dtype: format!("{:?}", tensor.dtype()), entry: tensor.name });
    };
    Ok(NamedTensor {
        name: tensor.name.clone(),
        dtype,
        shape: shape_of(&tensor.name, tensor.shape())?,
        place: Place::Torch(tensor),
    })
}

/// The first few entries, for a message.
fn name_entries(root: &HashMap<String, PickleValue>) -> String {
    const SHOWN: usize = 8;
    let mut names: Vec<&str> = root.keys().map(String::as_str).collect();
    names.sort_unstable();
    let mut text = names.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
    match names.len() {
        0 => "none".clone_into(&mut text),
        1..=SHOWN => {}
        more => text.push_str(&format!(", and {} more", more - SHOWN)),
    }
    text
}

fn dtype_of(dtype: pytorch_reader::DType) -> Option<DType> {
    use pytorch_reader::DType as Theirs;
    Some(match dtype {
        Theirs::Bool => DType::Bool,
        Theirs::U8 => DType::U8,
        Theirs::I8 => DType::I8,
        Theirs::I16 => DType::I16,
        Theirs::I32 => DType::I32,
        Theirs::I64 => DType::I64,
        Theirs::F16 => DType::F16,
        Theirs::BF16 => DType::BF16,
        Theirs::F32 => DType::F32,
        Theirs::F64 => DType::F64,
        Theirs::U16 | Theirs::U32 | Theirs::U64 => return None,
    })
}

// === impl Failure ===

impl Failure {
    fn into_error(self) -> StateDictError {
        match self {
            Self::Unreadable(error) => StateDictError::damaged(&error),
            Self::Refused(error) => error,
        }
    }
}

impl From<PytorchError> for Failure {
    fn from(error: PytorchError) -> Self {
        Self::Unreadable(error)
    }
}
