//! The boundary in one process: what a handler does wrong, and all that crosses, through the same glue as in a server.

#![allow(clippy::unwrap_used)] // The helpers are part of the tests; clippy exempts only the test functions themselves.

use std::cell::Cell;
use std::cell::RefCell;
use std::rc::Rc;

use handler_sdk::Answer;
use handler_sdk::DType;
use handler_sdk::Device;
use handler_sdk::Level;
use handler_sdk::MetricKind;
use handler_sdk::ModelKind;
use handler_sdk::prelude::*;
use handler_sdk::testing::Host;
use handler_sdk::testing::Request as Sent;
use serde_json::json;

/// A handler type whose one method is written in place.
macro_rules! handler {
    ($name:ident { $($method:item)* }) => {
        #[derive(Debug, Default)]
        struct $name;
        impl Handler for $name {
            $($method)*
        }
    };
}

fn text(answer: Result<Answer>) -> String {
    String::from_utf8(answer.unwrap().body).unwrap()
}

// === Panics ===

handler!(Panics {
    fn handle(&self, batch: &Batch, _: &Context) -> Result<Vec<Response>> {
        match batch.as_slice()[0].body() {
            b"str" => panic!("in so many words"),
            b"string" => panic!("with the number {}", 7),
            b"other" => std::panic::panic_any(7),
            b"bomb" => std::panic::panic_any(PanicsWhenDropped),
            body => Ok(vec![Response::bytes(body)]),
        }
    }
});

struct PanicsWhenDropped;

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        panic!("once more");
    }
}

#[test]
fn a_panic_becomes_an_error_of_the_request() {
    for (body, words) in [
        ("str", "panicked: in so many words"),
        ("string", "panicked: with the number 7"),
        ("other", "panicked: (no message)"),
        ("bomb", "panicked: (no message)"),
    ] {
        let mut handler = Host::new().start::<Panics>().unwrap();
        let error = handler.predict(Sent::body(body)).unwrap_err();
        assert_eq!(error.log_text(), words);
        assert_eq!((error.status(), error.client_text()), (503, "Prediction failed"));
    }
    let mut handler = Host::new().start::<Panics>().unwrap();
    assert_eq!(text(handler.predict(Sent::body("well"))), "well");
}

#[derive(Debug)]
struct PanicsWhenMade;

impl Default for PanicsWhenMade {
    fn default() -> Self {
        panic!("not today")
    }
}

impl Handler for PanicsWhenMade {}

handler!(PanicsInInitialize {
    fn initialize(&mut self, _: &Context) -> Result<()> {
        panic!("not today")
    }
});

handler!(PanicsInSelfTest {
    fn self_test(&self, _: &Context) -> Result<()> {
        panic!("not today")
    }
});

#[test]
fn a_panic_before_the_first_request_is_an_error_too() {
    let errors = [
        Host::new().start::<PanicsWhenMade>().map(drop),
        Host::new().start::<PanicsInInitialize>().map(drop),
        Host::new().start::<PanicsInSelfTest>().map(drop),
    ];
    for error in errors {
        assert_eq!(error.unwrap_err().log_text(), "panicked: not today");
    }
}

#[derive(Debug, Default)]
struct PanicsWhenItGoes;

impl Handler for PanicsWhenItGoes {
    fn handle(&self, batch: &Batch, _: &Context) -> Result<Vec<Response>> {
        Ok(batch.iter().map(|_| Response::text("still here")).collect())
    }
}

impl Drop for PanicsWhenItGoes {
    fn drop(&mut self) {
        panic!("no farewell");
    }
}

#[test]
fn a_panic_while_the_object_goes_stays_inside() {
    let mut handler = Host::new().start::<PanicsWhenItGoes>().unwrap();
    assert_eq!(text(handler.predict(Sent::body(""))), "still here");
    drop(handler);
}

// === Numbers of answers ===

handler!(AnswersAsOften {
    fn handle(&self, batch: &Batch, _: &Context) -> Result<Vec<Response>> {
        let count = batch.as_slice()[0].input()?.text()?.parse()?;
        Ok((0..count).map(|_| Response::text("x")).collect())
    }
});

#[test]
fn as_many_answers_as_requests() {
    let mut handler = Host::new().start::<AnswersAsOften>().unwrap();
    for count in [0, 1, 3] {
        let answers = handler.handle(&[Sent::body(count.to_string()), Sent::body("")]);
        assert_eq!(answers.len(), 2);
        for answer in answers {
            let error = answer.unwrap_err();
            assert_eq!(error.status(), 503);
            assert_eq!(error.client_text(), "number of batch response mismatched");
            let words = format!("the handler gave {count} responses for a batch of 2");
            assert!(error.log_text().contains(&words), "{error}");
        }
    }
    assert!(handler.handle(&[Sent::body("2"), Sent::body("")]).iter().all(Result::is_ok));
}

// === The three steps ===

handler!(Defaults {});

/// A model that doubles, and keeps the shapes it was called with.
fn doubling() -> (Host, Rc<RefCell<Vec<Vec<i64>>>>) {
    let shapes = Rc::new(RefCell::new(Vec::new()));
    let seen = Rc::clone(&shapes);
    let host = Host::new().model(move |inputs| {
        seen.borrow_mut().push(inputs[0].shape());
        let doubled: Vec<f32> = inputs[0].to_vec::<f32>()?.iter().map(|value| value * 2.0).collect();
        Ok(Tensor::from_slice(&inputs[0].shape(), &doubled)?.into())
    });
    (host, shapes)
}

#[test]
fn one_bad_request_of_three_fails_alone() {
    let (host, shapes) = doubling();
    let mut handler = host.start::<Defaults>().unwrap();
    let answers =
        handler.handle(&[Sent::json(&[1.0, 2.0]), Sent::default().field("data", "[1, "), Sent::json(&[5.0, 6.5])]);
    let bodies: Vec<_> = answers
        .iter()
        .map(|answer| answer.as_ref().ok().map(|answer| String::from_utf8_lossy(&answer.body).into_owned()))
        .collect();
    assert_eq!(bodies, [Some("[\n  2.0,\n  4.0\n]".to_owned()), None, Some("[\n  10.0,\n  13.0\n]".to_owned())]);
    let error = answers[1].as_ref().unwrap_err();
    assert_eq!(error.status(), 400);
    assert!(error.client_text().contains("field `data` is not the expected JSON"), "{error}");
    assert_eq!(*shapes.borrow(), [[2, 2]], "one call, with the two that could be read");
}

#[test]
fn no_readable_request_means_no_call_of_the_model() {
    let (host, shapes) = doubling();
    let mut handler = host.start::<Defaults>().unwrap();
    for (request, words) in [
        (Sent::body(""), "field `body` is not the expected JSON"),
        (Sent::json(&json!({"a": 1})), "field `body`: expected numbers in nested JSON lists"),
        (Sent::json(&json!([[1], [1, 2]])), "unequal lengths"),
        (Sent::default().field("picture", "x"), "only [\"picture\"]"),
        (Sent::default(), "only []"),
    ] {
        let error = handler.predict(request).unwrap_err();
        assert_eq!(error.status(), 400);
        assert!(error.client_text().contains(words), "{error:?} should say {words:?}");
    }
    assert!(shapes.borrow().is_empty());
}

#[test]
fn inputs_of_different_shapes_fail_the_call_with_both_shapes() {
    let (host, _) = doubling();
    let mut handler = host.start::<Defaults>().unwrap();
    let answers = handler.handle(&[Sent::json(&[1.0]), Sent::json(&[1.0, 2.0])]);
    for answer in answers {
        let error = answer.unwrap_err();
        assert!(error.log_text().contains("shapes [1] and [2]"), "{error}");
    }
}

handler!(LosesOutputs {
    fn inference(&self, inputs: Vec<Tensor>, _: &Context) -> Result<Vec<Value>> {
        Ok(inputs.into_iter().skip(1).map(Value::from).collect())
    }
});

#[test]
fn as_many_outputs_as_inputs() {
    let mut handler = Host::new().start::<LosesOutputs>().unwrap();
    let error = handler.predict(Sent::json(&[1.0])).unwrap_err();
    assert_eq!(error.log_text(), "inference gave 0 outputs for 1 inputs");
}

handler!(PicksyPostprocess {
    fn postprocess(&self, output: Value, _: &Context) -> Result<Response> {
        match output.tensor()?.to_f64()?[0] {
            value if value < 0.0 => Err(Error::new("a negative answer makes no sense")),
            value => Ok(Response::text(value.to_string())),
        }
    }
});

#[test]
fn a_failing_postprocess_fails_its_request_alone() {
    let (host, _) = doubling();
    let mut handler = host.start::<PicksyPostprocess>().unwrap();
    let answers = handler.handle(&[Sent::json(&[-1.0]), Sent::json(&[4.0])]);
    assert_eq!(answers[0].as_ref().unwrap_err().log_text(), "a negative answer makes no sense");
    assert_eq!(answers[1].as_ref().unwrap().body, b"8");
}

// === What a model gives back ===

handler!(Describes {
    fn postprocess(&self, output: Value, _: &Context) -> Result<Response> {
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
            let output = context.model()?.forward(&[input])?.tensor()?;
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
            Ok(inputs[0].clone().into())
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

// === Weights ===

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

// === Log, metrics, errors ===

handler!(Talks {
    fn initialize(&mut self, context: &Context) -> Result<()> {
        context.log(Level::Debug, "starting");
        Ok(())
    }

    fn handle(&self, batch: &Batch, context: &Context) -> Result<Vec<Response>> {
        context.log(Level::Warn, "wärmer");
        context.log(Level::Error, "");
        context.metric(MetricKind::Counter, "requests", batch.len() as f64, "count");
        context.metric(MetricKind::Gauge, "temperature", -3.5, "°C");
        context.metric(MetricKind::Histogram, "latency", 0.25, "ms");
        Ok(batch.iter().map(|_| Response::text("")).collect())
    }
});

#[test]
fn log_and_metrics_arrive_in_order() {
    let mut handler = Host::new().start::<Talks>().unwrap();
    handler.handle(&[Sent::body(""), Sent::body("")]);
    let lines = [(Level::Debug, "starting"), (Level::Warn, "wärmer"), (Level::Error, "")];
    assert_eq!(handler.log(), lines.map(|(level, line)| (level, line.to_owned())));
    let values = [
        (MetricKind::Counter, "requests", 2.0),
        (MetricKind::Gauge, "temperature", -3.5),
        (MetricKind::Histogram, "latency", 0.25),
    ];
    assert_eq!(handler.metrics(), values.map(|(kind, name, value)| (kind, name.to_owned(), value)));
}

handler!(Fails {
    fn handle(&self, batch: &Batch, _: &Context) -> Result<Vec<Response>> {
        let answer = |request: &Request| -> Result<Response> {
            match request.input()?.text()? {
                "io" => Ok(std::fs::read("/no/such/file").map(Response::bytes)?),
                "bad" => Err(Error::bad_request("field `data` is empty").context("while reading")),
                "teapot" => Err(Error::with_status(418, "short and stout")),
                "success" => Err(Error::with_status(200, "an error that looks like none")),
                "whole" => unreachable!("answered before"),
                _ => Ok(Response::text("well").with_status(201).with_header("x-a", "1").with_content_type("text/x")),
            }
        };
        if batch.iter().any(|request| request.body() == b"whole") {
            return Err(Error::with_status(507, "nothing goes"));
        }
        Ok(batch.iter().map(|request| answer(request).into()).collect())
    }
});

#[test]
fn client_and_log_read_different_texts() {
    let mut handler = Host::new().start::<Fails>().unwrap();
    let sent: Vec<_> = ["io", "bad", "teapot", "success", "fine"].map(Sent::body).into();
    let mut answers = handler.handle(&sent);
    assert_eq!(
        answers.pop().unwrap().unwrap(),
        Answer {
            status: 201,
            content_type: Some("text/x".to_owned()),
            headers: vec![("x-a".to_owned(), "1".to_owned())],
            body: b"well".to_vec(),
        }
    );
    let errors: Vec<_> = answers.into_iter().map(Result::unwrap_err).collect();
    let seen: Vec<_> = errors.iter().map(|error| (error.status(), error.client_text())).collect();
    assert_eq!(
        seen,
        [
            (503, "Prediction failed"),
            (400, "field `data` is empty"),
            (418, "short and stout"),
            (500, "an error that looks like none"),
        ]
    );
    assert!(errors[0].log_text().contains("No such file"), "{}", errors[0]);
    assert_eq!(errors[1].log_text(), "while reading: field `data` is empty");
}

#[test]
fn an_error_of_the_call_is_every_requests_error() {
    let mut handler = Host::new().start::<Fails>().unwrap();
    for answer in handler.handle(&[Sent::body("fine"), Sent::body("whole")]) {
        assert_eq!(answer.map_err(|error| error.status()), Err(507));
    }
    assert!(handler.predict(Sent::body("fine")).is_ok(), "the next call is a new one");
}

handler!(SaysTheUnsayable {
    fn handle(&self, batch: &Batch, _: &Context) -> Result<Vec<Response>> {
        let unsayable = std::collections::BTreeMap::from([((1, 2), 3)]);
        Ok(batch
            .iter()
            .map(|request| match request.body() {
                b"" => Response::json(&json!({"ä": [1, null]})),
                _ => Response::json(&unsayable).with_status(200),
            })
            .collect())
    }
});

#[test]
fn what_json_cant_say_fails_its_request_alone() {
    let mut handler = Host::new().start::<SaysTheUnsayable>().unwrap();
    let answers = handler.handle(&[Sent::body("x"), Sent::body("")]);
    assert!(answers[0].as_ref().unwrap_err().log_text().contains("can't be said in JSON"));
    let answer = answers[1].as_ref().unwrap();
    assert_eq!(answer.content_type.as_deref(), Some("application/json"));
    assert_eq!(String::from_utf8_lossy(&answer.body), "{\n  \"ä\": [\n    1,\n    null\n  ]\n}");
}

// === Requests and context ===

handler!(ReadsRequests {
    fn handle(&self, batch: &Batch, _: &Context) -> Result<Vec<Response>> {
        let read = |request: &Request| {
            let fields: Vec<_> = request
                .fields()
                .map(|field| format!("{}|{:?}|{}", field.name(), field.content_type(), field.bytes().len()))
                .collect();
            let header = request.header("X-Who").unwrap_or("nobody").to_owned();
            Response::text(format!("{} {header} {fields:?} {:?}", request.id(), request.body()))
        };
        Ok(batch.iter().map(read).collect())
    }
});

#[test]
fn requests_arrive_as_they_were_sent() {
    let mut handler = Host::new().start::<ReadsRequests>().unwrap();
    let answers = handler.handle(&[
        Sent::body([0, 255]).header("x-who", "first").header("X-WHO", "last"),
        Sent::default().typed_field("data", "image/png", "ab").field("body", "c"),
        Sent::default().field("data", "").field("body", "c"),
        Sent::default().field("other", "c"),
    ]);
    let texts: Vec<_> = answers.into_iter().map(text).collect();
    assert_eq!(
        texts,
        [
            "test-request last [\"body|None|2\"] [0, 255]",
            "test-request nobody [\"data|Some(\\\"image/png\\\")|2\", \"body|None|1\"] [97, 98]",
            "test-request nobody [\"data|None|0\", \"body|None|1\"] [99]",
            "test-request nobody [\"other|None|1\"] []",
        ]
    );
}

#[derive(Debug, Default)]
struct Remembers {
    calls: Cell<u32>,
    place: String,
}

impl Handler for Remembers {
    fn initialize(&mut self, context: &Context) -> Result<()> {
        self.place = format!(
            "{} {} {} {:?} {:?} {} {:?} {:?}",
            context.model_name(),
            context.model_version(),
            context.model_dir().display(),
            context.device(),
            context.model_kind(),
            context.config()["handler"]["top"],
            context.property("batch_size"),
            context.property("gpu_id"),
        );
        Ok(())
    }

    fn handle(&self, batch: &Batch, context: &Context) -> Result<Vec<Response>> {
        self.calls.set(self.calls.get() + 1);
        assert_eq!((context.device(), context.model_kind()), (Device::Cpu, Some(ModelKind::TorchScript)));
        let line = format!("{} {}", self.calls.get(), self.place);
        Ok(batch.iter().map(|_| Response::text(line.as_str())).collect())
    }
}

#[test]
fn a_handler_knows_its_place_and_keeps_its_state() {
    let mut handler = Host::new()
        .model_dir("/models/m")
        .config(json!({"handler": {"top": 5}}))
        .property("batch_size", "8")
        .model(|_| Err(Error::new("never called")))
        .start::<Remembers>()
        .unwrap();
    let place = "test 1.0 /models/m Cpu Some(TorchScript) 5 Some(\"8\") None";
    for call in 1..=3 {
        assert_eq!(text(handler.predict(Sent::body(""))), format!("{call} {place}"));
    }
}

handler!(KeepsNothing {
    fn initialize(&mut self, _: &Context) -> Result<()> {
        Err(Error::new("vocab.txt is missing").context("KeepsNothing"))
    }
});

#[test]
fn an_error_in_initialize_is_told() {
    let error = Host::new().start::<KeepsNothing>().unwrap_err();
    assert_eq!(error.log_text(), "KeepsNothing: vocab.txt is missing");
}
