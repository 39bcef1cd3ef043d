//! A model that calls an operator which libtorch doesn't have: with a library of that operator it is served.

use std::env;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use crate::support::Archive;
use crate::support::Setup;
use crate::support::first_party;
use crate::support::repository;
use crate::support::says;

use super::Case;
use super::Expected;
use super::folder;
use super::picture;
use super::pictures::classes;

const MODEL: &str = "classifier_tempered";

#[test]
fn a_model_with_an_operator_of_its_own_is_served_with_a_library_of_that_operator() {
    let expected = Expected::read();
    let built = tempfile::tempdir().unwrap();
    let library = built.path().join("libtemper.so");
    build(&library);
    let server = Setup::with_echo()
        .plugin(&first_party("image-classifier"))
        .model(
            &archive(MODEL)
                .flags(&["--extra-files", library.to_str().unwrap()])
                .config("torchLibraries: [libtemper.so]\n"),
        )
        // The same bytes from another place: they are open already.
        .model(&archive("outside").config(&format!("torchLibraries: {}\n", library.display())))
        .start();
    let cases: Vec<_> = expected.cases("classify").iter().filter(|case| case["model"] == MODEL).collect();
    assert!(!cases.is_empty(), "there are no cases of {MODEL}");
    for case in cases {
        let content = picture(case["picture"].as_str().unwrap());
        for model in [MODEL, "outside"] {
            classes(&Case::of(case), &server.predict(model, &content), case);
        }
    }
    server.still_serves();
}

#[test]
fn without_the_library_the_refusal_names_the_operator_and_the_remedy() {
    let server = Setup::with_echo().plugin(&first_party("image-classifier")).model(&archive(MODEL)).start();
    says(&server.failure(MODEL), &["golden::temper", "torchLibraries"]);
    server.still_serves();
}

fn archive(name: &str) -> Archive {
    Archive::new(name, "image_classifier").weights(&folder().join(format!("models/{MODEL}.pt")))
}

/// Compiles the operator against the libtorch that the host was built with.
fn build(library: &Path) {
    let libtorch = env::var_os("LIBTORCH").map(PathBuf::from).expect("cargo sets LIBTORCH for this workspace");
    let libtorch = repository().join(libtorch);
    let include = env::var_os("LIBTORCH_INCLUDE").map_or_else(|| libtorch.clone(), PathBuf::from).join("include");
    let compiler = env::var_os("CXX").filter(|name| !name.is_empty()).unwrap_or_else(|| "c++".into());
    let mut command = Command::new(compiler);
    command
        .args(["-shared", "-fPIC", "-std=c++17", "-O1", "-I"])
        .arg(&include)
        .arg("-I")
        .arg(include.join("torch/csrc/api/include"))
        .arg(folder().join("operators/temper.cpp"))
        .arg("-o")
        .arg(library)
        .arg("-L")
        .arg(libtorch.join("lib"))
        .args(["-ltorch_cpu", "-lc10"]);
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?} failed:\n{}", String::from_utf8_lossy(&output.stderr));
}
