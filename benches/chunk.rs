//! Encodes and decodes chunks of 240 values of the kinds that metrics have, and of timestamps.
//!
//! `cargo bench -p tidegauge-benches --bench chunk`: time is per 100 chunks, throughput in values.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use tidegauge_benches::Cluster;
use tidegauge_model::Timestamp;
use tidegauge_tsdb::column::{self, Encoder, EncodingChoice};

const VALUES: usize = 240;
const CHUNKS: usize = 100;

/// A small generator (xorshift), seeded: the same values in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

fn chunks(kind: &str) -> Vec<Vec<f64>> {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let chunk = |_| {
        let start = random.below(1 << 30) as f64;
        let mut sum = start;
        let values = (0..VALUES).map(|_| match kind {
            "constant" => start,
            "counter" => {
                sum += random.below(500) as f64;
                sum
            }
            "gauge" => start + (random.below(4096) * 4096) as f64,
            "seconds" => {
                sum += random.below(50) as f64 / 100.0;
                sum
            }
            _ => random.below(1 << 52) as f64 / (1u64 << 52) as f64,
        });
        values.collect()
    };
    (0..CHUNKS).map(chunk).collect()
}

fn values(criterion: &mut Criterion) {
    for choice in [EncodingChoice::Auto, EncodingChoice::Gorilla] {
        let mut group = criterion.benchmark_group(format!("chunk/{choice:?}").to_lowercase());
        group.throughput(Throughput::Elements((VALUES * CHUNKS) as u64));
        for kind in ["constant", "counter", "gauge", "seconds", "noise"] {
            let chunks = chunks(kind);
            let mut encoder = Encoder::new(choice);
            let mut encode = |chunk: &Vec<f64>| {
                let mut out = Vec::new();
                encoder.encode(chunk, &mut out);
                out
            };
            let encoded: Vec<Vec<u8>> = chunks.iter().map(&mut encode).collect();
            group.bench_function(BenchmarkId::new("encode", kind), |b| {
                b.iter(|| chunks.iter().for_each(|chunk| drop(black_box(encode(chunk)))));
            });
            group.bench_function(BenchmarkId::new("decode", kind), |b| {
                let mut out = Vec::new();
                b.iter(|| {
                    for chunk in &encoded {
                        out.clear();
                        assert!(column::decode(chunk, VALUES, &mut out).is_ok());
                        black_box(&out);
                    }
                });
            });
        }
        group.finish();
    }
}

fn timestamps(criterion: &mut Criterion) {
    let mut random = Random(7);
    let rows = VALUES * CHUNKS;
    let times: Vec<Timestamp> = (0..rows as i64)
        .map(|i| Timestamp::from_millis(1_760_000_000_000 + 15_000 * i + random.below(5) as i64))
        .collect();
    let mut encoded = Vec::new();
    column::encode_timestamps(&times, &mut encoded);
    let mut group = criterion.benchmark_group("chunk/timestamps");
    group.throughput(Throughput::Elements(rows as u64));
    group.bench_function("decode", |b| {
        let mut out = Vec::new();
        b.iter(|| {
            out.clear();
            assert!(column::decode_timestamps(&encoded, rows, &mut out).is_ok());
            black_box(&out);
        });
    });
    group.finish();
}

/// Whole columns of two hours from the mix that real targets have, decoded run by run into one buffer on one core. The
/// second figure leaves out the columns that never change, which cost next to nothing.
fn columns(criterion: &mut Criterion) {
    let mut cluster = Cluster::wide(1, 1000, 7);
    let mut columns: Vec<Vec<f64>> = vec![Vec::new(); 1000];
    for _ in 0..2 * VALUES {
        for (column, value) in columns.iter_mut().zip(cluster.values(0)) {
            column.push(*value);
        }
        cluster.tick();
    }
    let changing: Vec<Vec<f64>> = columns
        .iter()
        .filter(|c| c.windows(2).any(|w| w[0].to_bits() != w[1].to_bits()))
        .cloned()
        .collect();
    let mut group = criterion.benchmark_group("decode whole columns");
    for (name, columns) in [("all kinds", &columns), ("only changing ones", &changing)] {
        let runs: Vec<Vec<u8>> = columns
            .iter()
            .flat_map(|c| c.chunks(VALUES))
            .map(|values| {
                let mut out = Vec::new();
                column::encode(values, EncodingChoice::Auto, &mut out);
                out
            })
            .collect();
        group.throughput(Throughput::Elements((runs.len() * VALUES) as u64));
        group.bench_function(name, |b| {
            let mut out = Vec::with_capacity(2 * VALUES);
            b.iter(|| {
                for two in runs.chunks(2) {
                    out.clear();
                    for run in two {
                        assert!(column::decode(run, VALUES, &mut out).is_ok());
                    }
                    black_box(&out);
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, values, timestamps, columns);
criterion_main!(benches);
