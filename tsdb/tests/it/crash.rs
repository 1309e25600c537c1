//! The disk fails at each of its operations in turn, the power goes, the store opens again.

use crate::support::{
    Content, DIR, all, at, eager, fingerprint, histogram, labels, metric, of_histograms, open, options,
};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tidegauge_model::{Appendable, CommitError, Exemplar, MatchOp, Matcher, OnReject, TimeRange};
use tidegauge_tsdb::block::BlockId;
use tidegauge_tsdb::fs::{EntryKind, Fault, FaultFs, Fs, MemoryFs};
use tidegauge_tsdb::{Db, Fsync, Options, verify};

/// How far the loose samples of a commit lie behind its rows; no two ever share a time.
const BACK: [i64; 3] = [-3, 16, 154];

/// The content after each commit that was acknowledged, and that of the one under way, should it have made it.
#[derive(Default)]
struct Told {
    states: Vec<Content>,
    doubtful: Option<Content>,
    /// What a deletion that failed would have left: any part of it may have been done.
    half_deleted: Option<Content>,
}

impl Told {
    /// Whether the store may hold this after a power cut that costs nothing acknowledged.
    fn allows(&self, found: &Content) -> bool {
        let acknowledged = self.states.last().cloned().unwrap_or_default();
        match &self.half_deleted {
            None => *found == acknowledged || Some(found) == self.doubtful.as_ref(),
            Some(left) => within(left, found) && within(found, &acknowledged),
        }
    }
}

/// Whether one content is a part of another.
fn within(part: &Content, whole: &Content) -> bool {
    part.iter().all(|(labels, samples)| {
        let all = whole.get(labels).map_or(&[][..], Vec::as_slice);
        samples.iter().all(|s| all.contains(s))
    })
}

/// What a deletion leaves.
fn without(content: &Content, name: &str, range: TimeRange) -> Content {
    let mut left = content.clone();
    for (labels, samples) in &mut left {
        if labels.value("__name__").starts_with(name) {
            samples.retain(|s| !range.contains(at(s.0)));
        }
    }
    left.retain(|_, samples| !samples.is_empty());
    left
}

/// Deletes, in blocks and head, and cleans up, at some steps of the day; `false` once it fails.
fn tidy(db: &Db, told: &mut Told, step: usize) -> bool {
    let (name, from, to) = match step {
        7 => ("a1", 1020, 1030),
        12 => ("a", 1040, 1115),
        16 => ("loose", 1000, 1160),
        18 => {
            // What fails is done by a later one.
            drop(db.clean_tombstones());
            return true;
        }
        21 => ("b", 1100, 1500),
        _ => return true,
    };
    let range = TimeRange::new(at(from), at(to));
    let matcher = Matcher::new(MatchOp::Regex, "__name__", format!("{name}.*")).unwrap();
    let left = without(told.states.last().unwrap(), name, range);
    match db.delete(&[matcher], range) {
        Ok(_) => *told.states.last_mut().unwrap() = left,
        Err(_) => told.half_deleted = Some(left),
    }
    told.half_deleted.is_none()
}

/// No file is there that nothing needs: what is temporary, and tombstones once they are cleaned.
fn check_files(fs: &dyn Fs, change: u64) {
    let dir = Path::new(DIR);
    for folder in fs.read_dir(dir).unwrap() {
        assert!(
            !folder.name.ends_with(".tmp"),
            "change {change}: {} leaked",
            folder.name
        );
        if folder.kind == EntryKind::Dir && folder.name.len() == 26 {
            for file in fs.read_dir(&dir.join(&folder.name)).unwrap() {
                assert_eq!(file.name, "block", "change {change}: leaked in {}", folder.name);
            }
        }
    }
}

/// A short day: rows of two timelines, loose samples and late ones (some of windows that are in blocks), histograms and
/// exemplars, over the end of a block's window and of a segment.
fn day(db: &Db, told: &mut Told, from: usize) {
    steps(db, told, from, false);
}

fn steps(db: &Db, told: &mut Told, from: usize, deletes: bool) {
    for step in from..24 {
        day_of(db, told, step..step + 1, step % 5 == 4, deletes);
        if told.doubtful.is_some() || told.half_deleted.is_some() {
            return;
        }
    }
}

/// A part of that day, with or without a round of maintenance after each commit.
fn day_of(db: &Db, told: &mut Told, steps: Range<usize>, maintain: bool, deletes: bool) {
    for step in steps {
        let mut next = told.states.last().cloned().unwrap_or_default();
        let time = 1000 + step as i64 * 10;
        let mut appender = db.appender();
        let mut fill = || -> Result<(), tidegauge_model::AppendError> {
            for key in ["a", "b"] {
                let timeline = appender.timeline(key)?;
                let row = (0..4)
                    .map(|c| {
                        Ok((
                            appender.resolve(Some(timeline), &labels(&format!("{key}{c}")))?,
                            (step * c) as f64,
                        ))
                    })
                    .collect::<Result<Vec<_>, tidegauge_model::AppendError>>()?;
                appender.append_row(timeline, at(time), &row)?;
            }
            let loose = appender.resolve(None, &labels("loose"))?;
            for back in BACK {
                appender.append_at(loose, at(time - back), step as f64)?;
            }
            let native = appender.resolve(None, &labels("native"))?;
            let exemplar = Exemplar {
                labels: labels("trace"),
                value: step as f64,
                at: None,
            };
            appender.append_exemplar(native, at(time + 1), &exemplar)?;
            appender.append_histogram(native, at(time + 1), Arc::new(histogram(step as u32)))
        };
        fill().unwrap();
        for c in 0..4 {
            for key in ["a", "b"] {
                next.entry(labels(&format!("{key}{c}")))
                    .or_default()
                    .push((time, ((step * c) as f64).to_bits()));
            }
        }
        let loose = next.entry(labels("loose")).or_default();
        loose.extend(BACK.map(|back| (time - back, (step as f64).to_bits())));
        loose.sort_unstable();
        next.entry(of_histograms(&labels("native")))
            .or_default()
            .push((time + 1, fingerprint(&histogram(step as u32))));
        match appender.commit(OnReject::Fail) {
            Ok(_) => told.states.push(next),
            Err(CommitError::Rejected(r)) => panic!("rejected: {r:?}"),
            Err(CommitError::Log(_) | CommitError::Closed(_)) => {
                told.doubtful = Some(next);
                return;
            }
        }
        if deletes && !tidy(db, told, step) {
            return;
        }
        if maintain {
            if step % 10 == 4 {
                db.seal();
            }
            // A round that fails is tried again by the next one.
            drop(db.maintain());
            drop(db.compact());
        }
    }
}

fn narrow(fsync: Fsync) -> Options {
    Options {
        block_ms: 30,
        segment_bytes: 600,
        out_of_order_ms: 1000,
        late_bytes: 100,
        max_exemplars: 5,
        ..options(fsync)
    }
}

/// What lies in the folders of files that only save time.
fn spare_files(fs: &dyn Fs) -> Vec<String> {
    let names = |folder| fs.read_dir(&Path::new(DIR).join(folder)).unwrap().into_iter();
    names("runs").chain(names("checkpoint")).map(|e| e.name).collect()
}

/// Nothing lies in the data directory that nobody answers for.
fn check_blocks(fs: &Arc<dyn Fs>, db: &Db, change: u64) {
    let mut blocks = 0;
    for entry in fs.read_dir(Path::new(DIR)).unwrap() {
        let known = ["tidegauge", "lock", "wal", "snapshots", "runs", "checkpoint"];
        if known.contains(&entry.name.as_str()) {
            continue;
        }
        assert!(
            entry.name.parse::<BlockId>().is_ok(),
            "change {change}: {} is left",
            entry.name
        );
        let files = fs.read_dir(&Path::new(DIR).join(&entry.name)).unwrap();
        let names: Vec<&str> = files.iter().map(|f| f.name.as_str()).collect();
        assert!(
            matches!(names[..], ["block"] | ["block", "tombstones"]),
            "change {change}: {names:?}"
        );
        blocks += 1;
    }
    let shown = db.metrics().blocks.load(Ordering::Relaxed);
    assert_eq!(shown, blocks, "change {change}: each block on disk is served");
}

/// Lets each change of a day fail in turn; gives how many there are.
fn run(narrow: impl Fn() -> Options, fault: Fault, check: impl Fn(&Told, &Content, u64)) -> u64 {
    let (mut change, mut ended) = (0, false);
    while !ended {
        let fs = FaultFs::new(MemoryFs::new());
        fs.fail_at(change, fault);
        let disk: Arc<dyn Fs> = Arc::new(fs.clone());
        let mut told = Told::default();
        if let Ok(db) = open(&disk, narrow()) {
            // What retention and deletions both take cannot be told apart.
            let deletes = narrow().fsync == Fsync::Always && narrow().retention_ms > 1000;
            steps(&db, &mut told, 0, deletes);
            drop(db);
        }
        ended = fs.changes() <= change;
        fs.revive();
        fs.disk().crash();
        let db = open(&disk, narrow()).unwrap_or_else(|e| panic!("change {change}: {e}"));
        assert!(spare_files(&*disk).iter().all(|name| !name.ends_with(".tmp")));
        check(&told, &all(&*db), change);
        check_blocks(&disk, &db, change);
        // It goes on working.
        let mut after = Told {
            states: vec![all(&*db)],
            ..Told::default()
        };
        day(&db, &mut after, 23);
        assert!(after.doubtful.is_none());
        db.maintain().unwrap();
        let before = all(&*db);
        db.compact().unwrap();
        db.clean_tombstones().unwrap();
        assert_eq!(all(&*db), before, "change {change}: merged and cleaned");
        check_files(&*disk, change);
        let report = verify(&disk, Path::new(DIR), &mut |_| {});
        assert!(report.is_sound(), "change {change}, {fault:?}: {:?}", report.problems);
        check_blocks(&disk, &db, change);
        change += 1;
    }
    assert!(change > 60, "the workload has {change} changes");
    change
}

#[test]
fn with_always_a_power_cut_loses_nothing_acknowledged() {
    for fault in [Fault::Error, Fault::ShortWrite, Fault::Halt] {
        let whole = |told: &Told, found: &Content, change: u64| {
            assert!(
                told.allows(found),
                "change {change}, {fault:?}: {} commits, found {found:?}, told {:?}",
                told.states.len(),
                told.states.last()
            );
        };
        let plain = run(|| narrow(Fsync::Always), fault, whole);
        let with_checkpoints = run(|| eager(narrow(Fsync::Always)), fault, whole);
        assert!(with_checkpoints > plain + 60, "{with_checkpoints} and {plain} changes");
    }
}

/// Segments end between syncs; what a sync covered lasts all the same.
#[test]
fn what_was_synced_lasts_over_the_ends_of_segments() {
    let hour = Fsync::Interval(Duration::from_secs(3600));
    for options in [narrow(hour), eager(narrow(hour))] {
        for until in 1..24 {
            let fs = FaultFs::new(MemoryFs::new());
            let disk: Arc<dyn Fs> = Arc::new(fs.clone());
            let db = open(&disk, options.clone()).unwrap();
            let mut told = Told::default();
            for step in 0..until {
                day_of(&db, &mut told, step..step + 1, step % 5 == 4, false);
            }
            db.sync().unwrap();
            let synced = told.states.last().cloned().unwrap();
            day_of(&db, &mut told, until..24, false, false);
            fs.disk().crash();
            drop(db);
            let db = open(&disk, options.clone()).unwrap();
            let found = all(&*db);
            let whole = told.states.get(until - 1..).unwrap().contains(&found);
            assert!(whole, "{until} commits were synced: {synced:?}, found {found:?}");
        }
    }
}

/// A checkpoint makes nothing last longer or shorter than the log does.
#[test]
fn a_day_with_checkpoints_leaves_no_files_behind() {
    let disk = MemoryFs::new();
    let fs: Arc<dyn Fs> = Arc::new(disk.clone());
    let options = eager(narrow(Fsync::Always));
    let db = open(&fs, options.clone()).unwrap();
    let mut told = Told::default();
    day(&db, &mut told, 0);
    let written = metric(&db, "tidegauge_tsdb_head_run_files_written_total");
    assert!(written >= 2.0 && metric(&db, "tidegauge_tsdb_checkpoints_written_total") >= 3.0);
    db.maintain().unwrap();
    db.maintain().unwrap();
    let written = metric(&db, "tidegauge_tsdb_head_run_files_written_total");
    let files = spare_files(&disk);
    let runs = files.iter().filter(|f| f.ends_with(".runs")).count();
    assert_eq!(runs as f64, metric(&db, "tidegauge_tsdb_head_run_files"));
    assert!((runs as f64) < written && files.len() - runs <= 2, "{files:?}");
    drop(db);
    let db = open(&fs, options).unwrap();
    assert_eq!(all(&*db), *told.states.last().unwrap());
    assert!(metric(&db, "tidegauge_tsdb_wal_replayed_rows_total") < 12.0);
    assert_eq!(metric(&db, "tidegauge_tsdb_checkpoints_unusable_total"), 0.0);
}

/// Whole samples of the end of each series, and all that retention keeps for sure. Late ones may stay longer than those in
/// order around them: until they get a block.
fn is_kept(found: &Content, told: &Content, from: i64) -> bool {
    told.iter().all(|(series, samples)| {
        let kept = found.get(series).map_or(&[][..], Vec::as_slice);
        let sure = samples.iter().filter(|s| s.0 >= from).count();
        let late = series.value("__name__") == "loose";
        let ends = samples.ends_with(kept) && kept.len() >= sure;
        let holds = kept.iter().all(|s| samples.contains(s)) && kept.ends_with(&samples[samples.len() - sure..]);
        ends || late && holds
    }) && found.keys().all(|series| told.contains_key(series))
}

#[test]
fn retention_deletes_only_what_is_old_wherever_it_fails() {
    let options = Options {
        retention_ms: 100,
        max_block_ms: 90,
        ..narrow(Fsync::Always)
    };
    for fault in [Fault::Error, Fault::Halt] {
        run(
            || options.clone(),
            fault,
            |told: &Told, found: &Content, change: u64| {
                let acknowledged = told.states.last().cloned().unwrap_or_default();
                let fits = |told: &Content| {
                    let newest = told.values().flatten().map(|s| s.0).max().unwrap_or(0);
                    is_kept(found, told, newest - 100)
                };
                assert!(
                    fits(&acknowledged) || told.doubtful.as_ref().is_some_and(fits),
                    "change {change}, {fault:?}: {found:?}"
                );
            },
        );
    }
}

#[test]
fn without_syncs_a_power_cut_leaves_whole_commits_from_the_start() {
    let whole = |told: &Told, found: &Content, change: u64| {
        let whole = found.is_empty() || told.states.contains(found) || Some(found) == told.doubtful.as_ref();
        assert!(whole, "change {change}: {} commits", told.states.len());
    };
    run(|| narrow(Fsync::Never), Fault::Halt, whole);
    run(|| eager(narrow(Fsync::Never)), Fault::Halt, whole);
}

#[test]
fn a_killed_process_loses_nothing() {
    let disk = MemoryFs::new();
    let fs: Arc<dyn Fs> = Arc::new(disk.clone());
    let mut told = Told::default();
    for part in 0..3 {
        let db = open(&fs, narrow(Fsync::Never)).unwrap();
        assert_eq!(
            all(&*db),
            told.states.last().cloned().unwrap_or_default(),
            "part {part}"
        );
        day(&db, &mut told, part * 8);
        told.states.truncate((part + 1) * 8);
        disk.kill();
        std::mem::forget(db);
        if part == 0 {
            break;
        }
    }
    let db = open(&fs, narrow(Fsync::Never)).unwrap();
    assert_eq!(all(&*db).len(), 10);
}

#[test]
fn a_full_disk_refuses_appends_and_heals_by_itself() {
    let fs = FaultFs::new(MemoryFs::new());
    let disk: Arc<dyn Fs> = Arc::new(fs.clone());
    let db = open(&disk, options(Fsync::Never)).unwrap();
    let append = |step: i64| {
        let mut appender = db.appender();
        let timeline = appender.timeline("t").unwrap();
        let series = appender.resolve(Some(timeline), &labels("m")).unwrap();
        appender
            .append_row(timeline, at(step), &[(series, step as f64 * 0.1)])
            .unwrap();
        appender.commit(OnReject::Skip)
    };
    append(1).unwrap();
    for room in 0..30 {
        fs.set_room(Some(room));
        let refused = append(2);
        if let Err(e) = refused {
            assert!(
                matches!(&e, CommitError::Log(why) if why.contains("once there is room")),
                "{e}"
            );
        } else {
            break;
        }
        fs.set_room(None);
    }
    fs.set_room(None);
    append(3).unwrap();
    let before = all(&*db);
    drop(db);
    let db = open(&disk, options(Fsync::Never)).unwrap();
    assert_eq!(all(&*db), before);
    assert_eq!(before[&labels("m")].last(), Some(&(3, (3.0f64 * 0.1).to_bits())));
}

#[test]
fn a_failed_sync_closes_the_log_and_reads_go_on() {
    let fs = FaultFs::new(MemoryFs::new());
    let disk: Arc<dyn Fs> = Arc::new(fs.clone());
    let db = open(&disk, narrow(Fsync::Never)).unwrap();
    let mut told = Told::default();
    day(&db, &mut told, 20);
    fs.fail_at(fs.changes(), Fault::Error);
    assert!(db.sync().is_err());
    let before = told.states.last().cloned().unwrap();
    day(&db, &mut told, 23);
    assert!(told.doubtful.is_some(), "nothing is taken any more");
    assert_eq!(all(&*db), before);
    assert!(
        db.metrics()
            .list()
            .iter()
            .any(|f| f.0 == "tidegauge_tsdb_wal_poisoned" && f.3[0].1 == 1.0)
    );
}
