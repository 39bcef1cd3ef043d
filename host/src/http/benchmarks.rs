//! A door for the micro-benchmarks of `bench/` to what is private otherwise; nothing else comes in by it.

use std::time::Duration;

use axum::body::Body;
use axum::http::HeaderMap;

use super::BodyLimits;
use super::body;

/// Reads a body into its fields, and gives their number; `None` where it isn't taken.
pub async fn fields(headers: &HeaderMap, body: Body) -> Option<usize> {
    let limits = BodyLimits { size: 1 << 24, silence: Duration::from_secs(60) };
    body::fields(headers, body, limits).await.ok().map(|fields| fields.len())
}
