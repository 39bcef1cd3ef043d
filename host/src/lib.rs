//! A model server for PyTorch models whose handlers are native plugins.
//!
//! The modules stand in the order of their layers: each imports only from
//! those above it (`tests/layering.rs` holds that).

pub mod ids;

pub mod config;

pub mod archive;

pub mod model;

pub mod cli;
