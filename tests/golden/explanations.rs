//! Attributions beside Captum's.

use serde_json::Value;

use crate::support::Answer;
use crate::support::Server;
use crate::support::multipart;

use super::Case;
use super::Expected;
use super::expected::flat;
use super::expected::index;
use super::expected::largest;
use super::expected::sampled;
use super::packed;
use super::picture;
use super::server;

/// How far an attribution may be off, in parts of the largest.
const SHARE: f64 = 1e-2;

/// The side of what ImageNet's transforms make.
const SIDE: usize = 224;

#[test]
fn attributions_to_pixels_are_captum_s() {
    let expected = Expected::read();
    let archives = [packed("classifier_traced", "classifier_traced", "image_classifier")];
    let server = server("image-classifier", &["classifier"], &archives);
    for case in expected.cases("explain") {
        let named = Case::of(case);
        let content = picture(case["picture"].as_str().unwrap());
        let ours = flat(&explained(&server, case, &content).json());
        named.same("the number of values", &ours.len(), &(3 * SIDE * SIDE));
        let scale = case["largest"].as_f64().unwrap();
        let (_, theirs) = expected.tensor(&case["attributions"]);
        for (place, (got, wanted)) in sampled(&ours, SIDE, index(&case["stride"])).into_iter().zip(theirs).enumerate() {
            named.near(&format!("attribution {place} of those compared"), got, (wanted, SHARE * scale));
        }
        // Of all pixels, also of those between; it is what the score gains from a black picture.
        let wanted = case["sum"].as_f64().unwrap();
        named.near("the sum", ours.iter().sum(), (wanted, SHARE * wanted.abs().max(1.0)));
        named.near("the largest", largest(&ours), (scale, SHARE * scale));
    }
}

#[test]
fn attributions_to_the_embedding_are_captum_s() {
    let expected = Expected::read();
    let server = server("text-classifier", &["text_dict"], &[]);
    for case in expected.cases("explain_text") {
        let named = Case::of(case);
        let ours = explained(&server, case, case["text"].as_str().unwrap().as_bytes()).json();
        named.same("the words", &ours["words"], &case["answer"]["words"]);
        let theirs = flat(&case["answer"]["importances"]);
        let got = flat(&ours["importances"]);
        named.same("the number of importances", &got.len(), &theirs.len());
        let scale = largest(&theirs);
        for (place, (got, wanted)) in got.into_iter().zip(theirs).enumerate() {
            named.near(&format!("importance {place}"), got, (wanted, SHARE * scale));
        }
    }
}

/// Asks as a form where there is a target, and as the bare body where it is the default.
fn explained(server: &Server, case: &Value, content: &[u8]) -> Answer {
    let target = case["target"].to_string();
    let request = match target.as_str() {
        "0" => crate::support::Sent::body(content),
        target => multipart(&[("data", "", content), ("target", "", target.as_bytes())]),
    };
    let answer = server.inference(&format!("/explanations/{}", case["model"].as_str().unwrap()), &request);
    if answer.status != 200 {
        Case::of(case).wrong(&answer.text());
    }
    answer
}
