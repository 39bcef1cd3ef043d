//! What TorchServe answered, and how near an answer comes to it.

use std::fs;
use std::io::Read;

use flate2::read::GzDecoder;
use safetensors::Dtype;
use safetensors::SafeTensors;
use serde_json::Value;

use super::folder;

/// All that `golden/make` wrote.
pub(super) struct Expected {
    document: Value,
    tensors: Vec<u8>,
}

/// One picture or text and one model, as a failure names them.
pub(super) struct Case(String);

// === impl Expected ===

impl Expected {
    pub(super) fn read() -> Self {
        let document = serde_json::from_slice(&fs::read(folder().join("expected.json")).unwrap()).unwrap();
        let mut tensors = Vec::new();
        let file = fs::File::open(folder().join("expected.safetensors.gz")).unwrap();
        GzDecoder::new(file).read_to_end(&mut tensors).unwrap();
        Self { document, tensors }
    }

    /// The cases of one kind.
    pub(super) fn cases(&self, kind: &str) -> &[Value] {
        let cases = self.document[kind].as_array().unwrap_or_else(|| panic!("no cases of the kind {kind:?}"));
        assert!(!cases.is_empty(), "no cases of the kind {kind:?}");
        cases
    }

    /// A tensor beside the document, by the name that a case has for it: its shape and its numbers.
    pub(super) fn tensor(&self, name: &Value) -> (Vec<usize>, Vec<f64>) {
        let tensors = SafeTensors::deserialize(&self.tensors).unwrap();
        let tensor = tensors.tensor(name.as_str().unwrap()).unwrap();
        let values = match tensor.dtype() {
            Dtype::U8 => tensor.data().iter().copied().map(f64::from).collect(),
            Dtype::F32 => {
                tensor.data().chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap()).into()).collect()
            }
            other => panic!("{name}: {other:?}"),
        };
        (tensor.shape().to_vec(), values)
    }
}

// === impl Case ===

impl Case {
    /// Of a model and what was posted to it.
    pub(super) fn of(case: &Value) -> Self {
        let posted = case.get("picture").or_else(|| case.get("text")).unwrap();
        let target = case.get("target").map(|target| format!(", target {target}")).unwrap_or_default();
        Self(format!("{} on {posted}{target}", case.get("model").and_then(Value::as_str).unwrap_or("preprocessing")))
    }

    /// The same among others.
    pub(super) fn in_batch(case: &Value) -> Self {
        Self(format!("{}, in a batch", Self::of(case).0))
    }

    /// Asserts that a number is as near as is allowed.
    #[track_caller]
    pub(super) fn near(&self, what: &str, got: f64, (expected, allowed): (f64, f64)) {
        let off = (got - expected).abs();
        assert!(
            off <= allowed,
            "{}: {what} is {got}, TorchServe's is {expected}: {off} off, {allowed} is allowed",
            self.0
        );
    }

    /// Asserts that something is the same.
    #[track_caller]
    pub(super) fn same<T: PartialEq + std::fmt::Debug>(&self, what: &str, got: &T, expected: &T) {
        assert_eq!(got, expected, "{}: {what}: left is ours, right is TorchServe's", self.0);
    }

    /// Fails.
    #[track_caller]
    pub(super) fn wrong(&self, why: &str) -> ! {
        panic!("{}: {why}", self.0)
    }
}

/// The numbers of nested lists, in a row.
pub(super) fn flat(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(values) => values.iter().flat_map(flat).collect(),
        number => vec![number.as_f64().unwrap_or_else(|| panic!("{number} is no number"))],
    }
}

/// Of a tensor `[channels, side, side]` in a row, every so many-th row and column.
pub(super) fn sampled(values: &[f64], side: usize, stride: usize) -> Vec<f64> {
    let picked = (0..values.len()).filter(|place| {
        let (row, column) = (place / side % side, place % side);
        row % stride == 0 && column % stride == 0
    });
    picked.map(|place| values[place]).collect()
}

pub(super) fn index(value: &Value) -> usize {
    usize::try_from(value.as_u64().unwrap()).unwrap()
}

/// The largest, whatever its sign.
pub(super) fn largest(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |largest, value| value.abs().max(largest))
}
