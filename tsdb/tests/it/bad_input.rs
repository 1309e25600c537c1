//! Input that no well-behaved sender or user makes: each kind has its typed error, or is stored as it is.

use crate::support::{DIR, all, at, histogram, labels, metric, open, options, refused_of_row, row};
use std::path::Path;
use std::sync::Arc;
use tidegauge_model::testing::HandClock;
use tidegauge_model::{
    AppendError, Appendable, CommitError, Labels, LabelsError, Meter, OnReject, RejectReason, Timestamp, stale_marker,
};
use tidegauge_tsdb::column::EncodingChoice;
use tidegauge_tsdb::fs::{Fs, MemoryFs};
use tidegauge_tsdb::{Db, EARLIEST_MS, Error, Fsync, Options, SnapshotHead};

fn fresh(options: Options) -> (MemoryFs, Arc<dyn Fs>, Arc<Db>) {
    let disk = MemoryFs::new();
    let fs: Arc<dyn Fs> = Arc::new(disk.clone());
    let db = open(&fs, options).unwrap();
    (disk, fs, db)
}

/// Values that arithmetic or a text form would change.
fn odd_values() -> Vec<f64> {
    let bits = [
        0x7ff0_0000_0000_0001,
        0x7ff0_0000_0000_0002,
        0x7ff0_0000_0000_0003,
        0x7ff8_0000_0000_0000,
        0x7ff8_dead_beef_0001,
        0xfff8_0000_0000_0000,
        0xffff_ffff_ffff_ffff,
        0x8000_0000_0000_0000,
        0,
        1,
        0x8000_0000_0000_0001,
        0x000f_ffff_ffff_ffff,
        0x0010_0000_0000_0000,
        0x7ff0_0000_0000_0000,
        0xfff0_0000_0000_0000,
        0x7fef_ffff_ffff_ffff,
        0x433f_ffff_ffff_ffff,
        0x4340_0000_0000_0001,
        0x3fb9_9999_9999_999a,
    ];
    bits.map(f64::from_bits).into()
}

#[test]
fn every_bit_of_every_value_survives_head_log_run_block_and_snapshot() {
    for encoding in [EncodingChoice::Auto, EncodingChoice::Gorilla] {
        let wanted = || Options {
            block_ms: 1000,
            encoding,
            ..options(Fsync::Never)
        };
        let (_, fs, db) = fresh(wanted());
        let odd = odd_values();
        // Each value after each other one, in a row beside ordinary ones, and as samples of their own time.
        for step in 0..odd.len() * odd.len() {
            let (a, b) = (odd[step % odd.len()], odd[step / odd.len() * 7 % odd.len()]);
            row(&db, "t", step as i64 * 10, &[("a", a), ("b", b), ("c", step as f64)]).unwrap();
            let mut appender = db.appender();
            let loose = appender.resolve(None, &labels("loose")).unwrap();
            appender.append_at(loose, at(step as i64 * 10 + 3), a).unwrap();
            appender.commit(OnReject::Skip).unwrap();
        }
        let bits = |content: &crate::support::Content, name: &str| -> Vec<u64> {
            content[&labels(name)].iter().map(|s| s.1).collect()
        };
        let open_rows = all(&*db);
        let expected: Vec<u64> = (0..odd.len() * odd.len())
            .map(|i| odd[i % odd.len()].to_bits())
            .collect();
        assert_eq!(bits(&open_rows, "a"), expected);
        assert_eq!(bits(&open_rows, "loose"), expected);
        db.seal();
        assert_eq!(all(&*db), open_rows, "{encoding:?}: sealed");
        db.maintain().unwrap();
        assert!(metric(&db, "tidegauge_tsdb_blocks") > 0.0);
        assert_eq!(all(&*db), open_rows, "{encoding:?}: in blocks");
        let name = db.snapshot(SnapshotHead::Include).unwrap();
        drop(db);
        assert_eq!(all(&*open(&fs, wanted()).unwrap()), open_rows, "{encoding:?}: reopened");
        let clock = Arc::new(HandClock::at(at(1)));
        let copy = Db::open_with(fs, &Path::new(DIR).join("snapshots").join(name), wanted(), clock).unwrap();
        assert_eq!(all(&*copy), open_rows, "{encoding:?}: in the snapshot");
    }
}

#[test]
fn label_sets_that_are_none_are_refused_by_type() {
    assert_eq!(Labels::from_pairs([("", "x")]), Err(LabelsError::EmptyName("x".into())));
    assert_eq!(
        Labels::from_pairs([("a", "1"), ("b", "2"), ("a", "3")]),
        Err(LabelsError::Duplicate("a".into()))
    );
    let without = Labels::from_pairs([("__name__", "m"), ("gone", "")]).unwrap();
    assert_eq!(without, Labels::from_pairs([("__name__", "m")]).unwrap());
    let (_, _, db) = fresh(options(Fsync::Never));
    let mut appender = db.appender();
    for empty in [Labels::empty(), Labels::from_pairs([("a", "")]).unwrap()] {
        assert!(matches!(appender.resolve(None, &empty), Err(AppendError::Labels(_))));
    }
}

#[test]
fn names_values_and_sets_of_labels_have_their_bounds() {
    let (_, fs, db) = fresh(options(Fsync::Never));
    let long = "v".repeat(64 * 1024);
    let over = "v".repeat(64 * 1024 + 1);
    let many = |n: usize| Labels::from_pairs((0..n).map(|i| (format!("l{i:04}"), "x"))).unwrap();
    let one = |name: &str, value: &str| Labels::from_pairs([(name, value)]).unwrap();
    let mut appender = db.appender();
    let timeline = appender.timeline("t").unwrap();
    let fit: Vec<Labels> = vec![one("a", &long), one(&long, "a"), many(256)];
    let taken: Vec<_> = fit
        .iter()
        .map(|l| appender.resolve(Some(timeline), l).unwrap())
        .collect();
    for (set, name) in [(one("a", &over), "a"), (one(&over, "a"), "v")] {
        match appender.resolve(Some(timeline), &set) {
            Err(AppendError::Labels(why)) => assert!(why.contains(name) && why.contains("65536") && why.len() < 300),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(
        appender.resolve(Some(timeline), &many(257)),
        Err(AppendError::Limit {
            name: "labels of a series",
            limit: 256
        })
    );
    assert!(matches!(
        appender.timeline(&over),
        Err(AppendError::Limit { limit: 65536, .. })
    ));
    let values: Vec<_> = taken.iter().map(|s| (*s, 1.0)).collect();
    appender.append_row(timeline, at(1), &values).unwrap();
    appender.commit(OnReject::Fail).unwrap();
    let before = all(&*db);
    assert!(fit.iter().all(|l| before.contains_key(l)) && before.len() == 3);
    let name = db.snapshot(SnapshotHead::Include).unwrap();
    drop(db);
    assert_eq!(all(&*open(&fs, options(Fsync::Never)).unwrap()), before);
    let clock = Arc::new(HandClock::at(at(1)));
    let copy = Db::open_with(
        fs,
        &Path::new(DIR).join("snapshots").join(name),
        options(Fsync::Never),
        clock,
    )
    .unwrap();
    assert_eq!(all(&*copy), before);
}

/// Tests run with overflow checks: whatever adds to a time without care would panic here.
#[test]
fn times_at_the_ends_are_stored_or_refused_and_nothing_overflows() {
    let ends = [
        i64::MIN,
        i64::MIN + 1,
        EARLIEST_MS - 1,
        EARLIEST_MS,
        -1,
        0,
        1,
        i64::MAX - 1,
        i64::MAX,
    ];
    for max_future_ms in [0, 600_000, i64::MAX] {
        for now in [i64::MIN, 0, i64::MAX] {
            for width in [1, 1000, i64::MAX] {
                let fs: Arc<dyn Fs> = Arc::new(MemoryFs::new());
                let wanted = || Options {
                    block_ms: width,
                    max_future_ms,
                    retention_ms: 0,
                    ..options(Fsync::Never)
                };
                let start = || {
                    let clock = Arc::new(HandClock::at(at(now)));
                    Db::open_with(Arc::clone(&fs), Path::new(DIR), wanted(), clock).unwrap()
                };
                let db = start();
                let bound = at(now).saturating_add(max_future_ms);
                for (i, time) in ends.iter().enumerate() {
                    let done = row(&db, "t", *time, &[("m", i as f64)]).unwrap();
                    let refused = done.rejected.first().map(|r| r.reason);
                    let expected = match *time {
                        time if at(time) > bound => Some(RejectReason::TooNew),
                        time if time < EARLIEST_MS => Some(RejectReason::OutOfBounds),
                        _ => None,
                    };
                    assert_eq!(refused, expected, "{time} at {now} with {max_future_ms}");
                    let mut appender = db.appender();
                    let loose = appender.resolve(None, &labels("loose")).unwrap();
                    appender.append_at(loose, at(*time), i as f64).unwrap();
                    appender.commit(OnReject::Skip).unwrap();
                }
                let before = all(&*db);
                let kept = ends.iter().filter(|t| **t >= EARLIEST_MS && at(**t) <= bound).count();
                assert_eq!(before.get(&labels("m")).map_or(0, Vec::len), kept);
                db.seal();
                assert_eq!(all(&*db), before);
                db.maintain().unwrap();
                assert_eq!(all(&*db), before, "{now} {max_future_ms} {width}: blocks");
                db.snapshot(SnapshotHead::Include).unwrap();
                drop(db);
                let db = start();
                assert_eq!(all(&*db), before, "{now} {max_future_ms} {width}: reopened");
                db.maintain().unwrap();
            }
        }
    }
}

/// Nothing is stored that a wrong time could be behind.
#[test]
fn an_empty_store_takes_no_sample_from_before_the_year_1() {
    for out_of_order_ms in [0, i64::MAX] {
        let (_, fs, db) = fresh(Options {
            out_of_order_ms,
            ..options(Fsync::Never)
        });
        let reason = if out_of_order_ms > 0 {
            RejectReason::TooOld
        } else {
            RejectReason::OutOfBounds
        };
        for time in [i64::MIN, EARLIEST_MS - 1] {
            let refused = refused_of_row(&db, "t", time, &[("m", 1.0)]);
            assert_eq!(refused, [reason], "{time}");
            let mut appender = db.appender();
            let (loose, whole) = (labels("loose"), labels("whole"));
            let loose = appender.resolve(None, &loose).unwrap();
            appender.append_at(loose, at(time), 1.0).unwrap();
            let whole = appender.resolve(None, &whole).unwrap();
            appender
                .append_histogram(whole, at(time), Arc::new(histogram(1)))
                .unwrap();
            let done = appender.commit(OnReject::Skip).unwrap();
            let reasons: Vec<_> = done.rejected.iter().map(|r| r.reason).collect();
            assert_eq!(reasons, [reason; 2], "{time}");
        }
        assert!(all(&*db).is_empty());
        // What is refused does not count as the first: the store still takes what is old.
        assert_eq!(refused_of_row(&db, "t", EARLIEST_MS, &[("m", 1.0)]), []);
        drop(db);
        let db = open(&fs, options(Fsync::Never)).unwrap();
        assert_eq!(all(&*db)[&labels("m")], [(EARLIEST_MS, 1f64.to_bits())]);
    }
}

#[test]
fn retention_and_stale_markers_at_the_ends_do_not_overflow() {
    let (_, _, db) = fresh(Options {
        block_ms: 1_000_000,
        retention_ms: i64::MAX,
        max_future_ms: i64::MAX,
        ..options(Fsync::Never)
    });
    for time in [EARLIEST_MS, 0, i64::MAX] {
        row(&db, "t", time, &[("m", stale_marker())]).unwrap();
        db.maintain().unwrap();
    }
    // The oldest lies further behind than retention can say.
    let times: Vec<i64> = all(&*db)[&labels("m")].iter().map(|s| s.0).collect();
    assert_eq!(times, [0, i64::MAX]);
    assert_eq!(db.stats(3).max_time, Some(Timestamp::MAX));
}

#[test]
fn a_directory_of_a_newer_version_is_refused_with_the_version() {
    let sealed = |mut bytes: Vec<u8>| {
        let crc = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    };
    let mut segment = b"TGWL".to_vec();
    segment.extend_from_slice(&77u32.to_le_bytes());
    segment.extend_from_slice(&1u64.to_le_bytes());
    let mut block = b"TIDEBLK1".to_vec();
    block.extend_from_slice(&77u32.to_le_bytes());
    block.extend_from_slice(&[0; 200]);
    let mut features = b"TIDEBLK1".to_vec();
    features.extend_from_slice(&1u32.to_le_bytes());
    features.extend_from_slice(&0x8000_0000u32.to_le_bytes());
    for (path, bytes, version) in [
        ("tidegauge", b"tidegauge data, layout 77\n".to_vec(), 77),
        ("wal/00000001.seg", sealed(segment), 77),
        ("01ARZ3NDEKTSV4RRFFQ69G5FAV/block", block, 77),
        ("01ARZ3NDEKTSV4RRFFQ69G5FAV/block", features, 0x8000_0000),
    ] {
        let disk = MemoryFs::new();
        let path = Path::new(DIR).join(path);
        disk.create_dir_all(path.parent().unwrap()).unwrap();
        disk.plant(&path, &bytes).unwrap();
        let fs: Arc<dyn Fs> = Arc::new(disk.clone());
        let error = open(&fs, options(Fsync::Never)).unwrap_err();
        assert!(
            matches!(&error, Error::NewerVersion { path: p, found, .. } if *p == path && *found == version),
            "{error}"
        );
        assert!(error.to_string().contains(&version.to_string()), "{error}");
        assert_eq!(disk.read(&path).unwrap(), bytes, "it is left as it was");
        // The refusal lets go of the directory.
        assert!(matches!(
            open(&fs, options(Fsync::Never)),
            Err(Error::NewerVersion { .. })
        ));
    }
}

#[test]
fn a_segment_with_the_last_number_leaves_none_for_the_next() {
    let disk = MemoryFs::new();
    disk.create_dir_all(&Path::new(DIR).join("wal")).unwrap();
    let path = Path::new(DIR).join("wal/18446744073709551615.seg");
    disk.plant(&path, b"what may this be").unwrap();
    // One that we would write in another way is not ours.
    disk.plant(&Path::new(DIR).join("wal/000000009.seg"), b"").unwrap();
    let fs: Arc<dyn Fs> = Arc::new(disk);
    let error = open(&fs, options(Fsync::Never)).unwrap_err();
    assert!(matches!(error, Error::Limit { .. }), "{error}");
}

#[test]
fn a_torn_header_is_told_once() {
    let disk = MemoryFs::new();
    disk.create_dir_all(&Path::new(DIR).join("wal")).unwrap();
    disk.plant(&Path::new(DIR).join("wal/00000001.seg"), b"TGW").unwrap();
    let fs: Arc<dyn Fs> = Arc::new(disk);
    let told = |db: &Db| {
        (
            metric(db, "tidegauge_tsdb_wal_torn_tails_total"),
            metric(db, "tidegauge_tsdb_wal_damaged_records_total"),
        )
    };
    let db = open(&fs, options(Fsync::Never)).unwrap();
    assert_eq!(told(&db), (1.0, 0.0));
    drop(db);
    let db = open(&fs, options(Fsync::Never)).unwrap();
    assert_eq!(told(&db), (0.0, 0.0), "what was emptied then is no damage now");
}

#[test]
fn one_timeline_has_at_most_its_series_and_those_it_has_go_on() {
    let limited = || Options {
        max_series_per_timeline: 3,
        block_ms: 100,
        ..options(Fsync::Never)
    };
    let (_, fs, db) = fresh(limited());
    let names = ["a", "b", "c", "d", "e"];
    let resolve = |db: &Db, key: &str| -> Vec<bool> {
        let mut appender = db.appender();
        let timeline = appender.timeline(key).unwrap();
        names
            .map(
                |n| match appender.resolve(Some(timeline), &labels(&format!("{key}_{n}"))) {
                    Ok(_) => true,
                    Err(AppendError::Limit {
                        name: "max_series_per_timeline",
                        limit: 3,
                    }) => false,
                    Err(other) => panic!("{other}"),
                },
            )
            .into()
    };
    let three = [true, true, true, false, false];
    assert_eq!(resolve(&db, "t"), three);
    assert_eq!(resolve(&db, "t"), three, "again: those that are there are given");
    assert_eq!(resolve(&db, "u"), three, "each timeline has its own");
    assert_eq!(metric(&db, "tidegauge_tsdb_head_timeline_series_refused_total"), 6.0);
    assert_eq!(
        metric(&db, "tidegauge_tsdb_head_series"),
        6.0,
        "the refused are not in the index"
    );
    let mut appender = db.appender();
    for name in names {
        appender.resolve(None, &labels(&format!("loose_{name}"))).unwrap();
    }
    drop(appender);
    for step in 0..5 {
        let done = row(&db, "t", step, &[("t_a", 1.0), ("t_b", 2.0), ("t_c", 3.0)]).unwrap();
        assert_eq!(done.samples, 3);
    }
    drop(db);
    let db = open(&fs, limited()).unwrap();
    assert_eq!(resolve(&db, "t"), three, "after a restart too");
    // What has gone makes room once the head has let go of it.
    for step in 0..60 {
        row(&db, "t", 10 + step * 10, &[("t_a", step as f64)]).unwrap();
        db.maintain().unwrap();
    }
    let mut appender = db.appender();
    let timeline = appender.timeline("t").unwrap();
    assert!(appender.resolve(Some(timeline), &labels("t_new")).is_ok());
    assert_eq!(all(&*db)[&labels("t_c")].len(), 5);
}

#[test]
fn a_commit_over_its_bytes_is_refused_whole_and_the_next_one_is_taken() {
    let (_, fs, db) = fresh(Options {
        max_commit_bytes: 2000,
        ..options(Fsync::Never)
    });
    let send = |db: &Db, time: i64, series: usize| {
        let mut appender = db.appender();
        let timeline = appender.timeline("t").unwrap();
        let row: Vec<_> = (0..series)
            .map(|i| {
                (
                    appender.resolve(Some(timeline), &labels(&format!("m{i}"))).unwrap(),
                    i as f64,
                )
            })
            .collect();
        appender.append_row(timeline, at(time), &row).unwrap();
        appender.commit(OnReject::Fail)
    };
    send(&db, 1, 10).unwrap();
    let before = all(&*db);
    match send(&db, 2, 500) {
        Err(CommitError::Log(why)) => assert!(why.contains("over the limit of 2000"), "{why}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(all(&*db), before, "nothing of it is visible");
    assert_eq!(metric(&db, "tidegauge_tsdb_head_commits_failed_total"), 1.0);
    for (time, series) in [(2, 20), (3, 30), (4, 40)] {
        send(&db, time, series).unwrap();
    }
    let after = all(&*db);
    drop(db);
    assert_eq!(all(&*open(&fs, options(Fsync::Never)).unwrap()), after);
}

#[test]
fn a_used_up_share_of_memory_refuses_new_series_and_timelines_only() {
    let meter = Meter::new("head", 30_000);
    let (_, _, db) = fresh(Options {
        head: meter.clone(),
        ..options(Fsync::Never)
    });
    let mut appender = db.appender();
    let timeline = appender.timeline("t").unwrap();
    let mut made = Vec::new();
    let refused = loop {
        match appender.resolve(Some(timeline), &labels(&format!("m{}", made.len()))) {
            Ok(series) => made.push(series),
            Err(error) => break error,
        }
        assert!(made.len() < 1000, "the share is never used up");
    };
    assert!(
        matches!(&refused, AppendError::Memory(e) if e.to_string().contains("head")),
        "{refused}"
    );
    let refused = (0..1000).find_map(|i| appender.timeline(&format!("more {i}")).err());
    assert!(matches!(refused, Some(AppendError::Memory(_))), "{refused:?}");
    drop(appender);
    assert!(metric(&db, "tidegauge_tsdb_head_series_refused_total") >= 1.0 && meter.refused() >= 2);
    for step in 1..400 {
        let mut appender = db.appender();
        let timeline = appender.timeline("t").unwrap();
        let row: Vec<_> = made.iter().map(|s| (*s, step as f64)).collect();
        appender.append_row(timeline, at(step), &row).unwrap();
        assert_eq!(appender.commit(OnReject::Fail).unwrap().samples, made.len() as u64);
    }
}
