//! The handler as the server calls it.

use std::cell::RefCell;
use std::rc::Rc;

use handler_sdk::Answer;
use handler_sdk::testing::Host;
use handler_sdk::testing::Request as Sent;

use super::*;

/// The shapes that a model was called with.
type Calls = Rc<RefCell<Vec<Vec<i64>>>>;

/// A stand-in for TorchScript, which refuses negative numbers: each picture's scores are its sum and the number of its elements.
fn host() -> (Host, Calls) {
    let calls = Calls::default();
    let seen = Rc::clone(&calls);
    let model = move |inputs: &[Value]| {
        let rows = inputs[0].as_tensor()?.unbind()?;
        seen.borrow_mut().push(inputs[0].as_tensor()?.shape());
        let mut scores = Vec::new();
        for row in &rows {
            let values = row.to_f64()?;
            if values.iter().any(|value| *value < 0.0) {
                return Err(Error::new("a negative number"));
            }
            scores.extend([values.iter().sum::<f64>(), values.len() as f64]);
        }
        Ok(Tensor::from_slice(&[rows.len() as i64, 2], &scores)?.into())
    };
    (Host::new().model(model), calls)
}

fn tensor(shape: &[i64], value: f32) -> Tensor {
    let count = usize::try_from(shape.iter().product::<i64>()).unwrap();
    Tensor::from_slice(shape, &vec![value; count]).unwrap()
}

fn sent(shape: &[i64], value: f32) -> Sent {
    Sent::body(torch_file::save(&tensor(shape, value)).unwrap())
}

fn output(answer: &Result<Answer>) -> (Vec<i64>, Vec<f64>) {
    let tensor = torch_file::load(&answer.as_ref().unwrap().body).unwrap();
    (tensor.shape(), tensor.to_f64().unwrap())
}

#[test]
fn a_tensor_is_answered_with_a_tensor() {
    let (host, calls) = host();
    let mut handler = host.start::<DenseNetHandler>().unwrap();
    let answers = handler.handle(&[sent(&[3, 2, 2], 0.5)]);
    assert_eq!(output(&answers[0]), (vec![1, 2], vec![6.0, 12.0]));
    assert_eq!((answers[0].as_ref().unwrap().status, &answers[0].as_ref().unwrap().content_type), (200, &None));
    let data = Sent::default().field("data", torch_file::save(&tensor(&[1, 3, 2, 2], 1.0)).unwrap());
    assert_eq!(output(&handler.predict(data)), (vec![1, 2], vec![12.0, 12.0]));
    assert_eq!(output(&handler.predict(sent(&[5], 1.0))), (vec![1, 2], vec![5.0, 5.0]));
    assert_eq!(*calls.borrow(), [vec![1, 3, 2, 2], vec![1, 3, 2, 2], vec![1, 5]]);
}

#[test]
fn tensors_of_one_shape_are_computed_in_one_call_and_each_gets_its_rows() {
    let (host, calls) = host();
    let mut handler = host.start::<DenseNetHandler>().unwrap();
    let answers = handler.handle(&[
        sent(&[3, 2, 2], 1.0),
        sent(&[3, 1, 2], 2.0),
        sent(&[2, 3, 2, 2], 3.0),
        Sent::body("no tensor"),
        sent(&[1, 3, 2, 2], 4.0),
        sent(&[0, 3, 2, 2], 5.0),
    ]);
    assert_eq!(output(&answers[0]), (vec![1, 2], vec![12.0, 12.0]));
    assert_eq!(output(&answers[1]), (vec![1, 2], vec![12.0, 6.0]));
    assert_eq!(output(&answers[2]), (vec![2, 2], vec![36.0, 12.0, 36.0, 12.0]));
    assert_eq!(output(&answers[4]), (vec![1, 2], vec![48.0, 12.0]));
    assert_eq!(*calls.borrow(), [vec![4, 3, 2, 2], vec![1, 3, 1, 2]]);
    for (index, wanted) in [(3, "field `body` begins with \"no tensor\""), (5, "a batch without pictures")] {
        let error = answers[index].as_ref().unwrap_err();
        assert_eq!(error.status(), 400);
        assert!(error.client_text().contains(wanted), "{error}");
    }
}

#[test]
fn a_tensor_that_the_model_refuses_fails_alone() {
    let (host, calls) = host();
    let mut handler = host.start::<DenseNetHandler>().unwrap();
    let answers = handler.handle(&[sent(&[2], 1.0), sent(&[2], -1.0), sent(&[2], 3.0)]);
    assert_eq!(output(&answers[0]).1, [2.0, 2.0]);
    assert_eq!(output(&answers[2]).1, [6.0, 2.0]);
    let error = answers[1].as_ref().unwrap_err();
    assert_eq!((error.status(), error.client_text()), (503, "Prediction failed"));
    assert!(error.log_text().contains("a negative number"), "{error}");
    assert_eq!(*calls.borrow(), [vec![3, 2], vec![1, 2], vec![1, 2], vec![1, 2]]);
}

#[test]
fn a_model_that_gives_no_row_for_each_is_called_for_each() {
    let sum = |inputs: &[Value]| {
        let values = inputs[0].as_tensor()?.to_f64()?;
        Ok(Tensor::from_slice(&[1, 1], &[values.iter().sum::<f64>()])?.into())
    };
    let mut handler = Host::new().model(sum).start::<DenseNetHandler>().unwrap();
    let answers = handler.handle(&[sent(&[2], 1.0), sent(&[2], 2.0)]);
    assert_eq!([output(&answers[0]), output(&answers[1])], [(vec![1, 1], vec![2.0]), (vec![1, 1], vec![4.0])]);
}

#[test]
fn an_archive_without_a_model_is_refused_at_start() {
    let error = Host::new().start::<DenseNetHandler>().unwrap_err();
    assert!(error.log_text().contains("holds no model: pack one with --serialized-file"), "{error}");
}

/// The smallest network that the SDK has built in, with weights that are all 0.
fn state_dict() -> Host {
    let shapes: [(&str, &[i64]); 8] = [
        ("conv1.weight", &[32, 1, 3, 3]),
        ("conv1.bias", &[32]),
        ("conv2.weight", &[64, 32, 3, 3]),
        ("conv2.bias", &[64]),
        ("fc1.weight", &[128, 9216]),
        ("fc1.bias", &[128]),
        ("fc2.weight", &[10, 128]),
        ("fc2.bias", &[10]),
    ];
    Host::new().weights(shapes.map(|(name, shape)| (name, tensor(shape, 0.0))))
}

#[cfg(feature = "tch")]
#[test]
fn a_state_dict_is_served_by_the_network_built_in() {
    let mut handler = state_dict().start::<DenseNetHandler>().unwrap();
    let answers = handler.handle(&[sent(&[1, 28, 28], 1.0), sent(&[3, 28, 28], 1.0), sent(&[1, 1, 28, 28], 1.0)]);
    for index in [0, 2] {
        let (shape, scores) = output(&answers[index]);
        assert_eq!(shape, [1, 10]);
        assert!(scores.iter().all(|score| (score + 10_f64.ln()).abs() < 1e-5), "{scores:?}");
    }
    let error = answers[1].as_ref().unwrap_err();
    assert_eq!(error.status(), 400);
    assert!(error.client_text().contains("takes pictures of shape [n, 1, 28, 28], not [1, 3, 28, 28]"), "{error}");
}

#[cfg(not(feature = "tch"))]
#[test]
fn a_state_dict_needs_the_feature() {
    let error = state_dict().start::<DenseNetHandler>().unwrap_err();
    assert!(error.log_text().contains("build it with the feature `architectures`"), "{error}");
}
