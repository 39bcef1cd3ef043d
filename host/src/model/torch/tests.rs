//! Files into libtorch and out again; `testdata/make.py` here and in `state_dict` made them.

mod gradients;
mod operators;
mod package;
mod profile;
mod tune;

use std::path::PathBuf;

use super::*;
use crate::model::ParameterKind;

fn sums() -> Arc<dyn Model> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/model/torch/testdata/sums.pt");
    load(&path, Device::Cpu, ModelOptions::default()).unwrap()
}

fn input(tensor: RawTensor<'_>) -> RawEvent<'_> {
    RawEvent::tensor("", tensor)
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_ne_bytes()).collect()
}

/// What was handed over, as text: kind, name, shape and numbers.
fn steps(work: impl FnOnce(&mut dyn FnMut(&RawEvent<'_>)) -> Result<(), String>) -> Result<Vec<String>, String> {
    let mut steps = Vec::new();
    work(&mut |event| {
        let numbers: Vec<f32> = event
            .tensor
            .bytes
            .as_slice()
            .chunks_exact(4)
            .map(|bytes| f32::from_ne_bytes(bytes.try_into().unwrap()))
            .collect();
        steps.push(match event.kind {
            RawEventKind::TENSOR => format!("{} {:?} {numbers:?}", event.name, event.tensor.shape.as_slice()),
            RawEventKind::BEGIN_LIST => format!("list {}", event.name),
            RawEventKind::BEGIN_DICT => format!("dict {}", event.name),
            RawEventKind::END => "end".to_owned(),
            other => format!("{other:?}"),
        });
    })?;
    Ok(steps)
}

#[test]
fn several_tensors_go_in_and_a_structure_comes_out() {
    let model = sums();
    assert_eq!(model.kind(), ModelKind::TorchScript);
    let (x, y) = (bytes(&[1.0, 2.0]), bytes(&[5.0, 5.0]));
    let code = DType::F32.code();
    let inputs = [RawTensor::plain(code, &[2], &x), RawTensor::plain(code, &[2], &y)].map(input);
    let walked = steps(|emit| model.forward("forward", &inputs, RawDoor::PLAIN, emit)).unwrap();
    assert_eq!(
        walked,
        [
            "list ",
            " [2] [12.0, 26.0]",
            "list ",
            "dict ",
            "sum [2] [6.0, 7.0]",
            "end",
            "dict ",
            "difference [2] [-4.0, -3.0]",
            "end",
            "end",
            "end",
        ]
    );
}

#[test]
fn a_method_tells_its_parameters() {
    let model = sums();
    let told = |method: &str| {
        let schema = model.schema(method).unwrap();
        let parameters = schema.parameters.into_iter().map(|one| (one.name, one.kind, one.is_optional));
        (parameters.collect::<Vec<_>>(), schema.outputs)
    };
    let row = |name: &str, kind| (name.to_owned(), kind, false);
    // A list in what it gives: nobody knows of how many.
    assert_eq!(told("forward"), (vec![row("x", ParameterKind::Tensor), row("y", ParameterKind::Tensor)], None));
    assert_eq!(told("of_list"), (vec![row("items", ParameterKind::List)], Some(1)));
    assert_eq!(told("of_tuple"), (vec![row("pair", ParameterKind::List)], Some(1)));
    assert_eq!(told("of_dict"), (vec![row("named", ParameterKind::Dict)], Some(1)));
    assert_eq!(told("count"), (vec![], Some(1)));
    assert!(model.schema("absent").unwrap_err().contains("absent"));
}

#[test]
fn lists_tuples_and_dicts_go_in_as_the_method_wants_them() {
    let model = sums();
    let one = bytes(&[1.0, 2.0]);
    let tensor = |name| RawEvent::tensor(name, RawTensor::plain(DType::F32.code(), &[2], &one));
    let (list, dict, end) = (
        RawEvent::mark(RawEventKind::BEGIN_LIST, ""),
        RawEvent::mark(RawEventKind::BEGIN_DICT, ""),
        RawEvent::mark(RawEventKind::END, ""),
    );
    let call =
        |method: &str, inputs: &[RawEvent<'_>]| steps(|emit| model.forward(method, inputs, RawDoor::PLAIN, emit));
    for (method, inputs) in [
        ("of_list", vec![list, tensor(""), tensor(""), end]),
        ("of_tuple", vec![list, tensor(""), tensor(""), end]),
        ("of_dict", vec![dict, tensor("a"), tensor("b"), end]),
    ] {
        assert_eq!(call(method, &inputs).unwrap(), [" [2] [2.0, 4.0]"], "{method}");
    }
    assert!(call("absent", &[tensor("")]).unwrap_err().contains("absent"));
    assert!(call("of_dict", &[tensor("")]).unwrap_err().contains("of_dict"));
}

#[test]
fn a_module_that_changes_itself_runs_on_one_thread_at_a_time() {
    let model = sums();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..100 {
                    steps(|emit| model.forward("count", &[], RawDoor::PLAIN, emit)).unwrap();
                }
            });
        }
    });
    let counted = steps(|emit| model.forward("count", &[], RawDoor::PLAIN, emit)).unwrap();
    assert_eq!(counted, [" [] [401.0]"]);
}

#[test]
fn a_libtorch_tensor_is_handed_over_without_a_copy() {
    let model = sums();
    let mut addresses = Vec::new();
    let mut look = || {
        model
            .weights(RawDoor::TORCH, &mut |event| {
                // SAFETY: the host lends an `at::Tensor` for the duration of the step.
                let tensor = unsafe { Tensor::clone_from_ptr(event.tensor.torch.cast_mut().cast()) };
                addresses.push(tensor.data_ptr() as usize);
            })
            .unwrap();
    };
    look();
    look();
    assert_eq!(addresses.len(), 4);
    assert_eq!(addresses[..2], addresses[2..], "both readers see the host's own memory");
}

#[test]
fn parameters_and_buffers_are_named() {
    let named = steps(|emit| sums().weights(RawDoor::PLAIN, emit)).unwrap();
    assert_eq!(named, ["scale [2] [2.0, 3.0]", "offset [2] [10.0, 20.0]"]);
}

#[test]
fn a_model_that_raises_says_why_and_keeps_no_input() {
    let model = sums();
    let megabyte = vec![0_u8; 1 << 20];
    let shape = [1 << 18];
    let call = || {
        let input = input(RawTensor::plain(DType::F32.code(), &shape, &megabyte));
        steps(|emit| model.forward("forward", &[input, input], RawDoor::PLAIN, emit)).unwrap_err()
    };
    assert!(call().contains("must match"), "{}", call());
    let before = resident_kilobytes();
    for _ in 0..500 {
        call();
    }
    let grown = resident_kilobytes().saturating_sub(before);
    // 500 calls with two inputs of a megabyte each: 1 GB, had they been kept; other tests take memory meanwhile.
    assert!(grown < 400_000, "grew by {grown} kB");
}

#[test]
fn what_is_no_model_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["model.onnx", "text.pt", "absent.pt", "text.safetensors"] {
        let path = folder.path().join(name);
        if name != "absent.pt" {
            std::fs::write(&path, "not a model").unwrap();
        }
        let error = load(&path, Device::Cpu, ModelOptions::default()).unwrap_err().to_string();
        assert!(error.contains(name), "{error}");
    }
}

fn resident_kilobytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn testdata(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/model/state_dict/testdata").join(name)
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
    for name in ["kinds.pt", "kinds_legacy.pt", "kinds.safetensors", "views.pt", "checkpoint_legacy.pt"] {
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
        let model = load(&path, Device::Cpu, ModelOptions::default()).unwrap();
        assert_eq!(model.kind(), ModelKind::StateDict, "{name}");
        assert_eq!(weights(&*model), read, "{name}");
        let error = model.forward("forward", &[], RawDoor::PLAIN, &mut |_| {}).unwrap_err();
        assert!(error.contains("no code"), "{error}");
    }
}

#[test]
fn torchscript_has_code_and_weights() {
    let model = load(&testdata("torchscript.pt"), Device::Cpu, ModelOptions::default()).unwrap();
    assert_eq!(model.kind(), ModelKind::TorchScript);
    let names: Vec<String> = weights(&*model).into_iter().map(|weight| weight.0).collect();
    assert_eq!(names, ["weight", "bias"]);
    let input = input(RawTensor::plain(DType::F32.code(), &[1, 1], &[0; 4]));
    let mut outputs = 0;
    model.forward("forward", &[input], RawDoor::PLAIN, &mut |_| outputs += 1).unwrap();
    assert_eq!(outputs, 1);
}

#[test]
fn weights_that_somebody_wrote_to_are_told() {
    let model = load(&testdata("torchscript.pt"), Device::Cpu, ModelOptions::default()).unwrap();
    let before = model.footprint();
    assert!(before.bytes > 0 && before.address.is_some() && !before.was_changed, "{before:?}");
    // As around every call of a handler.
    let _mode = InferenceMode::enter();
    let mut changed = false;
    model
        .weights(RawDoor::TORCH, &mut |event| {
            // SAFETY: the model lends an `at::Tensor` for the duration of the step.
            let mut tensor = unsafe { Tensor::clone_from_ptr(event.tensor.torch.cast_mut().cast()) };
            if !changed {
                let _ = tensor.zero_();
                changed = true;
            }
        })
        .unwrap();
    assert_eq!(model.footprint(), Footprint { was_changed: true, ..before });
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
    let error = load(&path, Device::Cpu, ModelOptions::default()).unwrap_err().to_string();
    assert!(error.contains("model.pt"), "{error}");
}
