//! The handler through the boundary, with a model that is computed here: against TorchServe's answers, and with all that can go wrong.

mod golden;
#[cfg(feature = "tokenizers")]
mod tokenizer;

use std::fs;

use handler_sdk::testing::Host;
use handler_sdk::testing::Request;
use serde_json::Value as Json;
use serde_json::json;
use tempfile::TempDir;

use super::*;

const VOCABULARY: &[u8] = include_bytes!("testdata/source_vocab.pt");
/// Knows hello (1), world (2) and "hello world" (3), and nothing else.
const STRICT_VOCABULARY: &[u8] = include_bytes!("testdata/strict_vocab.pt");

/// An archive's folder with these files.
fn archive(files: &[(&str, &[u8])]) -> TempDir {
    let folder = TempDir::new().unwrap();
    for (name, content) in files {
        let file = folder.path().join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, content).unwrap();
    }
    folder
}

/// Scores each text by the sum of its tokens: `[sum, 0]`.
fn summing(inputs: &[Value]) -> Result<Value> {
    let scores: Vec<f32> = bags(inputs)?.iter().flat_map(|bag| [bag.iter().sum::<i64>() as f32, 0.0]).collect();
    Ok(Tensor::from_slice(&[scores.len() as i64 / 2, 2], &scores)?.into())
}

/// The tokens of each text, from what `EmbeddingBag` takes.
fn bags(inputs: &[Value]) -> Result<Vec<Vec<i64>>> {
    let [tokens, offsets] = inputs else { panic!("{} inputs, not tokens and offsets", inputs.len()) };
    let (tokens, offsets) = (tokens.as_tensor()?.to_vec::<i64>()?, offsets.as_tensor()?.to_vec::<i64>()?);
    let ends = offsets.iter().skip(1).copied().chain([tokens.len() as i64]);
    Ok(offsets.iter().zip(ends).map(|(&start, end)| tokens[start as usize..end as usize].to_vec()).collect())
}

/// With the vocabulary of three tokens.
fn strict() -> (TempDir, Host) {
    let folder = archive(&[("source_vocab.pt", STRICT_VOCABULARY)]);
    let host = Host::new().model_dir(folder.path()).model(summing);
    (folder, host)
}

fn refusal(host: Host) -> Error {
    host.start::<TextClassifier>().unwrap_err()
}

/// The share of the first of two classes, of which the second has score 0.
fn sigmoid(score: f32) -> f64 {
    f64::from(1.0 / (1.0 + (-score).exp()))
}

fn assert_first(answer: &Result<handler_sdk::Answer>, score: f32) {
    let answer: Json = serde_json::from_slice(&answer.as_ref().unwrap().body).unwrap();
    let share = answer["0"].as_f64().unwrap();
    assert!((share - sigmoid(score)).abs() < 1e-6, "{answer} for {score}");
}

#[test]
fn a_text_comes_as_it_is_or_as_a_json_string() {
    let (_folder, host) = strict();
    let mut handler = host.start::<TextClassifier>().unwrap();
    for request in [
        Request::body("Hello, world!"),
        Request::json("<b>Hello</b> world"),
        Request::default().field("data", "hello world"),
        Request::default().typed_field("data", "text/plain", "hello world").typed_field(
            "target",
            "application/json",
            "0",
        ),
        // TorchServe takes as it is what claims to be JSON and isn't.
        Request::default().typed_field("body", "application/json", "hello world"),
        Request::default().field("data", "").field("body", "hello world"),
    ] {
        assert_first(&handler.predict(request), 6.0);
    }
}

#[test]
fn each_bad_text_of_a_batch_fails_alone() {
    let (_folder, host) = strict();
    let mut handler = host.start::<TextClassifier>().unwrap();
    let answers = handler.handle(&[
        Request::body("hello"),
        Request::default().field("data", [0xff, 0xfe]),
        Request::body("world"),
        Request::body("hello there"),
        Request::body("<p>!?</p> 日本"),
        Request::body(""),
        Request::json(&json!({"data": "hello"})),
        Request::default().field("text", "hello"),
        Request::body("hello world"),
    ]);
    assert_first(&answers[0], 1.0);
    assert_first(&answers[2], 2.0);
    assert_first(&answers[8], 6.0);
    for (index, parts) in [
        (1, ["field `data` is not UTF-8", ""]),
        (3, ["field `body` holds \"there\", which the model's vocabulary doesn't know", "unknown_index: 0"]),
        (4, ["field `body` holds no words", "send a text"]),
        (5, ["field `body` holds no words", "send a text"]),
        (6, ["field `body` is JSON, but no string", "send the text as it is"]),
        (7, ["no field `data` and no `body`, only [\"text\"]", ""]),
    ] {
        let error = answers[index].as_ref().unwrap_err();
        assert_eq!(error.status(), 400, "{error}");
        assert!(parts.iter().all(|part| error.client_text().contains(part)), "{error}");
    }
}

#[test]
fn unknown_tokens_get_the_index_that_is_set() {
    let (_folder, host) = strict();
    let host = host.config(json!({"handler": {"unknown_index": 7}}));
    // there, and "hello there".
    assert_first(&host.start::<TextClassifier>().unwrap().predict(Request::body("hello there")), 15.0);
}

#[test]
fn a_vocabulary_under_the_name_in_the_manifest_is_read() {
    let manifest = |name: &str| json!({"model": {"sourceVocab": name}}).to_string();
    let folder = archive(&[
        ("MAR-INF/MANIFEST.json", manifest("words.pt").as_bytes()),
        ("words.pt", STRICT_VOCABULARY),
        ("source_vocab.pt", VOCABULARY),
    ]);
    let host = || Host::new().model_dir(folder.path()).model(summing);
    assert_first(&host().start::<TextClassifier>().unwrap().predict(Request::body("hello world")), 6.0);
    for name in ["gone.pt", "../words.pt", "/etc/hostname"] {
        fs::write(folder.path().join("MAR-INF/MANIFEST.json"), manifest(name)).unwrap();
        let error = refusal(host());
        assert!(error.log_text().contains(&format!("names {name:?} as sourceVocab")), "{error}");
    }
}

#[test]
fn what_is_missing_in_the_archive_is_named_at_start() {
    let empty = archive(&[]);
    let error = refusal(Host::new().model_dir(empty.path()).model(summing));
    let text = error.log_text();
    assert!(["source_vocab.pt", "--extra-files", "tokenizer.json"].iter().all(|part| text.contains(part)), "{text}");

    let broken = archive(&[("source_vocab.pt", b"not a pickle")]);
    let error = refusal(Host::new().model_dir(broken.path()).model(summing));
    assert!(error.log_text().contains("source_vocab.pt holds no vocabulary"), "{error}");

    let folder = archive(&[("source_vocab.pt", STRICT_VOCABULARY)]);
    let error = refusal(Host::new().model_dir(folder.path()));
    assert!(error.log_text().contains("pack one with --serialized-file"), "{error}");
}

#[cfg(not(feature = "tokenizers"))]
#[test]
fn a_tokenizer_that_cannot_be_read_here_says_what_is_missing() {
    let folder = archive(&[("tokenizer.json", b"{}")]);
    let error = refusal(Host::new().model_dir(folder.path()).model(summing));
    assert!(error.log_text().contains("the feature `tokenizers` of handler-sdk"), "{error}");
}

#[test]
fn a_setting_that_cannot_be_is_refused_at_start() {
    for (settings, part) in [
        (json!({"unknown_index": -1}), "{unknown_index: -1}`, which must be a whole number of at least 0"),
        (json!({"unknown_index": "zero"}), "{unknown_index: \"zero\"}"),
        (json!({"embedding": 3}), "{embedding: 3}`, which must be a name"),
        (json!({"n_steps": 0}), "{n_steps: 0}"),
    ] {
        let (_folder, host) = strict();
        let error = refusal(host.config(json!({"handler": settings})));
        assert!(error.log_text().contains(part), "{error} lacks {part}");
    }
}

#[test]
fn labels_stand_in_the_order_of_the_classes_and_must_be_as_many() {
    let names = |names: &str| {
        let folder = archive(&[("source_vocab.pt", STRICT_VOCABULARY), ("index_to_name.json", names.as_bytes())]);
        let host = Host::new().model_dir(folder.path()).model(summing);
        (folder, host)
    };
    let (_folder, host) = names(r#"{"1": "spam", "0": "ham"}"#);
    let answer = host.start::<TextClassifier>().unwrap().predict(Request::body("hello")).unwrap();
    assert_eq!(answer.content_type.as_deref(), Some("application/json"));
    let answer: serde_json::Map<String, Json> = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(answer.keys().collect::<Vec<_>>(), ["ham", "spam"]);

    let (_folder, host) = names(r#"{"0": "ham"}"#);
    let error = refusal(host);
    assert!(error.log_text().contains("class 1") && error.log_text().contains("index_to_name.json"), "{error}");
}

#[test]
fn a_model_that_takes_one_text_at_a_time_is_called_for_each() {
    let (_folder, host) = strict();
    // It ignores where texts begin, and so gives one row for all.
    let host = host.model(|inputs| summing(&[inputs[0].clone(), Tensor::from_slice(&[1], &[0_i64])?.into()]));
    let mut handler = host.start::<TextClassifier>().unwrap();
    for _ in 0..2 {
        let answers = handler.handle(&[Request::body("hello"), Request::body("world"), Request::body("hello world")]);
        answers.iter().zip([1.0, 2.0, 6.0]).for_each(|(answer, score)| assert_first(answer, score));
    }
}

#[test]
fn an_output_of_another_shape_is_named() {
    for (shape, part) in
        [(&[2][..], "shape [2] for 1 texts"), (&[2, 1], "shape [2, 1] for 1 texts"), (&[1, 1, 2], "[1, 1, 2]")]
    {
        let (_folder, host) = strict();
        let error = refusal(host.model(|_| Ok(Tensor::from_slice(shape, &[0.0_f32; 2])?.into())));
        assert!(error.log_text().contains(part) && error.log_text().contains("[1, classes]"), "{error} lacks {part}");
    }
    let (_folder, host) = strict();
    let error = refusal(host.model(|_| Ok(Tensor::from_slice(&[1, 2], &[f32::NAN, 0.0])?.into())));
    assert!(error.log_text().contains("NaN"), "{error}");
}

#[test]
fn scores_may_come_in_a_tuple_or_as_logits() {
    let tuple: fn(&[Value]) -> Result<Value> = |inputs| Ok(Value::List(vec![summing(inputs)?, summing(inputs)?]));
    let dict: fn(&[Value]) -> Result<Value> = |inputs| Ok(Value::Dict(vec![("logits".to_owned(), summing(inputs)?)]));
    for model in [tuple, dict] {
        let (_folder, host) = strict();
        let mut handler = host.model(model).start::<TextClassifier>().unwrap();
        let answers = handler.handle(&[Request::body("hello"), Request::body("world")]);
        answers.iter().zip([1.0, 2.0]).for_each(|(answer, score)| assert_first(answer, score));
    }
    let (_folder, host) = strict();
    let error = refusal(host.model(|inputs| Ok(Value::Dict(vec![("scores".to_owned(), summing(inputs)?)]))));
    assert!(
        error.log_text().contains("`logits` of a dict: expected one tensor, got a dict with [\"scores\"]"),
        "{error}"
    );
}
