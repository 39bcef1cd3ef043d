//! The subcommands of `sconce`.

pub mod archive;
