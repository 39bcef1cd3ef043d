//! The handler as the server calls it; the models are closures, the pictures are made here.

use std::io::Cursor;

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

/// Red on the left, blue on the right.
fn picture() -> Sent {
    let mut bytes = Cursor::new(Vec::new());
    let colours = [Rgb([255, 0, 0]), Rgb([0, 0, 255])];
    RgbImage::from_fn(256, 256, |x, _| colours[usize::from(x >= 128)]).write_to(&mut bytes, ImageFormat::Png).unwrap();
    Sent::body(bytes.into_inner())
}

/// A class for each channel: the scores are the picture's own values.
fn channels(inputs: &[Value]) -> Result<Value> {
    Ok(inputs[0].clone())
}

/// As torchvision's models answer.
fn in_a_dict(inputs: &[Value]) -> Result<Value> {
    Ok(Value::Dict(vec![("out".to_owned(), channels(inputs)?), ("aux".to_owned(), channels(inputs)?)]))
}

fn pixels(answer: Result<handler_sdk::Answer>) -> Vec<Vec<[f64; 2]>> {
    serde_json::from_slice(&answer.unwrap().body).unwrap()
}

#[test]
fn each_pixel_is_answered_with_its_likeliest_class() {
    for model in [channels, in_a_dict] {
        let mut handler = Host::new().model(model).start::<ImageSegmenter>().unwrap();
        let answer = handler.predict(picture()).unwrap();
        assert_eq!(answer.content_type.as_deref(), Some("application/json"));
        let rows = pixels(Ok(answer));
        assert_eq!((rows.len(), rows[0].len(), rows[223].len()), (224, 224, 224));
        // torch.softmax over the channels of red and of blue, normalised as ImageNet.
        for (column, wanted) in
            [(0, [0.0, 0.969_798]), (111, [0.0, 0.969_798]), (112, [2.0, 0.982_412]), (223, [2.0, 0.982_412])]
        {
            let found = rows[100][column];
            assert_eq!(found[0], wanted[0], "column {column}");
            assert!((found[1] - wanted[1]).abs() < 1e-5, "{found:?} in column {column}");
        }
    }
}

#[test]
fn an_answer_reads_as_torch_s_tolist() {
    let mut handler = Host::new().model(channels).start::<ImageSegmenter>().unwrap();
    // Classes in the first dimension: the first pixel is the second class's, the other is equally likely of both.
    let answer = handler.predict(Sent::json(&json!([[[0, 7]], [[1000, 7]]]))).unwrap();
    let text = String::from_utf8(answer.body).unwrap();
    assert_eq!(text, "[\n  [\n    [\n      1.0,\n      1.0\n    ],\n    [\n      0.0,\n      0.5\n    ]\n  ]\n]");
}

#[test]
fn a_batch_with_a_bad_picture_answers_the_others() {
    let mut handler = Host::new().model(in_a_dict).start::<ImageSegmenter>().unwrap();
    let answers = handler.handle(&[picture(), Sent::body("no picture"), picture()]);
    assert_eq!(pixels(answers[0].clone()).len(), 224);
    assert_eq!(pixels(answers[2].clone()).len(), 224);
    let error = answers[1].as_ref().unwrap_err();
    assert_eq!(error.status(), 400);
    assert!(error.client_text().contains("field `body` holds no picture"), "{error}");
}

#[test]
fn a_model_that_gives_no_scores_for_pixels_is_refused_with_what_it_gives() {
    type Model = fn(&[Value]) -> Result<Value>;
    fn tensor(shape: &[i64]) -> Result<Value> {
        let size = usize::try_from(shape.iter().product::<i64>())?;
        Ok(Tensor::from_slice(shape, &vec![0.0_f32; size])?.into())
    }
    let flat: Model = |_| tensor(&[1, 21]);
    let classified: Model = |_| tensor(&[1, 224, 224]);
    let aside: Model = |_| Ok(Value::Dict(vec![("aux".to_owned(), tensor(&[1, 2, 4, 4])?)]));
    let several: Model = |_| tensor(&[3, 2, 4, 4]);
    for (model, wanted) in [
        (flat, "shape [21] for one picture; ImageSegmenter needs scores of shape [classes, height, width]"),
        (classified, "shape [224, 224] for one picture"),
        (aside, "a dict with [\"aux\"]; ImageSegmenter needs its scores under \"out\""),
        (several, "shape [3, 2, 4, 4]: its first dimension must be 1"),
    ] {
        let error = Host::new().model(model).start::<ImageSegmenter>().unwrap_err();
        assert!(error.log_text().contains(wanted), "{error} lacks {wanted}");
    }
}

#[test]
fn a_model_that_takes_no_such_pictures_starts_and_says_so() {
    let small = |inputs: &[Value]| match inputs[0].as_tensor()?.shape()[..] {
        [_, _, 2, 2] => channels(inputs),
        ref other => Err(Error::new(format!("the model takes [n, c, 2, 2], not {other:?}"))),
    };
    let mut handler = Host::new().model(small).start::<ImageSegmenter>().unwrap();
    let (level, line) = handler.log().remove(0);
    assert_eq!(level, Level::Warn);
    assert!(line.contains("not [1, 3, 224, 224]"), "{line}");
    assert_eq!(pixels(handler.predict(Sent::json(&json!([[[0, 0], [0, 0]]])))), [[[0.0, 1.0]; 2]; 2]);
    let error = handler.predict(picture()).unwrap_err();
    assert_eq!((error.status(), error.client_text()), (503, "Prediction failed"));
}

#[test]
fn scores_that_are_no_numbers_name_their_pixel() {
    let unsure = |inputs: &[Value]| {
        let values = inputs[0].as_tensor()?.to_vec::<f32>()?;
        let roots: Vec<f32> = values.into_iter().map(f32::sqrt).collect();
        Ok(Tensor::from_slice(&inputs[0].as_tensor()?.shape(), &roots)?.into())
    };
    let mut handler = Host::new().model(unsure).start::<ImageSegmenter>().unwrap();
    let error = handler.predict(Sent::json(&json!([[[1, 1], [1, 1]], [[1, 1], [-1, 1]]]))).unwrap_err();
    assert_eq!((error.status(), error.client_text()), (503, "Prediction failed"));
    assert!(error.log_text().contains("row 1, column 0"), "{error}");
}

#[test]
fn there_are_no_explanations() {
    let mut handler = Host::new().model(channels).start::<ImageSegmenter>().unwrap();
    let error = handler.explain(picture()).unwrap_err();
    assert_eq!(error.status(), 501);
    let words: Option<Json> = handler.describe().unwrap();
    assert_eq!(words, None);
}
