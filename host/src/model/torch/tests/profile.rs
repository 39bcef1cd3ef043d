//! Which operators libtorch runs, as the recorder of a thread tells it.

use std::time::Instant;

use super::*;
use crate::model::Operand;
use crate::model::Operator;
use crate::model::OperatorKind;
use crate::model::OperatorRecorder;

#[test]
fn operators_are_recorded_with_their_shapes_until_the_end() {
    let model = sums();
    let (x, y) = (bytes(&[1.0, 2.0]), bytes(&[5.0, 5.0]));
    let code = DType::F32.code();
    let forward = || {
        let inputs = [RawTensor::plain(code, &[2], &x), RawTensor::plain(code, &[2], &y)].map(input);
        model.forward("forward", &inputs, RawDoor::PLAIN, &mut |_| {}).unwrap();
    };
    // The interpreter looks at what it runs the first times.
    (0..3).for_each(|_| forward());

    let before = Instant::now();
    let recorder = OperatorRecorder::begin(1000);
    assert!(OperatorRecorder::begin(1000).end().list.is_empty(), "one at a time on a thread");
    forward();
    let operators = recorder.end();
    let after = Instant::now();
    assert_eq!(operators.dropped, 0);
    let list = &operators.list;
    let names = |depth| -> Vec<&str> {
        let at_depth = list.iter().filter(move |one| one.depth == depth && one.name != "aten::to");
        at_depth.map(|one| one.name.as_str()).collect()
    };
    assert!(list.iter().any(|one| one.name == "forward" && one.kind == OperatorKind::Script), "{list:#?}");
    // The method, and within it the interpreter's frame of the same name.
    let forward_depth = list.iter().rfind(|one| one.name == "forward").unwrap().depth;
    let within = names(forward_depth + 1);
    assert_eq!(within, ["aten::mul", "aten::add", "aten::add", "aten::sub"], "{list:#?}");
    let multiplied = list.iter().find(|one| one.name == "aten::mul").unwrap();
    let tensor = Operand::Tensor { dtype: "float32".to_owned(), shape: vec![2] };
    assert_eq!(multiplied.inputs, [tensor.clone(), tensor], "{multiplied:#?}");
    // Each lies within the last one before it that is one less deep, in time, too.
    let mut open: Vec<&Operator> = Vec::new();
    for one in list {
        assert!(one.began >= before && one.began + one.took <= after, "{one:#?}");
        open.truncate(one.depth);
        if let Some(outer) = open.last() {
            assert_eq!(outer.depth + 1, one.depth, "{list:#?}");
            assert!(one.began >= outer.began && one.began + one.took <= outer.began + outer.took, "{list:#?}");
        }
        open.push(one);
    }

    // Nothing is seen after the end, and as much as there is room for before it.
    forward();
    let recorder = OperatorRecorder::begin(2);
    forward();
    let few = recorder.end();
    assert_eq!((few.list.len(), few.dropped), (2, list.len() - 2));
    let recorder = OperatorRecorder::begin(1000);
    assert!(recorder.end().list.is_empty());
}

#[test]
fn a_thread_is_recorded_alone_and_a_dropped_recorder_records_no_more() {
    let model = sums();
    let x = bytes(&[1.0, 2.0]);
    let forward = || {
        let inputs = [RawTensor::plain(DType::F32.code(), &[2], &x), RawTensor::plain(DType::F32.code(), &[2], &x)];
        model.forward("forward", &inputs.map(input), RawDoor::PLAIN, &mut |_| {}).unwrap();
    };
    let recorder = OperatorRecorder::begin(1000);
    std::thread::scope(|scope| {
        scope.spawn(forward);
    });
    assert!(recorder.end().list.is_empty());
    drop(OperatorRecorder::begin(1000));
    let recorder = OperatorRecorder::begin(1000);
    forward();
    assert!(!recorder.end().list.is_empty(), "the one before has made room");
}
