//! The zip: which of its files are the model's, what the small ones say, and the way of the large ones to the disk.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::io::BufReader;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;

use handler_sdk::Device;
use tempfile::TempDir;
use zip::ZipArchive;
use zip::read::ArchiveOffset;
use zip::read::Config;

use super::Inputs;
use super::PackageError;
use super::machine;

/// A package, opened and understood as far as its small files go.
pub(in crate::model) struct PackageFile {
    archive: ZipArchive<BufReader<File>>,
    /// Names in the archive of the files that the compiled code needs, and those under which it looks for them.
    members: Vec<(String, String)>,
    /// Which of those is the code.
    library: String,
    metadata: BTreeMap<String, String>,
    pub(in crate::model) inputs: Inputs,
    pub(in crate::model) threads: Threads,
}

/// How many threads the compiled code starts, whatever it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::model) struct Threads {
    /// One where it starts none, or as many as it is told.
    pub(in crate::model) fixed: usize,
    /// Whether each of them has work of its own, so that with fewer some of the work wouldn't be done.
    pub(in crate::model) all_needed: bool,
}

/// The compiled code on disk, with what lies beside it.
pub(in crate::model) struct Unpacked {
    pub(in crate::model) folder: TempDir,
    pub(in crate::model) library: PathBuf,
}

/// In an archive's one folder, or at its root in archives of earlier versions.
const FOLDER: &str = "data/aotinductor/";

/// Which model is served of several.
const USUAL_NAME: &str = "model";

/// Larger than any of the files that are read whole; the C++ of a large model has some millions of bytes.
const TEXT_LIMIT: u64 = 64 << 20;

/// Beyond this the files can't be a package's: PyTorch compresses nothing.
fn unpacked_limit(file_length: u64) -> u64 {
    file_length.saturating_mul(16).saturating_add(1 << 20)
}

/// Whether a member of a zip file belongs to a compiled model.
pub(in crate::model) fn is_compiled_member(name: &str) -> bool {
    within(name).is_some()
}

/// The name of the model that a member belongs to, and the rest of the member's name.
fn within(name: &str) -> Option<(&str, &str)> {
    let place = name.find(FOLDER).filter(|&place| place == 0 || name.as_bytes()[place - 1] == b'/')?;
    let (model, file) = name[place + FOLDER.len()..].split_once('/')?;
    (!model.is_empty() && !file.is_empty()).then_some((model, file))
}

// === impl PackageFile ===

impl PackageFile {
    /// Reads what the package says of itself; nothing of it runs.
    pub(in crate::model) fn read(path: &Path) -> Result<Self, PackageError> {
        let damaged = |error: io::Error| PackageError::damaged(&error);
        let file = File::open(path).map_err(damaged)?;
        let length = file.metadata().map_err(damaged)?.len();
        // Said to begin where the file begins, as it does to libtorch.
        let config = Config { archive_offset: ArchiveOffset::Known(0) };
        let mut archive =
            ZipArchive::with_config(config, BufReader::new(file)).map_err(|error| PackageError::damaged(&error))?;
        let mut total = 0_u64;
        for index in 0..archive.len() {
            let member = archive.by_index_raw(index).map_err(|error| PackageError::damaged(&error))?;
            total = total.saturating_add(member.size());
        }
        if total > unpacked_limit(length) {
            return Err(PackageError::damaged(&format!("it claims to unpack to {total} bytes")));
        }
        let members = members(&archive)?;
        let find = |ending: &str| members.iter().find(|(_, file)| file.ends_with(ending)).cloned();
        let Some((_, library)) = find(".so") else { return Err(PackageError::NotCompiled) };
        if find("_weights.blob").is_some() {
            return Err(PackageError::WeightsElsewhere);
        }
        let stem = library.trim_end_matches(".so").to_owned();
        let mut text = |file: &str| match members.iter().find(|member| member.1 == file) {
            Some((name, _)) => read_text(&mut archive, name).map(Some),
            None => Ok(None),
        };
        let metadata = text(&format!("{stem}_metadata.json"))?;
        let metadata = metadata.ok_or_else(|| PackageError::damaged("it has no notes on its compilation"))?;
        let metadata = serde_json::from_str(&metadata).map_err(|error| PackageError::damaged(&error))?;
        let wrapper = text(&format!("{stem}.cpp"))?;
        let wrapper = wrapper.ok_or_else(|| PackageError::inputs("it has no wrapper.cpp"))?;
        let mut threads = Threads { fixed: 1, all_needed: false };
        for (_, file) in members.iter().filter(|(_, file)| file.ends_with(".cpp")) {
            threads.meet(&text(file)?.unwrap_or_default());
        }
        if without_weights(&wrapper) {
            return Err(PackageError::WeightsElsewhere);
        }
        let inputs = Inputs::read(&wrapper)?;
        Ok(Self { archive, members, library, metadata, inputs, threads })
    }

    /// Says no where the code was made for another machine than this one, or for another device.
    pub(in crate::model) fn judge(&self, device: Device) -> Result<(), PackageError> {
        let says = |key: &str| self.metadata.get(key).map(String::as_str);
        machine::judge(says("AOTI_PLATFORM"), says("AOTI_MACHINE"), says("AOTI_CPU_ISA"), machine::flags())?;
        let made_for =
            says("AOTI_DEVICE_KEY").ok_or_else(|| PackageError::damaged("it doesn't say for which device it is"))?;
        let remedy = match (made_for, device) {
            ("cpu", Device::Cpu) | ("cuda", Device::Cuda(_)) => return Ok(()),
            ("cpu", _) => "set deviceType: cpu in the model's config, or compile the model on the GPU",
            ("cuda", _) => {
                "serve it where there is a GPU, without deviceType: cpu in the model's config, or compile the model on the CPU"
            }
            _ => "compile the model on the CPU, or on a CUDA device",
        };
        Err(PackageError::Device { made_for: made_for.to_owned(), wanted: device.to_string(), remedy })
    }

    /// Writes what the compiled code needs to a folder of its own.
    pub(in crate::model) fn unpack(&mut self) -> Result<Unpacked, PackageError> {
        let fail = |error: io::Error| PackageError::Unpack {
            folder: std::env::temp_dir().display().to_string(),
            reason: error.to_string(),
        };
        let folder = tempfile::Builder::new().prefix("sconce-package-").tempdir().map_err(fail)?;
        for (name, file) in &self.members {
            if file.ends_with(".cpp") {
                continue;
            }
            let mut member = self.archive.by_name(name).map_err(|error| PackageError::damaged(&error))?;
            let mut out = File::create_new(folder.path().join(file)).map_err(fail)?;
            io::copy(&mut member, &mut out).map_err(fail)?;
        }
        let library = folder.path().join(&self.library);
        Ok(Unpacked { folder, library })
    }
}

/// The files of the one model that is served; all lie side by side.
fn members(archive: &ZipArchive<BufReader<File>>) -> Result<Vec<(String, String)>, PackageError> {
    let names: Vec<String> = archive
        .file_names()
        .map(|name| name.map(|name| name.to_string()))
        .collect::<Result<_, _>>()
        .map_err(|error| PackageError::damaged(&error))?;
    let models: BTreeSet<&str> = names.iter().filter_map(|name| within(name)).map(|(model, _)| model).collect();
    let served = match models.len() {
        1 => models.first().copied(),
        _ => models.get(USUAL_NAME).copied(),
    };
    let Some(served) = served else {
        let names: Vec<&str> = models.into_iter().collect();
        return Err(PackageError::Several { names: names.join(", ") });
    };
    let members = names.iter().filter_map(|name| {
        let (model, file) = within(name)?;
        // Folders within are of no use to the code, and a name with a separator could leave the folder.
        (model == served && !file.contains(['/', '\\', '\0'])).then(|| (name.clone(), file.to_owned()))
    });
    Ok(members.collect())
}

fn read_text(archive: &mut ZipArchive<BufReader<File>>, name: &str) -> Result<String, PackageError> {
    let member = archive.by_name(name).map_err(|error| PackageError::damaged(&error))?;
    let mut text = String::new();
    member.take(TEXT_LIMIT).read_to_string(&mut text).map_err(|error| PackageError::damaged(&error))?;
    Ok(text)
}

/// Whether the model's base class is told that no weights are in the library.
fn without_weights(wrapper: &str) -> bool {
    let Some((_, rest)) = wrapper.split_once("AOTInductorModelBase(") else { return false };
    let arguments = rest.split_once('{').map_or(rest, |(arguments, _)| arguments);
    arguments.trim_end().trim_end_matches(')').trim_end().ends_with("false")
}

// === impl Threads ===

impl Threads {
    /// Takes in what one file of C++ says.
    fn meet(&mut self, source: &str) {
        const FIXED: &str = "#pragma omp parallel num_threads(";
        const SHARE: &str = "const int tid = omp_get_thread_num()";
        for (place, _) in source.match_indices(FIXED) {
            let digits = source[place + FIXED.len()..].split(')').next().unwrap_or_default();
            self.fixed = self.fixed.max(digits.trim().parse().unwrap_or(1));
        }
        self.all_needed |= source.contains(SHARE);
    }
}
