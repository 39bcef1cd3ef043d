//! What a library's file says before any of its code has run.

use std::fs::File;
use std::io;
use std::io::Read;
use std::io::Seek;
use std::path::Path;
use std::path::PathBuf;

use abi_stable::library::ROOT_MODULE_LOADER_NAME;
use handler_sdk::abi::note;
use handler_sdk::abi::note::Note;
use object::Object;
use object::ObjectKind;
use object::ObjectSection;
use object::ObjectSymbol;
use object::ReadCache;
use object::elf;
use object::read::elf::Dyn;
use object::read::elf::ElfFile64;
use object::read::elf::FileHeader;

use super::PluginError;
use super::Refusal;
use super::StagedLibrary;

/// A library that was looked at, and not opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LibraryFile {
    pub path: PathBuf,
    pub note: Note,
    /// The libraries it asks the loader for.
    pub needed: Vec<String>,
    /// Whether it exports the symbol by which a host enters it.
    pub has_root: bool,
}

/// The section in which nvcc puts what it compiled.
const CUDA_CODE: &str = ".nv_fatbin";

// === impl LibraryFile ===

impl LibraryFile {
    /// Reads the note and what the loader would do; no code of the library runs.
    pub fn read(path: &Path) -> Result<Self, PluginError> {
        let file = File::open(path).map_err(|source| PluginError::Io {
            what: "open",
            path: path.to_owned(),
            cause: source,
        })?;
        Self::parse(path, &file).map_err(|refusal| PluginError::Refused { path: path.to_owned(), refusal })
    }

    /// Reads a private copy; what is said of it names the author's file.
    ///
    /// What is judged must be what is opened: the author's file may be another by then.
    pub fn read_staged(staged: &StagedLibrary) -> Result<Self, PluginError> {
        let mut file = Self::read(staged.path()).map_err(|error| match error {
            PluginError::Refused { refusal, .. } => PluginError::Refused { path: staged.source().to_owned(), refusal },
            error => error,
        })?;
        staged.source().clone_into(&mut file.path);
        Ok(file)
    }

    fn parse(path: &Path, file: &File) -> Result<Self, Refusal> {
        let not_a_library = |reason: String| Refusal::NotALibrary { reason };
        let broken = |error: object::Error| Refusal::Damaged { reason: error.to_string() };
        // The cache reads only the pages that are asked for: a debug build has many megabytes.
        let cache = ReadCache::new(file);
        let elf: ElfFile64<'_, object::Endianness, _> =
            ElfFile64::parse(&cache).map_err(|error| match is_elf(file) {
                true => broken(error),
                false => not_a_library(format!("it is no 64-bit ELF file ({error})")),
            })?;
        if elf.kind() != ObjectKind::Dynamic {
            return Err(not_a_library(format!("it is an ELF file of kind {:?}", elf.kind())));
        }
        let section = elf.section_by_name(note::SECTION).ok_or(Refusal::NoNote { section: note::SECTION })?;
        let note = Note::parse(section.data().map_err(broken)?)
            .map_err(|error| Refusal::BadNote { reason: error.to_string() })?;
        let has_root =
            elf.dynamic_symbols().any(|symbol| symbol.is_definition() && symbol.name() == Ok(ROOT_MODULE_LOADER_NAME));
        Ok(Self { path: path.to_owned(), note, needed: needed(&elf).map_err(broken)?, has_root })
    }

    /// The names of its handlers.
    pub fn handler_names(&self) -> Vec<String> {
        self.note.handlers.iter().map(|handler| handler.name.clone()).collect()
    }

    /// The handler that is called `name`, by its own name or its type's.
    pub fn handler(&self, name: &str) -> Result<&str, PluginError> {
        let found = self.note.handlers.iter().find(|handler| handler.name == name || handler.type_name == name);
        found.map(|handler| handler.name.as_str()).ok_or_else(|| PluginError::NoSuchHandler {
            path: self.path.clone(),
            name: name.to_owned(),
            found: self.handler_names(),
        })
    }
}

/// Whether the file brings CUDA code of its own, which a constructor registers.
pub(super) fn has_cuda_code(path: &Path) -> io::Result<bool> {
    let file = File::open(path)?;
    let cache = ReadCache::new(&file);
    let elf: ElfFile64<'_, object::Endianness, _> = ElfFile64::parse(&cache).map_err(io::Error::other)?;
    Ok(elf.section_by_name(CUDA_CODE).is_some())
}

fn is_elf(mut file: &File) -> bool {
    let mut magic = [0; 4];
    file.rewind().and_then(|()| file.read_exact(&mut magic)).is_ok() && magic == elf::ELFMAG
}

fn needed<'data, R: object::ReadRef<'data>>(
    elf: &ElfFile64<'data, object::Endianness, R>,
) -> Result<Vec<String>, object::Error> {
    let (endian, data) = (elf.endian(), elf.data());
    let sections = elf.elf_header().sections(endian, data)?;
    let Some((entries, link)) = sections.dynamic(endian, data)? else {
        return Ok(Vec::new());
    };
    let strings = sections.strings(endian, data, link)?;
    entries
        .iter()
        .take_while(|entry| entry.d_tag(endian) != elf::DT_NULL)
        .filter(|entry| entry.d_tag(endian) == elf::DT_NEEDED)
        .map(|entry| Ok(String::from_utf8_lossy(entry.string(endian, strings)?).into_owned()))
        .collect()
}
