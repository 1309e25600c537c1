//! Blocks made up, merged, and compared with what their samples come to.

use super::*;
use crate::block::{BlockCache, SeriesNo, SeriesRun};
use crate::column::EncodingChoice;
use crate::fs::{Fs, MemoryFs};
use crate::tombstones::Tombstones;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use tidegauge_model::{Labels, TimeRange, Timestamp};

mod size;

/// Samples by series and time, values by bits.
type Content = BTreeMap<Labels, BTreeMap<i64, u64>>;

/// A target of a block: when it was scraped, and which rows each of its series has.
#[derive(Debug, Clone)]
struct Target {
    times: BTreeSet<i64>,
    series: Vec<(u8, Vec<bool>)>,
}

#[derive(Debug, Clone)]
struct Made {
    level: u8,
    targets: Vec<Target>,
    /// Series by name, and what is deleted of them.
    deleted: Vec<(u8, i64, i64)>,
}

const RANGE: (i64, i64) = (-1000, 100_000);

fn at(ms: i64) -> Timestamp {
    Timestamp::from_millis(ms)
}

fn labels(series: u8) -> Labels {
    Labels::from_pairs([("__name__", format!("m{}", series % 3)), ("n", format!("{series:03}"))]).unwrap()
}

fn spec(no: u128, level: u8) -> BlockSpec {
    BlockSpec {
        id: BlockId::from_bits(no),
        range: BlockRange::new(at(RANGE.0), at(RANGE.1)),
        encoding: EncodingChoice::Auto,
        level,
        parents: vec![],
    }
}

fn value(block: u128, series: u8, time: i64) -> f64 {
    (block * 1_000_000) as f64 + f64::from(series) * 1000.5 + time as f64
}

fn open(fs: &Arc<dyn Fs>, id: u128) -> Arc<BlockReader> {
    let dir = Path::new("d").join(BlockId::from_bits(id).to_string());
    BlockReader::open(fs, &dir, &BlockCache::new(1 << 20)).unwrap()
}

/// Writes a block; a series that several targets have keeps the first one's samples.
fn write(fs: &Arc<dyn Fs>, no: u128, made: &Made) -> (Arc<BlockReader>, Content) {
    let mut writer = BlockWriter::create(fs, Path::new("d"), spec(no, made.level)).unwrap();
    let mut all: BTreeMap<Labels, (u8, usize)> = BTreeMap::new();
    for (t, target) in made.targets.iter().enumerate() {
        for (series, _) in target.series.iter().filter(|_| !target.times.is_empty()) {
            all.entry(labels(*series)).or_insert((*series, t));
        }
    }
    let mut content = Content::new();
    for (labels, (series, t)) in &all {
        let target = &made.targets[*t];
        let times: Vec<i64> = target.times.iter().copied().collect();
        let present = &target.series.iter().find(|s| s.0 == *series).unwrap().1;
        let rows: Vec<usize> = (0..times.len()).filter(|r| present[r % present.len()]).collect();
        let column: Vec<Timestamp> = times.iter().map(|t| at(*t)).collect();
        let timeline = writer.timeline(&column).unwrap();
        let values: Vec<f64> = rows.iter().map(|r| value(no, *series, times[*r])).collect();
        let runs: Vec<SeriesRun<'_>> = rows
            .iter()
            .zip(&values)
            .map(|(row, value)| SeriesRun {
                timeline,
                first_row: *row as u32,
                presence: None,
                values: std::slice::from_ref(value),
            })
            .collect();
        writer.series(labels, &runs).unwrap();
        let samples = rows.iter().zip(&values).map(|(r, v)| (times[*r], v.to_bits()));
        content.insert(labels.clone(), samples.collect());
    }
    writer.finish().unwrap();
    let block = open(fs, no);
    let mut deleted = Tombstones::default();
    for (series, start, end) in &made.deleted {
        let labels = labels(*series);
        let found = (0..block.series_count()).find(|s| block.labels(SeriesNo::new(*s)).unwrap() == labels);
        if let Some(found) = found {
            deleted = deleted.with(&[(found, TimeRange::new(at(*start), at(*end)))]);
            content
                .entry(labels)
                .or_default()
                .retain(|t, _| !(start..=end).contains(&t));
        }
    }
    (block.with_deleted(deleted), content)
}

fn read(block: &BlockReader) -> Content {
    let mut out = Content::new();
    for no in (0..block.series_count()).map(SeriesNo::new) {
        let (mut times, mut values) = (vec![], vec![]);
        for run in block.runs(no).unwrap() {
            block
                .span_timestamps(&block.span(run.span).unwrap(), &mut times)
                .unwrap();
            block.read_values(&run, &mut values).unwrap();
        }
        assert_eq!(times.len(), values.len());
        assert!(times.is_sorted_by(|a, b| a < b), "samples of a series rise");
        let samples = times.iter().zip(&values).map(|(t, v)| (t.millis(), v.to_bits()));
        out.insert(block.labels(no).unwrap(), samples.collect());
    }
    out
}

/// Merges and gives the new block, if there is anything in it.
fn merged(fs: &Arc<dyn Fs>, inputs: &[Arc<BlockReader>]) -> Option<Arc<BlockReader>> {
    let mut writer = BlockWriter::create(fs, Path::new("d"), spec(999, 9)).unwrap();
    assert_eq!(merge::merge(inputs, &mut writer, &|| false).unwrap(), Ok(()));
    if writer.is_empty() {
        return None;
    }
    writer.finish().unwrap();
    let block = open(fs, 999);
    block.verify().unwrap();
    Some(block)
}

fn target() -> impl Strategy<Value = Target> {
    let regular = (0i64..5, 1i64..40, 1i64..90).prop_map(|(start, step, rows)| {
        let start = start * 700;
        (0..rows).map(|r| start + r * step).collect::<BTreeSet<_>>()
    });
    let odd = proptest::collection::btree_set(-50i64..4000, 0..20);
    let series = proptest::collection::vec((0u8..9, proptest::collection::vec(any::<bool>(), 1..5)), 0..6);
    (prop_oneof![3 => regular, 1 => odd], series).prop_map(|(times, series)| Target { times, series })
}

fn made() -> impl Strategy<Value = Made> {
    let targets = proptest::collection::vec(target(), 0..4);
    let deleted = proptest::collection::vec((0u8..9, -100i64..4000, 0i64..900), 0..3);
    (0u8..3, targets, deleted).prop_map(|(level, targets, deleted)| Made {
        level,
        targets,
        deleted: deleted
            .into_iter()
            .map(|(s, from, len)| (s, from, from + len))
            .collect(),
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn a_merge_holds_what_its_inputs_hold(blocks in proptest::collection::vec(made(), 1..5)) {
        let fs: Arc<dyn Fs> = Arc::new(MemoryFs::new());
        let mut inputs: Vec<(Arc<BlockReader>, Content)> = (1u128..).zip(&blocks).map(|(n, made)| write(&fs, n, made)).collect();
        inputs.sort_by_key(|(block, _)| precedence(block.meta()));
        let mut expected = Content::new();
        for (_, content) in &inputs {
            for (labels, samples) in content.iter().filter(|c| !c.1.is_empty()) {
                let all = expected.entry(labels.clone()).or_default();
                for (time, value) in samples {
                    all.entry(*time).or_insert(*value);
                }
            }
        }
        let inputs: Vec<Arc<BlockReader>> = inputs.into_iter().map(|i| i.0).collect();
        let found = merged(&fs, &inputs).map(|block| read(&block)).unwrap_or_default();
        prop_assert_eq!(found, expected);
    }
}

fn scraped(first: i64, rows: i64, series: &[u8]) -> Made {
    Made {
        level: 0,
        targets: vec![Target {
            times: (0..rows).map(|r| (first + r) * 10).collect(),
            series: series.iter().map(|s| (*s, vec![true])).collect(),
        }],
        deleted: vec![],
    }
}

#[test]
fn timelines_that_continue_become_one_cut_by_chunks() {
    let fs: Arc<dyn Fs> = Arc::new(MemoryFs::new());
    let all: Vec<u8> = (0..20).collect();
    let inputs: Vec<Arc<BlockReader>> = (0..5)
        .map(|n| {
            // Every other block has a series of its own: it goes on the same chain.
            let mut series = all.clone();
            series.extend((n % 2 == 0).then_some(100 + n as u8));
            write(&fs, n + 1, &scraped(n as i64 * 1000, 1000, &series)).0
        })
        .collect();
    let block = merged(&fs, &inputs).unwrap();
    let meta = block.meta();
    // 5,000 rows are three pieces of at most 2,048.
    assert_eq!(meta.timelines, 3);
    assert_eq!(
        meta.chunks,
        20 * 3 + 3,
        "each of the odd ones lies on one piece: {meta:?}"
    );
    assert_eq!(meta.samples, 20 * 5000 + 3 * 1000);
}

#[test]
fn only_what_shares_time_leaves_the_chain() {
    let fs: Arc<dyn Fs> = Arc::new(MemoryFs::new());
    let mut inputs: Vec<Arc<BlockReader>> = (0..3)
        .map(|n| write(&fs, n + 1, &scraped(n as i64 * 100, 100, &[1, 2, 3])).0)
        .collect();
    let late = Made {
        level: 0,
        targets: vec![Target {
            times: [1503, 1507].into(),
            series: vec![(2, vec![true])],
        }],
        deleted: vec![],
    };
    inputs.push(write(&fs, 9, &late).0);
    let block = merged(&fs, &inputs).unwrap();
    assert_eq!(block.meta().samples, 3 * 300 + 2);
    let timelines = |series: u8| -> Vec<u32> {
        let no = block
            .select(&[tidegauge_model::Matcher::equal("n", format!("{series:03}"))])
            .unwrap()[0];
        let runs = block.runs(no).unwrap();
        runs.iter().map(|r| block.span(r.span).unwrap().timeline).collect()
    };
    assert_eq!(timelines(1), timelines(3));
    let moved = timelines(2);
    assert_eq!((moved.len(), moved[0], moved[2]), (3, timelines(1)[0], timelines(1)[0]));
}

#[test]
fn a_merge_can_be_stopped_and_leaves_nothing() {
    let fs: Arc<dyn Fs> = Arc::new(MemoryFs::new());
    let inputs = [write(&fs, 1, &scraped(0, 10, &[1, 2, 3])).0];
    for after in 0..6 {
        let left = std::cell::Cell::new(after);
        let stop = || left.replace(left.get() - 1) == 0;
        let mut writer = BlockWriter::create(&fs, Path::new("d"), spec(999, 1)).unwrap();
        assert_eq!(merge::merge(&inputs, &mut writer, &stop).unwrap(), Err(Stopped));
        drop(writer);
        assert_eq!(fs.read_dir(Path::new("d")).unwrap().len(), 1);
    }
}
