//! The same answers and explanations as TorchServe and Captum gave; golden.py beside the file wrote it.

use std::rc::Rc;

use super::*;

/// An `EmbeddingBag`, tanh, and a linear layer.
struct Net {
    embedding: Vec<Vec<f32>>,
    weight: Vec<Vec<f32>>,
    bias: Vec<f32>,
}

impl Net {
    fn new(weights: &Json) -> Self {
        let read = |name: &str| weights[name].clone();
        Self {
            embedding: serde_json::from_value(read("embedding.weight")).unwrap(),
            weight: serde_json::from_value(read("fc.weight")).unwrap(),
            bias: serde_json::from_value(read("fc.bias")).unwrap(),
        }
    }

    fn embed(&self, inputs: &[Value]) -> Result<Vec<Vec<f32>>> {
        let mean = |bag: &Vec<i64>, column: usize| {
            bag.iter().map(|&token| self.embedding[token as usize][column]).sum::<f32>() / bag.len() as f32
        };
        let width = self.embedding[0].len();
        Ok(bags(inputs)?.iter().map(|bag| (0..width).map(|column| mean(bag, column)).collect()).collect())
    }

    fn forward(&self, inputs: &[Value]) -> Result<Value> {
        let embedded = self.embed(inputs)?;
        let score = |row: &[f32], class: usize| {
            row.iter().zip(&self.weight[class]).map(|(x, weight)| x.tanh() * weight).sum::<f32>() + self.bias[class]
        };
        let scores: Vec<f32> =
            embedded.iter().flat_map(|row| (0..self.bias.len()).map(|class| score(row, class))).collect();
        Ok(Tensor::from_slice(&[embedded.len() as i64, self.bias.len() as i64], &scores)?.into())
    }

    fn gradients(&self, value: &Value, target: usize) -> Result<Tensor> {
        let value = value.as_tensor()?;
        let slope = |(x, weight): (f32, &f32)| weight * (1.0 - x.tanh().powi(2));
        let slopes: Vec<f32> = value.to_vec::<f32>()?.into_iter().zip(&self.weight[target]).map(slope).collect();
        Tensor::from_slice(&value.shape(), &slopes)
    }
}

fn golden() -> (TempDir, Host, Vec<Json>) {
    let golden: Json = serde_json::from_str(include_str!("../testdata/golden.json")).unwrap();
    let labels = golden["labels"].to_string();
    let folder = archive(&[("source_vocab.pt", VOCABULARY), ("index_to_name.json", labels.as_bytes())]);
    let net = Rc::new(Net::new(&golden["weights"]));
    let (forward, layer, gradients) = (Rc::clone(&net), Rc::clone(&net), net);
    let host = Host::new()
        .model_dir(folder.path())
        .model(move |inputs| forward.forward(inputs))
        .layer(move |path, inputs| {
            if path != "embedding" {
                return Err(Error::new(format!("the model has no layer {path:?}")));
            }
            let rows = layer.embed(inputs)?;
            Ok(Tensor::from_slice(&[rows.len() as i64, rows[0].len() as i64], &rows.concat())?.into())
        })
        .gradients(move |_, inputs, target| gradients.gradients(&inputs[0], target));
    (folder, host, golden["rows"].as_array().unwrap().clone())
}

fn numbers(value: &Json) -> Vec<f64> {
    match value {
        Json::Array(items) => items.iter().flat_map(numbers).collect(),
        Json::Object(entries) => entries.values().flat_map(numbers).collect(),
        number => vec![number.as_f64().unwrap()],
    }
}

fn assert_close(found: &Json, wanted: &Json, tolerance: f64) {
    let (found, wanted) = (numbers(found), numbers(wanted));
    assert_eq!(found.len(), wanted.len());
    for (found, wanted) in found.iter().zip(&wanted) {
        assert!((found - wanted).abs() < tolerance, "{found} for {wanted}");
    }
}

#[test]
fn a_batch_has_torchserves_probabilities() {
    let (_folder, host, rows) = golden();
    let mut handler = host.start::<TextClassifier>().unwrap();
    let requests: Vec<Request> = rows.iter().map(|row| Request::body(row["text"].as_str().unwrap())).collect();
    let answers = handler.handle(&requests);
    assert_eq!(answers.len(), 7);
    for (answer, row) in answers.into_iter().zip(&rows) {
        let answer: Json = serde_json::from_slice(&answer.unwrap().body).unwrap();
        let labels = |answer: &Json| answer.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(labels(&answer), labels(&row["answer"]));
        assert_close(&answer, &row["answer"], 1e-6);
    }
}

#[test]
fn explanations_are_captums() {
    let (_folder, host, rows) = golden();
    let mut handler = host.start::<TextClassifier>().unwrap();
    for row in &rows {
        let request = Request::body(row["text"].as_str().unwrap()).field("target", row["target"].to_string());
        let answer: Json = serde_json::from_slice(&handler.explain(request).unwrap().body).unwrap();
        assert_eq!(answer.as_object().unwrap().keys().collect::<Vec<_>>(), ["importances", "words"]);
        // TorchServe fails on a text of one word.
        if row["explanation"].is_null() {
            assert_eq!((numbers(&answer["importances"]).len(), &answer["words"]), (6, &json!(["one"])));
            continue;
        }
        assert_eq!(answer["words"], row["explanation"]["words"]);
        assert_close(&answer["importances"], &row["explanation"]["importances"], 1e-5);
    }
}

#[test]
fn an_explanation_that_cannot_be_says_why() {
    let (_folder, host, _) = golden();
    let mut handler = host.start::<TextClassifier>().unwrap();
    let ask = |target: &str| Request::body("the cup final").field("target", target);
    for (request, part) in [
        (ask("one"), "field `target` begins with \"one\""),
        (ask("-1"), "field `target` begins with \"-1\""),
        (ask("4"), "the model has 4 classes"),
        (Request::body(""), "holds no words"),
    ] {
        let error = handler.explain(request).unwrap_err();
        assert_eq!(error.status(), 400, "{error}");
        assert!(error.client_text().contains(part), "{error} lacks {part}");
    }
    // Empty is not asked, as in TorchServe.
    assert_eq!(handler.explain(ask("")).unwrap().body, handler.explain(ask("0")).unwrap().body);

    let (_folder, host, _) = golden();
    let host = host.config(json!({"handler": {"embedding": "encoder.words"}}));
    let error = host.start::<TextClassifier>().unwrap().explain(ask("0")).unwrap_err();
    assert!(error.log_text().contains("no layer \"encoder.words\""), "{error}");

    let (_folder, host, _) = golden();
    let host = host.layer(|_, _| Ok(Tensor::from_slice(&[1, 2, 3], &[0.0_f32; 6])?.into()));
    let host = host.gradients(|_, inputs, _| inputs[0].as_tensor().cloned());
    let error = host.start::<TextClassifier>().unwrap().explain(ask("0")).unwrap_err();
    assert!(error.log_text().contains("shape [1, 2, 3]"), "{error}");
}
