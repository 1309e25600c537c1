//! Deleting: at once, everywhere, for good.

use crate::support::{
    Content, DIR, all, at, content, histogram, labels, metric, of_histograms, open, options, view_content,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tidegauge_model::testing::HandClock;
use tidegauge_model::{AppendError, Appendable, MatchOp, Matcher, Meter, OnReject, Queryable, ReadContext, TimeRange};
use tidegauge_tsdb::block::{BlockCache, BlockReader, list_blocks};
use tidegauge_tsdb::fs::{Fs, MemoryFs};
use tidegauge_tsdb::{Cleaned, Db, Deleted, Error, Fsync, Options, SnapshotHead};

fn narrow() -> Options {
    Options {
        block_ms: 100,
        // No thread syncs: only what the store does by itself counts.
        ..options(Fsync::Interval(Duration::from_secs(1)))
    }
}

fn range(from: i64, to: i64) -> TimeRange {
    TimeRange::new(at(from), at(to))
}

fn named(name: &str) -> Vec<Matcher> {
    vec![Matcher::equal("__name__", name)]
}

/// A row of a timeline with the series `x`, `y` and, at every second time, `z`.
fn append(db: &Db, times: impl IntoIterator<Item = i64>) {
    for time in times {
        let mut appender = db.appender();
        let timeline = appender.timeline("t").unwrap();
        let names = if time % 20 == 0 {
            &["x", "y", "z"][..]
        } else {
            &["x", "y"]
        };
        let row: Vec<_> = names
            .iter()
            .map(|name| Ok((appender.resolve(Some(timeline), &labels(name))?, time as f64)))
            .collect::<Result<_, AppendError>>()
            .unwrap();
        appender.append_row(timeline, at(time), &row).unwrap();
        appender.commit(OnReject::Fail).unwrap();
    }
}

fn times(content: &Content, name: &str) -> Vec<i64> {
    content
        .get(&labels(name))
        .map(|s| s.iter().map(|s| s.0).collect())
        .unwrap_or_default()
}

fn every_10(from: i64, to: i64) -> Vec<i64> {
    (from..to).step_by(10).collect()
}

/// Two blocks, [1000, 1100) and [1100, 1200), a sealed run and open rows up to 1290.
fn filled(fs: &Arc<dyn Fs>) -> Arc<Db> {
    let db = open(fs, narrow()).unwrap();
    append(&db, every_10(1000, 1270));
    db.maintain().unwrap();
    db.seal();
    append(&db, every_10(1270, 1300));
    assert_eq!(metric(&db, "tidegauge_tsdb_blocks"), 2.0);
    db
}

fn block_folders(fs: &dyn Fs) -> Vec<PathBuf> {
    let ids = list_blocks(fs, Path::new(DIR)).unwrap();
    ids.iter().map(|id| Path::new(DIR).join(id.to_string())).collect()
}

#[test]
fn a_deletion_shows_at_once_in_blocks_runs_and_open_rows_and_survives_a_power_cut() {
    let disk = MemoryFs::new();
    let fs: Arc<dyn Fs> = Arc::new(disk.clone());
    let db = filled(&fs);
    let before = db.querier(TimeRange::ALL).unwrap();
    let shown = view_content(&*before, TimeRange::ALL);
    let done = db.delete(&named("x"), range(1050, 1280)).unwrap();
    assert_eq!(
        done,
        Deleted {
            head_series: 1,
            blocks: 2,
            block_series: 2
        }
    );
    let left: Vec<i64> = every_10(1000, 1050).into_iter().chain([1290]).collect();
    let check = |db: &Db| {
        let now = all(db);
        assert_eq!(times(&now, "x"), left);
        assert_eq!(times(&now, "y"), every_10(1000, 1300), "others stay");
        assert_eq!(times(&content(db, range(1040, 1100)), "x"), [1040]);
        assert!(!content(db, range(1050, 1280)).contains_key(&labels("x")));
    };
    check(&db);
    assert_eq!(
        view_content(&*before, TimeRange::ALL),
        shown,
        "a view of before stays as it was"
    );
    drop(before);
    assert_eq!(metric(&db, "tidegauge_tsdb_tombstones"), 3.0);
    assert_eq!(
        db.delete(&named("x"), range(1060, 1200)).unwrap(),
        Deleted::default(),
        "nothing new"
    );
    db.seal();
    check(&db);
    drop(db);
    // Nothing was synced since the last segment ended but by the deletion.
    disk.crash();
    let db = open(&fs, narrow()).unwrap();
    check(&db);
    append(&db, every_10(1300, 1480));
    db.maintain().unwrap();
    let x = times(&all(&*db), "x");
    assert_eq!(
        x,
        [&left[..], &every_10(1300, 1480)].concat(),
        "a block of the head's window leaves it out"
    );
}

#[test]
fn series_without_samples_are_not_selected_and_the_index_knows_them_until_they_are_cleaned() {
    let fs: Arc<dyn Fs> = Arc::new(MemoryFs::new());
    let db = filled(&fs);
    let cx = ReadContext::unlimited();
    db.delete(&named("x"), TimeRange::ALL).unwrap();
    let view = db.querier(TimeRange::ALL).unwrap();
    assert_eq!(view.series(&[], 0, &cx).unwrap().items, [labels("y"), labels("z")]);
    assert!(view.series(&named("x"), 0, &cx).unwrap().items.is_empty());
    assert_eq!(
        view.label_values("__name__", &[], 0, &cx).unwrap().items,
        ["x", "y", "z"]
    );
    // Of z only every second row holds a value: what is between is not its own.
    db.delete(&named("z"), range(1011, 1260)).unwrap();
    let view = db.querier(range(1005, 1275)).unwrap();
    assert_eq!(view.series(&[], 0, &cx).unwrap().items, [labels("y")]);
}

#[test]
fn what_comes_later_stays_and_must_be_newer_still() {
    let fs: Arc<dyn Fs> = Arc::new(MemoryFs::new());
    let db = open(&fs, narrow()).unwrap();
    append(&db, [1000, 1010]);
    db.delete(&[], range(0, 5000)).unwrap();
    assert!(all(&*db).is_empty());
    let mut appender = db.appender();
    let series = appender.resolve(None, &labels("x")).unwrap();
    appender.append_at(series, at(1010), 1010.0).unwrap();
    appender.append_at(series, at(1005), 5.0).unwrap();
    let done = appender.commit(OnReject::Skip).unwrap();
    assert_eq!(
        (done.samples, done.rejected.len()),
        (1, 1),
        "stored already; older than the newest"
    );
    assert!(all(&*db).is_empty(), "a sample sent again does not come back");
    append(&db, [1020]);
    assert_eq!(times(&all(&*db), "x"), [1020]);
    drop(db);
    let db = open(&fs, narrow()).unwrap();
    assert_eq!(times(&all(&*db), "x"), [1020]);
}

#[test]
fn cleaning_takes_it_off_the_disk_and_removes_what_is_empty() {
    let disk = MemoryFs::new();
    let fs: Arc<dyn Fs> = Arc::new(disk.clone());
    let db = filled(&fs);
    let z = vec![Matcher::new(MatchOp::NotEqual, "__name__", "y").unwrap()];
    db.delete(&z, range(1000, 1099)).unwrap();
    db.delete(&[], range(1100, 1199)).unwrap();
    let (before, old) = (all(&*db), block_folders(&*fs));
    let view = db.querier(TimeRange::ALL).unwrap();
    assert_eq!(
        db.clean_tombstones().unwrap(),
        Cleaned {
            rewritten: 1,
            removed: 1,
            damaged: 0
        }
    );
    assert_eq!(all(&*db), before);
    assert_eq!(
        view_content(&*view, TimeRange::ALL),
        before,
        "what is being read stays readable"
    );
    drop(view);
    let new = block_folders(&*fs);
    assert!(new.len() == 1 && !old.contains(&new[0]), "{old:?} became {new:?}");
    assert_eq!(fs.read_dir(&new[0]).unwrap().len(), 1, "no tombstones");
    assert_eq!(
        BlockReader::open(&fs, &new[0], &BlockCache::new(0))
            .unwrap()
            .meta()
            .samples,
        10
    );
    assert_eq!(db.clean_tombstones().unwrap(), Cleaned::default());
    let cleaned = metric(&db, "tidegauge_tsdb_blocks_cleaned_total");
    // The log has the rows of the block that is gone, and what was deleted of them.
    drop(db);
    let db = open(&fs, narrow()).unwrap();
    assert_eq!((all(&*db), cleaned), (before.clone(), 2.0));
    append(&db, every_10(1300, 1480));
    db.maintain().unwrap();
    assert_eq!(
        times(&all(&*db), "y"),
        [times(&before, "y"), every_10(1300, 1480)].concat()
    );
}

#[test]
fn cleaning_keeps_both_kinds_and_which_block_comes_first() {
    let fs: Arc<dyn Fs> = Arc::new(MemoryFs::new());
    let late = Options {
        out_of_order_ms: 10_000,
        late_bytes: 0,
        ..narrow()
    };
    let db = open(&fs, late.clone()).unwrap();
    let mut appender = db.appender();
    let h = appender.resolve(None, &labels("h")).unwrap();
    for time in every_10(1000, 1100) {
        appender
            .append_histogram(h, at(time), Arc::new(histogram(time as u32)))
            .unwrap();
    }
    appender.commit(OnReject::Fail).unwrap();
    append(&db, every_10(1000, 1270));
    db.maintain().unwrap();
    // Late samples make a block of their own; one of them has the time of a sample that was there before.
    let mut appender = db.appender();
    let x = appender.resolve(None, &labels("x")).unwrap();
    for (time, value) in [(1045, 4.0), (1050, 5.0), (1055, 6.0)] {
        appender.append_at(x, at(time), value).unwrap();
    }
    appender.commit(OnReject::Fail).unwrap();
    db.maintain().unwrap();
    assert_eq!(block_folders(&*fs).len(), 3);
    let x_at = |db: &Db, time| content(db, range(time, time))[&labels("x")][0].1;
    assert_eq!(x_at(&db, 1050), 1050f64.to_bits());
    // Each block alone, then all of them, several times over.
    for (name, from, to) in [
        ("y", 1000, 1020),
        ("x", 1045, 1045),
        ("h", 1020, 1050),
        ("z", 1000, 1199),
        ("x", 1055, 1060),
    ] {
        db.delete(&named(name), range(from, to)).unwrap();
        let before = all(&*db);
        let done = db.clean_tombstones().unwrap();
        assert!(done.rewritten > 0 && done.removed + done.damaged == 0, "{done:?}");
        assert_eq!(all(&*db), before, "{name} cleaned");
        assert_eq!(x_at(&db, 1050), 1050f64.to_bits());
        assert_eq!(db.clean_tombstones().unwrap(), Cleaned::default());
    }
    let before = all(&*db);
    assert_eq!(times(&before, "h"), []);
    assert_eq!(before[&of_histograms(&labels("h"))].len(), 6);
    assert_eq!(metric(&db, "tidegauge_tsdb_tombstones"), 0.0);
    drop(db);
    let db = open(&fs, late).unwrap();
    assert_eq!(all(&*db), before);
    db.compact().unwrap();
    assert_eq!(all(&*db), before, "merges keep to the order too");
}

#[test]
fn cleaning_passes_over_damaged_blocks_and_tells() {
    let disk = MemoryFs::new();
    let fs: Arc<dyn Fs> = Arc::new(disk.clone());
    drop(filled(&fs));
    let bad = block_folders(&*fs).remove(0).join("block");
    let mut bytes = disk.read(&bad).unwrap();
    bytes[30] ^= 1;
    disk.plant(&bad, &bytes).unwrap();
    let db = open(&fs, narrow()).unwrap();
    db.delete(&named("y"), range(1050, 1150)).unwrap();
    let rest = content(&*db, range(1100, 1300));
    for rewritten in [1, 0] {
        let expect = Cleaned {
            rewritten,
            removed: 0,
            damaged: 1,
        };
        assert_eq!(db.clean_tombstones().unwrap(), expect);
        assert!(fs.exists(&bad), "it stays, and hides what was deleted");
        assert_eq!(content(&*db, range(1100, 1300)), rest);
    }
    let left = fs.read_dir(Path::new(DIR)).unwrap();
    assert!(
        left.iter().all(|e| !e.name.ends_with(".tmp")),
        "nothing half written is left"
    );
}

#[test]
fn a_snapshot_has_nothing_of_it() {
    let fs: Arc<dyn Fs> = Arc::new(MemoryFs::new());
    let db = filled(&fs);
    db.delete(&named("x"), range(1050, 1280)).unwrap();
    let before = all(&*db);
    let name = db.snapshot(SnapshotHead::Include).unwrap();
    db.delete(&[], TimeRange::ALL).unwrap();
    assert!(all(&*db).is_empty());
    let dir = Path::new(DIR).join("snapshots").join(name);
    let clock = Arc::new(HandClock::at(at(i64::MAX / 4)));
    let copy = Db::open_with(Arc::clone(&fs), &dir, narrow(), clock).unwrap();
    assert_eq!(all(&*copy), before, "as it was when the snapshot was taken");
}

#[test]
fn a_deletion_over_the_limit_deletes_nothing() {
    let fs: Arc<dyn Fs> = Arc::new(MemoryFs::new());
    drop(filled(&fs));
    let options = Options {
        max_tombstones: 2,
        ..narrow()
    };
    let db = open(&fs, options).unwrap();
    let refused = |matchers: &[Matcher], range| {
        let before = all(&*db);
        let error = db.delete(matchers, range).unwrap_err();
        assert!(matches!(error, Error::Limit { limit: 2, .. }), "{error}");
        assert_eq!(all(&*db), before);
    };
    // Three series in the first block; then two in the blocks, three in the head.
    refused(&[], range(1000, 1050));
    refused(&[], range(1010, 1260));
    db.delete(&named("y"), range(1000, 1000)).unwrap();
    db.delete(&named("y"), range(1020, 1020)).unwrap();
    refused(&named("y"), range(1040, 1040));
    db.delete(&named("y"), range(1001, 1040)).unwrap();
    assert_eq!(times(&all(&*db), "y")[0], 1050, "what meets is one interval");
}

#[test]
fn a_deletion_without_room_deletes_nothing() {
    let fs: Arc<dyn Fs> = Arc::new(MemoryFs::new());
    drop(filled(&fs));
    let head = Meter::new("head", 1 << 30);
    let options = Options {
        head: head.clone(),
        ..narrow()
    };
    let db = open(&fs, options).unwrap();
    for asked in [range(1000, 1050), range(1240, 1250)] {
        let before = all(&*db);
        let rest = head.lease(head.limit() - head.used()).unwrap();
        assert!(matches!(db.delete(&[], asked), Err(Error::Memory(_))));
        assert_eq!(all(&*db), before);
        drop(rest);
        let used = head.used();
        db.delete(&[], asked).unwrap();
        assert!(all(&*db) != before && head.used() > used, "what is known is paid for");
    }
}

#[test]
fn bytes_are_as_drawn() {
    let disk = MemoryFs::new();
    let fs: Arc<dyn Fs> = Arc::new(disk.clone());
    let db = filled(&fs);
    db.delete(&named("y"), range(1030, 1090)).unwrap();
    let folder = block_folders(&*fs).remove(0);
    let id: tidegauge_tsdb::block::BlockId = folder.file_name().unwrap().to_str().unwrap().parse().unwrap();
    let mut expect = b"TIDETMB1".to_vec();
    expect.extend_from_slice(&1u32.to_le_bytes());
    expect.extend_from_slice(&id.bits().to_le_bytes());
    // One list of one interval: 1030 folded is 2060, 60 long. One series, y, is number 1; list 0.
    expect.extend_from_slice(&[1, 1, 0x8c, 0x10, 60, 1, 1, 0]);
    let crc = crc32fast::hash(&expect);
    expect.extend_from_slice(&crc.to_le_bytes());
    assert_eq!(disk.read(&folder.join("tombstones")).unwrap(), expect);
    // The entry of the log, in the last frame: kind 8, from 1030 to 1090, one matcher, equal.
    let entry = [&[8, 0x8c, 0x10, 0x84, 0x11, 1, 0, 8][..], b"__name__", &[1, b'y']].concat();
    let mut segments = fs.read_dir(&Path::new(DIR).join("wal")).unwrap();
    let bytes = disk
        .read(&Path::new(DIR).join("wal").join(segments.pop().unwrap().name))
        .unwrap();
    let frame = &bytes[bytes.len() - entry.len() - 9..];
    assert_eq!(
        (&frame[..5], &frame[5..frame.len() - 4]),
        (&[entry.len() as u8, 0, 0, 0, 1][..], &entry[..])
    );
}

#[test]
fn damaged_tombstones_set_their_block_aside_and_nothing_comes_back() {
    let disk = MemoryFs::new();
    let fs: Arc<dyn Fs> = Arc::new(disk.clone());
    let db = filled(&fs);
    db.delete(&named("x"), range(1030, 1090)).unwrap();
    let mut expect = all(&*db);
    drop(db);
    let folder = block_folders(&*fs).remove(0);
    let path = folder.join("tombstones");
    let good = disk.read(&path).unwrap();
    let mut damages: Vec<Vec<u8>> = (0..good.len())
        .map(|i| {
            let mut bad = good.clone();
            bad[i] ^= 0x20;
            bad
        })
        .collect();
    damages.extend((0..good.len()).map(|n| good[..n].to_vec()));
    for samples in expect.values_mut() {
        samples.retain(|s| s.0 >= 1100);
    }
    for bad in damages {
        disk.plant(&path, &bad).unwrap();
        let db = open(&fs, narrow()).unwrap();
        let found = all(&*db);
        assert!(
            times(&found, "x").iter().all(|t| !(1030..=1090).contains(t)),
            "it came back"
        );
        assert_eq!(times(&found, "y").last(), Some(&1290), "the rest serves");
        assert_eq!(metric(&db, "tidegauge_tsdb_blocks_quarantined_total"), 1.0);
        drop(db);
        // It is all there, to be put back by hand.
        let aside = folder
            .parent()
            .unwrap()
            .join("quarantine")
            .join(folder.file_name().unwrap());
        assert!(fs.exists(&aside.join("block")));
        fs.rename(&aside, &folder).unwrap();
    }
    disk.plant(&path, &good).unwrap();
    assert_eq!(times(&all(&*open(&fs, narrow()).unwrap()), "x").len(), 30 - 7);
}

#[test]
fn unfinished_tombstones_are_swept_up() {
    let disk = MemoryFs::new();
    let fs: Arc<dyn Fs> = Arc::new(disk.clone());
    drop(filled(&fs));
    let left = block_folders(&*fs).remove(1).join("tombstones.tmp");
    disk.plant(&left, b"half").unwrap();
    let db = open(&fs, narrow()).unwrap();
    assert!(!fs.exists(&left));
    assert_eq!(times(&all(&*db), "x"), every_10(1000, 1300));
}

#[test]
fn a_closed_store_deletes_nothing() {
    let fs: Arc<dyn Fs> = Arc::new(MemoryFs::new());
    let db = filled(&fs);
    let before = all(&*db);
    db.close().unwrap();
    assert!(matches!(db.delete(&[], TimeRange::ALL), Err(Error::Invalid { .. })));
    assert_eq!(all(&*db), before);
    assert!(block_folders(&*fs).iter().all(|f| fs.read_dir(f).unwrap().len() == 1));
}

#[test]
fn a_view_sees_all_of_a_deletion_or_none_while_samples_come_and_blocks_are_made() {
    let fs: Arc<dyn Fs> = Arc::new(MemoryFs::new());
    let db = open(&fs, narrow()).unwrap();
    let names: Vec<String> = (0..12).map(|n| format!("s{n:02}")).collect();
    let rows = |from: i64, to: i64| {
        for time in every_10(from, to) {
            let mut appender = db.appender();
            let timeline = appender.timeline("t").unwrap();
            let mut series = |name: &String| (appender.resolve(Some(timeline), &labels(name)).unwrap(), time as f64);
            let row: Vec<_> = names.iter().map(&mut series).collect();
            appender.append_row(timeline, at(time), &row).unwrap();
            appender.commit(OnReject::Fail).unwrap();
        }
    };
    rows(1000, 1270);
    db.maintain().unwrap();
    db.seal();
    rows(1270, 1300);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let (mut gone, mut looks) = (0, 0);
            while !stop.load(Ordering::Acquire) || looks == 0 {
                let now = content(&*db, range(1000, 1299));
                let whole = names.iter().filter(|name| now.contains_key(&labels(name))).count();
                assert!(now.values().all(|s| s.len() == 30), "part of a deletion shows");
                assert!(names.len() - whole >= gone, "what was deleted came back");
                gone = names.len() - whole;
                looks += 1;
            }
            looks
        });
        for (n, name) in (0i64..).zip(&names) {
            rows(1300 + n * 30, 1330 + n * 30);
            db.delete(&named(name), range(1000, 1299)).unwrap();
            if n % 3 == 2 {
                db.maintain().unwrap();
            }
            if n % 5 == 4 {
                db.clean_tombstones().unwrap();
            }
        }
        stop.store(true, Ordering::Release);
        assert!(reader.join().unwrap() > 0);
    });
    assert!(content(&*db, range(1000, 1299)).is_empty());
    assert!(all(&*db).values().all(|s| s.len() == 36), "what came later stays");
}
