//! The table: each kind of malformed input, and what it may get for an answer.

use super::bodies;
use super::heads;
use crate::support::Chance;
use crate::support::Server;

/// A kind of input.
pub(super) struct Kind {
    pub(super) name: &'static str,
    pub(super) make: fn(&mut Chance) -> Sent,
    /// Statuses, or [`NONE`].
    pub(super) allowed: &'static [u16],
}

/// One attempt.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) port: Port,
    pub(super) bytes: Vec<u8>,
    pub(super) then: Then,
}

/// What is to happen once it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// Its length is clear, so there is an answer, and the connection may go on.
    OneReply,
    /// Nobody knows where it ends: the server closes, by itself.
    Closes,
    /// The client ends its side, and who sees that first needn't answer what was whole.
    Ends,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Port {
    Inference,
    Management,
    Metrics,
}

/// The connection is closed without an answer.
pub(super) const NONE: u16 = 0;

pub(super) const KINDS: &[Kind] = &[
    kind("a multipart body that is cut", bodies::cut_multipart, &[400]),
    kind("a boundary that isn't the body's", bodies::wrong_boundary, &[400]),
    kind("parts that are no parts", bodies::broken_parts, &[400]),
    kind("broken JSON", bodies::broken_json, &[400]),
    kind("JSON that is nested deeply", bodies::deep_json, &[400]),
    kind("numbers that are none, or too large", bodies::huge_numbers, &[400, 404, 409]),
    kind("content types that don't fit", bodies::wrong_content_type, &[200, 400]),
    kind("tensors that aren't", bodies::wrong_tensors, &[200, 404]),
    kind("a body that is announced too large", bodies::announced_too_large, &[413]),
    // Where the answer comes before all is sent, it may be lost with the connection.
    kind("a body that is too large", bodies::too_large, &[413, NONE]),
    kind("chunks that are too large", bodies::too_large_in_chunks, &[413, NONE]),
    kind("chunks that are broken", bodies::broken_chunks, &[400]),
    kind("a body that is cut", bodies::cut_body, &[400, NONE]),
    kind("a length that is no length", bodies::wrong_length, &[400]),
    kind("a length that is too short", bodies::too_short_a_length, &[200, 400]),
    kind("a length and chunks", bodies::length_and_chunks, &[200, 400, NONE]),
    kind("escapes that aren't", heads::bad_escapes, &[400]),
    kind("methods that aren't allowed", heads::wrong_methods, &[405]),
    kind("routes that nobody knows", heads::unknown_routes, &[404]),
    kind("models that nobody knows", heads::unknown_models, &[404]),
    kind("parameters that nobody knows", heads::unknown_parameters, &[200, 202]),
    kind("parameters that aren't allowed", heads::wrong_parameters, &[400, 404]),
    kind("too many headers", heads::many_headers, &[400, NONE]),
    kind("too long headers", heads::long_headers, &[400, NONE]),
    kind("broken headers", heads::broken_headers, &[400]),
    kind("long queries", heads::long_queries, &[200]),
    kind("too long queries", heads::too_long_queries, &[400, NONE]),
    kind("garbage", heads::garbage, &[400, NONE]),
    kind("a request with bytes that can't be there", heads::stray_bytes, &[400]),
    kind("a head that is cut", heads::cut_head, &[400, NONE]),
    kind("versions of HTTP that aren't", heads::wrong_versions, &[400, NONE]),
    kind("targets of other forms", heads::other_targets, &[200, 400, 404, 405, NONE]),
    kind("many at once, and a broken one", heads::pipelined, &[200, 400]),
    kind("a client that ends its side", heads::half_closed, &[200, NONE]),
];

const fn kind(name: &'static str, make: fn(&mut Chance) -> Sent, allowed: &'static [u16]) -> Kind {
    Kind { name, make, allowed }
}

// === impl Port ===

impl Port {
    pub(super) const ALL: [Self; 3] = [Self::Inference, Self::Management, Self::Metrics];

    pub(super) fn of(self, server: &Server) -> &str {
        match self {
            Self::Inference => server.address(),
            Self::Management => server.management_address(),
            Self::Metrics => server.metrics_address(),
        }
    }
}

// === impl Sent ===

impl Sent {
    pub(super) fn new(port: Port, then: Then, bytes: impl Into<Vec<u8>>) -> Self {
        Self { port, bytes: bytes.into(), then }
    }

    /// A whole request, whose head has these lines and whose body has this length.
    pub(super) fn whole(port: Port, method: &str, target: &str, headers: &str, body: &[u8]) -> Self {
        let length = body.len();
        let head = format!("{method} {target} HTTP/1.1\r\nhost: h\r\n{headers}content-length: {length}\r\n\r\n");
        Self::new(port, Then::OneReply, [head.as_bytes(), body].concat())
    }
}
