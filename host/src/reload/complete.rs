//! Whether a file looks as if it had been written to its end.
//!
//! A cheap look, which saves a refusal while a slow copy stands still; what is wrong with a file is found by those who open it.

use std::fs::File;
use std::io;
use std::io::Read;
use std::io::Seek;
use std::io::SeekFrom;
use std::path::Path;

/// The beginning of an ELF file of 64 bits.
const ELF_HEADER: usize = 64;

/// A zip's last record, without the comment that may follow it.
const ZIP_END: u64 = 22;
const LONGEST_COMMENT: u64 = 0xffff;

pub(super) fn looks_complete(path: &Path) -> io::Result<bool> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut head = Vec::with_capacity(ELF_HEADER);
    Read::by_ref(&mut file).take(ELF_HEADER as u64).read_to_end(&mut head)?;
    match head.as_slice() {
        [] => Ok(false),
        [0x7f, b'E', b'L', b'F', ..] => Ok(elf_ends_within(&head, length)),
        [b'P', b'K', 3, 4, ..] => zip_has_an_end(&mut file, length),
        _ => Ok(true),
    }
}

/// Linkers write the table of sections last. Other forms than the 64-bit little-endian one are for the refusal to name.
fn elf_ends_within(head: &[u8], length: u64) -> bool {
    const CLASS_64: u8 = 2;
    const LITTLE_ENDIAN: u8 = 1;
    let (Some(table), Some(size), Some(count)) =
        (number::<8>(head, 0x28), number::<2>(head, 0x3a), number::<2>(head, 0x3c))
    else {
        return false;
    };
    let known = head[4] == CLASS_64 && head[5] == LITTLE_ENDIAN;
    !known || table.checked_add(size * count).is_some_and(|end| end <= length)
}

/// A little-endian number of so many bytes.
fn number<const SIZE: usize>(bytes: &[u8], place: usize) -> Option<u64> {
    let mut wide = [0; 8];
    wide[..SIZE].copy_from_slice(bytes.get(place..place + SIZE)?);
    Some(u64::from_le_bytes(wide))
}

/// The end-of-central-directory record, with a comment that reaches to the end of the file: a zip inside a truncated one has such a record too.
fn zip_has_an_end(file: &mut File, length: u64) -> io::Result<bool> {
    let tail = length.min(ZIP_END + LONGEST_COMMENT);
    file.seek(SeekFrom::Start(length - tail))?;
    let mut bytes = Vec::new();
    file.take(tail).read_to_end(&mut bytes)?;
    let is_end = |place: usize| {
        let comment = number::<2>(&bytes, place + 20);
        bytes[place..].starts_with(b"PK\x05\x06") && comment.is_some_and(|size| place as u64 + ZIP_END + size == tail)
    };
    Ok((0..bytes.len()).rev().any(is_end))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::reload::bench::library;

    fn complete(bytes: &[u8]) -> bool {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        looks_complete(file.path()).unwrap()
    }

    #[test]
    fn a_library_is_complete_with_its_table_of_sections() {
        assert!(looks_complete(&std::env::current_exe().unwrap()).unwrap());
        let library = library();
        assert!(complete(&library));
        for length in [0, 5, 63, 64, 100, library.len() - 1] {
            assert!(!complete(&library[..length]), "{length} bytes");
        }
        let mut foreign = library[..64].to_vec();
        foreign[4] = 1;
        assert!(complete(&foreign));
        let mut absurd = library;
        absurd[0x28..0x30].fill(0xff);
        assert!(!complete(&absurd));
    }

    #[test]
    fn a_zip_is_complete_with_its_last_record() {
        let end = b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
        let zip = [b"PK\x03\x04 members ".as_slice(), end, &[0, 0]].concat();
        assert!(complete(&zip));
        assert!(!complete(&zip[..zip.len() - 1]));
        // A comment, and a whole zip as the first half of another.
        assert!(complete(&[b"PK\x03\x04".as_slice(), end, &[3, 0], b"abc"].concat()));
        assert!(!complete(&[zip.as_slice(), b" more members"].concat()));
    }

    #[test]
    fn other_files_tell_nothing() {
        assert!(complete(b"\x1f\x8b half a tar"));
        assert!(complete(b"x"));
        assert!(looks_complete(Path::new("/nowhere")).is_err());
    }
}
