//! `verify`: silent on what is sound, exact about what is not, and it changes nothing.

use crate::support::{DIR, at, histogram, labels, open, options};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tidegauge_model::{Appendable, Exemplar, OnReject};
use tidegauge_tsdb::fs::{Fs, MemoryFs};
use tidegauge_tsdb::{Db, Fsync, Options, Report, SnapshotHead, verify};

const HOUR: i64 = 3600 * 1000;

/// What is stored: floats alone, which the store keeps checkpoints of, or histograms and exemplars too.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kinds {
    Floats,
    All,
}

fn fill(db: &Db, rows: std::ops::Range<i64>, kinds: Kinds) {
    for row in rows {
        let mut appender = db.appender();
        for key in ["a", "b"] {
            let timeline = appender.timeline(key).unwrap();
            let columns: Vec<_> = (0..20)
                .map(|c| {
                    let column = appender.resolve(Some(timeline), &labels(&format!("{key}{c}"))).unwrap();
                    (column, (row * c) as f64 / 8.0)
                })
                .filter(|_| row % 7 != 3 || key == "a")
                .collect();
            appender.append_row(timeline, at(row * 60_000), &columns).unwrap();
        }
        if kinds == Kinds::All {
            let column = appender.resolve(None, &labels("latency")).unwrap();
            let time = at(row * 60_000);
            appender
                .append_histogram(column, time, Arc::new(histogram(row as u32)))
                .unwrap();
            let labels = labels("trace");
            let exemplar = Exemplar {
                labels,
                value: 1.0,
                at: Some(time),
            };
            appender.append_exemplar(column, time, &exemplar).unwrap();
        }
        appender.commit(OnReject::Fail).unwrap();
    }
}

/// A store with a block or more, a log and a snapshot; still open, so that its lock is taken.
fn store(kinds: Kinds) -> (MemoryFs, Arc<dyn Fs>, Arc<Db>) {
    let disk = MemoryFs::new();
    let fs: Arc<dyn Fs> = Arc::new(disk.clone());
    let db = open(
        &fs,
        Options {
            block_ms: HOUR,
            retention_ms: 0,
            segment_bytes: 3000,
            run_file_bytes: 1,
            checkpoint_log_bytes: 1,
            ..options(Fsync::Never)
        },
    )
    .unwrap();
    fill(&db, 0..130, kinds);
    db.maintain().unwrap();
    fill(&db, 130..190, kinds);
    db.seal();
    db.maintain().unwrap();
    fill(&db, 190..200, kinds);
    db.snapshot(SnapshotHead::Include).unwrap();
    (disk, fs, db)
}

fn check(fs: &Arc<dyn Fs>, dir: &Path) -> Report {
    let mut last = 0;
    let report = verify(fs, dir, &mut |p| {
        assert!(last <= p.done && p.done <= p.total, "{last} {p:?}");
        last = p.done;
    });
    assert!(report.problems.len() <= Report::MAX_LISTED);
    report
}

fn files(disk: &MemoryFs, dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in disk.read_dir(dir).unwrap() {
        let path = dir.join(entry.name);
        match disk.read(&path) {
            Ok(bytes) => found.push((path, bytes)),
            Err(_) => found.extend(files(disk, &path)),
        }
    }
    found
}

fn blocks(disk: &MemoryFs) -> Vec<PathBuf> {
    let all = files(disk, Path::new(DIR)).into_iter();
    all.map(|(path, _)| path)
        .filter(|p| p.ends_with("block") && !p.starts_with(Path::new(DIR).join("snapshots")))
        .collect()
}

#[test]
fn a_served_store_and_its_snapshot_are_sound_and_stay_as_they_are() {
    for kinds in [Kinds::Floats, Kinds::All] {
        let (disk, fs, db) = store(kinds);
        let before = files(&disk, Path::new(DIR));
        let report = check(&fs, Path::new(DIR));
        assert_eq!((&report.problems, &report.notes), (&vec![], &vec![]));
        let in_store = blocks(&disk).len() as u64;
        assert!(in_store >= 1);
        assert_eq!(
            report.blocks,
            2 * in_store + 1,
            "those of the store, the same in the snapshot, and the head's"
        );
        assert!(
            report.segments >= 1 && report.frames >= 10 && report.rows >= 10,
            "{report:?}"
        );
        assert_eq!(report.files, before.len() as u64);
        assert_eq!(report.bytes, before.iter().map(|(_, b)| b.len() as u64).sum::<u64>());
        assert_eq!(before, files(&disk, Path::new(DIR)), "nothing was written");

        let snapshots = Path::new(DIR).join("snapshots");
        let snapshot = snapshots.join(&disk.read_dir(&snapshots).unwrap()[0].name);
        let report = check(&fs, &snapshot);
        assert!(report.is_sound(), "{:?}", report.problems);
        let floats = 200 * 20 + (0..200).filter(|r| r % 7 != 3).count() as u64 * 20;
        assert_eq!(report.samples, floats + if kinds == Kinds::All { 200 } else { 0 });
        let one = blocks(&disk)[0].parent().unwrap().to_owned();
        assert_eq!((check(&fs, &one).blocks, check(&fs, &one).problems), (1, vec![]));
        drop(db);
    }
}

#[test]
fn every_changed_byte_of_runs_and_checkpoints_is_found() {
    let (disk, fs, _db) = store(Kinds::Floats);
    for folder in ["runs", "checkpoint"] {
        let (path, whole) = files(&disk, &Path::new(DIR).join(folder)).remove(0);
        for at in (0..whole.len()).step_by(3) {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            disk.plant(&path, &bytes).unwrap();
            let report = check(&fs, Path::new(DIR));
            assert!(
                report.problems.iter().any(|p| p.path == path),
                "{folder}, byte {at} of {}: {:?}",
                whole.len(),
                report.problems
            );
        }
        disk.plant(&path, &whole).unwrap();
    }
    assert!(check(&fs, Path::new(DIR)).is_sound());
}

#[test]
fn every_changed_byte_of_a_block_is_found_with_its_path() {
    let (disk, fs, _db) = store(Kinds::All);
    let path = blocks(&disk).remove(0);
    let dir = path.parent().unwrap();
    let whole = disk.read(&path).unwrap();
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        disk.plant(&path, &bytes).unwrap();
        let report = check(&fs, dir);
        assert!(!report.is_sound(), "byte {at} of {}", whole.len());
        assert!(report.problems.iter().all(|p| p.path == path), "{:?}", report.problems);
    }
    for cut in [0, 1, 20, whole.len() / 2, whole.len() - 1] {
        disk.plant(&path, &whole[..cut]).unwrap();
        assert!(!check(&fs, dir).is_sound(), "cut to {cut}");
    }
}

#[test]
fn every_changed_byte_of_the_log_is_found_and_its_torn_end_is_none() {
    let (disk, fs, _db) = store(Kinds::Floats);
    let wal = Path::new(DIR).join("wal");
    let segments: Vec<PathBuf> = files(&disk, &wal).into_iter().map(|(path, _)| path).collect();
    let (first, last) = (segments.first().unwrap(), segments.last().unwrap());
    for path in [first, last] {
        let whole = disk.read(path).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            disk.plant(path, &bytes).unwrap();
            let report = check(&fs, Path::new(DIR));
            assert_eq!(report.problems.len(), 1, "byte {at}: {:?}", report.problems);
            assert_eq!(report.problems[0].path, *path);
            assert!(report.problems[0].offset.is_some_and(|o| o <= at as u64));
        }
        disk.plant(path, &whole).unwrap();
    }
    let whole = disk.read(last).unwrap();
    for cut in [1, 5] {
        disk.plant(last, &whole[..whole.len() - cut]).unwrap();
        let report = check(&fs, Path::new(DIR));
        assert!(report.is_sound());
        assert_eq!(report.notes.len(), 1, "{:?}", report.notes);
        assert!(report.notes[0].what.contains("not whole"), "{}", report.notes[0]);
    }
}

/// A block file that can be changed and sealed again as a careless writer would.
struct Forged(Vec<u8>);

impl Forged {
    fn entry(&self, section: usize) -> usize {
        self.0.len() - 24 - (11 - section) * 24
    }

    fn range(&self, section: usize) -> std::ops::Range<usize> {
        let field = |at: usize| u64::from_le_bytes(self.0[at..at + 8].try_into().unwrap()) as usize;
        let (start, len) = (field(self.entry(section) + 8), field(self.entry(section) + 16));
        start..start + len
    }

    /// Changes bytes of a section and makes the checksums true again.
    fn change(mut self, section: usize, change: impl FnOnce(&mut [u8])) -> Vec<u8> {
        let (range, entry, end) = (self.range(section), self.entry(section), self.0.len());
        change(&mut self.0[range.clone()]);
        let crc = crc32fast::hash(&self.0[range]);
        if section != 0 {
            self.0[entry + 4..entry + 8].copy_from_slice(&crc.to_le_bytes());
        }
        let covered = [
            &self.0[..16],
            &self.0[end - 24 - 11 * 24..end - 24],
            &self.0[end - 24..end - 12],
        ]
        .concat();
        let crc = crc32fast::hash(&covered);
        self.0[end - 12..end - 8].copy_from_slice(&crc.to_le_bytes());
        self.0
    }
}

#[test]
fn what_does_not_agree_is_found_though_checksums_are_right() {
    let (disk, fs, _db) = store(Kinds::Floats);
    let path = blocks(&disk).remove(0);
    let dir = path.parent().unwrap();
    let whole = disk.read(&path).unwrap();
    for (section, byte, words) in [
        (10, 0, "its folder is named otherwise"),
        (10, 32, "the first or the last sample"),
        (10, 48, "samples, its series have"),
        (10, 60, "chunks"),
        (2, 1, "timeline"),
        (3, 16, "timeline does not begin"),
        (5, 16, "does not begin and end when it says"),
        (5, 8, "dense span has another count"),
    ] {
        let forged = Forged(whole.clone()).change(section, |bytes| bytes[byte] ^= 1);
        disk.plant(&path, &forged).unwrap();
        let report = check(&fs, dir);
        let told = report.problems.iter().any(|p| p.what.contains(words));
        assert!(told, "section {section} byte {byte}: {:?}", report.problems);
    }
}

#[test]
fn postings_that_name_other_series_are_found() {
    let (disk, fs, _db) = store(Kinds::Floats);
    let path = blocks(&disk).remove(0);
    let whole = disk.read(&path).unwrap();
    // The list of the first pair, `__name__="a0"`, is series 0: count 1, and the integer 0. Series 1 is as good a number.
    let range = Forged(whole.clone()).range(7);
    let lists = u32::from_le_bytes(whole[range.start..range.start + 4].try_into().unwrap()) as usize;
    let body = 4 + 4 * (lists + 1);
    let found = (0..4).any(|byte| {
        let forged = Forged(whole.clone()).change(7, |bytes| bytes[body + byte] ^= 2);
        disk.plant(&path, &forged).unwrap();
        let report = check(&fs, path.parent().unwrap());
        assert!(!report.is_sound(), "byte {byte}");
        report
            .problems
            .iter()
            .any(|p| p.what.contains("postings of __name__=\"a0\" name 1 series"))
    });
    assert!(found, "one of the bytes is the number");
}

#[test]
fn what_is_not_of_the_store_is_noted_and_what_is_missing_is_a_problem() {
    let (disk, fs, _db) = store(Kinds::Floats);
    let dir = Path::new(DIR);
    let id = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
    for path in [
        "notes.txt".to_owned(),
        "wal/x.seg".to_owned(),
        format!("{id}.tmp/block"),
        format!("quarantine/{id}/block"),
    ] {
        disk.create_dir_all(dir.join(&path).parent().unwrap()).unwrap();
        disk.plant(&dir.join(&path), b"what it is").unwrap();
    }
    let report = check(&fs, dir);
    assert!(report.is_sound(), "{:?}", report.problems);
    assert_eq!(report.notes.len(), 4, "{:?}", report.notes);

    disk.create_dir_all(&dir.join(id)).unwrap();
    disk.plant(&dir.join("tidegauge"), b"something").unwrap();
    let report = check(&fs, dir);
    assert_eq!(report.problems.len(), 2, "{:?}", report.problems);
    let missing = check(&fs, Path::new("/nowhere"));
    assert_eq!(missing.problems.len(), 1);
    assert!(missing.problems[0].to_string().contains("/nowhere"));
}
