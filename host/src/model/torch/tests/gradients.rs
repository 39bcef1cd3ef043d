//! Gradients, and what layers give, against autograd's numbers in Python for the same models.

use super::*;

const ROWS: [f32; 6] = [1.0, 2.0, 3.0, 0.0, 1.0, -1.0];

fn classifier(file: &str) -> Arc<dyn Model> {
    // As a handler's first question loads it, on a thread that is in inference mode.
    let _mode = InferenceMode::enter();
    load(
        &PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/model/torch/testdata").join(file),
        Device::Cpu,
        ModelOptions::default(),
    )
    .unwrap()
}

fn gradients(model: &dyn Model, layer: &str, inputs: &[RawEvent<'_>], target: u64) -> Result<Vec<String>, String> {
    gradients_of(model, "forward", layer, inputs, target)
}

fn gradients_of(
    model: &dyn Model,
    method: &str,
    layer: &str,
    inputs: &[RawEvent<'_>],
    target: u64,
) -> Result<Vec<String>, String> {
    let asked = RawGradients { method: method.into(), layer: layer.into(), target, inputs: inputs.into() };
    steps(|emit| model.gradients(&asked, RawDoor::PLAIN, emit))
}

#[test]
fn of_the_input_and_of_a_layer() {
    let rows = bytes(&ROWS);
    let x = input(RawTensor::plain(DType::F32.code(), &[2, 3], &rows));
    let between = bytes(&[4.0, 5.0, -1.0, 0.0]);
    let value = input(RawTensor::plain(DType::F32.code(), &[2, 2], &between));
    for file in ["classifier.pt", "classifier_traced.pt"] {
        let model = classifier(file);
        // Several times: libtorch optimises what has run a few times.
        for _ in 0..4 {
            let found = gradients(&*model, "", &[x], 1).unwrap();
            assert_eq!(found, [" [2, 3] [60.0, -24.0, 36.0, 0.0, -4.0, -4.0]"], "{file}");
            let found = steps(|emit| model.layer("forward", "encoder.embedding", &[x], RawDoor::PLAIN, emit)).unwrap();
            assert_eq!(found, [" [2, 2] [4.0, 5.0, -1.0, 0.0]"], "{file}");
            let found = gradients(&*model, "encoder.embedding", &[value, x], 0).unwrap();
            assert_eq!(found, [" [2, 2] [20.0, 48.0, 0.0, 8.0]"], "{file}");
            // Predictions go on beside them.
            let found = steps(|emit| model.forward("forward", &[x], RawDoor::PLAIN, emit)).unwrap();
            assert_eq!(found, [" [2, 2] [194.0, 78.0, 4.0, -2.0]"], "{file}");
        }
        assert!(!model.footprint().was_changed, "{file}");
    }
}

#[test]
fn of_a_model_that_gives_more_than_scores() {
    let model = classifier("several.pt");
    let rows = bytes(&ROWS);
    let x = input(RawTensor::plain(DType::F32.code(), &[2, 3], &rows));
    for method in ["forward", "named"] {
        let found = gradients_of(&*model, method, "", &[x], 1).unwrap();
        assert_eq!(found, [" [2, 3] [60.0, -24.0, 36.0, 0.0, -4.0, -4.0]"], "{method}");
    }
}

#[test]
fn what_has_no_gradients_is_refused_with_the_reason() {
    let model = classifier("classifier.pt");
    let rows = bytes(&ROWS);
    let x = input(RawTensor::plain(DType::F32.code(), &[2, 3], &rows));
    let numbers = [0_u8; 16];
    let tokens = input(RawTensor::plain(DType::I64.code(), &[2], &numbers));
    let cases = [
        (gradients(&*model, "", &[x], 2), "there is no column 2"),
        (gradients(&*model, "", &[tokens], 0), "floating-point"),
        (gradients(&*model, "", &[], 0), "a tensor as the first input"),
        (gradients(&*model, "decoder", &[x, x], 0), "calls its layer \"decoder\" 0 times"),
        (gradients(&*model, "encoder.absent", &[x, x], 0), "calls its layer \"encoder.absent\" 0 times"),
    ];
    for (found, part) in cases {
        let error = found.unwrap_err();
        assert!(error.contains(part), "{error}");
    }
    let state_dict = RawModel::empty();
    let found = state_dict.gradients("forward", "", &[], 0, &mut |_| Ok(()));
    assert!(found.unwrap_err().contains("a state dict has no code"));
}

#[test]
fn a_batch_goes_in_as_a_list_or_as_one_tensor_whichever_the_method_takes() {
    let model = classifier("classifier.pt");
    let rows = bytes(&ROWS);
    let row = |range: std::ops::Range<usize>, length| {
        input(RawTensor::plain(DType::F32.code(), length, &rows[range.start * 4..range.end * 4]))
    };
    let (list, end) = (RawEvent::mark(RawEventKind::BEGIN_LIST, ""), RawEvent::mark(RawEventKind::END, ""));
    let call =
        |method: &str, inputs: &[RawEvent<'_>]| steps(|emit| model.forward(method, inputs, RawDoor::PLAIN, emit));
    let found = call("forward", &[list, row(0..3, &[3]), row(3..6, &[3]), end]).unwrap();
    assert_eq!(found, [" [2, 2] [194.0, 78.0, 4.0, -2.0]"]);
    let found = call("of_list", &[row(0..6, &[2, 3])]).unwrap();
    assert_eq!(found, [" [2] [6.0, 0.0]"]);
    let error = call("forward", &[list, row(0..3, &[3]), row(3..5, &[2]), end]).unwrap_err();
    assert!(error.contains("[3] and [2] can't be put together"), "{error}");
}

#[test]
fn what_a_model_leaves_out_is_an_empty_list() {
    let model = classifier("classifier.pt");
    let one = bytes(&[1.0]);
    let x = input(RawTensor::plain(DType::F32.code(), &[1], &one));
    let walked = steps(|emit| model.forward("pieces", &[x], RawDoor::PLAIN, emit)).unwrap();
    assert_eq!(walked, ["list ", " [1] [1.0]", "list ", "end", " [] []", "end"]);
}
