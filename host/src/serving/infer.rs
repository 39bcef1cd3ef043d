//! What the Open Inference Protocol asks of models: whether they are ready, what they take, and a call of the model alone.

use super::Answered;
use super::Endpoint;
use super::EndpointState;
use super::ModelCall;
use super::NamedTensor;
use super::Registry;
use super::ServeError;
use super::Signature;
use super::Urgency;
use crate::metrics::AskedVersion;

/// Who answers an inference request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answerer {
    /// The model itself: it is code, and needs no handler to be called.
    Model(Signature),
    /// The handler: there is no model that could be called without it.
    Handler,
    /// Nobody knows yet: the model isn't loaded.
    Unknown,
}

impl Registry {
    /// Whether every model that was loaded at start is served, or has no workers because nobody wants any.
    pub fn is_ready(&self) -> bool {
        let endpoints = self.endpoints();
        let mut at_startup = endpoints.iter().filter(|endpoint| endpoint.loaded_at_startup());
        at_startup.all(|endpoint| endpoint.is_ready() || endpoint.is_idle())
    }
}

impl Endpoint {
    /// Whether it takes requests, and has somebody who answers them.
    pub fn is_ready(&self) -> bool {
        self.status().state == EndpointState::Ready
    }

    /// Who answers an inference request: of the generation that serves, or that served last.
    pub fn answerer(&self) -> Answerer {
        match self.current() {
            Some(generation) => generation.signature().cloned().map_or(Answerer::Handler, Answerer::Model),
            // Without weights there will be no model.
            None if self.source().package.manifest.model.serialized_file.is_none() => Answerer::Handler,
            None => Answerer::Unknown,
        }
    }

    /// Calls the model without its handler, and waits as [`predict`](Self::predict) does.
    pub async fn infer(
        &self,
        call: ModelCall,
        urgency: Urgency,
        asked: AskedVersion,
    ) -> Result<Vec<NamedTensor>, ServeError> {
        match self.counted(call, urgency, asked).await? {
            Answered::Tensors(outputs) => Ok(outputs),
            // The worker has mistaken the task.
            Answered::Whole(_) | Answered::InPieces(..) => Err(ServeError::WorkerDied),
        }
    }
}
