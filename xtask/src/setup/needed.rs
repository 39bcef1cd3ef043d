//! Which libraries a library needs, and which of them the system brings.

use std::collections::{BTreeSet, VecDeque};
use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result};
use object::read::ReadCache;
use object::read::elf::ElfFile64;
use object::{LittleEndian, elf};

/// What glibc and the C++ runtime of every Linux bring; a wheel's copy would be a second one.
const SYSTEM: [&str; 9] =
    ["libc", "libdl", "libgcc_s", "libm", "libpthread", "libresolv", "librt", "libstdc++", "libutil"];

/// Library names still to be found, each once.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    open: VecDeque<String>,
    seen: BTreeSet<String>,
}

// === impl Wanted ===

impl Wanted {
    /// Adds what isn't known yet and isn't the system's.
    pub(crate) fn add(&mut self, names: impl IntoIterator<Item = String>) {
        for name in names {
            if !is_system(&name) && self.seen.insert(name.clone()) {
                self.open.push_back(name);
            }
        }
    }

    /// Puts a name back that was taken too early.
    pub(crate) fn again(&mut self, name: String) {
        self.open.push_back(name);
    }

    pub(crate) fn next(&mut self) -> Option<String> {
        self.open.pop_front()
    }
}

/// The names that a library asks the loader for.
pub(crate) fn needed_by(library: &Path) -> Result<Vec<String>> {
    let read = || -> Result<Vec<String>> {
        // Only the parts that are asked for are read: the file has hundreds of megabytes.
        let cache = ReadCache::new(File::open(library)?);
        let file = ElfFile64::<LittleEndian, _>::parse(&cache)?;
        let table = file.elf_dynamic_table()?;
        table
            .iter()
            .filter(|entry| entry.tag == elf::DT_NEEDED)
            .map(|entry| Ok(String::from_utf8_lossy(table.string(entry)?).into_owned()))
            .collect()
    };
    read().with_context(|| format!("{} can't be read as a library", library.display()))
}

fn is_system(name: &str) -> bool {
    let stem = name.split(".so").next().unwrap_or(name);
    name.starts_with("ld-linux") || SYSTEM.contains(&stem)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_systems_libraries_are_left_to_the_system() {
        let mut wanted = Wanted::default();
        wanted.add(names(&["libtorch_cpu.so", "libc10.so"]));
        // As libtorch_cpu.so of the aarch64 wheel has it.
        wanted.add(names(&[
            "libc10.so",
            "librt.so.1",
            "libgcc_s.so.1",
            "libnvpl_lapack_lp64_gomp.so.0",
            "libm.so.6",
            "libgomp.so.1",
            "libcudart.so.13",
            "libstdc++.so.6",
            "libc.so.6",
            "ld-linux-aarch64.so.1",
        ]));
        let found: Vec<String> = std::iter::from_fn(|| wanted.next()).collect();
        assert_eq!(
            found,
            ["libtorch_cpu.so", "libc10.so", "libnvpl_lapack_lp64_gomp.so.0", "libgomp.so.1", "libcudart.so.13"]
        );
        wanted.add(names(&["libgomp.so.1"]));
        assert_eq!(wanted.next(), None);
    }

    #[test]
    fn a_real_program_names_the_c_library() {
        let this = std::env::current_exe().unwrap();
        let needed = needed_by(&this).unwrap();
        assert!(needed.iter().any(|name| name == "libc.so.6"), "{needed:?}");
    }

    #[test]
    fn what_is_no_library_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "text").unwrap();
        let message = format!("{:#}", needed_by(file.path()).unwrap_err());
        assert!(message.contains("can't be read as a library"), "{message}");
    }
}
