//! Files made to do harm: each is an error, in bounded time and memory.

use std::path::Path;

use zip::CompressionMethod;

use super::tests::expected;
use super::tests::file;
use super::tests::tensors;
use super::tests::testdata;
use super::tests::zip_of;
use super::*;

/// Reads everything; `Err` is what was wrong.
fn read_whole(path: &Path) -> Result<usize, String> {
    let tensors = match read(path).map_err(|error| error.to_string())? {
        Contents::StateDict(tensors) => tensors,
        Contents::TorchScript | Contents::Package => return Ok(0),
    };
    let mut total = 0;
    for tensor in &tensors {
        total += tensor.bytes().map_err(|error| error.to_string())?.len();
    }
    Ok(total)
}

/// A zip with that pickle and one storage of that many zero bytes.
fn torch_zip(pickle: &[u8], storage: usize) -> Vec<u8> {
    let storage = vec![0; storage];
    zip_of(&[("m/data.pkl", pickle), ("m/data/0", &storage)], CompressionMethod::Stored)
}

/// A file of the format before PyTorch 1.6 with that pickle and no storages.
fn legacy(pickle: &[u8]) -> Vec<u8> {
    let mut bytes = std::fs::read(testdata().join("module_legacy.pt")).unwrap();
    let info = b"uu.\x80\x02";
    let object = bytes.windows(info.len()).position(|window| window == info).unwrap() + 3;
    bytes.truncate(object);
    bytes.extend_from_slice(pickle);
    bytes.extend_from_slice(b"\x80\x02].");
    bytes
}

fn text(text: &str) -> Vec<u8> {
    let mut bytes = vec![b'X'];
    bytes.extend_from_slice(&(text.len() as u32).to_le_bytes());
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

fn int(value: i64) -> Vec<u8> {
    let mut bytes = vec![0x8a, 8];
    bytes.extend_from_slice(&value.to_le_bytes());
    bytes
}

fn tuple(items: &[i64]) -> Vec<u8> {
    let items: Vec<u8> = items.iter().copied().flat_map(int).collect();
    [b"(".as_slice(), &items, b"t"].concat()
}

/// `{"w": a float32 tensor}` over storage 0, which claims `numel` elements.
fn one_tensor(numel: i64, offset: i64, shape: &[i64], stride: &[i64]) -> Vec<u8> {
    [
        b"\x80\x02}".as_slice(),
        &text("w"),
        b"ctorch._utils\n_rebuild_tensor_v2\n((",
        &text("storage"),
        b"ctorch\nFloatStorage\n",
        &text("0"),
        &text("cpu"),
        &int(numel),
        b"tQ",
        &int(offset),
        &tuple(shape),
        &tuple(stride),
        b"\x89}tRs.",
    ]
    .concat()
}

#[test]
fn the_files_made_here_are_well_formed() {
    let (_folder, path) = file("model.pt", &torch_zip(&one_tensor(6, 0, &[2, 3], &[3, 1]), 24));
    assert_eq!(tensors(&path).unwrap()[0].shape, [2, 3]);
    assert_eq!(read_whole(&path), Ok(24));
}

#[test]
fn a_tensor_reaches_no_further_than_its_storage() {
    let table: [(i64, i64, &[i64], &[i64]); 11] = [
        (6, 1, &[2, 3], &[3, 1]),
        (6, -1, &[2, 3], &[3, 1]),
        (6, 0, &[2, 3], &[4, 1]),
        (6, 0, &[2, 3], &[-3, 1]),
        (6, 0, &[-2, 3], &[3, 1]),
        (6, 0, &[2, 3], &[3]),
        (6, i64::MAX, &[1], &[1]),
        (7, 0, &[7], &[1]),
        (i64::MAX, 0, &[1 << 40], &[1]),
        (i64::MAX / 4, 0, &[i64::MAX / 4], &[1]),
        (1, 0, &[1 << 31, 1 << 31, 1 << 31], &[0, 0, 0]),
    ];
    for (numel, offset, shape, stride) in table {
        let (_folder, path) = file("model.pt", &torch_zip(&one_tensor(numel, offset, shape, stride), 24));
        let read = read_whole(&path);
        assert!(read.is_err(), "{numel} {offset} {shape:?} {stride:?}: {read:?}");
    }
}

#[test]
fn a_small_file_does_not_become_large_in_memory() {
    // Each is below the limit for one tensor; together they aren't.
    let entry = |name: &str| {
        let tensor = one_tensor(1, 0, &[1 << 28], &[0]);
        let tensor = tensor.strip_prefix(b"\x80\x02}\x58\x01\0\0\0w").unwrap();
        [text(name), tensor.strip_suffix(b".").unwrap().to_vec()].concat()
    };
    let pickle = [b"\x80\x02}".as_slice(), &entry("a"), &entry("b"), b"."].concat();
    let (_folder, path) = file("model.pt", &torch_zip(&pickle, 4));
    let message = read_whole(&path).unwrap_err();
    assert!(message.contains("claims 2147483648 bytes of tensors"), "{message}");

    // A pickle of a few thousand bytes that unpacks to more than is allowed.
    let pickle = [b"\x80\x02".as_slice(), &vec![b'N'; 17 << 20], b"."].concat();
    let content = zip_of(&[("m/data.pkl", &pickle)], CompressionMethod::Deflated);
    assert!(content.len() < 1 << 16);
    let (_folder, path) = file("model.pt", &content);
    let message = read_whole(&path).unwrap_err();
    assert!(message.contains("bytes of pickle"), "{message}");
}

#[test]
fn hostile_pickles_are_refused() {
    let nested = |depth: usize| [b"\x80\x02".as_slice(), &vec![b']'; depth], &vec![b'a'; depth - 1], b"."].concat();
    let nested_tuples = [b"\x80\x02N".as_slice(), &vec![0x85; 1_000_000], b"."].concat();
    // Forty lists, each of ten times the one before.
    let mut laughs = b"\x80\x02]q\x00".to_vec();
    for level in 0..40_u8 {
        laughs.extend_from_slice(b"](");
        for _ in 0..10 {
            laughs.extend_from_slice(&[b'h', level]);
        }
        laughs.extend_from_slice(&[b'e', b'q', level + 1]);
    }
    laughs.push(b'.');
    let table: [(&str, &[u8]); 14] = [
        ("deep lists", &nested(100_000)),
        ("deep tuples", &nested_tuples),
        ("copies of copies", &laughs),
        (
            "a list in itself, a million times",
            &[b"\x80\x02]q\x00".as_slice(), &b"h\x00aq\x00".repeat(200_000), b"."].concat(),
        ),
        ("a memo that isn't there", b"\x80\x02h\x07."),
        ("a memo that isn't there, far away", b"\x80\x02j\xff\xff\xff\xff."),
        ("an empty stack", b"\x80\x02a."),
        ("no mark", b"\x80\x02t."),
        ("a text without an end", b"\x80\x02X\xff\xff\xff\xffabc"),
        ("a text of 2^63 bytes", b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x7fabc"),
        ("a long of 2^31 bytes", b"\x80\x02\x8b\xff\xff\xff\x7f1"),
        ("code to run", b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00id\x85R."),
        ("an unknown opcode", b"\x80\x02\xff."),
        ("an unknown protocol", b"\x80\x09}."),
    ];
    for (what, pickle) in table {
        for content in [torch_zip(pickle, 0), legacy(pickle)] {
            let (_folder, path) = file("model.pt", &content);
            let read = read_whole(&path);
            assert!(read.is_err(), "{what}: {read:?}");
        }
    }
}

#[test]
fn a_safetensors_header_is_not_believed() {
    let with = |length: u64, rest: &[u8]| [&length.to_le_bytes(), rest].concat();
    let header = br#"{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
    let overlapping =
        br#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}"#;
    let huge = br#"{"w":{"dtype":"F32","shape":[4611686018427387905,4],"data_offsets":[0,4]}}"#;
    let nested = [b"{\"w\":".as_slice(), &vec![b'['; 100_000]].concat();
    let length = header.len() as u64;
    let table = [
        with(u64::MAX, header),
        with(length + 1, header),
        with(length, header),
        with(length, &[header.as_slice(), b"12345"].concat()),
        with(overlapping.len() as u64, &[overlapping.as_slice(), b"1234"].concat()),
        with(huge.len() as u64, &[huge.as_slice(), b"1234"].concat()),
        with(nested.len() as u64, &nested),
        with(2, b"{}"),
        b"1234".to_vec(),
    ];
    for content in table {
        let (_folder, path) = file("model.safetensors", &content);
        assert!(read_whole(&path).is_err(), "{}", content.escape_ascii());
    }
    let (_folder, path) = file("model.safetensors", &with(length, &[header.as_slice(), b"1234"].concat()));
    assert_eq!(read_whole(&path), Ok(4));
}

#[test]
fn a_file_cut_short_anywhere_is_refused() {
    for name in expected().keys() {
        let content = std::fs::read(testdata().join(name)).unwrap();
        let (_folder, path) = file(name, &content);
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        for length in (0..content.len()).rev() {
            file.set_len(length as u64).unwrap();
            let read = read_whole(&path);
            assert!(read.is_err(), "{name} with {length} bytes: {read:?}");
        }
    }
}

/// Any outcome but a panic, an abort or a hang will do.
#[test]
fn ten_thousand_damaged_files_do_no_harm() {
    let names: Vec<String> = expected().into_keys().collect();
    let contents: Vec<Vec<u8>> = names.iter().map(|name| std::fs::read(testdata().join(name)).unwrap()).collect();
    let folder = tempfile::tempdir().unwrap();
    let mut state = 0x5c0_ce5e_ed00_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    let (mut read, mut refused) = (0, 0);
    for round in 0..10_000 {
        let which = round % names.len();
        let mut content = contents[which].clone();
        for _ in 0..=random(4) {
            let at = random(content.len());
            content[at] = random(256) as u8;
        }
        let path = folder.path().join(&names[which]);
        std::fs::write(&path, &content).unwrap();
        match read_whole(&path) {
            Ok(_) => read += 1,
            Err(_) => refused += 1,
        }
    }
    // Both must happen, or the test tests nothing.
    assert!(read > 500 && refused > 500, "{read} read, {refused} refused");
}
