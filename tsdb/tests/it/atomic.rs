//! Readers beside writers see all of a commit or none.

use crate::support::{at, eager, labels, open, options};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tidegauge_model::{
    Appendable, ColumnBuf, Matcher, OnReject, Queryable, ReadContext, SelectHints, TimeRange, Values,
};
use tidegauge_tsdb::fs::{Fs, MemoryFs};
use tidegauge_tsdb::{Db, Fsync, Options};

fn count(db: &Db, name: &str, view: &dyn tidegauge_model::Querier) -> usize {
    let _ = db;
    let hints = SelectHints::range(TimeRange::ALL);
    let set = view
        .select(&[Matcher::equal("__name__", name)], &hints, &ReadContext::unlimited())
        .unwrap();
    let mut buf = ColumnBuf::default();
    set.iter()
        .map(|g| match g.read(0, &mut buf).unwrap().values {
            Values::Float(v) => v.len(),
            Values::Histogram(_) => 0,
        })
        .sum()
}

#[test]
fn one_commit_over_three_timelines_is_seen_whole() {
    let fs: Arc<dyn Fs> = Arc::new(MemoryFs::new());
    let db = open(
        &fs,
        eager(Options {
            block_ms: 1000,
            ..options(Fsync::Never)
        }),
    )
    .unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for step in 0..3000i64 {
                let mut appender = db.appender();
                for key in ["a", "b"] {
                    let timeline = appender.timeline(key).unwrap();
                    let series = appender.resolve(Some(timeline), &labels(key)).unwrap();
                    appender
                        .append_row(timeline, at(step), &[(series, step as f64)])
                        .unwrap();
                }
                let loose = appender.resolve(None, &labels("c")).unwrap();
                appender.append_at(loose, at(step), 1.0).unwrap();
                appender.commit(OnReject::Fail).unwrap();
            }
            done.store(true, Ordering::SeqCst);
        });
        scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                db.maintain().unwrap();
            }
        });
        for _ in 0..2 {
            scope.spawn(|| {
                let mut before = 0;
                while !done.load(Ordering::SeqCst) {
                    let view = db.querier(TimeRange::ALL).unwrap();
                    let counts = ["a", "b", "c", "a"].map(|name| count(&db, name, &*view));
                    assert!(counts.iter().all(|c| *c == counts[0]), "{counts:?}");
                    assert!(counts[0] >= before, "nothing goes away");
                    before = counts[0];
                }
            });
        }
    });
    let view = db.querier(TimeRange::ALL).unwrap();
    assert_eq!(count(&db, "c", &*view), 3000);
}

/// Appends one commit to timeline `key`; every value is the time.
fn put(db: &Db, key: Option<&str>, time: i64, names: &[&str]) {
    let mut appender = db.appender();
    match key {
        Some(key) => {
            let timeline = appender.timeline(key).unwrap();
            let row: Vec<_> = names
                .iter()
                .map(|n| (appender.resolve(Some(timeline), &labels(n)).unwrap(), time as f64))
                .collect();
            appender.append_row(timeline, at(time), &row).unwrap();
        }
        None => {
            for name in names {
                let series = appender.resolve(None, &labels(name)).unwrap();
                appender.append_at(series, at(time), time as f64).unwrap();
            }
        }
    }
    appender.commit(OnReject::Fail).unwrap();
}

/// Two commits share a time, a view is made between them, then the rows are sealed before the view reads.
#[test]
fn a_view_between_two_commits_of_one_time_sees_only_the_first() {
    for key in [Some("t"), None] {
        for (rows, seal_between, later, keep) in [
            (1, false, 0, false),
            (5, false, 0, true),
            (5, true, 0, false),
            (5, false, 3, true),
            (5, true, 130, true),
            (130, false, 130, false),
        ] {
            let fs: Arc<dyn Fs> = Arc::new(MemoryFs::new());
            let db = open(
                &fs,
                Options {
                    block_ms: 1000,
                    ..options(Fsync::Never)
                },
            )
            .unwrap();
            for time in 0..rows - 1 {
                put(&db, key, time, &["a", "b"]);
                put(&db, key, time, &["c"]);
                put(&db, key, time, &["d", "e"]);
            }
            put(&db, key, rows - 1, &["a", "b"]);
            if seal_between {
                db.seal();
            }
            let first = db.querier(TimeRange::ALL).unwrap();
            put(&db, key, rows - 1, &["c"]);
            let second = db.querier(TimeRange::ALL).unwrap();
            let narrow = db.querier(TimeRange::new(at(0), at(rows - 1))).unwrap();
            put(&db, key, rows - 1, &["d", "e"]);
            let third = db.querier(TimeRange::ALL).unwrap();
            if keep {
                db.seal();
            }
            for time in rows..rows + later {
                put(&db, key, time, &["a", "c"]);
            }
            db.seal();
            db.maintain().unwrap();
            let rows = rows as usize;
            for (what, view, expect) in [
                ("first", &first, [rows, rows, rows - 1, rows - 1, rows - 1]),
                ("second", &second, [rows, rows, rows, rows - 1, rows - 1]),
                ("narrow", &narrow, [rows, rows, rows, rows - 1, rows - 1]),
                ("third", &third, [rows; 5]),
            ] {
                let found = ["a", "b", "c", "d", "e"].map(|name| count(&db, name, &**view));
                assert_eq!(
                    found, expect,
                    "{what} of {key:?}, {rows} rows, {seal_between}, {later}, {keep}"
                );
            }
        }
    }
}
