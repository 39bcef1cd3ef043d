//! What a call across the boundary costs: the echo handler, whose own work is one copy, by the size of the batch.

use std::hint::black_box;

use criterion::BenchmarkId;
use criterion::Criterion;
use criterion::Throughput;
use criterion::criterion_group;
use criterion::criterion_main;
use handler_sdk::prelude::*;
use handler_sdk::testing::Host;
use handler_sdk::testing::Request as Sent;

/// The plugin `echo`.
#[derive(Default)]
struct Echo;

impl Handler for Echo {
    fn handle(&self, batch: &Batch, _: &Context) -> Result<Vec<Response>> {
        Ok(batch.iter().map(|request| Response::bytes(request.body())).collect())
    }
}

fn calls(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("abi_call");
    let body = vec![b'x'; 1024];
    for batch in [1, 8, 32] {
        let mut echo = Host::new().start::<Echo>().expect("the echo handler starts; this is a bug");
        let requests = vec![Sent::body(&body); batch];
        group.throughput(Throughput::Elements(batch as u64));
        group.bench_function(BenchmarkId::new("echo of 1 KiB, batch", batch), |bencher| {
            bencher.iter(|| black_box(echo.handle(black_box(&requests))));
        });
    }
    group.finish();
}

criterion_group!(benches, calls);
criterion_main!(benches);
