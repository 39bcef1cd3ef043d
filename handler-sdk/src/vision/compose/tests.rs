use super::*;

fn normalize(mean: &[f32], std: &[f32]) -> Transform {
    Transform::Normalize { mean: mean.to_vec(), std: std.to_vec() }
}

#[test]
fn an_order_that_makes_no_sense_is_named() {
    let one = || normalize(&[0.5], &[0.5]);
    let cases: [(Vec<Transform>, &str); 14] = [
        (vec![], "add ToTensor"),
        (vec![Transform::Resize(8)], "add ToTensor"),
        (vec![one(), Transform::ToTensor], "transform 1, Normalize { mean: [0.5], std: [0.5] }, works on a tensor"),
        (vec![Transform::ToTensor, Transform::Resize(8)], "transform 2, Resize(8), works on a picture"),
        (vec![Transform::ToTensor, one(), Transform::Grey], "transform 3, Grey, works on a picture"),
        (vec![Transform::ToTensor, Transform::ToTensor], "transform 2, ToTensor, works on a picture"),
        (vec![Transform::Resize(0), Transform::ToTensor], "transform 1, Resize(0), leaves no pixels"),
        (vec![Transform::Fit(0), Transform::ToTensor], "Fit(0), leaves no pixels"),
        (vec![Transform::CenterCrop(0), Transform::ToTensor], "CenterCrop(0), leaves no pixels"),
        (vec![Transform::ResizeTo { height: 3, width: 0 }, Transform::ToTensor], "width: 0 }, leaves no pixels"),
        (vec![Transform::ToTensor, normalize(&[0.1, 0.2], &[0.5])], "has 2 and 1 values, and the tensor 3 channels"),
        (vec![Transform::Grey, Transform::ToTensor, normalize(&[0.1], &[0.5; 3])], "the tensor 1 channels"),
        (vec![Transform::ToTensor, normalize(&[0.1; 3], &[0.5, 0.0, 0.5])], "a deviation of 0"),
        (vec![Transform::ToTensor, normalize(&[f32::NAN], &[0.5])], "no finite number"),
    ];
    for (transforms, wanted) in cases {
        let transforms = Compose::new(transforms);
        for error in [transforms.check().unwrap_err(), transforms.apply(Picture::black(4, 4)).unwrap_err()] {
            assert!(error.log_text().contains(wanted), "{error} lacks {wanted}");
            // It's the author's mistake, so a client can't mend it.
            assert_eq!(error.status(), 503);
        }
    }
    Compose::imagenet().check().unwrap();
}

#[test]
fn every_picture_has_three_channels_unless_grey_is_asked_for() {
    let grey = Picture::from_grey(2, 1, vec![0, 255]).unwrap();
    let colour = Picture::from_rgb(2, 1, vec![255, 0, 0, 0, 0, 255]).unwrap();
    let three = Compose::new([Transform::ToTensor]);
    let one = Compose::new([Transform::Grey, Transform::ToTensor]);
    let values = |tensor: Tensor| (tensor.shape(), tensor.to_vec::<f32>().unwrap());
    assert_eq!(values(three.apply(grey.clone()).unwrap()), (vec![3, 1, 2], vec![0.0, 1.0, 0.0, 1.0, 0.0, 1.0]));
    assert_eq!(values(three.apply(colour.clone()).unwrap()), (vec![3, 1, 2], vec![1.0, 0.0, 0.0, 0.0, 0.0, 1.0]));
    assert_eq!(values(one.apply(grey).unwrap()), (vec![1, 1, 2], vec![0.0, 1.0]));
    assert_eq!(values(one.apply(colour).unwrap()), (vec![1, 1, 2], vec![76.0 / 255.0, 29.0 / 255.0]));
}

#[test]
fn one_value_stands_for_all_channels() {
    let picture = Picture::from_rgb(1, 1, vec![51, 102, 255]).unwrap();
    let transforms = Compose::new([Transform::ToTensor, normalize(&[0.2], &[0.2, 0.4, 0.8])]);
    assert_eq!(transforms.apply(picture).unwrap().to_vec::<f32>().unwrap(), [0.0, 0.5, 1.0]);
}
