//! The handler as the server calls it; the models are closures, the pictures are made here.

use std::cell::RefCell;
use std::fs;
use std::io::Cursor;
use std::rc::Rc;

use handler_sdk::Answer;
use handler_sdk::Level;
use handler_sdk::prelude::*;
use handler_sdk::testing::Host;
use handler_sdk::testing::Request as Sent;
use image::ImageFormat;
use image::Rgb;
use image::RgbImage;
use serde_json::Value as Json;
use serde_json::json;

use super::*;

fn picture(width: u32, height: u32) -> Sent {
    let mut bytes = Cursor::new(Vec::new());
    RgbImage::from_pixel(width, height, Rgb([255, 0, 51])).write_to(&mut bytes, ImageFormat::Png).unwrap();
    Sent::body(bytes.into_inner())
}

/// Three boxes that tell the picture's size, of classes 1, 3 and 2.
fn found_on(picture: &Value) -> Result<[Tensor; 3]> {
    let [3, height, width] = picture.as_tensor()?.shape()[..] else {
        return Err(Error::new("the model takes pictures of shape [3, h, w]"));
    };
    let (width, height) = (width as f32, height as f32);
    let boxes = [0.0, 0.0, width, height, 1.5, 2.0, 3.0, 4.0, 0.25, 0.5, width - 0.25, 1.0];
    Ok([
        Tensor::from_slice(&[3, 4], &boxes)?,
        Tensor::from_slice(&[3], &[1_i64, 3, 2])?,
        Tensor::from_slice(&[3], &[0.875_f32, 0.3, 0.5])?,
    ])
}

fn dict(tensors: [Tensor; 3]) -> Value {
    let names = ["boxes", "labels", "scores"].map(str::to_owned);
    Value::Dict(names.into_iter().zip(tensors.map(Value::from)).collect())
}

fn pictures(inputs: &[Value]) -> Result<&[Value]> {
    match inputs {
        [Value::List(pictures)] => Ok(pictures),
        other => Err(Error::new(format!("the model takes one list, not {other:?}"))),
    }
}

/// As torchvision's detectors do outside of TorchScript.
fn listing(inputs: &[Value]) -> Result<Value> {
    Ok(Value::List(pictures(inputs)?.iter().map(|picture| found_on(picture).map(dict)).collect::<Result<_>>()?))
}

/// As torchvision's detectors do in TorchScript.
fn with_losses(inputs: &[Value]) -> Result<Value> {
    Ok(Value::List(vec![Value::Dict(Vec::new()), listing(inputs)?]))
}

/// One picture in, one dict out.
fn one_dict(inputs: &[Value]) -> Result<Value> {
    match pictures(inputs)? {
        [picture] => found_on(picture).map(dict),
        other => Err(Error::new(format!("the model takes one picture, not {}", other.len()))),
    }
}

/// One picture in, a tuple of tensors out.
fn tuple(inputs: &[Value]) -> Result<Value> {
    match pictures(inputs)? {
        [picture] => Ok(Value::List(found_on(picture)?.map(Value::from).into())),
        other => Err(Error::new(format!("the model takes one picture, not {}", other.len()))),
    }
}

/// Pictures of one size only, as where the host makes one tensor of the list.
fn of_one_size(inputs: &[Value]) -> Result<Value> {
    let tensors: Vec<Tensor> =
        pictures(inputs)?.iter().map(|picture| picture.as_tensor().cloned()).collect::<Result<_>>()?;
    Tensor::stack(&tensors)?;
    listing(inputs)
}

fn json(answer: Result<Answer>) -> Json {
    serde_json::from_slice(&answer.unwrap().body).unwrap()
}

fn wanted(width: u32, height: u32) -> Json {
    json!([
        {"1": [0.0, 0.0, f64::from(width), f64::from(height)], "score": 0.875},
        {"2": [0.25, 0.5, f64::from(width) - 0.25, 1.0], "score": 0.5},
    ])
}

#[test]
fn a_picture_is_answered_with_what_scores_high_enough() {
    for model in [listing, with_losses, one_dict, tuple, of_one_size] {
        let mut handler = Host::new().model(model).start::<ObjectDetector>().unwrap();
        assert!(handler.log().is_empty(), "{:?}", handler.log());
        let answer = handler.predict(picture(30, 20)).unwrap();
        assert_eq!(answer.content_type.as_deref(), Some("application/json"));
        assert_eq!(json(Ok(answer)), wanted(30, 20));
    }
}

#[test]
fn pictures_of_a_batch_may_differ_in_size() {
    for model in [listing, with_losses, one_dict, tuple, of_one_size] {
        let mut handler = Host::new().model(model).start::<ObjectDetector>().unwrap();
        let answers = handler.handle(&[picture(30, 20), Sent::body("no picture"), picture(7, 9), picture(30, 20)]);
        for (index, (width, height)) in [(0, (30, 20)), (2, (7, 9)), (3, (30, 20))] {
            assert_eq!(json(answers[index].clone()), wanted(width, height));
        }
        let error = answers[1].as_ref().unwrap_err();
        assert_eq!(error.status(), 400);
        assert!(error.client_text().contains("holds no picture"), "{error}");
    }
}

#[test]
fn a_batch_that_the_model_can_take_is_one_call() {
    let calls = Rc::new(RefCell::new(Vec::new()));
    let seen = Rc::clone(&calls);
    let host = Host::new().model(move |inputs| {
        seen.borrow_mut().push(pictures(inputs)?.len());
        with_losses(inputs)
    });
    let mut handler = host.start::<ObjectDetector>().unwrap();
    handler.handle(&[picture(30, 20), picture(7, 9)]);
    assert_eq!(*calls.borrow(), [1, 2], "the self-test, and the batch");
}

#[test]
fn the_model_sees_colours_from_0_to_1_in_the_picture_s_own_size() {
    let colours = |inputs: &[Value]| {
        let picture = pictures(inputs)?[0].as_tensor()?;
        let values = picture.to_vec::<f32>()?;
        let size = values.len() / 3;
        let corner = [values[0], values[size], values[2 * size], 0.0];
        let tensors = [
            Tensor::from_slice(&[1, 4], &corner)?,
            Tensor::from_slice(&[1], &picture.shape()[2..])?,
            Tensor::from_slice(&[1], &[1.0_f32])?,
        ];
        Ok(dict(tensors))
    };
    let mut handler = Host::new().model(colours).start::<ObjectDetector>().unwrap();
    let answer = json(handler.predict(picture(30, 20)));
    assert_eq!(answer[0]["30"], json!([1.0, 0.0, f64::from(0.2_f32), 0.0]));
    // Lists go to the model as they are.
    let answer = json(handler.predict(Sent::json(&json!([[[5, 6]], [[7, 8]], [[9, 10]]]))));
    assert_eq!(answer[0]["2"], json!([5.0, 7.0, 9.0, 0.0]));
}

#[test]
fn the_threshold_is_a_setting_of_the_model() {
    let host = || Host::new().model(with_losses);
    for (config, count) in [
        (json!({"handler": {"threshold": 0}}), 3),
        // The score is 0.3 in float32, which is a little more than 0.3.
        (json!({"handler": {"threshold": 0.3}}), 3),
        (json!({"handler": {"threshold": 0.31}}), 2),
        (json!({"handler": {"threshold": 1.0}}), 0),
        (json!({"handler": {}}), 2),
    ] {
        let mut handler = host().config(config.clone()).start::<ObjectDetector>().unwrap();
        assert_eq!(json(handler.predict(picture(30, 20))).as_array().unwrap().len(), count, "{config}");
    }
    for wrong in [json!(50), json!(-0.1), json!("high"), json!(true)] {
        let error = host().config(json!({"handler": {"threshold": wrong}})).start::<ObjectDetector>().unwrap_err();
        assert!(error.log_text().contains(&format!("`handler: {{threshold: {wrong}}}`")), "{error}");
        assert!(error.log_text().contains("from 0 to 1"), "{error}");
    }
}

#[test]
fn labels_are_those_of_the_archive() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("index_to_name.json");
    let start = |content: &str| {
        fs::write(&file, content).unwrap();
        Host::new().model(with_losses).model_dir(folder.path()).start::<ObjectDetector>()
    };
    let mut handler = start(r#"{"object_type_names": ["background", "person", "cat", "dog"]}"#).unwrap();
    let answer = json(handler.predict(picture(30, 20)));
    assert_eq!(answer[0], json!({"person": [0.0, 0.0, 30.0, 20.0], "score": 0.875}));
    assert_eq!(answer[1]["cat"][2], json!(29.75));

    // Class 3 isn't likely enough to be named, class 2 is.
    let mut handler = start(r#"{"1": "person"}"#).unwrap();
    let error = handler.predict(picture(30, 20)).unwrap_err();
    assert_eq!((error.status(), error.client_text()), (503, "Prediction failed"));
    for part in ["class 2", "index_to_name.json", "among its 1"] {
        assert!(error.log_text().contains(part), "{error} lacks {part}");
    }

    let error = start("{\"1\": 7}").unwrap_err();
    assert!(error.log_text().contains("index_to_name.json has the number 7 as the label of class \"1\""), "{error}");
}

#[test]
fn a_class_named_as_the_score_is_told_to_the_operator() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("index_to_name.json"), r#"{"1": "score", "2": "cat"}"#).unwrap();
    let mut handler = Host::new().model(with_losses).model_dir(folder.path()).start::<ObjectDetector>().unwrap();
    let (level, line) = handler.log().remove(0);
    assert_eq!(level, Level::Warn);
    assert!(line.contains("labels a class \"score\"") && line.contains("rename it"), "{line}");
    // As TorchServe answers.
    assert_eq!(json(handler.predict(picture(30, 20)))[0], json!({"score": 0.875}));
}

#[test]
fn nothing_found_is_an_empty_list() {
    for boxes in [vec![0, 4], vec![0]] {
        let nothing = move |_: &[Value]| {
            let none = Tensor::from_slice::<f32>(&[0], &[])?;
            Ok(dict([Tensor::from_slice::<f32>(&boxes, &[])?, Tensor::from_slice::<i64>(&[0], &[])?, none]))
        };
        let mut handler = Host::new().model(nothing).start::<ObjectDetector>().unwrap();
        assert_eq!(json(handler.predict(picture(30, 20))), json!([]));
    }
}

#[test]
fn a_model_that_gives_no_boxes_is_refused_with_what_it_gives() {
    type Model = fn(&[Value]) -> Result<Value>;
    fn floats(shape: &[i64]) -> Tensor {
        let size = usize::try_from(shape.iter().product::<i64>()).unwrap();
        Tensor::from_slice(shape, &vec![1.0_f32; size]).unwrap()
    }
    let scores: Model = |_| Ok(floats(&[1, 1000]).into());
    let pair: Model = |_| Ok(Value::List(vec![floats(&[2, 4]).into(), floats(&[2]).into()]));
    let other_names: Model = |_| Ok(Value::Dict(vec![("out".to_owned(), floats(&[1, 21, 4, 4]).into())]));
    let too_many: Model = |inputs| Ok(Value::List(vec![one_dict(inputs)?, one_dict(inputs)?]));
    let fives: Model = |_| Ok(dict([floats(&[2, 5]), floats(&[2]), floats(&[2])]));
    let unequal: Model = |_| Ok(dict([floats(&[2, 4]), floats(&[3]), floats(&[2])]));
    for (model, wanted) in [
        (scores, "gave a tensor of shape [1, 1000] for a batch of 1; ObjectDetector needs one dict a picture"),
        (pair, "gave a list of [a tensor of shape [2, 4], a tensor of shape [2]] for a batch of 1"),
        (other_names, "no \"boxes\": it is a dict with [\"out\"]"),
        (too_many, "list of [a dict with [\"boxes\", \"labels\", \"scores\"], a dict with"),
        (fives, "`boxes` of shape [2, 5]"),
        (unequal, "`labels` [3] and `scores` [2]"),
    ] {
        let error = Host::new().model(model).start::<ObjectDetector>().unwrap_err();
        assert!(error.log_text().contains(wanted), "{error} lacks {wanted}");
    }
}

#[test]
fn a_label_that_is_no_class_is_an_error() {
    let odd = |inputs: &[Value]| {
        let [boxes, _, scores] = found_on(&pictures(inputs)?[0])?;
        Ok(dict([boxes, Tensor::from_slice(&[3], &[-1_i64, 1, 1])?, scores]))
    };
    let mut handler = Host::new().model(odd).start::<ObjectDetector>().unwrap();
    let error = handler.predict(picture(30, 20)).unwrap_err();
    assert!(error.log_text().contains("the label -1"), "{error}");
}

#[test]
fn a_model_that_fails_starts_and_says_so() {
    let failing = |_: &[Value]| Err(Error::new("Unknown builtin op: torchvision::nms"));
    let mut handler = Host::new().model(failing).start::<ObjectDetector>().unwrap();
    let (level, line) = handler.log().remove(0);
    assert_eq!(level, Level::Warn);
    assert!(line.contains("torchvision::nms"), "{line}");
    for answer in handler.handle(&[picture(30, 20), picture(7, 9)]) {
        let error = answer.unwrap_err();
        assert_eq!((error.status(), error.client_text()), (503, "Prediction failed"));
        assert!(error.log_text().contains("torchvision::nms"), "{error}");
    }
}

#[test]
fn there_are_no_explanations() {
    let mut handler = Host::new().model(with_losses).start::<ObjectDetector>().unwrap();
    assert_eq!(handler.explain(picture(30, 20)).unwrap_err().status(), 501);
}
