//! The three steps, and what fails in them.

use std::cell::Cell;
use std::cell::RefCell;
use std::rc::Rc;

use handler_sdk::prelude::*;
use handler_sdk::testing::Host;
use handler_sdk::testing::Request as Sent;
use serde_json::json;

handler!(Defaults {});

/// A model that doubles, and keeps the shapes it was called with.
fn doubling() -> (Host, Rc<RefCell<Vec<Vec<i64>>>>) {
    let shapes = Rc::new(RefCell::new(Vec::new()));
    let seen = Rc::clone(&shapes);
    let host = Host::new().model(move |inputs| {
        let input = inputs[0].as_tensor()?;
        seen.borrow_mut().push(input.shape());
        let doubled: Vec<f32> = input.to_vec::<f32>()?.iter().map(|value| value * 2.0).collect();
        Ok(Tensor::from_slice(&input.shape(), &doubled)?.into())
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
        (Sent::default().field("x".repeat(1000), ""), &format!("only [\"{}\"]: send", "x".repeat(40))),
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

handler!(TwoInputs {
    fn preprocess(&self, request: &Request, _: &Context) -> Result<Value> {
        let one = request.input()?.tensor()?;
        let shifted: Vec<f32> = one.to_vec::<f32>()?.iter().map(|value| value + 10.0).collect();
        let other = Tensor::from_slice(&one.shape(), &shifted)?;
        Ok(Value::List(vec![one.into(), other.into()]))
    }

    fn postprocess(&self, output: Value, request: &Request, _: &Context) -> Result<Response> {
        let sum = output.tensor()?.to_f64()?[0];
        Ok(Response::text(format!("{} -> {sum}", request.input()?.text()?)))
    }
});

#[test]
fn several_inputs_reach_the_model_as_batches_of_their_own_and_postprocess_sees_its_request() {
    let host = Host::new().model(|inputs| {
        let (one, other) = (inputs[0].as_tensor()?, inputs[1].as_tensor()?);
        assert_eq!((one.shape(), other.shape()), (vec![2, 1], vec![2, 1]));
        let sums: Vec<f32> = one.to_vec::<f32>()?.iter().zip(other.to_vec::<f32>()?).map(|(a, b)| a + b).collect();
        Ok(Tensor::from_slice(&[2, 1], &sums)?.into())
    });
    let mut handler = host.start::<TwoInputs>().unwrap();
    let answers = handler.handle(&[Sent::json(&[1.0]), Sent::json(&[2.0])]);
    let bodies: Vec<_> = answers.into_iter().map(|answer| String::from_utf8(answer.unwrap().body).unwrap()).collect();
    assert_eq!(bodies, ["[1.0] -> 12", "[2.0] -> 14"]);
}

handler!(LosesOutputs {
    fn inference(&self, inputs: Vec<Value>, _: &Context) -> Result<Vec<Value>> {
        Ok(inputs.into_iter().skip(1).collect())
    }
});

#[test]
fn as_many_outputs_as_inputs() {
    let mut handler = Host::new().start::<LosesOutputs>().unwrap();
    let error = handler.predict(Sent::json(&[1.0])).unwrap_err();
    assert_eq!(error.log_text(), "inference gave 0 outputs for 1 inputs");
}

handler!(PicksyPostprocess {
    fn postprocess(&self, output: Value, _: &Request, _: &Context) -> Result<Response> {
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

#[test]
fn the_steps_one_by_one_answer_as_the_whole_call_does() {
    let (host, shapes) = doubling();
    let mut handler = host.start::<PicksyPostprocess>().unwrap();
    let requests = [Sent::json(&[-1.0]), Sent::body("["), Sent::json(&[4.0])];
    let whole = handler.handle(&requests);
    assert_eq!(handler.handle_in_steps(&requests), whole);
    assert_eq!(handler.predict_in_steps(Sent::json(&[3.0])).unwrap().body, b"6");
    assert_eq!(*shapes.borrow(), [[2, 1], [2, 1], [1, 1]]);
    let error = handler.handle_in_steps(&[Sent::json(&[1.0]), Sent::json(&[1.0, 2.0])])[1].clone().unwrap_err();
    assert!(error.log_text().contains("shapes [1] and [2]"), "{error}");
}

#[derive(Default)]
struct Numbered(Cell<u32>);

impl Handler for Numbered {
    const STATE_VERSION: Option<u32> = Some(1);

    fn preprocess(&self, _: &Request, _: &Context) -> Result<Value> {
        self.0.set(self.0.get() + 1);
        Ok(Value::List(Vec::new()))
    }

    fn inference(&self, inputs: Vec<Value>, _: &Context) -> Result<Vec<Value>> {
        Ok(inputs)
    }

    fn postprocess(&self, _: Value, _: &Request, _: &Context) -> Result<Response> {
        Ok(Response::text(self.0.get().to_string()))
    }
}

#[test]
fn a_handler_with_a_state_has_it_in_every_step() {
    let mut handler = Host::new().start::<Numbered>().unwrap();
    assert_eq!(handler.predict_in_steps(Sent::default()).unwrap().body, b"2", "through handle, then in steps");
    assert_eq!(handler.predict_in_steps(Sent::default()).unwrap().body, b"3");
    assert_eq!(handler.predict(Sent::default()).unwrap().body, b"4");
}

handler!(SendsWhileItAnswers {
    fn inference(&self, inputs: Vec<Value>, _: &Context) -> Result<Vec<Value>> {
        Ok(inputs)
    }

    fn preprocess(&self, request: &Request, context: &Context) -> Result<Value> {
        assert!(!context.is_cancelled(request));
        Ok(request.input()?.tensor()?.into())
    }

    fn postprocess(&self, _: Value, request: &Request, context: &Context) -> Result<Response> {
        context.send(request, "a piece")?;
        Ok("the end".into())
    }
});

#[test]
fn pieces_are_sent_from_a_step_of_its_own_too() {
    let mut handler = Host::new().start::<SendsWhileItAnswers>().unwrap();
    assert_eq!(handler.predict_in_steps(Sent::body("[1]")).unwrap().body, b"the end");
    assert_eq!(handler.sent().iter().map(|piece| piece.body.as_slice()).collect::<Vec<_>>(), [b"a piece"]);
}

handler!(AnswersAtOnce {
    fn handle(&self, batch: &Batch, _: &Context) -> Result<Vec<Response>> {
        Ok(batch.iter().map(|_| batch.len().to_string().into()).collect())
    }

    fn preprocess(&self, _: &Request, _: &Context) -> Result<Value> {
        panic!("it isn't asked for steps")
    }
});

#[test]
fn a_handle_of_its_own_is_called_for_the_whole_batch() {
    let mut handler = Host::new().start::<AnswersAtOnce>().unwrap();
    for count in [2, 3] {
        let answers = handler.handle_in_steps(&vec![Sent::default(); count]);
        assert!(answers.iter().all(|answer| answer.as_ref().unwrap().body == count.to_string().as_bytes()));
    }
}
