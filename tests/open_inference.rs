//! The Open Inference Protocol: `/v2`, with and without a model behind it.

use serde_json::json;

use crate::support::Answer;
use crate::support::Archive;
use crate::support::Sent;
use crate::support::Server;
use crate::support::Setup;
use crate::support::fixture;
use crate::support::says;

fn get(server: &Server, path: &str) -> Answer {
    server.inference(path, &Sent::get())
}

/// Asserts an error in the protocol's form, which TorchServe's clients can read too, and gives its text.
#[track_caller]
fn refused(answer: &Answer, status: u16) -> String {
    assert_eq!(answer.status, status, "{}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let json = answer.json();
    let keys: Vec<&str> = json.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["error", "code", "type", "message"]);
    assert_eq!((&json["code"], &json["message"]), (&json!(status), &json["error"]));
    json["error"].as_str().unwrap().to_owned()
}

#[test]
fn the_server_tells_what_it_is_and_whether_it_is_ready() {
    let server = Setup::with_echo().model(&Archive::new("echo", "echo").version("2.0").file("second.mar")).start();
    let told = get(&server, "/v2").json();
    assert_eq!(
        told,
        json!({"name": "sconce", "version": env!("CARGO_PKG_VERSION"), "extensions": ["binary_tensor_data"]})
    );
    assert_eq!(get(&server, "/v2/health/live").json(), json!({"live": true}));
    assert_eq!(get(&server, "/v2/health/ready").json(), json!({"ready": true}));
    for path in ["/v2/models/echo/ready", "/v2/models/echo/versions/2.0/ready"] {
        assert_eq!(get(&server, path).json(), json!({"name": "echo", "ready": true}), "{path}");
    }
    for path in ["/v2/models/echo", "/v2/models/echo/versions/1.0"] {
        let told = get(&server, path).json();
        let keys: Vec<&str> = told.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, ["name", "versions", "platform", "inputs", "outputs", "properties"]);
        assert_eq!((&told["name"], &told["versions"]), (&json!("echo"), &json!(["1.0", "2.0"])));
        assert_eq!((&told["platform"], &told["inputs"]), (&json!("sconce_handler"), &json!([])));
    }
    server.still_serves();
}

#[test]
fn one_model_that_fails_at_start_keeps_the_server_from_being_ready() {
    let server = Setup::with_echo().model(&Archive::new("broken", "nobody_has_this")).start();
    for (path, body) in [
        ("/v2/health/ready", json!({"ready": false})),
        ("/v2/models/broken/ready", json!({"name": "broken", "ready": false})),
    ] {
        let answer = get(&server, path);
        assert_eq!((answer.status, answer.json()), (503, body), "{path}");
    }
    assert_eq!(get(&server, "/v2/models/echo/ready").status, 200);
    assert_eq!(get(&server, "/v2/health/live").json(), json!({"live": true}));
    let text = refused(&server.inference("/v2/models/broken/infer", &Sent::body("{}")), 503);
    says(&text, &["Model \"broken\" has no worker"]);
    server.still_serves();
}

#[test]
fn without_a_model_the_handler_gets_the_body_as_it_is() {
    let server =
        Setup::with_echo().plugin(&fixture("request-teller")).model(&Archive::new("teller", "request_teller")).start();
    let body = r#"{"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}]}"#;
    for path in ["/v2/models/teller/infer", "/v2/models/teller/versions/1.0/infer"] {
        for request in [Sent::body(body), Sent::body(body).content_type("application/json")] {
            let told = server.inference(path, &request).json();
            assert_eq!(told["fields"], json!([["body", "application/json", body]]), "{path}");
            let headers = told["headers"].as_array().unwrap();
            assert!(headers.contains(&json!(["explain", "False"])), "{told}");
        }
    }
    // TorchServe infers whatever the method is.
    assert_eq!(server.inference("/v2/models/echo/infer", &Sent::body("put").method("PUT")).ok(), "put");
    let counted = |version: &str| server.metric("ts_inference_requests_total", &["model_name=\"teller\"", version]);
    assert_eq!([counted("model_version=\"default\""), counted("model_version=\"1.0\"")], [2, 2]);
}

#[test]
fn explanations_are_the_handler_s() {
    let server = Setup::with_echo().plugin(&fixture("explains")).model(&Archive::new("explains", "explains")).start();
    for path in ["/v2/models/explains", "/v2/models/explains/versions/1.0"] {
        assert_eq!(server.inference(&format!("{path}/infer"), &Sent::body("four")).ok(), "FOUR", "{path}");
        let explained = server.inference(&format!("{path}/explain"), &Sent::body("four"));
        assert_eq!(explained.json(), json!({"letters": 4}), "{path}");
    }
    // One that explains nothing says so in the protocol's form.
    refused(&server.inference("/v2/models/echo/explain", &Sent::body("four")), 501);
}

#[test]
fn what_is_not_there_is_said_in_the_protocol_s_form() {
    let server = Setup::with_echo().property("max_request_size", "1000").start();
    for (request, path, status, said) in [
        (Sent::get(), "/v2/models/nobody", 404, "Model not found: nobody"),
        (Sent::get(), "/v2/models/nobody/ready", 404, "Model not found: nobody"),
        (Sent::body("{}"), "/v2/models/nobody/infer", 404, "Model not found: nobody"),
        (Sent::body("{}"), "/v2/models/nobody/explain", 404, "Model not found: nobody"),
        (Sent::get(), "/v2/models/echo/versions/7", 404, "Model version: 7 does not exist for model: echo"),
        (Sent::body("{}"), "/v2/models/echo/versions/7/infer", 404, "Model version: 7 does not exist for model: echo"),
        (Sent::body(""), "/v2", 405, "method is not allowed"),
        (Sent::body(""), "/v2/health/ready", 405, "method is not allowed"),
        (Sent::body(""), "/v2/models/echo", 405, "method is not allowed"),
    ] {
        says(&refused(&server.inference(path, &request), status), &[said]);
    }
    let large = server.inference("/v2/models/echo/infer", &Sent::body("x".repeat(1001)));
    assert_eq!((large.status, large.text().as_str()), (413, ""));
    server.still_serves();
}

#[cfg(feature = "torch")]
mod with_a_model {
    use serde_json::Value;

    use super::*;
    use crate::support::first_party;
    use crate::support::mnist_weights;
    use crate::support::repository;
    use crate::support::trainer;

    /// A server with TorchScript that makes of `x` and `y`: `x * [2, 3] + [10, 20]`, and in a list of dicts `sum` and `difference`.
    fn sums() -> Server {
        let file = repository().join("host/src/model/torch/testdata/sums.pt");
        let model = |name: &str| Archive::new(name, "base_handler").weights(&file);
        let tensor = |name: &str| format!("  - {{name: {name}, datatype: FP32, shape: [2]}}\n");
        let declared = format!(
            "inputs:\n{}{}outputs:\n  - {{name: scaled, datatype: FP32, shape: [2]}}\n",
            tensor("first"),
            tensor("second")
        );
        Setup::with_echo()
            .plugin(&first_party("base-handler"))
            .model(&model("sums"))
            .model(&model("declared").config(&declared))
            .start()
    }

    fn tensor(name: &str, data: &Value) -> Value {
        json!({"name": name, "shape": [2], "datatype": "FP32", "data": data})
    }

    fn infer(server: &Server, model: &str, request: &Value) -> Answer {
        let request = Sent::body(request.to_string()).content_type("application/json");
        server.inference(&format!("/v2/models/{model}/infer"), &request)
    }

    fn floats(bytes: &[u8]) -> Vec<f32> {
        bytes.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect()
    }

    /// JSON with bytes behind it.
    fn with_binary(json: &Value, behind: &[u8]) -> Sent {
        let mut body = json.to_string().into_bytes();
        let length = body.len();
        body.extend(behind);
        Sent::body(body)
            .content_type("application/octet-stream")
            .header("Inference-Header-Content-Length", &length.to_string())
    }

    /// The JSON of an answer, and the bytes behind it.
    fn apart(answer: &Answer) -> (Value, &[u8]) {
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.header("content-type"), Some("application/octet-stream"));
        let length: usize = answer.header("inference-header-content-length").unwrap().parse().unwrap();
        let (json, behind) = answer.body.split_at(length);
        (serde_json::from_slice(json).unwrap(), behind)
    }

    #[test]
    fn a_model_is_called_by_the_names_of_its_parameters_or_by_any() {
        let server = sums();
        let told = get(&server, "/v2/models/sums").json();
        let name = |name: &str| json!({"name": name, "datatype": "", "shape": []});
        assert_eq!((&told["platform"], &told["versions"]), (&json!("pytorch_torchscript"), &json!(["1.0"])));
        assert_eq!((&told["inputs"], &told["outputs"]), (&json!([name("x"), name("y")]), &json!([])));
        let (x, y) = (json!([1, 2]), json!([5, 5]));
        let outputs = json!([
            {"name": "OUTPUT__0", "datatype": "FP32", "shape": [2], "data": [12.0, 26.0]},
            {"name": "sum", "datatype": "FP32", "shape": [2], "data": [6.0, 7.0]},
            {"name": "difference", "datatype": "FP32", "shape": [2], "data": [-4.0, -3.0]},
        ]);
        for inputs in [
            [tensor("x", &x), tensor("y", &y)],
            [tensor("y", &y), tensor("x", &x)],
            [tensor("INPUT__1", &y), tensor("INPUT__0", &x)],
            [tensor("these", &x), tensor("those", &y)],
        ] {
            let answer = infer(&server, "sums", &json!({"id": "mine", "inputs": inputs}));
            assert_eq!(answer.header("content-type"), Some("application/json"));
            let expected = json!({"model_name": "sums", "model_version": "1.0", "id": "mine", "outputs": outputs});
            assert_eq!(answer.json(), expected, "{inputs:?}");
        }
        let inputs = [tensor("x", &x), tensor("y", &y)];
        let some = json!({"inputs": inputs, "outputs": [{"name": "difference"}, {"name": "sum"}]});
        let answer = infer(&server, "sums/versions/1.0", &some);
        assert_eq!(answer.json()["outputs"], json!([outputs[2], outputs[1]]));
        assert_eq!(answer.json()["id"].as_str(), answer.header("x-request-id"), "an id, where the client has none");
    }

    #[test]
    fn what_the_archive_declares_counts() {
        let server = sums();
        let told = get(&server, "/v2/models/declared").json();
        let known = |name: &str| json!({"name": name, "datatype": "FP32", "shape": [2]});
        assert_eq!(told["inputs"], json!([known("first"), known("second")]));
        assert_eq!(told["outputs"], json!([known("scaled")]));
        let (one, two) = (json!([1, 2]), json!([5, 5]));
        let inputs = json!([tensor("second", &two), tensor("first", &one)]);
        let answer = infer(&server, "declared", &json!({"inputs": inputs})).json();
        assert_eq!(
            (&answer["outputs"][0]["name"], &answer["outputs"][0]["data"]),
            (&json!("scaled"), &json!([12.0, 26.0]))
        );
        for (inputs, said) in [
            (json!([tensor("x", &one), tensor("y", &two)]), "no input \"x\": its inputs are [\"first\", \"second\"]"),
            (json!([tensor("first", &one)]), "the input \"second\" is missing"),
            (
                json!([tensor("first", &one), {"name": "second", "shape": [1], "datatype": "INT64", "data": [1]}]),
                "\"second\" is INT64 of shape [1], and the model takes FP32 of shape [2]",
            ),
        ] {
            says(&refused(&infer(&server, "declared", &json!({"inputs": inputs})), 400), &[said]);
        }
        let alone = Sent::body([0; 8]).header("Inference-Header-Content-Length", "0");
        let text = refused(&server.inference("/v2/models/declared/infer", &alone), 400);
        says(&text, &["a body without JSON", "declares 2"]);
    }

    #[test]
    fn what_the_model_can_t_compute_is_the_client_s_to_mend() {
        let server = sums();
        let odd = json!({"name": "y", "shape": [3], "datatype": "FP32", "data": [1, 2, 3]});
        for (request, said) in [
            (json!({"inputs": [tensor("x", &json!([1, 2])), odd]}), &["\"y\" (FP32, shape [3])", "must match"][..]),
            (json!({"inputs": [tensor("x", &json!([1, 2]))]}), &["the input \"y\" is missing"]),
            (json!({"inputs": [tensor("x", &json!([1]))]}), &["the input \"x\": FP32 of shape [2]", "has 1 elements"]),
            (json!({"nothing": 1}), &["missing field `inputs`"]),
        ] {
            let text = refused(&infer(&server, "sums", &request), 400);
            says(&text, said);
            assert!(!text.contains("Traceback"), "{text}");
        }
        server.still_serves();
    }

    #[test]
    fn tensors_travel_as_bytes_behind_the_json() {
        let server = sums();
        let bytes: Vec<u8> = [1.0_f32, 2.0, 5.0, 5.0].iter().flat_map(|value| value.to_le_bytes()).collect();
        let input =
            |name: &str| json!({"name": name, "shape": [2], "datatype": "FP32", "parameters": {"binary_data_size": 8}});
        let request = json!({"inputs": [input("x"), input("y")], "parameters": {"binary_data_output": true}});
        let answer = server.inference("/v2/models/sums/infer", &with_binary(&request, &bytes));
        let (told, behind) = apart(&answer);
        assert_eq!(
            told["outputs"][0],
            json!({"name": "OUTPUT__0", "datatype": "FP32", "shape": [2], "parameters": {"binary_data_size": 8}})
        );
        assert_eq!(floats(behind), [12.0, 26.0, 6.0, 7.0, -4.0, -3.0]);
        // One in JSON, one in bytes.
        let outputs = json!([{"name": "sum"}, {"name": "OUTPUT__0", "parameters": {"binary_data": true}}]);
        let request = json!({"inputs": [input("x"), input("y")], "outputs": outputs});
        let answer = server.inference("/v2/models/sums/infer", &with_binary(&request, &bytes));
        let (told, behind) = apart(&answer);
        assert_eq!(told["outputs"][0]["data"], json!([6.0, 7.0]));
        assert_eq!(floats(behind), [12.0, 26.0]);
        let short = server.inference("/v2/models/sums/infer", &with_binary(&request, &bytes[..12]));
        says(&refused(&short, 400), &["the input \"y\"", "the body has 4 left"]);
    }

    #[test]
    fn the_digits_are_named_without_their_handler() {
        const SIZE: usize = 28 * 28;
        let Some(weights) = mnist_weights() else { return };
        let made = tempfile::tempdir().unwrap();
        trainer(&["export".as_ref(), "--weights".as_ref(), weights.as_ref(), "--out".as_ref(), made.path().as_ref()]);
        let file = made.path().join("mnist.pt");
        let declared = "inputs:\n  - {name: picture, datatype: FP32, shape: [-1, 1, 28, 28]}\n";
        let server = Setup::with_echo()
            .plugin(&first_party("mnist-digit-classifier"))
            .plugin(&first_party("base-handler"))
            .model(&Archive::new("mnist", "mnist_digit_classifier").weights(&file))
            .model(&Archive::new("plain", "base_handler").weights(&file).config(declared))
            .start();
        // Some drawing, as the handler would have made it of a picture.
        let pixels: Vec<f32> = (0..SIZE).map(|place| ((place % 28) as f32 - 14.0).abs() / 14.0 - 0.4).collect();
        let nested: Vec<&[f32]> = pixels.chunks(28).collect();
        let by_handler = Sent::body(json!([nested]).to_string()).content_type("application/json");
        let by_handler: Vec<f32> = serde_json::from_slice(&server.send("plain", &by_handler).body).unwrap();
        let request = json!({
            "inputs": [{"name": "picture", "shape": [1, 1, 28, 28], "datatype": "FP32", "data": [[nested]]}],
        });
        let bytes: Vec<u8> = pixels.iter().flat_map(|pixel| pixel.to_le_bytes()).collect();
        let raw = Sent::body(&bytes).header("Inference-Header-Content-Length", "0");
        let close = |one: &[f32], other: &[f32]| {
            one.len() == 10 && one.iter().zip(other).all(|(one, other)| (one - other).abs() < 1e-4)
        };
        for model in ["mnist", "plain"] {
            let answer = infer(&server, model, &request).json();
            let output = &answer["outputs"][0];
            assert_eq!((&output["name"], &output["shape"]), (&json!("OUTPUT__0"), &json!([1, 10])));
            let scores: Vec<f32> = serde_json::from_value(output["data"].clone()).unwrap();
            assert!(close(&scores, &by_handler), "{model}: {scores:?} and {by_handler:?}");
        }
        let answer = server.inference("/v2/models/plain/infer", &raw);
        let (_, behind) = apart(&answer);
        assert!(close(&floats(behind), &by_handler), "the body alone is the one declared input");
    }
}
