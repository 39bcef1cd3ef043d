//! What changes what is served: register, scale, set the default version, unregister.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Path;
use axum::extract::State;
use axum::extract::rejection::PathRejection;
use axum::http::Response;
use axum::http::StatusCode;
use axum::http::Uri;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa::openapi::Content;
use utoipa::openapi::Paths;
use utoipa::openapi::RefOr;
use utoipa::openapi::Required;
use utoipa::openapi::path::Parameter;
use utoipa::openapi::path::ParameterIn;
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::ObjectBuilder;
use utoipa_axum::routes;

use super::Api;
use super::body;
use super::body::BadBody;
use super::body::BodyLimits;
use super::document::Kind;
use super::document::Routes;
use super::document::also_at;
use super::document::query;
use super::error;
use super::error::ApiError;
use super::error::Form;
use super::management::Target;
use super::parameters::Parameters;
use super::reply;
use super::reply::Reply;
use super::types::Status;
use crate::serving::LookupError;
use crate::serving::Registration;
use crate::serving::Registry;
use crate::serving::Scale;
use crate::serving::ScaleError;
use crate::serving::StartError;

/// One version of a model, which a path names.
#[derive(Debug, Deserialize)]
struct Version {
    #[serde(rename = "model_name")]
    model: String,
    #[serde(rename = "model_version")]
    version: String,
}

/// What is registered, and how.
struct Register;

/// How many workers are wanted, and of which version.
struct Workers;

/// The parameters of a registration are short; a longer body is something else.
const LARGEST_BODY: usize = 1 << 20;

const IN_PROGRESS: &str = "Processing worker updates...";

pub(super) fn routes() -> Routes {
    let mut register = routes!(register);
    take_as_json(&mut register.1, &Register::into_params(|| None));
    Routes::default()
        .routes(register)
        .routes(also_at(routes!(scale, unregister), &["/models/{model_name}/{model_version}"]))
        .routes(routes!(set_default))
}

/// Registers a model: gets its archive, and starts its workers.
///
/// The same parameters may come as the members of a JSON body, which then hides those of the query.
#[utoipa::path(
    post,
    path = "/models",
    operation_id = "registerModel",
    params(Register),
    responses(
        (status = 200, description = "The model is registered, and its workers are ready.", body = Status),
        (status = 202, description = "The model is registered, and its workers are being started.", body = Status),
        (status = 400, description = "A parameter or the archive is wrong, or the archive can't be fetched.", body = Form),
        (status = 404, description = "There is no such archive.", body = Form),
        (status = 405, description = "Models can't be registered here: enable_model_api is false.", body = Form),
        (status = 409, description = "That version is registered already.", body = Form),
        (status = 413, description = "The body is too long; the answer has none."),
        (status = 500, description = "The archive can't be kept, or the workers can't be started.", body = Form),
        (status = 507, description = "The device has too little memory.", body = Form),
    )
)]
async fn register(State(api): State<Api>, request: axum::extract::Request) -> Result<Response<Body>, BadBody> {
    if !api.model_api {
        return Err(error::method_not_allowed().await.into());
    }
    let (head, body) = request.into_parts();
    let limits = BodyLimits { size: LARGEST_BODY, ..api.body_limits };
    let body = body::read(&head.headers, body, limits).await?;
    let parameters = Parameters::of_request(&head.uri, &head.headers, &body)?;
    let registration = registration(&parameters)?;
    let is_synchronous = parameters.switch("synchronous", true);
    let registry = Arc::clone(&api.registry);
    // It goes on even if the client hangs up meanwhile; no code of a plugin runs on that thread.
    Ok(off_the_event_loop(move || take_in(&registry, registration, is_synchronous)).await?)
}

fn registration(parameters: &Parameters) -> Result<Registration, ApiError> {
    let url = parameters.text("url").ok_or_else(|| ApiError::bad_request("Parameter url is required."))?;
    if parameters.switch("s3_sse_kms", false) {
        return Err(ApiError::bad_request(
            "s3_sse_kms is not supported: give a pre-signed URL of the archive, or put the archive into the model store.",
        ));
    }
    let number = |name| parameters.count(name).and_then(|count| usize::try_from(count).ok());
    Ok(Registration {
        url: url.to_owned(),
        name: parameters.filled("model_name"),
        handler: parameters.filled("handler"),
        runtime: parameters.filled("runtime"),
        batch_size: number("batch_size"),
        // A delay of 0 means that nobody waits, so it is a value here.
        max_batch_delay: parameters
            .number("max_batch_delay")
            .and_then(|millis| u64::try_from(millis).ok())
            .map(Duration::from_millis),
        workers: parameters.number("initial_workers").map(|workers| usize::try_from(workers).unwrap_or(0)),
        response_timeout: parameters.count("response_timeout").map(Duration::from_secs),
        startup_timeout: parameters.count("startup_timeout").map(Duration::from_secs),
    })
}

fn take_in(registry: &Arc<Registry>, registration: Registration, is_synchronous: bool) -> Reply {
    let endpoint = registry.take_in(registration)?;
    let (name, version) = (endpoint.name(), endpoint.version());
    let workers = endpoint.settings().scale.min;
    if workers == 0 {
        return Ok(ok(format!(
            "Model \"{name}\" Version: {version} registered with 0 initial workers. Use scale workers API to add workers for the model."
        )));
    }
    if !is_synchronous {
        let (registry, endpoint) = (Arc::clone(registry), Arc::clone(&endpoint));
        // Its failure is in the log.
        drop(tokio::task::spawn_blocking(move || registry.serve(&endpoint)));
        return Ok(reply::json(StatusCode::ACCEPTED, &Status::new(IN_PROGRESS)));
    }
    match registry.serve_or_take_out(&endpoint) {
        Ok(()) => Ok(ok(format!("Model \"{name}\" Version: {version} registered with {workers} initial workers"))),
        Err(StartError::Failed(reason)) => Err(ApiError::no_workers(name.as_str(), Some(version.as_str()), &reason)),
        Err(error @ StartError::Unregistered { .. }) => Err(ApiError::conflict(error.to_string())),
    }
}

/// Changes the number of workers of a model's default version, or of the one that the path names.
#[utoipa::path(
    put,
    path = "/models/{model_name}",
    operation_id = "setAutoScale",
    params(Workers),
    responses(
        (status = 200, description = "There are as many workers now.", body = Status),
        (status = 202, description = "Workers are being started or ended.", body = Status),
        (status = 400, description = "The numbers are wrong.", body = Form),
        (status = 500, description = "The workers can't be started.", body = Form),
        (status = 507, description = "The device has too little memory.", body = Form),
    )
)]
async fn scale(State(api): State<Api>, target: Result<Path<Target>, PathRejection>, uri: Uri) -> Reply {
    let Path(Target { model, version }) = target?;
    let parameters = Parameters::of_query(&uri);
    let version = version.or_else(|| parameters.filled("model_version"));
    let min = parameters.number("min_worker").unwrap_or(1);
    let max = parameters.number("max_worker").unwrap_or(min);
    let (Ok(min), Ok(max)) = (usize::try_from(min), usize::try_from(max)) else {
        return Err(ApiError::bad_request("min_worker and max_worker cannot be less than 0."));
    };
    // Now, while this is the client's latest word.
    let wish = api.registry.wish(&model, version.as_deref(), Scale { min, max })?;
    let registry = Arc::clone(&api.registry);
    if parameters.switch("synchronous", false) {
        let granted = move || match registry.grant(&wish) {
            Ok(()) => {
                let of_version = version.map(|version| format!(", version: {version}")).unwrap_or_default();
                Ok(ok(format!("Workers scaled to {min} for model: {model}{of_version}")))
            }
            Err(ScaleError::Failed(error)) => Err(ApiError::no_workers(&model, version.as_deref(), &error.to_string())),
            Err(error) => Err(error.into()),
        };
        return off_the_event_loop(granted).await;
    }
    drop(tokio::task::spawn_blocking(move || {
        if let Err(error) = registry.grant(&wish) {
            tracing::error!(%model, version, %error, "the number of workers stays as it was");
        }
    }));
    Ok(reply::json(StatusCode::ACCEPTED, &Status::new(IN_PROGRESS)))
}

/// Makes a version the default one.
#[utoipa::path(
    put,
    path = "/models/{model_name}/{model_version}/set-default",
    operation_id = "setDefault",
    responses((status = 200, description = "It is the default version now.", body = Status))
)]
async fn set_default(State(api): State<Api>, target: Result<Path<Version>, PathRejection>) -> Reply {
    let Path(Version { model, version }) = target?;
    match api.registry.set_default(&model, &version) {
        Ok(()) => Ok(ok(format!("Default version successfully updated for model \"{model}\" to \"{version}\""))),
        // The one place where TorchServe words it so.
        Err(error @ LookupError::Version { .. }) => {
            Err(ApiError::from(error).worded(format!("Model version {version} does not exist for model {model}")))
        }
        Err(error) => Err(error.into()),
    }
}

/// Unregisters a model's default version, where it is the only one, or the version that the path names.
///
/// Requests that wait are answered first.
#[utoipa::path(
    delete,
    path = "/models/{model_name}",
    operation_id = "unregisterModel",
    responses(
        (status = 200, description = "It is unregistered.", body = Status),
        (status = 403, description = "It is the default version, and there are others.", body = Form),
        (status = 405, description = "Models can't be unregistered here: enable_model_api is false.", body = Form),
        (status = 408, description = "The workers don't end.", body = Form),
    )
)]
async fn unregister(State(api): State<Api>, target: Result<Path<Target>, PathRejection>) -> Reply {
    if !api.model_api {
        return Err(error::method_not_allowed().await);
    }
    let Path(Target { model, version }) = target?;
    let registry = Arc::clone(&api.registry);
    off_the_event_loop(move || {
        registry.unregister(&model, version.as_deref())?;
        Ok(ok(format!("Model \"{model}\" unregistered")))
    })
    .await
}

fn ok(status: String) -> Response<Body> {
    reply::json(StatusCode::OK, &Status::new(status))
}

/// Runs what blocks where nobody else waits for it.
async fn off_the_event_loop(work: impl FnOnce() -> Reply + Send + 'static) -> Reply {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| ApiError::internal("The request panicked; this is a bug."))?
}

/// Describes these parameters as the members of a JSON body, too.
fn take_as_json(paths: &mut Paths, parameters: &[Parameter]) {
    let mut object = ObjectBuilder::new();
    for parameter in parameters {
        let Some(RefOr::T(mut schema)) = parameter.schema.clone() else { continue };
        if let utoipa::openapi::Schema::Object(schema) = &mut schema {
            schema.description.clone_from(&parameter.description);
        }
        object = object.property(&parameter.name, schema);
        if parameter.required == Required::True {
            object = object.required(&parameter.name);
        }
    }
    let body = RequestBodyBuilder::new().content("application/json", Content::new(Some(object))).build();
    for operation in paths.paths.values_mut().filter_map(|item| item.post.as_mut()) {
        operation.request_body = Some(body.clone().into());
    }
}

// === impl Register ===

impl IntoParams for Register {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let mut url = query(
            "url",
            Kind::Text,
            "The archive: its name in the model store, or an http, https or file URL that allowed_urls allows.",
        );
        url.required = Required::True;
        vec![
            url,
            query("model_name", Kind::Text, "Name of the model, in place of the archive's own."),
            query("handler", Kind::Text, "The handler, in place of the one that the archive names."),
            query("runtime", Kind::Text, "`python`, `python3` or `LSP`, in place of the archive's own."),
            query(
                "batch_size",
                Kind::Number,
                "The most requests that the handler gets at once; where it isn't given, what the archive's model-config.yaml says, else the server finds which sizes pay, and describe says 1.",
            ),
            query(
                "max_batch_delay",
                Kind::Number,
                "The longest wait for a full batch, in milliseconds; where it isn't given, what the archive's model-config.yaml says, else nobody waits while a worker is idle, and describe says 100.",
            ),
            query(
                "initial_workers",
                Kind::Number,
                "The number of workers to start with; where it isn't given, default_workers_per_model.",
            ),
            query("synchronous", Kind::SwitchOr(true), "Whether the answer waits for the workers."),
            query(
                "response_timeout",
                Kind::Number,
                "The longest that a handler may take, in seconds; where it isn't given, default_response_timeout.",
            ),
            query(
                "startup_timeout",
                Kind::Number,
                "The longest that loading may take, in seconds; where it isn't given, default_startup_timeout.",
            ),
            query("s3_sse_kms", Kind::SwitchOr(false), "Refused where it is true: give a pre-signed URL instead."),
        ]
    }
}

// === impl Workers ===

impl IntoParams for Workers {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![
            query("min_worker", Kind::NumberOr(1), "The fewest workers."),
            query("max_worker", Kind::Number, "The most workers; where it isn't given, as many as the fewest."),
            query("synchronous", Kind::SwitchOr(false), "Whether the answer waits for the workers."),
            query("model_version", Kind::Text, "The version, where the path names none."),
        ]
    }
}
