//! What the program prints; nothing else writes to the terminal.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "this is the one place that prints")]

use std::path::Path;

use crate::error::Error;

#[cfg(feature = "torch")]
use crate::accuracy::Accuracy;

/// The message alone: it already says what its source said.
pub(crate) fn failed(error: &Error) {
    eprintln!("error: {error}");
}

pub(crate) fn wrote(path: &Path) {
    println!("wrote {}", path.display());
}

#[cfg(feature = "torch")]
pub(crate) fn accuracy(what: &str, accuracy: &Accuracy) {
    println!("{what}: {accuracy}");
}

#[cfg(feature = "torch")]
pub(crate) fn bar(length: u64, what: &'static str) -> indicatif::ProgressBar {
    let style = indicatif::ProgressStyle::with_template("{prefix} {wide_bar} {pos}/{len} {msg} {elapsed}, {eta} to go");
    let bar = indicatif::ProgressBar::new(length).with_prefix(what);
    // Only a mistake in the template above fails, and a plain bar does no harm.
    if let Ok(style) = style { bar.with_style(style) } else { bar }
}
