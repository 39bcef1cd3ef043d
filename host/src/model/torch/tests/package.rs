//! Compiled models: structures in and out, what they refuse, and many callers at once. `testdata/packages.py` made them.

use super::*;

fn packaged(name: &str) -> Arc<dyn Model> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/model/torch/testdata").join(name);
    load(&path, Device::Cpu, ModelOptions::default()).unwrap()
}

fn whole(values: &[i64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_ne_bytes()).collect()
}

fn float<'a>(name: &'a str, shape: &'a [i64], bytes: &'a [u8]) -> RawEvent<'a> {
    RawEvent::tensor(name, RawTensor::plain(DType::F32.code(), shape, bytes))
}

const DICT: RawEventKind = RawEventKind::BEGIN_DICT;

/// Calls `pair` with `rows` rows, each `[k, 1, 2]` and `[1, k, 0]`.
fn call_pair(model: &dyn Model, rows: i64) -> Result<Vec<String>, String> {
    let x: Vec<f32> = (0..rows).flat_map(|row| [row as f32, 1.0, 2.0]).collect();
    let b: Vec<i64> = (0..rows).flat_map(|row| [1, row, 0]).collect();
    let (x, b, shape) = (bytes(&x), whole(&b), [rows, 3]);
    let b = RawEvent::tensor("b", RawTensor::plain(DType::I64.code(), &shape, &b));
    let (begin, end) = (RawEvent::mark(DICT, ""), RawEvent::mark(RawEventKind::END, ""));
    let inputs = [float("", &shape, &x), begin, b, float("a", &shape, &x), end];
    steps(|emit| model.forward("forward", &inputs, RawDoor::PLAIN, emit))
}

#[test]
fn a_structure_goes_in_and_a_structure_comes_out() {
    let model = packaged("pair.pt2");
    assert_eq!(model.kind(), ModelKind::AotInductor);
    // A row is [k, 1, 2]: times the weights, and three times itself.
    let walked = call_pair(&*model, 2).unwrap();
    let numbers = |steps: &[String]| steps.iter().take(4).cloned().collect::<Vec<_>>();
    assert_eq!(
        numbers(&walked),
        ["dict ", "sum [2, 2] [12.0, 23.0, 13.0, 23.0]", "list parts", " [2, 3] [0.0, 3.0, 6.0, 3.0, 3.0, 6.0]"]
    );
    // The sums of whole numbers, here read as if they were of 4 bytes; then what is None.
    assert!(walked[4].starts_with(" [2] "), "{walked:?}");
    assert_eq!(walked[5..], ["end", "list none", "end", "end"]);
    for rows in [1, 7, 64] {
        let walked = call_pair(&*model, rows).unwrap();
        assert!(walked[1].starts_with(&format!("sum [{rows}, 2] [12.0, 23.0")), "{walked:?}");
    }
}

#[test]
fn what_would_read_beyond_a_tensor_is_refused_by_name() {
    let model = packaged("pair.pt2");
    let x = bytes(&[0.0; 65 * 3]);
    let b = whole(&[0; 65 * 3]);
    let small = bytes(&[0.0; 3]);
    let (begin, end) = (RawEvent::mark(DICT, ""), RawEvent::mark(RawEventKind::END, ""));
    let whole = |shape| RawEvent::tensor("b", RawTensor::plain(DType::I64.code(), shape, &b[..count(shape) * 8]));
    let float =
        |name, shape| RawEvent::tensor(name, RawTensor::plain(DType::F32.code(), shape, &x[..count(shape) * 4]));
    let call = |inputs: &[RawEvent<'_>]| {
        steps(|emit| model.forward("forward", inputs, RawDoor::PLAIN, emit)).expect_err("it was let in")
    };
    let two: &[i64] = &[2, 3];
    let one = RawEvent::tensor("a", RawTensor::plain(DType::F32.code(), &[1, 3], &small));
    for (inputs, told) in [
        // The code takes the number of rows from the first input, and reads as many of the others.
        (
            vec![float("", &[64, 3]), begin, one, whole(&[64, 3]), end],
            "input1[\"a\"] has the shape [1, 3], whose dimension 0",
        ),
        (
            vec![float("", &[3, 2]), begin, float("a", two), whole(two), end],
            "input0 has the shape [3, 2], whose dimension 1",
        ),
        (vec![float("", &[65, 3]), begin, float("a", two), whole(two), end], "input0 has the shape [65, 3]"),
        (vec![float("", &[6]), begin, float("a", two), whole(two), end], "input0 has the shape [6] of 1 dimensions"),
        (vec![float("", two), begin, float("a", two), float("b", two), end], "input1[\"b\"] is of float32"),
        (
            vec![float("", two), begin, float("a", two), end],
            "input1 is a dict of a, and the model takes a dict of a, b",
        ),
        (vec![float("", two), begin, float("a", two), whole(two), float("c", two), end], "input1 is a dict of a, b, c"),
        (vec![float("", two), begin, float("a", two), float("c", two), end], "input1 has no entry \"b\""),
        (vec![float("", two), float("", two)], "input1 is a tensor, and the model takes a dict of a, b"),
        (vec![float("", two)], "the model takes 2 inputs (input0, input1), and 1 came"),
        (vec![], "the model takes 2 inputs (input0, input1), and 0 came"),
    ] {
        let error = call(&inputs);
        assert!(error.starts_with(told), "{error}");
    }
    // And it goes on.
    call_pair(&*model, 3).unwrap();
}

fn count(shape: &[i64]) -> usize {
    usize::try_from(shape.iter().product::<i64>()).unwrap()
}

#[test]
fn a_package_tells_its_parameters_and_has_nothing_but_forward() {
    let schema = packaged("pair.pt2").schema("forward").unwrap();
    let parameters: Vec<_> = schema.parameters.iter().map(|one| (one.name.as_str(), one.kind)).collect();
    assert_eq!(parameters, [("input0", ParameterKind::Tensor), ("input1", ParameterKind::Dict)]);
    assert_eq!(schema.outputs, None);
    let model = packaged("sizes.pt2");
    let schema = model.schema("forward").unwrap();
    let parameters: Vec<_> = schema.parameters.iter().map(|one| (one.name.as_str(), one.kind)).collect();
    assert_eq!(parameters, [("input0", ParameterKind::Tensor), ("mask", ParameterKind::Tensor)]);
    assert_eq!(schema.outputs, Some(2));
    assert!(model.schema("other").is_err());
    let inference_only = "compiled for inference alone: serve the model as TorchScript";
    let layer = model.layer("forward", "linear", &[], RawDoor::PLAIN, &mut |_| {});
    assert!(layer.unwrap_err().contains(inference_only));
    let other = model.forward("other", &[], RawDoor::PLAIN, &mut |_| {});
    assert!(other.unwrap_err().contains("no method but forward"));
}

#[test]
fn its_weights_can_be_read_and_are_counted() {
    let model = packaged("pair.pt2");
    let weights = steps(|emit| model.weights(RawDoor::PLAIN, emit)).unwrap();
    // The compiler has written the bias, which is small, into the code.
    assert_eq!(weights, ["linear.weight [2, 3] [1.0, 0.0, 1.0, 0.0, 1.0, 1.0]"]);
    let footprint = model.footprint();
    assert_eq!((footprint.tensors, footprint.bytes, footprint.was_changed), (1, 24, false));
    assert!(footprint.address.is_some());
}

#[test]
fn more_callers_than_runners_wait_for_one() {
    let model = packaged("pair.pt2");
    let started = std::sync::Barrier::new(48);
    std::thread::scope(|scope| {
        for thread in 0..48 {
            let (model, started) = (&model, &started);
            scope.spawn(move || {
                started.wait();
                let rows = thread % 9 + 1;
                for _ in 0..50 {
                    let walked = call_pair(&**model, rows).unwrap();
                    let last = rows as f32 - 1.0 + 12.0;
                    assert!(walked[1].ends_with(&format!("{last:?}, 23.0]")), "{walked:?}");
                }
            });
        }
    });
}

#[test]
fn a_tensor_in_another_layout_is_laid_out_as_the_code_reads_it() {
    let model = packaged("sizes.pt2");
    // [rows 2, length 4, 3], kept as [2, 3, 4].
    let kept = Tensor::arange(24, (Kind::Float, tch::Device::Cpu)).reshape([2, 3, 4]);
    let (x, mask) = (kept.transpose(1, 2), Tensor::ones([2, 4, 3], (Kind::Float, tch::Device::Cpu)));
    let inputs = [&x, &mask].map(|tensor| RawEvent::tensor("", RawTensor::torch(tensor.as_ptr().cast())));
    let walked = steps(|emit| model.forward("forward", &inputs, RawDoor::PLAIN, emit)).unwrap();
    assert_eq!(walked[1], " [2, 3] [6.0, 22.0, 38.0, 54.0, 70.0, 86.0]");
    assert_eq!(walked[2], " [3] [7.5, 11.5, 15.5]");
}

#[test]
fn code_for_four_threads_keeps_to_one_where_operations_have_one() {
    // OpenMP's threads have the name of the one that wanted them.
    let name = "package-omp";
    let own = move || {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
        names.filter(|known| known.trim() == name).count()
    };
    let run = move || {
        let model = packaged("sizes.pt2");
        let numbers = bytes(&[1.0; 8 * 512 * 3]);
        let call = |threads: i32| {
            tch::set_num_threads(threads);
            let input = || float("", &[8, 512, 3], &numbers);
            let walked = steps(|emit| model.forward("forward", &[input(), input()], RawDoor::PLAIN, emit)).unwrap();
            assert!(walked[1].starts_with(" [8, 3] [512.0, 512.0"), "{walked:?}");
            own()
        };
        let alone = call(1);
        let several = call(4);
        tch::set_num_threads(1);
        (alone, several)
    };
    let counted = std::thread::Builder::new().name(name.to_owned()).spawn(run).unwrap().join().unwrap();
    assert_eq!(counted, (1, 4));
}

#[test]
fn weights_in_an_order_of_the_compiler_s_own_are_counted_and_read() {
    let model = packaged("folded.pt2");
    let footprint = model.footprint();
    assert_eq!((footprint.tensors, footprint.bytes), (1, 16 * 3 * 3 * 3 * 4));
    let weights = steps(|emit| model.weights(RawDoor::PLAIN, emit)).unwrap();
    // The middle of each of 3 x 3, of three colours each.
    let middles: Vec<_> = (0..16).map(|channel| format!("{:?}", channel as f32)).collect();
    assert!(weights[0].contains(" [16, 3, 3, 3] "), "{weights:?}");
    for middle in &middles {
        assert!(weights[0].contains(middle), "{middle}: {weights:?}");
    }
    let picture = bytes(&[1.0; 3 * 8 * 8]);
    let walked =
        steps(|emit| model.forward("forward", &[float("", &[1, 3, 8, 8], &picture)], RawDoor::PLAIN, emit)).unwrap();
    assert!(walked[0].contains(" [1, 16] [0.0, 3.0, 6.0, 9.0"), "{walked:?}");
}

#[test]
fn a_library_that_is_none_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("broken.pt2");
    let mut content =
        std::fs::read(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/model/torch/testdata/pair.pt2")).unwrap();
    let length = content.len();
    content.truncate(length - 100);
    std::fs::write(&path, &content).unwrap();
    let error = load(&path, Device::Cpu, ModelOptions::default()).unwrap_err().to_string();
    assert!(error.contains("broken.pt2"), "{error}");
}
