//! What a model gives back, and weights.

use std::cell::Cell;
use std::rc::Rc;

use handler_sdk::DType;
use handler_sdk::Level;
use handler_sdk::prelude::*;
use handler_sdk::testing::Host;
use handler_sdk::testing::Request as Sent;

use crate::text;

handler!(Defaults {});

handler!(Describes {
    fn postprocess(&self, output: Value, _: &Request, _: &Context) -> Result<Response> {
        fn describe(output: &Value) -> String {
            match output {
                Value::Tensor(tensor) => format!("{:?}", tensor.to_f64().unwrap()),
                Value::List(items) => items.iter().map(describe).collect::<Vec<_>>().join(" "),
                Value::Dict(entries) => entries
                    .iter()
                    .map(|(name, value)| format!("{name}:({})", describe(value)))
                    .collect::<Vec<_>>()
                    .join(" "),
            }
        }
        Ok(Response::text(describe(&output)))
    }
});

fn column(values: &[f32]) -> Value {
    Tensor::from_slice(&[2], values).unwrap().into()
}

#[test]
fn structures_cross_and_split_into_one_value_a_request() {
    let dict = |entries: Vec<(&str, Value)>| {
        Value::Dict(entries.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    };
    let a = || column(&[1.0, 2.0]);
    let b = || column(&[3.0, 4.0]);
    for (output, expected) in [
        (a(), ["[1.0]", "[2.0]"]),
        (Value::List(vec![a(), b()]), ["[1.0] [3.0]", "[2.0] [4.0]"]),
        (dict(vec![("z", a()), ("a", b())]), ["z:([1.0]) a:([3.0])", "z:([2.0]) a:([4.0])"]),
        (
            dict(vec![("out", dict(vec![("inner", Value::List(vec![a(), b()]))])), ("aux", b())]),
            ["out:(inner:([1.0] [3.0])) aux:([3.0])", "out:(inner:([2.0] [4.0])) aux:([4.0])"],
        ),
        // One dict a picture, as torchvision's detectors give.
        (Value::List(vec![dict(vec![("boxes", a())]), dict(vec![])]), ["boxes:([1.0, 2.0])", ""]),
    ] {
        let given = output.clone();
        let mut handler = Host::new().model(move |_| Ok(given.clone())).start::<Describes>().unwrap();
        let answers = handler.handle(&[Sent::json(&[0.0]), Sent::json(&[0.0])]);
        let texts: Vec<_> = answers.into_iter().map(text).collect();
        assert_eq!(texts, expected, "{output:?}");
    }
}

#[test]
fn every_element_type_crosses_both_ways() {
    handler!(SendsBytes {
        fn handle(&self, batch: &Batch, context: &Context) -> Result<Vec<Response>> {
            let body = batch.as_slice()[0].body();
            let dtype = DType::from_code(body[0]).ok_or_else(|| Error::new("no such type"))?;
            let input = Tensor::from_bytes(dtype, &[2, 1], body[1..=2 * dtype.size()].to_vec())?;
            let output = context.model()?.forward([input])?.tensor()?;
            assert_eq!(output.shape(), [2, 1]);
            assert_eq!(output.dtype()?, dtype);
            Ok(vec![Response::json(&output.to_json()?)])
        }
    });
    let calls = Rc::new(Cell::new(0));
    let counter = Rc::clone(&calls);
    let mut handler = Host::new()
        .model(move |inputs| {
            counter.set(counter.get() + 1);
            Ok(inputs[0].clone())
        })
        .start::<SendsBytes>()
        .unwrap();
    let codes: Vec<u8> = (0..=u8::MAX).filter(|&code| DType::from_code(code).is_some()).collect();
    for &code in &codes {
        let mut body = vec![code];
        body.extend([0; 16]);
        let answer = text(handler.predict(Sent::body(body)));
        assert!(answer.contains("0") || answer.contains("false"), "{code}: {answer}");
    }
    assert_eq!((codes.len(), calls.get()), (10, 10));
}

#[test]
fn a_model_that_raises_tells_the_log_and_not_the_client() {
    let mut handler = Host::new()
        .model(|_| Err(Error::new("The size of tensor a (3) must match the size of tensor b (4)")))
        .start::<Defaults>()
        .unwrap();
    let error = handler.predict(Sent::json(&[1.0])).unwrap_err();
    assert_eq!((error.status(), error.client_text()), (503, "Prediction failed"));
    assert!(error.log_text().contains("size of tensor a (3)"), "{error}");
}

#[test]
fn a_model_that_answers_for_too_few_is_named() {
    let mut handler = Host::new().model(|_| Ok(column(&[1.0, 2.0]))).start::<Defaults>().unwrap();
    let error = handler.predict(Sent::json(&[1.0])).unwrap_err();
    assert!(error.log_text().contains("answered 1 requests with a tensor of shape [2]"), "{error}");
}

#[test]
fn an_archive_without_a_model_says_so() {
    let mut handler = Host::new().start::<Defaults>().unwrap();
    let error = handler.predict(Sent::json(&[1.0])).unwrap_err();
    assert!(error.log_text().contains("holds no model: pack one with --serialized-file"), "{error}");
}

handler!(Sums {
    fn initialize(&mut self, context: &Context) -> Result<()> {
        let weights = context.weights()?;
        let names: Vec<_> = weights.names().collect();
        context.log(Level::Info, format!("{} of them: {names:?}", weights.len()));
        weights.get("fc.weight").map(drop)
    }

    fn handle(&self, batch: &Batch, context: &Context) -> Result<Vec<Response>> {
        let sum: f64 = context.weights()?.get("fc.weight")?.to_f64()?.iter().sum();
        let model = context.model().map(drop).unwrap_err();
        Ok(batch.iter().map(|_| Response::text(format!("{sum} {}", model.log_text()))).collect())
    }
});

#[test]
fn weights_are_read_by_name() {
    let tensors = || {
        [
            ("fc.weight", Tensor::from_slice(&[2, 2], &[1.0_f32, 2.0, 3.0, 4.5]).unwrap()),
            ("fc.bias", Tensor::from_slice(&[2], &[0.0_f32, 0.0]).unwrap()),
        ]
    };
    let mut handler = Host::new().weights(tensors()).start::<Sums>().unwrap();
    assert_eq!(handler.log(), [(Level::Info, "2 of them: [\"fc.bias\", \"fc.weight\"]".to_owned())]);
    let answer = text(handler.predict(Sent::body("")));
    assert!(answer.starts_with("10.5 model test is a state dict"), "{answer}");

    let error = Host::new().weights(tensors().into_iter().skip(1)).start::<Sums>().unwrap_err();
    assert_eq!(error.log_text(), "the weights have no \"fc.weight\"; they have [\"fc.bias\"]");

    let error = Host::new().start::<Sums>().unwrap_err();
    assert!(error.log_text().contains("holds no model"), "{error}");
}
