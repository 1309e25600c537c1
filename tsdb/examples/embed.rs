//! The store in a program of one's own: append rows and loose samples, read them back, take a snapshot.
//!
//! ```sh
//! cargo run -p tidegauge-tsdb --example embed -- /tmp/embedded
//! ```
#![allow(clippy::print_stdout, reason = "a program that shows what it does")]

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;
use tidegauge_model::{
    Appendable, Clock, ColumnBuf, Labels, Matcher, OnReject, Queryable, ReadContext, SelectHints, TimeRange, Timestamp,
    Values,
};
use tidegauge_tsdb::{Db, Options, SnapshotHead};

/// The store never asks the system for the time: it is handed a clock.
#[derive(Debug)]
struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        #[expect(clippy::disallowed_methods, reason = "this is the program's one clock")]
        let now = SystemTime::now();
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    match std::env::args_os().nth(1) {
        Some(dir) => run(Path::new(&dir)),
        None => Err("usage: embed DIR".into()),
    }
}

fn run(dir: &Path) -> Result<(), Box<dyn Error>> {
    let clock = Arc::new(SystemClock);
    let db = Db::open(dir, Options::default(), clock.clone())?;
    let start = clock.now();

    // Rows: values that share one time, as all sensors of a machine that are read together. Series are resolved once;
    // their references hold for later appenders too.
    let mut appender = db.appender();
    let machine = appender.timeline("machine-1")?;
    let mut columns = Vec::new();
    for sensor in ["inlet", "outlet", "core"] {
        let labels = Labels::from_pairs([("__name__", "temperature_celsius"), ("sensor", sensor)])?;
        columns.push(appender.resolve(Some(machine), &labels)?);
    }
    for step in 0..10 {
        let at = Timestamp::from_millis(start.millis() + step * 1000);
        let row: Vec<_> = columns
            .iter()
            .map(|column| (*column, 20.0 + step as f64 / 4.0))
            .collect();
        appender.append_row(machine, at, &row)?;
    }
    // All ten rows are written and seen at once, or none.
    let done = appender.commit(OnReject::Skip)?;
    println!("stored {} samples of rows", done.samples);

    // Loose samples: each with its own time. The store finds out by itself which series move together.
    let mut appender = db.appender();
    let doors = Labels::from_pairs([("__name__", "door_opened_total"), ("door", "front")])?;
    let doors = appender.resolve(None, &doors)?;
    for (count, after_ms) in [(1.0, 137), (2.0, 4_711), (3.0, 8_000)] {
        appender.append_at(doors, Timestamp::from_millis(start.millis() + after_ms), count)?;
    }
    appender.commit(OnReject::Skip)?;

    // Reading: groups of series that share timestamps, each series decoded when it is asked for.
    let range = TimeRange::new(start, Timestamp::from_millis(start.millis() + 60_000));
    let querier = db.querier(range)?;
    let found = querier.select(
        &[Matcher::equal("__name__", "temperature_celsius")],
        &SelectHints::range(range),
        &ReadContext::unlimited(),
    )?;
    let mut buf = ColumnBuf::default();
    for group in &found {
        for series in 0..group.len() {
            let column = group.read(series, &mut buf)?;
            if let Values::Float(values) = column.values {
                println!("{}: {values:?}", group.labels(series));
            }
        }
    }

    // A snapshot: blocks that share files with the store, and all that is not in blocks yet as one more.
    let name = db.snapshot(SnapshotHead::Include)?;
    println!("snapshot in {}", dir.join("snapshots").join(name).display());
    db.close()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_runs_and_runs_again_on_what_it_left() {
        let dir = tempfile::tempdir().unwrap();
        super::run(dir.path()).unwrap();
        super::run(dir.path()).unwrap();
    }
}
