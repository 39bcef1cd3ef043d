//! What is wrong with the head of a request, or with the bytes that should be one.

use super::kinds::Port;
use super::kinds::Sent;
use super::kinds::Then;
use crate::support::Chance;

/// So many headers the server takes, and so many bytes of a head.
const MOST_HEADERS: usize = 100;
const MOST_BYTES: usize = 64 * 1024;

/// A request that each port answers with 200.
fn good(port: Port) -> &'static str {
    match port {
        Port::Inference => "/ping",
        Port::Management => "/models",
        Port::Metrics => "/metrics",
    }
}

fn get(port: Port, target: &str, headers: &str) -> Sent {
    Sent::whole(port, "GET", target, headers, b"")
}

fn word(chance: &mut Chance) -> String {
    (0..1 + chance.below(30)).map(|_| chance.of(&['a', 'q', 'Z', '7', '_', '-', '.', '~', '!'])).collect()
}

pub(super) fn bad_escapes(chance: &mut Chance) -> Sent {
    let broken = chance.of(&["%", "%2", "%zz", "%%", "%+1", "%ff", "%c3%28", "%-1", "%u0041", "%c0%af", "a%", "%0"]);
    let port = chance.of(&Port::ALL);
    let start = chance.of(&["/predictions/", "/models/", "/", "/v2/models/", "/predictions/echo/1.0/"]);
    get(port, &format!("{start}{broken}{}", if chance.one_in(2) { "/end" } else { "" }), "")
}

pub(super) fn wrong_methods(chance: &mut Chance) -> Sent {
    use Port::Inference;
    use Port::Management;
    let routes = [
        (Inference, "POST", "/"),
        (Inference, "BREW", "/"),
        (Inference, "OPTIONS", "/invocations"),
        (Inference, "POST", "/v2"),
        (Inference, "DELETE", "/v2/health/ready"),
        (Inference, "PUT", "/v2/models/echo"),
        (Inference, "POST", "/v1/models/echo"),
        (Inference, "OPTIONS", "/v2/models/echo/ready"),
        (Management, "PATCH", "/models"),
        (Management, "DELETE", "/models"),
        (Management, "POST", "/models/echo"),
        (Management, "GET", "/models/echo/1.0/set-default"),
        (Management, "X-Y_Z", "/models/echo/1.0"),
        (Management, "PATCH", "/models/echo/reload/"),
        (Port::Metrics, "BREW", "/"),
        (Management, "PATCH", "/workflows"),
    ];
    let (port, method, target) = chance.of(&routes);
    Sent::whole(port, method, target, "", b"some body")
}

pub(super) fn unknown_routes(chance: &mut Chance) -> Sent {
    let starts = [
        "/nowhere",
        "/PING",
        "/predictions",
        "/v3/models",
        "/v2/health",
        "/models2",
        "/metric",
        "/.%2e/%2e%2e/etc",
        "//x",
    ];
    let start = chance.of(&starts);
    let rest: String = (0..chance.below(20)).map(|_| format!("/{}", word(chance))).collect();
    let (port, rest) = match start {
        // With one more part it names a model.
        "/predictions" => (chance.of(&[Port::Management, Port::Metrics]), rest),
        _ => (chance.of(&Port::ALL), rest),
    };
    let method = chance.of(&["GET", "POST", "DELETE"]);
    Sent::whole(port, method, &format!("{start}{rest}/x"), "", b"")
}

pub(super) fn unknown_models(chance: &mut Chance) -> Sent {
    let name = chance.of(&["nobody", "ech", "echo%00", "%20echo", "..", "echo%3a", "%e2%82%ac", "ECHO", "%25"]);
    match chance.below(6) {
        0 => Sent::whole(Port::Inference, "POST", &format!("/predictions/{name}"), "", b"body"),
        1 => Sent::whole(Port::Inference, "POST", "/predictions/echo/0.9", "", b"body"),
        2 => get(Port::Inference, &format!("/v2/models/{name}/ready"), ""),
        3 => get(Port::Management, &format!("/models/{name}"), ""),
        4 => Sent::whole(Port::Management, "PUT", &format!("/models/{name}?min_worker=1"), "", b""),
        _ => Sent::whole(Port::Management, "DELETE", "/models/echo/0.9", "", b""),
    }
}

pub(super) fn unknown_parameters(chance: &mut Chance) -> Sent {
    let odd: String = (0..chance.below(8)).map(|_| format!("&{}={}", word(chance), word(chance))).collect();
    let odd = format!("{odd}&&=&=x&%ff=%zz&a=%00");
    match chance.below(6) {
        0 => get(Port::Management, &format!("/models?limit=dd&next_page_token=-7{odd}"), ""),
        1 => get(Port::Management, &format!("/models/echo?customized=perhaps{odd}"), ""),
        2 => {
            Sent::whole(Port::Management, "PUT", &format!("/models/echo?min_worker=99999999999999999999{odd}"), "", b"")
        }
        3 => get(Port::Metrics, &format!("/metrics?x{odd}"), ""),
        4 => get(Port::Inference, &format!("/ping?x{odd}"), ""),
        _ => Sent::whole(Port::Inference, "POST", &format!("/models/echo/invoke?x{odd}"), "", b"body"),
    }
}

pub(super) fn wrong_parameters(chance: &mut Chance) -> Sent {
    let put = |target: &str| Sent::whole(Port::Management, "PUT", target, "", b"");
    let post = |target: &str| Sent::whole(Port::Management, "POST", target, "", b"");
    match chance.below(7) {
        0 => put("/models/echo?min_worker=-1"),
        1 => put("/models/echo?min_worker=2&max_worker=1"),
        2 => post(&format!("/models?{}=echo.mar", word(chance))),
        3 => post("/models?url=echo.mar&runtime=JVM"),
        4 => post("/models?url=..%2f..%2fetc%2fpasswd"),
        5 => post("/models?url=echo.mar&model_name=%20%00"),
        _ => post(&format!("/models?url={}", word(chance))),
    }
}

pub(super) fn many_headers(chance: &mut Chance) -> Sent {
    let count = MOST_HEADERS + chance.below(1900);
    let headers: String = (0..count).map(|number| format!("x{number}: v\r\n")).collect();
    let port = chance.of(&Port::ALL);
    Sent { then: Then::Closes, ..get(port, good(port), &headers) }
}

pub(super) fn long_headers(chance: &mut Chance) -> Sent {
    let long = "v".repeat(MOST_BYTES + chance.below(MOST_BYTES));
    let header = if chance.one_in(2) { format!("x-long: {long}\r\n") } else { format!("{long}: v\r\n") };
    let port = chance.of(&Port::ALL);
    Sent { then: Then::Closes, ..get(port, good(port), &header) }
}

pub(super) fn broken_headers(chance: &mut Chance) -> Sent {
    let broken = [
        "no colon\r\n",
        ": no name\r\n",
        "sp ace: v\r\n",
        "a: \0\r\n",
        "a\0: v\r\n",
        " folded: v\r\n",
        "a: b\u{1}\r\n",
        "\u{e9}: v\r\n",
        "a : v\r\n",
        "a: b\r\rc\r\n",
    ];
    let port = chance.of(&Port::ALL);
    let sent = get(port, good(port), &format!("good: one\r\n{}", chance.of(&broken)));
    Sent { then: Then::Closes, ..sent }
}

pub(super) fn long_queries(chance: &mut Chance) -> Sent {
    let port = chance.of(&Port::ALL);
    let query = word(chance).repeat(1 + chance.below(1800));
    get(port, &format!("{}?{}", good(port), &query[..query.len().min(60_000)]), "")
}

pub(super) fn too_long_queries(chance: &mut Chance) -> Sent {
    let port = chance.of(&Port::ALL);
    let query = "a=b&".repeat(MOST_BYTES / 4 + chance.below(MOST_BYTES));
    Sent { then: Then::Closes, ..get(port, &format!("{}?{query}", good(port)), "") }
}

pub(super) fn garbage(chance: &mut Chance) -> Sent {
    let mut bytes: Vec<u8> = (0..1 + chance.below(4000)).map(|_| chance.next() as u8).collect();
    // No letter, which a method might start with.
    bytes[0] = chance.of(&[0, 1, 9, b' ', 0x16, 0x7f, 0x80, 0xff]);
    Sent::new(chance.of(&Port::ALL), Then::Ends, bytes)
}

pub(super) fn stray_bytes(chance: &mut Chance) -> Sent {
    let port = chance.of(&Port::ALL);
    let mut bytes = get(port, good(port), "a: b\r\n").bytes;
    // Somewhere in the request line; a space or a letter would be in its place there.
    let line = bytes.iter().position(|&byte| byte == b'\r').unwrap();
    bytes.insert(chance.below(line), chance.of(&[0, 1, 0x7f, b'\r', 0x1b]));
    Sent::new(port, Then::Closes, bytes)
}

pub(super) fn cut_head(chance: &mut Chance) -> Sent {
    let port = chance.of(&Port::ALL);
    let bytes = get(port, good(port), "a-header: of some length\r\nanother: one\r\n").bytes;
    let cut = 1 + chance.below(bytes.len() - 1);
    Sent::new(port, Then::Ends, &bytes[..cut])
}

pub(super) fn wrong_versions(chance: &mut Chance) -> Sent {
    let port = chance.of(&Port::ALL);
    let lines = [
        "GET /ping HTTP/0.9",
        "GET /ping HTTP/1.2",
        "GET /ping HTTP/2.0",
        "GET /ping HTTP/11",
        "GET /ping HTTQ/1.1",
        "GET /ping http/1.1",
        "GET /ping",
        "GET  /ping HTTP/1.1",
        "PRI * HTTP/2.0\r\n\r\nSM",
        "GET /ping HTTP/1.1 x",
        "GET",
        "\u{16}\u{3}\u{1}\u{2}",
    ];
    Sent::new(port, Then::Ends, format!("{}\r\nhost: h\r\n\r\n", chance.of(&lines)))
}

pub(super) fn other_targets(chance: &mut Chance) -> Sent {
    let port = chance.of(&Port::ALL);
    let lines = [
        "OPTIONS *",
        "GET *",
        "GET http://other:80/ping",
        "GET http:///",
        "CONNECT other:443",
        "CONNECT /",
        "GET ping",
        "GET ?a=b",
        "GET #x",
        "GET \\\\x",
        "GET /a b",
        "GET http://[::1/",
    ];
    Sent::new(port, Then::Ends, format!("{} HTTP/1.1\r\nhost: h\r\n\r\n", chance.of(&lines)))
}

pub(super) fn pipelined(chance: &mut Chance) -> Sent {
    let port = chance.of(&Port::ALL);
    let mut bytes = get(port, good(port), "").bytes.repeat(1 + chance.below(20));
    bytes.extend(b"BROKEN\0REQUEST\r\n\r\n");
    Sent::new(port, Then::Ends, bytes)
}

pub(super) fn half_closed(chance: &mut Chance) -> Sent {
    let port = chance.of(&Port::ALL);
    Sent { then: Then::Ends, ..get(port, good(port), "") }
}
