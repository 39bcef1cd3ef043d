//! The Open Inference Protocol (KServe's version 2) with its extension for binary tensors: named tensors in, named tensors out.
//!
//! A TorchScript model is called itself, without its handler; where there is none, `infer` hands the body to the handler, as TorchServe does.

mod decode;
mod elements;
mod encode;
mod error;
mod types;

use axum::body::Body;
use axum::body::Bytes;
use axum::extract::Path;
use axum::extract::State;
use axum::extract::rejection::PathRejection;
use axum::http::HeaderMap;
use axum::http::HeaderName;
use axum::http::Method;
use axum::http::Response;
use axum::http::StatusCode;
use axum::http::header;
use axum::http::request::Parts;
use axum::response::IntoResponse;
use serde::Deserialize;
use utoipa_axum::router::UtoipaMethodRouterExt;
use utoipa_axum::routes;

use self::decode::Decoded;
use self::encode::Head;
use self::error::Form;
use self::error::ProtocolError;
use self::types::Live;
use self::types::Metadata;
use self::types::ModelReady;
use self::types::Ready;
use self::types::ServerMetadata;
use super::Api;
use super::body;
use super::document::Route;
use super::document::Routes;
use super::document::View;
use super::document::also_at;
use super::document::describing_its_model;
use super::error::ApiError;
use super::inference;
use super::inference::Call;
use super::inference::urgency;
use super::reply;
use super::reply::RequestId;
use crate::metrics::AskedVersion;
use crate::serving::Answerer;
use crate::serving::Endpoint;
use crate::serving::EndpointState;
use crate::serving::Signature;
use crate::serving::Verb;

/// Which model a path names.
#[derive(Debug, Deserialize)]
struct Target {
    #[serde(rename = "model_name")]
    model: String,
    #[serde(rename = "model_version")]
    version: Option<String>,
}

type Named = Result<Path<Target>, PathRejection>;

/// Says where the JSON of a body ends and the binary tensors begin.
const JSON_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");

pub(super) fn routes() -> Routes {
    let at_version =
        |route, end: &str| also_at(route, &[&format!("/v2/models/{{model_name}}/versions/{{model_version}}{end}")]);
    // TorchServe infers whatever the method is.
    let infer = at_version(routes!(infer).map(|route| route.fallback(infer)), "/infer");
    let explain = at_version(routes!(explain).map(|route| route.fallback(explain)), "/explain");
    Routes::default()
        .routes(read_only(routes!(server)))
        .routes(read_only(routes!(live)))
        .routes(read_only(routes!(ready)))
        .routes(read_only(at_version(routes!(metadata), "")))
        .routes(read_only(at_version(routes!(model_ready), "/ready")))
        .routes(describing_its_model(infer, View::Inference))
        .routes(describing_its_model(explain, View::Inference))
}

fn read_only(route: Route) -> Route {
    route.map(|route| route.fallback(async || ProtocolError::method_not_allowed()))
}

/// Says what this server is.
#[utoipa::path(
    get,
    path = "/v2",
    operation_id = "v2_server",
    responses((status = 200, description = "Its name, its version and what it has beyond the protocol.", body = ServerMetadata))
)]
async fn server() -> Response<Body> {
    reply::json(StatusCode::OK, &ServerMetadata::default())
}

/// Says that the server is there.
#[utoipa::path(
    get,
    path = "/v2/health/live",
    operation_id = "v2_live",
    responses((status = 200, description = "It is.", body = Live))
)]
async fn live() -> Response<Body> {
    reply::json(StatusCode::OK, &Live { live: true })
}

/// Says whether the models that the server was started with are ready.
#[utoipa::path(
    get,
    path = "/v2/health/ready",
    operation_id = "v2_ready",
    responses(
        (status = 200, description = "They are.", body = Ready),
        (status = 503, description = "They aren't all.", body = Ready),
    )
)]
async fn ready(State(api): State<Api>) -> Response<Body> {
    let ready = api.registry.is_ready();
    reply::json(status(ready), &Ready { ready })
}

/// Says whether a model is ready.
#[utoipa::path(
    get,
    path = "/v2/models/{model_name}/ready",
    operation_id = "v2_modelReady",
    responses(
        (status = 200, description = "It is.", body = ModelReady),
        (status = 503, description = "It isn't.", body = ModelReady),
    )
)]
async fn model_ready(State(api): State<Api>, target: Named) -> Result<Response<Body>, ProtocolError> {
    let (target, endpoint) = find(&api, target)?;
    let ready = endpoint.is_ready();
    Ok(reply::json(status(ready), &ModelReady { name: target.model, ready }))
}

/// Says what a model takes and gives, as far as that is known.
#[utoipa::path(
    get,
    path = "/v2/models/{model_name}",
    operation_id = "v2_model",
    responses(
        (status = 200, description = "Its versions, inputs and outputs.", body = Metadata),
        (status = 503, description = "It isn't loaded.", body = Form),
    )
)]
async fn metadata(State(api): State<Api>, target: Named) -> Result<Response<Body>, ProtocolError> {
    let (target, endpoint) = find(&api, target)?;
    let versions = api.registry.versions(&target.model).map_err(ApiError::from)?;
    let versions = versions.iter().map(|endpoint| endpoint.version().to_string()).collect();
    let metadata = match endpoint.answerer() {
        Answerer::Model(signature) => Metadata::of_model(target.model, versions, &signature),
        Answerer::Handler => Metadata::of_handler(target.model, versions),
        Answerer::Unknown => return Err(not_loaded(&target, &endpoint)),
    };
    Ok(reply::json(StatusCode::OK, &metadata))
}

/// Infers: calls a TorchScript model itself with the named inputs, or hands the body to the handler.
///
/// Whatever the method of the request is, it is answered as this one.
/// Inputs and outputs may also travel as bytes behind the JSON; `Inference-Header-Content-Length` is then its length.
#[utoipa::path(
    post,
    path = "/v2/models/{model_name}/infer",
    operation_id = "v2_infer",
    params(("Inference-Header-Content-Length" = Option<u64>, Header, nullable = false, description = "The length of the JSON, where bytes follow it.")),
    request_body(content((decode::Body = "application/json"), (Value = "application/octet-stream"))),
    responses(
        (status = 200, description = "The outputs, or what the handler answers.", content((encode::Answer = "application/json"), (Value = "application/octet-stream"))),
        (status = 400, description = "The request is no inference request, or doesn't fit the model.", body = Form),
        (status = 413, description = "The body is larger than max_request_size; the answer has none."),
        (status = 500, description = "The model or the handler failed.", body = Form),
        (status = 503, description = "The queue is full, or no worker serves the model.", body = Form),
        (status = 504, description = "The model was too busy to answer within clientTimeoutInMills.", body = Form),
        (status = 507, description = "The device has too little memory.", body = Form),
    )
)]
async fn infer(
    State(api): State<Api>,
    target: Named,
    request: axum::extract::Request,
) -> Result<Response<Body>, ProtocolError> {
    let (head, body) = taken(&api, request).await?;
    let (target, endpoint) = find(&api, target)?;
    match endpoint.answerer() {
        Answerer::Model(signature) => call(&target, &endpoint, &signature, &head, body).await,
        Answerer::Handler => pass_on(&api, target, Verb::Predict, head, body).await,
        Answerer::Unknown => Err(not_loaded(&target, &endpoint)),
    }
}

/// Asks a model's handler to explain its prediction.
///
/// Whatever the method of the request is, it is answered as this one.
#[utoipa::path(
    post,
    path = "/v2/models/{model_name}/explain",
    operation_id = "v2_explain",
    request_body(content((Value = "application/json"))),
    responses(
        (status = 200, description = "What the handler answers.", content((Value = "application/json"))),
        (status = 400, description = "The handler refuses the request.", body = Form),
        (status = 413, description = "The body is larger than max_request_size; the answer has none."),
        (status = 500, description = "The handler failed.", body = Form),
        (status = 501, description = "The model's handler explains nothing.", body = Form),
        (status = 503, description = "The queue is full, or no worker serves the model.", body = Form),
        (status = 504, description = "The model was too busy to answer within clientTimeoutInMills.", body = Form),
    )
)]
async fn explain(
    State(api): State<Api>,
    target: Named,
    request: axum::extract::Request,
) -> Result<Response<Body>, ProtocolError> {
    let (head, body) = taken(&api, request).await?;
    let (target, _) = find(&api, target)?;
    pass_on(&api, target, Verb::Explain, head, body).await
}

/// Calls the model itself.
async fn call(
    target: &Target,
    endpoint: &Endpoint,
    signature: &Signature,
    head: &Parts,
    body: Bytes,
) -> Result<Response<Body>, ProtocolError> {
    let Decoded { id, call, binary } = match json_length(&head.headers)? {
        Some(0) => decode::raw(body, signature),
        length => decode::decode(&body, length),
    }
    .map_err(ApiError::bad_request)?;
    let outputs = endpoint
        .infer(call, urgency(&head.headers), AskedVersion::of(target.version.as_deref()))
        .await
        .map_err(|error| ApiError::serving(&error, &target.model, target.version.as_deref()))?;
    let version = endpoint.version().to_string();
    let id = id.unwrap_or_else(|| RequestId::of(head).text());
    let answer = Head { model_name: &target.model, model_version: &version, id: &id };
    let encoded = encode::encode(&answer, &outputs, &binary).map_err(ApiError::bad_request)?;
    Ok(match encoded.json_length {
        None => ([(header::CONTENT_TYPE, "application/json")], encoded.body).into_response(),
        Some(length) => {
            let kind = (header::CONTENT_TYPE, "application/octet-stream".to_owned());
            ([kind, (JSON_LENGTH, length.to_string())], encoded.body).into_response()
        }
    })
}

/// Lets the handler answer: the body is its own to read.
async fn pass_on(
    api: &Api,
    target: Target,
    verb: Verb,
    head: Parts,
    body: Bytes,
) -> Result<Response<Body>, ProtocolError> {
    let mut fields = body::fields_of(&head.headers, body).await?;
    if !head.headers.contains_key(header::CONTENT_TYPE) {
        // What the protocol sends, so that the handler reads it as such.
        fields.iter_mut().for_each(|field| "application/json".clone_into(&mut field.content_type));
    }
    let call = Call { model: target.model, version: target.version, verb: Some(verb), url_path: None, fields };
    Ok(inference::ask(api, head, call).await?)
}

/// The body first: a client that is still sending wouldn't read an answer.
async fn taken(api: &Api, request: axum::extract::Request) -> Result<(Parts, Bytes), ProtocolError> {
    if request.method() == Method::OPTIONS {
        // A browser that asks what is allowed must not cost an inference.
        return Err(ProtocolError::method_not_allowed());
    }
    let (head, body) = request.into_parts();
    let body = body::read(&head.headers, body, api.body_limits).await?;
    Ok((head, body))
}

fn find(api: &Api, target: Named) -> Result<(Target, std::sync::Arc<Endpoint>), ProtocolError> {
    let Path(target) = target.map_err(|rejection| ApiError::bad_request(rejection.body_text()))?;
    let endpoint = api.registry.find(&target.model, target.version.as_deref()).map_err(ApiError::from)?;
    Ok((target, endpoint))
}

fn not_loaded(target: &Target, endpoint: &Endpoint) -> ProtocolError {
    let model = &target.model;
    ProtocolError::from(ApiError::unavailable(match endpoint.status().state {
        EndpointState::Failed => {
            format!("Model \"{model}\" is not served. Describe it on the management address to see why.")
        }
        EndpointState::Idle => {
            format!("Model \"{model}\" has no worker. Please use scale workers API to add workers.")
        }
        EndpointState::Loading | EndpointState::Ready => {
            format!("Model \"{model}\" is being loaded. Send the request again once /v2/models/{model}/ready is true.")
        }
    }))
}

/// The length of the JSON, where the body has binary tensors behind it.
fn json_length(headers: &HeaderMap) -> Result<Option<usize>, ApiError> {
    let Some(value) = headers.get(JSON_LENGTH) else { return Ok(None) };
    let length = value.to_str().ok().and_then(|value| value.trim().parse().ok());
    length.map(Some).ok_or_else(|| {
        ApiError::bad_request(format!(
            "the header Inference-Header-Content-Length is {value:?}, and must be the length of the JSON in bytes"
        ))
    })
}

fn status(ready: bool) -> StatusCode {
    if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}
