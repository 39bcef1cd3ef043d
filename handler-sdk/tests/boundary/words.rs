//! Log, metrics, and the two texts of an error.

use handler_sdk::Level;
use handler_sdk::MetricKind;
use handler_sdk::prelude::*;
use handler_sdk::testing::Host;
use handler_sdk::testing::Request as Sent;
use serde_json::json;

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
        context.metric_with(MetricKind::Histogram, "latency", 0.25, "ms", &[("stage", "decode"), ("größe", "")]);
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
    let labelled: Vec<_> = handler.labelled_metrics().into_iter().map(|metric| (metric.unit, metric.labels)).collect();
    let labels = [("stage", "decode"), ("größe", "")].map(|(label, value)| (label.to_owned(), value.to_owned()));
    let owned = |unit: &str, labels: &[(String, String)]| (unit.to_owned(), labels.to_vec());
    assert_eq!(labelled, [owned("count", &[]), owned("°C", &[]), owned("ms", &labels)]);
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
    let answer = answers.pop().unwrap().unwrap();
    assert_eq!((answer.status, answer.content_type.as_deref()), (201, Some("text/x")));
    assert_eq!(answer.headers, [("x-a".to_owned(), "1".to_owned())]);
    assert_eq!(answer.body, b"well");
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
