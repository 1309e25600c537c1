//! Bytes of the log change or go; what is found is told, and the rest serves.

use crate::support::{DIR, all, at, labels, metric, open, options};
use proptest::prelude::*;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tidegauge_model::{Appendable, OnReject};
use tidegauge_tsdb::fs::{Fs, MemoryFs};
use tidegauge_tsdb::{Db, Error, Fsync, Options};

fn fill(db: &Db, steps: std::ops::Range<i64>) {
    for step in steps {
        let mut appender = db.appender();
        for key in ["a", "b", "c"] {
            let timeline = appender.timeline(key).unwrap();
            let row: Vec<_> = (0..10)
                .map(|c| {
                    (
                        appender.resolve(Some(timeline), &labels(&format!("{key}{c}"))).unwrap(),
                        (step * c) as f64 / 8.0,
                    )
                })
                .collect();
            appender.append_row(timeline, at(step), &row).unwrap();
        }
        appender.commit(OnReject::Fail).unwrap();
    }
}

/// A log of several segments, and the newest one's path.
fn written(steps: i64, segment_bytes: u64) -> (MemoryFs, Arc<dyn Fs>, Vec<PathBuf>) {
    let disk = MemoryFs::new();
    let fs: Arc<dyn Fs> = Arc::new(disk.clone());
    let db = open(
        &fs,
        Options {
            segment_bytes,
            ..options(Fsync::Never)
        },
    )
    .unwrap();
    fill(&db, 0..steps);
    drop(db);
    let wal = Path::new(DIR).join("wal");
    let names = fs
        .read_dir(&wal)
        .unwrap()
        .into_iter()
        .map(|e| wal.join(e.name))
        .collect();
    (disk, fs, names)
}

#[test]
fn a_torn_tail_is_cut_and_costs_only_the_last_commit() {
    let (disk, fs, names) = written(20, 1 << 20);
    let path = names.last().unwrap();
    let whole = disk.read(path).unwrap();
    for cut in 1..24 {
        disk.plant(path, &whole[..whole.len() - cut]).unwrap();
        let db = open(&fs, options(Fsync::Never)).unwrap();
        assert!(all(&*db).values().all(|samples| samples.len() == 19), "cut {cut}");
        assert_eq!(metric(&db, "tidegauge_tsdb_wal_torn_tails_total"), 1.0);
        fill(&db, 30..31);
        drop(db);
        // The next start is clean.
        let db = open(&fs, options(Fsync::Never)).unwrap();
        assert_eq!(metric(&db, "tidegauge_tsdb_wal_torn_tails_total"), 0.0);
        drop(db);
        for entry in fs.read_dir(path.parent().unwrap()).unwrap() {
            fs.remove_file(&path.with_file_name(entry.name)).unwrap();
        }
    }
}

/// A frame that is all there and fails its checksum was written whole: that is no torn end.
#[test]
fn a_flipped_bit_in_the_last_frame_is_told_as_damage() {
    let (disk, fs, names) = written(20, 1 << 20);
    let path = names.last().unwrap();
    let whole = disk.read(path).unwrap();
    let frame = whole.len() - last_frame();
    for at in frame..whole.len() {
        let mut bad = whole.clone();
        bad[at] ^= 1 << (at % 8);
        disk.plant(path, &bad).unwrap();
        let db = open(&fs, options(Fsync::Never)).unwrap();
        assert!(all(&*db).values().all(|samples| samples.len() == 19), "byte {at}");
        let found = [
            metric(&db, "tidegauge_tsdb_wal_damaged_records_total"),
            metric(&db, "tidegauge_tsdb_wal_torn_tails_total"),
        ];
        assert_eq!(found, [1.0, 0.0], "byte {at}");
        drop(db);
        for entry in fs.read_dir(path.parent().unwrap()).unwrap() {
            fs.remove_file(&path.with_file_name(entry.name)).unwrap();
        }
    }
}

/// How long the frame of the twentieth commit is.
fn last_frame() -> usize {
    let length = |steps| {
        let (disk, _, names) = written(steps, 1 << 20);
        disk.read(names.last().unwrap()).unwrap().len()
    };
    length(20) - length(19)
}

#[test]
fn damage_costs_at_most_up_to_the_next_key_row() {
    let (disk, fs, names) = written(300, 1 << 20);
    let path = names.last().unwrap();
    let mut bytes = disk.read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    disk.plant(path, &bytes).unwrap();
    let db = open(&fs, options(Fsync::Never)).unwrap();
    assert_eq!(metric(&db, "tidegauge_tsdb_wal_damaged_records_total"), 1.0);
    let found = all(&*db);
    assert_eq!(found.len(), 30);
    for samples in found.values() {
        assert!(samples.len() >= 300 - 66, "{} of 300 samples are left", samples.len());
        assert_eq!((samples[0].0, samples.last().unwrap().0), (0, 299));
    }
}

#[test]
fn a_bad_first_record_costs_no_series_the_rest_of_its_segment() {
    let (disk, fs, names) = written(200, 1 << 20);
    let path = names.last().unwrap();
    let mut bytes = disk.read(path).unwrap();
    bytes[40] ^= 1;
    disk.plant(path, &bytes).unwrap();
    let db = open(&fs, options(Fsync::Never)).unwrap();
    let found = all(&*db);
    assert_eq!(found.len(), 30);
    assert!(found.values().all(|s| s.len() >= 200 - 66));
}

#[test]
fn a_newer_segment_is_refused() {
    let (disk, fs, names) = written(2, 1 << 20);
    let mut header = b"TGWL".to_vec();
    header.extend_from_slice(&9u32.to_le_bytes());
    header.extend_from_slice(&2u64.to_le_bytes());
    let crc = crc32fast::hash(&header);
    header.extend_from_slice(&crc.to_le_bytes());
    disk.plant(&names[0].with_file_name("00000002.seg"), &header).unwrap();
    assert!(matches!(
        open(&fs, options(Fsync::Never)),
        Err(Error::NewerVersion { found: 9, .. })
    ));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn no_damage_makes_samples_up(
        flips in proptest::collection::vec((0usize..100_000, 0u8..8), 0..4),
        cut in proptest::option::of(0usize..100_000),
        segment in 0usize..3,
    ) {
        let (disk, fs, names) = written(150, 4000);
        let path = &names[segment % names.len()];
        let mut bytes = disk.read(path).unwrap();
        for (at, bit) in flips {
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut % (bytes.len() + 1));
        }
        disk.plant(path, &bytes).unwrap();
        let db = open(&fs, options(Fsync::Never)).unwrap();
        for (series, samples) in all(&*db) {
            let name = series.metric_name().unwrap().to_owned();
            let c: i64 = name[1..].parse().unwrap();
            for (t, bits) in samples {
                prop_assert_eq!(bits, ((t * c) as f64 / 8.0).to_bits(), "{} at {}", name, t);
            }
        }
        fill(&db, 1000..1001);
    }
}
