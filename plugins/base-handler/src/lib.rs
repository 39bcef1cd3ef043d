//! The steps of the SDK as they are: JSON lists in, one call of the TorchScript model for the batch, JSON lists out.
//!
//! It serves archives that ask for TorchServe's `base_handler`. Copy this folder to start a handler that replaces one of the steps.

use handler_sdk::prelude::*;

#[derive(Default)]
struct BaseHandler;

impl Handler for BaseHandler {}

export_handler!(BaseHandler);

#[cfg(test)]
mod tests {
    use handler_sdk::testing::Host;
    use handler_sdk::testing::Request;
    use serde_json::Value as Json;
    use serde_json::json;

    use super::*;

    /// A model that doubles each number of a batch, and refuses batches of anything but pairs.
    fn doubling() -> Host {
        Host::new().model(|inputs| {
            let input = inputs[0].clone().tensor()?;
            let shape = input.shape();
            if shape.len() != 2 || shape[1] != 2 {
                return Err(Error::new(format!("the model takes pairs, not {shape:?}")));
            }
            let doubled: Vec<f32> = input.to_vec::<f32>()?.into_iter().map(|number| number * 2.0).collect();
            Ok(Tensor::from_slice(&shape, &doubled)?.into())
        })
    }

    #[test]
    fn lists_go_in_and_each_request_gets_its_own_list_back() {
        let mut handler = doubling().start::<BaseHandler>().unwrap();
        let requests = [
            Request::json(&json!([1, 2.5])),
            Request::default().field("data", "[3, 4]"),
            Request::body("[1, \"two\"]"),
            Request::body("no JSON"),
        ];
        let answers = handler.handle(&requests);
        let lists: Vec<Json> =
            answers[..2].iter().map(|answer| serde_json::from_slice(&answer.as_ref().unwrap().body).unwrap()).collect();
        assert_eq!(lists, [json!([2.0, 5.0]), json!([6.0, 8.0])]);
        assert_eq!(answers[0].as_ref().unwrap().content_type.as_deref(), Some("application/json"));
        for answer in &answers[2..] {
            let error = answer.as_ref().unwrap_err();
            assert_eq!(error.status(), 400, "{error}");
            assert!(error.client_text().contains("field `body`"), "{error}");
        }
    }

    #[test]
    fn what_the_model_refuses_is_an_error_of_the_server() {
        let mut handler = doubling().start::<BaseHandler>().unwrap();
        let error = handler.predict(Request::json(&[1, 2, 3])).unwrap_err();
        assert_eq!((error.status(), error.client_text()), (503, "Prediction failed"));
        assert!(error.log_text().contains("the model takes pairs, not [1, 3]"), "{error}");
    }
}
