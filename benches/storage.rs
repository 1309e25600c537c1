//! The store as a whole: seal and write a block, open after a kill, find one of 100,000 series.
//!
//! Each on ten label pairs a series, two hours at 15 s. Filling the store is not in the measured time.
#![allow(
    missing_docs,
    clippy::expect_used,
    reason = "criterion's macros make public items without docs; a bench that cannot start stops"
)]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tidegauge_benches::storage::{self, Feed, ROWS, SERIES, TARGETS};
use tidegauge_benches::{Cluster, Stamps};
use tidegauge_model::testing::HandClock;
use tidegauge_model::{ColumnBuf, Matcher, Queryable, ReadContext, SelectHints, TimeRange, Values};
use tidegauge_tsdb::Db;

/// Targets of the store whose block is written: a tenth of the others', for it is filled anew for each round.
const SEALED: usize = 10;

/// Measured: one round of maintenance that seals all rows of two hours, writes them as a block, syncs and publishes it
/// and cuts the log; the time of the one thread that does it, so without waiting for the disk.
fn seal_and_write(c: &mut Criterion) {
    let samples = (SEALED * SERIES) as u64 * ROWS as u64;
    let mut group = c.benchmark_group("block");
    group.throughput(Throughput::Elements(samples)).sample_size(10);
    group.bench_function("seal and write 10k series, 2 h", |b| {
        b.iter_custom(|rounds| {
            let mut spent = Duration::ZERO;
            for _ in 0..rounds {
                let dir = tempfile::tempdir().expect("a folder for the bench");
                let clock = Arc::new(HandClock::at(storage::at(0)));
                let db = Db::open(dir.path(), storage::options(), clock.clone()).expect("a fresh store opens");
                let mut cluster = Cluster::wide(SEALED, SERIES, 7);
                let mut feed = Feed::reserved(&cluster, Stamps::None);
                // More than an hour after the block's two its window is closed.
                for row in 0..=ROWS + 241 {
                    clock.set(storage::at(row));
                    // What is behind the block is one series, so that it costs nothing.
                    let targets = if row < ROWS { SEALED } else { 1 };
                    for target in 0..targets {
                        feed.append(&db, &cluster, target, row, &mut 0.0);
                    }
                    cluster.tick();
                }
                let began = storage::thread_seconds();
                db.maintain().expect("a block is written");
                spent += Duration::from_secs_f64(storage::thread_seconds() - began);
                let blocks = db.metrics().blocks.load(std::sync::atomic::Ordering::Relaxed);
                assert_eq!(blocks, 1, "the window was closed");
            }
            spent
        });
    });
    group.finish();
}

fn first_value(db: &Db, cluster: &Cluster) -> f64 {
    let range = TimeRange::new(storage::at(0), storage::at(ROWS));
    let labels = cluster.labels(TARGETS / 2).nth(SERIES / 2).expect("a series");
    let matchers = ["__name__", "id"].map(|name| Matcher::equal(name, labels.value(name)));
    let querier = db.querier(range).expect("a view");
    let cx = ReadContext::unlimited();
    let set = querier
        .select(&matchers, &SelectHints::range(range), &cx)
        .expect("an answer");
    assert_eq!(set.iter().map(|g| g.len()).sum::<usize>(), 1, "one series meets both");
    let mut buf = ColumnBuf::default();
    let column = set.first().expect("the series").read(0, &mut buf).expect("its samples");
    assert_eq!(column.timestamps.len(), ROWS as usize);
    match column.values {
        Values::Float(values) => values.first().copied().expect("a value"),
        Values::Histogram(_) => f64::NAN,
    }
}

/// Measured: two matchers to the first decoded value (the whole column is decoded), and opening what a killed process
/// left to the same answer.
fn select_and_open(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a folder for the bench");
    let (db, clock, cluster) = storage::filled(dir.path());
    let mut group = c.benchmark_group("store of 100k series, 2 h");
    group.bench_function("select 1 by two matchers, to its first value", |b| {
        b.iter(|| first_value(&db, &cluster));
    });
    let expected = first_value(&db, &cluster);
    // Not closed: the files are as a kill leaves them.
    drop(db);
    group.sample_size(10).measurement_time(Duration::from_secs(20));
    group.bench_function("open after kill -9, to the first answer", |b| {
        b.iter_custom(|rounds| {
            let mut spent = Duration::ZERO;
            for _ in 0..rounds {
                let began = Instant::now();
                let db = Db::open(dir.path(), storage::options(), clock.clone()).expect("it opens again");
                let found = first_value(&db, &cluster);
                spent += began.elapsed();
                assert_eq!(found.to_bits(), expected.to_bits());
                drop(db);
            }
            spent
        });
    });
    group.finish();
}

criterion_group!(benches, select_and_open, seal_and_write);
criterion_main!(benches);
