//! Figures, printed: run with `--release -- --ignored --nocapture measure`.

use crate::support::{all, at, metric, options};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;
use tidegauge_model::testing::HandClock;
use tidegauge_model::{Appendable, Labels, OnReject, SeriesRef};
use tidegauge_tsdb::{Db, Fsync};

fn shared() -> PathBuf {
    PathBuf::from(std::env::var_os("TIDEGAUGE_SHARED").expect("set TIDEGAUGE_SHARED to the shared folder"))
}

type Scrapes = BTreeMap<i64, Vec<(usize, f64)>>;

/// A recording as scrapes: for each time, the series that have a value.
fn recording() -> (Vec<Labels>, Scrapes) {
    let packed = std::fs::read(shared().join("data/selfscrape.txt.zst")).unwrap();
    let text = String::from_utf8(zstd::decode_all(&packed[..]).unwrap()).unwrap();
    let (mut lists, mut names, mut rows) = (BTreeMap::new(), Vec::new(), BTreeMap::<i64, Vec<(usize, f64)>>::new());
    for line in text.lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        match fields[0] {
            "T" => {
                let mut t = 0;
                let list: Vec<i64> = fields[2]
                    .split(' ')
                    .map(|d| {
                        t += d.parse::<i64>().unwrap();
                        t
                    })
                    .collect();
                lists.insert(fields[1].to_owned(), list);
            }
            "S" => {
                let (name, rest) = fields[2].split_once('{').unwrap();
                let mut pairs = vec![("__name__".to_owned(), name.to_owned())];
                for part in rest.trim_end_matches('}').split("\",") {
                    if let Some((k, v)) = part.split_once("=\"") {
                        pairs.push((k.to_owned(), v.trim_end_matches('"').to_owned()));
                    }
                }
                let series = names.len();
                names.push(Labels::from_pairs(pairs).unwrap());
                let mut times = lists[fields[3]].iter();
                for v in fields[4].split(' ') {
                    let (v, n) = v.split_once('*').unwrap_or((v, "1"));
                    for _ in 0..n.parse::<usize>().unwrap() {
                        rows.entry(*times.next().unwrap())
                            .or_default()
                            .push((series, v.parse().unwrap()));
                    }
                }
            }
            _ => {}
        }
    }
    (names, rows)
}

#[test]
#[ignore = "needs TIDEGAUGE_SHARED"]
fn measure_a_recording() {
    let (names, rows) = recording();
    let samples: usize = rows.values().map(Vec::len).sum();
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(HandClock::at(at(i64::MAX / 4)));
    let db = Db::open(dir.path(), options(Fsync::Never), clock.clone()).unwrap();
    let (mut refs, began) = (vec![None::<SeriesRef>; names.len()], Instant::now());
    for (time, values) in &rows {
        let mut appender = db.appender();
        let timeline = appender.timeline("node").unwrap();
        let row: Vec<_> = values
            .iter()
            .map(|(s, v)| {
                (
                    *refs[*s].get_or_insert_with(|| appender.resolve(Some(timeline), &names[*s]).unwrap()),
                    *v,
                )
            })
            .collect();
        appender.append_row(timeline, at(*time), &row).unwrap();
        appender.commit(OnReject::Fail).unwrap();
    }
    let seconds = began.elapsed().as_secs_f64();
    db.maintain().unwrap();
    println!(
        "{} series, {samples} samples: {:.1} M/s",
        names.len(),
        samples as f64 / seconds / 1e6
    );
    println!(
        "log: {:.3} bytes per sample",
        metric(&db, "tidegauge_tsdb_wal_written_bytes_total") / samples as f64
    );
    println!(
        "head: {:.0} bytes per series, runs {:.3} bytes per sample",
        (metric(&db, "tidegauge_tsdb_head_memory_bytes") - metric(&db, "tidegauge_tsdb_head_run_bytes"))
            / names.len() as f64,
        metric(&db, "tidegauge_tsdb_head_run_bytes") / samples as f64
    );
    drop(db);
    let began = Instant::now();
    let db = Db::open(dir.path(), options(Fsync::Never), clock).unwrap();
    println!("reopen: {:.0} ms", began.elapsed().as_secs_f64() * 1e3);
    let began = Instant::now();
    let found = all(&*db);
    println!("select of all: {:.0} ms", began.elapsed().as_secs_f64() * 1e3);
    assert_eq!(found.values().map(Vec::len).sum::<usize>(), samples);
    let name = db.snapshot(tidegauge_tsdb::SnapshotHead::Include).unwrap();
    let bytes: u64 = walk(&dir.path().join("snapshots").join(name));
    println!("snapshot: {:.3} bytes per sample", bytes as f64 / samples as f64);
}

fn walk(path: &std::path::Path) -> u64 {
    std::fs::read_dir(path)
        .unwrap()
        .map(|e| e.unwrap())
        .map(|e| {
            if e.path().is_dir() {
                walk(&e.path())
            } else {
                e.metadata().unwrap().len()
            }
        })
        .sum()
}

#[test]
#[ignore = "needs TIDEGAUGE_SHARED"]
fn measure_many_series() {
    let (names, rows) = recording();
    let rows: Vec<Vec<(usize, f64)>> = rows.into_values().filter(|r| r.len() > 1700).take(120).collect();
    let targets = 60;
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(HandClock::at(at(i64::MAX / 4)));
    let db = Db::open(dir.path(), options(Fsync::Never), clock.clone()).unwrap();
    let began = Instant::now();
    let mut refs: Vec<Vec<SeriesRef>> = Vec::new();
    let mut appender = db.appender();
    for target in 0..targets {
        let timeline = appender.timeline(&format!("node-{target}")).unwrap();
        let instance = format!("10.0.0.{target}:9100");
        refs.push(
            names
                .iter()
                .map(|l| {
                    let mut b = tidegauge_model::LabelsBuilder::from_labels(l);
                    b.set("instance", &instance);
                    appender.resolve(Some(timeline), &b.build()).unwrap()
                })
                .collect(),
        );
    }
    let count = targets * names.len();
    println!(
        "{count} series made at {:.2} M/s",
        count as f64 / began.elapsed().as_secs_f64() / 1e6
    );
    drop(appender);
    let (mut spent, mut samples, mut steady) = (0.0, 0usize, (0.0, 0usize));
    let mut row = Vec::new();
    for (step, values) in rows.iter().enumerate() {
        for (target, refs) in refs.iter().enumerate() {
            row.clear();
            row.extend(values.iter().map(|(s, v)| (refs[*s], *v)));
            let began = Instant::now();
            let mut appender = db.appender();
            let timeline = appender.timeline(&format!("node-{target}")).unwrap();
            appender
                .append_row(timeline, at(step as i64 * 5000 + target as i64), &row)
                .unwrap();
            appender.commit(OnReject::Fail).unwrap();
            spent += began.elapsed().as_secs_f64();
            samples += row.len();
            if step > 1 {
                steady = (steady.0 + began.elapsed().as_secs_f64(), steady.1 + row.len());
            }
        }
    }
    db.maintain().unwrap();
    println!(
        "append: {:.1} M samples/s, {:.1} after the first rows",
        samples as f64 / spent / 1e6,
        steady.1 as f64 / steady.0 / 1e6
    );
    println!(
        "log: {:.3} bytes per sample",
        metric(&db, "tidegauge_tsdb_wal_written_bytes_total") / samples as f64
    );
    println!(
        "head: {:.0} bytes per series",
        metric(&db, "tidegauge_tsdb_head_memory_bytes") / count as f64
    );
    drop(db);
    let began = Instant::now();
    let db = Db::open(dir.path(), options(Fsync::Never), clock).unwrap();
    println!(
        "reopen: {:.0} ms for {:.1} M samples",
        began.elapsed().as_secs_f64() * 1e3,
        samples as f64 / 1e6
    );
    drop(db);
}

/// Milliseconds this thread has run: on a busy machine it says more than the clock. Linux tells it.
fn own_ms() -> f64 {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = told.split(' ').next().and_then(|n| n.parse::<f64>().ok());
    nanos.unwrap_or(f64::NAN) / 1e6
}

/// A value of a realistic mix: half of the series hardly change, the others count or wander.
fn mixed(series: usize, step: i64) -> f64 {
    match series % 8 {
        0..4 => (series / 8) as f64,
        4 | 5 => (step * (series as i64 % 100 + 1)) as f64,
        6 => ((step * 7919 + series as i64 * 104_729) % 1000) as f64 / 10.0,
        _ => (step / 20 + series as i64) as f64 * 0.25,
    }
}

/// Opening after a kill: 100 k series for two hours at 15 s.
#[test]
#[ignore = "figures: run with --ignored --nocapture"]
fn measure_restart() {
    let (targets, per_target, rows) = (60usize, 1667usize, 480i64);
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(HandClock::at(at(i64::MAX / 4)));
    let db = Db::open(dir.path(), options(Fsync::Never), clock.clone()).unwrap();
    let mut refs: Vec<Vec<SeriesRef>> = Vec::new();
    for target in 0..targets {
        let mut appender = db.appender();
        let timeline = appender.timeline(&format!("node-{target}")).unwrap();
        let instance = format!("10.0.0.{target}:9100");
        let series = |n: usize| {
            let pairs = [
                ("__name__", format!("node_metric_{}_total", n / 12)),
                ("instance", instance.clone()),
                ("job", "node".to_owned()),
                ("cluster", "main".to_owned()),
                ("namespace", format!("team-{}", target % 7)),
                ("pod", format!("node-exporter-{target:05}")),
                ("device", format!("sd{}", n % 12)),
                ("mode", ["idle", "user", "system"][n % 3].to_owned()),
                ("cpu", (n % 4).to_string()),
                ("zone", format!("zone-{}", target % 3)),
            ];
            Labels::from_pairs(pairs).unwrap()
        };
        refs.push(
            (0..per_target)
                .map(|n| appender.resolve(Some(timeline), &series(n)).unwrap())
                .collect(),
        );
    }
    let (mut row, mut held, mut last) = (Vec::new(), 0.0f64, 0.0);
    for step in 0..rows {
        for (target, refs) in refs.iter().enumerate() {
            row.clear();
            row.extend(
                refs.iter()
                    .enumerate()
                    .map(|(n, series)| (*series, mixed(n + target, step))),
            );
            let mut appender = db.appender();
            let timeline = appender.timeline(&format!("node-{target}")).unwrap();
            appender
                .append_row(timeline, at(step * 15_000 + target as i64), &row)
                .unwrap();
            appender.commit(OnReject::Fail).unwrap();
        }
        db.maintain().unwrap();
        let now = metric(&db, "tidegauge_tsdb_checkpoint_hold_seconds");
        held = held.max(now);
        last = now;
    }
    let count = targets * per_target;
    println!(
        "{count} series, {} checkpoints of {:.1} MB, the log held for {:.1} ms at most, {:.1} ms at last",
        metric(&db, "tidegauge_tsdb_checkpoints_written_total"),
        metric(&db, "tidegauge_tsdb_checkpoint_bytes") / 1e6,
        held * 1e3,
        last * 1e3,
    );
    println!(
        "head: {:.0} bytes per series, {:.0} of them runs; {} files of runs with {:.1} MB; log {:.1} MB",
        metric(&db, "tidegauge_tsdb_head_memory_bytes") / count as f64,
        metric(&db, "tidegauge_tsdb_head_run_bytes") / count as f64,
        metric(&db, "tidegauge_tsdb_head_run_files"),
        metric(&db, "tidegauge_tsdb_head_run_file_bytes") / 1e6,
        metric(&db, "tidegauge_tsdb_wal_written_bytes_total") / 1e6,
    );
    drop(db);
    for what in ["with the checkpoint", "again", "without"] {
        if what == "without" {
            std::fs::remove_dir_all(dir.path().join("checkpoint")).unwrap();
        }
        let (began, own) = (Instant::now(), own_ms());
        let db = Db::open(dir.path(), options(Fsync::Never), clock.clone()).unwrap();
        let opened = began.elapsed();
        let found = read_one(&db, "node_metric_7_total", "sd5");
        println!(
            "open {what}: {:.0} ms, first answer after {:.0} ms ({:.0} ms of its own), {} rows replayed",
            opened.as_secs_f64() * 1e3,
            began.elapsed().as_secs_f64() * 1e3,
            own_ms() - own,
            metric(&db, "tidegauge_tsdb_wal_replayed_rows_total")
        );
        assert_eq!(found, targets * rows as usize);
    }
}

/// How many samples the series of a metric and a device have.
fn read_one(db: &Db, name: &str, device: &str) -> usize {
    use tidegauge_model::{Matcher, Queryable, ReadContext, SelectHints, TimeRange};
    let view = db.querier(TimeRange::ALL).unwrap();
    let matchers = [Matcher::equal("__name__", name), Matcher::equal("device", device)];
    let set = view
        .select(
            &matchers,
            &SelectHints::range(TimeRange::ALL),
            &ReadContext::unlimited(),
        )
        .unwrap();
    let mut buf = tidegauge_model::ColumnBuf::default();
    let mut count = 0;
    for group in &set {
        for series in 0..group.len() {
            count += group.read(series, &mut buf).unwrap().timestamps.len();
        }
    }
    count
}

/// Lists of labels over 20 k series; the same answers whether the range covers the head or not.
#[test]
#[ignore = "figures: run with --release -- --ignored --nocapture"]
fn lists_of_labels() {
    let fs: Arc<dyn tidegauge_tsdb::fs::Fs> = Arc::new(tidegauge_tsdb::fs::MemoryFs::new());
    let db = crate::support::open(&fs, options(Fsync::Never)).unwrap();
    let sets: Vec<Labels> = (0..20_000)
        .map(|i| {
            let (name, pod) = (format!("metric_{}", i % 200), format!("pod-{}", i / 200));
            Labels::from_pairs([("__name__", name.as_str()), ("job", "a"), ("pod", pod.as_str())]).unwrap()
        })
        .collect();
    for time in 0..10 {
        let mut appender = db.appender();
        for (n, sets) in sets.chunks(1000).enumerate() {
            let timeline = appender.timeline(&n.to_string()).unwrap();
            let row: Vec<_> = sets
                .iter()
                .map(|l| (appender.resolve(Some(timeline), l).unwrap(), time as f64))
                .collect();
            appender.append_row(timeline, at(time), &row).unwrap();
        }
        appender.commit(OnReject::Fail).unwrap();
    }
    let cx = tidegauge_model::ReadContext::unlimited();
    let job = [tidegauge_model::Matcher::equal("job", "a")];
    for (what, start) in [("whole", 0), ("part", 5)] {
        let range = tidegauge_model::TimeRange::new(at(start), at(9));
        let view = tidegauge_model::Queryable::querier(&*db, range).unwrap();
        for matchers in [&[][..], &job] {
            let began = Instant::now();
            for _ in 0..20 {
                assert_eq!(view.label_values("pod", matchers, 0, &cx).unwrap().items.len(), 100);
            }
            let values = began.elapsed() / 20;
            let began = Instant::now();
            for _ in 0..20 {
                assert_eq!(view.label_names(matchers, 0, &cx).unwrap().items.len(), 3);
            }
            println!(
                "{what}, {} matchers: values {values:?}, names {:?}",
                matchers.len(),
                began.elapsed() / 20
            );
        }
    }
}

/// Most resident bytes since the last call, in MiB.
fn peak_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmHWM:")).unwrap();
    let kib: f64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    kib / 1024.0
}

/// Windows of 1,000 s full of rows of ten targets.
fn fill_windows(db: &Db, series: usize, rows: i64, windows: i64) {
    let step = 1_000_000 / rows;
    for at_row in 0..rows * windows + rows {
        let mut appender = db.appender();
        for target in 0..10 {
            let timeline = appender.timeline(&format!("target-{target}")).unwrap();
            let row: Vec<_> = (0..series / 10)
                .map(|n| {
                    let pairs = [
                        ("__name__", format!("metric_{}", n % 100)),
                        ("n", format!("{n:06}")),
                        ("target", format!("{target}")),
                    ];
                    let labels = Labels::from_pairs(pairs).unwrap();
                    let value = (at_row * (n as i64 % 7) + n as i64) as f64 / 4.0;
                    (appender.resolve(Some(timeline), &labels).unwrap(), value)
                })
                .collect();
            appender.append_row(timeline, at(at_row * step), &row).unwrap();
        }
        appender.commit(OnReject::Fail).unwrap();
        if at_row % rows == 0 {
            db.maintain().unwrap();
        }
    }
    db.maintain().unwrap();
}

#[test]
#[ignore = "figures: run with --release -- --ignored --nocapture"]
fn measure_opening_of_many_blocks() {
    for (series, rows) in [(1000, 10), (10_000, 20)] {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(HandClock::at(at(i64::MAX / 4)));
        let options = tidegauge_tsdb::Options {
            block_ms: 1_000_000,
            max_block_ms: 1_000_000,
            ..options(Fsync::Never)
        };
        let db = Db::open(dir.path(), options.clone(), clock.clone()).unwrap();
        fill_windows(&db, series, rows, 100);
        drop(db);
        let cache = tidegauge_tsdb::block::BlockCache::new(1 << 20);
        let fs: Arc<dyn tidegauge_tsdb::fs::Fs> = Arc::new(tidegauge_tsdb::fs::RealFs);
        let ids = tidegauge_tsdb::block::list_blocks(&*fs, dir.path()).unwrap();
        let open = |id: &tidegauge_tsdb::block::BlockId| {
            tidegauge_tsdb::block::BlockReader::open(&fs, &dir.path().join(id.to_string()), &cache).unwrap()
        };
        let began = Instant::now();
        let blocks: Vec<_> = ids.iter().map(open).collect();
        let opened = began.elapsed();
        let bytes: u64 = blocks.iter().map(|b| b.meta().bytes).sum();
        let began = Instant::now();
        blocks.iter().for_each(|b| b.verify_index().unwrap());
        println!(
            "{} blocks of {series} series, {} MB: opened in {opened:?}, their indexes verified in {:?}",
            ids.len(),
            bytes / 1_000_000,
            began.elapsed()
        );
    }
}

#[test]
#[ignore = "figures: run with --release -- --ignored --nocapture"]
fn measure_merges() {
    for (series, rows) in [(10_000, 100), (10_000, 400), (10_000, 1600), (40_000, 100)] {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(HandClock::at(at(i64::MAX / 4)));
        let options = tidegauge_tsdb::Options {
            block_ms: 1_000_000,
            ..options(Fsync::Never)
        };
        let db = Db::open(dir.path(), options.clone(), clock.clone()).unwrap();
        fill_windows(&db, series, rows, 4);
        db.close().unwrap();
        drop(db);
        // What the head held is gone; what is left is the index of what the log has.
        let db = Db::open(dir.path(), options, clock).unwrap();
        let before = db.metrics().blocks_bytes.load(std::sync::atomic::Ordering::Relaxed);
        peak_mib();
        let start = peak_mib();
        let began = Instant::now();
        let merged = db.compact().unwrap();
        let took = began.elapsed();
        let peak = peak_mib();
        let read = metric(&db, "tidegauge_tsdb_compaction_read_bytes_total");
        let written = metric(&db, "tidegauge_tsdb_compaction_written_bytes_total");
        println!(
            "{series} series, {rows} rows a block, {merged} merge of 3 blocks ({before} bytes in all): {:.1} million samples \
             in {took:?}, {:.1} to {:.1} MB, {:.1} MiB above {start:.0}",
            (series as i64 * rows * 3) as f64 / 1e6,
            read / 1e6,
            written / 1e6,
            peak - start
        );
    }
}
