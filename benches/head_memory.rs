//! Resident bytes a series costs in the head, and bytes a sample costs on disk: 100,000 series of ten label pairs, two
//! hours at 15 s, once as plain scrapes and once stamped as cAdvisor stamps its bodies (each container's samples carry
//! a time of their own).
//!
//! `cargo bench -p tidegauge-benches --bench head_memory [-- plain|stamped]`: each kind runs in a process of its own,
//! so that one does not keep what the other had. Not criterion's kind of figure: one run, resident memory from
//! `/proc/self/statm` with the allocator of the server, less what was resident before the store was opened and what
//! the generator holds (measured by a run without a store).
#![allow(
    missing_docs,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a program that prints figures; one that cannot start stops"
)]

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use tidegauge_benches::storage::{self, ROWS, SERIES, TARGETS};
use tidegauge_benches::{Cluster, Stamps};
use tidegauge_model::testing::HandClock;
use tidegauge_tsdb::allocator::{MiMalloc, give_back};
use tidegauge_tsdb::fs::{Fs, RealFs};
use tidegauge_tsdb::{AnalyzeOptions, Db, Options, SnapshotHead};

/// The server's.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

const ALL: usize = TARGETS * SERIES;

fn main() {
    // Cargo adds `--bench`.
    let kind = std::env::args().skip(1).find(|a| !a.starts_with("--"));
    match kind.as_deref() {
        Some("plain") => measure(Stamps::None),
        Some("stamped") => measure(Stamps::Containers),
        Some(other) => println!("no such kind: {other}; there are plain and stamped"),
        None => {
            let program = std::env::current_exe().expect("this program");
            for kind in ["plain", "stamped"] {
                let done = Command::new(&program).arg(kind).status().expect("it starts again");
                assert!(done.success(), "{kind} failed");
            }
        }
    }
}

fn measure(stamps: Stamps) {
    let dir = tempfile::tempdir().expect("a folder for the bench");
    let clock = Arc::new(HandClock::at(storage::at(0)));
    let mut cluster = Cluster::wide(TARGETS, SERIES, 7);
    // What the generator holds is there before the store is.
    let mut feed = storage::Feed::reserved(&cluster, stamps);
    let before = resident();
    let options = Options {
        after_round: Some(give_back),
        ..storage::options()
    };
    let db = Db::open(dir.path(), options, clock.clone()).expect("a fresh store opens");
    let (mut samples, mut spent, mut peak) = (0, 0.0, 0u64);
    // Stamps lie before the row's time: the first row is not the first of a window, so that one window has them all.
    for row in 1..=ROWS {
        clock.set(storage::at(row));
        for target in 0..TARGETS {
            samples += feed.append(&db, &cluster, target, row, &mut spent);
        }
        cluster.tick();
        // Twenty rows are five minutes: maintenance looks more often than that in life.
        if row % 20 == 0 {
            // Before it, for it gives back what is free.
            peak = peak.max(resident().saturating_sub(before));
            db.maintain().expect("maintenance");
        }
    }
    let blocks = db.metrics().blocks.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(blocks, 0, "all of it is in the head");
    let after = resident().saturating_sub(before);
    let accounted = db.metrics().head_bytes.load(std::sync::atomic::Ordering::Relaxed);
    let name = if stamps == Stamps::None { "plain" } else { "stamped" };
    println!(
        "{name}: {ALL} series, {samples} samples, appended at {:.1} M/s",
        samples as f64 / spent / 1e6
    );
    println!(
        "  resident bytes per series {:>8.0} at the end, {:.0} at the most; the head accounts for {:.0}",
        per(after, ALL),
        per(peak, ALL),
        per(accounted, ALL)
    );
    println!(
        "  log, bytes per sample     {:>8.3}",
        per(folder(&dir.path().join("wal")), samples)
    );
    let snapshot = db.snapshot(SnapshotHead::Include).expect("a snapshot");
    let fs: Arc<dyn Fs> = Arc::new(RealFs::new());
    let path = dir.path().join("snapshots").join(snapshot);
    let found = tidegauge_tsdb::analyze(&fs, &path, &AnalyzeOptions::default()).expect("a sound snapshot");
    println!(
        "  block, bytes per sample   {:>8.3}: values {:.3}, timestamps {:.4}, index {:.3}",
        found.bytes_per_sample().unwrap_or(0.0),
        per(found.bytes.values, samples),
        per(found.bytes.timestamps, samples),
        per(found.bytes.index, samples)
    );
    assert_eq!(found.samples, samples as u64);
}

fn per(bytes: u64, of: usize) -> f64 {
    bytes as f64 / of.max(1) as f64
}

/// Resident bytes of this process that are its own: mapped files can be dropped by the system at any time.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let mut fields = statm.split(' ').skip(1).map(|f| f.parse::<u64>().expect("a number"));
    let (all, shared) = (fields.next().unwrap_or(0), fields.next().unwrap_or(0));
    all.saturating_sub(shared) * 4096
}

fn folder(path: &Path) -> u64 {
    let entries = std::fs::read_dir(path).into_iter().flatten().map_while(Result::ok);
    entries.filter_map(|e| e.metadata().ok()).map(|m| m.len()).sum()
}
