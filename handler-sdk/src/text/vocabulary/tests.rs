//! Vocabularies as Python saved them; vocabularies.py beside the files wrote them.

use std::path::PathBuf;

use super::*;

fn load(name: &str) -> Result<Vocabulary> {
    Vocabulary::load(&PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/text/testdata").join(name))
}

#[test]
fn all_forms_of_vocabularies_are_read() {
    for (name, count, unknown) in [
        ("dict", 4, Some(0)),
        ("dict_without_unknown", 3, None),
        ("dict_protocol4", 4, Some(0)),
        ("dict_legacy", 4, Some(0)),
        ("dict_legacy_protocol4", 4, Some(0)),
        ("dict_named_21_letters", 4, Some(0)),
        ("ordered_dict", 4, Some(0)),
        ("counter", 4, Some(0)),
        ("dict_subclass", 4, Some(0)),
        ("default_dict_int", 3, Some(0)),
        ("default_dict_none", 3, None),
        ("default_dict_partial", 3, Some(3)),
        ("default_dict_torchtext", 3, Some(0)),
        ("default_dict_function_unknown", 4, Some(0)),
        ("torchtext", 4, Some(2)),
        ("torchtext_without_default", 4, Some(0)),
        ("torchtext_inner", 4, Some(2)),
        ("torchtext_old", 4, Some(0)),
        ("word2idx", 4, Some(0)),
        ("itos", 4, Some(0)),
        ("list", 4, Some(0)),
    ] {
        let vocabulary = load(&format!("{name}.pt")).unwrap();
        let found = ["hello", "world", "hello world"].map(|token| vocabulary.index(token));
        assert_eq!(found, [Some(1), Some(2), Some(3)], "{name}");
        assert_eq!((vocabulary.len(), vocabulary.index("rust")), (count, unknown), "{name}");
    }
}

#[test]
fn what_is_no_vocabulary_is_named() {
    for (name, part) in [
        ("tensor", "it is a torch._utils._rebuild_tensor_v2"),
        ("stranger", "it is a some.code.Stranger"),
        ("reversed", "its keys are no texts"),
        ("floats", "its token \"hello\" has a float for an index"),
        ("negative", "its token \"hello\" has the index -1"),
        ("empty", "it is empty"),
        ("numbers", "it is a list whose item 0 is an int"),
        ("default_dict_function", "whose default comes from some.code.forty_two"),
    ] {
        let error = load(&format!("{name}.pt")).unwrap_err();
        let text = error.log_text();
        assert!(text.contains(part), "{text} lacks {part}");
        assert!(text.starts_with(&format!("{name}.pt holds no vocabulary: ")), "{text}");
        assert!(text.contains("Save one with torch.save"), "{text}");
    }
    let error = load("gone.pt").unwrap_err();
    assert!(error.log_text().contains("gone.pt holds no vocabulary: it can't be read: No such file"), "{error}");
}

#[test]
fn an_index_for_unknown_tokens_can_be_set() {
    let vocabulary = load("dict_without_unknown.pt").unwrap().with_unknown(7);
    assert_eq!((vocabulary.index("rust"), vocabulary.index("hello")), (Some(7), Some(1)));
}

#[test]
fn workers_share_what_they_read_from_one_file() {
    let (one, other) = (load("word2idx.pt").unwrap(), load("word2idx.pt").unwrap().with_unknown(7));
    assert!(Arc::ptr_eq(&one.indices, &other.indices));
    assert_eq!((one.index("rust"), other.index("rust")), (Some(0), Some(7)));

    let file = std::env::temp_dir().join(format!("handler-sdk-vocabulary-{}.pt", std::process::id()));
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/text/testdata");
    fs::copy(folder.join("word2idx.pt"), &file).unwrap();
    let before = Vocabulary::load(&file).unwrap();
    fs::copy(folder.join("dict_without_unknown.pt"), &file).unwrap();
    let after = Vocabulary::load(&file).unwrap();
    fs::remove_file(&file).unwrap();
    assert_eq!((before.index("rust"), after.index("rust")), (Some(0), None));
}
