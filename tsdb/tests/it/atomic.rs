//! Readers beside writers see all of a commit or none.

use crate::support::{at, labels, open, options};
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
        Options {
            block_ms: 1000,
            ..options(Fsync::Never)
        },
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
