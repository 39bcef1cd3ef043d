//! What a handler is told of a request and of its place.

use std::cell::Cell;

use handler_sdk::Device;
use handler_sdk::ModelKind;
use handler_sdk::prelude::*;
use handler_sdk::testing::Host;
use handler_sdk::testing::Request as Sent;
use serde_json::json;

use crate::text;

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
