//! The networks beside torchvision's, whose numbers `testdata/make.py` has written down.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::Network;
use crate::prelude::*;
use crate::testing::Host;
use crate::testing::Request as Sent;
use crate::testing::Running;

type Shapes = BTreeMap<String, Vec<i64>>;
/// Whose weights, what is wrong with them, and what the refusal says.
type Case<'a> = (fn() -> Shapes, fn(&mut Shapes), &'a [&'a str]);

const CLASSES: i64 = 5;

#[derive(Deserialize)]
struct Golden {
    tensors: usize,
    scores: Vec<f32>,
    gradients: Vec<f32>,
}

/// Answers pictures with their scores, and explains class 3 by the gradients.
#[derive(Default)]
struct Scores(Network);

impl Handler for Scores {
    fn initialize(&mut self, context: &Context) -> Result<()> {
        self.0 = Network::load(context)?;
        Ok(())
    }

    fn handle(&self, batch: &Batch, context: &Context) -> Result<Vec<Response>> {
        let answer = |request: &Request| -> Result<Response> {
            let pictures = request.input()?.tensor()?;
            Ok(Response::json(&self.0.forward(vec![pictures.into()], context)?.tensor()?.to_json()?))
        };
        Ok(batch.iter().map(|request| answer(request).into()).collect())
    }

    fn explain(&self, request: &Request, context: &Context) -> Result<Response> {
        let pictures = request.input()?.tensor()?;
        let target = request.field("target").map_or(Ok(3), |field| field.json())?;
        Ok(Response::json(&self.0.gradients(vec![pictures.into()], target, context)?.to_json()?))
    }
}

/// As in `make.py`.
fn numbers(name: &str, shape: &[i64], low: f64, high: f64) -> tch::Tensor {
    let seed = name.bytes().fold(2_166_136_261_u32, |seed, byte| (seed ^ u32::from(byte)).wrapping_mul(16_777_619));
    let count: i64 = shape.iter().product();
    let mut values = vec![0.0_f32; usize::try_from(count).unwrap()];
    let mut step = seed;
    for value in &mut values {
        let mut state = step;
        step = step.wrapping_add(2_654_435_761);
        state ^= state >> 16;
        state = state.wrapping_mul(2_246_822_507);
        state ^= state >> 13;
        *value = (low + (high - low) * (f64::from(state >> 8) / 16_777_216.0)) as f32;
    }
    tch::Tensor::from_slice(&values).view(shape)
}

fn weight(name: &str, shape: &[i64]) -> tch::Tensor {
    if shape.len() > 1 {
        let inputs: i64 = shape[1..].iter().product();
        let bound = (6.0 / inputs as f64).sqrt();
        return numbers(name, shape, -bound, bound);
    }
    let (low, high) = match name.rsplit('.').next() {
        Some("running_var") => (0.75, 1.25),
        Some("weight") => (0.5, 1.0),
        _ => (-0.1, 0.1),
    };
    numbers(name, shape, low, high)
}

fn norm(shapes: &mut Shapes, name: &str, channels: i64) {
    for part in ["weight", "bias", "running_mean", "running_var"] {
        shapes.insert(format!("{name}.{part}"), vec![channels]);
    }
    shapes.insert(format!("{name}.num_batches_tracked"), Vec::new());
}

/// torchvision's names and shapes; `width` is that of the first layer's bottlenecks, where there are any.
fn resnet(counts: [usize; 4], bottleneck: Option<(i64, i64)>) -> Shapes {
    let mut shapes = Shapes::new();
    shapes.insert("conv1.weight".to_owned(), vec![64, 3, 7, 7]);
    norm(&mut shapes, "bn1", 64);
    let mut inputs = 64;
    for (layer, count) in counts.into_iter().enumerate() {
        for index in 0..count {
            let name = format!("layer{}.{index}", layer + 1);
            let convolutions = match bottleneck {
                None => vec![vec![64 << layer, inputs, 3, 3], vec![64 << layer, 64 << layer, 3, 3]],
                Some((width, groups)) => {
                    let (width, outputs) = (width << layer, 256 << layer);
                    vec![vec![width, inputs, 1, 1], vec![width, width / groups, 3, 3], vec![outputs, width, 1, 1]]
                }
            };
            let outputs = convolutions.last().unwrap()[0];
            for (number, shape) in (1..).zip(convolutions) {
                norm(&mut shapes, &format!("{name}.bn{number}"), shape[0]);
                shapes.insert(format!("{name}.conv{number}.weight"), shape);
            }
            if index == 0 && inputs != outputs {
                shapes.insert(format!("{name}.downsample.0.weight"), vec![outputs, inputs, 1, 1]);
                norm(&mut shapes, &format!("{name}.downsample.1"), outputs);
            }
            inputs = outputs;
        }
    }
    shapes.insert("fc.weight".to_owned(), vec![CLASSES, inputs]);
    shapes.insert("fc.bias".to_owned(), vec![CLASSES]);
    shapes
}

fn densenet(counts: [usize; 4], growth: i64) -> Shapes {
    let mut shapes = Shapes::new();
    let mut channels = growth * 2;
    shapes.insert("features.conv0.weight".to_owned(), vec![channels, 3, 7, 7]);
    norm(&mut shapes, "features.norm0", channels);
    for (block, count) in (1..).zip(counts) {
        for layer in 1..=count {
            let name = format!("features.denseblock{block}.denselayer{layer}");
            norm(&mut shapes, &format!("{name}.norm1"), channels);
            shapes.insert(format!("{name}.conv1.weight"), vec![growth * 4, channels, 1, 1]);
            norm(&mut shapes, &format!("{name}.norm2"), growth * 4);
            shapes.insert(format!("{name}.conv2.weight"), vec![growth, growth * 4, 3, 3]);
            channels += growth;
        }
        if block < 4 {
            let name = format!("features.transition{block}");
            norm(&mut shapes, &format!("{name}.norm"), channels);
            shapes.insert(format!("{name}.conv.weight"), vec![channels / 2, channels, 1, 1]);
            channels /= 2;
        }
    }
    norm(&mut shapes, "features.norm5", channels);
    shapes.insert("classifier.weight".to_owned(), vec![CLASSES, channels]);
    shapes.insert("classifier.bias".to_owned(), vec![CLASSES]);
    shapes
}

fn mnist() -> Shapes {
    let shapes: [(&str, &[i64]); 8] = [
        ("conv1.weight", &[32, 1, 3, 3]),
        ("conv1.bias", &[32]),
        ("conv2.weight", &[64, 32, 3, 3]),
        ("conv2.bias", &[64]),
        ("fc1.weight", &[128, 9216]),
        ("fc1.bias", &[128]),
        ("fc2.weight", &[10, 128]),
        ("fc2.bias", &[10]),
    ];
    shapes.into_iter().map(|(name, shape)| (name.to_owned(), shape.to_vec())).collect()
}

/// With the numbers of `make.py`; `rename` says under which names they are stored.
fn start(shapes: &Shapes, rename: impl Fn(&str) -> String) -> Running {
    let tensors = shapes.iter().map(|(name, shape)| (rename(name), Tensor::from(weight(name, shape))));
    Host::new().weights(tensors).start::<Scores>().unwrap()
}

/// The refusal of weights of these shapes, which take up no memory.
fn refusal(shapes: &Shapes) -> String {
    let nothing = tch::Tensor::zeros([0_i64; 0], (tch::Kind::Float, tch::Device::Cpu));
    let tensors = shapes.iter().map(|(name, shape)| (name.clone(), Tensor::from(nothing.expand(shape, false))));
    let error = Host::new().weights(tensors).start::<Scores>().unwrap_err();
    error.log_text().to_owned()
}

/// `n`, channels, height and width.
const PICTURES: [i64; 4] = [2, 3, 64, 64];

fn pictures(shape: &[i64]) -> Tensor {
    numbers("pictures", shape, -2.0, 2.0).into()
}

fn sent(tensor: &Tensor) -> Sent {
    Sent::json(&tensor.to_json().unwrap())
}

fn scores(running: &mut Running, pictures: &Tensor) -> tch::Tensor {
    read(&running.predict(sent(pictures)).unwrap().body)
}

fn read(json: &[u8]) -> tch::Tensor {
    Tensor::from_json(&serde_json::from_slice(json).unwrap()).unwrap().into_tch().unwrap()
}

#[track_caller]
fn assert_equal(found: &tch::Tensor, wanted: &[f32]) {
    let found = Vec::<f32>::try_from(found.flatten(0, -1)).unwrap();
    let largest = wanted.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    assert_eq!(found.len(), wanted.len());
    for (found, wanted) in found.iter().zip(wanted) {
        assert!((found - wanted).abs() <= largest * 1e-4, "{found} for {wanted}");
    }
}

fn golden(network: &str) -> Golden {
    let mut golden: BTreeMap<String, Golden> = serde_json::from_str(include_str!("testdata/golden.json")).unwrap();
    golden.remove(network).unwrap()
}

#[track_caller]
fn assert_golden(network: &str, shapes: &Shapes, pictures_of: &[i64]) {
    let golden = golden(network);
    assert_eq!(shapes.len(), golden.tensors);
    let mut running = start(shapes, str::to_owned);
    let pictures = pictures(pictures_of);
    assert_equal(&scores(&mut running, &pictures), &golden.scores);
    let gradients = read(&running.explain(sent(&pictures)).unwrap().body);
    let directions = numbers("directions", pictures_of, -1.0, 1.0);
    assert_equal(&(gradients * directions).sum_dim_intlist([2, 3].as_slice(), false, None), &golden.gradients);
}

#[test]
fn the_mnist_network_computes_what_pytorch_computes() {
    assert_golden("mnist", &mnist(), &[2, 1, 28, 28]);
}

#[test]
fn resnets_compute_what_torchvision_computes() {
    assert_golden("resnet18", &resnet([2, 2, 2, 2], None), &PICTURES);
    assert_golden("resnet34", &resnet([3, 4, 6, 3], None), &PICTURES);
    assert_golden("resnet50", &resnet([3, 4, 6, 3], Some((64, 1))), &PICTURES);
}

#[test]
fn wide_resnets_and_those_with_groups_compute_what_torchvision_computes() {
    assert_golden("resnext50_32x4d", &resnet([3, 4, 6, 3], Some((128, 32))), &PICTURES);
    assert_golden("wide_resnet50_2", &resnet([3, 4, 6, 3], Some((128, 1))), &PICTURES);
}

#[test]
fn densenets_compute_what_torchvision_computes() {
    assert_golden("densenet121", &densenet([6, 12, 24, 16], 32), &PICTURES);
    assert_golden("densenet161", &densenet([6, 12, 36, 24], 48), &PICTURES);
}

#[test]
fn names_of_old_checkpoints_and_of_data_parallel_are_understood() {
    let golden = golden("densenet121");
    let old = |name: &str| match name.contains("denselayer") {
        true => name
            .replace("norm1.", "norm.1.")
            .replace("norm2.", "norm.2.")
            .replace("conv1.", "conv.1.")
            .replace("conv2.", "conv.2."),
        false => name.to_owned(),
    };
    assert_eq!(old("features.denseblock1.denselayer1.norm1.bias"), "features.denseblock1.denselayer1.norm.1.bias");
    let shapes = densenet([6, 12, 24, 16], 32);
    let mut running = start(&shapes, |name| format!("module.{}", old(name)));
    assert_equal(&scores(&mut running, &pictures(&PICTURES)), &golden.scores);
}

#[test]
fn half_precision_weights_compute_in_half_precision() {
    let shapes = resnet([2, 2, 2, 2], None);
    let halves = shapes.iter().map(|(name, shape)| {
        let half = weight(name, shape).to_kind(tch::Kind::Half);
        (name.clone(), Tensor::from(half))
    });
    let found = scores(&mut Host::new().weights(halves).start::<Scores>().unwrap(), &pictures(&PICTURES));
    let wanted = tch::Tensor::from_slice(&golden("resnet18").scores).view([2, CLASSES]);
    assert_eq!(found.argmax(1, false), wanted.argmax(1, false));
    assert!(found.allclose(&wanted, 0.05, 0.05, false), "{found} for {wanted}");
}

#[test]
fn pictures_of_another_shape_are_the_clients_fault() {
    let resnet = resnet([2, 2, 2, 2], None);
    let mnist = mnist();
    for (network, shape, wanted) in [
        (
            &resnet,
            vec![1, 1, 8, 8],
            "a ResNet-18, which takes pictures of shape [n, 3, height, width], not [1, 1, 8, 8]",
        ),
        (&resnet, vec![3, 8, 8], "[n, 3, height, width], not [3, 8, 8]"),
        (&mnist, vec![1, 1, 28, 27], "takes pictures of shape [n, 1, 28, 28], not [1, 1, 28, 27]"),
    ] {
        let error = start(network, str::to_owned).predict(sent(&numbers("x", &shape, 0.0, 1.0).into())).unwrap_err();
        assert_eq!(error.status(), 400);
        assert!(error.client_text().contains(wanted), "{error}");
    }
}

#[test]
fn a_target_that_is_no_class_is_the_clients_fault() {
    let mut network = start(&resnet([2, 2, 2, 2], None), str::to_owned);
    let error = network.explain(sent(&pictures(&PICTURES)).field("target", "5")).unwrap_err();
    assert_eq!(
        (error.status(), error.client_text()),
        (400, "the target 5 is no class of the model: it has 5, numbered from 0 to 4")
    );
    assert!(network.explain(sent(&pictures(&PICTURES)).field("target", "4")).is_ok());
}

#[test]
fn weights_that_do_not_fit_are_refused_by_name() {
    let resnet18: fn() -> Shapes = || resnet([2, 2, 2, 2], None);
    let densenet121: fn() -> Shapes = || densenet([6, 12, 24, 16], 32);
    let cases: [Case<'_>; 9] = [
        (mnist, |shapes| drop(shapes.remove("fc1.bias")), &["MNIST", "have no \"fc1.bias\""]),
        (
            mnist,
            |shapes| drop(shapes.insert("fc1.weight".to_owned(), vec![2, 3])),
            &["\"fc1.weight\" has shape [2, 3]", "[128, 9216]"],
        ),
        (
            resnet18,
            |shapes| drop(shapes.remove("layer3.0.bn2.running_var")),
            &["ResNet-18's", "\"layer3.0.bn2.running_var\""],
        ),
        (
            resnet18,
            |shapes| drop(shapes.insert("layer4.1.conv1.weight".to_owned(), vec![512, 512, 1, 1])),
            &["\"layer4.1.conv1.weight\" has shape [512, 512, 1, 1]", "ResNet-18 has [512, 512, 3, 3]"],
        ),
        (
            resnet18,
            |shapes| drop(shapes.insert("layer1.0.se.fc1.weight".to_owned(), vec![4, 64])),
            &["ResNet-18's", "no place for 1 of them: [\"layer1.0.se.fc1.weight\"]"],
        ),
        (
            resnet18,
            |shapes| shapes.retain(|name, _| !name.starts_with("layer4.1.")),
            &["[2, 2, 2, 1] blocks of the kind Basic"],
        ),
        (densenet121, |shapes| drop(shapes.remove("classifier.bias")), &["DenseNet-121's", "\"classifier.bias\""]),
        (densenet121, |shapes| shapes.retain(|name, _| !name.contains("denselayer16.")), &["[6, 12, 24, 15] layers"]),
        (
            densenet121,
            |shapes| *shapes = Shapes::from([("encoder.weight".to_owned(), vec![2])]),
            &["no network that is built in", "encoder.weight", "DenseNet-121"],
        ),
    ];
    for (shapes, change, wanted) in cases {
        let mut shapes = shapes();
        change(&mut shapes);
        let refusal = refusal(&shapes);
        for wanted in wanted.iter().chain(&["save the model as TorchScript"]) {
            assert!(refusal.contains(wanted), "{refusal} lacks {wanted}");
        }
    }
}

#[test]
fn a_grey_resnet_with_other_classes_is_recognised() {
    let mut shapes = resnet([2, 2, 2, 2], None);
    shapes.insert("conv1.weight".to_owned(), vec![64, 1, 7, 7]);
    shapes.insert("fc.weight".to_owned(), vec![7, 512]);
    shapes.insert("fc.bias".to_owned(), vec![7]);
    let answer = start(&shapes, str::to_owned).predict(sent(&numbers("x", &[1, 1, 16, 16], 0.0, 1.0).into())).unwrap();
    assert_eq!(read(&answer.body).size(), [1, 7]);
}
