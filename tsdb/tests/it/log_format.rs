//! The bytes of the log are those of `docs/formats/wal.md`.

use crate::support::{DIR, all, at, fingerprint, of_histograms, open, options};
use std::path::Path;
use std::sync::Arc;
use tidegauge_model::{Appendable, Counts, Exemplar, Histogram, Labels, OnReject, stale_marker};
use tidegauge_tsdb::fs::{Fs, MemoryFs};
use tidegauge_tsdb::{Fsync, Options};

fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let crc = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

fn frame(record: &[u8]) -> Vec<u8> {
    let mut bytes = (record.len() as u32).to_le_bytes().to_vec();
    bytes.push(1);
    bytes.extend_from_slice(record);
    sealed(bytes)
}

#[test]
fn bytes_are_as_drawn() {
    let disk = MemoryFs::new();
    let fs: Arc<dyn Fs> = Arc::new(disk.clone());
    let db = open(&fs, options(Fsync::Never)).unwrap();
    let commit = |time: i64, values: &[(&str, f64)]| {
        let mut appender = db.appender();
        let timeline = appender.timeline("t").unwrap();
        let row: Vec<_> = values
            .iter()
            .map(|(name, v)| {
                let labels = Labels::from_pairs([("a", *name)]).unwrap();
                (appender.resolve(Some(timeline), &labels).unwrap(), *v)
            })
            .collect();
        appender.append_row(timeline, at(time), &row).unwrap();
        appender.commit(OnReject::Fail).unwrap();
    };
    commit(100, &[("x", 1.0), ("y", 0.5)]);
    commit(105, &[("x", 3.0), ("y", 0.5)]);
    commit(110, &[("x", 3.0), ("y", stale_marker())]);
    commit(115, &[("x", 2.0)]);

    let mut header = b"TGWL".to_vec();
    header.extend_from_slice(&[3, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    let mut expect = sealed(header);
    // Timeline 0 "t"; columns 0 and 1 with home 0; shape: both; key row at 100: 1 and 0.5 after 0.
    expect.extend(frame(&[
        1,
        0,
        2,
        b't', //
        9,
        0,
        1,
        1,
        3,
        b'a',
        1,
        b'x', //
        9,
        1,
        1,
        1,
        1,
        1,
        b'y', //
        3,
        0,
        0,
        2,
        0,
        2, //
        4,
        0,
        200,
        1,
        1,
        2 << 2,
        (10 << 2) | 1,
        1,
    ]));
    // Five later; one change, place 0: plus 2.
    expect.extend(frame(&[4, 0, 10, 0, 1, 0, 4 << 2]));
    // Place 1 goes stale: 0.5 is 3fe0 0000 0000 0000; XOR with the marker leaves no zero byte in front or behind.
    expect.extend(frame(&[4, 0, 10, 0, 1, 1, 2, 0x40, 0x10, 0, 0, 0, 0, 0, 2]));
    // Place 1 has ended, so that all that are left have a value; place 0: minus 1.
    expect.extend(frame(&[4, 0, 10, 4, 1, 1, 1, 0, 1 << 2]));
    assert_eq!(disk.read(&Path::new(DIR).join("wal/00000001.seg")).unwrap(), expect);
}

#[test]
fn late_samples_are_as_drawn() {
    let disk = MemoryFs::new();
    let fs: Arc<dyn Fs> = Arc::new(disk.clone());
    let options = Options {
        out_of_order_ms: 1000,
        late_bytes: 0,
        block_ms: 100,
        ..options(Fsync::Never)
    };
    let db = open(&fs, options).unwrap();
    let commit = |samples: &[(i64, f64)]| {
        let mut appender = db.appender();
        let series = appender
            .resolve(None, &Labels::from_pairs([("a", "x")]).unwrap())
            .unwrap();
        for (time, value) in samples {
            appender.append_at(series, at(*time), *value).unwrap();
        }
        appender.commit(OnReject::Fail).unwrap();
    };
    commit(&[(100, 1.0)]);
    let file = Path::new(DIR).join("wal/00000001.seg");
    let before = disk.read(&file).unwrap();
    commit(&[(80, 3.0), (70, 3.5)]);
    let mut expect = before.clone();
    // The second definition of column 0, then two samples of it: 70, and 10 later; 3.5 after 0, and 0.5 less.
    expect.extend(frame(&[
        9,
        0,
        0,
        1,
        3,
        b'a',
        1,
        b'x', //
        5,
        1,
        2,
        140,
        1,
        153,
        2,
        1,
        20,
        (9 << 2) | 1,
        1,
    ]));
    assert_eq!(disk.read(&file).unwrap(), expect);
    commit(&[(240, 1.0)]);
    let before = disk.read(&file).unwrap();
    db.maintain().unwrap();
    // The window from 0 to 100 is older than any row: its late samples went to a block.
    let told = frame(&[5, 0, 0, 200, 1]);
    let after = disk.read(&file).unwrap();
    assert_eq!(after.len(), before.len() + told.len(), "one frame more");
    assert_eq!(after[before.len()..], told);
}

#[test]
fn bytes_of_histograms_and_exemplars_are_as_drawn() {
    let disk = MemoryFs::new();
    let fs: Arc<dyn Fs> = Arc::new(disk.clone());
    let ring = Options {
        max_exemplars: 9,
        ..options(Fsync::Never)
    };
    let db = open(&fs, ring).unwrap();
    let name = Labels::from_pairs([("a", "x")]).unwrap();
    let commit = |time: i64, count: f64| {
        let mut appender = db.appender();
        let series = appender.resolve(None, &name).unwrap();
        let histogram = Histogram {
            counts: Counts::Integer,
            count,
            sum: 1.5,
            zero_count: count,
            ..Histogram::default()
        };
        let exemplar = Exemplar {
            labels: Labels::from_pairs([("t", "i")]).unwrap(),
            value: 2.0,
            at: None,
        };
        appender.append_exemplar(series, at(time), &exemplar).unwrap();
        appender
            .append_histogram(series, at(time), Arc::new(histogram.clone()))
            .unwrap();
        appender.commit(OnReject::Fail).unwrap();
        fingerprint(&histogram)
    };
    let prints = [commit(100, 3.0), commit(105, 4.0)];

    let mut header = b"TGWL".to_vec();
    header.extend_from_slice(&[3, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    let mut expect = sealed(header);
    // Column 0 without a home; a histogram of 20 bytes that stands alone: integers, schema 0, threshold 0, no spans, no
    // bounds; 3, 3 and 15 tenths after 0; at 100. Its exemplar at 100, which is not its own time: 2, t="i".
    let mut first = vec![9, 0, 0, 1, 3, b'a', 1, b'x'];
    first.extend([
        6,
        0,
        20,
        4,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        6 << 2,
        6 << 2,
        (30 << 2) | 1,
        1,
        200,
        1,
    ]);
    first.extend([7, 0, 200, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0x40, 1, 1, b't', 1, b'i']);
    expect.extend(frame(&first));
    // One more of each, the sum as it was, five later. The exemplar says the same again: it is not stored.
    expect.extend(frame(&[6, 0, 6, 0, 2 << 2, 2 << 2, 1, 1, 10]));
    assert_eq!(disk.read(&Path::new(DIR).join("wal/00000001.seg")).unwrap(), expect);
    drop(db);
    let db = open(&fs, options(Fsync::Never)).unwrap();
    assert_eq!(all(&*db)[&of_histograms(&name)], [(100, prints[0]), (105, prints[1])]);
}

/// Version 1 is what was written before histograms came: the bytes of the test above it, as that version wrote them.
#[test]
fn a_segment_of_version_1_is_read() {
    let disk = MemoryFs::new();
    let fs: Arc<dyn Fs> = Arc::new(disk.clone());
    drop(open(&fs, options(Fsync::Never)).unwrap());
    let mut header = b"TGWL".to_vec();
    header.extend_from_slice(&[1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    let mut bytes = sealed(header);
    let mut first = vec![
        1, 0, 2, b't', 2, 0, 1, 1, 1, b'a', 1, b'x', 2, 1, 1, 1, 1, b'a', 1, b'y',
    ];
    first.extend([3, 0, 0, 2, 0, 2, 4, 0, 200, 1, 1, 2 << 2, (10 << 2) | 1, 1]);
    bytes.extend(frame(&first));
    bytes.extend(frame(&[4, 0, 10, 0, 1, 0, 4 << 2]));
    disk.plant(&Path::new(DIR).join("wal/00000001.seg"), &bytes).unwrap();
    let db = open(&fs, options(Fsync::Never)).unwrap();
    let found = all(&*db);
    let of = |name: &str| found[&Labels::from_pairs([("a", name)]).unwrap()].clone();
    assert_eq!(of("x"), [(100, 1.0f64.to_bits()), (105, 3.0f64.to_bits())]);
    assert_eq!(of("y"), [(100, 0.5f64.to_bits()), (105, 0.5f64.to_bits())]);
}
