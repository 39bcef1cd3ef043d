//! Archives with Hugging Face's tokenizer.json.

use super::*;

/// A tokenizer of BERT's kind with nine tokens.
fn tokenizer(change: impl FnOnce(&mut Json)) -> Vec<u8> {
    let special = |token: &str, id: u32| json!({"id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true});
    let mut tokenizer = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [special("[PAD]", 5), special("[UNK]", 1), special("[CLS]", 2), special("[SEP]", 3)],
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "[SEP]", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [2], "tokens": ["[CLS]"]}, "[SEP]": {"id": "[SEP]", "ids": [3], "tokens": ["[SEP]"]}}
        },
        "decoder": null,
        "model": {
            "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
            "vocab": {"[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[PAD]": 5, "hello": 6, "world": 7, "play": 8, "##ing": 9, "!": 10}
        }
    });
    change(&mut tokenizer);
    tokenizer.to_string().into_bytes()
}

/// Gives back what the model is called with, as text in an error of the server's.
fn shown(inputs: &[Value]) -> Result<Value> {
    let rows = inputs.iter().map(|input| input.as_tensor()?.to_json()).collect::<Result<Vec<_>>>()?;
    Err(Error::new(Json::from(rows).to_string()))
}

/// What the model is called with for these texts.
fn inputs(tokenizer: &[u8], settings: &Json, texts: &[&str]) -> Json {
    let folder = archive(&[("tokenizer.json", tokenizer)]);
    let model = |inputs: &[Value]| {
        // The first call is the self-test's.
        let rows = inputs[0].as_tensor()?.shape()[0];
        if rows == 1 { Ok(Tensor::from_slice(&[1, 2], &[0.0_f32; 2])?.into()) } else { shown(inputs) }
    };
    let host = Host::new().model_dir(folder.path()).config(json!({"handler": settings})).model(model);
    let requests: Vec<Request> = texts.iter().map(Request::body).collect();
    let answers = host.start::<TextClassifier>().unwrap().handle(&requests);
    let error = answers.into_iter().next().unwrap().unwrap_err();
    let text = error.log_text();
    serde_json::from_str(&text[text.find('[').unwrap()..]).unwrap()
}

#[test]
fn a_batch_is_padded_to_its_longest_text() {
    let texts = ["Hello playing world!", "hello"];
    let ids = json!([[2, 6, 8, 9, 7, 10, 3], [2, 6, 3, 5, 5, 5, 5]]);
    let mask = json!([[1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0, 0]]);
    let plain = tokenizer(|_| ());
    assert_eq!(inputs(&plain, &json!({}), &texts), json!([ids, mask]));
    let all = json!({"inputs": ["token_type_ids", "input_ids", "attention_mask"]});
    assert_eq!(inputs(&plain, &all, &texts), json!([[[0, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0]], ids, mask]));
    assert_eq!(
        inputs(&plain, &json!({"inputs": ["input_ids"], "max_length": 4}), &texts),
        json!([[[2, 6, 8, 3], [2, 6, 3, 5]]])
    );
}

#[test]
fn the_tokenizers_own_padding_and_truncation_count() {
    let own = tokenizer(|tokenizer| {
        tokenizer["truncation"] =
            json!({"direction": "Right", "max_length": 5, "strategy": "LongestFirst", "stride": 0});
        tokenizer["padding"] = json!({"strategy": "BatchLongest", "direction": "Left", "pad_to_multiple_of": null, "pad_id": 1, "pad_type_id": 0, "pad_token": "[UNK]"});
    });
    let texts = ["Hello playing world!", "hello"];
    assert_eq!(
        inputs(&own, &json!({}), &texts),
        json!([[[2, 6, 8, 9, 3], [1, 1, 2, 6, 3]], [[1, 1, 1, 1, 1], [0, 0, 1, 1, 1]]])
    );
}

#[test]
fn each_text_gets_its_probabilities() {
    let folder = archive(&[("tokenizer.json", &tokenizer(|_| ()))]);
    // Scores a text by its first word.
    let model = |inputs: &[Value]| {
        let rows = inputs[0].as_tensor()?.unbind()?;
        let scores = rows.iter().map(|row| Ok([row.to_vec::<i64>()?[1] as f32, 0.0]));
        let scores: Vec<f32> = scores.collect::<Result<Vec<_>>>()?.concat();
        let scores = Tensor::from_slice(&[rows.len() as i64, 2], &scores)?;
        Ok(Value::Dict(vec![("logits".to_owned(), scores.into())]))
    };
    let mut handler = Host::new().model_dir(folder.path()).model(model).start::<TextClassifier>().unwrap();
    let answers = handler.handle(&[Request::json("world"), Request::body(" \n"), Request::body("café hello")]);
    assert_first(&answers[0], 7.0);
    assert_first(&answers[2], 1.0);
    let error = answers[1].as_ref().unwrap_err();
    assert_eq!((error.status(), error.client_text()), (400, "field `body` is empty: send a text"));
    let error = handler.explain(Request::body("hello")).unwrap_err();
    assert_eq!(error.status(), 501);
    assert!(error.client_text().contains("source_vocab.pt"), "{error}");
}

#[test]
fn what_is_wrong_with_tokenizer_or_settings_is_said_at_start() {
    for (content, settings, part) in [
        (b"{}".to_vec(), json!({}), "tokenizer.json can't be read as a tokenizer"),
        (
            tokenizer(|_| ()),
            json!({"inputs": ["ids"]}),
            "{inputs: [\"ids\"]}`, which must be a list of names from [input_ids,",
        ),
        (tokenizer(|_| ()), json!({"inputs": []}), "{inputs: []}"),
        (tokenizer(|_| ()), json!({"inputs": "input_ids"}), "{inputs: \"input_ids\"}"),
        (tokenizer(|_| ()), json!({"max_length": 0}), "{max_length: 0}"),
    ] {
        let folder = archive(&[("tokenizer.json", &content)]);
        let error = refusal(Host::new().model_dir(folder.path()).config(json!({"handler": settings})).model(summing));
        assert!(error.log_text().contains(part), "{error} lacks {part}");
    }
}
