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

/// A picture of one colour, in the sizes of a camera's.
fn picture(colour: [u8; 3]) -> Sent {
    let mut bytes = Cursor::new(Vec::new());
    RgbImage::from_pixel(300, 260, Rgb(colour)).write_to(&mut bytes, ImageFormat::Png).unwrap();
    Sent::body(bytes.into_inner())
}

/// Three classes, one for each colour: the scores are the colours' means.
fn by_colour(inputs: &[Value]) -> Result<Value> {
    let input = inputs[0].as_tensor()?;
    let [count, 3, height, width] = input.shape()[..] else {
        return Err(Error::new(format!("the model takes [n, 3, h, w], not {:?}", input.shape())));
    };
    let size = usize::try_from(height * width)?;
    let means: Vec<f32> =
        input.to_vec::<f32>()?.chunks(size).map(|plane| plane.iter().sum::<f32>() / size as f32).collect();
    Ok(Tensor::from_slice(&[count, 3], &means)?.into())
}

/// The same scores for every picture.
fn giving(scores: &'static [f32]) -> Host {
    Host::new().model(move |inputs| {
        let count = inputs[0].as_tensor()?.shape()[0];
        let all = scores.repeat(usize::try_from(count)?);
        Ok(Tensor::from_slice(&[count, i64::try_from(scores.len())?], &all)?.into())
    })
}

fn json(answer: Result<Answer>) -> Json {
    serde_json::from_slice(&answer.unwrap().body).unwrap()
}

/// The labels of an answer, the likeliest first.
fn labels(answer: Result<Answer>) -> Vec<String> {
    json(answer).as_object().unwrap().keys().cloned().collect()
}

#[test]
fn a_picture_is_answered_with_its_five_likeliest_classes() {
    let mut handler = giving(&[0.5, 3.0, -1.0, 2.0, 1.0, 4.0, 0.0]).start::<ImageClassifier>().unwrap();
    let answer = handler.predict(picture([200, 10, 10])).unwrap();
    assert_eq!((answer.status, answer.content_type.as_deref()), (200, Some("application/json")));
    let answer: Json = serde_json::from_slice(&answer.body).unwrap();
    // torch.softmax of the scores, and topk of that.
    let wanted = [("5", 0.621_793), ("1", 0.228_745), ("3", 0.084_151), ("4", 0.030_957), ("0", 0.018_777)];
    let found: Vec<(&str, f64)> =
        answer.as_object().unwrap().iter().map(|(label, value)| (label.as_str(), value.as_f64().unwrap())).collect();
    assert_eq!(found.len(), wanted.len());
    for (found, wanted) in found.iter().zip(wanted) {
        assert_eq!(found.0, wanted.0);
        assert!((found.1 - wanted.1).abs() < 1e-5, "{found:?} for {wanted:?}");
    }
}

#[test]
fn a_picture_passes_the_transforms_of_imagenet() {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let kept = Rc::clone(&seen);
    let host = Host::new().model(move |inputs| {
        kept.borrow_mut().push(inputs[0].as_tensor()?.clone());
        by_colour(inputs)
    });
    let mut handler = host.start::<ImageClassifier>().unwrap();
    seen.borrow_mut().clear();
    handler.predict(picture([255, 0, 51])).unwrap();
    let seen = seen.borrow();
    assert_eq!(seen[0].shape(), [1, 3, 224, 224]);
    let values = seen[0].to_vec::<f32>().unwrap();
    // transforms.Normalize of 1, 0 and 0.2 with the mean and the deviation of ImageNet.
    for (plane, wanted) in values.chunks(224 * 224).zip([2.248_908_3, -2.035_714_4, -0.915_555_6]) {
        assert!(plane.iter().all(|value| (value - wanted).abs() < 1e-5), "{} for {wanted}", plane[0]);
    }
}

#[test]
fn a_batch_with_a_bad_picture_answers_the_others() {
    let mut handler = Host::new().model(by_colour).start::<ImageClassifier>().unwrap();
    let answers = handler.handle(&[
        picture([255, 0, 0]),
        Sent::body("no picture"),
        Sent::default().field("image", "x"),
        Sent::json(&json!([[1, 2], [3]])),
        picture([0, 0, 255]),
    ]);
    assert_eq!(labels(answers[0].clone())[0], "0");
    assert_eq!(labels(answers[4].clone())[0], "2");
    for (answer, wanted) in
        [(&answers[1], "holds no picture"), (&answers[2], "only [\"image\"]"), (&answers[3], "unequal lengths")]
    {
        let error = answer.as_ref().unwrap_err();
        assert_eq!(error.status(), 400, "{error}");
        assert!(error.client_text().contains(wanted), "{error} lacks {wanted}");
    }
}

#[test]
fn lists_of_numbers_go_to_the_model_as_they_are() {
    let mut handler = Host::new().model(by_colour).start::<ImageClassifier>().unwrap();
    let lists = json!([[[1, 2], [3, 4]], [[-1, -1], [-1, -1]], [[5, 5], [5, 5]]]);
    assert_eq!(labels(handler.predict(Sent::json(&lists))), ["2", "0", "1"]);
    let error = handler.predict(Sent::json(&json!([1, 2]))).unwrap_err();
    assert_eq!((error.status(), error.client_text()), (503, "Prediction failed"));
    assert!(error.log_text().contains("not [1, 2]"), "{error}");
}

#[test]
fn labels_are_those_of_the_archive() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("index_to_name.json");
    for content in [
        r#"{"0": "red", "1": "green", "2": "blue"}"#,
        r#"{"0": ["c0", "red"], "1": ["c1", "green"], "2": ["c2", "blue"]}"#,
        r#"{"object_type_names": ["red", "green", "blue"]}"#,
    ] {
        fs::write(&file, content).unwrap();
        let host = Host::new().model(by_colour).model_dir(folder.path());
        let mut handler = host.start::<ImageClassifier>().unwrap();
        assert_eq!(labels(handler.predict(picture([0, 128, 255]))), ["blue", "green", "red"], "{content}");
    }

    fs::write(&file, r#"{"0": "red", "1": "green"}"#).unwrap();
    let mut handler = Host::new().model(by_colour).model_dir(folder.path()).start::<ImageClassifier>().unwrap();
    let error = handler.predict(picture([0, 128, 255])).unwrap_err();
    assert_eq!((error.status(), error.client_text()), (503, "Prediction failed"));
    for part in ["class 2", "index_to_name.json", "among its 2"] {
        assert!(error.log_text().contains(part), "{error} lacks {part}");
    }

    fs::write(&file, r#"["red", "green", "blue"]"#).unwrap();
    let error = Host::new().model(by_colour).model_dir(folder.path()).start::<ImageClassifier>().unwrap_err();
    for part in [file.to_str().unwrap(), "holds a list of 3", "object_type_names"] {
        assert!(error.log_text().contains(part), "{error} lacks {part}");
    }
}

#[test]
fn topk_is_a_setting_of_the_model() {
    let host = || giving(&[0.5, 3.0, -1.0, 2.0, 1.0, 4.0, 0.0]);
    for (config, wanted) in [
        (json!({"handler": {"topk": 2}}), 2),
        (json!({"handler": {"topk": 7}}), 7),
        (json!({"handler": {"topk": 100}}), 7),
        (json!({"handler": {"profile": true}}), 5),
        (json!({"minWorkers": 1}), 5),
    ] {
        let mut handler = host().config(config.clone()).start::<ImageClassifier>().unwrap();
        assert_eq!(labels(handler.predict(picture([0, 0, 0]))).len(), wanted, "{config}");
    }
    for wrong in [json!(0), json!(-1), json!(2.5), json!("three"), json!([3])] {
        let config = json!({"handler": {"topk": wrong}});
        let error = host().config(config).start::<ImageClassifier>().unwrap_err();
        assert!(error.log_text().contains(&format!("`handler: {{topk: {wrong}}}`")), "{error}");
        assert!(error.log_text().contains("from 1 on"), "{error}");
    }
}

#[test]
fn a_model_that_gives_no_scores_is_refused_with_its_shape() {
    for (shape, wanted) in [(vec![1, 1, 4], "shape [1, 4]"), (vec![4], "shape [4]"), (vec![1], "shape []")] {
        let size = usize::try_from(shape.iter().product::<i64>()).unwrap();
        let other = move |_: &[Value]| Ok(Tensor::from_slice(&shape, &vec![0.0_f32; size])?.into());
        let error = Host::new().model(other).start::<ImageClassifier>().unwrap_err();
        assert!(error.log_text().contains(wanted), "{error} lacks {wanted}");
    }
    let dict =
        |_: &[Value]| Ok(Value::Dict(vec![("out".to_owned(), Tensor::from_slice(&[1, 2], &[0.0_f32; 2])?.into())]));
    let error = Host::new().model(dict).start::<ImageClassifier>().unwrap_err();
    assert!(error.log_text().contains("a dict with [\"out\"]"), "{error}");
}

#[test]
fn a_model_that_takes_no_such_pictures_starts_and_says_so() {
    let flat = |inputs: &[Value]| match inputs[0].as_tensor()?.shape()[..] {
        [count, 2] => Ok(Tensor::from_slice(&[count, 2], &[0.0_f32, 1.0].repeat(usize::try_from(count)?))?.into()),
        ref other => Err(Error::new(format!("the model takes [n, 2], not {other:?}"))),
    };
    let mut handler = Host::new().model(flat).start::<ImageClassifier>().unwrap();
    let (level, line) = handler.log().remove(0);
    assert_eq!(level, Level::Warn);
    assert!(line.contains("not [1, 3, 224, 224]") && line.contains("black picture"), "{line}");
    assert_eq!(labels(handler.predict(Sent::json(&[1, 2]))), ["1", "0"]);
}

#[test]
fn scores_that_are_no_numbers_fail_their_request_alone() {
    // A black picture gives NaN, too, and the handler starts all the same: such models divide by a picture's contrast.
    let contrast = |inputs: &[Value]| {
        let input = inputs[0].as_tensor()?;
        let rows = input.unbind()?;
        let scores = rows.iter().map(|row| {
            let values = row.to_vec::<f32>()?;
            let (first, last) = (values[0], values[values.len() - 1]);
            Ok([(first - last) / (first - last), 0.0])
        });
        let scores = scores.collect::<Result<Vec<_>>>()?.concat();
        Ok(Tensor::from_slice(&[i64::try_from(rows.len())?, 2], &scores)?.into())
    };
    let mut handler = Host::new().model(contrast).start::<ImageClassifier>().unwrap();
    let answers = handler.handle(&[Sent::json(&[1, 2]), Sent::json(&[3, 3])]);
    assert_eq!(labels(answers[0].clone()), ["0", "1"]);
    let error = answers[1].as_ref().unwrap_err();
    assert_eq!((error.status(), error.client_text()), (503, "Prediction failed"));
    assert!(error.log_text().contains("NaN for class 0"), "{error}");
}

#[test]
fn scores_may_come_first_in_a_tuple_or_as_logits() {
    // An empty list is what the host makes of None.
    // So scripted GoogLeNets answer, which leave their auxiliary scores out.
    let tuple = |scores| Value::List(vec![scores, Value::List(vec![]), Value::List(vec![])]);
    let dict = |scores| Value::Dict(vec![("aux".to_owned(), Value::List(vec![])), ("logits".to_owned(), scores)]);
    let wraps: [fn(Value) -> Value; 2] = [tuple, dict];
    for wrap in wraps {
        let host = Host::new().model(move |inputs| Ok(wrap(by_colour(inputs)?)));
        let mut handler = host.start::<ImageClassifier>().unwrap();
        let answers = handler.handle(&[picture([255, 0, 0]), picture([0, 255, 0]), picture([0, 0, 255])]);
        let likeliest: Vec<String> = answers.into_iter().map(|answer| labels(answer)[0].clone()).collect();
        assert_eq!(likeliest, ["0", "1", "2"]);
    }
    let host = Host::new().model(|inputs| Ok(Value::Dict(vec![("out".to_owned(), by_colour(inputs)?)])));
    let error = host.start::<ImageClassifier>().unwrap_err();
    assert!(error.log_text().contains("got a dict with [\"out\"]"), "{error}");
}

#[test]
fn an_archive_without_a_model_is_refused_at_start() {
    let error = Host::new().start::<ImageClassifier>().unwrap_err();
    assert!(error.log_text().contains("holds no model: pack one with --serialized-file"), "{error}");
}

/// Three classes, the sums of the rows of `[n, 3, h, w]`; gradients are the class's number plus one, everywhere.
fn linear() -> Host {
    Host::new().model(by_colour).gradients(|_, inputs, target| {
        let shape = inputs[0].as_tensor()?.shape();
        let size = usize::try_from(shape.iter().product::<i64>())?;
        Tensor::from_slice(&shape, &vec![target as f32 + 1.0; size])
    })
}

#[test]
fn an_explanation_is_each_number_s_share_in_the_class_asked_for() {
    let mut handler = linear().start::<ImageClassifier>().unwrap();
    let sent = |target: &str| Sent::default().field("data", "[[[1, 2]], [[3, 4]], [[5, -6]]]").field("target", target);
    for (target, factor) in [("", 1.0), ("0", 1.0), ("2", 3.0), (" 1\n", 2.0)] {
        let shares = json(handler.explain(sent(target)));
        let found: Vec<f64> = (0..6).map(|place| shares[place / 2][0][place % 2].as_f64().unwrap()).collect();
        for (found, input) in found.into_iter().zip([1.0, 2.0, 3.0, 4.0, 5.0, -6.0]) {
            assert!((found - factor * input).abs() < 1e-4, "{found} for {input}, target {target:?}");
        }
    }
    for target in ["one", "-1", "1.5", "3", "\u{fffd}", "99999999999999999999"] {
        let error = handler.explain(sent(target)).unwrap_err();
        assert_eq!(error.status(), 400, "{error}");
        assert!(error.client_text().contains("field `target`"), "{error}");
    }
    let shares = json(handler.explain(picture([255, 0, 0])));
    let lengths = [
        shares.as_array().unwrap().len(),
        shares[0].as_array().unwrap().len(),
        shares[2][223].as_array().unwrap().len(),
    ];
    assert_eq!(lengths, [3, 224, 224]);
    let error = handler.explain(Sent::body("no picture")).unwrap_err();
    assert_eq!(error.status(), 400);
}

#[test]
fn the_steps_of_an_explanation_are_a_setting_of_the_model() {
    let rows = Rc::new(RefCell::new(0));
    for (config, wanted) in [(json!(null), 15), (json!({"handler": {"n_steps": 4}}), 4)] {
        let seen = Rc::clone(&rows);
        let host = Host::new().model(by_colour).config(config).gradients(move |_, inputs, _| {
            let input = inputs[0].as_tensor()?;
            *seen.borrow_mut() += input.shape()[0];
            Ok(input.clone())
        });
        host.start::<ImageClassifier>().unwrap().explain(Sent::json(&json!([[[1]], [[2]], [[3]]]))).unwrap();
        assert_eq!(rows.replace(0), wanted);
    }
    let error = linear().config(json!({"handler": {"n_steps": 0}})).start::<ImageClassifier>().unwrap_err();
    assert!(error.log_text().contains("n_steps"), "{error}");
}

#[cfg(not(feature = "tch"))]
#[test]
fn a_state_dict_needs_the_feature() {
    let weights = [("fc.weight", Tensor::from_slice(&[1], &[0.0_f32]).unwrap())];
    let error = Host::new().weights(weights).start::<ImageClassifier>().unwrap_err();
    assert!(error.log_text().contains("is a state dict"), "{error}");
}
