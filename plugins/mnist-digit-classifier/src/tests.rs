//! The handler as the server calls it.

use std::io::Cursor;

use handler_sdk::testing::Host;
use handler_sdk::testing::Request as Sent;
use handler_sdk::testing::Running;
use image::GrayImage;
use image::ImageFormat;
use image::Luma;

use super::*;

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
    let error = Host::new().model(not_a_number).start::<MnistDigitClassifier>().unwrap_err();
    assert!(error.log_text().contains("NaN"), "{error}");
}

#[test]
fn an_archive_without_a_model_is_refused_at_start() {
    let error = Host::new().start::<MnistDigitClassifier>().unwrap_err();
    assert!(error.log_text().contains("holds no model: pack one with --serialized-file"), "{error}");
}

#[cfg(not(feature = "tch"))]
#[test]
fn a_state_dict_needs_the_feature() {
    let weights = [("conv1.weight", Tensor::from_slice(&[1], &[0.0_f32]).unwrap())];
    let error = Host::new().weights(weights).start::<MnistDigitClassifier>().unwrap_err();
    assert!(error.log_text().contains("feature `tch`"), "{error}");
}

#[cfg(feature = "tch")]
mod state_dict {
    use super::*;
    use crate::net::Net;

    type Named = Vec<(String, Tensor)>;
    type Change = (fn(&mut Named), &'static [&'static str]);

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

    fn pattern(step: u32) -> GrayImage {
        GrayImage::from_fn(28, 28, |x, y| Luma([((y * 28 + x) * step % 256) as u8]))
    }

    fn sent(step: u32) -> Sent {
        let mut bytes = Cursor::new(Vec::new());
        pattern(step).write_to(&mut bytes, ImageFormat::Png).unwrap();
        Sent::body(bytes.into_inner())
    }

    thread_local! {
        static NET: Net = {
            let mut handler = Host::new().weights(weights()).start::<Built>().unwrap();
            handler.predict(Sent::body("")).unwrap();
            BUILT.take().unwrap()
        };
        static BUILT: std::cell::RefCell<Option<Net>> = const { std::cell::RefCell::new(None) };
    }

    /// Lends these tests a network: weights come only from a context.
    #[derive(Default)]
    struct Built;

    impl Handler for Built {
        fn handle(&self, _: &Batch, context: &Context) -> Result<Vec<Response>> {
            BUILT.set(Some(Net::new(&context.weights()?)?));
            Ok(vec![Response::text("")])
        }
    }

    #[test]
    fn the_network_computes_what_pytorch_computes() {
        // The module of TorchServe's example (pytorch/examples, mnist) with `weights()`, in torch 2.11.0.
        let wanted = [
            [-9.52662, -19.61007, -11.82088, -5.62867, -16.33715, -6.31228, -7.79325, -0.00724, -6.63589, -15.55125],
            [-10.61834, -16.05123, -11.29635, -0.22653, -13.5507, -2.63516, -3.7814, -2.8204, -3.02445, -13.97381_f32],
        ];
        let inputs: Vec<Tensor> =
            [3, 4].map(|step| picture::normalise(&pattern(step), MEAN, DEVIATION).unwrap()).into();
        let scores = NET.with(|net| net.forward(vec![Tensor::stack(&inputs).unwrap().into()])).unwrap();
        let scores = scores.tensor().unwrap();
        assert_eq!(scores.shape(), [2, 10]);
        for (found, wanted) in scores.to_vec::<f32>().unwrap().iter().zip(wanted.as_flattened()) {
            assert!((found - wanted).abs() < 1e-3, "{found} for {wanted}");
        }
    }

    #[test]
    fn the_network_computes_what_tch_computes() {
        use tch::nn::Module;
        let store = tch::nn::VarStore::new(tch::Device::Cpu);
        let root = store.root();
        let conv1 = tch::nn::conv2d(&root / "conv1", 1, 32, 3, Default::default());
        let conv2 = tch::nn::conv2d(&root / "conv2", 32, 64, 3, Default::default());
        let fc1 = tch::nn::linear(&root / "fc1", 9216, 128, Default::default());
        let fc2 = tch::nn::linear(&root / "fc2", 128, 10, Default::default());
        for (name, mut variable) in store.variables() {
            let (_, weight) = weights().into_iter().find(|(other, _)| *other == name).unwrap();
            tch::no_grad(|| variable.copy_(&weight.into_tch().unwrap()));
        }
        let inputs = tch::Tensor::rand([3, 1, 28, 28], (tch::Kind::Float, tch::Device::Cpu));
        let x = conv2.forward(&conv1.forward(&inputs).relu()).relu();
        let x = fc1.forward(&x.max_pool2d_default(2).flat_view()).relu();
        let wanted = fc2.forward(&x).log_softmax(-1, tch::Kind::Float);
        let found = NET.with(|net| net.forward(vec![Tensor::from(inputs).into()])).unwrap();
        let found = found.tensor().unwrap().into_tch().unwrap();
        assert!(found.allclose(&wanted, 1e-5, 1e-6, false));
    }

    #[test]
    fn requests_are_answered_with_the_network() {
        let mut handler = Host::new().weights(weights()).start::<MnistDigitClassifier>().unwrap();
        assert_eq!(texts(&mut handler, &[sent(3), sent(4)]), ["7", "3"]);
    }

    #[test]
    fn half_precision_weights_give_the_same_digits() {
        let halves = weights().into_iter().map(|(name, tensor)| {
            let half = tensor.into_tch().unwrap().to_kind(tch::Kind::Half);
            (name, Tensor::from(half))
        });
        let mut handler = Host::new().weights(halves).start::<MnistDigitClassifier>().unwrap();
        assert_eq!(texts(&mut handler, &[sent(3), sent(4)]), ["7", "3"]);
    }

    #[test]
    fn other_weights_are_refused_by_name() {
        let changes: [Change; 3] = [
            (|weights| drop(weights.remove(5)), &["\"fc1.bias\"", "they have"]),
            (
                |weights| weights[4].1 = Tensor::from_slice(&[2, 3], &[0.0_f32; 6]).unwrap(),
                &["\"fc1.weight\"", "[2, 3]", "[128, 9216]"],
            ),
            (
                |weights| weights.push(("bn1.weight".to_owned(), Tensor::from_slice(&[1], &[0.0_f32]).unwrap())),
                &["[\"bn1.weight\"]", "no place"],
            ),
        ];
        for (change, wanted) in changes {
            let mut weights = weights();
            change(&mut weights);
            let error = Host::new().weights(weights).start::<MnistDigitClassifier>().unwrap_err();
            for wanted in wanted {
                assert!(error.log_text().contains(wanted), "{error} lacks {wanted}");
            }
        }
    }
}
