//! Files that Python wrote, against what Python reads from them; `testdata/make.py` makes both.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;

use serde_json::Value;

use super::*;
use crate::model::ModelError;

pub(super) fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/model/state_dict/testdata")
}

/// The fixtures that hold a state dict, with Python's reading of each.
pub(super) fn expected() -> BTreeMap<String, BTreeMap<String, Value>> {
    let text = std::fs::read_to_string(testdata().join("expected.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

pub(super) fn tensors(path: &Path) -> Result<Vec<NamedTensor>, ModelError> {
    match read(path)? {
        Contents::StateDict(tensors) => Ok(tensors),
        Contents::TorchScript => panic!("{} is TorchScript", path.display()),
        Contents::Package => panic!("{} is a package", path.display()),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A file with that name and content, in a folder that goes when it is dropped.
pub(super) fn file(name: &str, content: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, content).unwrap();
    (folder, path)
}

fn message(name: &str) -> String {
    let path = testdata().join(name);
    let error = read(&path).map(|_| ()).unwrap_err().to_string();
    error.replace(&path.display().to_string(), "FILE")
}

#[test]
fn every_state_dict_is_read_as_python_reads_it() {
    let expected = expected();
    assert_eq!(expected.len(), 21);
    for (name, entries) in expected {
        let tensors = tensors(&testdata().join(&name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        let names: Vec<&String> = tensors.iter().map(|tensor| &tensor.name).collect();
        assert_eq!(names, entries.keys().collect::<Vec<_>>(), "{name}");
        for tensor in &tensors {
            let python = &entries[&tensor.name];
            let dtype = match python["dtype"].as_str().unwrap() {
                "uint8" => "u8".to_owned(),
                "bfloat16" => "bf16".to_owned(),
                other => other.replace("float", "f").replace("int", "i"),
            };
            let place = format!("{name}, {}", tensor.name);
            assert_eq!(format!("{:?}", tensor.dtype).to_lowercase(), dtype, "{place}");
            assert_eq!(serde_json::json!(tensor.shape), python["shape"], "{place}");
            assert_eq!(hex(&tensor.bytes().unwrap()), python["hex"].as_str().unwrap(), "{place}");
        }
    }
}

#[test]
fn torchscript_is_recognised_and_left_alone() {
    for name in ["torchscript.pt", "torchscript_in_23_chars.pt"] {
        assert!(matches!(read(&testdata().join(name)), Ok(Contents::TorchScript)), "{name}");
    }
}

#[test]
fn what_is_refused_is_named_with_what_to_do() {
    let table: [(&str, &[&str]); 15] = [
        ("whole.pt", &["object of Python's __main__.Net, not a state dict", "torch.save(model.state_dict(), FILE)"]),
        ("whole_protocol4.pt", &["object of Python's __main__.Net, not", "torch.jit.script"]),
        ("whole_legacy.pt", &["object of Python's __main__.Bare, not a state dict"]),
        ("one_tensor.pt", &["object of Python's torch._utils._rebuild_tensor_v2, not"]),
        ("other_key.pt", &["a dict without tensors (its entries: epoch, net)", "under \"state_dict\""]),
        ("no_tensors.pt", &["a dict without tensors (its entries: epoch)"]),
        ("sparse.pt", &["torch._utils._rebuild_sparse_tensor", "more than plain tensors"]),
        ("quantised.pt", &["torch.QUInt8Storage", "more than plain tensors"]),
        ("complex.pt", &["torch.ComplexFloatStorage", "more than plain tensors"]),
        ("u16.pt", &["its entry \"ids\" has elements of type U16", "convert it"]),
        ("u16.safetensors", &["its entry \"ids\" has elements of type U16"]),
        ("tar.pt", &["tar format of PyTorch before 0.1.10", "save it again"]),
        ("missing.pt", &["there is no model file FILE"]),
        ("libmodel.so", &["is a bare library", "archive that .pt2"]),
        ("make.py", &["must end in .pt, .pth, .pt2 or .safetensors"]),
    ];
    for (name, parts) in table {
        let message = message(name);
        assert!(message.contains("FILE"), "{message}");
        for part in parts {
            assert!(message.contains(part), "{name}: {message}");
        }
    }
}

#[test]
fn what_torch_did_not_write_is_shown() {
    let lfs = b"version https://git-lfs.github.com/spec/v1\noid sha256:0123";
    let (_folder, path) = file("model.pt", lfs);
    let message = read(&path).unwrap_err().to_string();
    assert!(message.contains("begins with \"version https://git-lfs.github.c\""), "{message}");

    for content in [b"".as_slice(), b"\x80\x02}q\x00.", b"PK", b"\x93NUMPY"] {
        let (_folder, path) = file("model.pth", content);
        assert!(matches!(read(&path), Err(ModelError::Weights { reason: StateDictError::NotTorch { .. }, .. })));
    }
}

#[test]
fn a_folder_is_no_model_file() {
    let folder = tempfile::Builder::new().suffix(".pt").tempdir().unwrap();
    let message = read(folder.path()).unwrap_err().to_string();
    assert!(message.contains("Is a directory"), "{message}");
}

#[test]
fn a_zip_of_something_else_and_one_of_the_other_byte_order_are_refused() {
    for (records, part) in [
        (&[("MAR-INF/MANIFEST.json", b"{}".as_slice())][..], "a zip file without a data.pkl"),
        (&[("m/data.pkl", b"\x80\x02}."), ("m/byteorder", b"big")], "ig-endian"),
    ] {
        let (_folder, path) = file("model.pt", &zip_of(records, zip::CompressionMethod::Stored));
        let message = read(&path).unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    }
}

pub(super) fn zip_of(records: &[(&str, &[u8])], method: zip::CompressionMethod) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, content) in records {
        let options = zip::write::SimpleFileOptions::default().compression_method(method);
        writer.start_file(*name, options).unwrap();
        writer.write_all(content).unwrap();
    }
    writer.finish().unwrap().into_inner()
}
