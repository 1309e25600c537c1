//! Blocks are merged, deleted and set aside, and what is stored stays the same.

use crate::support::{self, Content, DIR, all, at, content, histogram, labels, of_histograms, open, options};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tidegauge_model::{
    Appendable, ColumnBuf, MatchOp, Matcher, OnReject, Queryable, ReadContext, SelectError, SelectHints, TimeRange,
};
use tidegauge_tsdb::block::{BLOCK_FILE, BlockCache, BlockId, BlockReader};
use tidegauge_tsdb::fs::{FaultFs, Fs, MemoryFs};
use tidegauge_tsdb::{Db, Error, Fsync, Options};

const WINDOW: i64 = 100;

fn narrow() -> Options {
    Options {
        block_ms: WINDOW,
        segment_bytes: 2000,
        max_block_ms: 9 * WINDOW,
        ..options(Fsync::Never)
    }
}

/// Rows of two targets, ten in a window; one series comes and goes.
fn fill(db: &Db, windows: std::ops::Range<i64>) {
    for step in windows.start * 10..windows.end * 10 {
        let mut appender = db.appender();
        for key in ["a", "b"] {
            let timeline = appender.timeline(key).unwrap();
            let row: Vec<_> = (0..8)
                .filter(|c| *c != 7 || step / 25 % 2 == 0)
                .map(|c| {
                    let series = labels(&format!("{key}{c}"));
                    (
                        appender.resolve(Some(timeline), &series).unwrap(),
                        (step * c) as f64 / 4.0,
                    )
                })
                .collect();
            appender.append_row(timeline, at(step * 10), &row).unwrap();
        }
        appender.commit(OnReject::Fail).unwrap();
    }
    db.maintain().unwrap();
}

fn metric(db: &Db, name: &str) -> f64 {
    support::metric(db, &format!("tidegauge_tsdb_{name}"))
}

fn blocks(fs: &Arc<dyn Fs>) -> Vec<PathBuf> {
    let entries = fs.read_dir(Path::new(DIR)).unwrap();
    let blocks = entries.iter().filter(|e| e.name.parse::<BlockId>().is_ok());
    blocks.map(|e| Path::new(DIR).join(&e.name)).collect()
}

fn quarantined(fs: &Arc<dyn Fs>) -> Vec<String> {
    let entries = fs.read_dir(&Path::new(DIR).join("quarantine")).unwrap_or_default();
    entries.into_iter().map(|e| e.name).collect()
}

fn memory() -> (MemoryFs, Arc<dyn Fs>) {
    let disk = MemoryFs::new();
    (disk.clone(), Arc::new(disk))
}

#[test]
fn merged_blocks_answer_as_before() {
    let (_, fs) = memory();
    let db = open(&fs, narrow()).unwrap();
    fill(&db, 0..25);
    let (before, count) = (all(&*db), blocks(&fs).len());
    assert_eq!(count, 24);
    // 0 to 9 and 9 to 18 by way of threes; 18 to 21; 21 and 22, as they may get company; 23 is the youngest.
    assert_eq!(db.compact().unwrap(), 9);
    assert_eq!(blocks(&fs).len(), 6);
    assert_eq!(db.compact().unwrap(), 0);
    assert_eq!(all(&*db), before);
    for range in [(0, 50), (650, 1201), (899, 900), (2050, 2500)] {
        let range = TimeRange::new(at(range.0), at(range.1));
        let expected: Content = before
            .iter()
            .map(|(l, s)| {
                (
                    l.clone(),
                    s.iter().filter(|s| range.contains(at(s.0))).copied().collect(),
                )
            })
            .filter(|(_, s): &(_, Vec<_>)| !s.is_empty())
            .collect();
        assert_eq!(content(&*db, range), expected, "{range:?}");
    }
    assert_eq!((metric(&db, "compactions_total"), metric(&db, "blocks")), (9.0, 6.0));
    assert!(metric(&db, "compaction_read_bytes_total") > metric(&db, "compaction_written_bytes_total"));
    // One sample of the youngest block is deleted: it is written anew, in its place.
    let (were, mut before) = (blocks(&fs), before);
    let (one, last) = (labels("a1"), 23 * WINDOW + 50);
    before.get_mut(&one).unwrap().retain(|s| s.0 != last);
    let matchers: Vec<Matcher> = one.iter().map(|(name, value)| Matcher::equal(name, value)).collect();
    db.delete(&matchers, TimeRange::new(at(last), at(last))).unwrap();
    assert_eq!(db.clean_tombstones().unwrap().rewritten, 1);
    let are = blocks(&fs);
    assert_eq!((are.len(), are.iter().filter(|b| !were.contains(b)).count()), (6, 1));
    drop(db);
    let db = open(&fs, narrow()).unwrap();
    assert_eq!(all(&*db), before);
    fill(&db, 25..40);
    assert!(db.compact().unwrap() > 3);
    assert_eq!(all(&*db).values().map(Vec::len).max(), Some(400));
}

#[test]
fn what_was_deleted_is_left_out_of_merged_blocks() {
    let (_, fs) = memory();
    let db = open(&fs, narrow()).unwrap();
    for window in 0..6 {
        let mut appender = db.appender();
        let h = appender.resolve(None, &labels("h")).unwrap();
        for time in (0..4).map(|n| window * WINDOW + n * 10) {
            appender
                .append_histogram(h, at(time), Arc::new(histogram(time as u32)))
                .unwrap();
        }
        appender.commit(OnReject::Fail).unwrap();
        fill(&db, window..window + 1);
    }
    // A part, a part over two blocks, a whole block, a whole series, a part of histograms.
    for (name, from, to) in [
        ("a1", 20, 50),
        ("b.*", 90, 130),
        (".*", 200, 299),
        ("a2", 0, 299),
        ("h", 100, 110),
    ] {
        let matcher = Matcher::new(MatchOp::Regex, "__name__", name).unwrap();
        db.delete(&[matcher], TimeRange::new(at(from), at(to))).unwrap();
    }
    let before = all(&*db);
    assert_eq!(before[&of_histograms(&labels("h"))].len(), 24 - 2 - 4);
    assert_eq!(db.compact().unwrap(), 1);
    assert_eq!(all(&*db), before);
    let merged = blocks(&fs).pop().unwrap();
    let merged = BlockReader::open(&fs, &merged, &BlockCache::new(0)).unwrap();
    let range = merged.meta().range;
    assert_eq!((range.start, range.end), (at(0), at(300)));
    let shown = before.values().flatten().filter(|s| s.0 < 300).count();
    assert_eq!(merged.meta().samples, shown as u64, "no more is on the disk");
    assert!(!merged.has_deleted());
    merged.verify().unwrap();
    db.maintain().unwrap();
    assert_eq!(metric(&db, "tombstones"), 0.0);
}

#[test]
fn who_reads_blocks_that_are_merged_reads_on() {
    let (_, fs) = memory();
    let db = open(&fs, narrow()).unwrap();
    fill(&db, 0..8);
    let before = all(&*db);
    let view = db.querier(TimeRange::ALL).unwrap();
    let groups = view
        .select(&[], &SelectHints::range(TimeRange::ALL), &ReadContext::unlimited())
        .unwrap();
    assert!(db.compact().unwrap() > 0);
    let (mut found, mut buf) = (0, ColumnBuf::default());
    for group in &groups {
        for series in 0..group.len() {
            let column = group.read(series, &mut buf).unwrap();
            assert_eq!(column.timestamps.len(), before[&group.labels(series)].len());
            found += 1;
        }
    }
    assert_eq!(found, before.len());
}

/// The files of blocks, by their folders.
fn saved(disk: &MemoryFs, fs: &Arc<dyn Fs>) -> BTreeMap<PathBuf, Vec<u8>> {
    let read = |dir: PathBuf| (disk.read(&dir.join(BLOCK_FILE)).map(|bytes| (dir, bytes))).unwrap();
    blocks(fs).into_iter().map(read).collect()
}

/// A store whose blocks were merged, with the merged ones back, as a crash before their removal leaves them.
fn half_merged() -> (MemoryFs, Arc<dyn Fs>, Content, PathBuf, usize) {
    let (disk, fs) = memory();
    let db = open(&fs, narrow()).unwrap();
    fill(&db, 0..6);
    let (before, parents) = (all(&*db), saved(&disk, &fs));
    assert_eq!(db.compact().unwrap(), 1);
    drop(db);
    let merged = saved(&disk, &fs)
        .into_keys()
        .find(|b| !parents.contains_key(b))
        .unwrap();
    for (dir, bytes) in &parents {
        fs.create_dir_all(dir).unwrap();
        disk.plant(&dir.join(BLOCK_FILE), bytes).unwrap();
    }
    (disk, fs, before, merged, parents.len())
}

#[test]
fn parents_found_at_the_start_are_removed() {
    let (_, fs, before, merged, parents) = half_merged();
    let db = open(&fs, narrow()).unwrap();
    assert_eq!(all(&*db), before);
    let left = blocks(&fs);
    assert_eq!(left.len(), parents - 3 + 1);
    assert!(left.contains(&merged) && quarantined(&fs).is_empty());
}

#[test]
fn parents_of_a_damaged_block_stay_and_it_goes() {
    let (disk, fs, before, merged, parents) = half_merged();
    let path = merged.join(BLOCK_FILE);
    let mut bytes = disk.read(&path).unwrap();
    // Behind the frames lie the directories.
    let at = bytes.len() - 600;
    bytes[at] ^= 1;
    disk.plant(&path, &bytes).unwrap();
    let db = open(&fs, narrow()).unwrap();
    assert_eq!(all(&*db), before);
    assert_eq!((blocks(&fs).len(), quarantined(&fs).len()), (parents, 1));
    // And they are merged again.
    assert_eq!(db.compact().unwrap(), 1);
    assert_eq!(all(&*db), before);
}

#[test]
fn a_block_that_cannot_be_opened_is_set_aside_and_the_rest_serves() {
    type Break = fn(&MemoryFs, &Path);
    let breaks: [(&str, Break); 3] = [
        ("a bad end", |disk, path| {
            let mut bytes = disk.read(path).unwrap();
            *bytes.last_mut().unwrap() ^= 1;
            disk.plant(path, &bytes).unwrap();
        }),
        ("no file", |disk, path| disk.remove_file(path).unwrap()),
        ("cut off", |disk, path| {
            let bytes = disk.read(path).unwrap();
            disk.plant(path, &bytes[..bytes.len() / 2]).unwrap();
        }),
    ];
    for (name, damage) in breaks {
        let (disk, fs) = memory();
        let db = open(&fs, narrow()).unwrap();
        fill(&db, 0..5);
        let before = all(&*db);
        drop(db);
        let bad = blocks(&fs).swap_remove(1);
        damage(&disk, &bad.join(BLOCK_FILE));
        for start in 0..2 {
            let db = open(&fs, narrow()).unwrap();
            let expected: Content = before
                .iter()
                .map(|(l, s)| (l.clone(), s.iter().filter(|s| s.0 / WINDOW != 1).copied().collect()))
                .collect();
            assert_eq!(all(&*db), expected, "{name}");
            assert_eq!(metric(&db, "blocks_quarantined_total"), f64::from(1 - start));
        }
        let id = bad.file_name().unwrap().to_str().unwrap();
        assert_eq!(quarantined(&fs), [id], "{name}");
    }
}

#[test]
fn a_block_of_a_newer_version_ends_the_start() {
    let (disk, fs) = memory();
    let db = open(&fs, narrow()).unwrap();
    fill(&db, 0..3);
    drop(db);
    let path = blocks(&fs)[0].join(BLOCK_FILE);
    let mut bytes = disk.read(&path).unwrap();
    bytes[8] = 9;
    disk.plant(&path, &bytes).unwrap();
    let error = open(&fs, narrow()).unwrap_err();
    assert!(
        matches!(&error, Error::NewerVersion { found: 9, path: p, .. } if *p == path),
        "{error}"
    );
    assert!(quarantined(&fs).is_empty());
}

#[test]
fn a_block_with_a_bad_frame_serves_the_rest_and_is_not_merged() {
    let (disk, fs) = memory();
    let db = open(&fs, narrow()).unwrap();
    fill(&db, 0..8);
    let before = all(&*db);
    drop(db);
    let bad = blocks(&fs).swap_remove(1).join(BLOCK_FILE);
    let mut bytes = disk.read(&bad).unwrap();
    bytes[30] ^= 1;
    disk.plant(&bad, &bytes).unwrap();
    let db = open(&fs, narrow()).unwrap();
    // The first three are due; one of them cannot be read.
    let merged = db.compact().unwrap();
    assert!(merged > 0, "others are merged all the same");
    assert!(fs.exists(&bad) && quarantined(&fs).is_empty());
    db.maintain().unwrap();
    assert_eq!(
        (metric(&db, "blocks_damaged"), metric(&db, "compactions_failed_total")),
        (1.0, 1.0)
    );
    let rest = TimeRange::new(at(2 * WINDOW), at(i64::MAX));
    let expected: Content = before
        .iter()
        .map(|(l, s)| (l.clone(), s.iter().filter(|s| s.0 >= 2 * WINDOW).copied().collect()))
        .collect();
    assert_eq!(content(&*db, rest), expected);
    let view = db.querier(TimeRange::ALL).unwrap();
    let groups = view
        .select(&[], &SelectHints::range(TimeRange::ALL), &ReadContext::unlimited())
        .unwrap();
    let error = groups[0].read(0, &mut ColumnBuf::default()).unwrap_err();
    assert!(
        matches!(&error, SelectError::Corrupt { path, offset: 16, .. } if *path == bad.display().to_string()),
        "{error}"
    );
}

#[test]
fn too_much_is_stored_no_longer_than_a_round() {
    let (_, fs) = memory();
    let limited = |bytes| Options {
        retention_bytes: bytes,
        ..narrow()
    };
    let db = open(&fs, limited(0)).unwrap();
    fill(&db, 0..12);
    drop(db);
    let stored = |dirs: Vec<PathBuf>| -> u64 {
        let files = dirs
            .iter()
            .flat_map(|d| fs.read_dir(d).unwrap().into_iter().map(move |e| d.join(e.name)));
        files.map(|f| fs.len(&f).unwrap()).sum()
    };
    let beside = || {
        stored(
            ["wal", "runs", "checkpoint"]
                .map(|d| Path::new(DIR).join(d))
                .into_iter()
                .filter(|d| fs.exists(d))
                .collect(),
        )
    };
    let before = blocks(&fs);
    // What is on disk once it is open, and no more.
    let limit = beside() + stored(before[5..].to_vec()) + 100;
    let db = open(&fs, limited(limit)).unwrap();
    let view = db.querier(TimeRange::ALL).unwrap();
    let groups = view
        .select(&[], &SelectHints::range(TimeRange::ALL), &ReadContext::unlimited())
        .unwrap();
    db.maintain().unwrap();
    let left = blocks(&fs);
    assert!(beside() + stored(left.clone()) <= limit);
    assert!(
        left.len() >= 6 && before.ends_with(&left),
        "the oldest go, and no more than must: {left:?}"
    );
    assert_eq!(
        metric(&db, "blocks_deleted_for_size_total"),
        (before.len() - left.len()) as f64
    );
    assert_eq!(metric(&db, "blocks_deleted_total"), 0.0);
    let column = groups[0].read(0, &mut ColumnBuf::default()).map(|c| c.timestamps.len());
    assert!(column.unwrap() >= 60, "who began to read before reads on");
    let oldest = all(&*db).values().map(|s| s[0].0).min();
    assert!(oldest.unwrap() >= 5 * WINDOW - WINDOW);
}

#[test]
fn a_full_disk_stops_merges_until_there_is_room() {
    let fault = FaultFs::new(MemoryFs::new());
    let fs: Arc<dyn Fs> = Arc::new(fault.clone());
    let db = open(&fs, narrow()).unwrap();
    fill(&db, 0..8);
    let (before, count) = (all(&*db), blocks(&fs).len());
    for room in [0, 10, 100, 400] {
        fault.set_room(Some(room));
        assert!(db.compact().unwrap_err().is_disk_full());
        assert_eq!(blocks(&fs).len(), count);
        let left = fs.read_dir(Path::new(DIR)).unwrap();
        assert!(
            left.iter().all(|e| !e.name.ends_with(".tmp")),
            "nothing half written is left"
        );
        assert_eq!(all(&*db), before);
    }
    fault.set_room(None);
    assert!(db.compact().unwrap() > 0);
    assert_eq!(all(&*db), before);
    assert_eq!(metric(&db, "compactions_failed_total"), 4.0);
}

#[test]
fn limits_that_make_no_sense_are_refused() {
    let (_, fs) = memory();
    for max_block_ms in [-1, WINDOW - 1] {
        let refused = open(
            &fs,
            Options {
                max_block_ms,
                ..narrow()
            },
        );
        assert!(matches!(refused, Err(Error::Invalid { .. })));
    }
}
