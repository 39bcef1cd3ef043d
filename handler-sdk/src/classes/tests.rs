//! Files of classes as archives hold them, and numbers as PyTorch gives them.

use std::fs;

use crate::context::ContextInfo;

use super::*;

/// A folder that is gone with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("handler-sdk-{test}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn context(folder: &Path) -> Context {
    Context::new(ContextInfo {
        model_name: "test".to_owned(),
        model_version: "1.0".to_owned(),
        model_dir: folder.to_owned(),
        device: "cpu".to_owned(),
        model_kind: None,
        properties: Default::default(),
        config: Json::Null,
    })
    .unwrap()
}

fn load(folder: &Folder, content: impl AsRef<[u8]>) -> Result<Classes> {
    fs::write(folder.0.join(FILE), content).unwrap();
    Classes::load(&context(&folder.0))
}

#[test]
fn all_forms_of_the_file_are_read() {
    let folder = Folder::new("forms");
    for (content, index, wanted) in [
        (r#"{"0": "cat", "1": "dog"}"#, 1, "dog"),
        (r#"{"0": ["n02123045", "tabby"], "1": ["n02123159", "tiger cat"]}"#, 0, "tabby"),
        (r#"{"0": ["alone"]}"#, 0, "alone"),
        (r#"{"object_type_names": ["__background__", "person", "bicycle"]}"#, 2, "bicycle"),
        (r#"{"7": "sieben, größer"}"#, 7, "sieben, größer"),
    ] {
        assert_eq!(load(&folder, content).unwrap().label(index).unwrap(), wanted, "{content}");
    }
}

#[test]
fn without_the_file_labels_are_the_numbers() {
    let folder = Folder::new("none");
    let classes = Classes::load(&context(&folder.0)).unwrap();
    assert_eq!(classes.label(7).unwrap(), "7");
    assert_eq!((classes.file(), classes.contains("7")), (None, false));
}

#[test]
fn a_file_of_another_form_is_refused_with_what_was_found() {
    let folder = Folder::new("wrong");
    let cases: [(&[u8], &str); 10] = [
        (b"", "is no JSON: EOF"),
        (b"{\"0\": \"cat\"", "is no JSON: EOF"),
        (b"\xff\xfe", "is no JSON"),
        (b"[\"cat\", \"dog\"]", "holds a list of 2"),
        (b"3", "holds the number 3"),
        (b"{\"0\": 3}", "has the number 3 as the label of class \"0\""),
        (b"{\"0\": {\"name\": \"cat\"}}", "has an object as the label of class \"0\""),
        (b"{\"0\": []}", "has an empty list for class \"0\""),
        (b"{\"object_type_names\": [\"cat\", null]}", "has null as the label of class \"1\""),
        (b"{\"object_type_names\": \"cat\"}", "has text under \"object_type_names\""),
    ];
    for (content, found) in cases {
        let error = load(&folder, content).unwrap_err();
        let text = error.log_text();
        let file = folder.0.join(FILE);
        assert!(text.starts_with(&format!("{} {found}", file.display())), "{text} lacks {found}");
        assert!(text.contains("it must be {\"0\": \"cat\", …}"), "{text}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_an_error() {
    let folder = Folder::new("unreadable");
    fs::create_dir(folder.0.join(FILE)).unwrap();
    let error = Classes::load(&context(&folder.0)).unwrap_err();
    assert!(error.log_text().contains("index_to_name.json can't be read"), "{error}");
}

#[test]
fn a_number_without_a_label_is_an_error_that_names_the_file() {
    let folder = Folder::new("missing");
    let classes = load(&folder, r#"{"0": "cat", "1": "dog"}"#).unwrap();
    let error = classes.label(2).unwrap_err();
    assert_eq!((error.status(), error.client_text()), (503, "Prediction failed"));
    for part in ["class 2", FILE, "among its 2", folder.0.to_str().unwrap()] {
        assert!(error.log_text().contains(part), "{error} lacks {part}");
    }
    assert!(classes.contains("dog") && !classes.contains("cow"));
}

#[test]
fn softmax_gives_what_torch_gives() {
    // torch.softmax(torch.tensor([...]), 0)
    for (scores, wanted) in [
        ([1.0, 2.0, 3.0], [0.090_030_57, 0.244_728_48, 0.665_240_94]),
        ([1000.0, 0.0, -1000.0], [1.0, 0.0, 0.0]),
        ([-5000.0, -5000.0, -5001.0], [0.422_318_8, 0.422_318_8, 0.155_362_4]),
        ([f32::NEG_INFINITY, 0.0, 0.0], [0.0, 0.5, 0.5]),
    ] {
        for (found, wanted) in softmax(&scores).into_iter().zip(wanted) {
            assert!((found - wanted).abs() < 1e-6, "{found} for {wanted} in {scores:?}");
        }
    }
}

#[test]
fn the_largest_come_first_and_of_equal_ones_the_first() {
    assert_eq!(top_k(&[0.1, 0.4, 0.2, 0.4], 3), [(1, 0.4), (3, 0.4), (2, 0.2)]);
    assert_eq!(top_k(&[0.5, 1.0], 5), [(1, 1.0), (0, 0.5)]);
    assert_eq!(top_k(&[f32::NAN, -1.0, f32::INFINITY], 2), [(2, f32::INFINITY), (1, -1.0)]);
    assert_eq!(top_k(&[1.0], 0), []);
}

#[test]
fn scores_are_one_number_a_class() {
    let halves = Tensor::from_bytes(crate::DType::F16, &[2], [0x3c00_u16, 0xc000].map(u16::to_ne_bytes).concat());
    assert_eq!(scores(&halves.unwrap()).unwrap(), [1.0, -2.0]);
    let tensor = |shape: &[i64], values: &[f32]| Tensor::from_slice(shape, values).unwrap();
    assert_eq!(scores(&tensor(&[2], &[f32::NEG_INFINITY, 0.0])).unwrap(), [f32::NEG_INFINITY, 0.0]);
    for (tensor, part) in [
        (tensor(&[2, 1], &[0.0; 2]), "shape [2, 1] for one input"),
        (tensor(&[], &[0.0]), "shape [] for one input"),
        (tensor(&[0], &[]), "shape [0] for one input"),
        (tensor(&[3], &[0.0, f32::NAN, 1.0]), "NaN for class 1"),
        (tensor(&[2], &[0.0, f32::INFINITY]), "largest score is inf"),
        (tensor(&[2], &[f32::NEG_INFINITY; 2]), "largest score is -inf"),
    ] {
        let error = scores(&tensor).unwrap_err();
        assert!(error.log_text().contains(part), "{error} lacks {part}");
    }
}

#[test]
fn the_likeliest_stand_under_their_labels_in_descending_order() {
    let folder = Folder::new("likeliest");
    let classes = load(&folder, r#"{"object_type_names": ["crane", "cat", "crane"]}"#).unwrap();
    let text = |k| classes.likeliest(&[0.5, 0.125, 0.375], k).unwrap().to_string();
    assert_eq!(text(1), r#"{"crane":0.5}"#);
    // As a dict of Python: the later one's value, in the earlier one's place.
    assert_eq!(text(3), r#"{"crane":0.375,"cat":0.125}"#);
    assert_eq!(Classes::default().likeliest(&[0.25, 0.75], 5).unwrap().to_string(), r#"{"1":0.75,"0":0.25}"#);
}
