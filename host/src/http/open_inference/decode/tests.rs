//! Requests, and what is understood of them.

use serde_json::json;

use super::*;

/// A request with this JSON and these bytes behind it.
fn with_binary(json: &Value, behind: &[u8]) -> Result<Decoded, String> {
    let mut body = serde_json::to_vec(json).unwrap();
    let length = body.len();
    body.extend(behind);
    decode(&body.into(), Some(length))
}

fn json_only(json: &Value) -> Result<Decoded, String> {
    decode(&serde_json::to_vec(json).unwrap().into(), None)
}

fn one(input: &Value) -> Value {
    json!({"inputs": [input]})
}

#[test]
fn json_becomes_tensors() {
    let decoded = json_only(&json!({
        "id": "mine",
        "parameters": {"unknown": 1},
        "inputs": [
            {"name": "x", "shape": [2, 2], "datatype": "FP32", "data": [[1, 2], [3, 4]]},
            // The order of the keys doesn't matter.
            {"data": [true], "datatype": "BOOL", "shape": [1], "name": "mask", "parameters": null},
        ],
        "outputs": [{"name": "b"}, {"name": "a", "parameters": {"binary_data": true}}],
    }))
    .unwrap();
    assert_eq!(decoded.id.as_deref(), Some("mine"));
    let floats: Vec<u8> = [1.0_f32, 2.0, 3.0, 4.0].iter().flat_map(|value| value.to_le_bytes()).collect();
    let tensor = |name: &str, datatype, shape: &[i64], bytes: Vec<u8>| NamedTensor {
        name: name.to_owned(),
        datatype,
        shape: shape.to_vec(),
        bytes: bytes.into(),
    };
    let expected = [tensor("x", DType::F32, &[2, 2], floats), tensor("mask", DType::Bool, &[1], vec![1])];
    assert_eq!(decoded.call.inputs, expected);
    assert_eq!(decoded.call.outputs, ["b", "a"]);
    assert!(decoded.binary.wants("a") && !decoded.binary.wants("b"));
    let bare = json_only(&json!({"inputs": []})).unwrap();
    assert!(bare.id.is_none() && bare.call.inputs.is_empty() && bare.call.outputs.is_empty());
}

#[test]
fn binary_tensors_lie_behind_the_json_in_the_order_of_the_inputs() {
    let decoded = with_binary(
        &json!({
            "inputs": [
                {"name": "x", "shape": [2], "datatype": "INT16", "parameters": {"binary_data_size": 4}},
                {"name": "n", "shape": [1], "datatype": "UINT8", "data": [9]},
                {"name": "b", "shape": [3], "datatype": "BOOL", "parameters": {"binary_data_size": 3}},
                {"name": "h", "shape": [1], "datatype": "BF16", "parameters": {"binary_data_size": 2}},
            ],
            "parameters": {"binary_data_output": true},
            "outputs": [{"name": "y", "parameters": {"binary_data": false}}],
        }),
        &[1, 0, 2, 0, 0, 1, 7, 0x80, 0x3f],
    )
    .unwrap();
    let bytes: Vec<_> = decoded.call.inputs.iter().map(|input| input.bytes.to_vec()).collect();
    assert_eq!(bytes, [vec![1, 0, 2, 0], vec![9], vec![0, 1, 1], vec![0x80, 0x3f]]);
    assert!(decoded.binary.wants("z") && !decoded.binary.wants("y"));
}

#[test]
fn what_is_wrong_is_said_with_the_input_s_name() {
    let x = |shape: Value, datatype: &str, data: Value| {
        one(&json!({"name": "x", "shape": shape, "datatype": datatype, "data": data}))
    };
    for (body, said) in [
        (json!([]), "no inference request of the Open Inference Protocol"),
        (json!({}), "missing field `inputs`"),
        (one(&json!({"name": "x", "datatype": "FP32", "data": [1]})), "missing field `shape`"),
        (
            x(json!([1]), "FLOAT", json!([1])),
            "the input \"x\": \"FLOAT\" is no datatype of the protocol: use one of BOOL",
        ),
        (x(json!([1]), "BYTES", json!(["a"])), "can't hold BYTES"),
        (x(json!([1]), "UINT64", json!([1])), "can't hold UINT64"),
        (x(json!([-1]), "FP32", json!([1])), "the input \"x\": [-1] is no shape"),
        (x(json!([i64::MAX, 4]), "FP32", json!([1])), "is no shape"),
        (
            x(json!([2, 2]), "FP32", json!([1, 2, 3])),
            "the input \"x\": FP32 of shape [2, 2]: its data has 3 elements, and its shape has room for 4",
        ),
        (x(json!([1]), "INT8", json!([300])), "INT8 of shape [1]: element 0 of its data is 300"),
        (x(json!([1]), "BF16", json!([1])), "BF16 has no form in JSON"),
        (one(&json!({"name": "x", "shape": [1], "datatype": "FP32"})), "neither data nor binary_data_size"),
        (
            one(&json!({"name": "x", "shape": [1], "datatype": "FP32", "parameters": {"binary_data_size": 4}})),
            "no header Inference-Header-Content-Length",
        ),
        (
            one(&json!({"name": "x", "shape": [1], "datatype": "FP32", "parameters": {"shared_memory_region": "r"}})),
            "shared memory is not here",
        ),
        (
            json!({"inputs": [], "outputs": [{"name": "y", "parameters": {"classification": 2}}]}),
            "the output \"y\": the extension for classification is not here",
        ),
        (
            json!({"inputs": [], "outputs": [{"name": "y", "parameters": {"binary_data": 1}}]}),
            "the output \"y\": binary_data is 1, and must be true or false",
        ),
        (json!({"inputs": [], "parameters": {"binary_data_output": "yes"}}), "binary_data_output is \"yes\""),
    ] {
        let error = json_only(&body).unwrap_err();
        assert!(error.contains(said), "{error:?} should say {said:?}");
    }
    assert!(decode(&Bytes::from_static(b"{\"inputs\": ["), None).unwrap_err().contains("line 1 column"));
}

#[test]
fn binary_data_of_the_wrong_size_is_refused() {
    let x = |size: Value| {
        one(&json!({"name": "x", "shape": [2], "datatype": "INT16", "parameters": {"binary_data_size": size}}))
    };
    for (body, behind, said) in [
        (x(json!(5)), &[0; 5][..], "its binary_data_size is 5, and such a tensor has 4 bytes"),
        (x(json!("4")), &[0; 4], "its binary_data_size is \"4\""),
        (x(json!(4)), &[0; 3], "its 4 bytes are not all there: the body has 3 left"),
        (x(json!(4)), &[0; 6], "2 bytes of the body belong to no input"),
        (
            one(
                &json!({"name": "x", "shape": [2], "datatype": "INT16", "data": [1, 2], "parameters": {"binary_data_size": 4}}),
            ),
            &[0; 4],
            "it has data as well as binary_data_size",
        ),
    ] {
        let error = with_binary(&body, behind).unwrap_err();
        assert!(error.contains(said), "{error:?} should say {said:?}");
    }
    let error = decode(&Bytes::from_static(b"{}"), Some(3)).unwrap_err();
    assert_eq!(error, "the header Inference-Header-Content-Length is 3, and the body has only 2 bytes");
}

#[test]
fn a_short_request_can_not_ask_for_much() {
    let output = |name: &str| json!({"name": name});
    let twice = json_only(&json!({"inputs": [], "outputs": [output("a"), output("b"), output("a")]}));
    assert_eq!(twice.unwrap_err(), "the output \"a\" is asked for twice");
    let names: Vec<Value> = (0..1025).map(|index| output(&index.to_string())).collect();
    let many = json_only(&json!({"inputs": [], "outputs": names})).unwrap_err();
    assert_eq!(many, "the request has 1025 outputs: more than 1024 are not taken");
    let input = json!({"name": "x", "shape": [0], "datatype": "BOOL", "data": []});
    let many = json_only(&json!({"inputs": vec![input; 1025]})).unwrap_err();
    assert_eq!(many, "the request has 1025 inputs: more than 1024 are not taken");
}

#[test]
fn a_tensor_without_elements_has_a_shape_that_can_be() {
    let shaped = |shape: Value| json_only(&one(&json!({"name": "x", "shape": shape, "datatype": "FP32", "data": []})));
    assert!(shaped(json!([0, 3])).is_ok() && shaped(json!([3, 0])).is_ok());
    for shape in [json!([0, i64::MAX]), json!([i64::MAX, 0]), json!([0, 1_i64 << 31, 1_i64 << 31]), json!([0, -1])] {
        assert!(shaped(shape.clone()).unwrap_err().contains("is no shape"), "{shape}");
    }
}
