//! Compiled models over HTTP: AOTInductor packages in archives, for a handler and without one.
#![cfg(feature = "torch")]

use std::fs;

use serde_json::Value;
use serde_json::json;

use crate::support::Answer;
use crate::support::Archive;
use crate::support::Sent;
use crate::support::Server;
use crate::support::Setup;
use crate::support::first_party;
use crate::support::repository;
use crate::support::says;

fn packaged(name: &str, file: &str, handler: &str) -> Archive {
    Archive::new(name, handler).weights(&repository().join("host/src/model/torch/testdata").join(file))
}

/// A tensor of ones.
fn tensor(name: &str, shape: &[usize], datatype: &str) -> Value {
    let data = vec![1; shape.iter().product()];
    json!({"name": name, "shape": shape, "datatype": datatype, "data": data})
}

fn infer(server: &Server, inputs: &Value) -> Answer {
    let request = Sent::body(json!({"inputs": inputs}).to_string()).content_type("application/json");
    server.inference("/v2/models/sizes/infer", &request)
}

#[test]
fn a_wrong_shape_is_the_clients_error_and_a_batch_is_one_call() {
    let colours = packaged("colours", "colours.pt2", "image_classifier").config("batchSize: 8\nmaxBatchDelay: 5\n");
    let server = Setup::with_echo()
        .plugin(&first_party("base-handler"))
        .plugin(&first_party("image-classifier"))
        .model(&packaged("sizes", "sizes.pt2", "base_handler"))
        .model(&colours)
        .start();
    let told = server.inference("/v2/models/sizes", &Sent::get()).json();
    let names: Vec<&Value> = told["inputs"].as_array().unwrap().iter().map(|input| &input["name"]).collect();
    assert_eq!(names, ["input0", "mask"]);

    let right = json!([tensor("input0", &[2, 5, 3], "FP32"), tensor("mask", &[2, 5, 3], "FP32")]);
    let answer = infer(&server, &right).json();
    assert_eq!(answer["outputs"][0]["data"], json!([5.0, 5.0, 5.0, 5.0, 5.0, 5.0]), "{answer}");
    for (x, mask, datatype, said) in [
        // The compiled code would read as far as the first input goes.
        ([8, 512, 3], [1, 1, 3], "FP32", "mask has the shape [1, 1, 3], whose dimension 0 is 1"),
        ([2, 5, 3], [2, 4, 3], "FP32", "mask has the shape [2, 4, 3], whose dimension 1 is 4"),
        ([9, 5, 3], [9, 5, 3], "FP32", "input0 has the shape [9, 5, 3], whose dimension 0 is 9"),
        ([2, 5, 4], [2, 5, 4], "FP32", "the model takes float32 of shape [1 to 8, 1 to 512, 3]"),
        ([2, 5, 3], [2, 5, 3], "INT64", "mask is of int64, and the model takes float32"),
    ] {
        let answer = infer(&server, &json!([tensor("input0", &x, "FP32"), tensor("mask", &mask, datatype)]));
        assert_eq!(answer.status, 400, "{}", answer.text());
        says(&answer.text(), &[said]);
    }
    assert_eq!(infer(&server, &right).status, 200);

    let picture = |digit: usize| fs::read(repository().join(format!("model-store/mnist/digits/{digit}.png"))).unwrap();
    let alone: Vec<Value> = (0..4).map(|digit| server.predict("colours", picture(digit)).json()).collect();
    assert_eq!(alone[0].as_object().unwrap().len(), 3, "{}", alone[0]);
    std::thread::scope(|scope| {
        for client in 0..12 {
            let (server, alone) = (&server, &alone);
            scope.spawn(move || {
                for _ in 0..5 {
                    let digit = client % alone.len();
                    assert_eq!(server.predict("colours", picture(digit)).json(), alone[digit]);
                }
            });
        }
    });
    server.still_serves();
}
