//! Files into libtorch and out again.

use std::path::PathBuf;

use super::*;

fn testdata(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("src/model/state_dict/testdata")
        .join(name)
}

type Weight = (String, u8, Vec<i64>, Vec<u8>);

fn weights(model: &dyn Model) -> Vec<Weight> {
    let mut weights = Vec::new();
    let mut take = |event: &RawEvent<'_>| {
        let tensor = event.tensor;
        weights.push((
            event.name.as_str().to_owned(),
            tensor.dtype,
            tensor.shape.as_slice().to_vec(),
            tensor.bytes.as_slice().to_vec(),
        ));
    };
    model.weights(RawDoor::PLAIN, &mut take).unwrap();
    weights
}

#[test]
fn a_state_dict_passes_through_libtorch_unchanged() {
    for name in [
        "kinds.pt",
        "kinds_legacy.pt",
        "kinds.safetensors",
        "views.pt",
        "checkpoint_legacy.pt",
    ] {
        let path = testdata(name);
        let Ok(Contents::StateDict(tensors)) = state_dict::read(&path) else {
            panic!("{name} is no state dict");
        };
        let read: Vec<Weight> = tensors
            .iter()
            .map(|tensor| {
                let bytes = tensor.bytes().unwrap();
                (tensor.name.clone(), tensor.dtype.code(), tensor.shape.clone(), bytes)
            })
            .collect();
        let model = load(&path, Device::Cpu).unwrap();
        assert_eq!(model.kind(), ModelKind::StateDict, "{name}");
        assert_eq!(weights(&*model), read, "{name}");
        let error = model.forward(&[], RawDoor::PLAIN, &mut |_| {}).unwrap_err();
        assert!(error.contains("no code"), "{error}");
    }
}

#[test]
fn torchscript_has_code_and_weights() {
    let model = load(&testdata("torchscript.pt"), Device::Cpu).unwrap();
    assert_eq!(model.kind(), ModelKind::TorchScript);
    let names: Vec<String> = weights(&*model).into_iter().map(|weight| weight.0).collect();
    assert_eq!(names, ["weight", "bias"]);
    let input = RawTensor::plain(DType::F32.code(), &[1, 1], &[0; 4]);
    let mut outputs = 0;
    model.forward(&[input], RawDoor::PLAIN, &mut |_| outputs += 1).unwrap();
    assert_eq!(outputs, 1);
}

#[test]
fn a_damaged_torchscript_file_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.pt");
    let mut content = std::fs::read(testdata("torchscript.pt")).unwrap();
    // Names stand before each record and in the directory at the end.
    for at in 0..content.len() - 5 {
        if &content[at..at + 5] == b"code/" {
            content[at..at + 5].copy_from_slice(b"cude/");
        }
    }
    std::fs::write(&path, content).unwrap();
    let error = load(&path, Device::Cpu).unwrap_err().to_string();
    assert!(error.contains("model.pt"), "{error}");
}
