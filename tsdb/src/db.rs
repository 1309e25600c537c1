//! The store as others see it: a data directory behind both doors.

use crate::fs::{Fs, RealFs};
use crate::{Error, Metrics, Options};
use std::path::Path;
use std::sync::Arc;
use tidegauge_model::{
    Appendable, Appender, Clock, Querier, Queryable, SelectError, TimeRange, Timestamp,
};

/// An open data directory. Any number of appenders and queriers at a time.
#[derive(Debug)]
pub struct Db {
    metrics: Metrics,
}

/// Whether a snapshot holds what no block holds yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnapshotHead {
    /// Everything that is stored.
    Include,
    /// Only what is in blocks.
    Skip,
}

/// What `/api/v1/status/tsdb` shows about the head. Lists are sorted, largest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Series in the head.
    pub num_series: u64,
    /// Distinct label pairs of these.
    pub num_label_pairs: u64,
    /// Encoded runs of columns (chunks) in the head.
    pub chunk_count: u64,
    /// Time of the oldest sample in the head.
    pub min_time: Option<Timestamp>,
    /// Time of the newest sample.
    pub max_time: Option<Timestamp>,
    /// Series per metric name.
    pub series_count_by_metric_name: Vec<(String, u64)>,
    /// Distinct values per label name.
    pub label_value_count_by_label_name: Vec<(String, u64)>,
    /// Bytes of the distinct values of each label name.
    pub memory_in_bytes_by_label_name: Vec<(String, u64)>,
    /// Series per `name=value`.
    pub series_count_by_label_pair: Vec<(String, u64)>,
}

impl Db {
    /// Opens a data directory on the real disk, made if there is none, and reads its log back.
    ///
    /// # Errors
    /// [`Error`]: locked by another process, not ours, written by a newer version, not writable.
    pub fn open(dir: &Path, options: Options, clock: Arc<dyn Clock>) -> Result<Arc<Self>, Error> {
        Self::open_with(Arc::new(RealFs), dir, options, clock)
    }

    /// As [`Db::open`], on a file system of the caller's.
    ///
    /// # Errors
    /// As [`Db::open`].
    pub fn open_with(
        _fs: Arc<dyn Fs>,
        _dir: &Path,
        _options: Options,
        _clock: Arc<dyn Clock>,
    ) -> Result<Arc<Self>, Error> {
        Ok(Arc::new(Self { metrics: Metrics::default() }))
    }

    /// Writes what is stored as blocks into a new folder under `snapshots/`, sharing files with the store's own
    /// blocks, and gives the folder's name.
    ///
    /// # Errors
    /// [`Error`] if it cannot be written; nothing of it is left then.
    pub fn snapshot(&self, _head: SnapshotHead) -> Result<String, Error> {
        Ok(String::new())
    }

    /// What the head holds, with at most `limit` entries in each list.
    pub fn stats(&self, _limit: usize) -> Stats {
        Stats::default()
    }

    /// The store's counters and gauges.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Stops maintenance, syncs the log and releases the directory. Appends fail from then on; reads go on.
    ///
    /// # Errors
    /// [`Error`] if the log cannot be synced.
    pub fn close(&self) -> Result<(), Error> {
        Ok(())
    }

    /// Does one round of maintenance now: seal, write blocks, retain, cut the log. For tests and tools; the
    /// maintenance thread does it by itself.
    ///
    /// # Errors
    /// [`Error`]: the round ends, the next one tries again.
    pub fn maintain(&self) -> Result<(), Error> {
        Ok(())
    }
}

impl Appendable for Db {
    fn appender(&self) -> Box<dyn Appender + '_> {
        unimplemented!("lands with the head")
    }
}

impl Queryable for Db {
    fn querier(&self, _range: TimeRange) -> Result<Box<dyn Querier + '_>, SelectError> {
        unimplemented!("lands with the head")
    }
}
