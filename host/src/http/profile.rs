//! Profiles over HTTP: where the time of one request goes, or of the next batches that clients send.

use std::ops::RangeInclusive;
use std::time::Duration;

use axum::body::Body;
use axum::body::Bytes;
use axum::extract::Path;
use axum::extract::Request;
use axum::extract::State;
use axum::extract::rejection::PathRejection;
use axum::http::Response;
use axum::http::StatusCode;
use axum::http::Uri;
use axum::http::header;
use axum::response::IntoResponse;
use http_body_util::BodyExt;
use utoipa::IntoParams;
use utoipa::openapi::path::Parameter;
use utoipa::openapi::path::ParameterIn;
use utoipa_axum::routes;

use super::Api;
use super::document::Kind;
use super::document::Routes;
use super::document::also_at;
use super::document::query;
use super::error::ApiError;
use super::error::Form;
use super::inference;
use super::inference::Call;
use super::management::Target;
use super::parameters::Parameters;
use super::reply;
use super::reply::Reply;
use super::reply::RequestId;
use crate::serving::EndpointState;
use crate::serving::ServeError;
use crate::serving::Subject;
use crate::serving::Trace;
use crate::serving::TracedAnswer;

/// How a trace is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    /// Chrome's trace event format.
    Chrome,
    Table,
}

/// Which batches are wanted, and how long they are waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Watch {
    format: Format,
    batches: usize,
    timeout: Duration,
}

const BATCHES: RangeInclusive<u64> = 1..=100;
/// In seconds.
const TIMEOUTS: RangeInclusive<u64> = 1..=600;
const TIMEOUT: u64 = 30;

pub(super) fn routes() -> Routes {
    let mut both = also_at(routes!(watch, ask), &["/models/{model_name}/{model_version}/profile"]);
    for operation in both.1.paths.values_mut().filter_map(|item| item.post.as_mut()) {
        operation.request_body = Some(inference::request_body().into());
    }
    Routes::default().routes(both)
}

/// Traces the next batches that clients send a model: the stages of its handler, and libtorch's operators with their shapes.
///
/// It waits until there are as many as are wanted, or until the time is up, and then tells of those that came.
#[utoipa::path(
    get,
    path = "/models/{model_name}/profile",
    operation_id = "profileBatches",
    params(Watch),
    responses(
        (status = 200, description = "The trace, in the format that was asked for.", body = Object),
        (status = 400, description = "A parameter is wrong.", body = Form),
        (status = 408, description = "No batch came in time.", body = Form),
        (status = 409, description = "The model is being profiled already.", body = Form),
        (status = 503, description = "The model has no worker.", body = Form),
    )
)]
async fn watch(State(api): State<Api>, target: Result<Path<Target>, PathRejection>, uri: Uri) -> Reply {
    let Path(Target { model, version }) = target?;
    let Watch { format, batches, timeout } = Watch::of(&Parameters::of_query(&uri))?;
    let endpoint = api.registry.find(&model, version.as_deref())?;
    if matches!(endpoint.status().state, EndpointState::Idle | EndpointState::Failed) {
        return Err(ApiError::serving(&ServeError::NoWorker, &model, version.as_deref()));
    }
    let trace = endpoint.profile(Subject::Batches(batches))?.wait(timeout).await;
    if trace.is_empty() {
        return Err(ApiError::request_timeout(format!(
            "No batch of model \"{model}\" was answered within {} s. Send it requests while this waits, or POST one to this path.",
            timeout.as_secs()
        )));
    }
    write(trace, format).await
}

/// Asks a model for a prediction, and answers with a trace of it in place of what the model says: the stages of its handler, and libtorch's operators with their shapes.
///
/// The request shares batches with others, as any does. The trace tells the status of the answer and its size.
#[utoipa::path(
    post,
    path = "/models/{model_name}/profile",
    operation_id = "profileRequest",
    params(Format),
    responses(
        (status = 200, description = "The trace, in the format that was asked for.", body = Object),
        (status = 400, description = "A parameter is wrong, or the body can't be read.", body = Form),
        (status = 408, description = "The body came too slowly.", body = Form),
        (status = 409, description = "The model is being profiled already.", body = Form),
        (status = 413, description = "The body is larger than max_request_size; the answer has none."),
        (status = 500, description = "The handler took longer than responseTimeout.", body = Form),
        (status = 503, description = "The queue is full, or no worker serves the model.", body = Form),
        (status = 504, description = "The model was too busy to answer within clientTimeoutInMills.", body = Form),
    )
)]
async fn ask(State(api): State<Api>, target: Result<Path<Target>, PathRejection>, request: Request) -> Reply {
    let Path(Target { model, version }) = target?;
    let (head, fields) = match inference::read(&api, request).await {
        Ok(read) => read,
        Err(refusal) => return Ok(refusal),
    };
    let format = Format::of(&Parameters::of_query(&head.uri))?;
    let endpoint = api.registry.find(&model, version.as_deref())?;
    let profiling = endpoint.profile(Subject::Request(RequestId::of(&head).text()))?;
    let call = Call { model, version, verb: None, url_path: None, fields };
    let (parts, body) = inference::answer(&api, head, call).await.into_parts();
    let body = read_to_the_end(body).await;
    let trace = profiling.finish();
    if trace.is_empty() {
        // It never came to a worker, and the answer says why.
        return match parts.status.is_success() {
            true => Err(ApiError::unavailable("The model was changed in the middle of the profile. Ask again.")),
            false => Ok(Response::from_parts(parts, Body::from(body))),
        };
    }
    let content_type = parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let content_type = content_type.map(str::to_owned);
    let answer = TracedAnswer { status: parts.status.as_u16(), content_type, bytes: body.len() };
    write(trace.with_answer(answer), format).await
}

/// All of an answer, which may come in pieces; what came of it where it breaks off.
async fn read_to_the_end(mut body: Body) -> Bytes {
    let mut whole = Vec::new();
    while let Some(Ok(frame)) = body.frame().await {
        if let Ok(bytes) = frame.into_data() {
            whole.extend_from_slice(&bytes);
        }
    }
    whole.into()
}

/// A trace may be long, so it is written where nobody else waits for it.
async fn write(trace: Trace, format: Format) -> Reply {
    let written = tokio::task::spawn_blocking(move || match format {
        Format::Chrome => trace.chrome().map(|text| reply::json_text(StatusCode::OK, text)),
        Format::Table => Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], trace.table()).into_response()),
    });
    let written = written.await.map_err(|_| ApiError::internal("Writing the trace panicked; this is a bug."))?;
    written.map_err(|error| ApiError::internal(format!("The trace can't be written as JSON: {error}")))
}

// === impl Format ===

impl Format {
    fn of(parameters: &Parameters) -> Result<Self, ApiError> {
        match parameters.text("format").unwrap_or_default() {
            "" | "chrome" => Ok(Self::Chrome),
            "table" => Ok(Self::Table),
            other => Err(ApiError::bad_request(format!("format must be chrome or table, not {other:?}."))),
        }
    }
}

impl IntoParams for Format {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let format = "`chrome`, for ui.perfetto.dev and chrome://tracing, or `table`, for people; where it isn't given, `chrome`.";
        vec![query("format", Kind::Text, format)]
    }
}

// === impl Watch ===

impl Watch {
    fn of(parameters: &Parameters) -> Result<Self, ApiError> {
        let number = |name: &str, range: RangeInclusive<u64>, default| {
            let Some(text) = parameters.filled(name) else { return Ok(default) };
            let number = text.trim().parse().ok().filter(|number| range.contains(number));
            let (first, last) = (range.start(), range.end());
            number.ok_or_else(|| {
                ApiError::bad_request(format!("{name} must be a number from {first} to {last}, not {text:?}."))
            })
        };
        Ok(Self {
            format: Format::of(parameters)?,
            batches: usize::try_from(number("batches", BATCHES, 1)?).unwrap_or(usize::MAX),
            timeout: Duration::from_secs(number("timeout", TIMEOUTS, TIMEOUT)?),
        })
    }
}

impl IntoParams for Watch {
    fn into_params(parameter_in: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let mut all = Format::into_params(parameter_in);
        all.push(query("batches", Kind::NumberOr(1), "How many batches to trace, at most 100."));
        all.push(query("timeout", Kind::NumberOr(30), "How long to wait for them, in seconds, at most 600."));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(query: &str) -> Result<Watch, String> {
        let uri: Uri = format!("/models/m/profile?{query}").parse().unwrap();
        Watch::of(&Parameters::of_query(&uri)).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn what_is_no_value_of_a_parameter_is_refused_with_what_is_one() {
        let expected = |format, batches, seconds| Ok(Watch { format, batches, timeout: Duration::from_secs(seconds) });
        assert_eq!(watch(""), expected(Format::Chrome, 1, 30));
        assert_eq!(watch("format=&batches=&timeout="), expected(Format::Chrome, 1, 30));
        assert_eq!(watch("format=table&batches=100&timeout=600"), expected(Format::Table, 100, 600));
        for (query, text) in [
            ("format=xml", "format must be chrome or table, not \"xml\"."),
            ("batches=0", "batches must be a number from 1 to 100, not \"0\"."),
            ("batches=many", "batches must be a number from 1 to 100, not \"many\"."),
            ("timeout=601", "timeout must be a number from 1 to 600, not \"601\"."),
            ("timeout=-1", "timeout must be a number from 1 to 600, not \"-1\"."),
        ] {
            assert_eq!(watch(query), Err(text.to_owned()), "{query}");
        }
    }
}
