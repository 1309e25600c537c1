//! Trouble with the disk, as a table: what the system says to what, during what; what the store says then, that it
//! shows whole commits only, and how it goes on.

use crate::support::{Content, DIR, all, at, labels, metric, open, options};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tidegauge_model::{
    Appendable, ColumnBuf, CommitError, OnReject, Queryable, ReadContext, SelectError, SelectHints, TimeRange,
};
use tidegauge_tsdb::fs::{Fault, FaultFs, Fs, MemoryFs, Refusal};
use tidegauge_tsdb::{Db, Error, Fsync, Options, SnapshotHead};

const EIO: i32 = 5;
const EACCES: i32 = 13;
const ENOSPC: i32 = 28;
const EROFS: i32 = 30;

/// What the store is about when the disk fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum During {
    /// One commit, to the open segment.
    Append,
    /// Commits until a segment ends and another begins.
    Rotation,
    /// A round of maintenance that writes a block.
    Flush,
    /// Merging blocks.
    Compact,
    /// A snapshot with the head.
    Snapshot,
    /// [`Db::sync`].
    Sync,
    /// Opening after a clean end.
    Open,
}
use During::{Append, Compact, Flush, Open, Rotation, Snapshot, Sync};

/// What becomes of appends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    /// They fail while the trouble lasts, and go on by themselves when it is gone.
    Heals,
    /// They fail from then on, until the store is opened anew.
    Closed,
    /// They are not touched by it.
    GoOn,
}
use After::{Closed, GoOn, Heals};

struct Row {
    during: During,
    fsync: Fsync,
    actions: &'static [&'static str],
    path: &'static str,
    errno: i32,
    after: After,
    /// What is to be in the words of the error.
    says: &'static str,
}

const fn row(
    during: During,
    fsync: Fsync,
    refused: (&'static [&'static str], &'static str, i32),
    after: After,
    says: &'static str,
) -> Row {
    Row {
        during,
        fsync,
        actions: refused.0,
        path: refused.1,
        errno: refused.2,
        after,
        says,
    }
}

const ALL: &[&str] = &[];
/// Synced in the background: never within a test.
const LATER: Fsync = Fsync::Interval(Duration::from_secs(3600));
const TABLE: &[Row] = &[
    // A commit.
    row(
        Append,
        Fsync::Never,
        (&["write"], "wal", ENOSPC),
        Heals,
        "once there is room",
    ),
    row(
        Append,
        Fsync::Always,
        (&["write"], "wal", ENOSPC),
        Heals,
        "once there is room",
    ),
    row(Append, Fsync::Never, (ALL, "", EROFS), Heals, "ead-only"),
    row(Append, Fsync::Always, (ALL, "", EROFS), Heals, "ead-only"),
    row(Append, Fsync::Never, (ALL, "", EACCES), Heals, "ermission"),
    row(
        Append,
        Fsync::Never,
        (&["write"], "wal", EIO),
        Heals,
        "wal/00000001.seg",
    ),
    row(
        Append,
        Fsync::Always,
        (&["sync"], "wal", EIO),
        Closed,
        "restart to go on",
    ),
    row(
        Append,
        Fsync::Always,
        (&["sync"], "wal", ENOSPC),
        Closed,
        "restart to go on",
    ),
    // The end of a segment.
    row(
        Rotation,
        Fsync::Never,
        (&["create"], "wal", ENOSPC),
        Heals,
        "once there is room",
    ),
    row(Rotation, Fsync::Never, (&["create"], "wal", EROFS), Heals, "ead-only"),
    row(Rotation, Fsync::Never, (&["create"], "wal", EACCES), Heals, "ermission"),
    row(
        Rotation,
        Fsync::Never,
        (&["write"], "00000002.seg", ENOSPC),
        Heals,
        "once there is room",
    ),
    row(
        Rotation,
        Fsync::Always,
        (&["create"], "wal", ENOSPC),
        Heals,
        "once there is room",
    ),
    // A block.
    row(Flush, Fsync::Never, (&["create"], ".tmp", ENOSPC), GoOn, "tmp"),
    row(Flush, Fsync::Never, (&["write"], ".tmp", ENOSPC), GoOn, "tmp"),
    row(Flush, Fsync::Never, (&["sync"], ".tmp", EIO), GoOn, "tmp"),
    row(Flush, Fsync::Never, (&["rename"], ".tmp", EROFS), GoOn, "tmp"),
    row(Flush, Fsync::Never, (&["remove"], "wal", EACCES), GoOn, "wal"),
    row(Flush, Fsync::Never, (&["create"], "wal", ENOSPC), GoOn, "wal"),
    row(Flush, Fsync::Always, (&["sync"], "wal", EIO), GoOn, "wal"),
    // A merge.
    row(Compact, Fsync::Never, (ALL, "", EROFS), GoOn, "ead-only"),
    row(Compact, Fsync::Never, (ALL, "", EACCES), GoOn, "ermission"),
    row(Compact, Fsync::Never, (&["create"], ".tmp", ENOSPC), GoOn, "tmp"),
    row(Compact, Fsync::Never, (&["write"], ".tmp", ENOSPC), GoOn, "tmp"),
    row(Compact, Fsync::Never, (&["sync"], ".tmp", EIO), GoOn, "tmp"),
    row(Compact, Fsync::Never, (&["rename"], ".tmp", EROFS), GoOn, "tmp"),
    // A snapshot.
    row(
        Snapshot,
        Fsync::Never,
        (&["create"], "snapshots", ENOSPC),
        GoOn,
        "snapshots",
    ),
    row(
        Snapshot,
        Fsync::Never,
        (&["write"], "snapshots", ENOSPC),
        GoOn,
        "snapshots",
    ),
    row(Snapshot, Fsync::Never, (&["link"], "snapshots", EIO), GoOn, "snapshots"),
    row(
        Snapshot,
        Fsync::Never,
        (&["rename"], "snapshots", EROFS),
        GoOn,
        "snapshots",
    ),
    // The log by itself.
    row(Sync, Fsync::Never, (&["sync"], "wal", EIO), Closed, "wal"),
    row(Sync, LATER, (&["sync"], "wal/", EIO), Closed, "wal"),
    // A start.
    row(Open, Fsync::Never, (ALL, "", EROFS), GoOn, "cannot"),
    row(Open, Fsync::Never, (&["create"], "wal/", ENOSPC), GoOn, "wal"),
    row(Open, Fsync::Never, (&["write"], "wal/", ENOSPC), GoOn, "wal"),
    row(Open, Fsync::Always, (&["sync"], "wal", EIO), GoOn, "wal"),
    row(Open, Fsync::Never, (&["map"], "wal", EIO), GoOn, "wal"),
    row(Open, Fsync::Never, (&["list"], "wal", EACCES), GoOn, "wal"),
    row(Open, Fsync::Never, (&["lock"], "", EACCES), GoOn, "lock"),
];

fn narrow(fsync: Fsync) -> Options {
    Options {
        block_ms: 100,
        segment_bytes: 600,
        ..options(fsync)
    }
}

/// One commit of two timelines and a sample of its own time.
fn commit(db: &Db, time: i64) -> Result<(), CommitError> {
    let mut appender = db.appender();
    for key in ["a", "b"] {
        let timeline = appender.timeline(key).unwrap();
        let row: Vec<_> = (0..3)
            .map(|c| {
                let series = appender.resolve(Some(timeline), &labels(&format!("{key}{c}"))).unwrap();
                (series, (time * c) as f64)
            })
            .collect();
        appender.append_row(timeline, at(time), &row).unwrap();
    }
    let loose = appender.resolve(None, &labels("loose")).unwrap();
    appender.append_at(loose, at(time), time as f64).unwrap();
    appender.commit(OnReject::Fail).map(|_| ())
}

/// What a store holds that took these commits.
fn holding(times: &[i64]) -> Content {
    let mut content = Content::new();
    for time in times {
        for key in ["a", "b"] {
            for c in 0..3 {
                let samples = content.entry(labels(&format!("{key}{c}"))).or_default();
                samples.push((*time, ((time * c) as f64).to_bits()));
            }
        }
        let samples = content.entry(labels("loose")).or_default();
        samples.push((*time, (*time as f64).to_bits()));
    }
    content
}

fn words(error: &Error) -> String {
    let mut text = error.to_string();
    let mut inner: &dyn std::error::Error = error;
    while let Some(source) = inner.source() {
        text = format!("{text}: {source}");
        inner = source;
    }
    text
}

/// Runs into the trouble; gives what the store says, or nothing if it did not notice. `taken` grows by what it took.
fn meet(row: &Row, db: &Db, taken: &mut Vec<i64>) -> Option<String> {
    let append = |taken: &mut Vec<i64>| {
        let time = taken.last().unwrap() + 1;
        match commit(db, time) {
            Ok(()) => {
                taken.push(time);
                None
            }
            Err(error) => Some(error.to_string()),
        }
    };
    match row.during {
        Append => append(taken),
        Rotation => (0..50).find_map(|_| append(taken)),
        Flush => db.maintain().err().map(|e| words(&e)),
        Compact => db.compact().err().map(|e| words(&e)),
        Snapshot => db.snapshot(SnapshotHead::Include).err().map(|e| words(&e)),
        Sync => db.sync().err().map(|e| words(&e)),
        Open => None,
    }
}

fn check(row: &Row) {
    let what = format!(
        "{:?} with {:?}, {:?} of {:?} says {}",
        row.during, row.fsync, row.actions, row.path, row.errno
    );
    let fs = FaultFs::new(MemoryFs::new());
    let disk: Arc<dyn Fs> = Arc::new(fs.clone());
    let mut db = open(&disk, narrow(row.fsync)).unwrap();
    // Enough for windows that are due and segments that end, but in the rows that are about the log alone.
    let mut taken: Vec<i64> = match row.during {
        Flush | Snapshot | Open => (1..=30).map(|i| i * 10).collect(),
        // Seven windows, of which three and three become one.
        Compact => (1..=80).map(|i| i * 10).collect(),
        Append | Rotation | Sync => vec![10],
    };
    for time in &taken {
        commit(&db, *time).unwrap();
    }
    if matches!(row.during, Snapshot | Compact) {
        db.maintain().unwrap();
    }
    let blocks = metric(&db, "tidegauge_tsdb_blocks");
    let refuse = || {
        fs.refuse(Some(Refusal {
            actions: row.actions,
            path: row.path.into(),
            errno: row.errno,
        }));
    };
    if row.during == Open {
        drop(db);
        refuse();
        let error = open(&disk, narrow(row.fsync)).map(|_| ()).unwrap_err();
        assert!(matches!(error, Error::Io { .. }), "{what}: {error:?}");
        let says = words(&error);
        assert!(says.contains(row.says), "{what}: {says}");
        fs.refuse(None);
        db = open(&disk, narrow(row.fsync)).unwrap();
    } else {
        refuse();
        let says = meet(row, &db, &mut taken).unwrap_or_else(|| panic!("{what}: nothing was said"));
        assert!(says.contains(row.says), "{what}: {says}");
        assert_eq!(all(&*db), holding(&taken), "{what}: what is shown meanwhile");
        if row.during == Compact {
            let told = ["compactions_failed_total", "compactions_total", "blocks"];
            let told = told.map(|name| metric(&db, &format!("tidegauge_tsdb_{name}")));
            assert_eq!(told, [1.0, 0.0, blocks], "{what}");
            assert!(db.compact().is_err(), "{what}: it lasts");
        }
        fs.refuse(None);
        if row.during == Compact {
            assert!(db.compact().unwrap() > 0, "{what}: it is made up for");
            assert!(metric(&db, "tidegauge_tsdb_blocks") < blocks, "{what}");
            assert_eq!(metric(&db, "tidegauge_tsdb_compactions_failed_total"), 2.0, "{what}");
        }
    }
    // The cause is gone.
    let next = taken.last().unwrap() + 1;
    match (row.after, commit(&db, next)) {
        (Heals | GoOn, Ok(())) => taken.push(next),
        (Closed, Err(CommitError::Closed(why))) => {
            assert!(why.contains("restart to go on"), "{what}: {why}");
            let poisoned = metric(&db, "tidegauge_tsdb_wal_poisoned");
            assert_eq!(poisoned, 1.0, "{what}: /-/ready and metrics can tell");
        }
        (_, outcome) => panic!("{what}: {outcome:?}"),
    }
    assert_eq!(all(&*db), holding(&taken), "{what}: afterwards");
    if row.after != Closed {
        db.maintain().unwrap();
        db.snapshot(SnapshotHead::Include).unwrap();
        assert_eq!(all(&*db), holding(&taken), "{what}: after maintenance");
    }
    drop(db);
    fs.disk().kill();
    let db = open(&disk, narrow(row.fsync)).unwrap();
    let mut expected = vec![holding(&taken)];
    if row.after == Closed {
        // The commit whose sync failed was not acknowledged: it may be there.
        expected.push(holding(&[taken.as_slice(), &[next]].concat()));
    }
    assert!(
        expected.contains(&all(&*db)),
        "{what}: after a restart: {:?}",
        all(&*db)
    );
    commit(&db, next + 5).unwrap();
    let left: Vec<String> = [DIR.to_owned(), format!("{DIR}/snapshots")]
        .iter()
        .flat_map(|folder| disk.read_dir(Path::new(folder)).unwrap())
        .map(|e| e.name)
        .filter(|name| name.ends_with(".tmp"))
        .collect();
    assert!(left.is_empty(), "{what}: left behind: {left:?}");
}

#[test]
fn trouble_is_told_and_heals_or_closes_the_store() {
    for row in TABLE {
        check(row);
    }
}

#[test]
fn every_length_of_a_short_write_is_cut_off_again() {
    for fault in [Fault::ShortWrite, Fault::Error] {
        let fs = FaultFs::new(MemoryFs::new());
        let disk: Arc<dyn Fs> = Arc::new(fs.clone());
        let db = open(&disk, options(Fsync::Never)).unwrap();
        let mut taken = Vec::new();
        for time in 0..60 {
            if time % 3 == 1 {
                fs.fail_at(fs.changes(), fault);
                assert!(matches!(commit(&db, time), Err(CommitError::Log(_))));
            } else {
                commit(&db, time).unwrap();
                taken.push(time);
            }
            // Room for part of a frame, a byte more each time.
            fs.set_room(Some(time.unsigned_abs() % 20));
            assert!(commit(&db, time + 1).is_err(), "{fault:?} at {time}");
            fs.set_room(None);
            assert_eq!(all(&*db), holding(&taken), "{fault:?} at {time}");
        }
        drop(db);
        fs.disk().kill();
        let db = open(&disk, options(Fsync::Never)).unwrap();
        assert_eq!(all(&*db), holding(&taken));
        let torn = metric(&db, "tidegauge_tsdb_wal_torn_tails_total");
        assert_eq!(torn, 0.0, "nothing was left to cut");
    }
}

/// A read-only remount while everything is under way, and back.
#[test]
fn a_read_only_remount_midway_refuses_all_writing_and_all_of_it_goes_on_afterwards() {
    let fs = FaultFs::new(MemoryFs::new());
    let disk: Arc<dyn Fs> = Arc::new(fs.clone());
    let db = open(&disk, narrow(Fsync::Never)).unwrap();
    let mut taken = Vec::new();
    for round in 0..6 {
        for step in 0..10 {
            let time = round * 200 + step * 15;
            commit(&db, time).unwrap();
            taken.push(time);
        }
        fs.refuse(Some(Refusal {
            actions: &[],
            path: String::new(),
            errno: EROFS,
        }));
        assert!(matches!(commit(&db, round * 200 + 199), Err(CommitError::Log(_))));
        let _refused = db.maintain();
        assert!(db.snapshot(SnapshotHead::Include).is_err());
        assert_eq!(all(&*db), holding(&taken), "round {round}");
        fs.refuse(None);
        db.maintain().unwrap();
        assert_eq!(all(&*db), holding(&taken), "round {round}");
    }
    drop(db);
    assert_eq!(all(&*open(&disk, narrow(Fsync::Never)).unwrap()), holding(&taken));
}

#[test]
fn a_bad_sector_of_a_block_is_named_and_the_rest_serves() {
    let fs = FaultFs::new(MemoryFs::new());
    let disk: Arc<dyn Fs> = Arc::new(fs.clone());
    let db = open(
        &disk,
        Options {
            // Nothing stays in memory: each read goes to the disk.
            block_cache_bytes: 0,
            ..narrow(Fsync::Never)
        },
    )
    .unwrap();
    let times: Vec<i64> = (0..40).map(|i| i * 10).collect();
    for time in &times {
        commit(&db, *time).unwrap();
    }
    db.maintain().unwrap();
    let mut blocks: Vec<String> = disk
        .read_dir(Path::new(DIR))
        .unwrap()
        .into_iter()
        .map(|e| e.name)
        .filter(|name| name.len() == 26)
        .collect();
    blocks.sort();
    assert!(blocks.len() >= 2, "{blocks:?}");
    fs.refuse(Some(Refusal {
        actions: &["read"],
        path: blocks[0].clone(),
        errno: EIO,
    }));
    let read = |from: i64, to: i64| -> Result<usize, SelectError> {
        let range = TimeRange::new(at(from), at(to));
        let querier = db.querier(range)?;
        let set = querier.select(&[], &SelectHints::range(range), &ReadContext::unlimited())?;
        let (mut buf, mut samples) = (ColumnBuf::default(), 0);
        for group in &set {
            for series in 0..group.len() {
                samples += group.read(series, &mut buf)?.timestamps.len();
            }
        }
        Ok(samples)
    };
    for _ in 0..2 {
        match read(0, 400) {
            Err(SelectError::Io { path, cause }) => {
                assert!(path.contains(&blocks[0]) && path.ends_with("block"), "{path}");
                assert!(cause.contains("os error 5"), "{cause}");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(read(100, 390).unwrap(), 30 * 7, "behind the bad block all is there");
    }
    commit(&db, 400).unwrap();
    fs.refuse(None);
    assert_eq!(read(0, 400).unwrap(), 41 * 7);
}
