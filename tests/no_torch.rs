//! A server that was built without libtorch.
#![cfg(not(feature = "torch"))]

use std::fs;

use crate::support::Archive;
use crate::support::Setup;
use crate::support::says;

#[test]
fn an_archive_with_weights_is_refused_and_the_others_are_served() {
    let folder = tempfile::tempdir().unwrap();
    let mut setup = Setup::with_echo();
    for (name, file) in [("script", "net.pt"), ("dict", "net.safetensors")] {
        let weights = folder.path().join(file);
        fs::write(&weights, "any content").unwrap();
        setup = setup.model(&Archive::new(name, "echo").flags(&["--serialized-file", weights.to_str().unwrap()]));
    }
    let server = setup.start();
    for name in ["script", "dict"] {
        says(&server.failure(name), &["net.", "without libtorch"]);
    }
    server.still_serves();
}
