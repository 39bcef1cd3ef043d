//! The tensors that an archive declares: what its model takes and gives, by name.

use handler_sdk::DType;
use serde_json::Map;
use serde_json::Value;

/// `inputs` and `outputs` of a `model-config.yaml`; `None` where it says nothing useful.
///
/// ```yaml
/// inputs:
///   - {name: picture, datatype: FP32, shape: [-1, 1, 28, 28]}
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Declared {
    pub inputs: Option<Vec<TensorSpec>>,
    pub outputs: Option<Vec<TensorSpec>>,
}

/// One tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    pub name: String,
    pub datatype: DType,
    /// A dimension of any length is -1.
    pub shape: Vec<i64>,
}

/// The datatypes of the Open Inference Protocol that a tensor can hold.
const DATATYPES: [(&str, DType); 10] = [
    ("BOOL", DType::Bool),
    ("UINT8", DType::U8),
    ("INT8", DType::I8),
    ("INT16", DType::I16),
    ("INT32", DType::I32),
    ("INT64", DType::I64),
    ("FP16", DType::F16),
    ("BF16", DType::BF16),
    ("FP32", DType::F32),
    ("FP64", DType::F64),
];

/// The protocol's other ones.
const NOT_IN_TENSORS: [&str; 4] = ["BYTES", "UINT16", "UINT32", "UINT64"];

/// The protocol's name for a tensor's elements.
pub fn datatype_name(datatype: DType) -> &'static str {
    DATATYPES.iter().find(|row| row.1 == datatype).map_or("", |row| row.0)
}

/// What the protocol's name says; the error is a sentence about it.
pub fn datatype(name: &str) -> Result<DType, String> {
    if let Some(row) = DATATYPES.iter().find(|row| row.0 == name) {
        return Ok(row.1);
    }
    let known = DATATYPES.map(|row| row.0).join(", ");
    Err(if NOT_IN_TENSORS.contains(&name) {
        format!("a tensor of a PyTorch model can't hold {name}: use one of {known}")
    } else {
        format!("{name:?} is no datatype of the protocol: use one of {known}")
    })
}

// === impl Declared ===

impl Declared {
    /// Reads both lists; what can't be understood is told and left out.
    pub(super) fn read(keys: &Map<String, Value>, warnings: &mut Vec<String>) -> Self {
        let mut list = |key: &str| {
            let value = keys.get(key).filter(|value| !value.is_null())?;
            specs(value).map_err(|reason| warnings.push(format!("{key} is ignored: {reason}"))).ok()
        };
        Self { inputs: list("inputs"), outputs: list("outputs") }
    }
}

fn specs(value: &Value) -> Result<Vec<TensorSpec>, String> {
    const FORM: &str = "it must be a list of tensors, each as {name: x, datatype: FP32, shape: [-1, 3]}";
    let mut specs: Vec<TensorSpec> = Vec::new();
    for item in value.as_array().ok_or(FORM)? {
        let name = item["name"].as_str().ok_or(FORM)?.to_owned();
        if specs.iter().any(|spec| spec.name == name) {
            return Err(format!("it has {name:?} twice"));
        }
        let datatype =
            datatype(item["datatype"].as_str().ok_or(FORM)?).map_err(|error| format!("{name:?}: {error}"))?;
        let shape = item["shape"].as_array().ok_or(FORM)?;
        let shape = shape
            .iter()
            .map(|length| length.as_i64().filter(|length| *length >= -1))
            .collect::<Option<_>>()
            .ok_or_else(|| format!("the shape of {name:?} must be whole numbers from 0 on, or -1 for any length"))?;
        specs.push(TensorSpec { name, datatype, shape });
    }
    Ok(specs)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: &Value) -> (Declared, Vec<String>) {
        let mut warnings = Vec::new();
        let declared = Declared::read(value.as_object().unwrap(), &mut warnings);
        (declared, warnings)
    }

    #[test]
    fn tensors_are_declared_by_name_datatype_and_shape() {
        let (declared, warnings) = read(&json!({
            "inputs": [
                {"name": "x", "datatype": "FP32", "shape": [-1, 3]},
                {"name": "mask", "datatype": "BOOL", "shape": []},
            ],
            "outputs": null,
        }));
        assert_eq!(warnings, Vec::<String>::new());
        let inputs = declared.inputs.unwrap();
        assert_eq!(inputs[0], TensorSpec { name: "x".to_owned(), datatype: DType::F32, shape: vec![-1, 3] });
        assert_eq!((inputs[1].datatype, inputs[1].shape.as_slice()), (DType::Bool, &[][..]));
        assert_eq!(declared.outputs, None);
        assert_eq!(read(&json!({"handler": {}})), (Declared::default(), Vec::new()));
    }

    #[test]
    fn what_can_t_be_understood_is_told_and_left_out() {
        let tensor = |datatype: &str, shape: Value| json!([{"name": "x", "datatype": datatype, "shape": shape}]);
        for (inputs, said) in [
            (json!("x"), "must be a list of tensors"),
            (json!([{"name": "x"}]), "datatype: FP32"),
            (tensor("float32", json!([1])), "\"float32\" is no datatype of the protocol"),
            (tensor("BYTES", json!([1])), "can't hold BYTES"),
            (tensor("UINT64", json!([1])), "can't hold UINT64"),
            (tensor("FP32", json!([-2])), "-1 for any length"),
            (tensor("FP32", json!(["n"])), "-1 for any length"),
            (
                json!([{"name": "x", "datatype": "FP32", "shape": []}, {"name": "x", "datatype": "FP32", "shape": []}]),
                "\"x\" twice",
            ),
        ] {
            let (declared, warnings) = read(&json!({"inputs": inputs}));
            assert_eq!(declared.inputs, None, "{inputs}");
            assert!(warnings.len() == 1 && warnings[0].starts_with("inputs is ignored: "), "{warnings:?}");
            assert!(warnings[0].contains(said), "{warnings:?} should say {said:?}");
        }
    }

    #[test]
    fn every_datatype_has_one_name() {
        for (name, kind) in DATATYPES {
            assert_eq!(datatype(name), Ok(kind));
            assert_eq!(datatype_name(kind), name);
        }
    }
}
