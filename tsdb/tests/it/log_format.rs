//! The bytes of the log are those of `docs/formats/wal.md`.

use crate::support::{DIR, at, open, options};
use std::path::Path;
use std::sync::Arc;
use tidegauge_model::{Appendable, Labels, OnReject, stale_marker};
use tidegauge_tsdb::Fsync;
use tidegauge_tsdb::fs::{Fs, MemoryFs};

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
    header.extend_from_slice(&[2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    let mut expect = sealed(header);
    // Timeline 0 "t"; columns 0 and 1 with home 0; shape: both; key row at 100: 1 and 0.5 after 0.
    expect.extend(frame(&[
        1,
        0,
        2,
        b't', //
        2,
        0,
        1,
        1,
        1,
        b'a',
        1,
        b'x', //
        2,
        1,
        1,
        1,
        1,
        b'a',
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
