//! Rows of known series into the store, log included: one target of 1,000 series at a time.
#![allow(
    missing_docs,
    clippy::expect_used,
    reason = "criterion's macros make public items without docs; a bench that cannot start stops"
)]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::sync::Arc;
use tidegauge_benches::Cluster;
use tidegauge_model::testing::HandClock;
use tidegauge_model::{Appendable, OnReject, SeriesRef, Timestamp};
use tidegauge_tsdb::{Db, Fsync, Options};

const START_MS: i64 = 1_700_000_000_000;
const SERIES: usize = 1000;

fn append(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a folder for the bench");
    let clock = Arc::new(HandClock::at(Timestamp::from_millis(START_MS)));
    let options = Options {
        fsync: Fsync::Never,
        ..Options::default()
    };
    let db = Db::open(dir.path(), options, clock.clone()).expect("a fresh store opens");
    let mut cluster = Cluster::new(1, SERIES, 7);
    let mut appender = db.appender();
    let timeline = appender.timeline("bench").expect("a timeline");
    let columns: Vec<SeriesRef> = cluster
        .labels(0)
        .map(|l| appender.resolve(Some(timeline), l).expect("a column"))
        .collect();
    drop(appender);
    let mut row = Vec::with_capacity(SERIES);
    let mut at = START_MS;

    let mut group = c.benchmark_group("append");
    group.throughput(Throughput::Elements(SERIES as u64));
    group.bench_function("known series", |b| {
        b.iter(|| {
            cluster.tick();
            at += 15_000;
            clock.set(Timestamp::from_millis(at));
            row.clear();
            row.extend(columns.iter().copied().zip(cluster.values(0).iter().copied()));
            let mut appender = db.appender();
            appender
                .append_row(timeline, Timestamp::from_millis(at), &row)
                .expect("the columns are known");
            appender.commit(OnReject::Skip).expect("the log takes it")
        });
    });
    group.finish();
}

criterion_group!(benches, append);
criterion_main!(benches);
