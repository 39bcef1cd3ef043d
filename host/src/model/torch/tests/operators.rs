//! The operators that this program brings for torchvision's detectors, against torchvision's own numbers.

use serde_json::Value as Json;

use super::*;

fn case() -> Json {
    serde_json::from_str(include_str!("../testdata/detector.json")).unwrap()
}

fn numbers(value: &Json) -> Vec<f32> {
    value["values"].as_array().unwrap().iter().map(|number| number.as_f64().unwrap() as f32).collect()
}

#[test]
fn nms_and_roi_align_give_torchvisions_numbers() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/model/torch/testdata/detector.pt");
    let model = load(&path, Device::Cpu, ModelOptions::default()).unwrap();
    assert!(has_own_operators());
    let case = case();
    let shape = |name: &str| -> Vec<i64> {
        case[name]["shape"].as_array().unwrap().iter().map(|length| length.as_i64().unwrap()).collect()
    };
    let inputs = ["boxes", "scores", "features"].map(|name| (shape(name), bytes(&numbers(&case[name]))));
    let inputs = inputs.each_ref().map(|(shape, bytes)| input(RawTensor::plain(DType::F32.code(), shape, bytes)));
    let mut found = std::collections::BTreeMap::new();
    model
        .forward("forward", &inputs, RawDoor::PLAIN, &mut |event| {
            let bytes = event.tensor.bytes.as_slice();
            let values: Vec<f32> = match DType::from_code(event.tensor.dtype) {
                Some(DType::I64) => {
                    bytes.chunks_exact(8).map(|one| i64::from_ne_bytes(one.try_into().unwrap()) as f32).collect()
                }
                _ => bytes.chunks_exact(4).map(|one| f32::from_ne_bytes(one.try_into().unwrap())).collect(),
            };
            found.insert(event.name.as_str().to_owned(), (event.tensor.shape.as_slice().to_vec(), values));
        })
        .unwrap();
    assert_eq!(found["kept"], (shape("kept"), numbers(&case["kept"])));
    for name in ["pooled", "aligned"] {
        let (found_shape, values) = &found[name];
        assert_eq!(*found_shape, shape(name), "{name}");
        for (place, (found, wanted)) in values.iter().zip(numbers(&case[name])).enumerate() {
            assert!((found - wanted).abs() < 1e-6, "{name}, place {place}: {found}, not {wanted}");
        }
    }
}
