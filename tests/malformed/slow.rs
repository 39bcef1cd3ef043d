//! Clients that send slowly, or stop: they keep nobody else waiting, and in the end they are told, or cut off.

use super::closes_its_connections;
use super::files;
use super::kinds::Port;
use super::wire::Wire;
use crate::support::Server;
use crate::support::Setup;

const EACH: usize = 40;

/// So far they get, each on every port where it leads to something.
const BEGINNINGS: [&str; 4] = ["", "G", "GET /ping HTTP/1.1\r\n", "GET /ping HTTP/1.1\r\nhost: h\r\nx-slow: "];

/// Requests whose bodies never end.
const BODIES: [(Port, &str); 4] = [
    (Port::Inference, "POST /predictions/echo HTTP/1.1\r\nhost: h\r\ncontent-length: 9\r\n\r\nhalf"),
    (
        Port::Inference,
        "POST /v2/models/echo/infer HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ),
    (Port::Inference, "POST /predictions/echo HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n"),
    (Port::Management, "POST /models HTTP/1.1\r\nhost: h\r\ncontent-length: 9\r\n\r\nhalf"),
];

fn begin(server: &Server, port: Port, bytes: &str) -> Wire {
    let mut wire = Wire::to(port.of(server));
    wire.send(bytes.as_bytes());
    wire
}

/// Asks on a connection of its own: one that is kept may be cut off just when it is used again.
fn is_served(server: &Server) {
    let whole = "POST /predictions/echo HTTP/1.1\r\nhost: h\r\ncontent-length: 5\r\n\r\nquick";
    let mut wire = begin(server, Port::Inference, whole);
    assert_eq!(wire.reply().unwrap().body, b"quick");
}

#[test]
fn hundreds_that_stop_half_way_keep_nobody_waiting() {
    let server = Setup::with_echo().property("enable_model_api", "true").start();
    server.still_serves();
    server.metrics().ok();
    let before = files(&server);
    let heads = Port::ALL.into_iter().flat_map(|port| BEGINNINGS.map(|beginning| (port, beginning)));
    let held: Vec<_> = heads
        .chain(BODIES)
        .flat_map(|(port, bytes)| (0..EACH).map(move |_| (port, bytes)))
        .map(|(port, bytes)| begin(&server, port, bytes))
        .collect();
    assert_eq!(held.len(), 16 * EACH);
    server.still_serves();
    server.metrics().ok();
    // Whoever goes on is answered.
    let mut late = begin(&server, Port::Inference, "POST /predictions/echo HTTP/1.1\r\nhost: h\r\nx-");
    server.still_serves();
    for piece in ["slow: v\r\n", "content-length: 4\r\n\r\n", "la", "te"] {
        late.send(piece.as_bytes());
    }
    assert_eq!(late.reply().unwrap().body, b"late");
    drop((held, late));
    closes_its_connections(&server, before);
    server.still_serves();
}

#[test]
fn who_stops_half_way_is_told_or_cut_off() {
    let server =
        Setup::with_echo().property("enable_model_api", "true").property("sconce_slow_client_ms", "1000").start();
    let mut cut: Vec<_> =
        Port::ALL.into_iter().flat_map(|port| BEGINNINGS.map(|bytes| begin(&server, port, bytes))).collect();
    let mut told: Vec<_> = BODIES.into_iter().map(|(port, bytes)| begin(&server, port, bytes)).collect();
    is_served(&server);
    cut.iter_mut().for_each(Wire::is_closed);
    for wire in &mut told {
        let reply = wire.reply().unwrap();
        let json: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
        assert_eq!((reply.status, json["type"].as_str()), (408, Some("RequestTimeoutException")), "{json}");
        assert!(reply.closes, "{json}");
        wire.is_closed();
    }
    is_served(&server);
}
