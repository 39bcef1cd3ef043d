//! Archives that lie: each is refused with a sentence, and leaves nothing behind.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;

use flate2::Compression;
use flate2::write::GzEncoder;
use tar::EntryType;

use crate::archive::Limits;
use crate::archive::Package;

/// One member of a zip made by hand: what a zip crate wouldn't write.
#[derive(Clone)]
struct Raw {
    name: Vec<u8>,
    data: Vec<u8>,
    flags: u16,
    method: u16,
    mode: u32,
    claimed_size: Option<u32>,
    crc: Option<u32>,
    /// Points its central entry at the header of the first member.
    overlaps: bool,
}

impl Raw {
    fn new(name: &str) -> Self {
        Self {
            name: name.as_bytes().to_vec(),
            data: b"content".to_vec(),
            flags: 0x800,
            method: 0,
            mode: 0o100_644,
            claimed_size: None,
            crc: None,
            overlaps: false,
        }
    }
}

fn zip(members: &[Raw]) -> Vec<u8> {
    let mut file = Vec::new();
    let mut central = Vec::new();
    for raw in members {
        let start = if raw.overlaps { 0 } else { file.len() };
        let mut crc = flate2::Crc::new();
        crc.update(&raw.data);
        let crc = raw.crc.unwrap_or(crc.sum());
        let packed = raw.data.len() as u32;
        let size = raw.claimed_size.unwrap_or(packed);
        let mut common = Vec::new();
        common.extend(20_u16.to_le_bytes());
        common.extend(raw.flags.to_le_bytes());
        common.extend(raw.method.to_le_bytes());
        common.extend([0, 0, 0x21, 0]);
        common.extend(crc.to_le_bytes());
        common.extend(packed.to_le_bytes());
        common.extend(size.to_le_bytes());
        common.extend((raw.name.len() as u16).to_le_bytes());
        common.extend(0_u16.to_le_bytes());
        file.extend(b"PK\x03\x04");
        file.extend(&common);
        file.extend(&raw.name);
        file.extend(&raw.data);
        central.extend(b"PK\x01\x02");
        central.extend([20, 3]);
        central.extend(&common);
        central.extend([0; 6]);
        central.extend((raw.mode << 16).to_le_bytes());
        central.extend((start as u32).to_le_bytes());
        central.extend(&raw.name);
    }
    let start = file.len() as u32;
    file.extend(&central);
    file.extend(b"PK\x05\x06\0\0\0\0");
    file.extend((members.len() as u16).to_le_bytes());
    file.extend((members.len() as u16).to_le_bytes());
    file.extend((central.len() as u32).to_le_bytes());
    file.extend(start.to_le_bytes());
    file.extend([0, 0]);
    file
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(content).unwrap();
    gzip.finish().unwrap()
}

/// A tar of members with names that the tar crate itself wouldn't write.
fn tar(members: &[(&str, EntryType, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, kind, content) in members {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(*kind);
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        if matches!(kind, EntryType::Symlink | EntryType::Link) {
            header.set_link_name("/etc/passwd").unwrap();
        }
        if *kind == EntryType::GNUSparse {
            header.as_gnu_mut().unwrap().realsize = *b"00000000000\0";
        }
        header.set_cksum();
        tar.append(&header, *content).unwrap();
    }
    tar.into_inner().unwrap()
}

fn tgz(members: &[(&str, EntryType, &[u8])]) -> Vec<u8> {
    gzip(&tar(members))
}

/// Opens an archive of these bytes, and checks that a refusal leaves nothing behind.
fn open(bytes: &[u8], limits: &Limits) -> Result<Vec<String>, String> {
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("hostile.mar");
    fs::write(&archive, bytes).unwrap();
    let work = folder.path().join("work/below");
    let result = Package::open_within(&archive, &work, limits)
        .map(|package| package.members.iter().map(|m| m.name.clone()).collect())
        .map_err(|e| e.to_string());
    assert_eq!(files_below(folder.path()), [archive], "{result:?}");
    result
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    let nested = |path: PathBuf| match path.is_dir() {
        true => files_below(&path),
        false => vec![path],
    };
    entries.flat_map(nested).collect()
}

fn refused(bytes: &[u8], limits: &Limits, expected: &str) {
    let message = open(bytes, limits).unwrap_err();
    assert!(message.contains("hostile.mar"), "{message}");
    assert!(message.contains(expected), "{expected:?} not in {message:?}");
    assert!(!message.contains('\n'), "{message}");
}

#[test]
fn the_raw_builders_make_good_archives_too() {
    let good = [Raw::new("a/b.txt"), Raw::new("c.txt")];
    assert_eq!(open(&zip(&good), &Limits::default()).unwrap(), ["a/b.txt", "c.txt"]);
    let good = tgz(&[
        ("./", EntryType::Directory, b""),
        ("./a/", EntryType::Directory, b""),
        ("./a/b.txt", EntryType::Regular, b"1"),
        ("./c.txt", EntryType::Regular, b"2"),
    ]);
    assert_eq!(open(&good, &Limits::default()).unwrap(), ["a/b.txt", "c.txt"]);
    assert!(open(&zip(&[]), &Limits::default()).unwrap().is_empty());
}

#[test]
fn zip_members_that_lie() {
    let raw = |name: &str| Raw::new(name);
    let with = |change: fn(&mut Raw)| {
        let mut raw = Raw::new("m.pt");
        change(&mut raw);
        raw
    };
    for (member, expected) in [
        (raw("../evil"), "member \"../evil\" would land outside"),
        (raw("a/../../evil"), "would land outside"),
        (raw("/etc/evil"), "has an absolute path"),
        (raw("C:/evil"), "has an absolute path"),
        (raw("..\\evil"), "has a backslash"),
        (raw("a\0b"), "has a control character"),
        (raw("a\u{1b}[2Jb"), "has a control character"),
        (with(|r| r.mode = 0o120_777), "is a link"),
        (with(|r| r.mode = 0o020_644), "is neither a file nor a folder"),
        (with(|r| r.flags |= 1), "is encrypted"),
        (with(|r| r.method = 93), "neither deflate nor stored"),
        (with(|r| r.crc = Some(7)), "is broken (Invalid checksum"),
        (with(|r| r.method = 8), "is broken ("),
    ] {
        refused(&zip(&[raw("ok.txt"), member]), &Limits::default(), expected);
    }
}

#[test]
fn zip_members_that_stand_in_each_others_way() {
    let twice = [Raw::new("m.pt"), Raw::new("m.pt")];
    refused(&zip(&twice), &Limits::default(), "a name is there twice");
    let twice = [Raw::new("m.pt"), Raw::new("./m.pt")];
    refused(&zip(&twice), &Limits::default(), "member \"./m.pt\" is there twice");
    let file_and_folder = [Raw::new("m"), Raw::new("m/n")];
    refused(&zip(&file_and_folder), &Limits::default(), "a file and a folder at once");
    let mut overlapping = Raw::new("n.pt");
    overlapping.overlaps = true;
    refused(&zip(&[Raw::new("m.pt"), overlapping]), &Limits::default(), "overlap");
}

#[test]
fn broken_files() {
    let whole = zip(&[Raw::new("m.pt")]);
    refused(&whole[..whole.len() / 2], &Limits::default(), "is broken or cut short");
    refused(b"PK\x03\x04", &Limits::default(), "is broken or cut short");
    let whole = tgz(&[("m/m.pt", EntryType::Regular, &[7; 5000])]);
    for cut in [3, whole.len() / 2, whole.len() - 1] {
        refused(&whole[..cut], &Limits::default(), "broken");
    }
    let mut flipped = whole.clone();
    let crc = flipped.len() - 6;
    flipped[crc] ^= 1;
    refused(&flipped, &Limits::default(), "is broken or cut short");
    refused(&gzip(&[b'x'; 2000]), &Limits::default(), "is broken or cut short");
    for nothing in [&b""[..], b"hello", b"\x7fELF....", b"Rar!\x1a\x07\0"] {
        refused(nothing, &Limits::default(), "is neither a zip nor a gzipped tar");
    }
}

#[test]
fn tar_members_that_lie() {
    use EntryType::*;
    for (name, kind, expected) in [
        ("../evil", Regular, "would land outside"),
        ("m/../../evil", Regular, "would land outside"),
        ("/etc/evil", Regular, "has an absolute path"),
        ("..\\evil", Regular, "has a backslash"),
        ("../", Directory, "would land outside"),
        ("m/link", Symlink, "is a link"),
        ("m/link", Link, "is a link"),
        ("m/dev", Char, "is neither a file nor a folder"),
        ("m/dev", Block, "is neither a file nor a folder"),
        ("m/pipe", Fifo, "is neither a file nor a folder"),
        ("m/ok", Regular, "is there twice"),
        ("m/ok/below", Regular, "a file and a folder at once"),
        ("m/sparse", GNUSparse, "is stored as a sparse file"),
    ] {
        let bytes = tgz(&[("m/ok", Regular, b"1"), (name, kind, b"")]);
        refused(&bytes, &Limits::default(), expected);
    }
}

#[test]
fn limits_count_real_bytes() {
    let limits = Limits { members: 3, member_bytes: 10, total_bytes: 15, ..Limits::default() };
    let sized = |name: &str, size: usize| {
        let mut raw = Raw::new(name);
        raw.data = vec![1; size];
        raw
    };
    refused(&zip(&[sized("a", 11)]), &limits, "\"a\" is larger than the 10 bytes");
    refused(&zip(&[sized("a", 8), sized("b", 8)]), &limits, "more than the 15 bytes allowed for one archive");
    let four: Vec<Raw> = ["a", "b", "c", "d"].map(|name| sized(name, 1)).into();
    refused(&zip(&four), &limits, "more than the 3 members");
    let folders = [("a/", EntryType::Directory, &b""[..]); 4];
    refused(&tgz(&folders), &limits, "more than the 3 members");
    refused(&tgz(&[("a", EntryType::Regular, &[1; 11])]), &limits, "\"a\" is larger than the 10 bytes");
    // A header that claims less than comes is found out.
    let mut liar = sized("a", 9);
    let mut deflate = flate2::write::DeflateEncoder::new(Vec::new(), Compression::best());
    deflate.write_all(&[0; 5000]).unwrap();
    liar.data = deflate.finish().unwrap();
    liar.method = 8;
    liar.claimed_size = Some(9);
    let message = open(&zip(&[liar]), &limits).unwrap_err();
    assert!(message.contains("\"a\" is "), "{message}");
}

#[test]
fn bombs() {
    let limits = Limits { ratio_from: 100_000, ..Limits::default() };
    let zeros = vec![0; 1_000_000];
    let mut deflate = flate2::write::DeflateEncoder::new(Vec::new(), Compression::best());
    deflate.write_all(&zeros).unwrap();
    let mut bomb = Raw::new("zeros");
    bomb.data = deflate.finish().unwrap();
    bomb.method = 8;
    bomb.claimed_size = Some(1_000_000);
    let mut crc = flate2::Crc::new();
    crc.update(&zeros);
    bomb.crc = Some(crc.sum());
    assert!(open(&zip(&[bomb.clone()]), &Limits::default()).is_ok());
    refused(&zip(&[bomb]), &limits, "more than 200 times its size");
    let bytes = tgz(&[("zeros", EntryType::Regular, &zeros)]);
    refused(&bytes, &limits, "more than 200 times its size");
    // A long name is read into memory, so it may not be longer than names are.
    let name = vec![b'n'; 8 << 20];
    let bytes = tgz(&[("././@LongLink", EntryType::GNULongName, &name)]);
    refused(&bytes, &Limits::default(), "its headers are too large");
}
