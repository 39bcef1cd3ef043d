//! The whole server over HTTP, with real plugins: one binary, since each links libtorch.
//!
//! Every test starts the program that users start, on ports that the system chooses, with archives made by `sconce archive`.
//! Plugins are built by a cargo of their own: those of this workspace as its members, those under `fixtures` as strangers' work.
//! A slow machine gets more time with `SCONCE_TEST_PATIENCE`, in seconds.

#![allow(
    // clippy exempts only the test functions themselves, and the helpers are part of the tests.
    clippy::unwrap_used,
    // What was left out for want of a tool is said to whoever reads the test's output.
    clippy::print_stderr,
)]

mod support;

mod archiver;
mod archives;
mod batches;
mod check;
mod clients;
mod compatibility;
mod contract;
mod crowd;
mod dev;
mod faults;
mod golden;
mod inference;
mod launcher;
mod layering;
mod malformed;
mod management;
mod mass;
mod metrics;
mod mnist;
mod new;
mod no_torch;
mod open_inference;
mod openapi;
mod packages;
mod profile;
mod serve;
mod shutdown;
mod steps;
mod swap;
mod third_party;
mod tokens;
