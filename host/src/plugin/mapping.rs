//! What the kernel has mapped for this process, read from /proc/self/maps.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::path::PathBuf;

use super::LibraryStore;

/// How many private copies have their code mapped now, and how much of the address space they take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mapped {
    pub libraries: usize,
    pub bytes: u64,
}

/// One line of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mapping {
    pub(super) addresses: Range<u64>,
    pub(super) executable: bool,
    /// Empty where the memory has no file.
    path: PathBuf,
}

/// The copies of a store that are mapped, opened or left over.
///
/// Nothing where /proc isn't there to tell.
pub fn mapped(store: &LibraryStore) -> Mapped {
    let mappings: Vec<_> =
        all().unwrap_or_default().into_iter().filter(|mapping| mapping.path.starts_with(store.folder())).collect();
    Mapped {
        libraries: mappings
            .iter()
            .filter(|mapping| mapping.executable)
            .map(|mapping| &mapping.path)
            .collect::<HashSet<_>>()
            .len(),
        bytes: mappings.iter().map(Mapping::bytes).sum(),
    }
}

/// All mappings, from the lowest address up.
pub(super) fn all() -> io::Result<Vec<Mapping>> {
    let text = std::fs::read("/proc/self/maps")?;
    Ok(text.split(|&byte| byte == b'\n').filter_map(Mapping::parse).collect())
}

/// The mappings of one file.
pub(super) fn of(path: &Path) -> io::Result<Vec<Mapping>> {
    Ok(all()?.into_iter().filter(|mapping| mapping.path == path).collect())
}

/// The bytes of one file that are mapped.
pub(super) fn bytes(path: &Path) -> io::Result<u64> {
    Ok(of(path)?.iter().map(Mapping::bytes).sum())
}

// === impl Mapping ===

impl Mapping {
    /// Reads a line as `7f9b6ea6f000-7f9b6ea76000 r-xp 00000000 fe:00 325745   /usr/lib/libx.so`.
    fn parse(line: &[u8]) -> Option<Self> {
        let mut fields = line.splitn(6, |&byte| byte == b' ');
        let (start, end) = std::str::from_utf8(fields.next()?).ok()?.split_once('-')?;
        let number = |text| u64::from_str_radix(text, 16).ok();
        let executable = fields.next()?.contains(&b'x');
        // Offset, device and inode stand between.
        let path = fields.nth(3).unwrap_or_default().trim_ascii_start();
        Some(Self { addresses: number(start)?..number(end)?, executable, path: OsStr::from_bytes(path).into() })
    }

    fn bytes(&self) -> u64 {
        self.addresses.end - self.addresses.start
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_whole() {
        let line = b"7f00-7f80 r-xp 00000000 fe:00 325745                     /tmp/with spaces/libx.so";
        let mapping = Mapping::parse(line).unwrap();
        assert_eq!(mapping.addresses, 0x7f00..0x7f80);
        assert_eq!((mapping.bytes(), mapping.executable), (0x80, true));
        assert_eq!(mapping.path, Path::new("/tmp/with spaces/libx.so"));
        let anonymous = Mapping::parse(b"7f9b6ea61000-7f9b6ea6e000 rw-p 00000000 00:00 0 ").unwrap();
        assert_eq!((anonymous.path.as_os_str(), anonymous.executable), (OsStr::new(""), false));
        assert_eq!(Mapping::parse(b""), None);
    }

    #[test]
    fn this_program_is_mapped_and_a_file_that_nobody_opened_is_not() {
        assert!(bytes(&std::env::current_exe().unwrap()).unwrap() > 0);
        assert_eq!(bytes(Path::new("/nowhere/libx.so")).unwrap(), 0);
    }
}
