//! What the operator wants: `config.properties`, the environment and the flags in one struct.
//!
//! Everything is passed in and nothing is global, so that a test can be an operator.

pub mod access;
pub mod address;
pub mod autoscale;
pub mod error;
pub mod metrics;
pub mod models;

mod keys;
mod properties;
mod settings;
mod snapshot;

pub mod report;
pub mod requests;
pub mod server;
pub mod sources;
pub mod swap;

#[cfg(test)]
mod tests;

pub use access::AccessConfig;
pub use access::AllowedUrls;
pub use access::TokenConfig;
pub use address::Address;
pub use autoscale::AutoscaleConfig;
pub use error::ConfigError;
pub use error::Origin;
pub use metrics::MetricsConfig;
pub use metrics::MetricsMode;
pub use models::ModelDefaults;
pub use report::Explained;
pub use report::Setting;
pub use requests::Envelope;
pub use requests::RequestConfig;
pub use server::ServerConfig;
pub use sources::CONFIG_VARIABLE;
pub use sources::ConfigSources;
pub use sources::Overrides;
pub use swap::SwapConfig;
pub use swap::Unload;
pub use swap::WatchConfig;
