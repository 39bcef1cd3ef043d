//! What is true at the moment of asking, and isn't counted as it happens.

use crate::ids::ModelName;
use crate::ids::ModelVersion;

/// What the gauges show.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Now {
    pub in_memory: InMemory,
    pub endpoints: Vec<EndpointNow>,
}

/// What is in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct InMemory {
    pub libraries: usize,
    pub library_bytes: u64,
    /// Of libraries whose generation doesn't serve.
    pub retained_bytes: u64,
    pub models: usize,
    /// How many times a model was read since the start.
    pub model_loads: u64,
}

/// One version of one model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointNow {
    pub name: ModelName,
    pub version: ModelVersion,
    /// Requests in its queue.
    pub waiting: usize,
    /// How many generations are alive in each state.
    pub generations: Vec<(&'static str, usize)>,
    /// The weights that serve; `None` where it has none.
    pub model_bytes: Option<u64>,
}
