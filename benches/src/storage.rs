//! What the storage benches share: a store of 100,000 series filled by rows, with only the appends in the measured time.

use crate::{Cluster, Stamps};
use std::path::Path;
use std::sync::Arc;
use tidegauge_model::testing::HandClock;
use tidegauge_model::{Appendable, OnReject, SeriesRef, Timestamp};
use tidegauge_tsdb::{Db, Fsync, Options};

/// Targets of a full store.
pub const TARGETS: usize = 100;
/// Series of each.
pub const SERIES: usize = 1000;
/// Rows of two hours.
pub const ROWS: i64 = 480;
const STEP_MS: i64 = 15_000;
/// On a border of blocks.
const START_MS: i64 = 1_699_999_200_000;

/// The time of a row.
pub fn at(row: i64) -> Timestamp {
    Timestamp::from_millis(START_MS + row * STEP_MS)
}

/// The processor's time of this thread, in seconds: what a shared machine does for others meanwhile is not in it.
pub fn thread_seconds() -> f64 {
    let spent = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    spent.tv_sec as f64 + spent.tv_nsec as f64 / 1e9
}

/// No syncs, which measure the disk, and no threads: the bench calls [`Db::maintain`] when it is due.
pub fn options() -> Options {
    Options {
        fsync: Fsync::Never,
        maintenance: None,
        ..Options::default()
    }
}

/// Appends a cluster's rows as a scraper does: series are resolved once.
#[derive(Debug)]
pub struct Feed {
    columns: Vec<Vec<SeriesRef>>,
    row: Vec<(SeriesRef, f64)>,
    stamps: Stamps,
}

impl Feed {
    /// Room for a cluster's columns; they are resolved with the first row of each target.
    pub fn reserved(cluster: &Cluster, stamps: Stamps) -> Self {
        let targets = cluster.targets();
        let series = cluster.values(0).len();
        Self {
            columns: (0..targets).map(|_| Vec::with_capacity(series)).collect(),
            row: Vec::with_capacity(series),
            stamps,
        }
    }

    /// Appends and commits the row that a target has now; gives how many samples it has. To `spent` go the seconds
    /// of this thread from the appender to the end of the commit, its record in the log: neither the making of values, nor the first
    /// resolving of series.
    ///
    /// # Panics
    /// If the store refuses something.
    #[expect(clippy::expect_used, reason = "a bench that cannot go on stops")]
    pub fn append(&mut self, db: &Db, cluster: &Cluster, target: usize, row: i64, spent: &mut f64) -> usize {
        let key = format!("target-{target}");
        let values = cluster.values(target);
        let columns = self.columns.get_mut(target).expect("a target of the cluster");
        if columns.is_empty() {
            let mut appender = db.appender();
            let timeline = appender.timeline(&key).expect("a timeline");
            // Samples with times of their own find a timeline by themselves.
            let home = (self.stamps == Stamps::None).then_some(timeline);
            columns.extend(
                cluster
                    .labels(target)
                    .map(|l| appender.resolve(home, l).expect("a column")),
            );
        }
        // A scraper has its row at hand.
        self.row.clear();
        self.row.extend(columns.iter().copied().zip(values.iter().copied()));
        let began = thread_seconds();
        let mut appender = db.appender();
        match self.stamps {
            Stamps::None => {
                let timeline = appender.timeline(&key).expect("a timeline");
                appender
                    .append_row(timeline, at(row), &self.row)
                    .expect("the columns are known");
            }
            Stamps::Containers => {
                for (no, (column, value)) in columns.iter().zip(values).enumerate() {
                    let at = cluster.stamp(target, no, at(row));
                    appender.append_at(*column, at, *value).expect("the column is known");
                }
            }
        }
        let done = appender.commit(OnReject::Skip).expect("the log takes it");
        *spent += thread_seconds() - began;
        assert!(done.rejected.is_empty(), "{:?}", done.rejected.first());
        values.len()
    }
}

/// A store with two hours of 100,000 series, as a killed server leaves it: all in the log, maintenance done every five
/// minutes. The clock stands at the end.
///
/// # Panics
/// If the store refuses something.
#[expect(clippy::expect_used, reason = "a bench that cannot start stops")]
pub fn filled(dir: &Path) -> (Arc<Db>, Arc<HandClock>, Cluster) {
    let clock = Arc::new(HandClock::at(at(0)));
    let db = Db::open(dir, options(), clock.clone()).expect("a fresh store opens");
    let mut cluster = Cluster::wide(TARGETS, SERIES, 7);
    let mut feed = Feed::reserved(&cluster, Stamps::None);
    for row in 0..ROWS {
        clock.set(at(row));
        if row > 0 {
            cluster.tick();
        }
        for target in 0..TARGETS {
            feed.append(&db, &cluster, target, row, &mut 0.0);
        }
        if row % 20 == 19 {
            db.maintain().expect("maintenance");
        }
    }
    (db, clock, cluster)
}
