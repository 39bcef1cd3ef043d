//! Explanations, self-descriptions, and answers sent piece by piece.

use handler_sdk::prelude::*;
use handler_sdk::testing::Host;
use handler_sdk::testing::Request as Sent;
use serde_json::Value as Json;
use serde_json::json;

use crate::text;

handler!(Plain {
    fn handle(&self, batch: &Batch, _: &Context) -> Result<Vec<Response>> {
        Ok(batch.iter().map(|request| Response::bytes(request.body())).collect())
    }
});

#[test]
fn a_handler_without_explanations_says_so_whatever_it_is_sent() {
    let mut plain = Host::new().start::<Plain>().unwrap();
    let error = plain.explain(Sent::body("no numbers")).unwrap_err();
    assert_eq!(error.status(), 501);
    assert!(error.client_text().contains("handler of model \"test\" has no explanations"), "{error}");
    assert_eq!(plain.describe().unwrap(), None);
    assert_eq!(text(plain.predict(Sent::body("still serves"))), "still serves");
}

handler!(Explains {
    fn explain(&self, request: &Request, context: &Context) -> Result<Response> {
        let input = self.preprocess(request, context)?;
        Ok(Response::json(&json!({"numbers": input.tensor()?.shape()})))
    }

    fn describe(&self, context: &Context) -> Result<Option<Json>> {
        match context.config()["describe"].as_str() {
            Some("panic") => panic!("nothing to say"),
            Some(words) => Ok(Some(words.into())),
            None => Ok(Some(json!({"model": context.model_name()}))),
        }
    }
});

#[test]
fn an_explanation_that_fails_fails_alone() {
    let mut explains = Host::new().start::<Explains>().unwrap();
    let answers = explains.explain_batch(&[Sent::json(&[1, 2]), Sent::body("no JSON"), Sent::json(&[1])]);
    let [first, second, third] = answers.try_into().unwrap();
    assert_eq!(text(first), "{\n  \"numbers\": [\n    2\n  ]\n}");
    assert_eq!(second.unwrap_err().status(), 400);
    assert_eq!(third.unwrap().content_type.as_deref(), Some("application/json"));
}

#[test]
fn a_description_is_whatever_json_the_handler_gives() {
    let described = |config: Json| Host::new().config(config).start::<Explains>().unwrap().describe();
    assert_eq!(described(json!({})).unwrap(), Some(json!({"model": "test"})));
    assert_eq!(described(json!({"describe": "only words"})).unwrap(), Some(json!("only words")));
    assert!(described(json!({"describe": "panic"})).unwrap_err().log_text().contains("nothing to say"));
}

handler!(Streams {
    fn handle(&self, batch: &Batch, context: &Context) -> Result<Vec<Response>> {
        let stream = |request: &Request| -> Result<Response> {
            for piece in request.input()?.text()?.split(' ') {
                if piece == "fail" {
                    context.send(request, Response::from(Error::bad_request("no such word")))?;
                }
                assert!(!context.is_cancelled(request), "asked for a piece too many");
                context.send(request, Response::text(piece).with_header("x-length", piece.len().to_string()))?;
                if context.is_cancelled(request) {
                    return Err(Error::new("nobody reads"));
                }
            }
            Ok("end".into())
        };
        Ok(batch.iter().map(|request| stream(request).into()).collect())
    }
});

#[test]
fn pieces_go_ahead_of_the_answer_in_order() {
    let mut streams = Host::new().start::<Streams>().unwrap();
    assert_eq!(text(streams.predict(Sent::body("one three"))), "end");
    let sent = streams.sent();
    assert_eq!(sent.iter().map(|piece| piece.body.as_slice()).collect::<Vec<_>>(), [&b"one"[..], b"three"]);
    assert_eq!(sent[1].headers, [("x-length".to_owned(), "5".to_owned())]);
    // Those of the last call only.
    assert_eq!(text(streams.predict(Sent::body("two"))), "end");
    assert_eq!(streams.sent().len(), 1);
}

#[test]
fn an_error_is_no_piece() {
    let mut streams = Host::new().start::<Streams>().unwrap();
    let error = streams.predict(Sent::body("one fail two")).unwrap_err();
    assert_eq!((error.status(), error.client_text()), (400, "no such word"));
    assert_eq!(streams.sent().len(), 1);
}

#[test]
fn a_client_that_goes_is_noticed() {
    let mut streams = Host::new().start::<Streams>().unwrap();
    streams.leave_after(2);
    let error = streams.predict(Sent::body("a b c d")).unwrap_err();
    assert_eq!(error.log_text(), "nobody reads");
    assert_eq!(streams.sent().len(), 2);
    let mut ignores = Host::new().start::<Ignores>().unwrap();
    ignores.leave_after(0);
    let error = ignores.predict(Sent::body("a")).unwrap_err();
    assert_eq!(error.log_text(), "the client has gone, or reads too slowly");
    assert_eq!(error.status(), 499);
}

handler!(Ignores {
    fn handle(&self, batch: &Batch, context: &Context) -> Result<Vec<Response>> {
        for request in batch {
            context.send(request, vec![1, 2, 3])?;
        }
        Ok(Vec::new())
    }
});
