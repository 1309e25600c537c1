//! The stores that scripts run on.

use std::collections::BTreeMap;
use std::sync::Arc;
use tidegauge_model::testing::{HandClock, MemoryStore};
use tidegauge_model::{Appendable, Labels, OnReject, Queryable, Sample, SeriesRef, Timestamp};
use tidegauge_tsdb::{Db, Fsync, Options};

/// A store that a script fills, queries and empties.
pub(crate) trait TestStore {
    /// Adds samples, wherever in time they lie.
    fn add(&mut self, labels: &Labels, samples: &[Sample]);
    /// Drops everything.
    fn clear(&mut self);
    /// Makes what was added ready to be queried.
    fn prepare(&mut self) {}
    /// The door out.
    fn queryable(&self) -> &dyn Queryable;
}

impl TestStore for MemoryStore {
    fn add(&mut self, labels: &Labels, samples: &[Sample]) {
        for sample in samples {
            self.insert(labels, sample.at, sample.value);
        }
    }

    fn clear(&mut self) {
        *self = Self::new();
    }

    fn queryable(&self) -> &dyn Queryable {
        self
    }
}

/// The real store. Scripts load in any order, which it refuses: samples are kept aside and written in order of time,
/// one row for each time, before they are queried.
pub(crate) struct DbStore {
    samples: BTreeMap<Timestamp, BTreeMap<Labels, f64>>,
    db: Option<(Arc<Db>, tempfile::TempDir)>,
    layout: Layout,
}

/// Where the samples are when they are queried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// All in the head: so many rows open, those before them sealed.
    Head { open_rows: usize },
    /// The older ones in blocks, the newer ones in the head.
    BlocksAndHead,
    /// All in blocks.
    Blocks,
}

impl Layout {
    /// One of each.
    pub(crate) const ALL: [Self; 4] = [
        Self::Head { open_rows: usize::MAX },
        Self::Head { open_rows: 7 },
        Self::BlocksAndHead,
        Self::Blocks,
    ];
}

/// Width of blocks, where there are any.
const BLOCK_MS: i64 = 120_000;

impl DbStore {
    pub(crate) fn new(open_rows: usize) -> Self {
        Self::laid_out(Layout::Head { open_rows })
    }

    pub(crate) fn laid_out(layout: Layout) -> Self {
        Self {
            samples: BTreeMap::new(),
            db: None,
            layout,
        }
    }

    fn open(&self) -> (Arc<Db>, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let mut options = Options {
            retention_ms: 0,
            fsync: Fsync::Never,
            maintenance: None,
            ..Options::default()
        };
        let open_rows = match self.layout {
            Layout::Head { open_rows } => open_rows,
            Layout::BlocksAndHead | Layout::Blocks => {
                options.block_ms = BLOCK_MS;
                usize::MAX
            }
        };
        let clock = Arc::new(HandClock::at(Timestamp::from_millis(i64::MAX / 2)));
        let db = Db::open(dir.path(), options, clock).unwrap();
        let mut refs: BTreeMap<Labels, SeriesRef> = BTreeMap::new();
        let seal_at = self.samples.len().saturating_sub(open_rows);
        for (row, (at, values)) in self.samples.iter().enumerate() {
            if row == seal_at && row > 0 {
                db.seal();
            }
            let mut appender = db.appender();
            let timeline = appender.timeline("script").unwrap();
            let mut resolve = |labels: &Labels| appender.resolve(Some(timeline), labels).unwrap();
            let cells: Vec<(SeriesRef, f64)> = values
                .iter()
                .map(|(labels, value)| (*refs.entry(labels.clone()).or_insert_with(|| resolve(labels)), *value))
                .collect();
            if appender.append_row(timeline, *at, &cells).is_err() {
                // Sealing let the columns go: resolve again, as the contract says.
                refs.clear();
                let cells: Vec<(SeriesRef, f64)> = values
                    .iter()
                    .map(|(labels, value)| {
                        let series = appender.resolve(Some(timeline), labels).unwrap();
                        refs.insert(labels.clone(), series);
                        (series, *value)
                    })
                    .collect();
                appender.append_row(timeline, *at, &cells).unwrap();
            }
            appender.commit(OnReject::Fail).unwrap();
        }
        if self.layout == Layout::Blocks {
            // Windows become blocks when time has gone on: a sample far behind them is what tells.
            let last = self.samples.keys().next_back().copied().unwrap_or_default();
            let mut appender = db.appender();
            let labels = Labels::from_pairs([("far", "behind")]).unwrap();
            let series = appender.resolve(None, &labels).unwrap();
            appender.append_at(series, last + 10 * BLOCK_MS, 0.0).unwrap();
            appender.commit(OnReject::Fail).unwrap();
        }
        if self.layout != (Layout::Head { open_rows }) {
            db.maintain().unwrap();
            let blocks = std::fs::read_dir(dir.path()).unwrap().count();
            assert!(blocks > 0);
        }
        (db, dir)
    }
}

impl TestStore for DbStore {
    fn add(&mut self, labels: &Labels, samples: &[Sample]) {
        self.db = None;
        for sample in samples {
            self.samples
                .entry(sample.at)
                .or_default()
                .insert(labels.clone(), sample.value);
        }
    }

    fn clear(&mut self) {
        self.db = None;
        self.samples.clear();
    }

    fn prepare(&mut self) {
        if self.db.is_none() {
            self.db = Some(self.open());
        }
    }

    fn queryable(&self) -> &dyn Queryable {
        &*self.db.as_ref().expect("prepared").0
    }
}
