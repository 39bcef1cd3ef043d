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
    pub demands: Demands,
    /// Whether it exports the symbol by which a host enters it.
    pub has_root: bool,
}

/// The section in which nvcc puts what it compiled.
const CUDA_CODE: &str = ".nv_fatbin";

/// What a library asks of the loader and of the libraries that it shares with others.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Demands {
    /// The libraries that are to be loaded with it.
    pub needed: Vec<String>,
    /// Where they are looked for first.
    pub search_path: Option<String>,
    /// Whether it takes from the loader's small reserve of thread-local storage.
    pub static_tls: bool,
    /// Whether it adds operators to libtorch's table.
    pub registers_operators: bool,
}

/// How the names of the constructor of `torch::Library` begin, which every registration of operators calls.
const OPERATORS: [&str; 2] = ["_ZN5torch7LibraryC1E", "_ZN5torch7LibraryC2E"];

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
        Ok(Self { path: path.to_owned(), note, demands: Demands::of(&elf).map_err(broken)?, has_root })
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

// === impl Demands ===

impl Demands {
    fn of<'data, R: object::ReadRef<'data>>(
        elf: &ElfFile64<'data, object::Endianness, R>,
    ) -> Result<Self, object::Error> {
        let mut demands = Self {
            registers_operators: elf.dynamic_symbols().any(|symbol| {
                let name = symbol.name().unwrap_or_default();
                symbol.is_undefined() && OPERATORS.iter().any(|start| name.starts_with(start))
            }),
            ..Self::default()
        };
        let (endian, data) = (elf.endian(), elf.data());
        let sections = elf.elf_header().sections(endian, data)?;
        let Some((entries, link)) = sections.dynamic(endian, data)? else {
            return Ok(demands);
        };
        let strings = sections.strings(endian, data, link)?;
        for entry in entries.iter().take_while(|entry| entry.d_tag(endian) != elf::DT_NULL) {
            let text = || Ok(String::from_utf8_lossy(entry.string(endian, strings)?).into_owned());
            match entry.d_tag(endian) {
                elf::DT_NEEDED => demands.needed.push(text()?),
                elf::DT_RUNPATH | elf::DT_RPATH => demands.search_path = Some(text()?),
                elf::DT_FLAGS => demands.static_tls = entry.d_val(endian) & elf::DF_STATIC_TLS.0 != 0,
                _ => {}
            }
        }
        Ok(demands)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::testing::compile;

    fn demands(path: &Path) -> Demands {
        let file = File::open(path).unwrap();
        let cache = ReadCache::new(&file);
        Demands::of(&ElfFile64::parse(&cache).unwrap()).unwrap()
    }

    #[test]
    fn the_thread_local_storage_of_the_reserve_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let source = "static __thread int count; int *counter(void) { return &count; }";
        let reserve = compile(folder.path(), "reserve", source, &["-ftls-model=initial-exec"]);
        let own = compile(folder.path(), "own", source, &["-ftls-model=global-dynamic"]);
        assert!(demands(&reserve).static_tls);
        assert!(!demands(&own).static_tls);
    }

    #[test]
    fn a_registration_of_operators_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let calls = |symbol: &str| format!("void other(void) __asm__(\"{symbol}\"); void call(void) {{ other(); }}");
        // The names in libtorch 2.11 are longer: the types of what the constructor is given follow.
        let registers = calls("_ZN5torch7LibraryC1ENS0_4KindEPKcj");
        let only_calls = calls("_ZN5torch7Library5resetEv");
        assert!(demands(&compile(folder.path(), "registers", &registers, &[])).registers_operators);
        assert!(!demands(&compile(folder.path(), "calls", &only_calls, &[])).registers_operators);
    }

    #[test]
    fn what_is_to_be_loaded_with_it_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        compile(folder.path(), "other", "int other(void) { return 1; }", &[]);
        let place = format!("-L{}", folder.path().display());
        let source = "int other(void); int call(void) { return other(); }";
        let library = compile(folder.path(), "x", source, &[&place, "-lother", "-Wl,-rpath,$ORIGIN"]);
        let demands = demands(&library);
        assert!(demands.needed.iter().any(|name| name == "libother.so"), "{demands:?}");
        assert_eq!(demands.search_path.as_deref(), Some("$ORIGIN"));
    }
}
