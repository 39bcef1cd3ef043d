//! What the tests stand on.

mod archive;
mod build;
mod chance;
mod client;
mod gate;
mod left_over;
mod load;
mod server;
mod swaps;

pub(crate) use archive::Archive;
pub(crate) use archive::sconce;
pub(crate) use build::build_of;
pub(crate) use build::cargo_in;
pub(crate) use build::dev_in;
pub(crate) use build::first_party;
pub(crate) use build::fixture;
pub(crate) use build::mark_of;
#[cfg(feature = "torch")]
pub(crate) use build::trainer;
pub(crate) use build::with_bytes;
pub(crate) use chance::Chance;
pub(crate) use chance::Seed;
pub(crate) use client::Answer;
pub(crate) use client::Sent;
pub(crate) use client::agent;
pub(crate) use client::multipart;
pub(crate) use gate::Gate;
pub(crate) use left_over::LeftOver;
pub(crate) use load::Load;
pub(crate) use load::Tally;
pub(crate) use server::Server;
pub(crate) use server::Setup;
pub(crate) use swaps::put;
pub(crate) use swaps::step;
pub(crate) use swaps::swapped;

use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

/// Looks until there is something to see, or patience ends; `what` names it.
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + patience();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "waited {:?} in vain for {what}", patience());
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// How long a test waits for what should come at once.
pub(crate) fn patience() -> Duration {
    let seconds = std::env::var("SCONCE_TEST_PATIENCE").ok();
    Duration::from_secs(seconds.and_then(|text| text.parse().ok()).unwrap_or(60))
}

/// The repository's root.
pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The weights that the repository holds; says so where it holds none.
#[cfg(feature = "torch")]
pub(crate) fn mnist_weights() -> Option<PathBuf> {
    let file = repository().join("model-store/mnist/mnist_cnn.safetensors");
    if !file.is_file() {
        eprintln!("left out: there is no {}", file.display());
        return None;
    }
    Some(file)
}

/// Asserts that a text says all of these.
#[track_caller]
pub(crate) fn says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "this should say {part:?}:\n{text}");
    }
}
