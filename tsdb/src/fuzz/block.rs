//! A block's file, read in every way: by itself, and by a store that serves it.

use super::{index, reseal};
use crate::block::{
    BLOCK_FILE, BlockCache, BlockId, BlockRange, BlockReader, BlockSpec, BlockWriter, SeriesNo, SeriesRun,
};
use crate::column::EncodingChoice;
use crate::fs::{Fs, MemoryFs};
use crate::{Db, Error, Fsync, Options};
use std::path::Path;
use std::sync::Arc;
use tidegauge_model::{
    ColumnBuf, Labels, Queryable, ReadContext, STALE_BITS, SelectError, SelectHints, TimeRange, Timestamp,
};

const FOLDER: &str = "data";

pub(super) fn id() -> BlockId {
    BlockId::new(7, 9)
}

pub(super) fn run(bytes: &[u8]) {
    read(bytes);
    let mut sealed = bytes.to_vec();
    if reseal::block(&mut sealed).is_some() {
        read(&sealed);
    }
}

fn read(bytes: &[u8]) {
    let disk = MemoryFs::new();
    let dir = Path::new(FOLDER).join(id().to_string());
    let planted = disk
        .create_dir_all(&dir)
        .and_then(|()| disk.plant(&dir.join(BLOCK_FILE), bytes));
    assert!(planted.is_ok(), "a disk in memory takes it");
    let fs: Arc<dyn Fs> = Arc::new(disk);
    let cache = BlockCache::new(1 << 20);
    let Ok(block) = BlockReader::open(&fs, &dir, &cache) else {
        return;
    };
    // Whatever is refused, the rest is still asked for.
    let _refused = block.verify();
    let _refused = read_series(&block);
    for matchers in index::matchers() {
        let _refused = block.select(&matchers);
        let _refused = block.label_names(&matchers, 0);
        for name in ["a", "b", "__name__"] {
            let _refused = block.label_values(name, &matchers, 100);
        }
    }
    drop(block);
    let _refused = serve(fs);
}

fn read_series(block: &BlockReader) -> Result<(), Error> {
    let mut entries = block.entries()?;
    let (mut values, mut times) = (Vec::new(), Vec::new());
    for no in 0..block.series_count() {
        let Ok(mut entry) = entries.seek(SeriesNo::new(no)) else {
            continue;
        };
        let _refused = entry.labels();
        for run in entry.runs() {
            values.clear();
            times.clear();
            let span = block.span(run.span)?;
            if block.read_values(run, &mut values).is_ok() && block.span_timestamps(&span, &mut times).is_ok() {
                assert_eq!(values.len(), times.len());
            }
        }
    }
    Ok(())
}

/// Everything a store with this block answers.
fn serve(fs: Arc<dyn Fs>) -> Result<(), SelectError> {
    let options = Options {
        fsync: Fsync::Never,
        maintenance: None,
        ..Options::default()
    };
    let Ok(db) = Db::open_with(fs, Path::new(FOLDER), options, Arc::new(super::Noon)) else {
        return Ok(());
    };
    let cx = ReadContext::unlimited();
    for range in [
        TimeRange::ALL,
        TimeRange::new(Timestamp::from_millis(100), Timestamp::from_millis(2000)),
    ] {
        let querier = db.querier(range)?;
        let set = querier.select(&[], &SelectHints::range(range), &cx)?;
        let mut buf = ColumnBuf::default();
        for group in &set {
            for series in 0..group.len() {
                if let Ok(column) = group.read(series, &mut buf) {
                    assert!(column.timestamps.iter().all(|t| range.contains(*t)));
                }
            }
        }
    }
    Ok(())
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    [
        (EncodingChoice::Auto, 40),
        (EncodingChoice::Gorilla, 3),
        (EncodingChoice::Auto, 600),
    ]
    .into_iter()
    .filter_map(|(encoding, series)| seed(encoding, series).ok())
    .collect()
}

/// A block of regular series, some with gaps and stale markers, on two timelines.
fn seed(encoding: EncodingChoice, series: usize) -> Result<Vec<u8>, Error> {
    let disk = MemoryFs::new();
    let fs: Arc<dyn Fs> = Arc::new(disk.clone());
    let spec = BlockSpec {
        id: id(),
        range: BlockRange::new(Timestamp::from_millis(0), Timestamp::from_millis(100_000)),
        encoding,
        level: 1,
        parents: vec![BlockId::new(1, 1)],
    };
    let mut writer = BlockWriter::create(&fs, Path::new(FOLDER), spec)?;
    let times = |step: i64| (0..60).map(|i| Timestamp::from_millis(i * step)).collect::<Vec<_>>();
    let timelines = [writer.timeline(&times(1000))?, writer.timeline(&times(1500))?];
    let mut sets: Vec<Labels> = (0..series)
        .filter_map(|no| {
            let (name, own) = (["up", "cpu"].get(no % 2)?, format!("value-{no:03}"));
            let pairs = [("__name__", *name), ("a", own.as_str()), ("b", "value-2")];
            Labels::from_pairs(pairs.into_iter().skip(no % 3 / 2)).ok()
        })
        .collect();
    sets.sort();
    let gaps = [0x0fff_ff0f_ffff_f0ffu64];
    let held: usize = gaps.iter().map(|word| word.count_ones() as usize).sum();
    for (no, labels) in (0u32..).zip(&sets) {
        let mut values: Vec<f64> = (0..60).map(|i| f64::from(i * (no % 13)) / 4.0).collect();
        if let Some(last) = values.last_mut().filter(|_| no % 5 == 1) {
            *last = f64::from_bits(STALE_BITS);
        }
        let with_gaps = no % 5 == 2;
        let run = SeriesRun {
            timeline: timelines.get(no as usize % 2).copied().unwrap_or(0),
            first_row: 0,
            presence: with_gaps.then_some(&gaps[..]),
            values: values.get(..if with_gaps { held } else { 60 }).unwrap_or_default(),
        };
        writer.series(labels, &[run])?;
    }
    writer.finish()?;
    disk.read(&Path::new(FOLDER).join(id().to_string()).join(BLOCK_FILE))
}
