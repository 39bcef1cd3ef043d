//! Pictures: what preprocessing makes of them, their classes, segments and boxes.

use std::thread;

use serde_json::Value;

use crate::support::Answer;
use crate::support::Server;

use super::Case;
use super::Expected;
use super::expected::flat;
use super::expected::index;
use super::expected::sampled;
use super::packed;
use super::picture;
use super::server;

/// The side of what ImageNet's transforms make.
const SIDE: usize = 224;

const MEAN: [f64; 3] = [0.485, 0.456, 0.406];
const DEVIATION: [f64; 3] = [0.229, 0.224, 0.225];

/// How far the levels 0 to 255 of a picture may be off: anywhere, and on average.
const LEVELS: (f64, f64) = (0.02, 0.001);

/// How far answers may be off.
struct Allowed {
    /// Of a probability, in parts of itself.
    probability: f64,
    /// Of one pixel's probability, in parts of itself.
    of_pixel: f64,
    /// Of the side of a box, in pixels.
    side: f64,
    /// Of a box's score.
    score: f64,
    /// So many of the pixels may have another class.
    segmented: f64,
}

const ALLOWED: Allowed = Allowed { probability: 1e-3, of_pixel: 1e-3, side: 0.5, score: 1e-3, segmented: 1e-3 };

#[test]
fn what_a_picture_becomes_before_the_model_is_what_torchvision_makes() {
    let expected = Expected::read();
    // Its explanation is its input.
    let server = server("image-classifier", &["classifier"], &[packed("mirror", "mirror", "image_classifier")]);
    for case in expected.cases("preprocess") {
        let named = Case::of(case);
        let name = case["picture"].as_str().unwrap();
        let answer = explained(&server, "mirror", name);
        let tensor = flat(&answer.json());
        named.same("the number of values", &tensor.len(), &(3 * SIDE * SIDE));
        let (_, levels) = expected.tensor(&case["levels"]);
        let stride = index(&case["stride"]);
        let ours: Vec<f64> = sampled(&tensor, SIDE, stride);
        named.same("the number of levels", &ours.len(), &levels.len());
        let (anywhere, average) = LEVELS;
        let mut sum = 0.0;
        for (place, (value, level)) in ours.iter().zip(&levels).enumerate() {
            let channel = place / (levels.len() / 3);
            let got = (value * DEVIATION[channel] + MEAN[channel]) * 255.0;
            // What float32 can't tell apart comes on top.
            named.near(&format!("level {place} of those compared"), got, (*level, anywhere + 1e-3));
            sum += (got - level).abs();
        }
        named.near("the mean difference", sum / levels.len() as f64, (0.0, average));
        // Of all pixels, also of those between.
        let count = tensor.len() as f64;
        let theirs = case["sum"].as_f64().unwrap() / count;
        named.near("the mean of all", tensor.iter().sum::<f64>() / count, (theirs, average / 255.0));
    }
}

#[test]
fn the_five_likeliest_classes_are_torchserve_s() {
    let expected = Expected::read();
    // Full batches only: four requests are one call.
    let full = "batchSize: 4\nmaxBatchDelay: 3600000\n";
    let archives = [
        packed("classifier_traced", "classifier_traced", "image_classifier"),
        packed("classifier_batched", "classifier", "image_classifier")
            .flags(&["--extra-files", super::folder().join("models/classifier/index_to_name.json").to_str().unwrap()])
            .config(full),
    ];
    let server = server("image-classifier", &["classifier"], &archives);
    let cases = expected.cases("classify");
    for case in cases.iter().filter(|case| case["model"] != "classifier_tempered") {
        let answer = server.predict(case["model"].as_str().unwrap(), picture(case["picture"].as_str().unwrap()));
        classes(&Case::of(case), &answer, case);
    }
    let scripted: Vec<&Value> = cases.iter().filter(|case| case["model"] == "classifier").collect();
    for four in scripted.chunks_exact(4) {
        for (case, answer) in four.iter().zip(together(&server, "classifier_batched", four)) {
            classes(&Case::in_batch(case), &answer, case);
        }
    }
}

#[test]
fn segments_are_torchserve_s() {
    let expected = Expected::read();
    let server = server("image-segmenter", &["segmenter"], &[]);
    for case in expected.cases("segment") {
        let named = Case::of(case);
        let answer = server.predict("segmenter", picture(case["picture"].as_str().unwrap()));
        assert_eq!(answer.status, 200, "{}", answer.text());
        let pairs = flat(&answer.json());
        named.same("the number of values", &pairs.len(), &(2 * SIDE * SIDE));
        let (ours, probabilities): (Vec<f64>, Vec<f64>) = pairs.chunks_exact(2).map(|pair| (pair[0], pair[1])).unzip();
        let (shape, classes) = expected.tensor(&case["classes"]);
        named.same("the shape", &shape, &vec![SIDE, SIDE]);
        let other = ours.iter().zip(&classes).filter(|(a, b)| a != b).count();
        named.near(
            "the part of pixels with another class",
            other as f64 / classes.len() as f64,
            (0.0, ALLOWED.segmented),
        );
        let stride = index(&case["stride"]);
        let (_, theirs) = expected.tensor(&case["probabilities"]);
        for (place, (got, wanted)) in sampled(&probabilities, SIDE, stride).into_iter().zip(theirs).enumerate() {
            let allowed = ALLOWED.of_pixel * wanted;
            named.near(&format!("probability {place} of those compared"), got, (wanted, allowed));
        }
    }
}

#[test]
fn boxes_are_torchserve_s_also_of_pictures_of_mixed_sizes_in_a_batch() {
    let expected = Expected::read();
    let full = "batchSize: 4\nmaxBatchDelay: 3600000\n";
    let labels = super::folder().join("models/detector_of_list/index_to_name.json");
    let archives = [
        packed("detector_of_list", "detector_of_list", "object_detector"),
        packed("detector_batched", "detector_of_list", "object_detector")
            .flags(&["--extra-files", labels.to_str().unwrap()])
            .config(full),
    ];
    let server = server("object-detector", &["detector", "detector_nms"], &archives);
    let cases = |model: &'static str| expected.cases("detect").iter().filter(move |case| case["model"] == model);
    // The last one calls an operator that libtorch doesn't have, and its archive names no library of it.
    for case in cases("detector").chain(cases("detector_of_list")).chain(cases("detector_nms")) {
        let answer = server.predict(case["model"].as_str().unwrap(), picture(case["picture"].as_str().unwrap()));
        boxes(&Case::of(case), &answer, case);
    }
    let listed: Vec<&Value> = cases("detector_of_list").collect();
    for four in listed.chunks_exact(4) {
        for (case, answer) in four.iter().zip(together(&server, "detector_batched", four)) {
            boxes(&Case::in_batch(case), &answer, case);
        }
    }
}

/// Posts the pictures of these cases at the same time.
fn together(server: &Server, model: &str, cases: &[&Value]) -> Vec<Answer> {
    thread::scope(|scope| {
        let sent: Vec<_> = cases
            .iter()
            .map(|case| scope.spawn(|| server.predict(model, picture(case["picture"].as_str().unwrap()))))
            .collect();
        sent.into_iter().map(|sent| sent.join().unwrap()).collect()
    })
}

fn explained(server: &Server, model: &str, name: &str) -> Answer {
    let answer = server.inference(&format!("/explanations/{model}"), &crate::support::Sent::body(picture(name)));
    assert_eq!(answer.status, 200, "{model} on {name}: {}", answer.text());
    answer
}

/// Compares labels, in their order, and probabilities.
pub(super) fn classes(case: &Case, answer: &Answer, expected: &Value) {
    if answer.status != 200 {
        case.wrong(&answer.text());
    }
    let json = answer.json();
    let ours: Vec<(&String, f64)> =
        json.as_object().unwrap().iter().map(|(label, value)| (label, value.as_f64().unwrap())).collect();
    let labels: Vec<&str> = ours.iter().map(|(label, _)| label.as_str()).collect();
    let theirs = expected["answer"].as_array().unwrap();
    case.same("the labels", &labels, &theirs.iter().map(|pair| pair[0].as_str().unwrap()).collect());
    for ((label, got), pair) in ours.iter().zip(theirs) {
        let wanted = pair[1].as_f64().unwrap();
        case.near(&format!("the probability of {label}"), *got, (wanted, ALLOWED.probability * wanted));
    }
}

/// Compares boxes, each with its likest; what scores alike may change places.
fn boxes(case: &Case, answer: &Answer, expected: &Value) {
    if answer.status != 200 {
        case.wrong(&answer.text());
    }
    let json = answer.json();
    let mut ours: Vec<&Value> = json.as_array().unwrap().iter().collect();
    let theirs = expected["answer"].as_array().unwrap();
    case.same("the number of boxes", &ours.len(), &theirs.len());
    for (place, wanted) in theirs.iter().enumerate() {
        let (label, sides) = wanted.as_object().unwrap().iter().next().unwrap();
        let off = |found: &Value| match found.get(label) {
            Some(found) => flat(found).iter().zip(flat(sides)).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max),
            None => f64::INFINITY,
        };
        let nearest = (0..ours.len()).min_by(|&a, &b| off(ours[a]).total_cmp(&off(ours[b]))).unwrap();
        let found = ours.remove(nearest);
        case.near(&format!("box {place}, {label}, at its worst side"), off(found), (0.0, ALLOWED.side));
        let (score, wanted) = (found["score"].as_f64().unwrap(), wanted["score"].as_f64().unwrap());
        case.near(&format!("the score of box {place}"), score, (wanted, ALLOWED.score));
    }
    let scores: Vec<f64> = json.as_array().unwrap().iter().map(|found| found["score"].as_f64().unwrap()).collect();
    if !scores.is_sorted_by(|a, b| a >= b) {
        case.wrong(&format!("the boxes have lost the model's order: {scores:?}"));
    }
}
