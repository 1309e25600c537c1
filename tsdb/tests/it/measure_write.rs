//! Figures of the ways in, printed: run with `--release -- --ignored --nocapture measure_write`. Seeded: the same run everywhere.

use crate::support::{DIR, at, content, metric, open, options};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use tidegauge_model::{Appendable, Labels, OnReject, SeriesRef, TimeRange};
use tidegauge_tsdb::fs::{EntryKind, Fs, MemoryFs};
use tidegauge_tsdb::{Db, Fsync, SnapshotHead};

const START_MS: i64 = 1_700_000_000_000;
const STEP_MS: i64 = 15_000;

/// SplitMix64.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// How the series of a number moves: over half stand still, the rest count, spend seconds, or walk in pages.
fn step(series: usize, value: f64, rng: &mut Rng) -> f64 {
    match series % 10 {
        0 => value + rng.below(40) as f64,
        1 => ((value * 1000.0).round() + rng.below(300) as f64) / 1000.0,
        2 => (value + (rng.below(9) as f64 - 4.0) * 4096.0).max(0.0),
        3 if rng.below(4) == 0 => value + rng.below(1000) as f64,
        _ => value,
    }
}

fn series(kind: &str, owner: usize, number: usize) -> Labels {
    Labels::from_pairs([
        ("__name__", format!("{kind}_metric_{}_total", number % 60)),
        ("id", format!("/kubepods/pod{owner:08x}/{:064x}", owner * 977)),
        ("name", format!("app-{owner}")),
        ("device", format!("dev{}", number / 60)),
    ])
    .unwrap()
}

fn store() -> (Arc<dyn Fs>, Arc<Db>) {
    let fs: Arc<dyn Fs> = Arc::new(MemoryFs::new());
    let db = open(&fs, options(Fsync::Never)).unwrap();
    (fs, db)
}

fn snapshot_bytes(fs: &dyn Fs, db: &Db) -> u64 {
    let name = db.snapshot(SnapshotHead::Include).unwrap();
    let mut folders = vec![Path::new(DIR).join("snapshots").join(name)];
    let mut bytes = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs.read_dir(&folder).unwrap() {
            let path = folder.join(&entry.name);
            if entry.kind == EntryKind::Dir {
                folders.push(path);
            } else {
                bytes += fs.len(&path).unwrap();
            }
        }
    }
    bytes
}

/// Requests of a remote-write sender: 20 k series every 15 s, 5,000 in each.
#[test]
#[ignore = "figures: run with --release -- --ignored --nocapture"]
fn measure_write_loose() {
    const SERIES: usize = 20_000;
    const TIMES: i64 = 240;
    let (fs, db) = store();
    let mut rng = Rng(1);
    let mut appender = db.appender();
    let refs: Vec<SeriesRef> = (0..SERIES)
        .map(|i| appender.resolve(None, &series("rw", i / 100, i)).unwrap())
        .collect();
    drop(appender);
    let mut values: Vec<f64> = (0..SERIES).map(|_| rng.below(1 << 20) as f64).collect();
    let mut spent = 0.0;
    for time in 0..TIMES {
        for (i, value) in values.iter_mut().enumerate() {
            *value = step(i, *value, &mut rng);
        }
        for request in 0..4 {
            let span = request * SERIES / 4..(request + 1) * SERIES / 4;
            let began = Instant::now();
            let mut appender = db.appender();
            for i in span {
                appender
                    .append_at(refs[i], at(START_MS + time * STEP_MS), values[i])
                    .unwrap();
            }
            appender.commit(OnReject::Fail).unwrap();
            spent += began.elapsed().as_secs_f64();
        }
    }
    let samples = SERIES as f64 * TIMES as f64;
    db.maintain().unwrap();
    println!(
        "loose: {:.1} M samples/s, log {:.3} bytes per sample, head {:.0} bytes per series",
        samples / spent / 1e6,
        metric(&db, "tidegauge_tsdb_wal_written_bytes_total") / samples,
        metric(&db, "tidegauge_tsdb_head_memory_bytes") / SERIES as f64,
    );
    println!(
        "disk: {:.3} bytes per sample",
        snapshot_bytes(&*fs, &db) as f64 / samples
    );
}

/// A container of a node whose exporter stamps its samples.
struct Container {
    refs: Vec<SeriesRef>,
    values: Vec<f64>,
    stamp: i64,
    /// Its housekeeping interval.
    every: i64,
}

/// Bodies like cAdvisor's: 65 stamps in each, which move by intervals of their own, beside 375 samples without.
fn stamped(stamps: bool) {
    const SIZES: [usize; 5] = [118, 47, 38, 83, 40];
    const NODES: usize = 4;
    const SCRAPES: i64 = 480;
    let (fs, db) = store();
    let mut rng = Rng(7);
    let mut count = 0;
    let mut appender = db.appender();
    let mut nodes: Vec<(Vec<SeriesRef>, Vec<f64>, Vec<Container>)> = Vec::new();
    for node in 0..NODES {
        let timeline = appender.timeline(&format!("node-{node}")).unwrap();
        let home = if stamps { None } else { Some(timeline) };
        let plain: Vec<SeriesRef> = (0..375)
            .map(|i| {
                appender
                    .resolve(Some(timeline), &series("plain", 1_000_000 + node, i))
                    .unwrap()
            })
            .collect();
        let containers = (0..65)
            .map(|c| {
                let size = SIZES[c % SIZES.len()];
                Container {
                    refs: (0..size)
                        .map(|i| appender.resolve(home, &series("container", node * 100 + c, i)).unwrap())
                        .collect(),
                    values: (0..size).map(|_| rng.below(1 << 20) as f64).collect(),
                    stamp: START_MS - 20_000 + rng.below(20_000) as i64,
                    every: 10_000 + rng.below(10_000) as i64,
                }
            })
            .collect::<Vec<_>>();
        count += plain.len() + containers.iter().map(|c| c.refs.len()).sum::<usize>();
        nodes.push((plain, vec![1.0; 375], containers));
    }
    drop(appender);
    let (mut samples, mut spent) = (0usize, 0.0);
    for scrape in 0..SCRAPES {
        let now = START_MS + scrape * STEP_MS;
        for (node, (plain, plain_values, containers)) in nodes.iter_mut().enumerate() {
            for (i, value) in plain_values.iter_mut().enumerate() {
                *value = step(i, *value, &mut rng);
            }
            for c in containers.iter_mut() {
                let before = if scrape == 0 { i64::MIN } else { c.stamp };
                while c.stamp + c.every < now {
                    c.stamp += c.every + rng.below(200) as i64;
                }
                // Nothing moves without its stamp.
                if c.stamp != before {
                    for (i, value) in c.values.iter_mut().enumerate() {
                        *value = step(i, *value, &mut rng);
                    }
                    samples += c.refs.len();
                } else if !stamps {
                    samples += c.refs.len();
                }
            }
            samples += plain.len();
            let began = Instant::now();
            let mut appender = db.appender();
            let timeline = appender.timeline(&format!("node-{node}")).unwrap();
            let mut row: Vec<(SeriesRef, f64)> = plain.iter().copied().zip(plain_values.iter().copied()).collect();
            if !stamps {
                for c in containers.iter() {
                    row.extend(c.refs.iter().copied().zip(c.values.iter().copied()));
                }
            }
            appender.append_row(timeline, at(now), &row).unwrap();
            if stamps {
                // A body is in the order of metrics, not of containers.
                for i in 0..118 {
                    for c in containers.iter() {
                        if let (Some(series), Some(value)) = (c.refs.get(i), c.values.get(i)) {
                            appender.append_at(*series, at(c.stamp), *value).unwrap();
                        }
                    }
                }
            }
            let done = appender.commit(OnReject::Skip).unwrap();
            assert!(done.rejected.is_empty());
            spent += began.elapsed().as_secs_f64();
        }
        if scrape == SCRAPES / 2 {
            db.maintain().unwrap();
            println!(
                "  half-way: head {:.0} bytes per series without runs ({:.0} with)",
                (metric(&db, "tidegauge_tsdb_head_memory_bytes") - metric(&db, "tidegauge_tsdb_head_run_bytes"))
                    / count as f64,
                metric(&db, "tidegauge_tsdb_head_memory_bytes") / count as f64,
            );
        }
    }
    db.maintain().unwrap();
    println!(
        "stamps {stamps}: {count} series, {samples} samples, {:.1} M/s, timelines {}",
        samples as f64 / spent / 1e6,
        metric(&db, "tidegauge_tsdb_head_timelines"),
    );
    println!(
        "  head {:.0} bytes per series (runs {:.0}), log {:.3}, disk {:.3} bytes per sample",
        metric(&db, "tidegauge_tsdb_head_memory_bytes") / count as f64,
        metric(&db, "tidegauge_tsdb_head_run_bytes") / count as f64,
        metric(&db, "tidegauge_tsdb_wal_written_bytes_total") / samples as f64,
        snapshot_bytes(&*fs, &db) as f64 / samples as f64,
    );
    let stored: usize = content(&*db, TimeRange::ALL).values().map(Vec::len).sum();
    assert_eq!(stored, samples);
}

#[test]
#[ignore = "figures: run with --release -- --ignored --nocapture"]
fn measure_write_stamped() {
    stamped(false);
    stamped(true);
}

/// Rows of one target of 1,000 series: as they are; with 2 % of the series new in each row; with one missing now and
/// then.
#[test]
#[ignore = "figures: run with --release -- --ignored --nocapture"]
fn measure_write_rows() {
    for (what, replaced, missing) in [("steady", 0, 0), ("2 % new", 20, 0), ("one missing", 0, 1)] {
        let (_, db) = store();
        let mut rng = Rng(3);
        let (mut spent, mut samples, mut made) = (0.0, 0usize, 1000);
        let mut appender = db.appender();
        let timelines: Vec<_> = (0..10).map(|t| appender.timeline(&format!("t{t}")).unwrap()).collect();
        let mut targets: Vec<Vec<(SeriesRef, f64)>> = timelines
            .iter()
            .enumerate()
            .map(|(t, timeline)| {
                (0..1000)
                    .map(|i| {
                        (
                            appender.resolve(Some(*timeline), &series("row", t, i)).unwrap(),
                            i as f64,
                        )
                    })
                    .collect()
            })
            .collect();
        drop(appender);
        let mut row = Vec::new();
        for time in 0..480 {
            for (t, target) in targets.iter_mut().enumerate() {
                let mut appender = db.appender();
                for _ in 0..replaced {
                    let place = rng.below(1000) as usize;
                    made += 1;
                    target[place].0 = appender.resolve(Some(timelines[t]), &series("row", t, made)).unwrap();
                }
                for (i, (_, value)) in target.iter_mut().enumerate() {
                    *value = step(i, *value, &mut rng);
                }
                row.clear();
                row.extend_from_slice(target);
                if missing > 0 && time % 2 == 1 {
                    row.remove(rng.below(1000) as usize);
                }
                let began = Instant::now();
                appender
                    .append_row(timelines[t], at(START_MS + time * STEP_MS), &row)
                    .unwrap();
                appender.commit(OnReject::Fail).unwrap();
                spent += began.elapsed().as_secs_f64();
                samples += row.len();
            }
        }
        println!(
            "rows, {what}: {:.1} M samples/s, log {:.3} bytes per sample",
            samples as f64 / spent / 1e6,
            metric(&db, "tidegauge_tsdb_wal_written_bytes_total") / samples as f64
        );
    }
}

/// To the first value of one series of 100 k, by two matchers.
#[test]
#[ignore = "figures: run with --release -- --ignored --nocapture"]
fn measure_write_then_select() {
    let (_, db) = store();
    let mut rng = Rng(5);
    let mut appender = db.appender();
    let mut targets: Vec<_> = (0..100)
        .map(|t| {
            let timeline = appender.timeline(&format!("t{t}")).unwrap();
            let row: Vec<(SeriesRef, f64)> = (0..1000)
                .map(|i| {
                    (
                        appender.resolve(Some(timeline), &series("sel", t, i)).unwrap(),
                        i as f64,
                    )
                })
                .collect();
            (timeline, row)
        })
        .collect();
    drop(appender);
    let write = |from: i64, to: i64, targets: &mut Vec<(_, Vec<(SeriesRef, f64)>)>, rng: &mut Rng| {
        for time in from..to {
            for (timeline, row) in targets.iter_mut() {
                for (i, (_, value)) in row.iter_mut().enumerate() {
                    *value = step(i, *value, rng);
                }
                let mut appender = db.appender();
                appender
                    .append_row(*timeline, at(START_MS + time * STEP_MS), row)
                    .unwrap();
                appender.commit(OnReject::Fail).unwrap();
            }
        }
    };
    write(0, 200, &mut targets, &mut rng);
    let pick = |what: &str, range: TimeRange| {
        use tidegauge_model::{ColumnBuf, Matcher, Queryable, ReadContext, SelectHints};
        let cx = ReadContext::unlimited();
        let mut buf = ColumnBuf::default();
        let mut best = f64::MAX;
        let mut sum = 0.0;
        for n in 0..400usize {
            let matchers = [
                Matcher::equal("__name__", format!("sel_metric_{}_total", n % 60)),
                Matcher::equal("name", format!("app-{}", n % 100)),
            ];
            let matchers = [&matchers[..], &[Matcher::equal("device", "dev3")]].concat();
            let began = Instant::now();
            let view = db.querier(range).unwrap();
            let set = view.select(&matchers, &SelectHints::range(range), &cx).unwrap();
            let found = set
                .iter()
                .map(|g| g.read(0, &mut buf).unwrap().timestamps.len())
                .sum::<usize>();
            let took = began.elapsed().as_secs_f64() * 1e6;
            assert!(found > 0, "{what} {n}");
            if n >= 20 {
                best = best.min(took);
                sum += took;
            }
        }
        println!("select, {what}: {:.1} us, least {best:.1}", sum / 380.0);
        let view = db.querier(range).unwrap();
        let matchers = [Matcher::equal("name", "app-7")];
        let began = Instant::now();
        for _ in 0..50 {
            assert_eq!(view.label_values("device", &matchers, 0, &cx).unwrap().items.len(), 17);
        }
        let values = began.elapsed() / 50;
        let began = Instant::now();
        for _ in 0..50 {
            assert_eq!(view.label_names(&matchers, 0, &cx).unwrap().items.len(), 4);
        }
        let names = began.elapsed() / 50;
        let began = Instant::now();
        for _ in 0..10 {
            assert_eq!(view.series(&matchers, 0, &cx).unwrap().items.len(), 1000);
        }
        println!(
            "labels, {what}: values {values:?}, names {names:?}, series {:?}",
            began.elapsed() / 10
        );
    };
    pick(
        "open and runs",
        TimeRange::new(at(START_MS), at(START_MS + 200 * STEP_MS)),
    );
    pick(
        "open",
        TimeRange::new(at(START_MS + 190 * STEP_MS), at(START_MS + 200 * STEP_MS)),
    );
    write(200, 1300, &mut targets, &mut rng);
    db.maintain().unwrap();
    pick("a block", TimeRange::new(at(START_MS), at(START_MS + 200 * STEP_MS)));
}
