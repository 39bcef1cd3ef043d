//! The form that a model runs in, and batches that the server chooses: what describe says of them, and that nobody sees another answer.

use std::thread;

use serde_json::Value;
use serde_json::json;

use super::packed;
use super::picture;
use super::server;
use crate::support::Answer;

const PICTURE: &str = "small.png";

#[test]
fn a_model_is_served_in_the_form_that_was_found_and_describe_says_which() {
    let asked = |name, config| packed(name, "classifier", "image_classifier").config(config);
    let archives = [
        packed("by_itself", "classifier", "image_classifier"),
        asked("as_it_is", "optimization: asLoaded\ntargetLatencyMs: 5000\n"),
        asked("optimized", "optimization: optimized\nbatchSize: 4\n"),
        asked("delayed", "maxBatchDelay: 3600000\n"),
    ];
    let server = server("image-classifier", &[], &archives);
    let alone = likeliest(&server.predict("by_itself", picture(PICTURE)));

    let described = server.describe("by_itself");
    // What TorchServe says where nobody asked for anything.
    assert_eq!((&described["batchSize"], &described["maxBatchDelay"]), (&json!(1), &json!(100)));
    assert_eq!(described["batching"]["mode"], "automatic");
    assert!(described["batching"]["largest"].as_u64().unwrap() >= 2, "{described:#}");
    let optimization = &described["optimization"];
    assert_eq!(optimization["asked"], "auto");
    let tried: Vec<&Value> = optimization["trials"].as_array().unwrap().iter().map(|trial| &trial["form"]).collect();
    // A clear gain of the first spares the others.
    assert!(tried.contains(&&json!("asLoaded")) && tried.contains(&&json!("fused")), "{optimization:#}");
    assert!(tried.contains(&&optimization["kept"]), "{optimization:#}");
    let reason = optimization["reason"].as_str().unwrap();
    assert!(["no other form", "it gives the same and takes"].iter().any(|words| reason.starts_with(words)), "{reason}");

    let described = server.describe("as_it_is");
    assert_eq!(described["optimization"]["kept"], "asLoaded");
    assert_eq!(described["optimization"]["reason"], "model-config.yaml asks for it");
    assert_eq!(described["batching"]["targetLatencyMs"], 5000);

    let described = server.describe("optimized");
    assert_eq!(described["optimization"]["kept"], "optimized", "{:#}", described["optimization"]);
    assert_eq!((&described["batching"]["mode"], &described["batching"]["largest"]), (&json!("whenIdle"), &json!(4)));

    let described = server.describe("delayed");
    assert_eq!((&described["batching"]["mode"], &described["batching"]["largest"]), (&json!("delayed"), &json!(1)));

    // One alone doesn't wait an hour for others that nobody asked for, and every form says the same.
    for model in ["as_it_is", "optimized", "delayed"] {
        same(model, &likeliest(&server.predict(model, picture(PICTURE))), &alone);
    }
    thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                for _ in 0..4 {
                    same("by_itself", &likeliest(&server.predict("by_itself", picture(PICTURE))), &alone);
                }
            });
        }
    });
}

/// Classes with their probabilities, the likeliest first.
fn likeliest(answer: &Answer) -> Vec<(String, f64)> {
    let classes: Value = answer.json();
    classes.as_object().unwrap().iter().map(|(class, share)| (class.clone(), share.as_f64().unwrap())).collect()
}

fn same(model: &str, one: &[(String, f64)], other: &[(String, f64)]) {
    let is_near = |((one, share), (other, expected)): (&(String, f64), &(String, f64))| {
        one == other && (share - expected).abs() < 1e-5
    };
    assert!(one.len() == other.len() && one.iter().zip(other).all(is_near), "{model}: {one:?}, and not {other:?}");
}
