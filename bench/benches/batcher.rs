//! What the decision costs how many requests a worker takes.

use std::hint::black_box;
use std::time::Duration;
use std::time::Instant;

use criterion::Criterion;
use criterion::criterion_group;
use criterion::criterion_main;
use sconce::serving::BatchPolicy;
use sconce::serving::benchmarks::Batches;

fn decisions(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("batcher");
    let now = Instant::now();
    let policies = [
        ("automatic", BatchPolicy { size: None, delay: None, target_latency: None }),
        (
            "automatic with a latency goal",
            BatchPolicy { size: None, delay: None, target_latency: Some(Duration::from_millis(20)) },
        ),
        (
            "of 16 within 5 ms",
            BatchPolicy { size: Some(16), delay: Some(Duration::from_millis(5)), target_latency: None },
        ),
    ];
    for (name, policy) in policies {
        let batches = Batches::new(policy);
        group.bench_function(name, |bencher| {
            bencher.iter(|| batches.taken(black_box(now), black_box(20), black_box(Some(now)), black_box(2)));
        });
    }
    group.finish();
}

criterion_group!(benches, decisions);
criterion_main!(benches);
