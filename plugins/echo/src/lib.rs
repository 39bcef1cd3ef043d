//! The smallest handler: answers each request with its own body.
//!
//! It has no model and needs no libtorch. Copy this folder to start a handler that computes without a model.

use handler_sdk::prelude::*;

#[derive(Default)]
struct Echo;

impl Handler for Echo {
    fn handle(&self, batch: &Batch, _: &Context) -> Result<Vec<Response>> {
        Ok(batch.iter().map(|request| Response::bytes(request.body())).collect())
    }
}

export_handler!(Echo);

#[cfg(test)]
mod tests {
    use handler_sdk::testing::Host;
    use handler_sdk::testing::Request;

    use super::*;

    #[test]
    fn every_request_gets_its_own_body_back() {
        let mut echo = Host::new().start::<Echo>().unwrap();
        let answers = echo.handle(&[Request::body("one"), Request::default().field("data", "two"), Request::body("")]);
        let bodies: Vec<_> = answers.into_iter().map(|answer| answer.unwrap().body).collect();
        assert_eq!(bodies, [b"one".to_vec(), b"two".to_vec(), Vec::new()]);
    }
}
