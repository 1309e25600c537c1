//! Runs in files and checkpoints: what they spare, and what their damage costs.

use crate::support::{Content, DIR, all, at, eager, labels, metric, open, options};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tidegauge_model::{
    AppendError, Appendable, Budget, ColumnBuf, Labels, Matcher, Meter, OnReject, Queryable, ReadContext, SelectError,
    SelectHints, TimeRange,
};
use tidegauge_tsdb::fs::{Fs, MemoryFs};
use tidegauge_tsdb::{Db, Fsync, Options};

fn fill(db: &Db, steps: std::ops::Range<i64>) {
    for step in steps {
        let mut appender = db.appender();
        for key in ["a", "b", "c"] {
            let timeline = appender.timeline(key).unwrap();
            let row: Vec<_> = (0..40)
                .filter(|c| (step + c) % 17 != 0)
                .map(|c| {
                    let series = appender.resolve(Some(timeline), &labels(&format!("{key}{c}"))).unwrap();
                    (series, (step * c) as f64 / 8.0 + 1e-9)
                })
                .collect();
            appender.append_row(timeline, at(step * 15_000), &row).unwrap();
        }
        let own = appender.resolve(None, &labels("own")).unwrap();
        appender.append_at(own, at(step * 15_000 + 7), step as f64).unwrap();
        appender.commit(OnReject::Fail).unwrap();
    }
}

/// A store killed after runs went to files, a checkpoint was written, and some more was logged.
fn killed() -> (MemoryFs, Arc<dyn Fs>, Content) {
    let disk = MemoryFs::new();
    let fs: Arc<dyn Fs> = Arc::new(disk.clone());
    let db = open(&fs, eager(options(Fsync::Never))).unwrap();
    for part in 0..3 {
        fill(&db, part * 130..(part + 1) * 130);
        db.maintain().unwrap();
    }
    fill(&db, 390..400);
    let content = all(&*db);
    disk.kill();
    drop(db);
    (disk, fs, content)
}

fn files(fs: &dyn Fs, folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(DIR).join(folder);
    let names = fs.read_dir(&folder).unwrap();
    names.into_iter().map(|e| folder.join(e.name)).collect()
}

#[test]
fn what_a_checkpoint_holds_is_not_replayed() {
    let (_, fs, content) = killed();
    assert_eq!((files(&*fs, "checkpoint").len(), files(&*fs, "runs").len()), (2, 3));
    let db = open(&fs, eager(options(Fsync::Never))).unwrap();
    assert_eq!(all(&*db), content);
    // Ten commits of a row on each of three timelines, and one of a timeline of the store's own.
    assert_eq!(metric(&db, "tidegauge_tsdb_wal_replayed_rows_total"), 40.0);
    assert_eq!(
        metric(&db, "tidegauge_tsdb_head_run_bytes") as usize / 1000,
        1,
        "runs lie in files"
    );
    // It goes on as before: into runs, files, checkpoints and another start.
    fill(&db, 400..700);
    db.maintain().unwrap();
    let content = all(&*db);
    assert!(content.values().all(|samples| samples.len() > 600));
    drop(db);
    let db = open(&fs, eager(options(Fsync::Never))).unwrap();
    assert_eq!(all(&*db), content);
    assert_eq!(metric(&db, "tidegauge_tsdb_wal_replayed_rows_total"), 0.0);
}

#[test]
fn without_its_spare_files_the_store_is_the_same() {
    for gone in [&["checkpoint"][..], &["runs"], &["checkpoint", "runs"]] {
        let (_, fs, content) = killed();
        for folder in gone {
            fs.remove_dir_all(&Path::new(DIR).join(folder)).unwrap();
        }
        let db = open(&fs, eager(options(Fsync::Never))).unwrap();
        assert_eq!(all(&*db), content);
        assert_eq!(metric(&db, "tidegauge_tsdb_wal_replayed_rows_total"), 1600.0);
        db.maintain().unwrap();
        drop(db);
        let db = open(&fs, eager(options(Fsync::Never))).unwrap();
        assert_eq!(
            (all(&*db), metric(&db, "tidegauge_tsdb_wal_replayed_rows_total")),
            (content, 0.0)
        );
    }
}

#[test]
fn a_damaged_checkpoint_costs_only_time() {
    let (disk, fs, content) = killed();
    let newest = files(&*fs, "checkpoint").pop().unwrap();
    let good = disk.read(&newest).unwrap();
    let kept: Vec<(PathBuf, Vec<u8>)> = ["checkpoint", "runs", "wal"]
        .iter()
        .flat_map(|folder| files(&*fs, folder))
        .map(|path| (path.clone(), disk.read(&path).unwrap()))
        .collect();
    let step = good.len() / 150;
    let flips = (0..good.len()).step_by(step).map(|at| {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        bad
    });
    let cuts = (0..good.len()).step_by(step * 3).map(|end| good[..end].to_vec());
    let longer = [[&good[..], b"x"].concat(), [&good[..], &good[20..]].concat()];
    for bad in flips.chain(cuts).chain(longer) {
        for folder in ["checkpoint", "runs", "wal"] {
            for path in files(&*fs, folder) {
                fs.remove_file(&path).unwrap();
            }
        }
        for (path, bytes) in &kept {
            disk.plant(path, bytes).unwrap();
        }
        disk.plant(&newest, &bad).unwrap();
        let db = open(&fs, options(Fsync::Never)).unwrap();
        assert_eq!(all(&*db), content);
        assert_eq!(metric(&db, "tidegauge_tsdb_checkpoints_unusable_total"), 1.0);
        // The one before was of use.
        assert_eq!(metric(&db, "tidegauge_tsdb_wal_replayed_rows_total"), 560.0);
        disk.kill();
    }
}

/// What a select of one series gives.
fn read_one(db: &Db, name: &str) -> Result<usize, SelectError> {
    let querier = db.querier(TimeRange::ALL).unwrap();
    let hints = SelectHints::range(TimeRange::ALL);
    let set = querier.select(&[Matcher::equal("__name__", name)], &hints, &ReadContext::unlimited())?;
    let mut buf = ColumnBuf::default();
    set.iter()
        .flat_map(|g| (0..g.len()).map(move |s| (g, s)))
        .map(|(g, s)| g.read(s, &mut buf).map(|c| c.timestamps.len()))
        .sum()
}

#[test]
fn a_damaged_run_is_told_with_its_file_and_heals_at_the_next_start() {
    let (disk, fs, content) = killed();
    let path = files(&*fs, "runs").remove(1);
    let good = disk.read(&path).unwrap();
    let mut told = 0;
    for at in (20..good.len() - 600).step_by(good.len() / 12) {
        let mut bad = good.clone();
        bad[at] ^= 0x20;
        disk.plant(&path, &bad).unwrap();
        let db = open(&fs, eager(options(Fsync::Never))).unwrap();
        let (mut whole, mut hit) = (0, 0);
        for (series, samples) in &content {
            match read_one(&db, series.metric_name().unwrap()) {
                Ok(n) => {
                    assert_eq!(n, samples.len());
                    whole += 1;
                }
                Err(SelectError::Corrupt {
                    path: found, offset, ..
                }) => {
                    assert_eq!(found, path.display().to_string());
                    assert!(offset < good.len() as u64);
                    hit += 1;
                }
                Err(e) => panic!("{e}"),
            }
        }
        assert!(hit > 0 && whole > 0, "byte {at}: {hit} of {} series", content.len());
        told += hit;
        // Blocks cannot be made of it; the next start reads the log instead.
        db.maintain().unwrap();
        disk.kill();
        drop(db);
        let db = open(&fs, eager(options(Fsync::Never))).unwrap();
        assert_eq!(all(&*db), content, "byte {at}");
        db.maintain().unwrap();
        fill(&db, 400..401);
        db.maintain().unwrap();
        disk.kill();
        drop(db);
        let (fresh, ..) = killed();
        for folder in ["checkpoint", "runs", "wal"] {
            for path in files(&*fs, folder) {
                fs.remove_file(&path).unwrap();
            }
            for path in files(&fresh, folder) {
                disk.plant(&path, &fresh.read(&path).unwrap()).unwrap();
            }
        }
    }
    assert!(told > 20, "{told} reads met damage");
}

/// A reader keeps what it saw while runs move and files go.
#[test]
fn readers_keep_their_runs_while_files_come_and_go() {
    let fs: Arc<dyn Fs> = Arc::new(MemoryFs::new());
    let db = open(
        &fs,
        eager(Options {
            block_ms: 1_000_000,
            ..options(Fsync::Never)
        }),
    )
    .unwrap();
    fill(&db, 0..60);
    let first = all(&*db);
    db.seal();
    let view = db.querier(TimeRange::ALL).unwrap();
    let set = |view: &dyn tidegauge_model::Querier| {
        view.select(&[], &SelectHints::range(TimeRange::ALL), &ReadContext::unlimited())
            .unwrap()
    };
    let before = set(&*view);
    db.maintain().unwrap();
    let between = set(&*view);
    fill(&db, 60..300);
    db.maintain().unwrap();
    db.maintain().unwrap();
    let after = set(&*view);
    for set in [before, between, after] {
        let mut buf = ColumnBuf::default();
        let mut count = 0;
        for group in &set {
            for series in 0..group.len() {
                let labels: Labels = group.labels(series);
                assert_eq!(
                    group.read(series, &mut buf).unwrap().timestamps.len(),
                    first[&labels].len()
                );
                count += 1;
            }
        }
        assert_eq!(count, first.len());
    }
    drop(view);
    for _ in 0..3 {
        db.maintain().unwrap();
    }
    let files = files(&*fs, "runs").len();
    assert_eq!(files as f64, metric(&db, "tidegauge_tsdb_head_run_files"));
    assert!(files <= 2, "{files} files are left");
}

/// Open rows that would crowd new series out are sealed and leave the heap.
#[test]
fn memory_pressure_seals_before_new_series_are_refused() {
    const LIMIT: u64 = 1 << 20;
    let fill_up = |maintain: bool| {
        let fs: Arc<dyn Fs> = Arc::new(MemoryFs::new());
        let head: Meter = Budget::new(LIMIT).share("head", 100);
        let db = open(
            &fs,
            Options {
                head,
                ..options(Fsync::Never)
            },
        )
        .unwrap();
        let mut taken = 0i64;
        for step in 0..1500i64 {
            let mut appender = db.appender();
            let timeline = appender.timeline("t").unwrap();
            let row: Vec<_> = (0..60 + step / 2)
                .map_while(|c| match appender.resolve(Some(timeline), &labels(&format!("m{c}"))) {
                    Ok(series) => Some((series, ((step * 31 + c * 17) % 1009) as f64 * 0.317)),
                    Err(AppendError::Memory(_)) => None,
                    Err(e) => panic!("{e}"),
                })
                .collect();
            if (row.len() as i64) < 60 + step / 2 {
                break;
            }
            appender.append_row(timeline, at(step * 1000), &row).unwrap();
            appender.commit(OnReject::Fail).unwrap();
            taken = step;
            if maintain {
                db.maintain().unwrap();
            }
        }
        (taken, metric(&db, "tidegauge_tsdb_head_pressure_seals_total"))
    };
    let (taken, seals) = fill_up(true);
    assert!(seals > 0.0, "{taken} rows came in without pressure");
    assert!(taken > 1000, "only {taken} rows came in, {seals} seals");
}

fn section(kind: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = kind.to_le_bytes().to_vec();
    bytes.extend((payload.len() as u64).to_le_bytes());
    bytes.extend(payload);
    sealed(bytes)
}

fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let crc = crc32fast::hash(&bytes);
    bytes.extend(crc.to_le_bytes());
    bytes
}

/// The bytes of a checkpoint are those of `docs/formats/checkpoint.md`.
#[test]
fn bytes_are_as_drawn() {
    let disk = MemoryFs::new();
    let fs: Arc<dyn Fs> = Arc::new(disk.clone());
    let db = open(&fs, eager(options(Fsync::Never))).unwrap();
    let label = |name: &str| Labels::from_pairs([("a", name)]).unwrap();
    let commit = |time: i64, x: f64| {
        let mut appender = db.appender();
        let timeline = appender.timeline("t").unwrap();
        let row = [("x", x), ("y", 0.5)].map(|(name, v)| (appender.resolve(Some(timeline), &label(name)).unwrap(), v));
        appender.append_row(timeline, at(time), &row).unwrap();
        appender.commit(OnReject::Fail).unwrap();
    };
    commit(100, 1.0);
    commit(105, 3.0);
    db.maintain().unwrap();

    let mut expect = b"TGCK".to_vec();
    expect.extend([1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
    let mut expect = sealed(expect);
    // Nothing flushed; newest 105; epoch 0; one segment before: number 1, newest 105, no late samples up to it.
    let mut log = vec![0xff; 9];
    log.extend([1, 210, 1, 0, 1, 1, 210, 1, 0]);
    expect.extend(section(1, &log));
    let mut names = vec![3, 3, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, b'a', b'x', b'y'];
    // Pairs a=x and a=y; two series of one pair each.
    names.extend([2, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0]);
    names.extend([2, 2, 1, 0, 0, 0, 2, 0, 0, 0]);
    for name in ["x", "y"] {
        names.extend((label(name).stable_hash() as u32).to_le_bytes());
    }
    names.extend([0, 1]);
    expect.extend(section(2, &names));
    expect.extend(section(3, &[0]));
    // Timeline "t": nothing sealed; newest 105; two rows, 100 and 5 later, that hold all; two places: columns 0 and 1.
    let mut timelines = vec![1, 1, 2, b't', 0, 210, 1, 0, 2, 200, 1, 10, 0, 0, 0, 2, 0, 2];
    timelines.extend(3.0f64.to_bits().to_le_bytes());
    timelines.extend(0.5f64.to_bits().to_le_bytes());
    // Place 0 changed in row 1; its chain: 1 after 0, plus 2. Place 1 did not change.
    timelines.extend([8, 1, 2, 2 << 2, 4 << 2, 0]);
    expect.extend(section(4, &timelines));
    expect.extend(section(5, &[2, 30, 0, 0, 0, 0, 30, 2, 0, 0, 2]));
    expect.extend(section(6, &[0, 0]));
    expect.extend(section(7, &[0, 0]));
    expect.extend(section(8, &[0, 0]));
    expect.extend(section(9, &[0]));
    expect.extend(section(10, &[0]));
    expect.extend(section(11, &[0]));
    let folder = Path::new(DIR).join("checkpoint");
    assert_eq!(disk.read(&folder.join("00000002.ckpt")).unwrap(), expect);

    db.seal();
    db.maintain().unwrap();
    commit(110, 3.0);
    db.maintain().unwrap();
    let runs = disk.read(&Path::new(DIR).join("runs/00000001.runs")).unwrap();
    // File 1 by its footer's crc; one run of timeline 0, its last time 105, the first of the first file.
    let mut named = vec![1, 1];
    named.extend(&runs[runs.len() - 8..runs.len() - 4]);
    named.extend([1, 0, 210, 1, 1, 0]);
    let bytes = disk.read(&folder.join("00000003.ckpt")).unwrap();
    let named = section(7, &named);
    assert!(bytes.windows(named.len()).any(|w| w == named));
    // Columns keep their newest sample of before the open rows.
    let mut columns = vec![2, 62, 0, 0, 0, 0, 210, 1];
    columns.extend(3.0f64.to_bits().to_le_bytes());
    columns.extend([62, 2, 0, 0, 2, 0]);
    columns.extend(0.5f64.to_bits().to_le_bytes());
    let columns = section(5, &columns);
    assert!(bytes.windows(columns.len()).any(|w| w == columns));
}
