//! A body of 1,000 series: parsed cold, and with every series predicted by the scrape before.
#![allow(
    missing_docs,
    clippy::expect_used,
    reason = "criterion's macros make public items without docs; a bench that cannot start stops"
)]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use tidegauge_benches::Cluster;
use tidegauge_model::SeriesRef;
use tidegauge_scraper::parse::{Entries, Entry, Format};
use tidegauge_scraper::predict::{Predicted, Prediction, Slot};

/// Parses a body as the scrape loop does; gives the sum of what was read, and how many series were new.
fn scrape(body: &[u8], prediction: &mut Prediction) -> (f64, u64) {
    let mut entries = Entries::new(body, Format::PrometheusText);
    let mut pass = prediction.begin();
    let (mut sum, mut fresh) = (0.0, 0);
    while let Some(entry) = entries.next_expecting(pass.expected()) {
        let Ok(Entry::Sample(line)) = entry else { continue };
        if matches!(pass.next(line.series), Predicted::New) {
            pass.insert(line.series, Slot::Series(SeriesRef::from_bits(fresh)));
            fresh += 1;
        }
        sum += line.value;
    }
    pass.finish(|_| {});
    (sum, fresh)
}

fn parse(c: &mut Criterion) {
    let mut cluster = Cluster::new(1, 1000, 7);
    let first = cluster.body(0);
    cluster.tick();
    let second = cluster.body(0);
    let mut group = c.benchmark_group("parse");
    group.throughput(Throughput::Bytes(second.len() as u64));
    group.bench_function("cold", |b| {
        b.iter(|| scrape(black_box(second.as_bytes()), &mut Prediction::new()));
    });
    let mut prediction = Prediction::new();
    scrape(first.as_bytes(), &mut prediction);
    group.bench_function("predicted", |b| {
        b.iter(|| scrape(black_box(second.as_bytes()), &mut prediction));
    });
    group.finish();
}

criterion_group!(benches, parse);
criterion_main!(benches);
