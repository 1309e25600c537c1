//! Opening a store that was killed: 10,000 series with 300 rows, by the log alone and by a checkpoint.
#![allow(
    missing_docs,
    clippy::expect_used,
    reason = "criterion's macros make public items without docs; a bench that cannot start stops"
)]

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tidegauge_benches::Cluster;
use tidegauge_model::testing::HandClock;
use tidegauge_model::{Appendable, OnReject, SeriesRef, Timestamp};
use tidegauge_tsdb::{Db, Fsync, Options};

const START_MS: i64 = 1_700_000_400_000;
const TARGETS: usize = 10;
const SERIES: usize = 1000;
const ROWS: i64 = 300;

fn options() -> Options {
    Options {
        fsync: Fsync::Never,
        maintenance: None,
        run_file_age: Duration::ZERO,
        checkpoint_age: Duration::ZERO,
        ..Options::default()
    }
}

fn open(dir: &Path) -> Arc<Db> {
    let clock = Arc::new(HandClock::at(Timestamp::from_millis(START_MS + ROWS * 15_000)));
    Db::open(dir, options(), clock).expect("the store opens")
}

/// Rows of all targets, with a checkpoint after each hundred but not after the last.
fn fill(dir: &Path) {
    let db = open(dir);
    let mut cluster = Cluster::new(TARGETS, SERIES, 7);
    for step in 0..ROWS {
        cluster.tick();
        for target in 0..TARGETS {
            let mut appender = db.appender();
            let timeline = appender.timeline(&format!("target-{target}")).expect("a timeline");
            let row: Vec<(SeriesRef, f64)> = cluster
                .labels(target)
                .map(|l| appender.resolve(Some(timeline), l).expect("a column"))
                .zip(cluster.values(target).iter().copied())
                .collect();
            appender
                .append_row(timeline, Timestamp::from_millis(START_MS + step * 15_000), &row)
                .expect("the columns are known");
            appender.commit(OnReject::Skip).expect("the log takes it");
        }
        if step % 100 == 80 {
            db.maintain().expect("maintenance works");
        }
    }
}

/// What an opening leaves beside what was there.
fn remove_new(folder: &Path, kept: &[std::ffi::OsString]) {
    for entry in fs::read_dir(folder).expect("the folder lists").flatten() {
        if !kept.contains(&entry.file_name()) {
            fs::remove_file(entry.path()).expect("a file is removed");
        }
    }
}

fn replay(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a folder for the bench");
    fill(dir.path());
    let wal = dir.path().join("wal");
    let kept: Vec<_> = fs::read_dir(&wal)
        .expect("the folder lists")
        .flatten()
        .map(|e| e.file_name())
        .collect();
    let mut group = c.benchmark_group("open");
    group.sample_size(20);
    group.throughput(Throughput::Elements((TARGETS * SERIES) as u64 * ROWS as u64));
    for what in ["a checkpoint and the log behind it", "the whole log"] {
        if what == "the whole log" {
            fs::remove_dir_all(dir.path().join("checkpoint")).expect("the checkpoints are removed");
        }
        group.bench_function(what, |b| {
            b.iter_batched(
                || remove_new(&wal, &kept),
                |()| open(dir.path()),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, replay);
criterion_main!(benches);
