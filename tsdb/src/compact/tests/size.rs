//! What a merge does to the size of what it merges.

use super::*;
use crate::block::recorded::recording;

/// Series on timelines, cut in windows of so many rows.
struct Fleet {
    timelines: Vec<Vec<Timestamp>>,
    series: BTreeMap<Labels, (usize, Vec<f64>)>,
}

const INTERVAL_MS: i64 = 15_000;

fn times(target: usize, rows: usize) -> Vec<Timestamp> {
    let jitter = |row: i64| (row * 31 + target as i64) % 3;
    (0..rows as i64)
        .map(|row| at(1_000_000 + target as i64 * 37 + row * INTERVAL_MS + jitter(row)))
        .collect()
}

/// A block of each window, and all of them as one; gives the bytes of both.
fn merge_windows(fleet: &Fleet, window: usize) -> (u64, u64, Arc<BlockReader>) {
    let fs: Arc<dyn Fs> = Arc::new(MemoryFs::new());
    let rows = fleet.timelines[0].len();
    let mut inputs = Vec::new();
    for (no, from) in (1u128..).zip((0..rows).step_by(window)) {
        let range = BlockRange::new(at(i64::MIN / 4), at(i64::MAX / 4));
        let spec = BlockSpec { range, ..spec(no, 0) };
        let mut writer = BlockWriter::create(&fs, Path::new("d"), spec).unwrap();
        let to = (from + window).min(rows);
        let timelines: Vec<u32> = fleet
            .timelines
            .iter()
            .map(|t| writer.timeline(&t[from..to]).unwrap())
            .collect();
        for (labels, (target, values)) in &fleet.series {
            let run = SeriesRun {
                timeline: timelines[*target],
                first_row: 0,
                presence: None,
                values: &values[from..to],
            };
            writer.series(labels, &[run]).unwrap();
        }
        writer.finish().unwrap();
        inputs.push(open(&fs, no));
    }
    let mut writer = BlockWriter::create(
        &fs,
        Path::new("d"),
        BlockSpec {
            range: BlockRange::new(at(i64::MIN / 4), at(i64::MAX / 4)),
            ..spec(999, 1)
        },
    )
    .unwrap();
    assert_eq!(merge::merge(&inputs, &mut writer, &|| false).unwrap(), Ok(()));
    writer.finish().unwrap();
    let merged = open(&fs, 999);
    let samples = |b: &BlockReader| b.meta().samples;
    assert_eq!(samples(&merged), inputs.iter().map(|i| samples(i)).sum::<u64>());
    let before = inputs.iter().map(|i| i.meta().bytes).sum();
    (before, merged.meta().bytes, merged)
}

struct Rng(u64);

impl Rng {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

type Step = fn(&mut Rng, f64) -> f64;

/// Families that move as those of containers and nodes do.
const FAMILIES: [(&str, Step); 7] = [
    ("memory_bytes", |r, v| (v + (r.below(9) as f64 - 4.0) * 4096.0).max(0.0)),
    ("cpu_seconds_total", |r, v| {
        ((v * 100.0).round() + r.below(300) as f64) / 100.0
    }),
    ("requests_total", |r, v| v + r.below(41) as f64),
    ("errors_total", |r, v| v + f64::from(r.below(50) == 0)),
    ("status", |_, v| v),
    ("up", |r, v| if r.below(400) == 0 { 1.0 - v } else { v }),
    ("ratio", |r, _| r.below(1 << 31) as f64 / (1u64 << 31) as f64),
];

/// Series of each family on each target. What moves `alike` does so on all targets, some rows earlier or later.
fn cluster(targets: usize, per_family: usize, rows: usize, alike: bool) -> Fleet {
    let mut rng = Rng(7);
    let mut series = BTreeMap::new();
    for (name, step) in FAMILIES {
        for n in 0..per_family {
            let mut walk = || -> Vec<f64> {
                let mut value = (rng.below(3) * 1000) as f64;
                let mut next = || {
                    value = step(&mut rng, value);
                    value
                };
                (0..rows + 7).map(|_| next()).collect()
            };
            let mut values = walk();
            for target in 0..targets {
                if !alike {
                    values = walk();
                }
                let labels = Labels::from_pairs([
                    ("__name__", name.to_owned()),
                    ("instance", format!("10.0.0.{target}:9100")),
                    ("container", format!("c-{n:03}")),
                ]);
                let from = target % 7;
                series.insert(labels.unwrap(), (target, values[from..from + rows].to_vec()));
            }
        }
    }
    Fleet {
        timelines: (0..targets).map(|t| times(t, rows)).collect(),
        series,
    }
}

fn told(name: &str, (before, after, merged): (u64, u64, Arc<BlockReader>)) -> (u64, u64) {
    let samples = merged.meta().samples as f64;
    println!(
        "{name}: {before} bytes in ({:.4} a sample), {after} out ({:.4}), {:.3}",
        before as f64 / samples,
        after as f64 / samples,
        after as f64 / before as f64
    );
    (before, after)
}

#[test]
fn merged_blocks_take_no_more_than_their_parents() {
    for (targets, per_family) in [(4, 20), (40, 2)] {
        let fleet = cluster(targets, per_family, 3 * 480, true);
        let (before, after) = told("alike", merge_windows(&fleet, 480));
        // Most bytes are noise, of which nothing is won; nor is much lost.
        assert!(after * 100 <= before * 101, "{before} became {after}");
        let fleet = cluster(targets, per_family, 3 * 480, false);
        let (before, after) = told("apart", merge_windows(&fleet, 480));
        assert!(after * 100 <= before * 101, "{before} became {after}");
    }
}

/// The recorded node, and as many instances would have it.
#[test]
#[ignore = "needs TIDEGAUGE_SHARED"]
fn recorded_blocks_shrink_when_they_are_merged() {
    let recording = recording();
    let rows = 3 * 240;
    for instances in [1, 10, 40] {
        let mut series = BTreeMap::new();
        for (labels, (_, _, values)) in recording.series.iter().filter(|(_, (_, _, v))| v.len() >= rows + 7) {
            for instance in 0..instances {
                let mut builder = tidegauge_model::LabelsBuilder::from_labels(labels);
                builder.set("instance", &format!("10.0.{}.{}:9100", instance / 256, instance % 256));
                let skip = instance % 7;
                series.insert(builder.build(), (instance, values[skip..skip + rows].to_vec()));
            }
        }
        let timelines = (0..instances).map(|t| times(t, rows)).collect();
        let fleet = Fleet { timelines, series };
        let (before, after) = told(&format!("{instances} recorded"), merge_windows(&fleet, 240));
        assert!(after <= before, "{before} became {after}");
    }
}
