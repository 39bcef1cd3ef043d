//! What it costs to take a request's body apart into its fields.

use std::hint::black_box;

use axum::body::Body;
use axum::body::Bytes;
use axum::http::HeaderMap;
use axum::http::HeaderValue;
use axum::http::header;
use criterion::Criterion;
use criterion::Throughput;
use criterion::criterion_group;
use criterion::criterion_main;
use sconce::http::benchmarks::fields;

const PICTURE: &[u8] = include_bytes!("../inputs/picture.jpg");

fn bodies(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("body");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime without threads starts; this is a bug");
    let mut form = b"--x\r\ncontent-disposition: form-data; name=\"data\"; filename=\"p.jpg\"\r\n\r\n".to_vec();
    form.extend_from_slice(PICTURE);
    form.extend_from_slice(b"\r\n--x--\r\n");
    for (name, content_type, body) in [
        ("a picture as it is", "image/jpeg", Bytes::from_static(PICTURE)),
        ("a picture in a multipart form", "multipart/form-data; boundary=x", Bytes::from(form)),
        ("a form of three fields", "application/x-www-form-urlencoded", Bytes::from_static(b"a=1&b=%20x&data=hello")),
    ] {
        let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(content_type))]);
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| black_box(runtime.block_on(fields(&headers, Body::from(body.clone())))));
        });
    }
    group.finish();
}

criterion_group!(benches, bodies);
criterion_main!(benches);
