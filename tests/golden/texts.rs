//! Texts: the probability of each class, with each kind of vocabulary, alone and in batches.

use std::thread;

use serde_json::Value;

use crate::support::Answer;

use super::Case;
use super::Expected;
use super::folder;
use super::packed;
use super::server;

/// How far a probability may be off.
const PROBABILITY: f64 = 1e-4;

#[test]
fn the_probabilities_of_texts_are_torchserve_s_also_in_a_batch() {
    let expected = Expected::read();
    let vocabulary = folder().join("models/text_dict/source_vocab.pt");
    let labels = folder().join("models/text_dict/index_to_name.json");
    let files = format!("{},{}", vocabulary.display(), labels.display());
    let archives = [
        packed("text_ordered", "text", "text_classifier"),
        packed("text_counter", "text", "text_classifier"),
        packed("text_batched", "text", "text_classifier")
            .flags(&["--extra-files", &files])
            .config("batchSize: 4\nmaxBatchDelay: 3600000\n"),
    ];
    let server = server("text-classifier", &["text_dict"], &archives);
    let cases = expected.cases("text");
    for case in cases {
        let answer = server.predict(case["model"].as_str().unwrap(), case["text"].as_str().unwrap());
        probabilities(&Case::of(case), &answer, &case["answer"]);
    }
    let plain: Vec<&Value> = cases.iter().filter(|case| case["model"] == "text_dict").collect();
    for four in plain.chunks_exact(4) {
        let answers: Vec<Answer> = thread::scope(|scope| {
            let post = |case: &&Value| {
                let text = case["text"].as_str().unwrap().to_owned();
                let server = &server;
                scope.spawn(move || server.predict("text_batched", text))
            };
            let sent: Vec<_> = four.iter().map(post).collect();
            sent.into_iter().map(|sent| sent.join().unwrap()).collect()
        });
        for (case, answer) in four.iter().zip(answers) {
            probabilities(&Case::in_batch(case), &answer, &case["answer"]);
        }
    }
}

/// Compares labels, in their order, and probabilities.
fn probabilities(case: &Case, answer: &Answer, expected: &Value) {
    if answer.status != 200 {
        case.wrong(&answer.text());
    }
    let json = answer.json();
    let ours = json.as_object().unwrap();
    let theirs = expected.as_array().unwrap();
    let labels: Vec<&str> = ours.keys().map(String::as_str).collect();
    case.same("the labels", &labels, &theirs.iter().map(|pair| pair[0].as_str().unwrap()).collect());
    for ((label, got), pair) in ours.iter().zip(theirs) {
        let wanted = (pair[1].as_f64().unwrap(), PROBABILITY);
        case.near(&format!("the probability of {label}"), got.as_f64().unwrap(), wanted);
    }
}
