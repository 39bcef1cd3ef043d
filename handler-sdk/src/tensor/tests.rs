use serde_json::json;

use super::*;

#[test]
fn every_dtype_has_a_code() {
    for dtype in [
        DType::Bool,
        DType::U8,
        DType::I8,
        DType::I16,
        DType::I32,
        DType::I64,
        DType::F16,
        DType::BF16,
        DType::F32,
        DType::F64,
    ] {
        assert_eq!(DType::from_code(dtype.code()), Some(dtype));
    }
    assert_eq!(DType::from_code(0), None);
    assert_eq!(DType::from_code(99), None);
}

#[test]
fn sizes_must_fit() {
    for (shape, bytes, ok) in [
        (&[2, 2][..], 16, true),
        (&[], 4, true),
        (&[0, 5], 0, true),
        (&[2, 2], 15, false),
        (&[-1, 4], 16, false),
        (&[i64::MAX, i64::MAX], 16, false),
    ] {
        let made = Tensor::from_bytes(DType::F32, shape, vec![0; bytes]);
        assert_eq!(made.is_ok(), ok, "{shape:?} from {bytes} bytes");
    }
}

#[test]
fn json_goes_both_ways() {
    for value in [json!(1.5), json!([1.0, 2.0]), json!([[1.0], [2.5]]), json!([])] {
        assert_eq!(Tensor::from_json(&value).unwrap().to_json().unwrap(), value);
    }
    for (value, part) in [
        (json!([[1], [2, 3]]), "unequal lengths"),
        (json!([1, [2]]), "unequal lengths"),
        (json!(["a"]), "found \"a\""),
        (json!({"a": 1}), "expected numbers"),
        (json!(["é".repeat(1000)]), "é… (2002 bytes)"),
    ] {
        let error = Tensor::from_json(&value).unwrap_err();
        assert_eq!(error.status(), 400);
        assert!(error.client_text().contains(part), "{}", error.client_text());
    }
}

#[test]
fn stack_and_unbind_are_opposites() {
    let rows = [Tensor::from_slice(&[2], &[1_i64, 2]).unwrap(), Tensor::from_slice(&[2], &[3_i64, 4]).unwrap()];
    let stacked = Tensor::stack(&rows).unwrap();
    assert_eq!(stacked.shape(), [2, 2]);
    let back: Vec<Vec<i64>> = stacked.unbind().unwrap().iter().map(|row| row.to_vec().unwrap()).collect();
    assert_eq!(back, [[1, 2], [3, 4]]);
    let longer = Tensor::from_slice(&[3], &[1_i64, 2, 3]).unwrap();
    let error = Tensor::stack(&[rows[0].clone(), longer]).unwrap_err();
    assert!(error.log_text().contains("[2] and [3]"), "{error}");
    assert!(Tensor::stack(&[]).is_err());
    assert!(Tensor::from_slice(&[], &[1.0_f32]).unwrap().unbind().is_err());
}

#[test]
fn argmax_takes_the_first_of_the_largest() {
    for (values, expected) in [
        (vec![1.0_f32, 3.0, 2.0], Some(1)),
        (vec![2.0, 2.0], Some(0)),
        (vec![f32::NEG_INFINITY, -1.0], Some(1)),
        (vec![0.0, f32::NAN], None),
        (vec![], None),
    ] {
        let length = i64::try_from(values.len()).unwrap();
        assert_eq!(Tensor::from_slice(&[length], &values).unwrap().argmax().ok(), expected, "{values:?}");
    }
}

#[test]
fn sixteen_bit_floats_are_read() {
    let half: Vec<u8> = [0x3c00_u16, 0xc000, 0x0001, 0x7c00].iter().flat_map(|bits| bits.to_ne_bytes()).collect();
    let half = Tensor::from_bytes(DType::F16, &[4], half).unwrap().to_f64().unwrap();
    assert_eq!(half, [1.0, -2.0, f64::from(2_f32.powi(-24)), f64::INFINITY]);
    let brain: Vec<u8> = [0x3f80_u16, 0xc000].iter().flat_map(|bits| bits.to_ne_bytes()).collect();
    assert_eq!(Tensor::from_bytes(DType::BF16, &[2], brain).unwrap().to_f64().unwrap(), [1.0, -2.0]);
}

#[cfg(feature = "tch")]
#[test]
fn a_tch_tensor_is_shared_not_copied() {
    let torch = tch::Tensor::from_slice(&[1.0_f32, 2.0]);
    let address = torch.data_ptr();
    let tensor = Tensor::from(torch);
    assert_eq!(tensor.clone().into_tch().unwrap().data_ptr(), address);
    assert_eq!(tensor.to_vec::<f32>().unwrap(), [1.0, 2.0]);
    assert_eq!(tensor.dtype().unwrap(), DType::F32);
}
