//! The JSON that clients of the protocol read.

use serde::Serialize;
use utoipa::ToSchema;

use crate::serving::KnownTensor;
use crate::serving::Signature;
use crate::serving::datatype_name;

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ServerMetadata {
    name: &'static str,
    version: &'static str,
    #[schema(value_type = Vec<String>)]
    extensions: [&'static str; 1],
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Live {
    pub(super) live: bool,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Ready {
    pub(super) ready: bool,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ModelReady {
    pub(super) name: String,
    pub(super) ready: bool,
}

/// What is known of a model's tensors, and nothing that isn't.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Metadata {
    name: String,
    /// All that may be asked for.
    versions: Vec<String>,
    platform: &'static str,
    inputs: Vec<Tensor>,
    outputs: Vec<Tensor>,
    properties: Properties,
}

#[derive(Debug, Serialize, ToSchema)]
struct Tensor {
    name: String,
    /// Empty where it isn't known, as the protocol's gRPC form says it.
    datatype: &'static str,
    shape: Vec<i64>,
}

/// How the rest is to be read.
#[derive(Debug, Serialize, ToSchema)]
struct Properties {
    inputs: &'static str,
}

// === impl ServerMetadata ===

impl Default for ServerMetadata {
    fn default() -> Self {
        Self { name: "sconce", version: env!("CARGO_PKG_VERSION"), extensions: ["binary_tensor_data"] }
    }
}

// === impl Metadata ===

impl Metadata {
    pub(super) fn of_model(name: String, versions: Vec<String>, signature: &Signature) -> Self {
        let inputs = if signature.declares_inputs() {
            "declared by the model's archive; a request is held against them"
        } else {
            "the parameters of the model's code; datatypes and shapes aren't declared, and are left empty. \
             A request may name its inputs otherwise, as INPUT__0 and INPUT__1; then they are taken in that order. \
             To declare them, list inputs and outputs in model-config.yaml"
        };
        Self {
            name,
            versions,
            platform: "pytorch_torchscript",
            inputs: signature.inputs().into_iter().map(Tensor::from).collect(),
            outputs: signature.outputs().into_iter().map(Tensor::from).collect(),
            properties: Properties { inputs },
        }
    }

    pub(super) fn of_handler(name: String, versions: Vec<String>) -> Self {
        Self {
            name,
            versions,
            platform: "sconce_handler",
            inputs: Vec::new(),
            outputs: Vec::new(),
            properties: Properties { inputs: "up to the model's handler, which gets the body as it is" },
        }
    }
}

impl From<KnownTensor> for Tensor {
    fn from(known: KnownTensor) -> Self {
        let (datatype, shape) = known.spec.map_or(("", Vec::new()), |(kind, shape)| (datatype_name(kind), shape));
        Self { name: known.name, datatype, shape }
    }
}
