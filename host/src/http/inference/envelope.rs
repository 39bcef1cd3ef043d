//! Envelopes: several inputs in one request, and their outputs in one answer, where `service_envelope` says so.
//!
//! Each input becomes a request of its own, so that handlers know no envelopes, and inputs share batches as any requests do.

use axum::body::Body;
use axum::http::Response;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::IntoResponse;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream;
use handler_sdk::Answer;
use serde_json::Map;
use serde_json::Value;

use crate::config::Envelope;
use crate::http::body::room_for;
use crate::http::error::ApiError;
use crate::http::reply;
use crate::serving::Field;
use crate::serving::Request;
use crate::serving::ServeError;
use crate::serving::Verb;

/// An input of bytes, which JSON can't hold.
const BASE64: &str = "b64";
const BODY: &str = "body";

/// Whether requests hold several inputs. Those of the second KServe protocol have a route that knows them, and a plain body is none.
pub(super) fn is_closed(envelope: Envelope) -> bool {
    match envelope {
        Envelope::Json | Envelope::Kserve => true,
        Envelope::None | Envelope::Body | Envelope::KserveV2 => false,
    }
}

/// Asks for each input, `width` at a time, and puts the outputs together in the same order; the first that fails is the answer to all.
pub(super) async fn answer<F>(
    envelope: Envelope,
    request: Request,
    width: usize,
    ask: impl Fn(Request) -> F,
) -> Result<Response<Body>, Refusal>
where
    F: Future<Output = Result<Answer, ServeError>>,
{
    let instances = open(&request.fields).map_err(Refusal::Request)?;
    let is_explained = envelope == Envelope::Kserve && request.verb == Verb::Explain;
    let name = if is_explained { "explanations" } else { "predictions" };
    // Each is taken apart when its turn comes: as requests they take a hundred times the memory that they take in the body.
    let ask = |instance| {
        let asked = input(instance).map(|fields| ask(Request { fields, ..request.clone() }));
        async { asked.map_err(Refusal::Request)?.await.map_err(Refusal::Serving) }
    };
    let mut answers = stream::iter(instances.into_iter().map(ask)).buffered(width.max(1));
    let mut outputs = Vec::new();
    let mut status = StatusCode::OK;
    while let Some(answer) = answers.next().await {
        let answer = answer?;
        if status == StatusCode::OK {
            status = reply::status(answer.status);
        }
        outputs.push(output(answer));
    }
    let all = Value::Object(Map::from_iter([(name.to_owned(), Value::Array(outputs))]));
    Ok((status, [(header::CONTENT_TYPE, "application/json")], format!("{all:#}")).into_response())
}

/// Why a request in an envelope isn't answered.
pub(super) enum Refusal {
    Request(ApiError),
    Serving(ServeError),
}

/// The inputs.
fn open(fields: &[Field]) -> Result<Vec<Value>, ApiError> {
    let field = |name| fields.iter().find(|field| field.name == name && !field.bytes.is_empty());
    let bytes = field("data").or_else(|| field(BODY)).map(|field| &field.bytes[..]).unwrap_or_default();
    serde_json::from_slice::<Value>(bytes)
        .ok()
        .and_then(|mut whole| whole.get_mut("instances").map(Value::take))
        .and_then(|instances| match instances {
            Value::Array(instances) => Some(instances),
            _ => None,
        })
        .ok_or_else(|| {
            ApiError::bad_request(
                "This server takes its inputs in an envelope (service_envelope): the body must be a JSON object with a list under `instances`.",
            )
        })
}

/// The fields of one input.
fn input(instance: Value) -> Result<Vec<Field>, ApiError> {
    match instance {
        Value::Object(parts) if !is_base64(&parts) => {
            room_for(parts.len())?;
            parts.into_iter().map(|(name, value)| value_field(name, value)).collect()
        }
        whole => Ok(vec![value_field(BODY.to_owned(), whole)?]),
    }
}

fn value_field(name: String, value: Value) -> Result<Field, ApiError> {
    let (content_type, bytes) = match value {
        Value::String(text) => ("text/plain", text.into_bytes()),
        Value::Object(parts) if is_base64(&parts) => {
            let text = parts.get(BASE64).and_then(Value::as_str).unwrap_or_default();
            let bytes = STANDARD.decode(text).map_err(|error| {
                ApiError::bad_request(format!("An instance's `{BASE64}` is not well-formed base64: {error}"))
            })?;
            ("", bytes)
        }
        value => ("application/json", value.to_string().into_bytes()),
    };
    Ok(Field { name, content_type: content_type.to_owned(), bytes: Bytes::from(bytes) })
}

fn is_base64(parts: &Map<String, Value>) -> bool {
    parts.len() == 1 && parts.get(BASE64).is_some_and(Value::is_string)
}

/// JSON as it is, else text, else bytes as they come in.
fn output(answer: Answer) -> Value {
    if let Ok(value) = serde_json::from_slice(&answer.body) {
        return value;
    }
    match String::from_utf8(answer.body) {
        Ok(text) => Value::String(text),
        Err(bytes) => {
            let text = STANDARD.encode(bytes.as_bytes());
            Value::Object(Map::from_iter([(BASE64.to_owned(), Value::String(text))]))
        }
    }
}

#[cfg(test)]
mod tests {
    use handler_sdk::Response;
    use serde_json::json;

    use super::*;

    type Row = (String, String, Vec<u8>);

    fn opened(body: &str) -> Option<Vec<Vec<Row>>> {
        let body = Field { name: BODY.to_owned(), content_type: String::new(), bytes: Bytes::from(body.to_owned()) };
        let rows = |fields: Vec<Field>| {
            fields.into_iter().map(|field| (field.name, field.content_type, field.bytes.to_vec())).collect()
        };
        open(&[body]).ok()?.into_iter().map(|instance| input(instance).ok().map(rows)).collect()
    }

    #[test]
    fn each_instance_becomes_the_fields_of_a_request() {
        let row = |name: &str, kind: &str, bytes: &[u8]| (name.to_owned(), kind.to_owned(), bytes.to_vec());
        for (instances, expected) in [
            (json!([]), vec![]),
            (
                json!(["text", [1, 2]]),
                vec![vec![row("body", "text/plain", b"text")], vec![row("body", "application/json", b"[1,2]")]],
            ),
            (json!([{"b64": "AP8="}]), vec![vec![row("body", "", b"\x00\xff")]]),
            (
                json!([{"data": {"b64": "AP8="}, "target": 0}]),
                vec![vec![row("data", "", b"\x00\xff"), row("target", "application/json", b"0")]],
            ),
        ] {
            assert_eq!(opened(&json!({"instances": instances}).to_string()), Some(expected), "{instances}");
        }
        for bad in ["", "[1]", "{}", "{\"instances\": 1}", "{\"instances\": [{\"b64\": \"?\"}]}"] {
            assert_eq!(opened(bad), None, "{bad:?}");
        }
        let wide: Map<String, Value> = (0..1025).map(|index| (index.to_string(), json!(0))).collect();
        assert_eq!(opened(&json!({"instances": [wide]}).to_string()), None);
    }

    #[test]
    fn each_output_is_what_json_can_say_of_it() {
        let output = |response: Response| output(response.outcome().unwrap().clone());
        assert_eq!(output(Response::text("7")), json!(7));
        assert_eq!(output(Response::text("seven")), json!("seven"));
        assert_eq!(output(json!({"a": 1}).into()), json!({"a": 1}));
        assert_eq!(output(Response::bytes([0, 255])), json!({"b64": "AP8="}));
    }
}
