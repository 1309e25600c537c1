//! The store as others see it: a data directory behind both doors.

use crate::block::{self, BlockCache, BlockReader};
use crate::checkpoint::{self, Checkpoints};
use crate::compact::{Compacting, Leftovers, precedence};
use crate::directory::{self, WAL};
use crate::fs::{Fs, LockGuard, RealFs};
use crate::head::append::{Head, HeadAppender, Log};
use crate::head::exemplar;
use crate::maintain::{Cleaning, Thread};
use crate::opening::open_blocks;
use crate::select::View;
use crate::wal::reader;
use crate::wal::writer::{Wal, cause};
use crate::{Error, Fsync, Metrics, Options};
use parking_lot::{Mutex, RwLock};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Instant;
use tidegauge_model::{
    Appendable, Appender, Clock, ExemplarQueryable, Matcher, Querier, Queryable, ReadContext, SelectError,
    SeriesExemplars, TimeRange, Timestamp,
};

/// An open data directory. Any number of appenders and queriers at a time.
#[derive(Debug)]
pub struct Db {
    pub(crate) fs: Arc<dyn Fs>,
    pub(crate) dir: PathBuf,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) head: Head,
    /// Held over a sync beside the log: the system tells a failure once, and the log must hear it.
    pub(crate) syncing: Mutex<()>,
    pub(crate) log: Mutex<Log>,
    /// Blocks in the order in which readers prefer them. Exchanged whole under `maintenance`.
    pub(crate) blocks: RwLock<Arc<[Arc<BlockReader>]>>,
    pub(crate) cache: Arc<BlockCache>,
    /// Samples of the head before it lie in blocks. Changed together with `blocks`, under the head's state.
    flushed: AtomicI64,
    /// Held by each view: what is dropped from the head waits for those of before.
    pub(crate) readers: Epoch,
    /// Held by each appender: columns are let go only behind those of before.
    pub(crate) appenders: Epoch,
    /// Held while series numbers are used over several looks at the head.
    pub(crate) numbering: RwLock<()>,
    /// Held by the one that merges blocks.
    pub(crate) compacting: Mutex<Compacting>,
    pub(crate) maintenance: Mutex<Cleaning>,
    pub(crate) leftovers: Leftovers,
    /// Whether long work is to end.
    pub(crate) closing: AtomicBool,
    /// Counts names made by this process, so that no two are equal.
    pub(crate) names: AtomicU64,
    threads: Mutex<Vec<Thread>>,
    lock: Mutex<Option<LockGuard>>,
}

/// Tells whether those who began before some moment are gone.
#[derive(Debug, Default)]
pub(crate) struct Epoch(Mutex<Arc<()>>);

impl Epoch {
    /// Whoever holds it is counted to this epoch.
    pub(crate) fn current(&self) -> Arc<()> {
        Arc::clone(&self.0.lock())
    }

    /// Begins the next epoch; what is given is dead once all of before are gone.
    pub(crate) fn turn(&self) -> Weak<()> {
        let old = std::mem::take(&mut *self.0.lock());
        Arc::downgrade(&old)
    }
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
    /// Bytes of the pairs of each label name, if each series had its own.
    pub memory_in_bytes_by_label_name: Vec<(String, u64)>,
    /// Series per `name=value`.
    pub series_count_by_label_pair: Vec<(String, u64)>,
}

impl Db {
    /// Opens a data directory on the real disk, made if there is none, and reads its head back: the newest
    /// checkpoint that can be used, and the log from there on.
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
    pub fn open_with(fs: Arc<dyn Fs>, dir: &Path, options: Options, clock: Arc<dyn Clock>) -> Result<Arc<Self>, Error> {
        check(&options)?;
        let lock = directory::claim(&*fs, dir)?;
        let metrics = Arc::new(Metrics::default());
        Metrics::set(&metrics.retention_bytes, options.retention_bytes);
        Metrics::set(&metrics.retention_ms, options.retention_ms.max(0).cast_unsigned());
        block::remove_unfinished(&*fs, dir)?;
        let cache = BlockCache::new(options.block_cache_bytes);
        let leftovers = Leftovers::default();
        let blocks = open_blocks(&fs, dir, &cache, &metrics, &leftovers)?;
        Metrics::set(&metrics.blocks, blocks.len() as u64);
        let flushed = blocks
            .iter()
            .map(|b| b.meta().range.end.millis())
            .max()
            .unwrap_or(i64::MIN);
        let began = Instant::now();
        let (fsync, bytes) = (options.fsync, options.segment_bytes);
        let (encoding, every) = (options.encoding, options.maintenance);
        let progress = Arc::clone(&options.replay);
        let mut head = Head::new(options, Arc::clone(&metrics));
        let (restored, files) = checkpoint::restore(&*fs, dir, flushed, &metrics)?;
        let (from, known) = (restored.from, restored.segments);
        head.restore(restored.state, flushed);
        head.restore_exemplars(restored.exemplars);
        let (segments, replayed) =
            reader::replay(&*fs, &dir.join(WAL), from, &known, &mut head, (&metrics, &progress))?;
        head.replayed();
        Metrics::set(&metrics.replay_milliseconds, began.elapsed().as_millis() as u64);
        let mut wal = Wal::start(
            Arc::clone(&fs),
            &dir.join(WAL),
            fsync,
            bytes,
            segments,
            from,
            Arc::clone(&metrics),
        )?;
        if head.state.get_mut().late.is_empty() {
            wal.late_is_in_blocks();
        }
        wal.cut(flushed)?;
        let db = Arc::new(Self {
            fs,
            dir: dir.to_owned(),
            clock,
            head,
            syncing: Mutex::new(()),
            log: Mutex::new(Log::new(wal, encoding)),
            blocks: RwLock::new(blocks.into()),
            cache,
            flushed: AtomicI64::new(flushed),
            readers: Epoch::default(),
            appenders: Epoch::default(),
            numbering: RwLock::new(()),
            compacting: Mutex::default(),
            maintenance: Mutex::new(Cleaning::new(files, Checkpoints::new(replayed))),
            leftovers,
            closing: AtomicBool::new(false),
            names: AtomicU64::new(0),
            threads: Mutex::default(),
            lock: Mutex::new(Some(lock)),
        });
        db.measure();
        if let Some(every) = every {
            let mut threads = db.threads.lock();
            threads.push(Thread::start(&db, "tidegauge-tsdb", every, Self::maintain_or_warn)?);
            // On its own: the head does not wait for a merge.
            threads.push(Thread::start(&db, "tidegauge-merge", every, Self::compact_or_warn)?);
            if let Fsync::Interval(interval) = fsync {
                // On its own: a round may take longer than the interval.
                threads.push(Thread::start(&db, "tidegauge-sync", interval, Self::sync_or_close)?);
            }
        }
        Ok(db)
    }

    /// Where the blocks end and the head begins.
    pub(crate) fn flushed(&self) -> i64 {
        self.flushed.load(Ordering::Acquire)
    }

    /// Shows another list of blocks, and where the head begins behind it. Views are made under the same lock.
    pub(crate) fn publish(&self, mut blocks: Vec<Arc<BlockReader>>, flushed: i64) {
        blocks.sort_by_key(|b| precedence(b.meta()));
        let _state = self.head.state.write();
        Metrics::set(&self.head.metrics.blocks, blocks.len() as u64);
        *self.blocks.write() = blocks.into();
        self.flushed.store(flushed, Ordering::Release);
    }

    /// Changes [`Options::out_of_order_ms`] for commits from now on; less than 0 is 0. What is stored stays.
    pub fn set_out_of_order_ms(&self, window_ms: i64) {
        self.head.out_of_order_ms.store(window_ms.max(0), Ordering::Relaxed);
    }

    /// Writes what is stored as blocks into a new folder under `snapshots/`, sharing files with the store's own
    /// blocks, and gives the folder's name.
    ///
    /// # Errors
    /// [`Error`] if it cannot be written; nothing of it is left then.
    pub fn snapshot(&self, head: SnapshotHead) -> Result<String, Error> {
        self.write_snapshot(head)
    }

    /// What the head holds, with at most `limit` entries in each list.
    pub fn stats(&self, limit: usize) -> Stats {
        let state = self.head.state.read();
        let index = state.index.read();
        let mut stats = Stats {
            num_series: index.len() as u64,
            num_label_pairs: index.pair_count() as u64,
            chunk_count: state.chunks(),
            min_time: state.oldest().map(Timestamp::from_millis),
            max_time: (state.newest != i64::MIN).then(|| Timestamp::from_millis(state.newest)),
            ..Stats::default()
        };
        for (name, values, bytes) in index.name_sizes() {
            stats.label_value_count_by_label_name.push((name.clone(), values));
            stats.memory_in_bytes_by_label_name.push((name, bytes));
        }
        for (name, value, series) in index.pair_sizes() {
            if name == tidegauge_model::reserved::METRIC_NAME {
                stats.series_count_by_metric_name.push((value.to_owned(), series));
            }
            stats
                .series_count_by_label_pair
                .push((format!("{name}={value}"), series));
        }
        for list in [
            &mut stats.series_count_by_metric_name,
            &mut stats.label_value_count_by_label_name,
            &mut stats.memory_in_bytes_by_label_name,
            &mut stats.series_count_by_label_pair,
        ] {
            list.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
            list.truncate(limit);
        }
        stats
    }

    /// Keeps at most so many exemplars from now on, the newest; 0 keeps none.
    pub fn set_max_exemplars(&self, max: usize) {
        self.head.exemplars.write().resize(max);
    }

    /// The store's counters and gauges.
    pub fn metrics(&self) -> &Metrics {
        &self.head.metrics
    }

    /// Stops maintenance, writes a checkpoint, syncs the log and releases the directory. Appends fail from then on; reads go on.
    ///
    /// # Errors
    /// [`Error`] if the log cannot be synced.
    pub fn close(&self) -> Result<(), Error> {
        self.closing.store(true, Ordering::Relaxed);
        let threads = std::mem::take(&mut *self.threads.lock());
        threads.into_iter().for_each(Thread::stop);
        if let Err(e) = self.last_checkpoint() {
            tracing::warn!(error = %e, cause = %cause(&e), "no checkpoint was written: the next start takes longer");
        }
        let _syncing = self.syncing.lock();
        let wal = self.log.lock().wal.take();
        let synced = wal.map_or(
            Ok(()),
            |mut wal| if wal.poisoned().is_some() { Ok(()) } else { wal.sync() },
        );
        drop(self.lock.lock().take());
        synced
    }

    /// Does one round of maintenance now: seal, write blocks, retain, cut the log. For tests and tools; the
    /// maintenance thread does it by itself. Blocks are merged by [`Db::compact`].
    ///
    /// # Errors
    /// [`Error`]: the round ends, the next one tries again.
    pub fn maintain(&self) -> Result<(), Error> {
        self.round()
    }

    /// Seals all open rows now, as maintenance does in time. For tests and tools.
    pub fn seal(&self) {
        self.seal_before(i64::MAX);
    }

    /// Forces the log to the disk.
    ///
    /// # Errors
    /// [`Error`]; the store takes no samples any more then.
    pub fn sync(&self) -> Result<(), Error> {
        let _syncing = self.syncing.lock();
        if self.head.options.fsync == Fsync::Always {
            // Commits sync as well: one of them must not miss a failure that was told here.
            return self.log.lock().wal.as_mut().map_or(Ok(()), Wal::sync);
        }
        let begun = match &self.log.lock().wal {
            Some(wal) => match wal.poisoned() {
                Some(why) => return Err(Error::Invalid { what: why.to_owned() }),
                None => wal.begin_sync(),
            },
            None => None,
        };
        let Some(begun) = begun else { return Ok(()) };
        // Commits go on while the disk works.
        let synced = begun.run();
        match &mut self.log.lock().wal {
            Some(wal) => wal.end_sync(&begun, synced),
            None => synced,
        }
    }
}

impl Drop for Db {
    fn drop(&mut self) {
        let threads = std::mem::take(self.threads.get_mut());
        threads.into_iter().for_each(Thread::stop);
    }
}

/// Limits that make no sense are refused before anything is touched.
fn check(options: &Options) -> Result<(), Error> {
    let invalid = |what: &str| Err(Error::Invalid { what: what.to_owned() });
    if options.block_ms <= 0 {
        return invalid("the width of blocks must be positive");
    }
    if options.max_block_ms < 0 || options.max_block_ms > 0 && options.max_block_ms < options.block_ms {
        return invalid("the widest block must not be narrower than the width of blocks");
    }
    if options.out_of_order_ms < 0 {
        return invalid("the out-of-order window must not be negative");
    }
    if options.retention_ms < 0 || options.max_future_ms < 0 {
        return invalid("retention and the bound on the future must not be negative");
    }
    Ok(())
}

impl Appendable for Db {
    fn appender(&self) -> Box<dyn Appender + '_> {
        Box::new(HeadAppender::new(self))
    }
}

impl ExemplarQueryable for Db {
    fn exemplars(
        &self,
        selectors: &[Vec<Matcher>],
        range: TimeRange,
        cx: &ReadContext,
    ) -> Result<Vec<SeriesExemplars>, SelectError> {
        let stored = self.head.exemplars.read().in_range(range);
        exemplar::select(&stored, selectors, cx)
    }
}

impl Queryable for Db {
    fn querier(&self, range: TimeRange) -> Result<Box<dyn Querier + '_>, SelectError> {
        Ok(Box::new(View::new(self, range)))
    }
}
