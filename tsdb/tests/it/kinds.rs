//! Native histograms and exemplars, from the door in to the door out.

use crate::support::{
    DIR, all, at, content, eager, fingerprint, histogram, labels, metric, of_histograms, open, options,
};
use std::path::Path;
use std::sync::Arc;
use tidegauge_model::{
    AppendError, Appendable, CUSTOM_SCHEMA, ColumnBuf, CommitError, Counts, Exemplar, ExemplarCounts,
    ExemplarQueryable, Histogram, HistogramError, Labels, Matcher, Meter, OnReject, Queryable, ReadContext,
    RejectReason, SelectHints, Span, TimeRange, Values, stale_marker,
};
use tidegauge_tsdb::block::{BlockCache, BlockReader, list_blocks};
use tidegauge_tsdb::fs::{Fs, MemoryFs};
use tidegauge_tsdb::{Db, Fsync, Options};

fn memory() -> Arc<dyn Fs> {
    Arc::new(MemoryFs::new())
}

fn put(db: &Db, name: &str, samples: &[(i64, Histogram)]) -> Vec<RejectReason> {
    let mut appender = db.appender();
    let series = appender.resolve(None, &labels(name)).unwrap();
    for (time, histogram) in samples {
        appender
            .append_histogram(series, at(*time), Arc::new(histogram.clone()))
            .unwrap();
    }
    let done = appender.commit(OnReject::Skip).unwrap();
    done.rejected.iter().map(|r| r.reason).collect()
}

fn put_float(db: &Db, name: &str, time: i64, value: f64) -> Vec<RejectReason> {
    let mut appender = db.appender();
    let series = appender.resolve(None, &labels(name)).unwrap();
    appender.append_at(series, at(time), value).unwrap();
    let done = appender.commit(OnReject::Skip).unwrap();
    done.rejected.iter().map(|r| r.reason).collect()
}

/// Odd ones among them: NaN payloads, negative zero, custom bounds, another layout each few samples.
fn odd(n: i64) -> Histogram {
    match n % 7 {
        0 => Histogram {
            sum: f64::from_bits(0x7ff8_dead_beef_0000 | n.cast_unsigned()),
            ..histogram(n as u32)
        },
        1 => Histogram {
            schema: CUSTOM_SCHEMA,
            custom_values: vec![-0.0, 0.5, 1e300],
            positive_spans: vec![Span { offset: 1, length: 2 }],
            positive_buckets: vec![1.0, n as f64],
            count: 1.0 + n as f64,
            sum: -0.0,
            counts: Counts::Integer,
            ..Histogram::default()
        },
        _ => histogram(n as u32),
    }
}

#[test]
fn histograms_live_through_sealing_blocks_and_restarts() {
    let fs = memory();
    let narrow = Options {
        block_ms: 100,
        segment_bytes: 2000,
        checkpoint_log_bytes: 1,
        ..options(Fsync::Never)
    };
    let mut db = open(&fs, narrow.clone()).unwrap();
    let mut expect = Vec::new();
    for n in 0..60 {
        let time = 1000 + n * 9;
        assert_eq!(put(&db, "h", &[(time, odd(n)), (time + 1, odd(n))]), []);
        assert_eq!(put_float(&db, "f", time, n as f64), []);
        expect.extend([(time, fingerprint(&odd(n))), (time + 1, fingerprint(&odd(n)))]);
        match n % 10 {
            3 => db.seal(),
            5 => db.maintain().unwrap(),
            8 => {
                drop(db);
                db = open(&fs, narrow.clone()).unwrap();
            }
            _ => {}
        }
        let found = all(&*db);
        assert_eq!(found[&of_histograms(&labels("h"))], expect, "after {n}");
        assert_eq!(found[&labels("f")].len(), n as usize + 1);
    }
    let blocks = list_blocks(&*fs, Path::new(DIR)).unwrap();
    assert!(blocks.len() > 2);
    for id in blocks {
        let block = BlockReader::open(&fs, &Path::new(DIR).join(id.to_string()), &BlockCache::new(0)).unwrap();
        assert!(block.has_histograms());
        block.verify().unwrap();
    }
    let part = content(&*db, TimeRange::new(at(1100), at(1108)));
    let times = part[&of_histograms(&labels("h"))].iter().map(|s| s.0);
    assert!(times.eq([1100, 1108]), "{part:?}");
}

#[test]
fn a_marker_ends_histograms_that_only_a_block_has() {
    let narrow = Options {
        block_ms: 100,
        out_of_order_ms: 0,
        ..options(Fsync::Never)
    };
    for (narrow, reopen) in [
        (narrow.clone(), false),
        (eager(narrow.clone()), false),
        (eager(narrow), true),
    ] {
        let fs = memory();
        let mut db = open(&fs, narrow.clone()).unwrap();
        assert_eq!(put(&db, "h", &[(1000, histogram(1)), (1050, histogram(2))]), []);
        assert_eq!(put(&db, "changed", &[(1000, histogram(1))]), []);
        assert_eq!(put_float(&db, "changed", 1010, 1.0), []);
        assert_eq!(put_float(&db, "f", 1250, 1.0), []);
        db.maintain().unwrap();
        assert_eq!(
            metric(&db, "tidegauge_tsdb_head_histogram_series"),
            0.0,
            "a block has them"
        );
        if reopen {
            drop(db);
            db = open(&fs, narrow).unwrap();
        }
        let before = all(&*db);
        assert_eq!(put_float(&db, "h", 1251, stale_marker()), []);
        assert_eq!(put_float(&db, "changed", 1251, stale_marker()), []);
        let found = all(&*db);
        let h = &found[&of_histograms(&labels("h"))];
        assert_eq!(h.len(), before[&of_histograms(&labels("h"))].len() + 1);
        assert_eq!(h.last(), Some(&(1251, fingerprint(&Histogram::stale()))));
        assert!(!found.contains_key(&labels("h")), "no float");
        assert_eq!(
            found[&labels("changed")].last(),
            Some(&(1251, stale_marker().to_bits()))
        );
        // The log tells it the same way.
        drop(db);
        assert_eq!(all(&*open(&fs, options(Fsync::Never)).unwrap()), found);
    }
}

#[test]
fn a_block_without_histograms_is_one_that_older_versions_read() {
    let fs = memory();
    let db = open(
        &fs,
        Options {
            block_ms: 10,
            ..options(Fsync::Never)
        },
    )
    .unwrap();
    for time in 0..40 {
        put_float(&db, "f", time, 1.0);
    }
    db.maintain().unwrap();
    let id = list_blocks(&*fs, Path::new(DIR)).unwrap()[0];
    let block = BlockReader::open(&fs, &Path::new(DIR).join(id.to_string()), &BlockCache::new(0)).unwrap();
    assert!(!block.has_histograms());
}

#[test]
fn order_and_duplicates_are_decided_over_both_kinds() {
    let db = open(&memory(), options(Fsync::Never)).unwrap();
    let one = histogram(1);
    assert_eq!(put(&db, "h", &[(10, one.clone())]), []);
    assert_eq!(put(&db, "h", &[(10, one.clone())]), [], "an exact repeat");
    let hinted = Histogram {
        reset_hint: tidegauge_model::ResetHint::Reset,
        ..one.clone()
    };
    assert_eq!(
        put(&db, "h", &[(10, hinted)]),
        [],
        "the hint speaks of the sample before"
    );
    let duplicate = RejectReason::DuplicateHistogram { at: at(10) };
    assert_eq!(put(&db, "h", &[(10, histogram(2))]), [duplicate]);
    assert_eq!(put(&db, "h", &[(9, one.clone())]), [RejectReason::OutOfOrder]);
    let exists = RejectReason::HistogramExists { at: at(10), new: 4.0 };
    assert_eq!(put_float(&db, "h", 10, 4.0), [exists]);
    assert_eq!(
        exists.to_string(),
        "duplicate sample for timestamp 10; overrides not allowed: existing is a histogram, new value 4"
    );
    assert_eq!(put_float(&db, "h", 9, 4.0), [RejectReason::OutOfOrder]);
    assert_eq!(put_float(&db, "h", 11, 4.0), []);
    assert_eq!(
        put(&db, "h", &[(11, one.clone())]),
        [RejectReason::DuplicateHistogram { at: at(11) }]
    );
    assert_eq!(put(&db, "h", &[(12, one.clone())]), []);
    assert_eq!(put(&db, "h", &[(i64::MAX / 2, one)]), [RejectReason::TooNew]);
    let found = all(&*db);
    assert_eq!(found[&labels("h")], [(11, 4.0f64.to_bits())]);
    assert_eq!(
        found[&of_histograms(&labels("h"))]
            .iter()
            .map(|s| s.0)
            .collect::<Vec<_>>(),
        [10, 12]
    );
    let querier = db.querier(TimeRange::ALL).unwrap();
    let series = querier.series(&[], 0, &ReadContext::unlimited()).unwrap();
    assert_eq!(series.items, [labels("h")], "one series, whatever its kinds");
}

/// A row of a whole timeline in its usual order is taken without a look at each series, unless a histogram is about.
#[test]
fn a_row_finds_the_histogram_that_is_in_its_way() {
    let db = open(&memory(), options(Fsync::Never)).unwrap();
    let row = |time: i64| {
        let mut appender = db.appender();
        let timeline = appender.timeline("t").unwrap();
        let row: Vec<_> = ["a", "b"]
            .map(|name| (appender.resolve(Some(timeline), &labels(name)).unwrap(), time as f64))
            .into();
        appender.append_row(timeline, at(time), &row).unwrap();
        if time == 20 {
            appender
                .append_histogram(row[0].0, at(30), Arc::new(histogram(1)))
                .unwrap();
        }
        appender.commit(OnReject::Skip).unwrap().rejected
    };
    assert!(row(10).is_empty() && row(20).is_empty());
    let rejected = row(25);
    assert_eq!(
        rejected.iter().map(|r| (r.ordinal, r.reason)).collect::<Vec<_>>(),
        [(0, RejectReason::OutOfOrder)]
    );
    assert!(row(40).is_empty());
}

#[test]
fn a_float_stale_marker_ends_a_series_of_histograms_as_one_of_its_kind() {
    let fs = memory();
    let mut db = open(&fs, options(Fsync::Never)).unwrap();
    put(&db, "h", &[(10, histogram(1))]);
    assert_eq!(put_float(&db, "h", 20, stale_marker()), []);
    assert_eq!(put_float(&db, "h", 20, stale_marker()), []);
    for _ in 0..2 {
        let found = all(&*db);
        assert!(!found.contains_key(&labels("h")));
        let stale = (20, fingerprint(&Histogram::stale()));
        assert_eq!(found[&of_histograms(&labels("h"))].last(), Some(&stale));
        drop(db);
        db = open(&fs, options(Fsync::Never)).unwrap();
    }
    assert_eq!(put_float(&db, "h", 30, 1.0), []);
    assert_eq!(put_float(&db, "h", 40, stale_marker()), []);
    assert_eq!(all(&*db)[&labels("h")].len(), 2, "a series of floats again");
}

#[test]
fn what_is_no_histogram_is_refused_at_the_door() {
    let options = Options {
        max_histogram_buckets: 2,
        ..options(Fsync::Never)
    };
    let db = open(&memory(), options).unwrap();
    let mut appender = db.appender();
    let series = appender.resolve(None, &labels("h")).unwrap();
    let mut refused = |histogram: Histogram| {
        appender
            .append_histogram(series, at(1), Arc::new(histogram))
            .unwrap_err()
    };
    let schema = Histogram {
        schema: 9,
        ..Histogram::default()
    };
    assert_eq!(refused(schema), AppendError::Histogram(HistogramError::Schema(9)));
    let too_many = HistogramError::TooMany {
        what: "buckets",
        found: 3,
        limit: 2,
    };
    assert_eq!(refused(histogram(1)), AppendError::Histogram(too_many));
    assert_eq!(appender.commit(OnReject::Fail).unwrap().samples, 0);
    let counted = db.metrics().list();
    assert!(
        counted
            .iter()
            .any(|f| f.0 == "tidegauge_tsdb_head_invalid_histograms_total" && f.3[0].1 == 2.0)
    );
}

#[test]
fn a_view_sees_the_histograms_of_a_commit_with_its_floats_or_not_at_all() {
    let db = open(&memory(), options(Fsync::Never)).unwrap();
    let both = |time: i64| {
        let mut appender = db.appender();
        let (f, h) = (labels("f"), labels("h"));
        let (f, h) = (appender.resolve(None, &f).unwrap(), appender.resolve(None, &h).unwrap());
        appender.append_at(f, at(time), 1.0).unwrap();
        appender.append_histogram(h, at(time), Arc::new(histogram(1))).unwrap();
        appender.commit(OnReject::Fail).unwrap();
    };
    both(1);
    both(2);
    let view = db.querier(TimeRange::ALL).unwrap();
    both(3);
    db.seal();
    both(4);
    let set = view
        .select(&[], &SelectHints::range(TimeRange::ALL), &ReadContext::unlimited())
        .unwrap();
    let mut buf = ColumnBuf::default();
    let mut counts: Vec<(bool, usize)> = set
        .iter()
        .map(|g| match g.read(0, &mut buf).unwrap().values {
            Values::Float(v) => (false, v.len()),
            Values::Histogram(v) => (true, v.len()),
        })
        .collect();
    counts.sort_unstable();
    assert_eq!(counts, [(false, 2), (true, 2)]);
    assert_eq!(all(&*db).values().map(Vec::len).collect::<Vec<_>>(), [4, 4]);
}

#[test]
fn all_or_nothing_holds_for_histograms_too() {
    let fs = memory();
    let db = open(&fs, options(Fsync::Never)).unwrap();
    put(&db, "h", &[(10, histogram(1))]);
    let mut appender = db.appender();
    let (f, h) = (labels("f"), labels("h"));
    let (f, h) = (appender.resolve(None, &f).unwrap(), appender.resolve(None, &h).unwrap());
    appender.append_at(f, at(11), 1.0).unwrap();
    appender.append_histogram(h, at(9), Arc::new(histogram(1))).unwrap();
    let failed = appender.commit(OnReject::Fail);
    assert!(matches!(failed, Err(CommitError::Rejected(r)) if r.ordinal == 1));
    assert_eq!(all(&*db).len(), 1);
}

/// Whatever byte of the log changes: what is found was written, and what was written before the frame is there.
#[test]
fn a_damaged_log_gives_back_no_histogram_that_was_not_written() {
    let disk = MemoryFs::new();
    let fs: Arc<dyn Fs> = Arc::new(disk.clone());
    let path = Path::new(DIR).join("wal/00000001.seg");
    let db = open(&fs, options(Fsync::Never)).unwrap();
    let mut written = Vec::new();
    let mut ends = Vec::new();
    for n in 0..150i64 {
        let one = Histogram {
            counts: Counts::Integer,
            schema: 1,
            ..histogram(n as u32)
        };
        put(&db, "h", &[(n, one.clone())]);
        written.push((n, fingerprint(&one)));
        ends.push(disk.read(&path).unwrap().len());
    }
    drop(db);
    let good = disk.read(&path).unwrap();
    for damaged in (20..good.len()).step_by(97) {
        let disk = MemoryFs::new();
        let fs: Arc<dyn Fs> = Arc::new(disk.clone());
        drop(open(&fs, options(Fsync::Never)).unwrap());
        let mut bytes = good.clone();
        bytes[damaged] ^= 0x55;
        disk.plant(&path, &bytes).unwrap();
        let db = open(&fs, options(Fsync::Never)).unwrap();
        let found = all(&*db).remove(&of_histograms(&labels("h"))).unwrap_or_default();
        assert!(found.iter().all(|s| written.contains(s)), "byte {damaged}");
        let before = ends.iter().filter(|end| **end <= damaged).count();
        assert!(found.starts_with(&written[..before]), "byte {damaged}");
        // At most up to the next histogram that stands alone.
        assert!(
            found.len() + 66 >= written.len(),
            "byte {damaged}: {} found",
            found.len()
        );
    }
}

/// Sealed runs, open chains and exemplars come back from a checkpoint: the log before it is gone, behind nobody's back.
#[test]
fn a_checkpoint_holds_histograms_and_exemplars() {
    let disk = MemoryFs::new();
    let fs: Arc<dyn Fs> = Arc::new(disk.clone());
    let often = Options {
        checkpoint_log_bytes: 1,
        max_exemplars: 2,
        ..options(Fsync::Never)
    };
    let db = open(&fs, often.clone()).unwrap();
    let mut expect = Vec::new();
    let mut give = |db: &Db, n: i64| {
        put(db, "h", &[(n, odd(n))]);
        put(db, "sealed", &[(n, odd(n))]);
        put_exemplar(db, "h", n, &traced(n as f64, None));
        expect.push((n, fingerprint(&odd(n))));
        expect.clone()
    };
    for n in 0..9 {
        give(&db, n);
    }
    db.seal();
    for n in 9..14 {
        give(&db, n);
    }
    db.maintain().unwrap();
    let before = give(&db, 14);
    let written = db.metrics().list();
    let written = written
        .iter()
        .find(|f| f.0 == "tidegauge_tsdb_checkpoints_written_total");
    assert!(written.unwrap().3[0].1 >= 1.0);
    drop(db);
    // The log up to the checkpoint is not asked: damage there goes unseen.
    let first = Path::new(DIR).join("wal/00000001.seg");
    let header = disk.read(&first).unwrap()[..20].to_vec();
    disk.plant(&first, &header).unwrap();
    let db = open(&fs, often).unwrap();
    for name in ["h", "sealed"] {
        assert_eq!(all(&*db)[&of_histograms(&labels(name))], before);
    }
    assert_eq!(found(&db, "h"), [(13, 13.0), (14, 14.0)]);
    assert_eq!(put(&db, "h", &[(14, odd(14))]), [], "the newest is known");
    let duplicate = RejectReason::DuplicateHistogram { at: at(14) };
    assert_eq!(put(&db, "h", &[(14, odd(15))]), [duplicate]);
}

fn traced(value: f64, own: Option<i64>) -> Exemplar {
    Exemplar {
        labels: Labels::from_pairs([("trace_id", format!("t{value}"))]).unwrap(),
        value,
        at: own.map(at),
    }
}

fn put_exemplar(db: &Db, name: &str, time: i64, exemplar: &Exemplar) -> ExemplarCounts {
    let mut appender = db.appender();
    let series = appender.resolve(None, &labels(name)).unwrap();
    appender.append_exemplar(series, at(time), exemplar).unwrap();
    appender.commit(OnReject::Fail).unwrap().exemplars
}

fn found(db: &Db, name: &str) -> Vec<(i64, f64)> {
    let selector = vec![Matcher::equal("__name__", name)];
    let found = db
        .exemplars(&[selector], TimeRange::ALL, &ReadContext::unlimited())
        .unwrap();
    let exemplars = found.into_iter().flat_map(|s| s.exemplars);
    exemplars.map(|e| (e.at.unwrap().millis(), e.value)).collect()
}

#[test]
fn exemplars_are_a_ring_that_the_log_restores() {
    let fs = memory();
    let ring = Options {
        max_exemplars: 3,
        ..options(Fsync::Never)
    };
    let db = open(&fs, ring.clone()).unwrap();
    for n in 0..5 {
        put_exemplar(&db, ["a", "b"][n % 2], n as i64 * 10, &traced(n as f64, None));
    }
    let repeated = put_exemplar(&db, "a", 99, &traced(4.0, None));
    assert_eq!((repeated.stored, repeated.repeated), (0, 1));
    let old = put_exemplar(&db, "a", 99, &traced(9.0, Some(39)));
    assert_eq!((old.stored, old.out_of_order), (0, 1));
    let check = |db: &Db| {
        assert_eq!(found(db, "a"), [(20, 2.0), (40, 4.0)]);
        assert_eq!(found(db, "b"), [(30, 3.0)]);
    };
    check(&db);
    drop(db);
    let db = open(&fs, ring).unwrap();
    check(&db);
    // What was restored counts: the same again is repeated, with or without a time.
    assert_eq!(put_exemplar(&db, "a", 99, &traced(4.0, None)).repeated, 1);
    db.set_max_exemplars(1);
    assert_eq!((found(&db, "a"), found(&db, "b")), (vec![(40, 4.0)], vec![]));
    drop(db);
    let db = open(&fs, options(Fsync::Never)).unwrap();
    assert_eq!(found(&db, "a"), [], "off");
    assert_eq!(
        put_exemplar(&db, "a", 99, &traced(5.0, None)),
        ExemplarCounts::default()
    );
}

#[test]
fn exemplars_have_bounds_of_their_own() {
    let ring = Options {
        max_exemplars: 100,
        head: Meter::new("head", 3000),
        ..options(Fsync::Never)
    };
    let db = open(&memory(), ring).unwrap();
    let mut appender = db.appender();
    let series = appender.resolve(None, &labels("a")).unwrap();
    let long = Exemplar {
        labels: Labels::from_pairs([("trace_id", "é".repeat(121))]).unwrap(),
        ..traced(1.0, None)
    };
    assert_eq!(
        appender.append_exemplar(series, at(1), &long),
        Err(AppendError::ExemplarLabels { chars: 129, limit: 128 })
    );
    for n in 0..50 {
        appender
            .append_exemplar(series, at(n), &traced(n as f64, None))
            .unwrap();
    }
    let counts = appender.commit(OnReject::Fail).unwrap().exemplars;
    assert!(
        counts.stored > 1 && counts.refused > 1 && counts.stored + counts.refused == 50,
        "{counts:?}"
    );
    assert_eq!(found(&db, "a").len() as u64, counts.stored);
}
