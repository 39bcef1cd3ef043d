//! The digits, from weights to HTTP: libtorch in the host, the network in TorchScript or over the host's tensors.
#![cfg(feature = "torch")]

use std::fs;

use crate::profile::Chrome;
use crate::support::Archive;
use crate::support::Sent;
use crate::support::Server;
use crate::support::Setup;
use crate::support::first_party;
use crate::support::mnist_weights;
use crate::support::multipart;
use crate::support::repository;
use crate::support::says;
use crate::support::trainer;

const HANDLER: &str = "mnist_digit_classifier";

/// The picture of a digit.
fn picture(digit: u32) -> Vec<u8> {
    fs::read(repository().join(format!("model-store/mnist/digits/{digit}.png"))).unwrap()
}

/// A server with the model `dict`, from the weights, and with `script`, from the TorchScript that the trainer makes of them; and with `plain`, which is that as it is.
fn server() -> Option<Server> {
    let weights = mnist_weights()?;
    let made = tempfile::tempdir().unwrap();
    trainer(&["export".as_ref(), "--weights".as_ref(), weights.as_ref(), "--out".as_ref(), made.path().as_ref()]);
    let script = made.path().join("mnist.pt");
    let model = |name: &str, file| Archive::new(name, HANDLER).weights(file).config("batchSize: 4\nmaxBatchDelay: 5\n");
    let plain = Archive::new("plain", HANDLER).weights(&script).config("optimization: asLoaded\n");
    Some(
        Setup::with_echo()
            .plugin(&first_party("mnist-digit-classifier"))
            .model(&model("dict", &weights))
            .model(&model("script", &script))
            .model(&plain)
            .start(),
    )
}

#[test]
fn torchscript_and_state_dict_name_the_ten_digits() {
    let Some(server) = server() else { return };
    for model in ["script", "dict"] {
        for digit in 0..10 {
            let png = picture(digit);
            let expected = digit.to_string();
            assert_eq!(server.predict(model, &png).ok(), expected, "{model}, as the body");
            let form = multipart(&[("data", "image/png", &png)]);
            assert_eq!(server.send(model, &form).ok(), expected, "{model}, as a form");
        }
    }
    // All at once, so that batches are made of different digits.
    std::thread::scope(|scope| {
        for client in 0..20 {
            let server = &server;
            scope.spawn(move || {
                let model = if client < 10 { "script" } else { "dict" };
                let digit = client % 10;
                for _ in 0..5 {
                    assert_eq!(server.predict(model, picture(digit)).ok(), digit.to_string(), "{model}");
                }
            });
        }
    });
    server.still_serves();
}

#[test]
fn what_is_no_picture_is_refused_with_the_field_s_name() {
    let Some(server) = server() else { return };
    let png = picture(7);
    let cut = &png[..png.len() / 2];
    for model in ["script", "dict"] {
        for (request, field) in [
            (Sent::body(""), "field `body`"),
            (Sent::body("no picture at all"), "field `body`"),
            (Sent::body(cut), "field `body`"),
            (multipart(&[("data", "image/png", cut)]), "field `data`"),
            (multipart(&[("data", "", b"")]), "field `data`"),
            (Sent::body("[[[1, 2], [3]]]"), "field `body`"),
            (Sent::body("[1, 2]"), "field `body`"),
        ] {
            let message = server.send(model, &request).error(400, "BadRequestException");
            says(&message, &[field]);
        }
        let message = server.send(model, &multipart(&[("picture", "image/png", &png)]));
        says(&message.error(400, "BadRequestException"), &["no field `data`", "picture"]);
        assert_eq!(server.predict(model, &png).ok(), "7");
    }
}

#[test]
fn a_file_that_is_no_model_is_refused_and_the_others_are_served() {
    let folder = tempfile::tempdir().unwrap();
    let mut setup = Setup::with_echo().plugin(&first_party("mnist-digit-classifier"));
    let files = ["garbage.pt", "empty.pt", "garbage.safetensors"];
    for file in files {
        let path = folder.path().join(file);
        let content = if file.starts_with("empty") { "" } else { "these are no weights" };
        fs::write(&path, content).unwrap();
        let name = file.replace('.', "-");
        setup = setup.model(&Archive::new(&name, HANDLER).weights(&path));
    }
    let server = setup.model(&Archive::new("bare", HANDLER)).start();
    for file in files {
        says(&server.failure(&file.replace('.', "-")), &[file]);
    }
    says(&server.failure("bare"), &["holds no model", "--serialized-file"]);
    server.still_serves();
}

#[test]
fn a_profile_tells_libtorch_s_operators_with_their_shapes() {
    let Some(server) = server() else { return };
    let png = picture(3);
    // The form that the server finds for `script` has operators of other names.
    for model in ["plain", "dict"] {
        // The interpreter looks at what it runs the first times.
        (0..3).for_each(|_| assert_eq!(server.predict(model, &png).ok(), "3"));
        let trace = Chrome::of(&server.management(&format!("/models/{model}/profile"), &Sent::body(&png)));
        assert_eq!(trace.other()["answer"]["status"], 200);
        let operators = trace.of_category("cpu_op");
        let convolutions: Vec<_> = operators.iter().filter(|one| one["name"] == "aten::_convolution").collect();
        assert_eq!(convolutions.len(), 2, "{model}: {trace:?}");
        let first = convolutions[0];
        assert_eq!(first["args"]["Input Dims"][0], serde_json::json!([1, 1, 28, 28]), "{model}: {first}");
        assert_eq!(first["args"]["Input Dims"][1], serde_json::json!([32, 1, 3, 3]), "{model}: {first}");
        assert_eq!(first["args"]["Input type"][0], "float32", "{model}: {first}");
        // The host calls TorchScript; a network over its tensors is computed in the plugin, with the same libtorch.
        let stages = trace.of_category("stage");
        let inference = stages.iter().find(|stage| stage["name"] == "inference").unwrap();
        assert!(convolutions.iter().all(|one| Chrome::is_within(one, inference)), "{model}: {trace:?}");
        if model == "plain" {
            let forward = trace.of_category("model")[0];
            assert_eq!(forward["name"], "forward");
            assert!(convolutions.iter().all(|one| Chrome::is_within(one, forward)), "{trace:?}");
        }
    }
    let table = server.management("/models/plain/profile?format=table", &Sent::body(&png)).ok();
    says(&table, &["Operator", "Input shapes", "[[1, 1, 28, 28], [32, 1, 3, 3], ", "forward"]);
}
