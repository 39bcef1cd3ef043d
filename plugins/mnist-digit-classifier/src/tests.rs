//! The handler as the server calls it.

use std::cell::RefCell;
use std::io::Cursor;
use std::rc::Rc;

use handler_sdk::testing::Host;
use handler_sdk::testing::Request as Sent;
use handler_sdk::testing::Running;
use image::GrayImage;
use image::ImageFormat;
use image::Luma;
use image::Rgba;
use image::RgbaImage;

use super::*;

/// Mean and deviation of MNIST's training pictures.
const MEAN: f32 = 0.1307;
const DEVIATION: f32 = 0.3081;

/// A stand-in for TorchScript: the digit is how bright the middle is, in tenths.
fn by_brightness(inputs: &[Value]) -> Result<Value> {
    let input = inputs[0].as_tensor()?;
    let count = input.shape()[0];
    assert_eq!(input.shape(), [count, 1, 28, 28]);
    let pictures = input.to_vec::<f32>()?;
    let scores: Vec<f32> = pictures
        .chunks(28 * 28)
        .flat_map(|picture| {
            let middle = (picture[14 * 28 + 14] * DEVIATION + MEAN) * 9.999;
            (0..10_i8).map(move |digit| -(f32::from(digit) + 0.5 - middle).abs())
        })
        .collect();
    Ok(Tensor::from_slice(&[count, 10], &scores)?.into())
}

fn picture(grey: u8, format: ImageFormat) -> Sent {
    let mut bytes = Cursor::new(Vec::new());
    GrayImage::from_pixel(28, 28, Luma([grey])).write_to(&mut bytes, format).unwrap();
    Sent::body(bytes.into_inner())
}

fn png(picture: &GrayImage) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, ImageFormat::Png).unwrap();
    bytes.into_inner()
}

fn texts(running: &mut Running, requests: &[Sent]) -> Vec<String> {
    let answers = running.handle(requests);
    let text = |answer: Result<handler_sdk::Answer>| String::from_utf8(answer.unwrap().body).unwrap();
    answers.into_iter().map(text).collect()
}

#[test]
fn a_picture_is_answered_with_its_digit() {
    let mut handler = Host::new().model(by_brightness).start::<MnistDigitClassifier>().unwrap();
    let answer = handler.predict(picture(255, ImageFormat::Png)).unwrap();
    assert_eq!((answer.status, answer.content_type), (200, None));
    assert_eq!(answer.body, b"9");
    assert_eq!(
        texts(
            &mut handler,
            &[picture(0, ImageFormat::Png), picture(128, ImageFormat::Jpeg), picture(200, ImageFormat::Png)]
        ),
        ["0", "5", "7"]
    );
}

#[test]
fn one_bad_request_leaves_its_batch_alone() {
    let mut handler = Host::new().model(by_brightness).start::<MnistDigitClassifier>().unwrap();
    let answers = handler.handle(&[
        picture(0, ImageFormat::Png),
        Sent::body("no picture"),
        Sent::json(&[[1, 2], [3, 4]]),
        Sent::default().field("image", "x"),
        picture(255, ImageFormat::Png),
    ]);
    assert_eq!(answers[0].as_ref().unwrap().body, b"0");
    assert_eq!(answers[4].as_ref().unwrap().body, b"9");
    for (answer, wanted) in
        [(&answers[1], "no picture"), (&answers[2], "[1, 28, 28]"), (&answers[3], "only [\"image\"]")]
    {
        let error = answer.as_ref().unwrap_err();
        assert_eq!(error.status(), 400);
        assert!(error.client_text().contains(wanted), "{error}");
    }
}

#[test]
fn another_model_does_not_pass_the_self_test() {
    for (shape, wanted) in [(vec![1, 1000], "shape [1000]"), (vec![1, 10, 1], "shape [10, 1]")] {
        let count = usize::try_from(shape.iter().product::<i64>()).unwrap();
        let other = move |_: &[Value]| Ok(Tensor::from_slice(&shape, &vec![0.0_f32; count])?.into());
        let error = Host::new().model(other).start::<MnistDigitClassifier>().unwrap_err();
        assert!(error.log_text().contains(wanted), "{error}");
    }
    let not_a_number = |_: &[Value]| Ok(Tensor::from_slice(&[1, 10], &[f32::NAN; 10])?.into());
    let mut handler = Host::new().model(not_a_number).start::<MnistDigitClassifier>().unwrap();
    let error = handler.predict(picture(255, ImageFormat::Png)).unwrap_err();
    assert!(error.log_text().contains("NaN"), "{error}");
}

#[test]
fn an_archive_without_a_model_is_refused_at_start() {
    let error = Host::new().start::<MnistDigitClassifier>().unwrap_err();
    assert!(error.log_text().contains("holds no model: pack one with --serialized-file"), "{error}");
}

#[test]
fn a_picture_of_any_kind_becomes_a_grey_one_that_fits() {
    let mut handler = Host::new().model(by_brightness).start::<MnistDigitClassifier>().unwrap();
    let white = |width, height| Sent::body(png(&GrayImage::from_pixel(width, height, Luma([255]))));
    let see_through = |alpha| {
        let mut bytes = Cursor::new(Vec::new());
        RgbaImage::from_pixel(28, 28, Rgba([255, 255, 255, alpha])).write_to(&mut bytes, ImageFormat::Png).unwrap();
        Sent::body(bytes.into_inner())
    };
    // A black PNG of one pixel, as `base64` prints it.
    let base64 = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg==";
    let one = |value: f32| Sent::json(&[[[(value - MEAN) / DEVIATION; 28]; 28]]);
    let requests = [
        white(3, 3),
        white(400, 2000),
        white(400, 30),
        see_through(255),
        see_through(0),
        Sent::body(base64),
        Sent::default().field("data", base64),
        one(0.55),
    ];
    assert_eq!(texts(&mut handler, &requests), ["9", "9", "9", "9", "0", "0", "0", "5"]);
}

#[test]
fn the_model_sees_what_torchvision_makes_of_the_picture() {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let kept = Rc::clone(&seen);
    let host = Host::new().model(move |inputs| {
        *kept.borrow_mut() = inputs[0].as_tensor()?.to_vec::<f32>()?;
        by_brightness(inputs)
    });
    let mut handler = host.start::<MnistDigitClassifier>().unwrap();
    handler
        .predict(Sent::body(png(&GrayImage::from_fn(28, 28, |x, _| Luma([[0, 128, 255][x as usize % 3]])))))
        .unwrap();
    // transforms.Normalize((0.1307,), (0.3081,)) of ToTensor() of 0, 128 and 255.
    let wanted = [-0.424_212_96, 1.205_001_1, 2.821_486_7];
    for (found, wanted) in seen.borrow()[..27].iter().zip(wanted.iter().cycle()) {
        assert!((found - wanted).abs() < 1e-6, "{found} for {wanted}");
    }
}

#[test]
fn an_explanation_has_a_number_for_each_pixel() {
    // The gradients of the class asked for are its number, everywhere.
    let host = Host::new().model(by_brightness).gradients(|_, inputs, target| {
        let shape = inputs[0].as_tensor()?.shape();
        Tensor::from_slice(&shape, &vec![target as f32; usize::try_from(shape.iter().product::<i64>())?])
    });
    let mut handler = host.start::<MnistDigitClassifier>().unwrap();
    let white = png(&GrayImage::from_pixel(28, 28, Luma([255])));
    let answer = handler.explain(Sent::default().field("data", white).field("target", "2")).unwrap();
    let shares: Vec<Vec<Vec<f64>>> = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!((shares.len(), shares[0].len(), shares[0][27].len()), (1, 28, 28));
    assert!((shares[0][5][5] - 2.0 * 2.821_486_7).abs() < 1e-4, "{}", shares[0][5][5]);
    let error = handler.explain(Sent::default().field("data", "[[[0]]]").field("target", "2")).unwrap_err();
    assert_eq!(error.status(), 400);
    assert!(error.client_text().contains("[1, 28, 28]"), "{error}");
}

#[cfg(not(feature = "tch"))]
#[test]
fn a_state_dict_needs_the_feature() {
    let weights = [("conv1.weight", Tensor::from_slice(&[1], &[0.0_f32]).unwrap())];
    let error = Host::new().weights(weights).start::<MnistDigitClassifier>().unwrap_err();
    assert!(error.log_text().contains("is a state dict"), "{error}");
}

#[cfg(feature = "tch")]
mod state_dict {
    use super::*;

    type Named = Vec<(String, Tensor)>;

    const SHAPES: [(&str, &[i64]); 8] = [
        ("conv1.weight", &[32, 1, 3, 3]),
        ("conv1.bias", &[32]),
        ("conv2.weight", &[64, 32, 3, 3]),
        ("conv2.bias", &[64]),
        ("fc1.weight", &[128, 9216]),
        ("fc1.bias", &[128]),
        ("fc2.weight", &[10, 128]),
        ("fc2.bias", &[10]),
    ];

    /// Numbers that Python makes as easily, so that PyTorch's own answer could be written down.
    fn weights() -> Named {
        let make = |(index, &(name, shape)): (usize, &(&str, &[i64]))| {
            let inputs: i64 = shape[1..].iter().product();
            let scale = if shape.len() > 1 { 3.0 / (inputs as f64).sqrt() } else { 0.1 };
            let mut state = u32::try_from(index).unwrap();
            let values: Vec<f32> = (0..shape.iter().product())
                .map(|_: i64| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    ((f64::from(state >> 8) / f64::from(1 << 24) * 2.0 - 1.0) * scale) as f32
                })
                .collect();
            (name.to_owned(), Tensor::from_slice(shape, &values).unwrap())
        };
        SHAPES.iter().enumerate().map(make).collect()
    }

    fn sent(step: u32) -> Sent {
        Sent::body(png(&GrayImage::from_fn(28, 28, |x, y| Luma([((y * 28 + x) * step % 256) as u8]))))
    }

    #[test]
    fn requests_are_answered_with_the_network() {
        // The digits that the module of TorchServe's example (pytorch/examples, mnist) gives with `weights()`, in torch 2.11.0.
        let mut handler = Host::new().weights(weights()).start::<MnistDigitClassifier>().unwrap();
        assert_eq!(texts(&mut handler, &[sent(3), sent(4)]), ["7", "3"]);
    }
    #[test]
    fn an_explanation_has_captum_s_numbers() {
        let mut handler = Host::new().weights(weights()).start::<MnistDigitClassifier>().unwrap();
        let answer = handler.explain(sent(3).field("target", "3")).unwrap();
        let shares: Vec<Vec<Vec<f64>>> = serde_json::from_slice(&answer.body).unwrap();
        // Captum 0.9.0, IntegratedGradients of the same network with n_steps=15, as TorchServe calls it.
        for (row, column, wanted) in
            [(5, 5, 0.3531), (10, 10, -0.1468), (10, 11, -0.0795), (10, 12, 0.1006), (12, 4, 1.1498)]
        {
            let found = shares[0][row][column];
            assert!((found - wanted).abs() < 1e-3, "{found} for {wanted} at row {row}, column {column}");
        }
        let sum: f64 = shares.concat().concat().iter().sum();
        assert!((sum - -3.7063).abs() < 1e-2, "{sum}");
    }
}
