//! Who may ask for predictions, and who may manage.
//!
//! Each of the two APIs has a key that expires; a third key, which doesn't, lets its holder renew them at `/token`.
//! The metrics and the description of the API are open to all.

use std::sync::Arc;

use axum::body::Body;
use axum::body::to_bytes;
use axum::extract::Request;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::Method;
use axum::http::Response;
use axum::http::StatusCode;
use axum::http::header;
use axum::middleware::Next;
use axum::response::IntoResponse;
use utoipa::OpenApi;

use super::Apis;
use super::error::ApiError;
use super::error::Form;
use super::key_ring::Kind;
use super::key_ring::Ring;

/// What an address asks of those who come.
#[derive(Debug, Clone)]
pub(super) struct Door {
    pub(super) ring: Arc<Ring>,
    pub(super) apis: Apis,
}

/// More than this isn't read from a client that wants a key.
const LARGEST_BODY: usize = 64 << 10;

const REFUSED: &str = "Token Authorization failed. Token either incorrect, expired, or not provided correctly";
const NOT_RENEWED: &str = "Token Authentication failed. Token either incorrect, expired, or not provided correctly";

/// Lets a request through, or refuses it; `/token` is answered here.
pub(super) async fn check(State(door): State<Door>, request: Request, next: Next) -> Response<Body> {
    let Some(kind) = needed(door.apis, request.method(), request.uri().path()) else {
        return next.run(request).await;
    };
    let opens = bearer(request.headers()).is_some_and(|key| door.ring.opens(kind, key));
    match (kind, opens) {
        (Kind::Api, false) => refused(NOT_RENEWED),
        (Kind::Api, true) => {
            let query = request.uri().query().unwrap_or_default().to_owned();
            // Nobody needs the body; one that is left unread would end the connection under the client's next request.
            let _ = to_bytes(request.into_body(), LARGEST_BODY).await;
            renewed(&door.ring, &query)
        }
        (_, false) => refused(REFUSED),
        (_, true) => next.run(request).await,
    }
}

fn refused(message: &str) -> Response<Body> {
    ApiError::invalid_key(message).into_response()
}

/// Where keys are asked for, and can be renewed.
#[derive(Debug, OpenApi)]
#[openapi(paths(renewed))]
pub(super) struct Described;

/// Renews a key, whatever the method of the request is.
///
/// The answer holds no key: only who can read the server's key file gets it.
#[utoipa::path(
    get,
    path = "/token",
    operation_id = "token",
    params(("type" = String, Query, description = "Which key to renew: `management` or `inference`.")),
    responses(
        (status = 200, description = "The new key is in the key file; the body is an empty line.", content_type = "application/json"),
        (status = 400, description = "The key `API` is missing or wrong, or the type is.", body = Form),
        (status = 500, description = "The key file can't be written.", body = Form),
    )
)]
fn renewed(ring: &Ring, query: &str) -> Response<Body> {
    let kind = form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == "type").map(|(_, kind)| kind);
    let kind = match kind.as_deref() {
        Some("management") => Kind::Management,
        Some("inference") => Kind::Inference,
        _ => return refused(NOT_RENEWED),
    };
    match ring.renew(kind) {
        Ok(()) => (StatusCode::OK, [(header::CONTENT_TYPE, "application/json")], "\n").into_response(),
        Err(error) => {
            tracing::error!(%error, "the key file can't be written; the old key goes on");
            ApiError::internal("The new key can't be written to the key file. The old key goes on until it expires.")
                .into_response()
        }
    }
}

/// The key that a request to this address needs, which its description says, too. Where it has several APIs, whatever isn't known to be inference needs the management's key.
pub(super) fn needed(apis: Apis, method: &Method, path: &str) -> Option<Kind> {
    let segments = segments(path);
    match segments[..] {
        [""] if method == Method::OPTIONS => None,
        ["api-description"] => None,
        ["metrics", ..] if apis.metrics => None,
        ["token"] if apis.management => Some(Kind::Api),
        _ if !apis.management && !apis.inference => None,
        _ if !apis.management => Some(Kind::Inference),
        _ if apis.inference && is_inference(&segments) => Some(Kind::Inference),
        _ => Some(Kind::Management),
    }
}

pub(super) fn segments(path: &str) -> Vec<&str> {
    path.trim_start_matches('/').split('/').collect()
}

pub(super) fn is_inference(segments: &[&str]) -> bool {
    match segments {
        ["ping" | "predictions" | "explanations" | "wfpredict" | "v2", ..] | ["invocations"] => true,
        // A colon parts the model from what is asked of it; without one the model is described.
        ["v1", "models", model] => [":", "%3A", "%3a"].iter().any(|colon| model.contains(colon)),
        ["models", _, "invoke"] => true,
        ["models" | "workflows" | "v1" | "token", ..] => false,
        [_, "predict"] | [_, _, "predict"] => true,
        _ => false,
    }
}

/// The key of `Authorization: Bearer KEY`.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, key) = value.split_once([' ', '\t'])?;
    let key = key.trim_start();
    (scheme.eq_ignore_ascii_case("bearer") && !key.is_empty() && !key.contains([' ', '\t'])).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Apis = Apis { inference: true, management: true, metrics: true };
    const INFERENCE: Apis = Apis { inference: true, management: false, metrics: false };
    const MANAGEMENT: Apis = Apis { inference: false, management: true, metrics: false };
    const METRICS: Apis = Apis { inference: false, management: false, metrics: true };

    #[test]
    fn each_path_needs_its_key() {
        let get = |apis, path| needed(apis, &Method::GET, path);
        for path in ["/ping", "/predictions/m", "/token", "/", "/models", "/nothing", "/metrics"] {
            assert_eq!(get(INFERENCE, path), Some(Kind::Inference), "{path}");
        }
        for path in ["/models", "/", "/ping", "/models/token", "/token/more", "/m/predict"] {
            assert_eq!(get(MANAGEMENT, path), Some(Kind::Management), "{path}");
        }
        assert_eq!(get(MANAGEMENT, "/token"), Some(Kind::Api));
        for path in ["/metrics", "/nothing", "/token"] {
            assert_eq!(get(METRICS, path), None, "{path}");
        }
        for apis in [INFERENCE, MANAGEMENT, METRICS, ALL] {
            assert_eq!(needed(apis, &Method::OPTIONS, "/"), None);
            assert_eq!(get(apis, "/api-description"), None);
        }
        // A model may have that name.
        assert_eq!(get(INFERENCE, "/api-description/predict"), Some(Kind::Inference));
        assert_eq!(get(ALL, "/api-description/1.0/predict"), Some(Kind::Inference));
    }

    #[test]
    fn an_address_of_all_apis_asks_for_the_key_of_each() {
        let get = |path| needed(ALL, &Method::GET, path);
        for path in [
            "/ping",
            "/predictions/m/1.0/x/y",
            "/explanations/m",
            "/invocations",
            "/models/m/invoke",
            "/m/predict",
            "/m/1.0/predict",
            "/v1/models/m:predict",
            "/v1/models/m%3Aexplain",
            "/v2/models/m/infer",
        ] {
            assert_eq!(get(path), Some(Kind::Inference), "{path}");
        }
        for path in [
            "/models",
            "/models/predict",
            "/models/m/predict",
            "/models/m/1.0",
            "/v1/models/m",
            "/workflows/predict",
            "/nothing",
            "/%70ing",
            "/models/m/invoke/set-default",
        ] {
            assert_eq!(get(path), Some(Kind::Management), "{path}");
        }
        assert_eq!((get("/token"), get("/metrics")), (Some(Kind::Api), None));
    }

    #[test]
    fn a_key_is_read_from_its_header() {
        for (value, expected) in [
            ("Bearer abc", Some("abc")),
            ("bearer  abc", Some("abc")),
            ("Bearer", None),
            ("Bearer ", None),
            ("Bearer a b", None),
            ("Basic abc", None),
            ("abc", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
            assert_eq!(bearer(&headers), expected, "{value}");
        }
        assert_eq!(bearer(&HeaderMap::new()), None);
    }
}
