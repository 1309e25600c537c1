//! Late samples: what is taken, how it reads, where it goes.

use crate::support::{all, at, content, labels, metric, open, options, refused_of_row};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tidegauge_model::{
    Appendable, ColumnBuf, OnReject, Queryable, ReadContext, RejectReason, SelectHints, SeriesSet, TimeRange, Values,
    stale_marker,
};
use tidegauge_tsdb::fs::{Fs, MemoryFs};
use tidegauge_tsdb::{Db, EARLIEST_MS, Fsync, Options, SnapshotHead};

fn late(block_ms: i64, window_ms: i64) -> Options {
    Options {
        block_ms,
        out_of_order_ms: window_ms,
        ..options(Fsync::Never)
    }
}

fn fresh(options: &Options) -> (Arc<dyn Fs>, Arc<Db>) {
    let fs: Arc<dyn Fs> = Arc::new(MemoryFs::new());
    let db = open(&fs, options.clone()).unwrap();
    (fs, db)
}

/// Hands loose samples over in this order.
fn send(db: &Db, samples: &[(&str, i64, f64)]) -> Vec<RejectReason> {
    let mut appender = db.appender();
    for (name, time, value) in samples {
        let series = appender.resolve(None, &labels(name)).unwrap();
        appender.append_at(series, at(*time), *value).unwrap();
    }
    let done = appender.commit(OnReject::Skip).unwrap();
    assert_eq!(done.samples + done.rejected.len() as u64, samples.len() as u64);
    done.rejected.iter().map(|r| r.reason).collect()
}

fn samples(db: &Db, name: &str) -> Vec<(i64, f64)> {
    let found = all(db).remove(&labels(name)).unwrap_or_default();
    found.iter().map(|(t, v)| (*t, f64::from_bits(*v))).collect()
}

#[test]
fn inside_the_window_a_sample_may_come_late_and_what_came_first_stays() {
    let (fs, db) = fresh(&late(1000, 300));
    assert_eq!(send(&db, &[("a", 1000, 1.0), ("a", 1010, 2.0)]), []);
    let refused = send(
        &db,
        &[
            ("a", 1005, 3.0),
            ("a", 1005, 4.0),
            ("a", 1000, 5.0),
            ("a", 710, 6.0),
            ("a", 709, 7.0),
            ("a", 1010, 2.0),
            ("b", 710, 8.0),
            ("b", 500, 9.0),
        ],
    );
    assert_eq!(refused, [RejectReason::TooOld, RejectReason::TooOld]);
    assert!(matches!(
        send(&db, &[("a", 1010, 9.0)])[..],
        [RejectReason::Duplicate {
            existing: 2.0,
            new: 9.0,
            ..
        }]
    ));
    assert_eq!(send(&db, &[("a", 1005, 10.0)]), [], "dropped without a word");
    let expect = [(710, 6.0), (1000, 1.0), (1005, 3.0), (1010, 2.0)];
    assert_eq!(samples(&db, "a"), expect);
    assert_eq!(samples(&db, "b"), [(710, 8.0)], "nothing newer of it is there");
    for (name, count) in [
        ("late_samples_appended", 3.0),
        ("late_samples_repeated", 2.0),
        ("too_old_samples", 2.0),
        ("duplicate_samples", 1.0),
    ] {
        assert_eq!(
            metric(&db, &format!("tidegauge_tsdb_head_{name}_total")),
            count,
            "{name}"
        );
    }
    drop(db);
    let db = open(&fs, late(1000, 300)).unwrap();
    assert_eq!(samples(&db, "a"), expect);
    db.set_out_of_order_ms(0);
    assert_eq!(send(&db, &[("a", 1006, 1.0)]), [RejectReason::OutOfOrder]);
    assert_eq!(send(&db, &[("c", 509, 1.0)]), [RejectReason::OutOfBounds]);
    assert_eq!(samples(&db, "a"), expect, "what is stored stays");
    db.set_out_of_order_ms(1);
    assert_eq!(send(&db, &[("a", 1009, 1.0), ("a", 1008, 1.0)]), [RejectReason::TooOld]);
}

#[test]
fn a_row_behind_is_late_and_its_stale_markers_are_not() {
    let (_, db) = fresh(&late(1000, 300));
    assert_eq!(refused_of_row(&db, "t", 1000, &[("a", 1.0), ("b", 1.0)]), []);
    // The target's clock went back.
    let refused = refused_of_row(&db, "t", 950, &[("a", 2.0), ("b", stale_marker()), ("a", 3.0)]);
    assert_eq!(refused, [RejectReason::OutOfOrder, RejectReason::Repeated]);
    // A sender may bring a marker late: it has its own time.
    assert_eq!(send(&db, &[("c", 1000, 1.0), ("c", 900, stale_marker())]), []);
    assert!(samples(&db, "c")[0].1.is_nan());
    assert_eq!(refused_of_row(&db, "t", 1005, &[("a", 4.0), ("b", 4.0)]), []);
    assert_eq!(samples(&db, "a"), [(950, 2.0), (1000, 1.0), (1005, 4.0)]);
    assert_eq!(samples(&db, "b"), [(1000, 1.0), (1005, 4.0)]);
    // A marker of a timeline that does not own the series is dropped, wherever it lies.
    assert_eq!(refused_of_row(&db, "other", 940, &[("a", stale_marker())]), []);
    assert_eq!(samples(&db, "a").len(), 3);
}

#[test]
fn the_ends_of_time_are_bounded() {
    for window in [0, 1, i64::MAX] {
        let (_, db) = fresh(&late(1000, window));
        assert_eq!(send(&db, &[("a", i64::MAX, 1.0)]), [RejectReason::TooNew]);
        assert_eq!(send(&db, &[("a", 0, 1.0)]), []);
        let expect = match window {
            0 => vec![RejectReason::OutOfBounds; 2],
            1 => vec![RejectReason::TooOld; 2],
            _ => vec![RejectReason::TooOld],
        };
        assert_eq!(
            send(&db, &[("a", EARLIEST_MS - 1, 1.0), ("a", EARLIEST_MS, 1.0)]),
            expect
        );
        db.maintain().unwrap();
        assert_eq!(samples(&db, "a").len(), 3 - expect.len());
        assert_eq!(refused_of_row(&db, "t", i64::MIN, &[("b", 1.0)]), [expect[0]]);
    }
}

#[test]
fn late_samples_of_written_windows_get_blocks_of_their_own() {
    let options = late(100, 10_000);
    let (fs, db) = fresh(&options);
    for time in (1000..1400).step_by(10) {
        assert_eq!(refused_of_row(&db, "t", time, &[("a", time as f64), ("b", 1.0)]), []);
        db.maintain().unwrap();
    }
    let written = metric(&db, "tidegauge_tsdb_blocks");
    assert_eq!(written, 3.0);
    send(
        &db,
        &[
            ("a", 1005, 0.5),
            ("a", 1010, 0.5),
            ("a", 1105, 0.5),
            ("a", 1305, 0.5),
            ("c", 955, 0.5),
        ],
    );
    db.maintain().unwrap();
    assert_eq!(
        metric(&db, "tidegauge_tsdb_blocks"),
        written,
        "they wait for the next window"
    );
    assert_eq!(metric(&db, "tidegauge_tsdb_head_late_samples"), 5.0);
    let expect = {
        let mut expect: BTreeMap<i64, f64> = (1000..1400).step_by(10).map(|t| (t, t as f64)).collect();
        expect.extend([(1005, 0.5), (1105, 0.5), (1305, 0.5)]);
        move |upto: i64| -> Vec<(i64, f64)> { expect.iter().map(|(t, v)| (*t, *v)).filter(|s| s.0 < upto).collect() }
    };
    assert_eq!(samples(&db, "a"), expect(1400));
    db.snapshot(SnapshotHead::Include).unwrap();
    assert_eq!(refused_of_row(&db, "t", 1460, &[("a", 0.0), ("b", 1.0)]), []);
    db.maintain().unwrap();
    // The window from 1300 on took its own; those from 900, 1000 and 1100 on got one more each.
    assert_eq!(metric(&db, "tidegauge_tsdb_late_blocks_written_total"), 3.0);
    assert_eq!(metric(&db, "tidegauge_tsdb_blocks"), written + 4.0);
    assert_eq!(metric(&db, "tidegauge_tsdb_head_late_samples"), 0.0);
    for _ in 0..3 {
        assert_eq!(samples(&db, "a"), [expect(1400), vec![(1460, 0.0)]].concat());
        assert_eq!(samples(&db, "c"), [(955, 0.5)]);
        let clipped = content(&*db, TimeRange::new(at(1004), at(1011)));
        assert_eq!(clipped[&labels("a")].len(), 2);
        db.maintain().unwrap();
    }
    drop(db);
    let db = open(&fs, options).unwrap();
    assert_eq!(
        metric(&db, "tidegauge_tsdb_head_late_samples"),
        0.0,
        "the log says that blocks have them"
    );
    let segments = metric(&db, "tidegauge_tsdb_wal_segments");
    assert_eq!(
        segments, 3.0,
        "the row at 1460, what was told behind it, what is to come"
    );
    assert_eq!(samples(&db, "a"), [expect(1400), vec![(1460, 0.0)]].concat());
}

#[test]
fn much_that_is_late_does_not_wait_for_a_window() {
    let options = Options {
        late_bytes: 2000,
        ..late(1000, 100_000)
    };
    let (fs, db) = fresh(&options);
    assert_eq!(send(&db, &[("now", 100_000, 1.0)]), []);
    let mut expect = Vec::new();
    for time in (50_000i64..60_000).step_by(7) {
        let value = (time as f64).sqrt();
        assert_eq!(send(&db, &[("a", time, value)]), []);
        expect.push((time, value));
        db.maintain().unwrap();
        assert!(metric(&db, "tidegauge_tsdb_head_late_bytes") < 4000.0);
    }
    assert!(metric(&db, "tidegauge_tsdb_late_blocks_written_total") >= 10.0);
    assert_eq!(samples(&db, "a"), expect);
    // A row may still come to the window before that of the only one.
    assert_eq!(send(&db, &[("b", 99_600, 1.0)]), []);
    drop(db);
    let db = open(&fs, options).unwrap();
    assert_eq!((samples(&db, "a"), samples(&db, "b")), (expect, vec![(99_600, 1.0)]));
}

/// Reads what a view sees, again and again.
fn read(set: &SeriesSet) -> usize {
    let mut buf = ColumnBuf::default();
    set.iter()
        .flat_map(|g| (0..g.len()).map(move |s| (g, s)))
        .map(|(g, s)| match g.read(s, &mut buf).unwrap().values {
            Values::Float(v) => v.len(),
            Values::Histogram(_) => 0,
        })
        .sum()
}

#[test]
fn a_view_sees_all_of_a_commit_or_none_while_blocks_take_the_samples() {
    let (_, db) = fresh(&Options {
        late_bytes: 500,
        ..late(100, 1_000_000)
    });
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for step in 0..1500i64 {
                let now = 100_000 + step * 5;
                // A row, a late sample of a window in the head, and one of a window that no row is in.
                assert_eq!(send(&db, &[("a", now, 1.0), ("a", now - 2, 1.0), ("a", step, 1.0)]), []);
            }
            done.store(true, Ordering::SeqCst);
        });
        scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                db.maintain().unwrap();
            }
        });
        while !done.load(Ordering::SeqCst) {
            let view = db.querier(TimeRange::ALL).unwrap();
            let select = || {
                let hints = SelectHints::range(TimeRange::ALL);
                read(&view.select(&[], &hints, &ReadContext::unlimited()).unwrap())
            };
            let first = select();
            assert_eq!(first % 3, 0, "three samples a commit");
            assert_eq!(select(), first, "a view does not change");
        }
    });
    assert_eq!(samples(&db, "a").len(), 4500);
}

#[test]
fn a_view_keeps_late_samples_while_their_series_are_let_go() {
    let (_, db) = fresh(&late(100, 1000));
    let names: Vec<String> = (0..40).map(|n| format!("gone{n}")).collect();
    assert_eq!(send(&db, &[("now", 1000, 1.0)]), []);
    for name in &names {
        assert_eq!(send(&db, &[(name, 500, 2.0), (name, 400, 2.0)]), []);
    }
    let expect = all(&*db);
    let view = db.querier(TimeRange::ALL).unwrap();
    let mut time = 1000;
    let mut advance = |rounds: usize| {
        for _ in 0..rounds {
            time += 40;
            assert_eq!(send(&db, &[("now", time, 1.0)]), []);
            db.maintain().unwrap();
        }
    };
    let cx = ReadContext::unlimited();
    let series = |view: &dyn tidegauge_model::Querier| view.series(&[], 0, &cx).unwrap().items.len();
    for _ in 0..10 {
        advance(3);
        let set = view.select(&[], &SelectHints::range(TimeRange::ALL), &cx).unwrap();
        assert_eq!((read(&set), series(&*view)), (81, 41));
    }
    assert!(metric(&db, "tidegauge_tsdb_late_blocks_written_total") >= 2.0);
    drop(view);
    advance(20);
    assert_eq!(metric(&db, "tidegauge_tsdb_head_series"), 1.0, "blocks have them");
    let now = all(&*db);
    assert!(names.iter().all(|n| now[&labels(n)] == expect[&labels(n)]));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// Any order of arrival reads as the order of time.
    #[test]
    fn disorder_reads_in_order(
        seed in proptest::collection::vec((0i64..4000, any::<f64>()), 1..600),
        late_bytes in prop_oneof![Just(0usize), Just(1 << 20)],
        per_commit in 1usize..50,
    ) {
        let options = Options { late_bytes, ..late(500, 1_000_000) };
        let (fs, db) = fresh(&options);
        prop_assert_eq!(send(&db, &[("a", 4000, 1.0)]), []);
        let mut expect = BTreeMap::from([(4000, 1.0f64.to_bits())]);
        for (n, commit) in seed.chunks(per_commit).enumerate() {
            let given: Vec<(&str, i64, f64)> = commit.iter().map(|(t, v)| ("a", *t, *v)).collect();
            prop_assert_eq!(send(&db, &given), []);
            for (time, value) in commit {
                expect.entry(*time).or_insert(value.to_bits());
            }
            if n % 3 == 0 {
                db.maintain().unwrap();
            }
        }
        let expect: Vec<(i64, u64)> = expect.into_iter().collect();
        prop_assert_eq!(&all(&*db)[&labels("a")], &expect);
        drop(db);
        let db = open(&fs, options).unwrap();
        db.maintain().unwrap();
        prop_assert_eq!(&all(&*db)[&labels("a")], &expect);
    }
}
