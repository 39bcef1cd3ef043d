//! The numbers that the server and its handlers give to the world: TorchServe's under TorchServe's names, and ours.
//!
//! Where a request passes, nothing is looked up: its model's series are resolved once.

mod definitions;
mod error;
mod family;
mod gone;
mod gpu;
mod handler;
mod lines;
mod model;
mod now;
mod own;
mod server;
mod swaps;
mod system;

#[cfg(test)]
mod tests;

pub use error::MetricsError;
pub use handler::HandlerMetrics;
pub use handler::Profile;
pub use handler::Recorded;
pub use model::AskedVersion;
pub use model::ModelMetrics;
pub use now::EndpointNow;
pub use now::InMemory;
pub use now::Now;
pub use own::Failure;
pub use server::Metrics;
pub use swaps::SwapMetrics;
pub use system::SystemMetrics;
pub use system::resident_memory;

/// Of what is counted for a version of a model.
const MODEL_LABELS: [&str; 2] = ["model_name", "model_version"];
