//! Against what TorchServe's own handler made of the same texts.

use super::*;

/// Texts with their words, and some with their n-grams; golden.py beside it wrote the file.
const GOLDEN: &str = include_str!("testdata/golden.json");

#[test]
fn words_and_ngrams_are_those_of_torchserve() {
    let rows: Vec<Vec<serde_json::Value>> = serde_json::from_str(GOLDEN).unwrap();
    assert!(rows.len() > 400, "only {} texts were read", rows.len());
    let mut compared = 0;
    for row in rows {
        let words = encoder::words(row[0].as_str().unwrap());
        assert_eq!(serde_json::to_value(&words).unwrap(), row[1], "{}", row[0]);
        if let Some(wanted) = row.get(2) {
            assert_eq!(serde_json::to_value(ngrams(&words, 2)).unwrap(), *wanted, "{}", row[0]);
            compared += 1;
        }
    }
    assert!(compared > 40, "only {compared} texts have n-grams");
}

#[test]
fn markup_without_an_end_is_read_in_one_pass() {
    for letter in ["<", "&", "&#", "'", "i'"] {
        let long = letter.repeat(1 << 16);
        let words = encoder::words(&long);
        assert!(words.len() <= 1, "{letter}");
    }
}

#[test]
fn ngrams_of_few_words_are_few() {
    let none: [&str; 0] = [];
    assert!(ngrams(&none, 2).is_empty());
    assert_eq!(ngrams(&["one"], 3), ["one"]);
    assert_eq!(ngrams(&["a", "b", "c"], 3), ["a", "b", "c", "a b", "b c", "a b c"]);
    assert_eq!(ngrams(&["a", "b"], 0), ["a", "b"]);
}
