//! The recorded node_exporter: bytes per sample and speed of a real block.

use super::*;
use crate::column::{self, Encoder};
use std::hint::black_box;
use std::path::PathBuf;
use std::time::Instant;

pub(crate) struct Recording {
    timelines: BTreeMap<String, Vec<Timestamp>>,
    pub(crate) series: BTreeMap<Labels, (String, String, Vec<f64>)>,
}

pub(crate) fn recording() -> Recording {
    let shared = std::env::var("TIDEGAUGE_SHARED").expect("TIDEGAUGE_SHARED names no folder");
    let packed = std::fs::read(PathBuf::from(shared).join("data/selfscrape.txt.zst")).unwrap();
    let text = String::from_utf8(zstd::stream::decode_all(&packed[..]).unwrap()).unwrap();
    let mut recording = Recording {
        timelines: BTreeMap::new(),
        series: BTreeMap::new(),
    };
    for line in text.lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        match fields[..] {
            ["T", id, list] => {
                let mut now = 0;
                let times = list.split(' ').map(|step| {
                    now += step.parse::<i64>().unwrap();
                    at(now)
                });
                recording.timelines.insert(id.to_owned(), times.collect());
            }
            ["S", kind, series, id, values] => {
                let values = values.split(' ').flat_map(|v| {
                    let (value, times) = v.split_once('*').unwrap_or((v, "1"));
                    std::iter::repeat_n(value.parse::<f64>().unwrap(), times.parse().unwrap())
                });
                let entry = (kind.to_owned(), id.to_owned(), values.collect());
                recording.series.insert(parse_series(series), entry);
            }
            _ => assert!(line.starts_with('#')),
        }
    }
    recording
}

fn parse_series(text: &str) -> Labels {
    let (name, rest) = text.split_once('{').unwrap_or((text, "}"));
    let mut pairs = vec![("__name__".to_owned(), name.to_owned())];
    let mut rest = rest.strip_suffix('}').unwrap();
    while let Some((label, tail)) = rest.split_once("=\"") {
        let mut value = String::new();
        let mut chars = tail.char_indices();
        let end = loop {
            match chars.next().unwrap() {
                (i, '"') => break i,
                (_, '\\') => match chars.next().unwrap().1 {
                    'n' => value.push('\n'),
                    c => value.push(c),
                },
                (_, c) => value.push(c),
            }
        };
        pairs.push((label.trim_start_matches(',').to_owned(), value));
        rest = &tail[end + 1..];
    }
    Labels::from_pairs(pairs).unwrap()
}

fn build(recording: &Recording, encoding: EncodingChoice) -> (Arc<dyn Fs>, BlockMeta) {
    let fs = memory();
    let spec = BlockSpec {
        encoding,
        ..spec(0, i64::MAX)
    };
    let mut writer = BlockWriter::create(&fs, Path::new("data"), spec).unwrap();
    for (labels, (_, id, values)) in &recording.series {
        let timeline = writer.timeline(&recording.timelines[id]).unwrap();
        let run = SeriesRun {
            timeline,
            first_row: 0,
            presence: None,
            values,
        };
        writer.series(labels, &[run]).unwrap();
    }
    let meta = writer.finish().unwrap();
    (fs, meta)
}

#[test]
#[ignore = "needs TIDEGAUGE_SHARED"]
fn a_recorded_block_is_exact_and_small() {
    let recording = recording();
    for encoding in [EncodingChoice::Auto, EncodingChoice::Gorilla] {
        let started = Instant::now();
        let (fs, meta) = build(&recording, encoding);
        let seconds = started.elapsed().as_secs_f64();
        let per_sample = meta.bytes as f64 / meta.samples as f64;
        println!(
            "{encoding:?}: {} bytes, {per_sample:.4} a sample; written at {:.1} M samples/s",
            meta.bytes,
            meta.samples as f64 / seconds / 1e6
        );
        let block = open(&fs).unwrap();
        println!("{}", block.describe());
        let mut values = vec![];
        for no in 0..block.series_count() {
            let (_, id, expected) = &recording.series[&block.labels(SeriesNo::new(no)).unwrap()];
            values.clear();
            let mut times = vec![];
            for run in block.runs(SeriesNo::new(no)).unwrap() {
                block.read_values(&run, &mut values).unwrap();
                block
                    .span_timestamps(&block.span(run.span).unwrap(), &mut times)
                    .unwrap();
            }
            assert_eq!(times, recording.timelines[id]);
            assert!(
                values
                    .iter()
                    .map(|v| v.to_bits())
                    .eq(expected.iter().map(|v| v.to_bits()))
            );
        }
        if encoding == EncodingChoice::Auto {
            assert!(per_sample < 0.22, "{per_sample}");
        }
        let started = Instant::now();
        for _ in 0..5 {
            let block = open(&fs).unwrap();
            let mut entries = block.entries().unwrap();
            for no in 0..block.series_count() {
                values.clear();
                for run in entries.seek(SeriesNo::new(no)).unwrap().runs() {
                    block.read_values(run, &mut values).unwrap();
                }
                black_box(&values);
            }
        }
        let seconds = started.elapsed().as_secs_f64();
        println!(
            "read cold at {:.0} M samples/s",
            5.0 * meta.samples as f64 / seconds / 1e6
        );
    }
}

#[test]
#[ignore = "needs TIDEGAUGE_SHARED"]
fn codec_speed_on_recorded_runs() {
    let recording = recording();
    let mut kinds: BTreeMap<String, Vec<&[f64]>> = BTreeMap::new();
    for (kind, _, values) in recording.series.values() {
        for run in values.chunks(240) {
            let constant = run.iter().all(|v| v.to_bits() == run[0].to_bits());
            let integers = run.iter().all(|v| v.fract() == 0.0);
            let kind = match (constant, integers) {
                (true, _) => "constant".to_owned(),
                (_, true) => format!("{kind}, integers"),
                _ => format!("{kind}, floats"),
            };
            kinds.entry(kind).or_default().push(run);
            kinds.entry("all".into()).or_default().push(run);
        }
    }
    for encoding in [EncodingChoice::Auto, EncodingChoice::Gorilla] {
        let mut encoder = Encoder::new(encoding);
        for (kind, runs) in &kinds {
            let samples: usize = runs.iter().map(|r| r.len()).sum();
            let rounds = 2_000_000 / samples + 1;
            let (mut bytes, mut ends) = (vec![], vec![]);
            let started = Instant::now();
            for _ in 0..rounds {
                bytes.clear();
                ends.clear();
                for run in runs {
                    encoder.encode(run, &mut bytes);
                    ends.push(bytes.len());
                }
            }
            let encode = (rounds * samples) as f64 / started.elapsed().as_secs_f64() / 1e6;
            let mut out = vec![];
            let started = Instant::now();
            for _ in 0..rounds * 3 {
                let mut start = 0;
                for (run, end) in runs.iter().zip(&ends) {
                    out.clear();
                    column::decode(&bytes[start..*end], run.len(), &mut out).unwrap();
                    start = *end;
                    black_box(&out);
                }
            }
            let decode = (3 * rounds * samples) as f64 / started.elapsed().as_secs_f64() / 1e6;
            println!(
                "{encoding:?} {kind:26} {samples:8} samples, {:.3} bytes each, M/s: encode {encode:5.0}, decode {decode:6.0}",
                bytes.len() as f64 / samples as f64
            );
        }
    }
}

/// The recorded series as many instances would have them, 240 rows each.
fn fleet(recording: &Recording, instances: usize) -> (Arc<dyn Fs>, BlockMeta, f64) {
    let fs = memory();
    let mut all = BTreeMap::new();
    for (labels, (_, _, values)) in &recording.series {
        for instance in 0..instances {
            let mut builder = tidegauge_model::LabelsBuilder::from_labels(labels);
            builder.set("instance", &format!("10.0.{}.{}:9100", instance / 256, instance % 256));
            let skip = instance % 7;
            all.insert(
                builder.build(),
                (
                    instance,
                    &values[skip.min(values.len() - 1)..values.len().min(skip + 240)],
                ),
            );
        }
    }
    let started = Instant::now();
    let mut writer = BlockWriter::create(&fs, Path::new("data"), spec(0, i64::MAX)).unwrap();
    let timelines: Vec<u32> = (0..instances as i64)
        .map(|i| {
            let times: Vec<Timestamp> = (0..240)
                .map(|t| at(1_000_000 + i * 37 + t * 15_000 + (t * 31 + i) % 3))
                .collect();
            writer.timeline(&times).unwrap()
        })
        .collect();
    for (labels, (instance, values)) in &all {
        let run = SeriesRun {
            timeline: timelines[*instance],
            first_row: 0,
            presence: None,
            values,
        };
        writer.series(labels, &[run]).unwrap();
    }
    let meta = writer.finish().unwrap();
    (fs, meta, started.elapsed().as_secs_f64())
}

#[test]
#[ignore = "needs TIDEGAUGE_SHARED"]
fn a_fleet_is_selected_and_read_fast() {
    let recording = recording();
    let (fs, meta, seconds) = fleet(&recording, 50);
    println!(
        "{} series, {} samples, {:.4} bytes a sample; written at {:.1} M samples/s",
        meta.series,
        meta.samples,
        meta.bytes as f64 / meta.samples as f64,
        meta.samples as f64 / seconds / 1e6
    );
    let started = Instant::now();
    let block = open(&fs).unwrap();
    println!("opened in {:?}\n{}", started.elapsed(), block.describe());
    use MatchOp::{Equal, NotEqual, Regex};
    let name = (Equal, "__name__", "node_slabinfo_objects");
    for matchers in [
        vec![(Equal, "__name__", "node_load1"), (Equal, "instance", "10.0.0.7:9100")],
        vec![(Equal, "__name__", "node_load1")],
        vec![(Equal, "__name__", "node_cpu_seconds_total"), (Equal, "mode", "idle")],
        vec![
            (Equal, "__name__", "node_cpu_seconds_total"),
            (NotEqual, "mode", "idle"),
        ],
        vec![name],
        vec![name, (Regex, "instance", "10.0.0.1.*")],
        vec![(Equal, "instance", "10.0.0.7:9100")],
        vec![(Regex, "__name__", "node_(cpu|memory).+")],
    ] {
        let matchers: Vec<Matcher> = matchers.into_iter().map(|(op, n, v)| matcher(op, n, v)).collect();
        let started = Instant::now();
        let found = block.select(&matchers).unwrap();
        let selected = started.elapsed();
        let mut entries = block.entries().unwrap();
        for no in &found {
            black_box(entries.seek(*no).unwrap().labels().unwrap());
        }
        let labelled = started.elapsed();
        let (mut values, mut runs) = (vec![], vec![]);
        let mut entries = block.entries().unwrap();
        for no in &found {
            runs.extend_from_slice(entries.seek(*no).unwrap().runs());
        }
        let cold = Instant::now();
        for run in &runs {
            values.clear();
            block.read_values(run, &mut values).unwrap();
        }
        let cold = cold.elapsed();
        let warm = Instant::now();
        for run in &runs {
            values.clear();
            block.read_values(run, &mut values).unwrap();
        }
        println!(
            "{matchers:?}: {} series; select {selected:?}, with labels {labelled:?}, values cold {cold:?}, warm {:?}",
            found.len(),
            warm.elapsed()
        );
    }
}
