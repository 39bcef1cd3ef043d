//! What the operator wants: `config.properties`, the environment and the flags in one struct.
//!
//! Everything is passed in and nothing is global, so that a test can be an operator.

pub mod address;
pub mod error;
pub mod metrics;
pub mod models;

mod keys;
mod properties;
mod settings;

pub mod server;
pub mod swap;

#[cfg(test)]
mod tests;

pub use address::Address;
pub use error::ConfigError;
pub use metrics::MetricsConfig;
pub use metrics::MetricsMode;
pub use models::ModelDefaults;
pub use server::ConfigSources;
pub use server::Overrides;
pub use server::ServerConfig;
pub use swap::SwapConfig;
pub use swap::Unload;
pub use swap::WatchConfig;
