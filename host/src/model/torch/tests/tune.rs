//! Models on trial: real modules in real forms.

use super::*;
use crate::model::Form;
use crate::model::Optimization;
use crate::model::Tuning;

fn model(file: &str, wish: Optimization) -> Arc<dyn Model> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/model/torch/testdata").join(file);
    load(&path, Device::Cpu, ModelOptions { optimization: wish }).unwrap()
}

fn numbers(count: usize) -> Vec<u8> {
    (0..count).flat_map(|place| ((place as f32 * 0.7).sin()).to_ne_bytes()).collect()
}

/// The trial with one input of that shape.
fn tune(model: &dyn Model, shape: &[i64]) -> Arc<Tuning> {
    let values = numbers(usize::try_from(shape.iter().product::<i64>()).unwrap());
    model.tune(&[input(RawTensor::plain(DType::F32.code(), shape, &values))]).unwrap()
}

fn forward(model: &dyn Model, shape: &[i64]) -> Result<Vec<f32>, String> {
    let values = numbers(usize::try_from(shape.iter().product::<i64>()).unwrap());
    let mut given = Vec::new();
    model.forward(
        "forward",
        &[input(RawTensor::plain(DType::F32.code(), shape, &values))],
        RawDoor::PLAIN,
        &mut |event| {
            let floats = event.tensor.bytes.as_slice().chunks_exact(4);
            given.extend(floats.map(|bytes| f32::from_ne_bytes(bytes.try_into().unwrap())));
        },
    )?;
    Ok(given)
}

#[test]
fn every_form_of_a_network_gives_the_same() {
    let expected = forward(&*model("pictures.pt", Optimization::Auto), &[3, 3, 8, 8]).unwrap();
    assert_eq!(expected.len(), 12);
    for form in [Form::AsLoaded, Form::Frozen, Form::Optimized, Form::Fused, Form::ChannelsLast] {
        let model = model("pictures.pt", Optimization::Only(form));
        assert!(model.tuning().is_none());
        let before = model.footprint();
        let tuning = tune(&*model, &[1, 3, 8, 8]);
        assert_eq!(tuning.kept, form, "{tuning:?}");
        assert_eq!(tuning.largest_batch(), 32, "{tuning:?}");
        assert_eq!(model.tuning().unwrap(), tuning);
        model.warm_up(&[1, 2, 4]).unwrap();
        let given = forward(&*model, &[3, 3, 8, 8]).unwrap();
        for (one, other) in expected.iter().zip(&given) {
            assert!((one - other).abs() < 1e-5, "{form:?}: {expected:?} and {given:?}");
        }
        // Explanations and describe see the weights as they were.
        assert_eq!(model.footprint(), before);
        // What the model itself can't take is told in its own words, whatever form it runs in.
        let (kept, plain) = (forward(&*model, &[1, 2, 8, 8]), self::model("pictures.pt", Optimization::Auto));
        assert_eq!(kept, forward(&*plain, &[1, 2, 8, 8]), "{form:?}");
        assert_eq!(model.tuning().unwrap(), tuning);
    }
}

#[test]
fn layers_take_over_what_follows_them() {
    let expected = forward(&*model("layers.pt", Optimization::Auto), &[5, 3, 8, 8]).unwrap();
    let fused = model("layers.pt", Optimization::Only(Form::Fused));
    let tuning = tune(&*fused, &[1, 3, 8, 8]);
    assert_eq!((tuning.kept, tuning.largest_batch()), (Form::Fused, 32), "{tuning:?}");
    let given = forward(&*fused, &[5, 3, 8, 8]).unwrap();
    assert_eq!(given.len(), 15);
    for (one, other) in expected.iter().zip(&given) {
        assert!((one - other).abs() < 1e-5, "{expected:?} and {given:?}");
    }
    // A picture of another size is too large for the linear layer, and the kernels are not asked to read beyond it.
    let (kept, plain) =
        (forward(&*fused, &[1, 3, 16, 8]), forward(&*model("layers.pt", Optimization::Auto), &[1, 3, 16, 8]));
    assert!(kept.is_err());
    assert_eq!(kept, plain);
}

#[test]
fn pictures_are_pooled_and_put_in_a_row_as_the_model_does() {
    let (fused, plain) = (model("pools.pt", Optimization::Only(Form::Fused)), model("pools.pt", Optimization::Auto));
    let tuning = tune(&*fused, &[1, 3, 8, 9]);
    assert_eq!((tuning.kept, tuning.largest_batch()), (Form::Fused, 32), "{tuning:?}");
    let mut values = numbers(5 * 3 * 8 * 9);
    // In the second picture, where windows overlap: its place is lost in a maximum that comes later.
    values[4 * 250..4 * 251].copy_from_slice(&f32::NAN.to_ne_bytes());
    let given = |model: &dyn Model| {
        let picture = input(RawTensor::plain(DType::F32.code(), &[5, 3, 8, 9], &values));
        let mut given: Vec<f32> = Vec::new();
        let mut keep = |event: &RawEvent<'_>| {
            let floats = event.tensor.bytes.as_slice().chunks_exact(4);
            given.extend(floats.map(|bytes| f32::from_ne_bytes(bytes.try_into().unwrap())));
        };
        model.forward("forward", &[picture], RawDoor::PLAIN, &mut keep).map(|()| given)
    };
    let (given, expected) = (given(&*fused).unwrap(), given(&*plain).unwrap());
    assert_eq!(given.len(), expected.len());
    assert!(given.iter().any(|number| number.is_nan()));
    for (place, (one, other)) in given.iter().zip(&expected).enumerate() {
        assert!((one - other).abs() < 1e-5 || one.is_nan() && other.is_nan(), "{place}: {one} and {other}");
    }
    // A row of another length is refused, as it is by the model itself.
    assert_eq!(forward(&*fused, &[1, 3, 8, 8]), forward(&*plain, &[1, 3, 8, 8]));
}

#[test]
fn a_fused_sum_broadcasts_as_the_model_does() {
    let (picture, code) = (numbers(3 * 8 * 8), DType::F32.code());
    let whole = numbers(4 * 8 * 8);
    for shape in [
        &[1, 4, 8, 8][..],
        &[1, 4, 1, 1],
        &[1, 1, 8, 8],
        &[1, 1, 1, 8],
        &[1, 4, 8, 1],
        &[4, 8, 8],
        &[8, 8],
        &[8],
        &[1],
        &[],
    ] {
        let fused = model("sum.pt", Optimization::Only(Form::Fused));
        let plain = model("sum.pt", Optimization::Auto);
        let inputs =
            [RawTensor::plain(code, &[1, 3, 8, 8], &picture), RawTensor::plain(code, &[1, 4, 8, 8], &whole)].map(input);
        assert_eq!(fused.tune(&inputs).unwrap().kept, Form::Fused);
        let added = numbers(usize::try_from(shape.iter().product::<i64>()).unwrap());
        let given = |model: &dyn Model| {
            let inputs =
                [RawTensor::plain(code, &[1, 3, 8, 8], &picture), RawTensor::plain(code, shape, &added)].map(input);
            let mut given: Vec<f32> = Vec::new();
            let mut keep = |event: &RawEvent<'_>| {
                let floats = event.tensor.bytes.as_slice().chunks_exact(4);
                given.extend(floats.map(|bytes| f32::from_ne_bytes(bytes.try_into().unwrap())));
            };
            model.forward("forward", &inputs, RawDoor::PLAIN, &mut keep).map(|()| given)
        };
        let (given, expected) = (given(&*fused).unwrap(), given(&*plain).unwrap());
        assert_eq!(given.len(), expected.len(), "{shape:?}");
        let same = given.iter().zip(&expected).all(|(one, other)| (one - other).abs() < 1e-5);
        assert!(same, "{shape:?}: {given:?} and {expected:?}");
    }
}

#[test]
fn what_has_no_layer_to_fuse_says_so() {
    for (file, shape, reason) in [
        ("words.pt", &[1, 6][..], "no convolution over pictures"),
        ("writing.pt", &[1, 3, 8, 8], "writes into a tensor in place"),
    ] {
        let model = model(file, Optimization::Only(Form::Fused));
        let bytes: Vec<u8> = [0_i64, 1, 2, 3, 4, 4].iter().flat_map(|index| index.to_ne_bytes()).collect();
        let tuning = match file {
            "words.pt" => model.tune(&[input(RawTensor::plain(DType::I64.code(), shape, &bytes))]).unwrap(),
            _ => tune(&*model, shape),
        };
        assert!(tuning.kept == Form::AsLoaded && tuning.reason.contains(reason), "{file}: {tuning:?}");
    }
}

#[test]
fn what_cannot_be_compared_or_put_together_runs_as_it_was_loaded() {
    for (file, shape, reason, largest) in [
        ("chance.pt", [1, 6], "different answers to the same input", None),
        ("mixing.pt", [1, 6], "", Some(1)),
        ("fixed.pt", [1, 6], "", Some(1)),
        // Its first dimension is not a batch's.
        ("mixing.pt", [2, 3], "", None),
        ("fixed.pt", [1, 5], "the model fails on the sample", None),
    ] {
        let model = model(file, Optimization::Auto);
        let tuning = tune(&*model, &shape);
        assert!(tuning.reason.contains(reason), "{file}: {tuning:?}");
        if let Some(largest) = largest {
            assert_eq!(tuning.largest_batch(), largest, "{file}: {tuning:?}");
        }
        if !reason.is_empty() {
            assert_eq!(tuning.kept, Form::AsLoaded, "{file}: {tuning:?}");
        }
    }
    // Its code assigns to its attributes.
    let sums = model("sums.pt", Optimization::Only(Form::Frozen));
    let (one, code) = (numbers(2), DType::F32.code());
    let inputs = [RawTensor::plain(code, &[1, 2], &one), RawTensor::plain(code, &[1, 2], &one)].map(input);
    let tuning = sums.tune(&inputs).unwrap();
    assert!(tuning.kept == Form::AsLoaded && tuning.reason.contains("assigns to its attributes"), "{tuning:?}");
}

#[test]
fn an_index_stays_one_that_the_model_knows() {
    let words = model("words.pt", Optimization::Auto);
    let indices: Vec<u8> = [0_i64, 1, 2, 3, 4, 4].iter().flat_map(|index| index.to_ne_bytes()).collect();
    let tuning = words.tune(&[input(RawTensor::plain(DType::I64.code(), &[1, 6], &indices))]).unwrap();
    assert_eq!(tuning.largest_batch(), 32, "{tuning:?}");
}

#[test]
fn two_that_come_at_once_find_the_same() {
    let model = model("pictures.pt", Optimization::Auto);
    let found = std::thread::scope(|scope| {
        let search = || tune(&*model, &[1, 3, 8, 8]);
        [scope.spawn(search), scope.spawn(search)].map(|thread| thread.join().unwrap())
    });
    assert!(Arc::ptr_eq(&found[0], &found[1]));
}
