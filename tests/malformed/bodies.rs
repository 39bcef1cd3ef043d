//! What is wrong with the body, or with what is said of it.

use super::MOST;
use super::kinds::Port;
use super::kinds::Sent;
use super::kinds::Then;
use crate::support::Chance;

const PREDICT: &str = "/predictions/echo";

/// Where forms are read.
const FORMS: [&str; 4] = [PREDICT, "/explanations/echo/1.0", "/v1/models/echo:predict", "/invocations"];

const ANSWERED: [&str; 4] = [PREDICT, "/predictions/echo/1.0/a/b", "/v2/models/echo/infer", "/models/echo/invoke"];

fn form(chance: &mut Chance) -> Vec<u8> {
    let mut body = Vec::new();
    for number in 0..=chance.below(3) {
        let file = if chance.one_in(2) { "; filename=\"f\"\r\ncontent-type: image/png" } else { "" };
        body.extend(format!("--border\r\ncontent-disposition: form-data; name=\"p{number}\"{file}\r\n\r\n").bytes());
        body.extend((0..chance.below(400)).map(|byte| byte as u8));
        body.extend(b"\r\n");
    }
    body.extend(b"--border--\r\n");
    body
}

fn multipart(chance: &mut Chance, boundary: &str, body: &[u8]) -> Sent {
    let headers = format!("content-type: multipart/form-data{boundary}\r\n");
    Sent::whole(Port::Inference, "POST", chance.of(&FORMS), &headers, body)
}

pub(super) fn cut_multipart(chance: &mut Chance) -> Sent {
    let mut body = form(chance);
    // Whole it is with the two dashes at its end, even without the line's end.
    body.truncate(chance.below(body.len() - 3));
    multipart(chance, "; boundary=border", &body)
}

pub(super) fn wrong_boundary(chance: &mut Chance) -> Sent {
    let body = form(chance);
    let boundaries =
        ["", "; boundary=", "; boundary", "; boundary=other", "; boundary=\"bor", "; border=border", ";;;"];
    let boundary = chance.of(&boundaries);
    multipart(chance, boundary, &body)
}

pub(super) fn broken_parts(chance: &mut Chance) -> Sent {
    let heads = [
        "content-disposition: form-data\r\n\r\n",
        "content-type: text/plain\r\n\r\n",
        "no header at all\r\n\r\n",
        "\r\n",
        "content-disposition: form-data; name=\"a\"\r\n",
        "content-disposition form-data; name=\"a\"\r\n\r\n",
        "\0: \0\r\n\r\n",
    ];
    let head = chance.of(&heads);
    let body = format!("--border\r\n{head}text\r\n--border--\r\n");
    multipart(chance, "; boundary=border", body.as_bytes())
}

fn registration(body: &[u8]) -> Sent {
    Sent::whole(Port::Management, "POST", "/models", "content-type: application/json\r\n", body)
}

pub(super) fn broken_json(chance: &mut Chance) -> Sent {
    let whole = br#"{"url": "echo.mar", "model_name": "e\u00e9", "batch_size": 3, "synchronous": true}"#;
    let mut body = whole.to_vec();
    match chance.below(4) {
        0 => body.truncate(1 + chance.below(whole.len() - 1)),
        1 => {
            body =
                (chance.of(&[&b"[]"[..], b"null", b"\"url\"", b"7", b"\xff\xfe", b"{\"url\"}", b"{'url': 1}"])).to_vec()
        }
        2 => body.extend(b"}"),
        // What starts an object can't be anything else.
        _ => body[0] = 1 + u8::try_from(chance.below(31)).unwrap(),
    }
    registration(&body)
}

pub(super) fn deep_json(chance: &mut Chance) -> Sent {
    const DEPTH: usize = 100_000;
    let (open, close) = chance.of(&[("[", "]"), ("{\"a\":", "}"), ("[{\"a\":", "}]")]);
    let depth = DEPTH / open.len();
    let mut body = format!("{{\"url\": {}1", open.repeat(depth));
    if chance.one_in(2) {
        body.push_str(&close.repeat(depth));
        body.push('}');
    }
    registration(body.as_bytes())
}

pub(super) fn huge_numbers(chance: &mut Chance) -> Sent {
    let digits = "9".repeat(1 + chance.below(5000));
    let numbers =
        ["1e999", "-1e999", "1e-999", "0.1", "-0", "18446744073709551616", "-9223372036854775809", &digits, "\"1e9\""];
    let number = chance.of(&numbers);
    let key =
        chance.of(&["batch_size", "max_batch_delay", "initial_workers", "response_timeout", "startup_timeout", "url"]);
    // A model that is there, so that none is registered.
    let url = if key == "url" { "" } else { "\"url\": \"echo.mar\", " };
    registration(format!("{{{url}\"model_name\": \"echo\", \"{key}\": {number}}}").as_bytes())
}

pub(super) fn wrong_content_type(chance: &mut Chance) -> Sent {
    let kinds = [
        "multipart/form-data",
        "multipart/form-data;;",
        "multipart/;boundary=x",
        "application/x-www-form-urlencoded; charset=\u{1}",
        "application/json; charset=klingon",
        "text/plain;;;;;",
        "/",
        "",
        "image/",
        "a/b/c",
        "*/*",
        "application/JSON",
        "application/x-www-form-urlencoded",
    ];
    let kind = chance.of(&kinds).replace('\u{1}', "\u{e9}");
    let body: Vec<u8> = (0..chance.below(2000)).map(|_| chance.next() as u8).collect();
    Sent::whole(Port::Inference, "POST", chance.of(&ANSWERED), &format!("content-type: {kind}\r\n"), &body)
}

/// The echo has no model, and gets the body whatever is in it; nobody has the other.
pub(super) fn wrong_tensors(chance: &mut Chance) -> Sent {
    let shape = chance.of(&["[-1]", "[9223372036854775807, 9223372036854775807]", "[0]", "\"wide\"", "[1e9]", "null"]);
    let data = chance.of(&["[1, [2]]", "[[[]]]", "null", "{}", "[1e999]", "\"AAAA\""]);
    let body = format!(
        "{{\"inputs\": [{{\"name\": \"x\", \"shape\": {shape}, \"datatype\": \"FP32\", \"data\": {data}, \"parameters\": {{\"binary_data_size\": {}}}}}]}}",
        chance.next()
    );
    let length = chance.of(&["0", "-1", "7", "99999999999999999999", "x", ""]);
    let model = chance.of(&["echo", "nobody"]);
    let headers = format!("inference-header-content-length: {length}\r\n");
    Sent::whole(Port::Inference, "POST", &format!("/v2/models/{model}/infer"), &headers, body.as_bytes())
}

pub(super) fn announced_too_large(chance: &mut Chance) -> Sent {
    let length = match chance.below(3) {
        0 => u64::MAX - 3 - chance.below(1000) as u64,
        1 => MOST as u64 + 1,
        _ => (MOST + 1 + chance.below(1 << 40)) as u64,
    };
    let target = chance.of(&ANSWERED);
    let head = format!("POST {target} HTTP/1.1\r\nhost: h\r\ncontent-length: {length}\r\n\r\n");
    Sent::new(Port::Inference, Then::Closes, head)
}

pub(super) fn too_large(chance: &mut Chance) -> Sent {
    let body = vec![b'x'; MOST + 1 + chance.below(MOST)];
    let sent = Sent::whole(Port::Inference, "POST", chance.of(&ANSWERED), "", &body);
    Sent { then: Then::Closes, ..sent }
}

fn in_chunks(target: &str, chunks: &[u8]) -> Vec<u8> {
    let head = format!("POST {target} HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n");
    [head.as_bytes(), chunks].concat()
}

pub(super) fn too_large_in_chunks(chance: &mut Chance) -> Sent {
    let length = 1000 + chance.below(20_000);
    let chunk = [format!("{length:x}\r\n").as_bytes(), &vec![b'x'; length], b"\r\n"].concat();
    Sent::new(Port::Inference, Then::Closes, in_chunks(chance.of(&ANSWERED), &chunk.repeat(1 + MOST / length)))
}

pub(super) fn broken_chunks(chance: &mut Chance) -> Sent {
    let broken = [
        "zz\r\nab\r\n0\r\n\r\n",
        "-1\r\na\r\n0\r\n\r\n",
        "fffffffffffffffff\r\na",
        "ffffffffffffffffffffffffffffffffff\r\na",
        "3\r\nabcdef\r\n0\r\n\r\n",
        "\r\n\r\n\r\n",
        "0x3\r\nabc\r\n0\r\n\r\n",
        "3 3\r\nabc\r\n0\r\n\r\n",
    ];
    let before = "5\r\nwhole\r\n".repeat(chance.below(4));
    let chunks = format!("{before}{}", chance.of(&broken));
    Sent::new(Port::Inference, Then::Closes, in_chunks(chance.of(&ANSWERED), chunks.as_bytes()))
}

pub(super) fn cut_body(chance: &mut Chance) -> Sent {
    let bytes = if chance.one_in(2) {
        in_chunks(chance.of(&ANSWERED), b"5\r\nwhole\r\n5\r\nwhole\r\n0\r\n\r\n")
    } else {
        Sent::whole(Port::Inference, "POST", chance.of(&ANSWERED), "", &[b'x'; 30]).bytes
    };
    let cut = bytes.len() - 1 - chance.below(20);
    Sent::new(Port::Inference, Then::Ends, &bytes[..cut])
}

pub(super) fn wrong_length(chance: &mut Chance) -> Sent {
    let lengths = [
        "content-length: abc",
        "content-length: -1",
        "content-length: +5",
        "content-length: 1, 2",
        "content-length: 0x5",
        "content-length: 18446744073709551616",
        "content-length: 5\r\ncontent-length: 6",
        "content-length: 5 5",
        "content-length:",
        "transfer-encoding: gzip",
        "transfer-encoding: chunked, gzip",
    ];
    let port = chance.of(&Port::ALL);
    let head = format!("POST {PREDICT} HTTP/1.1\r\nhost: h\r\n{}\r\n\r\nwhole", chance.of(&lengths));
    Sent::new(port, Then::Closes, head)
}

/// What is left over is no request.
pub(super) fn too_short_a_length(chance: &mut Chance) -> Sent {
    let length = chance.below(10);
    let target = chance.of(&ANSWERED);
    let head = format!("POST {target} HTTP/1.1\r\nhost: h\r\ncontent-length: {length}\r\n\r\n");
    Sent::new(Port::Inference, Then::Ends, format!("{head}{}\r\n\r\n", "\u{e9}\t".repeat(10)))
}

pub(super) fn length_and_chunks(chance: &mut Chance) -> Sent {
    let length = chance.below(100);
    let head =
        format!("POST {PREDICT} HTTP/1.1\r\nhost: h\r\ncontent-length: {length}\r\ntransfer-encoding: chunked\r\n\r\n");
    Sent::new(Port::Inference, Then::Ends, format!("{head}5\r\nwhole\r\n0\r\n\r\n"))
}
