//! Files that Python wrote (`testdata/make.py`), what is written here, and what isn't a tensor at all.

use std::io::Cursor;
use std::io::Read;
use std::io::Write;

use zip::ZipArchive;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::*;
use crate::DType;

macro_rules! file {
    ($name:literal) => {
        include_bytes!(concat!("testdata/", $name, ".pt")).as_slice()
    };
}

fn grid() -> Vec<f64> {
    (0..24).map(f64::from).collect()
}

fn eighths() -> Vec<f64> {
    (0..12).map(|number| f64::from(number) / 8.0).collect()
}

fn text(bytes: &[u8]) -> String {
    let error = load(bytes).unwrap_err();
    assert_eq!(error.status(), 400);
    error.client_text().to_owned()
}

/// A file that torch.save might have written, with this pickle and these numbers.
fn packed(pickle: &[u8], numbers: &[u8], options: SimpleFileOptions) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in [("x/data.pkl", pickle), ("x/byteorder", b"little"), ("x/data/0", numbers)] {
        zip.start_file(name, options).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

fn stored() -> SimpleFileOptions {
    SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored)
}

/// The pickle of a tensor of float32 over storage 0.
fn pickle(offset: u8, shape: &[u8], strides: &[u8]) -> Vec<u8> {
    let mut pickle = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x04tQ".to_vec();
    pickle.extend([b'K', offset]);
    for values in [shape, strides] {
        pickle.push(b'(');
        values.iter().for_each(|value| pickle.extend([b'K', *value]));
        pickle.push(b't');
    }
    pickle.extend(b"\x89ccollections\nOrderedDict\n)RtR.");
    pickle
}

#[test]
fn what_torch_saved_is_read() {
    let transposed: Vec<f64> = (0..4).flat_map(|column| (0..6).map(move |row| f64::from(row * 4 + column))).collect();
    let minus_five: Vec<f64> = (-5..7).map(f64::from).collect();
    let even: Vec<f64> = (0..12).map(|number| f64::from((number + 1) % 2)).collect();
    for (file, dtype, shape, values) in [
        (file!("float32"), DType::F32, vec![2, 3, 4], grid().iter().map(|value| value / 8.0).collect()),
        (file!("protocol4"), DType::F32, vec![2, 3, 4], grid().iter().map(|value| value / 8.0).collect()),
        (file!("named_with_21_letters"), DType::F32, vec![2, 3, 4], grid().iter().map(|value| value / 8.0).collect()),
        (file!("float64"), DType::F64, vec![3, 4], eighths()),
        (file!("float16"), DType::F16, vec![3, 4], eighths()),
        (file!("bfloat16"), DType::BF16, vec![3, 4], eighths()),
        (file!("int64"), DType::I64, vec![3, 4], minus_five.clone()),
        (file!("int8"), DType::I8, vec![3, 4], minus_five),
        (file!("uint8"), DType::U8, vec![3, 4], grid()[..12].to_vec()),
        (file!("bool"), DType::Bool, vec![3, 4], even),
        (file!("scalar"), DType::F32, vec![], vec![2.5]),
        (file!("empty"), DType::F32, vec![0, 3], vec![]),
        (file!("parameter"), DType::F32, vec![3, 4], eighths()),
        (file!("transposed"), DType::F32, vec![4, 2, 3], transposed),
        (file!("window"), DType::F32, vec![1, 2, 2], vec![13.0, 14.0, 21.0, 22.0]),
        (file!("expanded"), DType::F32, vec![2, 3], vec![1.0, 1.0, 1.0, 2.0, 2.0, 2.0]),
    ] {
        let tensor = load(file).unwrap();
        assert_eq!((tensor.dtype().unwrap(), tensor.shape(), tensor.to_f64().unwrap()), (dtype, shape, values));
        let again = load(&save(&tensor).unwrap()).unwrap();
        assert_eq!(again.dtype().unwrap(), dtype);
        assert_eq!((again.shape(), again.to_f64().unwrap()), (tensor.shape(), tensor.to_f64().unwrap()));
    }
}

#[test]
fn what_is_written_has_the_records_that_torch_looks_for() {
    let bytes = save(&Tensor::from_slice(&[2], &[1.0_f32, 2.0]).unwrap()).unwrap();
    let mut zip = ZipArchive::new(Cursor::new(&bytes)).unwrap();
    let mut numbers = zip.by_name("archive/data/0").unwrap();
    assert_eq!(numbers.data_start().unwrap() % 64, 0);
    let mut read = Vec::new();
    numbers.read_to_end(&mut read).unwrap();
    assert_eq!(read, [1.0_f32, 2.0].map(f32::to_ne_bytes).as_flattened());
    drop(numbers);
    for name in ["archive/data.pkl", "archive/byteorder", "archive/version"] {
        assert!(zip.by_name(name).is_ok(), "{name}");
    }
}

#[test]
fn anything_but_a_tensor_is_refused_in_words() {
    for (bytes, wanted) in [
        (&b""[..], "the input is empty: send one tensor, as torch.save(tensor, file) writes it"),
        (b"\x89PNG\r\n", "begins with \"\\x89PNG\\r\\n\""),
        (b"PK\x03\x04 and no more", "damaged or cut off"),
        (file!("dict"), "holds a dict, not a tensor"),
        (file!("state_dict"), "holds a dict, not a tensor"),
        (file!("list"), "holds a list, not a tensor"),
        (file!("number"), "holds a number, not a tensor"),
        (file!("complex"), "over a ComplexFloatStorage"),
        (file!("sparse"), "only dense tensors are read"),
        (file!("uint16"), "over a storage.UntypedStorage"),
        (file!("before_1_6"), "before PyTorch 1.6"),
        (file!("torchscript"), "is a TorchScript module"),
    ] {
        let text = text(bytes);
        assert!(text.contains(wanted), "{text} lacks {wanted}");
    }
}

#[test]
fn a_view_of_more_than_there_is_is_refused() {
    let numbers = [0; 16];
    for (offset, shape, strides, wanted) in [
        (0, &[5][..], &[1][..], "reaches beyond its 16 bytes"),
        (1, &[4], &[1], "reaches beyond"),
        (0, &[2, 2], &[2, 2], "reaches beyond"),
        (0, &[2], &[1, 1], "no tensor has"),
        (0, &[255; 20], &[0; 20], "reaches beyond"),
        (0, &[255; 5], &[0; 5], "would take up"),
        (0, &[1; 65], &[1; 65], "no tensor has"),
    ] {
        let text = text(&packed(&pickle(offset, shape, strides), &numbers, stored()));
        assert!(text.contains(wanted), "{text} lacks {wanted}");
    }
    assert_eq!(load(&packed(&pickle(0, &[2, 2], &[2, 1]), &numbers, stored())).unwrap().shape(), [2, 2]);
}

#[test]
fn what_a_pickle_names_is_not_called() {
    for (pickle, wanted) in [
        (&b"\x80\x02cos\nsystem\nX\x04\0\0\0true\x85R."[..], "`os.system`"),
        (b"\x80\x02c__builtin__\neval\nX\x01\0\0\x001\x85R.", "`__builtin__.eval`"),
        (b"\x80\x02(S'x'\nios\nsystem\n.", "the step 0x53"),
        (b"\x80\x02h\x07.", "describes no tensor"),
        (b"\x80\x02.", "describes no tensor"),
        (b"\x80\x02X\xff\xff\xff\xffa.", "describes no tensor"),
        (b"", "describes no tensor"),
    ] {
        let text = text(&packed(pickle, b"", stored()));
        assert!(text.contains(wanted), "{text} lacks {wanted}");
    }
}

#[test]
fn a_pickle_that_nests_or_multiplies_without_end_ends() {
    let nested: Vec<u8> = b"\x80\x02)".iter().copied().chain(std::iter::repeat_n(0x85, 50_000)).collect();
    assert!(text(&packed(&nested, b"", stored())).contains("more than one tensor"));
    // Each pair holds the last one twice: 2^300 of them, were they copied.
    let mut doubled = b"\x80\x02)q\0".to_vec();
    (0..300).for_each(|_| doubled.extend(b"h\0\x86q\0"));
    doubled.push(b'.');
    assert!(
        text(&packed(&doubled, b"", stored())).contains("holds a tuple"),
        "{}",
        text(&packed(&doubled, b"", stored()))
    );
    let long = vec![b'N'; 70_000];
    assert!(text(&packed(&long, b"", stored())).contains("claims 70000 bytes"));
}

#[test]
fn a_file_that_is_cut_off_or_changed_never_panics() {
    let whole = file!("window");
    for length in 0..whole.len() {
        assert!(load(&whole[..length]).is_err(), "{length} bytes");
    }
    for index in 0..whole.len() {
        let mut changed = whole.to_vec();
        changed[index] ^= 0xff;
        // Some bytes say nothing that matters; what is read then is what was written.
        if let Ok(tensor) = load(&changed) {
            assert_eq!(
                (tensor.shape(), tensor.to_f64().unwrap()),
                (vec![1, 2, 2], vec![13.0, 14.0, 21.0, 22.0]),
                "{index}"
            );
        }
    }
}
