//! What a handler does wrong: panics, and too few answers.

use handler_sdk::prelude::*;
use handler_sdk::testing::Host;
use handler_sdk::testing::Request as Sent;

use crate::text;

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
