//! What a handler is told of its model and its server before its first request.

use handler_sdk::ContextInfo;
use handler_sdk::Device;
use handler_sdk::ModelKind;
use serde_json::Value;

use super::endpoint::Endpoint;
use super::source::Source;
use crate::config::RequestConfig;

pub(super) fn context(
    endpoint: &Endpoint,
    source: &Source,
    kind: Option<ModelKind>,
    requests: &RequestConfig,
) -> ContextInfo {
    let settings = &source.settings;
    let mut properties = vec![
        ("batch_size".to_owned(), settings.batch.asked_size().to_string()),
        ("server_name".to_owned(), "sconce".to_owned()),
        ("server_version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
        ("limit_max_image_pixels".to_owned(), requests.limit_image_pixels.to_string()),
    ];
    if let Device::Cuda(index) = settings.device {
        properties.push(("gpu_id".to_owned(), index.to_string()));
    }
    let package = &source.package;
    ContextInfo {
        model_name: endpoint.name().to_string(),
        model_version: endpoint.version().to_string(),
        model_dir: package.root.clone(),
        device: settings.device.to_string(),
        model_kind: kind,
        properties: properties.into_iter().collect(),
        config: package.config.as_ref().map_or(Value::Null, |config| config.value.clone()),
    }
}
