//! Whole blocks: what was written is read, by every way; what was damaged is refused.

pub(crate) mod recording;

use super::*;
use crate::column::EncodingChoice;
use crate::fs::{Fault, FaultFs, MemoryFs};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tidegauge_model::{Labels, MatchOp, Matcher, STALE_BITS, TimeRange, Timestamp};

const STALE: f64 = f64::from_bits(STALE_BITS);

fn at(ms: i64) -> Timestamp {
    Timestamp::from_millis(ms)
}

fn labels(text: &str) -> Labels {
    Labels::from_pairs(text.split(',').filter_map(|p| p.split_once('='))).unwrap()
}

fn spec(start: i64, end: i64) -> BlockSpec {
    BlockSpec {
        id: BlockId::new(7, 9),
        range: BlockRange::new(at(start), at(end)),
        encoding: EncodingChoice::Auto,
        level: 0,
        parents: vec![],
    }
}

/// Series by labels, samples by time: what a block is to hold.
type Content = BTreeMap<Labels, BTreeMap<i64, f64>>;

/// The same with values by their bits.
type Samples = Vec<(Labels, Vec<(i64, u64)>)>;

/// Writes content with one timeline per distinct list of times.
fn write(fs: &Arc<dyn Fs>, spec: BlockSpec, content: &Content) -> Result<BlockMeta, Error> {
    let mut writer = BlockWriter::create(fs, Path::new("data"), spec)?;
    for (labels, samples) in content {
        let times: Vec<Timestamp> = samples.keys().map(|t| at(*t)).collect();
        let values: Vec<f64> = samples.values().copied().collect();
        if times.is_empty() {
            continue;
        }
        let timeline = writer.timeline(&times)?;
        // In several runs, which the writer is to join.
        let runs: Vec<SeriesRun<'_>> = (0..)
            .zip(values.chunks(120))
            .map(|(i, values)| SeriesRun {
                timeline,
                first_row: i * 120,
                presence: None,
                values,
            })
            .collect();
        writer.series(labels, &runs)?;
    }
    writer.finish()
}

fn open(fs: &Arc<dyn Fs>) -> Result<Arc<BlockReader>, Error> {
    let dir = Path::new("data").join(BlockId::new(7, 9).to_string());
    BlockReader::open(fs, &dir, &BlockCache::new(1 << 20))
}

/// All that a block holds, read the way compaction does.
fn read(block: &BlockReader) -> Result<Samples, Error> {
    let mut out = vec![];
    let mut entries = block.entries()?;
    for no in 0..block.series_count() {
        let mut entry = entries.seek(SeriesNo::new(no))?;
        let mut samples = vec![];
        for run in entry.runs() {
            let (mut values, mut times) = (vec![], vec![]);
            block.read_values(run, &mut values)?;
            block.span_timestamps(&block.span(run.span)?, &mut times)?;
            assert_eq!(values.len(), times.len());
            assert_eq!(run.has_stale, values.iter().any(|v| v.to_bits() == STALE_BITS));
            samples.extend(times.iter().zip(values).map(|(t, v)| (t.millis(), v.to_bits())));
        }
        out.push((entry.labels()?, samples));
    }
    Ok(out)
}

fn expected(content: &Content) -> Samples {
    let series = content.iter().filter(|(_, samples)| !samples.is_empty());
    series
        .map(|(l, samples)| (l.clone(), samples.iter().map(|(t, v)| (*t, v.to_bits())).collect()))
        .collect()
}

fn memory() -> Arc<dyn Fs> {
    Arc::new(MemoryFs::new())
}

/// A few hundred series of two targets, a few odd ones.
fn sample_content() -> Content {
    let mut content = Content::new();
    for instance in ["a", "b"] {
        for i in 0..150 {
            let name = ["up", "cpu_seconds_total", "memory_bytes"][i % 3];
            let labels = labels(&format!("__name__={name},instance={instance},cpu={i}"));
            let samples = (0..200).map(|t| {
                let value = match i % 3 {
                    0 => 1.0,
                    1 => (t * i) as f64 / 4.0,
                    _ => ((t * 7919 + i * 13) % 1000) as f64,
                };
                (1_000_000 + 5_000 * t as i64, value)
            });
            content.insert(labels, samples.collect());
        }
    }
    content.insert(
        labels("__name__=gone,instance=a"),
        [(1_000_000, 1.0), (1_005_000, STALE)].into(),
    );
    content.insert(labels("lonely=yes"), [(1_002_000, -0.0)].into());
    content
}

#[test]
fn what_is_written_is_read() {
    let fs = memory();
    let content = sample_content();
    let meta = write(&fs, spec(1_000_000, 9_000_000), &content).unwrap();
    assert_eq!((meta.series, meta.samples), (302, 300 * 200 + 3));
    assert_eq!((meta.timelines, meta.spans), (3, 3));
    assert_eq!((meta.first, meta.last), (at(1_000_000), at(1_995_000)));
    let block = open(&fs).unwrap();
    assert_eq!(block.meta(), &meta);
    block.verify().unwrap();
    assert_eq!(read(&block).unwrap(), expected(&content));
    let last = SeriesNo::new(301);
    assert_eq!(block.labels(last).unwrap(), labels("lonely=yes"));
    assert_eq!(block.runs(last).unwrap().len(), 1);
    assert!(block.labels(SeriesNo::new(302)).is_err());
    assert_eq!(list_blocks(&*fs, Path::new("data")).unwrap(), [meta.id]);
    assert!(meta.range.overlaps(&TimeRange::new(at(0), at(1_000_000))));
    assert!(!meta.range.overlaps(&TimeRange::new(at(9_000_000), at(9_000_001))));
}

#[test]
fn an_empty_block_can_be_read() {
    let fs = memory();
    let meta = write(&fs, spec(5, 10), &Content::new()).unwrap();
    assert_eq!((meta.series, meta.first, meta.last), (0, at(5), at(5)));
    let block = open(&fs).unwrap();
    block.verify().unwrap();
    assert_eq!(block.select(&[]).unwrap(), []);
    assert!(block.label_names(&[], 0).unwrap().items.is_empty());
}

#[test]
fn runs_are_joined_and_broken_at_the_same_rows() {
    let fs = memory();
    let mut writer = BlockWriter::create(&fs, Path::new("data"), spec(0, 1_000_000)).unwrap();
    let times: Vec<Timestamp> = (0..3000).map(|t| at(t * 10)).collect();
    let values: Vec<f64> = (0..3000).map(f64::from).collect();
    let timeline = writer.timeline(&times).unwrap();
    assert_eq!(writer.timeline(&times).unwrap(), timeline);
    let run = |first_row: usize, len: usize, presence| SeriesRun {
        timeline,
        first_row: first_row as u32,
        presence,
        values: &values[first_row..first_row + len],
    };
    // Whole in one run; whole in many; from row 100 on with a gap in a bitmap and one between runs.
    writer.series(&labels("a=1"), &[run(0, 3000, None)]).unwrap();
    let many: Vec<_> = (0..25).map(|i| run(i * 120, 120, None)).collect();
    writer.series(&labels("a=2"), &many).unwrap();
    let bitmap = [u64::MAX << 1, 0b1011];
    let first = SeriesRun {
        timeline,
        first_row: 99,
        presence: Some(&bitmap),
        values: &values[..66],
    };
    writer.series(&labels("a=3"), &[first, run(500, 10, None)]).unwrap();
    writer.series(&labels("a=4"), &[]).unwrap();
    let meta = writer.finish().unwrap();
    assert_eq!((meta.series, meta.chunks, meta.spans, meta.timelines), (3, 5, 3, 1));
    let block = open(&fs).unwrap();
    assert_eq!(
        block
            .runs(SeriesNo::new(0))
            .unwrap()
            .iter()
            .map(|r| r.span)
            .collect::<Vec<_>>(),
        block
            .runs(SeriesNo::new(1))
            .unwrap()
            .iter()
            .map(|r| r.span)
            .collect::<Vec<_>>()
    );
    let span = block.span(block.runs(SeriesNo::new(2)).unwrap()[0].span).unwrap();
    assert_eq!(
        (span.first_row, span.rows, span.count, span.is_dense()),
        (100, 410, 76, false)
    );
    let (mut rows, mut times) = (vec![], vec![]);
    block.rows(&span, |r| rows.push(r)).unwrap();
    assert_eq!(rows, [100..165, 166..167, 500..510]);
    block.span_timestamps(&span, &mut times).unwrap();
    assert_eq!((times[0], times[65], times[75]), (at(1000), at(1660), at(5090)));
    assert_eq!(read(&block).unwrap()[1].1.len(), 3000);
}

#[test]
fn what_breaks_the_rules_is_refused_and_leaves_nothing() {
    let fs = memory();
    let values = [1.0, 2.0];
    let check = |add: &dyn Fn(&mut BlockWriter) -> Result<(), Error>| {
        let mut writer = BlockWriter::create(&fs, Path::new("data"), spec(0, 100)).unwrap();
        let error = add(&mut writer).unwrap_err();
        assert!(matches!(error, Error::Invalid { .. }), "{error}");
        drop(writer);
        assert!(fs.read_dir(Path::new("data")).unwrap().is_empty());
    };
    let run = |timeline, first_row| SeriesRun {
        timeline,
        first_row,
        presence: None,
        values: &values,
    };
    check(&|w| w.timeline(&[]).map(|_| ()));
    check(&|w| w.timeline(&[at(1), at(1)]).map(|_| ()));
    check(&|w| w.series(&labels("a=1"), &[run(0, 0)]));
    check(&|w| {
        let t = w.timeline(&[at(1), at(2), at(3), at(100)])?;
        w.series(&labels("a=1"), &[run(t, 0)])?;
        w.series(&labels("a=1"), &[run(t, 0)])
    });
    for (first, second) in [(0, 1), (1, 0), (3, 3), (2, 0)] {
        check(&|w| {
            let t = w.timeline(&[at(1), at(2), at(3), at(100)])?;
            w.series(&labels("a=1"), &[run(t, first), run(t, second)])
        });
    }
    check(&|w| {
        let (t, u) = (w.timeline(&[at(1), at(5)])?, w.timeline(&[at(5), at(6)])?);
        w.series(&labels("a=1"), &[run(t, 0), run(u, 0)])
    });
}

fn matcher(op: MatchOp, name: &str, value: &str) -> Matcher {
    Matcher::new(op, name, value).unwrap()
}

fn check_select(block: &BlockReader, all: &[Labels], matchers: &[Matcher]) {
    let met = |l: &&Labels| matchers.iter().all(|m| m.matches(l.value(m.name())));
    let expected: Vec<Labels> = all.iter().filter(met).cloned().collect();
    let found = block.series(matchers, 0).unwrap();
    assert_eq!(found.items, expected, "{matchers:?}");
    let names: BTreeSet<&str> = expected.iter().flat_map(|l| l.iter().map(|p| p.0)).collect();
    assert!(block.label_names(matchers, 0).unwrap().items.iter().eq(names.iter()));
    for name in ["__name__", "a", "none"] {
        let values: BTreeSet<&str> = expected.iter().filter_map(|l| l.get(name)).collect();
        assert!(
            block
                .label_values(name, matchers, 0)
                .unwrap()
                .items
                .iter()
                .eq(values.iter())
        );
    }
}

fn one_sample(all: &[Labels]) -> Content {
    all.iter().map(|l| (l.clone(), [(1, 1.0)].into())).collect()
}

#[test]
fn matchers_select_as_they_match() {
    let content = sample_content();
    let all: Vec<Labels> = content.keys().cloned().collect();
    let fs = memory();
    write(&fs, spec(0, 9_000_000), &content).unwrap();
    let block = open(&fs).unwrap();
    use MatchOp::{Equal, NotEqual, NotRegex, Regex};
    for matchers in [
        vec![],
        vec![(Equal, "__name__", "up")],
        vec![(Equal, "__name__", "up"), (Equal, "instance", "b"), (Equal, "cpu", "3")],
        vec![(Equal, "__name__", "none")],
        vec![(Equal, "none", "")],
        vec![(NotEqual, "none", "")],
        vec![(NotEqual, "cpu", "")],
        vec![(Equal, "cpu", ""), (NotEqual, "instance", "a")],
        vec![(Regex, "cpu", "1.*"), (NotRegex, "instance", "a|c")],
        vec![(Regex, "cpu", "1|2|3|4|5|99|none")],
        vec![(Regex, "cpu", "(1|2)?")],
        vec![(NotRegex, "cpu", "1.*")],
        vec![(NotRegex, "cpu", "|1.+")],
        vec![(NotRegex, "cpu", ".*")],
        vec![(NotRegex, "cpu", ".+")],
        vec![(Regex, "cpu", ".*"), (Regex, "__name__", "(cpu|memory)_.+")],
        vec![(Regex, "__name__", ".+"), (NotRegex, "cpu", "[0-7].*")],
        vec![(Regex, "instance", "|a")],
    ] {
        let matchers: Vec<Matcher> = matchers.into_iter().map(|(op, n, v)| matcher(op, n, v)).collect();
        check_select(&block, &all, &matchers);
    }
    let limited = block.series(&[], 3).unwrap();
    assert_eq!((limited.items.len(), limited.truncated), (3, true));
    let limited = block.label_values("instance", &[], 2).unwrap();
    assert_eq!(
        (limited.items, limited.truncated),
        (vec!["a".into(), "b".into()], false)
    );
    assert!(block.label_values("cpu", &[], 2).unwrap().truncated);
    assert!(block.label_names(&[], 1).unwrap().truncated);
}

fn any_matcher() -> impl Strategy<Value = Matcher> {
    use MatchOp::{Equal, NotEqual, NotRegex, Regex};
    let literal = (prop::sample::select(vec![Equal, NotEqual]), "[a-c]{0,2}");
    let patterns = vec![
        "a|b",
        "a.*",
        "",
        ".*",
        ".+",
        "|b",
        "a?",
        "[ab]+",
        "c|",
        "(a|b)c",
        "x",
        ".b",
        "a|b|c|aa|bb|cc",
    ];
    let regex = (
        prop::sample::select(vec![Regex, NotRegex]),
        prop::sample::select(patterns).prop_map(str::to_owned),
    );
    (
        prop_oneof![literal, regex],
        prop::sample::select(vec!["a", "b", "c", "d"]),
    )
        .prop_map(|((op, v), n)| matcher(op, n, &v))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn selection_is_set_algebra(
        sets in prop::collection::btree_set(prop::collection::btree_map("[a-c]", "[a-c]{1,2}", 1..4), 1..60),
        matchers in prop::collection::vec(any_matcher(), 0..4),
    ) {
        let all: BTreeSet<Labels> = sets.into_iter().map(|s| Labels::from_pairs(s).unwrap()).collect();
        let all: Vec<Labels> = all.into_iter().collect();
        let fs = memory();
        write(&fs, spec(0, 10), &one_sample(&all)).unwrap();
        check_select(&open(&fs).unwrap(), &all, &matchers);
    }

    #[test]
    fn content_round_trips_by_bits(
        series in prop::collection::btree_map("[a-e]{1,3}", prop::collection::btree_map(0i64..5_000, any::<u64>().prop_map(f64::from_bits), 0..300), 0..20),
    ) {
        let content: Content = series.into_iter().map(|(v, s)| (labels(&format!("x={v}")), s)).collect();
        let fs = memory();
        write(&fs, spec(0, 5_000), &content).unwrap();
        let block = open(&fs).unwrap();
        block.verify().unwrap();
        prop_assert_eq!(read(&block).unwrap(), expected(&content));
    }
}

fn small_content() -> Content {
    let series = (0..12).map(|i| {
        let samples = (0..40).map(|t| (t, if i % 2 == 0 { 1.0 } else { (t * i % 7) as f64 / 8.0 }));
        (labels(&format!("__name__=m{},i={i}", i % 3)), samples.collect())
    });
    series.collect()
}

#[test]
fn a_flipped_bit_anywhere_is_noticed_or_harmless() {
    let disk = MemoryFs::new();
    let fs: Arc<dyn Fs> = Arc::new(disk.clone());
    let content = small_content();
    let meta = write(&fs, spec(0, 100), &content).unwrap();
    let path = Path::new("data").join(meta.id.to_string()).join(BLOCK_FILE);
    let good = disk.read(&path).unwrap();
    let whole = expected(&content);
    for byte in 0..good.len() {
        for bit in 0..8 {
            let mut bad = good.clone();
            bad[byte] ^= 1 << bit;
            disk.plant(&path, &bad).unwrap();
            match open(&fs).and_then(|block| read(&block)) {
                Ok(read) => assert_eq!(read, whole, "byte {byte} bit {bit}"),
                Err(Error::Corrupt { path: p, .. } | Error::NewerVersion { path: p, .. }) => assert_eq!(p, path),
                Err(other) => panic!("byte {byte} bit {bit}: {other}"),
            }
        }
    }
}

#[test]
fn a_truncated_file_is_refused() {
    let disk = MemoryFs::new();
    let fs: Arc<dyn Fs> = Arc::new(disk.clone());
    let meta = write(&fs, spec(0, 100), &small_content()).unwrap();
    let path = Path::new("data").join(meta.id.to_string()).join(BLOCK_FILE);
    let good = disk.read(&path).unwrap();
    for len in 0..good.len() {
        disk.plant(&path, &good[..len]).unwrap();
        assert!(matches!(open(&fs), Err(Error::Corrupt { .. })), "{len} bytes");
    }
}

#[test]
fn a_crash_or_a_fault_at_any_change_leaves_all_or_nothing() {
    let content = small_content();
    let run = |fault: Option<(u64, Fault)>| {
        let fs = FaultFs::new(MemoryFs::new());
        fs.disk().create_dir_all(Path::new("data")).unwrap();
        fs.disk().sync_all();
        if let Some((change, fault)) = fault {
            fs.fail_at(change, fault);
        }
        let shared: Arc<dyn Fs> = Arc::new(fs.clone());
        let written = write(&shared, spec(0, 100), &content);
        (fs, shared, written)
    };
    let (fs, shared, written) = run(None);
    written.unwrap();
    fs.disk().crash();
    assert_eq!(read(&open(&shared).unwrap()).unwrap(), expected(&content));
    for change in 0..fs.changes() {
        for fault in [Fault::Error, Fault::ShortWrite, Fault::Halt] {
            let (fs, shared, written) = run(Some((change, fault)));
            assert!(written.is_err(), "change {change}");
            fs.revive();
            fs.disk().crash();
            remove_unfinished(&*shared, Path::new("data")).unwrap();
            for id in list_blocks(&*shared, Path::new("data")).unwrap() {
                assert_eq!(id, BlockId::new(7, 9));
                assert_eq!(read(&open(&shared).unwrap()).unwrap(), expected(&content));
            }
            let rest = fs.disk().read_dir(Path::new("data")).unwrap();
            assert!(rest.len() <= 1, "{rest:?}");
        }
    }
}

#[test]
fn blocks_are_linked_and_removed_as_a_whole() {
    let fs = memory();
    let content = small_content();
    let meta = write(&fs, spec(0, 100), &content).unwrap();
    let home = Path::new("snapshots/x");
    fs.create_dir_all(home).unwrap();
    link_block(&*fs, Path::new("data"), meta.id, home).unwrap();
    let block = open(&fs).unwrap();
    remove_block(&*fs, Path::new("data"), meta.id).unwrap();
    assert!(list_blocks(&*fs, Path::new("data")).unwrap().is_empty());
    assert_eq!(read(&block).unwrap(), expected(&content), "an open block reads on");
    let linked = BlockReader::open(&fs, &home.join(meta.id.to_string()), &BlockCache::new(0)).unwrap();
    assert_eq!(read(&linked).unwrap(), expected(&content));
}

#[test]
fn the_document_draws_what_is_written() {
    let document = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/formats/block.md"));
    let (_, drawing) = document.split_once("```hex\n").unwrap();
    let lines = drawing
        .lines()
        .take_while(|l| *l != "```")
        .filter(|l| !l.starts_with(';'));
    let mut drawn: Vec<u8> = vec![];
    for line in lines {
        let Some((offset, rest)) = line.trim_start().split_once("  ") else {
            continue;
        };
        let Ok(offset) = offset.parse::<usize>() else { continue };
        assert_eq!(offset, drawn.len(), "{line}");
        let bytes = rest.split("  ").next().unwrap().split(' ');
        drawn.extend(bytes.map(|b| u8::from_str_radix(b, 16).unwrap()));
    }
    let (disk, meta) = drawn_block();
    let path = Path::new("data").join(meta.id.to_string()).join(BLOCK_FILE);
    assert_eq!(disk.read(&path).unwrap(), drawn);
}

/// The block that `docs/formats/block.md` draws byte by byte.
fn drawn_block() -> (MemoryFs, BlockMeta) {
    let disk = MemoryFs::new();
    let fs: Arc<dyn Fs> = Arc::new(disk.clone());
    let mut writer = BlockWriter::create(&fs, Path::new("data"), spec(0, 100)).unwrap();
    let timeline = writer.timeline(&[at(10), at(20), at(31), at(40)]).unwrap();
    let run = |first_row, presence, values| SeriesRun {
        timeline,
        first_row,
        presence,
        values,
    };
    writer
        .series(&labels("__name__=up,a=x"), &[run(0, None, &[1.0; 4])])
        .unwrap();
    let gap = run(0, Some(&[0b1011]), &[0.5, 1.5, STALE]);
    writer.series(&labels("__name__=up,a=xy"), &[gap]).unwrap();
    let meta = writer.finish().unwrap();
    (disk, meta)
}

/// Sets every checksum right, so that damage gets past them: what a wrong writer could have left.
fn mend(file: &mut [u8]) {
    let footer = file.len() - 24;
    let toc = u64::from_le_bytes(*file[footer..].first_chunk().unwrap()) as usize;
    for at in (toc..footer).step_by(24) {
        let words: Vec<u64> = file[at..at + 24]
            .as_chunks()
            .0
            .iter()
            .map(|w| u64::from_le_bytes(*w))
            .collect();
        let (offset, length) = (words[1] as usize, words[2] as usize);
        if file[at] == 1 {
            for entry in (offset..offset + length).step_by(24) {
                let fields: Vec<u32> = file[entry..entry + 24]
                    .as_chunks()
                    .0
                    .iter()
                    .map(|w| u32::from_le_bytes(*w))
                    .collect();
                let start = 16 + fields[0] as usize;
                if let Some(stored) = file.get(start..start.saturating_add(fields[2] as usize)) {
                    let crc = crate::codec::crc32(stored);
                    file[entry + 20..entry + 24].copy_from_slice(&crc.to_le_bytes());
                }
            }
        }
        if file[at] > 0 {
            let crc = crate::codec::crc32(&file[offset..offset + length]);
            file[at + 4..at + 8].copy_from_slice(&crc.to_le_bytes());
        }
    }
    let crc = crate::codec::crc32(&[&file[..16], &file[toc..footer], &file[footer..footer + 12]].concat());
    file[footer + 12..footer + 16].copy_from_slice(&crc.to_le_bytes());
}

#[test]
fn damage_behind_right_checksums_never_panics() {
    let disk = MemoryFs::new();
    let fs: Arc<dyn Fs> = Arc::new(disk.clone());
    let meta = write(&fs, spec(0, 100), &small_content()).unwrap();
    let path = Path::new("data").join(meta.id.to_string()).join(BLOCK_FILE);
    let good = disk.read(&path).unwrap();
    let toc = u64::from_le_bytes(*good[good.len() - 24..].first_chunk().unwrap()) as usize;
    let mut refused = 0;
    for byte in 16..toc {
        for damage in [1, 0x80, 0xff, good[byte] ^ 0x40, good[byte].wrapping_neg()] {
            let mut bad = good.clone();
            bad[byte] ^= damage;
            mend(&mut bad);
            disk.plant(&path, &bad).unwrap();
            let Ok(block) = open(&fs) else {
                refused += 1;
                continue;
            };
            refused += usize::from(block.verify().is_err());
            for m in [
                matcher(MatchOp::Regex, "i", "1.*"),
                matcher(MatchOp::NotEqual, "__name__", "m1"),
            ] {
                let _ = block.series(std::slice::from_ref(&m), 0);
                let _ = block.label_names(std::slice::from_ref(&m), 0);
                let _ = block.label_values("i", &[m], 0);
            }
        }
    }
    assert!(refused > 0);
}
