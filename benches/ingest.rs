//! Rows of known series into the store. Measured, as time of the one thread that appends: from the appender to the end of the commit, whose record is written
//! to the log (not synced). Not measured: the making of values, the first resolving of series, and maintenance, which
//! runs between rounds as its thread would beside them.
#![allow(
    missing_docs,
    clippy::expect_used,
    reason = "criterion's macros make public items without docs; a bench that cannot start stops"
)]

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use std::sync::Arc;
use std::time::Duration;
use tidegauge_benches::storage::{self, Feed, SERIES};
use tidegauge_benches::{Cluster, Stamps};
use tidegauge_model::testing::HandClock;
use tidegauge_model::{Appendable, OnReject};
use tidegauge_tsdb::Db;
use tidegauge_tsdb::allocator::MiMalloc;

/// The server's.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Rows from one round of maintenance to the next.
const MAINTAIN_ROWS: i64 = 20;

fn append(c: &mut Criterion) {
    let mut group = c.benchmark_group("append");
    for (name, targets, stamps) in [
        ("known series, one target", 1, Stamps::None),
        ("known series, 100 targets in turn", 100, Stamps::None),
        (
            "known series stamped by container, 100 targets in turn",
            100,
            Stamps::Containers,
        ),
    ] {
        let dir = tempfile::tempdir().expect("a folder for the bench");
        let clock = Arc::new(HandClock::at(storage::at(0)));
        let db = Db::open(dir.path(), storage::options(), clock.clone()).expect("a fresh store opens");
        let mut cluster = Cluster::wide(targets, SERIES, 7);
        let mut feed = Feed::reserved(&cluster, stamps);
        let mut row = 0;
        group.throughput(Throughput::Elements((targets * SERIES) as u64));
        group.bench_function(name, |b| {
            b.iter_custom(|rounds| {
                let mut spent = 0.0;
                for _ in 0..rounds {
                    clock.set(storage::at(row));
                    for target in 0..targets {
                        feed.append(&db, &cluster, target, row, &mut spent);
                    }
                    cluster.tick();
                    row += 1;
                    if row % MAINTAIN_ROWS == 0 {
                        db.maintain().expect("maintenance");
                    }
                }
                Duration::from_secs_f64(spent)
            });
        });
    }
    group.finish();
}

/// Measured: resolving 10,000 series that the store has never seen, and the commit of their first row.
fn first_row(c: &mut Criterion) {
    let cluster = Cluster::wide(10, SERIES, 7);
    let mut group = c.benchmark_group("append");
    group
        .sample_size(10)
        .throughput(Throughput::Elements(10 * SERIES as u64));
    group.bench_function("new series", |b| {
        b.iter_batched(
            || {
                let dir = tempfile::tempdir().expect("a folder for the bench");
                let clock = Arc::new(HandClock::at(storage::at(0)));
                let db = Db::open(dir.path(), storage::options(), clock).expect("a fresh store opens");
                (dir, db)
            },
            |(dir, db)| {
                for target in 0..cluster.targets() {
                    let mut appender = db.appender();
                    let timeline = appender.timeline(&format!("target-{target}")).expect("a timeline");
                    let labels = cluster.labels(target);
                    let columns = labels.map(|l| appender.resolve(Some(timeline), l).expect("a column"));
                    let row: Vec<_> = columns.zip(cluster.values(target).iter().copied()).collect();
                    appender
                        .append_row(timeline, storage::at(0), &row)
                        .expect("the columns are known");
                    appender.commit(OnReject::Skip).expect("the log takes it");
                }
                (dir, db)
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(benches, append, first_row);
criterion_main!(benches);
