//! What the doors promise, case by case.

use crate::support::{DIR, all, at, labels, metric, open, options, refused_of_row, row};
use std::path::Path;
use std::sync::Arc;
use tidegauge_model::{
    AppendError, Appendable, ColumnBuf, CommitError, Labels, Matcher, Meter, OnReject, Presence, Queryable,
    ReadContext, RejectReason, SelectError, SelectHints, TimeRange, stale_marker,
};
use tidegauge_tsdb::block::BLOCK_FILE;
use tidegauge_tsdb::fs::{Fs, MemoryFs};
use tidegauge_tsdb::{Db, Fsync, Options, SnapshotHead};

fn fresh(options: Options) -> (Arc<dyn Fs>, Arc<Db>) {
    let fs: Arc<dyn Fs> = Arc::new(MemoryFs::new());
    let db = open(&fs, options).unwrap();
    (fs, db)
}

/// As remote write hands samples over: loose, each series by its labels.
fn send(db: &Db, samples: impl Iterator<Item = (String, i64, f64)>) {
    let mut appender = db.appender();
    for (name, time, value) in samples {
        let series = appender.resolve(None, &labels(&name)).unwrap();
        appender.append_at(series, at(time), value).unwrap();
    }
    appender.commit(OnReject::Fail).unwrap();
}

fn groups(db: &Db) -> Vec<usize> {
    let view = db.querier(TimeRange::ALL).unwrap();
    let set = view
        .select(&[], &SelectHints::range(TimeRange::ALL), &ReadContext::unlimited())
        .unwrap();
    let mut sizes: Vec<usize> = set.iter().map(|g| g.len()).collect();
    sizes.sort_unstable();
    sizes
}

#[test]
fn another_column_takes_over_only_with_newer_samples_and_never_with_a_stale_marker() {
    let (_, db) = fresh(options(Fsync::Never));
    assert_eq!(refused_of_row(&db, "a", 10, &[("m", 1.0)]), []);
    assert_eq!(refused_of_row(&db, "b", 9, &[("m", 1.0)]), [RejectReason::OutOfOrder]);
    let duplicate = RejectReason::Duplicate {
        at: at(10),
        existing: 1.0,
        new: 2.0,
    };
    assert_eq!(refused_of_row(&db, "b", 10, &[("m", 2.0)]), [duplicate]);
    assert_eq!(refused_of_row(&db, "b", 11, &[("m", stale_marker())]), []);
    assert_eq!(metric(&db, "tidegauge_tsdb_head_foreign_stale_markers_total"), 1.0);
    assert_eq!(refused_of_row(&db, "b", 12, &[("m", 3.0)]), []);
    assert_eq!(refused_of_row(&db, "a", 13, &[("m", stale_marker())]), []);
    let expect: Vec<_> = [(10, 1.0f64), (12, 3.0)].map(|(t, v)| (t, v.to_bits())).into();
    assert_eq!(all(&*db)[&labels("m")], expect);
}

#[test]
fn a_commit_that_must_not_be_cut_stores_nothing_if_one_sample_does_not_fit() {
    let (_, db) = fresh(options(Fsync::Never));
    row(&db, "a", 10, &[("m", 1.0)]).unwrap();
    let mut appender = db.appender();
    let good = appender.resolve(None, &labels("n")).unwrap();
    let late = appender.resolve(None, &labels("m")).unwrap();
    appender.append_at(good, at(20), 1.0).unwrap();
    appender.append_at(late, at(9), 1.0).unwrap();
    assert!(matches!(appender.commit(OnReject::Fail), Err(CommitError::Rejected(r)) if r.ordinal == 1));
    assert_eq!(all(&*db).len(), 1);
}

#[test]
fn samples_too_far_ahead_or_in_a_closed_window_are_refused() {
    let (_, db) = fresh(Options {
        block_ms: 100,
        ..options(Fsync::Never)
    });
    assert_eq!(
        refused_of_row(&db, "a", i64::MAX / 3, &[("m", 1.0)]),
        [RejectReason::TooNew]
    );
    for time in [10, 190, 240] {
        assert_eq!(refused_of_row(&db, "a", time, &[("m", 1.0)]), []);
    }
    db.maintain().unwrap();
    assert_eq!(metric(&db, "tidegauge_tsdb_blocks"), 1.0);
    for time in [i64::MIN, 50, 189] {
        assert_eq!(
            refused_of_row(&db, "b", time, &[("n", 1.0)]),
            [RejectReason::OutOfBounds],
            "{time} is further behind 240 than half a window"
        );
    }
    assert_eq!(refused_of_row(&db, "b", 190, &[("n", 1.0)]), []);
    assert_eq!(all(&*db)[&labels("m")].len(), 3);
}

#[test]
fn a_scrape_split_over_requests_stays_on_one_timeline() {
    let (_, db) = fresh(options(Fsync::Never));
    let stream = (0..200i64).flat_map(|step| (0..70).map(move |s| (format!("m{s}"), step * 15, (step * s) as f64)));
    let all_samples: Vec<_> = stream.collect();
    for request in all_samples.chunks(50) {
        send(&db, request.iter().cloned());
    }
    assert_eq!(groups(&db), [70]);
    assert_eq!(metric(&db, "tidegauge_tsdb_head_samples_appended_total"), 14_000.0);
    db.maintain().unwrap();
    assert_eq!(metric(&db, "tidegauge_tsdb_head_timelines"), 1.0);
}

#[test]
fn series_that_part_get_timelines_of_their_own_and_those_that_move_together_share() {
    let (_, db) = fresh(options(Fsync::Never));
    for step in 0..300i64 {
        // Two senders whose first samples fall on one time, and then never again.
        let apart = if step == 0 { 0 } else { 7 };
        send(&db, (0..20).map(|s| (format!("a{s}"), step * 20, s as f64)));
        send(&db, (0..30).map(|s| (format!("b{s}"), step * 20 + apart, s as f64)));
    }
    db.seal();
    db.maintain().unwrap();
    assert_eq!(metric(&db, "tidegauge_tsdb_head_timelines"), 2.0);
    assert_eq!(groups(&db).iter().sum::<usize>(), 50);
    assert!(all(&*db).values().all(|s| s.len() == 300));
}

#[test]
fn limits_refuse_new_series_and_existing_ones_go_on() {
    let (_, db) = fresh(Options {
        max_series: 2,
        ..options(Fsync::Never)
    });
    row(&db, "a", 10, &[("m", 1.0), ("n", 1.0)]).unwrap();
    let mut appender = db.appender();
    let refused = appender.resolve(None, &labels("o"));
    assert_eq!(
        refused,
        Err(AppendError::Limit {
            name: "max_series",
            limit: 2
        })
    );
    assert!(appender.resolve(None, &labels("m")).is_ok());
    assert!(matches!(
        appender.resolve(None, &Labels::empty()),
        Err(AppendError::Labels(_))
    ));
    drop(appender);
    row(&db, "a", 11, &[("m", 1.0), ("n", 1.0)]).unwrap();

    let (_, db) = fresh(Options {
        head: Meter::new("head", 20_000),
        ..options(Fsync::Never)
    });
    let mut appender = db.appender();
    let timeline = appender.timeline("t").unwrap();
    let made: Vec<_> = (0..1000)
        .map_while(|i| appender.resolve(Some(timeline), &labels(&format!("m{i}"))).ok())
        .collect();
    assert!((10..200).contains(&made.len()), "{}", made.len());
    let values: Vec<_> = made.iter().map(|s| (*s, 1.0)).collect();
    appender.append_row(timeline, at(1), &values).unwrap();
    assert_eq!(appender.commit(OnReject::Fail).unwrap().samples, made.len() as u64);
    assert_eq!(metric(&db, "tidegauge_tsdb_head_series_refused_total"), 1.0);
}

#[test]
fn a_series_let_go_makes_its_reference_stale_and_the_index_forgets_it() {
    let (fs, db) = fresh(Options {
        block_ms: 100,
        ..options(Fsync::Never)
    });
    let mut appender = db.appender();
    let timeline = appender.timeline("t").unwrap();
    let old: Vec<_> = (0..50)
        .map(|i| appender.resolve(Some(timeline), &labels(&format!("old{i}"))).unwrap())
        .collect();
    appender
        .append_row(timeline, at(5), &old.iter().map(|s| (*s, 2.0)).collect::<Vec<_>>())
        .unwrap();
    appender.commit(OnReject::Fail).unwrap();
    for step in 0..60 {
        row(&db, "t", 10 + step * 10, &[("new", step as f64)]).unwrap();
        db.maintain().unwrap();
    }
    assert_eq!(metric(&db, "tidegauge_tsdb_head_series"), 1.0);
    let mut appender = db.appender();
    assert_eq!(
        appender.append_at(old[3], at(900), 1.0),
        Err(AppendError::StaleRef { place: 0 })
    );
    let new = appender.resolve(Some(timeline), &labels("new")).unwrap();
    let refused = appender.append_row(timeline, at(900), &[(new, 1.0), (old[3], 1.0)]);
    assert_eq!(refused, Err(AppendError::StaleRef { place: 1 }));
    drop(appender);
    row(&db, "t", 1000, &[("old3", 7.0), ("new", 0.0)]).unwrap();
    let before = all(&*db);
    assert_eq!(
        (
            before.len(),
            before[&labels("old3")].len(),
            before[&labels("new")].len()
        ),
        (51, 2, 61)
    );
    drop(db);
    let db = open(
        &fs,
        Options {
            block_ms: 100,
            ..options(Fsync::Never)
        },
    )
    .unwrap();
    assert_eq!(all(&*db), before);
}

#[test]
fn blocks_older_than_retention_go() {
    let (fs, db) = fresh(Options {
        block_ms: 100,
        retention_ms: 250,
        ..options(Fsync::Never)
    });
    for step in 0..100 {
        row(&db, "t", step * 10, &[("m", step as f64)]).unwrap();
    }
    db.maintain().unwrap();
    let times: Vec<i64> = all(&*db)[&labels("m")].iter().map(|s| s.0).collect();
    assert_eq!((times[0], times.last()), (700, Some(&990)));
    assert!(metric(&db, "tidegauge_tsdb_blocks_deleted_total") > 0.0);
    let wal = fs.read_dir(std::path::Path::new("/data/wal")).unwrap();
    assert!(wal.len() <= 3, "the log is cut: {wal:?}");
}

/// Where samples are and which are stale markers is known without the values: only a run that has a marker is decoded.
#[test]
fn presence_is_told_without_the_values() {
    let disk = MemoryFs::new();
    let fs: Arc<dyn Fs> = Arc::new(disk.clone());
    let options = Options {
        block_ms: 100,
        retention_ms: 0,
        ..options(Fsync::Never)
    };
    let db = open(&fs, options.clone()).unwrap();
    for step in 0..40 {
        let marked = if step == 5 { stale_marker() } else { 2.0 };
        row(&db, "t", step * 10, &[("whole", step as f64 / 8.0), ("marked", marked)]).unwrap();
    }
    db.maintain().unwrap();
    drop(db);
    let blocks = fs.read_dir(Path::new(DIR)).unwrap().into_iter();
    let files = blocks.map(|entry| Path::new(DIR).join(entry.name).join(BLOCK_FILE));
    let mut damaged = 0;
    for file in files {
        // Frames stand behind the header.
        if let Ok(mut bytes) = disk.read(&file) {
            bytes[17] ^= 1;
            disk.plant(&file, &bytes).unwrap();
            damaged += 1;
        }
    }
    assert!(damaged > 1, "{damaged} blocks");
    let db = open(&fs, options).unwrap();
    let view = db.querier(TimeRange::ALL).unwrap();
    let mut buf = ColumnBuf::default();
    let mut told = |name: &str| {
        let matchers = [Matcher::equal("__name__", name)];
        let hints = SelectHints::range(TimeRange::ALL);
        let set = view.select(&matchers, &hints, &ReadContext::unlimited()).unwrap();
        assert_eq!((set.len(), set[0].timestamps().len()), (1, 40), "{name}");
        let read = set[0].read(0, &mut buf).map(|_| ());
        let full = set[0].presence(0, &mut buf).map(|p| matches!(p, Presence::Full));
        (read, full)
    };
    assert!(matches!(told("whole"), (Err(SelectError::Corrupt { .. }), Ok(true))));
    assert!(matches!(told("marked"), (Err(_), Err(SelectError::Corrupt { .. }))));
}

#[test]
fn a_snapshot_opens_as_a_store_with_the_same_content() {
    let (fs, db) = fresh(Options {
        block_ms: 100,
        ..options(Fsync::Never)
    });
    for step in 0..50 {
        row(&db, "t", step * 10, &[("m", step as f64 / 3.0), ("n", -0.0)]).unwrap();
    }
    db.maintain().unwrap();
    let name = db.snapshot(SnapshotHead::Include).unwrap();
    let path = std::path::Path::new("/data/snapshots").join(name);
    let clock = Arc::new(tidegauge_model::testing::HandClock::at(at(1000)));
    let copy = Db::open_with(Arc::clone(&fs), &path, options(Fsync::Never), clock).unwrap();
    assert_eq!(all(&*copy), all(&*db));
    let skipped = db.snapshot(SnapshotHead::Skip).unwrap();
    assert_ne!(path.file_name().unwrap().to_str().unwrap(), skipped);
}

#[test]
fn statistics_count_series_and_a_closed_store_takes_nothing() {
    let (_, db) = fresh(options(Fsync::Never));
    row(&db, "t", 10, &[("m", 1.0), ("n", 1.0)]).unwrap();
    let stats = db.stats(1);
    assert_eq!(
        (stats.num_series, stats.num_label_pairs, stats.min_time, stats.max_time),
        (2, 3, Some(at(10)), Some(at(10)))
    );
    assert_eq!(stats.series_count_by_label_pair, [("job=test".to_owned(), 2)]);
    assert_eq!(stats.label_value_count_by_label_name, [("__name__".to_owned(), 2)]);
    // Twice `__name__` and a letter, each with a byte for its length; less is what `job="test"` takes.
    assert_eq!(stats.memory_in_bytes_by_label_name, [("__name__".to_owned(), 22)]);
    db.close().unwrap();
    let mut appender = db.appender();
    let series = appender.resolve(None, &labels("m")).unwrap();
    appender.append_at(series, at(11), 1.0).unwrap();
    assert!(matches!(appender.commit(OnReject::Skip), Err(CommitError::Closed(_))));
    assert_eq!(all(&*db).len(), 2);
}

#[test]
fn matchers_limits_and_cancelling_hold_over_head_and_blocks() {
    let (_, db) = fresh(Options {
        block_ms: 100,
        ..options(Fsync::Never)
    });
    for step in 0..30 {
        row(&db, "t", step * 10, &[("m", 1.0), ("n", 2.0)]).unwrap();
    }
    db.maintain().unwrap();
    let view = db.querier(TimeRange::ALL).unwrap();
    let cx = ReadContext::unlimited();
    let names = view
        .label_values("__name__", &[Matcher::equal("job", "test")], 1, &cx)
        .unwrap();
    assert_eq!((names.items, names.truncated), (vec!["m".to_owned()], true));
    assert_eq!(
        view.series(&[Matcher::equal("__name__", "n")], 0, &cx).unwrap().items,
        [labels("n")]
    );
    let small = ReadContext {
        meter: Meter::new("small", 10),
        ..ReadContext::unlimited()
    };
    assert!(view.select(&[], &SelectHints::range(TimeRange::ALL), &small).is_err());
    cx.cancel.cancel();
    assert!(view.select(&[], &SelectHints::range(TimeRange::ALL), &cx).is_err());
}

/// The way of a scrape loop: it keeps references of series from scrape to scrape and asks for its timeline each time.
#[test]
fn a_timeline_let_go_tells_old_references_and_stays_for_an_appender_that_took_it() {
    let (_, db) = fresh(Options {
        block_ms: 100,
        ..options(Fsync::Never)
    });
    row(&db, "idle", 5, &[("m", 1.0)]).unwrap();
    let mut appender = db.appender();
    let old = appender.timeline("idle").unwrap();
    let kept = appender.resolve(Some(old), &labels("m")).unwrap();
    drop(appender);
    let others = |from: i64| {
        for step in 0..60 {
            row(&db, "busy", from + step * 10, &[("new", step as f64)]).unwrap();
            db.maintain().unwrap();
        }
    };
    others(10);
    assert_eq!(metric(&db, "tidegauge_tsdb_head_timelines"), 1.0);
    let mut appender = db.appender();
    assert_eq!(
        appender.append_row(old, at(700), &[(kept, 2.0)]),
        Err(AppendError::StaleTimeline)
    );
    assert_eq!(
        appender.resolve(Some(old), &labels("m")),
        Err(AppendError::StaleTimeline)
    );
    let again = appender.timeline("idle").unwrap();
    assert_eq!(
        appender.append_row(again, at(700), &[(kept, 2.0)]),
        Err(AppendError::StaleRef { place: 0 })
    );
    let series = appender.resolve(Some(again), &labels("m")).unwrap();
    appender.append_row(again, at(700), &[(series, 2.0)]).unwrap();
    appender.commit(OnReject::Fail).unwrap();
    // One that took the timeline keeps it, however long it lives and however much goes meanwhile.
    others(710);
    let mut long = db.appender();
    let taken = long.timeline("idle").unwrap();
    for _ in 0..4 {
        db.maintain().unwrap();
    }
    others(1400);
    let series = long.resolve(Some(taken), &labels("m")).unwrap();
    long.append_row(taken, at(2100), &[(series, 3.0)]).unwrap();
    assert_eq!(long.commit(OnReject::Fail).unwrap().samples, 1);
    assert_eq!(all(&*db)[&labels("m")].len(), 3);
}

/// A reference that an appender got while the timeline was idle outlives every round until the appender ends.
#[test]
fn a_timeline_taken_while_idle_stays_until_the_appender_ends() {
    for rounds in 0..60 {
        let (_, db) = fresh(Options {
            block_ms: 100,
            ..options(Fsync::Never)
        });
        row(&db, "idle", 5, &[("m", 1.0)]).unwrap();
        for step in 0..rounds {
            row(&db, "busy", 10 + step * 10, &[("new", step as f64)]).unwrap();
            db.maintain().unwrap();
        }
        let mut appender = db.appender();
        let taken = appender.timeline("idle").unwrap();
        for step in rounds..rounds + 60 {
            row(&db, "busy", 10 + step * 10, &[("new", step as f64)]).unwrap();
            db.maintain().unwrap();
        }
        let series = appender.resolve(Some(taken), &labels("m")).unwrap();
        appender.append_row(taken, at(5000), &[(series, 3.0)]).unwrap();
        assert_eq!(
            appender.commit(OnReject::Fail).unwrap().samples,
            1,
            "after {rounds} rounds"
        );
    }
}

/// Requests of a sender: the same series each time, split anew, some missing, some late, some sent twice. The quick way
/// through the plan and the long one must store the same as the oracle, over a restart too.
#[test]
fn senders_that_repeat_themselves_are_stored_as_any_other() {
    let (fs, db) = fresh(options(Fsync::Never));
    let oracle = tidegauge_model::testing::MemoryStore::new();
    let state = std::cell::Cell::new(7u64);
    let random = |n: u64| {
        let next = state.get().wrapping_mul(6_364_136_223_846_793_005);
        state.set(next.wrapping_add(1_442_695_040_888_963_407));
        (state.get() >> 33) % n
    };
    let send = |store: &dyn Appendable, samples: &[(u64, i64, f64)]| {
        let mut appender = store.appender();
        let samples: Vec<_> = samples
            .iter()
            .map(|(n, time, value)| {
                (
                    appender.resolve(None, &labels(&format!("s{n}"))).unwrap(),
                    at(*time),
                    *value,
                )
            })
            .collect();
        appender.append_many(&samples).unwrap();
        let done = appender.commit(OnReject::Skip).unwrap();
        (
            done.samples,
            done.rejected.iter().map(|r| r.ordinal).collect::<Vec<_>>(),
        )
    };
    for time in 0..400i64 {
        let series: Vec<u64> = (0..60)
            .filter(|n| random(40) > 0 && (n % 7 != 3 || time < 200))
            .collect();
        let mut samples: Vec<(u64, i64, f64)> = series
            .into_iter()
            .map(|n| {
                let late = if random(300) == 0 { 15 } else { 0 };
                let value = if random(500) == 0 {
                    stale_marker()
                } else {
                    (time / (n as i64 % 5 + 1)) as f64
                };
                (n, time * 10 - late, value)
            })
            .collect();
        if random(10) == 0 {
            samples.extend_from_within(..20);
        }
        if random(20) == 0 {
            samples.swap(3, 30);
        }
        while !samples.is_empty() {
            let rest = samples.split_off((random(50) as usize + 10).min(samples.len()));
            assert_eq!(send(&*db, &samples), send(&oracle, &samples), "{time}: {samples:?}");
            samples = rest;
        }
    }
    assert_eq!(all(&*db), all(&oracle));
    drop(db);
    let db = open(&fs, options(Fsync::Never)).unwrap();
    assert_eq!(all(&*db), all(&oracle));
}
