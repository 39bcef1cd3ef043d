//! Health, and all routes that ask a model: each turns its path into a [`Call`], and one place answers.

mod described;
mod envelope;
mod kserve;
mod legacy;
mod predict;
mod sagemaker;

use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::Method;
use axum::http::Response;
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::IntoResponse;
use utoipa_axum::router::UtoipaMethodRouterExt;
use utoipa_axum::routes;

use self::envelope::Refusal;
use super::Api;
use super::body;
use super::document::Routes;
use super::document::also_at;
use super::error;
use super::error::ApiError;
use super::reply;
use super::reply::RequestId;
use super::types::Status;
use crate::config::Envelope;
use crate::metrics::AskedVersion;
use crate::serving::Answered;
use crate::serving::Field;
use crate::serving::Headers;
use crate::serving::Request;
use crate::serving::ServeError;
use crate::serving::Urgency;
use crate::serving::Verb;

pub(super) use described::request_body;
pub(super) use kserve::status_routes;

/// What a path and its request ask of a model.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) model: String,
    pub(super) version: Option<String>,
    /// `None` where the path leaves it to the client's headers.
    pub(super) verb: Option<Verb>,
    /// What follows the version in the path; handlers see it as the header of that name.
    pub(super) url_path: Option<String>,
    pub(super) fields: Vec<Field>,
}

/// Headers that say what is asked of the handler: set by the server where the path says it.
const EXPLAIN: &str = "explain";
const DESCRIBE: &str = "describe";
const URL_PATH: &str = "url_path";

pub(super) fn routes() -> Routes {
    // TorchServe answers whatever the method is, and so do all of these.
    Routes::default()
        .routes(also_at(routes!(ping).map(|route| route.fallback(ping)), &["/ping/{*rest}"]))
        .merge(predict::routes())
        .merge(kserve::routes())
        .merge(sagemaker::routes())
        .merge(legacy::routes())
}

/// Says whether the server is healthy, whatever the method of the request and the rest of the path are.
#[utoipa::path(
    get,
    path = "/ping",
    operation_id = "ping",
    responses(
        (status = 200, description = "`Healthy`.", body = Status),
        (status = 500, description = "`Unhealthy`: a model has fewer healthy workers than it should.", body = Status),
    )
)]
async fn ping(State(api): State<Api>) -> Response<Body> {
    if api.registry.list().iter().all(|endpoint| endpoint.is_healthy()) {
        reply::json(StatusCode::OK, &Status::new("Healthy"))
    } else {
        reply::json(StatusCode::INTERNAL_SERVER_ERROR, &Status::new("Unhealthy"))
    }
}

/// Reads a request to its end: its head, and the fields of its body.
///
/// The model is looked up afterwards: a client that is still sending wouldn't read an answer.
pub(super) async fn read(api: &Api, request: axum::extract::Request) -> Result<(Parts, Vec<Field>), Response<Body>> {
    if request.method() == Method::OPTIONS {
        // A browser that asks what is allowed must not cost an inference.
        return Err(error::method_not_allowed().await.into_response());
    }
    let (head, body) = request.into_parts();
    let fields = body::fields(&head.headers, body, api.body_limits).await;
    fields.map(|fields| (head, fields)).map_err(IntoResponse::into_response)
}

/// The same, with the parameters of the query before the fields of the body.
async fn read_with_query(api: &Api, request: axum::extract::Request) -> Result<(Parts, Vec<Field>), Response<Body>> {
    let (head, fields) = read(api, request).await?;
    match body::with_query(head.uri.query(), fields) {
        Ok(fields) => Ok((head, fields)),
        Err(error) => Err(error.into_response()),
    }
}

/// Asks the model, and gives its answer, or what went wrong in TorchServe's form.
pub(super) async fn answer(api: &Api, head: Parts, call: Call) -> Response<Body> {
    ask_in(api.envelope, api, head, call).await.unwrap_or_else(IntoResponse::into_response)
}

/// Asks the model for one answer, whatever envelopes other routes have, and gives it.
pub(super) async fn ask(api: &Api, head: Parts, call: Call) -> Result<Response<Body>, ApiError> {
    ask_in(Envelope::None, api, head, call).await
}

async fn ask_in(envelope: Envelope, api: &Api, head: Parts, call: Call) -> Result<Response<Body>, ApiError> {
    let Call { model, version, verb, url_path, fields } = call;
    let version = version.as_deref();
    let endpoint = api.registry.find(&model, version)?;
    let mut headers = as_handlers_see(&head.headers, url_path.as_ref().map_or(0, String::len));
    let says = |name| head.headers.get(name).is_some_and(|value| value == "True");
    if let Some(by_path) = verb {
        headers.set(EXPLAIN, if by_path == Verb::Explain { "True" } else { "False" });
    }
    if let Some(url_path) = url_path {
        headers.set(URL_PATH, &url_path);
    }
    let verb = match verb {
        _ if says(DESCRIBE) => Verb::Describe,
        Some(verb) => verb,
        None if says(EXPLAIN) => Verb::Explain,
        None => Verb::Predict,
    };
    let (id, urgency) = (RequestId::of(&head), urgency(&head.headers));
    // Its words lie in the connection's buffer, all of which is held for them.
    drop(head);
    let request = Request { verb, id: id.text(), headers, fields };
    if verb != Verb::Describe && envelope::is_closed(envelope) {
        let ask = |request| endpoint.predict(request, urgency, AskedVersion::of(version));
        // As many at a time as can share a batch: a long list must not fill the queue.
        // In a place of its own: few requests need the room that this takes.
        let answer = Box::pin(envelope::answer(envelope, request, endpoint.largest_batch(), ask)).await;
        return answer.map_err(|refusal| match refusal {
            Refusal::Request(error) => error,
            Refusal::Serving(error) => ApiError::serving(&error, &model, version),
        });
    }
    match endpoint.ask(request, urgency, AskedVersion::of(version)).await {
        Ok(Answered::Whole(answer)) => Ok(reply::answer(answer)),
        Ok(Answered::InPieces(first, pieces)) => {
            let metrics = api.registry.metrics().clone();
            Ok(reply::in_pieces(first, pieces, move |error| {
                let (model, version) = (endpoint.name(), endpoint.version());
                tracing::warn!(%model, %version, request = id.text(), %error, "an answer broke off after its first piece");
                metrics.answer_broken_off(model, version);
            }))
        }
        // The worker has mistaken the task.
        Ok(Answered::Tensors(_)) => Err(ApiError::serving(&ServeError::WorkerDied, &model, version)),
        Err(error) if verb == Verb::Describe => Err(ApiError::describing(&error, &model, version)),
        Err(error) => Err(ApiError::serving(&error, &model, version)),
    }
}

/// What the header `priority` says, in the form of RFC 9218: `u=0` for the most urgent to `u=7`.
pub(super) fn urgency(headers: &HeaderMap) -> Urgency {
    let value = headers.get("priority").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let number = value.split(',').find_map(|item| item.trim().strip_prefix("u=")?.parse().ok());
    number.map_or_else(Urgency::default, Urgency::new)
}

/// The client's headers; one that isn't text is left out. There is room for those that the server sets, with a path of that length.
fn as_handlers_see(headers: &HeaderMap, url_path: usize) -> Headers {
    let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    let ours = [EXPLAIN.len(), "False".len(), URL_PATH.len(), url_path];
    let mut all = Headers::with_room(headers.len() + 2, bytes + ours.iter().sum::<usize>());
    for (name, value) in headers {
        if let Ok(value) = value.to_str() {
            all.push(name.as_str(), value);
        }
    }
    all
}
