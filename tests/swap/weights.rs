//! The weights stay where they are while the code changes, and are replaced when they themselves do.
#![cfg(feature = "torch")]

use std::fs;

use serde_json::Value;

use super::many::CONFIG;
use super::many::swap_many;
use super::setup;
use crate::support::Archive;
use crate::support::eventually;
use crate::support::mnist_weights;
use crate::support::swapped;

const PACKAGE: &str = "tells-its-build-in-torch";
const MODEL: &str = "tells_its_build_in_torch";

fn address(generation: &Value) -> &str {
    generation["model"]["address"].as_str().unwrap()
}

#[test]
fn many_swaps_load_the_model_once_and_leave_it_where_it_is() {
    let Some(weights) = mnist_weights() else { return };
    let archive = Archive::new(MODEL, MODEL).config(CONFIG).weights(&weights);
    let server = setup(PACKAGE, CONFIG).model(&archive).start();
    let first = server.generations(MODEL).remove(0);
    let tally = swap_many(&server, PACKAGE);
    let said = format!("|{}", address(&first));
    assert_eq!(
        tally.said.keys().collect::<Vec<_>>(),
        [&said],
        "what the handlers saw, and how often: {:?}",
        tally.said
    );
    let generations = server.generations(MODEL);
    assert!(generations.iter().all(|generation| address(generation) == address(&first)), "{generations:#?}");
    assert_eq!(generations[0]["model"]["wasResident"], true);
    assert_eq!(server.metric("sconce_model_loads_total", &[]), 1);
    assert_eq!(server.metric("sconce_models_resident", &[]), 1);
}

#[test]
fn other_weights_are_loaded_beside_the_old_ones_which_then_go() {
    let Some(weights) = mnist_weights() else { return };
    let folder = tempfile::tempdir().unwrap();
    let other = folder.path().join("mnist_cnn.safetensors");
    let mut content = fs::read(&weights).unwrap();
    *content.last_mut().unwrap() ^= 1;
    fs::write(&other, content).unwrap();
    let archive = |file| Archive::new(MODEL, MODEL).weights(file);
    let server = setup(PACKAGE, "").model(&archive(&weights)).start();
    let loads = || server.metric("sconce_model_loads_total", &[]);
    let one_is_left = || {
        eventually("one model to be left", || (server.metric("sconce_models_resident", &[]) == 1).then_some(()));
    };
    let first = server.generations(MODEL).remove(0);
    assert_eq!((loads(), first["model"]["wasResident"].as_bool()), (1, Some(false)));

    archive(&other).pack(&server.store());
    let second = server.swap(MODEL);
    assert_eq!((loads(), second["model"]["wasResident"].as_bool()), (2, Some(false)));
    assert_ne!(second["model"]["digest"], first["model"]["digest"]);
    let answer = server.predict(MODEL, "x").ok();
    assert!(answer.ends_with(address(&second)), "{answer}, and not {second:#}");
    one_is_left();

    // From the server's own copy of the archive: another one lies in the model store.
    let back = swapped(&server.roll_back(MODEL));
    assert_eq!((loads(), &back["model"]["digest"]), (3, &first["model"]["digest"]));
    let answer = server.predict(MODEL, "x").ok();
    assert!(answer.ends_with(address(&back)), "{answer}, and not {back:#}");
    one_is_left();
}
