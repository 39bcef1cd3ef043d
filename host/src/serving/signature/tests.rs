//! Which input goes where, and what an output is called.

use super::*;

fn parameter(text: &str) -> Parameter {
    let (text, is_optional) = text.strip_suffix('?').map_or((text, false), |text| (text, true));
    let (name, kind) = match text.split_once(':') {
        None => (text, ParameterKind::Tensor),
        Some((name, "list")) => (name, ParameterKind::List),
        Some((name, "dict")) => (name, ParameterKind::Dict),
        Some((name, _)) => (name, ParameterKind::Other),
    };
    Parameter { name: name.to_owned(), kind, is_optional }
}

fn signature(parameters: &[&str]) -> Signature {
    let parameters = parameters.iter().map(|text| parameter(text)).collect();
    Signature::new(Schema { parameters, outputs: Some(2) }, Declared::default())
}

fn spec(name: &str, shape: &[i64]) -> TensorSpec {
    TensorSpec { name: name.to_owned(), datatype: DType::F32, shape: shape.to_vec() }
}

fn input(name: &str) -> NamedTensor {
    NamedTensor { name: name.to_owned(), datatype: DType::F32, shape: vec![0], bytes: Bytes::new() }
}

fn leaf(key: Option<&str>) -> Leaf {
    Leaf { key: key.map(str::to_owned), datatype: DType::U8, shape: vec![0], bytes: Bytes::new() }
}

/// In which order the inputs go in, or what is said to the client.
fn arranged(signature: &Signature, names: &[&str]) -> Result<(Arranged, Vec<usize>), String> {
    let inputs: Vec<_> = names.iter().map(|name| input(name)).collect();
    signature.arrange(&inputs).map_err(|error| {
        assert_eq!(error.status(), 400, "{error}");
        error.client_text().to_owned()
    })
}

#[test]
fn inputs_go_in_by_name_by_index_or_by_order() {
    for (parameters, names, expected) in [
        (&["x"][..], &["x"][..], vec![0]),
        (&["x"], &["anything"], vec![0]),
        (&["x", "y"], &["y", "x"], vec![1, 0]),
        (&["x", "y"], &["INPUT__1", "INPUT__0"], vec![1, 0]),
        (&["x", "y"], &["b__1", "a__0"], vec![1, 0]),
        (&["x", "y"], &["b", "a"], vec![0, 1]),
        // No such indices: they are names as others.
        (&["x", "y"], &["a__7", "b__3"], vec![0, 1]),
        (&["x", "mask?"], &["x"], vec![0]),
        (&["x", "mask?"], &["mask", "x"], vec![1, 0]),
        (&["x", "mask?"], &["first"], vec![0]),
        (&["x", "scale:float?"], &["x"], vec![0]),
        (&[], &[], vec![]),
    ] {
        assert_eq!(arranged(&signature(parameters), names), Ok((Arranged::Each, expected)), "{parameters:?} {names:?}");
    }
    assert_eq!(arranged(&signature(&["items:list"]), &["b", "a"]), Ok((Arranged::List, vec![0, 1])));
    assert_eq!(arranged(&signature(&["named:dict", "n:int?"]), &["b"]), Ok((Arranged::Dict, vec![0])));
}

#[test]
fn inputs_that_do_not_fit_are_refused_by_name() {
    for (parameters, names, said) in [
        (&["x"][..], &[][..], "the request has 0 inputs, and the model takes 1: [\"x\"]"),
        (&["x"], &["a", "b"], "the request has 2 inputs, and the model takes 1: [\"x\"]"),
        (&["x", "y?"], &["a", "b", "c"], "takes 1 to 2"),
        (&["x", "y"], &["x", "z"], "no input \"z\": its inputs are [\"x\", \"y\"]"),
        (&["x", "y"], &["y"], "the input \"x\" is missing"),
        (&["x", "m?", "n?"], &["x", "n"], "the input \"m\" is missing"),
        (&["x", "scale:float"], &["x", "scale"], "the model's parameter \"scale\" is no tensor"),
        (&["x", "y"], &["x", "x"], "the input \"x\" came twice"),
    ] {
        let error = arranged(&signature(parameters), names).unwrap_err();
        assert!(error.contains(said), "{error:?} should say {said:?}");
    }
}

#[test]
fn declared_inputs_count() {
    let mut declared = signature(&["first", "second"]);
    declared.declared.inputs = Some(vec![spec("a", &[-1, 3]), spec("b", &[2])]);
    let tensor = |name: &str, datatype, shape: &[i64]| NamedTensor {
        name: name.to_owned(),
        datatype,
        shape: shape.to_vec(),
        bytes: Bytes::new(),
    };
    let (a, b) = (tensor("a", DType::F32, &[7, 3]), tensor("b", DType::F32, &[2]));
    assert_eq!(declared.arrange(&[b.clone(), a.clone()]).unwrap(), (Arranged::Each, vec![1, 0]));
    for (inputs, said) in [
        (vec![a.clone()], "the input \"b\" is missing: the model's inputs are [\"a\", \"b\"]"),
        (vec![a.clone(), b.clone(), input("first")], "no input \"first\": its inputs are [\"a\", \"b\"]"),
        (
            vec![tensor("a", DType::I64, &[7, 3]), b.clone()],
            "\"a\" is INT64 of shape [7, 3], and the model takes FP32 of shape [-1, 3], where -1 is any length",
        ),
        (
            vec![tensor("a", DType::F32, &[3]), b.clone()],
            "FP32 of shape [3], and the model takes FP32 of shape [-1, 3]",
        ),
        (vec![a, tensor("b", DType::F32, &[3])], "\"b\" is FP32 of shape [3], and the model takes FP32 of shape [2]"),
    ] {
        let error = declared.arrange(&inputs).unwrap_err();
        assert_eq!(error.status(), 400);
        assert!(error.client_text().contains(said), "{error:?} should say {said:?}");
    }
}

#[test]
fn outputs_have_their_key_the_declared_name_or_a_number() {
    let names = |signature: &Signature, keys: &[Option<&str>]| -> Vec<String> {
        let leaves = keys.iter().map(|key| leaf(*key)).collect();
        signature.name_outputs(leaves, &[]).unwrap().into_iter().map(|output| output.name).collect()
    };
    let plain = signature(&["x"]);
    assert_eq!(names(&plain, &[None, None]), ["OUTPUT__0", "OUTPUT__1"]);
    assert_eq!(names(&plain, &[Some("scores"), Some("boxes")]), ["scores", "boxes"]);
    assert_eq!(names(&plain, &[Some("boxes"), None, Some("boxes")]), ["boxes", "OUTPUT__1", "boxes__2"]);
    let mut declared = plain.clone();
    declared.declared.outputs = Some(vec![spec("logits", &[-1])]);
    assert_eq!(names(&declared, &[None, None]), ["logits", "OUTPUT__1"]);
    let error = declared.name_outputs(Vec::new(), &[]).unwrap_err();
    assert_eq!(error.client_text(), "Prediction failed", "a wrong declaration is no fault of the client");
    assert!(error.log_text().contains("model-config.yaml declares 1 outputs"), "{error}");
}

#[test]
fn what_is_known_is_told_and_nothing_else() {
    let told = |known: Vec<KnownTensor>| -> Vec<String> { known.into_iter().map(|tensor| tensor.name).collect() };
    let plain = signature(&["x", "scale:float?"]);
    assert!(!plain.declares_inputs());
    assert_eq!(told(plain.inputs()), ["x"]);
    assert_eq!(plain.inputs()[0].spec, None);
    assert_eq!(told(plain.outputs()), ["OUTPUT__0", "OUTPUT__1"]);
    assert_eq!(told(signature(&["named:dict"]).inputs()), Vec::<String>::new());
    let mut declared = plain;
    declared.declared.inputs = Some(vec![spec("a", &[-1])]);
    assert!(declared.declares_inputs());
    assert_eq!(declared.inputs()[0].spec, Some((DType::F32, vec![-1])));
}
