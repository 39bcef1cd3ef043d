//! The metrics as they are fetched, with what is true of the endpoints at that moment.

use super::Endpoint;
use super::Registry;
use crate::metrics::EndpointNow;
use crate::metrics::InMemory;
use crate::metrics::MetricsError;
use crate::metrics::Now;
use crate::plugin::mapped;

impl Registry {
    /// In Prometheus's text format: all metrics, or those of these names.
    pub fn exposition(&self, names: &[String]) -> Result<Vec<u8>, MetricsError> {
        let endpoints = self.endpoints();
        let mapped = mapped(&self.loader.libraries);
        let serving = endpoints.iter().filter_map(|endpoint| endpoint.serving());
        let in_use: u64 = serving.map(|generation| generation.build().library.mapped()).sum();
        let in_memory = InMemory {
            libraries: mapped.libraries,
            library_bytes: mapped.bytes,
            retained_bytes: mapped.bytes.saturating_sub(in_use),
            models: self.loader.models.resident(),
            model_loads: self.loader.models.loads(),
        };
        let endpoints = endpoints.iter().map(|endpoint| now(endpoint)).collect();
        self.metrics().exposition(&Now { in_memory, endpoints }, names)
    }
}

fn now(endpoint: &Endpoint) -> EndpointNow {
    let model = endpoint.serving().and_then(|generation| generation.entry().read().model);
    EndpointNow {
        name: endpoint.name().clone(),
        version: endpoint.version().clone(),
        waiting: endpoint.queue().status().waiting,
        generations: endpoint.generations_alive().map(|(state, count)| (state.as_str(), count)).collect(),
        model_bytes: model.map(|model| model.footprint.bytes),
    }
}
