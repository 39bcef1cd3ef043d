//! What a handler may ask of this host during a call.

use std::sync::Arc;

use handler_sdk::Level;
use handler_sdk::MetricKind;
use handler_sdk::abi::instance::HostServices;
use handler_sdk::abi::raw::RawDoor;
use handler_sdk::abi::raw::RawEvent;
use handler_sdk::abi::raw::RawGradients;

use crate::ids::ModelName;
use crate::ids::ModelVersion;
use crate::metrics::HandlerMetrics;
use crate::metrics::Recorded;
use crate::model::Model;

/// Gives the model when it is first asked for; the error is text for the handler.
pub type ModelSource = Arc<dyn Fn() -> Result<Arc<dyn Model>, String> + Send + Sync>;

/// The services for the handlers of one model.
#[derive(Clone)]
pub struct Services {
    name: ModelName,
    version: ModelVersion,
    model: ModelSource,
    metrics: HandlerMetrics,
    /// Whether what the model is called with is a sample of what will come.
    rehearses: bool,
}

// === impl Services ===

impl Services {
    pub fn new(name: ModelName, version: ModelVersion, model: ModelSource, metrics: HandlerMetrics) -> Self {
        Self { name, version, model, metrics, rehearses: false }
    }

    /// The model, loaded unless it is.
    pub(super) fn model(&self) -> Result<Arc<dyn Model>, String> {
        (self.model)()
    }

    /// The same for a handler's self-test: the model's first call is the sample by which it finds the form that it runs in.
    pub fn rehearsing(&self) -> Self {
        Self { rehearses: true, ..self.clone() }
    }
}

impl HostServices for Services {
    fn log(&self, level: Level, message: &str) {
        let (model, version) = (&self.name, &self.version);
        match level {
            Level::Debug => tracing::debug!(target: "handler", %model, %version, "{message}"),
            Level::Info => tracing::info!(target: "handler", %model, %version, "{message}"),
            Level::Warn => tracing::warn!(target: "handler", %model, %version, "{message}"),
            Level::Error => tracing::error!(target: "handler", %model, %version, "{message}"),
        }
    }

    fn metric(&self, kind: MetricKind, name: &str, value: f64, unit: &str, labels: &[(&str, &str)]) {
        if let Err(reason) = self.metrics.record(&Recorded { kind, name, value, unit, labels }) {
            tracing::warn!(target: "handler", model = %self.name, version = %self.version, "metric {name:?} is not recorded: {reason}");
        }
    }

    fn forward(
        &self,
        method: &str,
        inputs: &[RawEvent<'_>],
        door: RawDoor,
        emit: &mut dyn FnMut(&RawEvent<'_>),
    ) -> Result<(), String> {
        let model = (self.model)()?;
        if self.rehearses && method == "forward" {
            model.tune(inputs);
        }
        model.forward(method, inputs, door, emit)
    }

    fn weights(&self, door: RawDoor, emit: &mut dyn FnMut(&RawEvent<'_>)) -> Result<(), String> {
        (self.model)()?.weights(door, emit)
    }

    fn layer(
        &self,
        method: &str,
        layer: &str,
        inputs: &[RawEvent<'_>],
        door: RawDoor,
        emit: &mut dyn FnMut(&RawEvent<'_>),
    ) -> Result<(), String> {
        (self.model)()?.layer(method, layer, inputs, door, emit)
    }

    fn gradients(
        &self,
        asked: &RawGradients<'_>,
        door: RawDoor,
        emit: &mut dyn FnMut(&RawEvent<'_>),
    ) -> Result<(), String> {
        (self.model)()?.gradients(asked, door, emit)
    }
}

impl std::fmt::Debug for Services {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Services").field("model", &self.name).field("version", &self.version).finish_non_exhaustive()
    }
}
