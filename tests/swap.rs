//! Hot swap: new code in, weights stay, no request lost.

mod in_flight;
mod left_behind;
mod many;
mod refused;
mod reload;
mod roll_back;
mod state;
mod watch;
mod weights;

use crate::support::Archive;
use crate::support::Setup;
use crate::support::fixture;

/// A folder where files change only when a test says so, with a fixture that is model and handler.
fn setup(package: &str, config: &str) -> Setup {
    let handler = package.replace('-', "_");
    Setup::with_echo()
        .property("sconce_watch", "false")
        .property("sconce_unload", "unmap")
        .plugin(&fixture(package))
        .model(&Archive::new(&handler, &handler).config(config))
}
