//! A model server for PyTorch models whose handlers are native plugins.
//!
//! The modules stand in the order of their layers: each imports only from
//! those above it (`tests/layering.rs` holds that).

// L1: ground
pub mod config;
pub mod ids;
pub mod metrics;
pub mod telemetry;

// L2
pub mod archive;

// L3
pub mod model;

// L4
pub mod plugin;

// L5
pub mod serving;

// L6
pub mod http;
pub mod reload;

// L7
pub mod app;
pub mod cli;
