use base64::engine::general_purpose::STANDARD;
use image::ExtendedColorType;

use super::*;
use crate::prelude::Batch;
use crate::prelude::Handler;
use crate::prelude::Request;
use crate::prelude::Response;
use crate::testing;
use crate::testing::Host;
use crate::vision::Compose;
use crate::vision::Transform;
use crate::vision::decode::tests::huge_jpeg;
use crate::vision::tests::png;
use crate::vision::tests::samples;

/// Lends these tests a real field: one can't be made outside a call.
#[derive(Default)]
struct Reader;

impl Handler for Reader {
    fn handle(&self, batch: &Batch, context: &Context) -> Result<Vec<Response>> {
        let read = |request: &Request| {
            let field = request.input()?;
            Ok(match Input::read(&field, context)? {
                Input::Picture(picture) => {
                    assert_eq!(Picture::open(&field, context)?, picture);
                    Response::text(format!("{} x {}", picture.width(), picture.height()))
                }
                Input::Tensor(tensor) => {
                    assert!(Picture::open(&field, context).unwrap_err().client_text().contains("not a picture"));
                    Response::text(format!("{:?} {:?}", tensor.shape(), tensor.to_f64()?))
                }
            })
        };
        Ok(batch.iter().map(|request| read(request).into()).collect())
    }
}

/// The whole road to a tensor, with a picture too long to be scaled.
#[derive(Default)]
struct Scaler;

impl Handler for Scaler {
    fn handle(&self, batch: &Batch, context: &Context) -> Result<Vec<Response>> {
        let scale = Compose::new([Transform::Resize(256), Transform::ToTensor]);
        let read =
            |request: &Request| Ok(Response::text(format!("{:?}", scale.read(&request.input()?, context)?.shape())));
        Ok(batch.iter().map(|request| read(request).into()).collect())
    }
}

fn send(request: testing::Request) -> Result<String> {
    let answer = Host::new().start::<Reader>()?.predict(request)?;
    Ok(String::from_utf8(answer.body).unwrap())
}

fn picture() -> Vec<u8> {
    png(3, 2, ExtendedColorType::L8, &samples(3, 2, 1))
}

#[test]
fn a_picture_comes_as_it_is_or_in_base64() {
    let text = STANDARD.encode(picture());
    assert!(text.contains('/') && text.ends_with('='), "{text}");
    let in_lines: Vec<&str> = text.as_bytes().chunks(20).map(|line| std::str::from_utf8(line).unwrap()).collect();
    let sent = [
        picture(),
        text.clone().into_bytes(),
        (in_lines.join("\r\n") + "\n").into_bytes(),
        text.trim_end_matches('=').into(),
        format!("data:image/png;base64,{text}").into_bytes(),
        format!("\"{text}\"").into_bytes(),
        format!("\"{}\"", text.replace('/', "\\/")).into_bytes(),
        format!("{{\"b64\": \"{text}\"}}").into_bytes(),
        format!(" {{\"data\": \"data:image/png;base64,{text}\", \"id\": 7}}").into_bytes(),
    ];
    for sent in sent {
        let shown = sent.escape_ascii().to_string();
        assert_eq!(send(testing::Request::body(&sent)).unwrap(), "3 x 2", "{shown}");
        assert_eq!(send(testing::Request::default().field("data", &sent)).unwrap(), "3 x 2", "{shown}");
    }
}

#[test]
fn lists_of_numbers_pass_as_they_are() {
    let lists = serde_json::json!([[[0.5, -1], [2, 3e2]]]);
    for sent in [lists.clone(), serde_json::json!({ "data": lists })] {
        assert_eq!(send(testing::Request::json(&sent)).unwrap(), "[1, 2, 2] [0.5, -1.0, 2.0, 300.0]");
    }
}

#[test]
fn bad_input_is_refused_with_the_remedy() {
    let half = |bytes: &[u8]| bytes[..bytes.len() / 2].to_vec();
    let text = STANDARD.encode("this is no picture").into_bytes();
    let cases: [(Vec<u8>, &[&str]); 16] = [
        (Vec::new(), &["is empty"]),
        (b" \n".to_vec(), &["is empty"]),
        (b"hello, world".to_vec(), &["length is 12", "begins with \"hello, world\""]),
        (b"\x00\xff\x01".to_vec(), &["begins with \"\\x00\\xff\\x01\""]),
        (text, &["is base64", "begins with \"this is no pictu"]),
        (b"\"hello, world\"".to_vec(), &["a JSON string that is no base64", "hello"]),
        (half(&picture()), &["begins as a PNG", "can't be read as one"]),
        (STANDARD.encode(half(&picture())).into_bytes(), &["begins as a PNG", "can't be read as one"]),
        (b"II*\0 a TIFF".to_vec(), &["is a TIFF, which isn't read here"]),
        (b"{\"image\": \"x\"}".to_vec(), &["without `b64` and without `data`", "[\"image\"]"]),
        (b"{\"data\": {\"data\": \"x\"}}".to_vec(), &["neither text nor lists of numbers"]),
        (b"[1, 2".to_vec(), &["begins with \"[1, 2\", but is no JSON"]),
        (b"[[[1, 2], [3, 1e300]]]".to_vec(), &["too large for float32"]),
        (b"[[[1, 2], [3]]]".to_vec(), &["unequal lengths"]),
        (b"[[1, \"2\"]]".to_vec(), &["expected numbers in nested JSON lists, found \"2\""]),
        ([b"[".repeat(5000), b"]".repeat(5000)].concat(), &["recursion limit"]),
    ];
    for (bytes, wanted) in cases {
        let error = send(testing::Request::default().field("data", &bytes)).unwrap_err();
        let text = error.client_text();
        assert_eq!(error.status(), 400, "{text}");
        for wanted in wanted.iter().chain(&["field `data` ", "; send a whole picture (PNG, JPEG, WebP, BMP or GIF)"]) {
            assert!(text.contains(wanted), "{text} lacks {wanted}");
        }
    }
}

#[test]
fn a_property_of_the_server_lifts_the_limit() {
    for (value, limited) in [(None, true), (Some("true"), true), (Some("false"), false)] {
        let host = value.into_iter().fold(Host::new(), |host, value| host.property("limit_max_image_pixels", value));
        let error = host.start::<Reader>().unwrap().predict(testing::Request::body(huge_jpeg())).unwrap_err();
        assert_eq!(error.client_text().contains("at most 178956970 are read"), limited, "{value:?}: {error}");
    }
}

#[test]
fn what_can_t_be_scaled_names_its_field() {
    let mut scaler = Host::new().start::<Scaler>().unwrap();
    let strip = png(20_000, 1, ExtendedColorType::L8, &[0; 20_000]);
    let error = scaler.predict(testing::Request::default().field("data", &strip)).unwrap_err();
    assert_eq!(error.status(), 400);
    assert!(error.client_text().starts_with("field `data` is a picture of 20000 x 1 pixels"), "{error}");
    assert_eq!(scaler.predict(testing::Request::body(picture())).unwrap().body, b"[3, 256, 384]");
}
