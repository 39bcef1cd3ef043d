//! Packages as PyTorch makes them, by `../torch/testdata/packages.py`, and what is wrong with some; nothing of them runs.

use std::fs;
use std::io::Read;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;

use handler_sdk::DType;
use handler_sdk::Device;
use handler_sdk::ModelKind;
use zip::ZipArchive;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::*;
use crate::model::kind_of;

/// A tensor's element type and shape.
type Given<'a> = (DType, &'a [i64]);

fn packaged(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/model/torch/testdata").join(name)
}

/// A package with its files changed: each is given by name, and left out where nothing is given back.
fn changed(name: &str, change: impl Fn(&str, Vec<u8>) -> Option<Vec<u8>>) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("changed.pt2");
    let mut source = ZipArchive::new(fs::File::open(packaged(name)).unwrap()).unwrap();
    let mut target = ZipWriter::new(fs::File::create(&path).unwrap());
    for index in 0..source.len() {
        let mut member = source.by_index(index).unwrap();
        let name = member.name().unwrap().to_string();
        let mut content = Vec::new();
        member.read_to_end(&mut content).unwrap();
        if let Some(content) = change(&name, content) {
            target.start_file(name, SimpleFileOptions::default()).unwrap();
            target.write_all(&content).unwrap();
        }
    }
    target.finish().unwrap();
    (folder, path)
}

/// The text of a file with one thing in another's place.
fn replaced(content: Vec<u8>, from: &str, to: &str) -> Vec<u8> {
    let text = String::from_utf8(content).unwrap();
    assert!(text.contains(from), "{from}");
    text.replace(from, to).into_bytes()
}

fn refused(path: &Path) -> String {
    let read = PackageFile::read(path).and_then(|file| file.judge(Device::Cpu));
    read.unwrap_err().to_string()
}

#[test]
fn a_package_tells_what_its_code_takes() {
    let file = PackageFile::read(&packaged("pair.pt2")).unwrap();
    let told: Vec<String> = file.inputs.0.iter().map(ToString::to_string).collect();
    assert_eq!(told, ["float32 of shape [1 to 64, 3]", "float32 of shape [1 to 64, 3]", "int64 of shape [1 to 64, 3]"]);
    assert_eq!(file.threads, Threads { fixed: 1, all_needed: false });
    let file = PackageFile::read(&packaged("sizes.pt2")).unwrap();
    let told: Vec<String> = file.inputs.0.iter().map(ToString::to_string).collect();
    assert_eq!(told, ["float32 of shape [1 to 8, 1 to 512, 3]"; 2]);
    assert_eq!(file.threads, Threads { fixed: 4, all_needed: false });
    for name in ["pair.pt2", "colours.pt2", "sizes.pt2"] {
        assert_eq!(kind_of(&packaged(name)).unwrap(), ModelKind::AotInductor);
    }
}

#[test]
fn every_violation_is_told_by_the_inputs_name() {
    let inputs = PackageFile::read(&packaged("pair.pt2")).unwrap().inputs;
    let paths = ["x", "pair[\"a\"]", "pair[\"b\"]"].map(str::to_owned);
    let check = |x: (DType, &[i64]), a: (DType, &[i64]), b: (DType, &[i64])| {
        inputs.check(&paths, &[x, a, b].map(|(dtype, shape)| (dtype, shape.to_vec())))
    };
    let (float, whole) = (DType::F32, DType::I64);
    for rows in [1, 2, 64] {
        check((float, &[rows, 3]), (float, &[rows, 3]), (whole, &[rows, 3])).unwrap();
    }
    let two: &[i64] = &[2, 3];
    let rows: [(Given<'_>, Given<'_>, Given<'_>, &str); 7] = [
        (
            (DType::F64, two),
            (float, two),
            (whole, two),
            "x is of float64, and the model takes float32 of shape [1 to 64, 3]",
        ),
        ((float, two), (float, two), (float, two), "pair[\"b\"] is of float32, and the model takes int64 of shape"),
        (
            (float, &[2, 4]),
            (float, two),
            (whole, two),
            "x has the shape [2, 4], whose dimension 1 is 4, and the model takes",
        ),
        ((float, &[65, 3]), (float, two), (whole, two), "x has the shape [65, 3], whose dimension 0 is 65"),
        ((float, &[0, 3]), (float, two), (whole, two), "x has the shape [0, 3], whose dimension 0 is 0"),
        ((float, &[3]), (float, two), (whole, two), "x has the shape [3] of 1 dimensions"),
        (
            (float, two),
            (float, &[1, 3]),
            (whole, two),
            "pair[\"a\"] has the shape [1, 3], whose dimension 0 is 1, and dimension 0 of x is 2: the model takes the same size in both",
        ),
    ];
    for (x, a, b, told) in rows {
        let error = check(x, a, b).unwrap_err();
        assert!(error.starts_with(told), "{error}");
    }
}

#[test]
fn sizes_that_are_apart_are_told_apart() {
    let inputs = PackageFile::read(&packaged("sizes.pt2")).unwrap().inputs;
    let paths = ["x", "mask"].map(str::to_owned);
    let check = |x: &[i64], mask: &[i64]| inputs.check(&paths, &[x, mask].map(|shape| (DType::F32, shape.to_vec())));
    check(&[3, 100, 3], &[3, 100, 3]).unwrap();
    assert!(
        check(&[3, 100, 3], &[3, 99, 3]).unwrap_err().starts_with("mask has the shape [3, 99, 3], whose dimension 1")
    );
    assert!(
        check(&[3, 100, 3], &[2, 100, 3]).unwrap_err().starts_with("mask has the shape [2, 100, 3], whose dimension 0")
    );
}

#[test]
fn what_does_not_tell_enough_is_refused() {
    let is = |name: &str, ending: &str| name.ends_with(ending);
    let (_folder, path) = changed("pair.pt2", |name, content| (!is(name, ".wrapper.cpp")).then_some(content));
    assert!(refused(&path).contains("it doesn't say what its compiled code takes (it has no wrapper.cpp)"));
    let (_folder, path) = changed("pair.pt2", |name, content| (!is(name, ".so")).then_some(content));
    assert!(refused(&path).contains("without a compiled library"));
    for (from, to, told) in [
        ("int64_t s", "int64_t* s", "dimension 0 of input 0 follows from other sizes"),
        ("static void check_input_1(", "static void check_other(", "its check of input 1 is missing"),
        ("aoti_torch_dtype_int64()", "aoti_torch_dtype_complex64()", "its check of input 2 names no element type"),
        ("_size[0] < 2) {", "_size[0] < least) {", "its check of input 0 leaves a dimension out"),
        (
            "                           true) {",
            "                           false) {",
            "keeps its weights in another file",
        ),
    ] {
        let (_folder, path) = changed("pair.pt2", |name, content| {
            Some(if is(name, ".wrapper.cpp") { replaced(content, from, to) } else { content })
        });
        assert!(refused(&path).contains(told), "{from}: {}", refused(&path));
    }
}

#[test]
fn what_was_made_for_something_else_is_refused() {
    for (from, to, told) in [
        (
            "\"cpu\"",
            "\"cuda\"",
            "compiled for the device cuda, and is to be served on cpu: serve it where there is a GPU",
        ),
        ("\"linux\"", "\"darwin\"", "on darwin, and this machine is"),
        ("INVALID_VEC_ISA", "AVX512 AVX_OF_2040", "this one has no avx_of_2040"),
    ] {
        let (_folder, path) = changed("pair.pt2", |name, content| {
            Some(if name.ends_with("_metadata.json") { replaced(content, from, to) } else { content })
        });
        assert!(refused(&path).contains(told), "{}", refused(&path));
    }
    let file = PackageFile::read(&packaged("pair.pt2")).unwrap();
    let error = file.judge(Device::Cuda(0)).unwrap_err().to_string();
    assert!(
        error.contains("compiled for the device cpu, and is to be served on cuda:0: set deviceType: cpu"),
        "{error}"
    );
}

#[test]
fn an_exported_program_is_told_from_a_package() {
    let (_folder, path) = changed("pair.pt2", |name, content| (!is_compiled_member(name)).then_some(content));
    let error = kind_of(&path).unwrap_err().to_string();
    assert!(error.contains("a program of torch.export that isn't compiled"), "{error}");
    assert!(error.contains("torch._inductor.aoti_compile_and_package"), "{error}");
}

#[test]
fn one_of_several_models_is_served_by_its_name() {
    let (_folder, path) = changed("pair.pt2", |name, content| name.contains("aotinductor").then_some(content));
    PackageFile::read(&path).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("several.pt2");
    let mut target = ZipWriter::new(fs::File::create(&path).unwrap());
    for name in ["m/data/aotinductor/left/a.so", "m/data/aotinductor/right/b.so"] {
        target.start_file(name, SimpleFileOptions::default()).unwrap();
    }
    target.finish().unwrap();
    assert!(refused(&path).contains("it holds the models left, right, and one can be served"));
}

#[test]
fn a_name_that_leaves_the_folder_is_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("far.pt2");
    let mut target = ZipWriter::new(fs::File::create(&path).unwrap());
    target.start_file("m/data/aotinductor/model/../../x.so", SimpleFileOptions::default()).unwrap();
    target.finish().unwrap();
    assert!(refused(&path).contains("without a compiled library"));
}

#[test]
fn structures_are_read() {
    let leaf = r#"{"type": null, "context": null, "children_spec": []}"#;
    let list = format!(r#"{{"type": "builtins.list", "context": "null", "children_spec": [{leaf}, {leaf}]}}"#);
    let dict = format!(r#"{{"type": "builtins.dict", "context": "[\"a\", 7]", "children_spec": [{leaf}, {list}]}}"#);
    let spec = Spec::parse(&format!("[1, {dict}]")).unwrap();
    assert_eq!(spec.tensors(), 3);
    let mut paths = Vec::new();
    spec.paths("input0", &mut paths);
    assert_eq!(paths, ["input0[\"a\"]", "input0[\"7\"][0]", "input0[\"7\"][1]"]);
    for wrong in ["", "[2, null]", "[1, {}]", "{}"] {
        assert!(Spec::parse(wrong).is_err(), "{wrong}");
    }
    let endless =
        format!("[1, {}{leaf}{}]", r#"{"type": "builtins.list", "children_spec": ["#.repeat(99), "]}".repeat(99));
    assert!(Spec::parse(&endless).is_err());
}
