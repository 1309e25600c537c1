//! Maintenance: one thread that seals, writes blocks, lets go of what is old, and cuts the log; another that syncs it.

use crate::block::{self, BlockId, BlockRange, BlockReader, BlockSpec, BlockWriter, SeriesRun};
use crate::db::{Db, SnapshotHead};
use crate::directory::SNAPSHOTS;
use crate::head::State;
use crate::head::run::Run;
use crate::head::seal::window_start;
use crate::timeline::NONE;
use crate::wal::writer::{WriteError, cause};
use crate::{Error, Metrics};
use hashbrown::HashMap;
use parking_lot::{Condvar, Mutex};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tidegauge_model::Timestamp;

/// A timeline that got no row for so long is sealed.
const IDLE_MS: i64 = 10 * 60 * 1000;
/// The index is built anew when more than one series in so many is gone.
const DEAD_PART: usize = 8;

/// What a round leaves for the next.
#[derive(Debug, Default)]
pub(crate) struct Cleaning {
    /// Head samples before it lie in blocks; their runs go when readers of before are gone.
    runs: Option<(i64, Vec<Weak<()>>)>,
    /// Columns were marked; those that nobody took go when appenders of before are gone.
    columns: Option<(i64, Weak<()>)>,
}

/// A thread of the store's own. Sleeps most of the time; stopped by its owner.
#[derive(Debug)]
pub(crate) struct Thread {
    signal: Arc<(Mutex<bool>, Condvar)>,
    handle: JoinHandle<()>,
}

impl Thread {
    /// Does `job` every so often, as long as there is a store.
    pub(crate) fn start(db: &Arc<Db>, name: &str, every: Duration, job: fn(&Db)) -> Result<Self, Error> {
        let signal = Arc::new((Mutex::new(false), Condvar::new()));
        let (own, weak) = (Arc::clone(&signal), Arc::downgrade(db));
        let every = every.max(Duration::from_millis(1));
        let handle = std::thread::Builder::new()
            .name(name.into())
            .spawn(move || run(&own, &weak, every, job))
            .map_err(|e| Error::io("start maintenance for", &db.dir, e))?;
        Ok(Self { signal, handle })
    }

    pub(crate) fn stop(self) {
        *self.signal.0.lock() = true;
        self.signal.1.notify_all();
        // The last owner of the store may be this thread itself.
        if self.handle.thread().id() != std::thread::current().id() && self.handle.join().is_err() {
            tracing::error!("maintenance ended with a panic");
        }
    }
}

fn run(signal: &(Mutex<bool>, Condvar), db: &Weak<Db>, every: Duration, job: fn(&Db)) {
    let mut next = Instant::now() + every;
    loop {
        {
            let mut stop = signal.0.lock();
            while !*stop && !signal.1.wait_until(&mut stop, next).timed_out() {}
            if *stop {
                return;
            }
        }
        let Some(db) = db.upgrade() else { return };
        // From beginning to beginning; one that took longer is followed by the next at once.
        next = Instant::now() + every;
        job(&db);
    }
}

impl Db {
    /// What the thread that syncs does.
    pub(crate) fn sync_or_close(&self) {
        // A failed sync has been logged and has closed the log.
        let _synced = self.sync();
    }

    /// What the maintenance thread does.
    pub(crate) fn maintain_or_warn(&self) {
        if let Err(e) = self.round() {
            tracing::warn!(error = %e, cause = %cause(&e), "a round of maintenance failed; the next one tries again");
        }
    }

    /// One round: each step leaves the store whole.
    pub(crate) fn round(&self) -> Result<(), Error> {
        let mut cleaning = self.maintenance.lock();
        let done = self.steps(&mut cleaning);
        if done.is_err() {
            Metrics::add(&self.head.metrics.maintenance_failures, 1);
        }
        self.measure();
        done
    }

    fn steps(&self, cleaning: &mut Cleaning) -> Result<(), Error> {
        self.clean(cleaning);
        self.seal_idle();
        while let Some(start) = self.due_window() {
            self.write_window(start, cleaning)?;
        }
        self.retain()?;
        self.clean(cleaning);
        Ok(())
    }

    /// Seals timelines that no row comes to any more.
    fn seal_idle(&self) {
        let idle = {
            let state = self.head.state.read();
            let bound = state.newest.saturating_sub(IDLE_MS);
            numbers(&state, |t| !t.times.is_empty() && (t.newest < bound || t.live() == 0))
        };
        for timeline in idle {
            self.head.seal(timeline, &mut self.log.lock());
        }
    }

    /// Seals all open rows of timelines whose oldest one lies before `bound`.
    pub(crate) fn seal_before(&self, bound: i64) {
        let due = numbers(&self.head.state.read(), |t| {
            t.times.first().is_some_and(|first| *first < bound)
        });
        for timeline in due {
            self.head.seal(timeline, &mut self.log.lock());
        }
    }

    /// The start of the oldest window, if it is complete: half a window behind its end has begun to fill.
    fn due_window(&self) -> Option<i64> {
        let block_ms = self.head.options.block_ms;
        let state = self.head.state.read();
        let bound = self.flushed();
        let oldest = state
            .timelines
            .iter()
            .flatten()
            .flat_map(|t| t.runs.iter().map(|r| r.first).chain(t.times.first().copied()))
            .filter(|first| *first >= bound)
            .min()?;
        let start = window_start(oldest, block_ms);
        (state.newest.saturating_sub(start) > block_ms.saturating_add(block_ms / 2)).then_some(start)
    }

    /// Makes a block of one window and lets the head go of it.
    fn write_window(&self, start: i64, cleaning: &mut Cleaning) -> Result<(), Error> {
        let end = start.saturating_add(self.head.options.block_ms);
        {
            // From here on no row enters the window; those that are in it are sealed below.
            let _log = self.log.lock();
            let mut state = self.head.state.write();
            state.min_valid = state.min_valid.max(end);
        }
        self.seal_before(end);
        let range = BlockRange::new(Timestamp::from_millis(start), Timestamp::from_millis(end));
        let written = self.write_block(&self.dir, range)?;
        let mut blocks: Vec<Arc<BlockReader>> = self.blocks.read().to_vec();
        blocks.extend(written);
        self.publish(blocks, end);
        let runs = cleaning.runs.get_or_insert((end, Vec::new()));
        runs.0 = end;
        runs.1.push(self.readers.turn());
        let mut log = self.log.lock();
        if let Some(wal) = &mut log.wal {
            if wal.has_rows() {
                wal.rotate().map_err(|e| match e {
                    WriteError::Failed(e) => e,
                    WriteError::Poisoned(what) => Error::Invalid { what },
                })?;
            }
            wal.cut(end)?;
        }
        Ok(())
    }

    /// A name that no block has had: the clock may stand or go back.
    fn block_id(&self, parent: &Path) -> BlockId {
        let now = self.clock.now().millis().max(0).cast_unsigned();
        loop {
            let name = u128::from(self.names.fetch_add(1, Ordering::Relaxed));
            let id = BlockId::new(now, name << 64 | u128::from(std::process::id()));
            if !self.fs.exists(&parent.join(id.to_string())) {
                return id;
            }
        }
    }

    fn snapshot_name(&self, folder: &Path) -> String {
        let now = self.clock.now().millis();
        loop {
            let name = format!("{now}-{:08x}", self.names.fetch_add(1, Ordering::Relaxed));
            if !self.fs.exists(&folder.join(&name)) {
                return name;
            }
        }
    }

    /// Writes the sealed runs of a range as a block; `None` if there are none.
    fn write_block(&self, parent: &Path, range: BlockRange) -> Result<Option<Arc<BlockReader>>, Error> {
        let plan = BlockPlan::gather(&self.head.state.read(), range);
        if plan.is_empty() {
            return Ok(None);
        }
        let id = self.block_id(parent);
        let spec = BlockSpec {
            id,
            range,
            encoding: self.head.options.encoding,
            level: 0,
            parents: Vec::new(),
        };
        let writer = BlockWriter::create(&self.fs, parent, spec)?;
        plan.write(self, writer)?;
        Metrics::add(&self.head.metrics.blocks_written, 1);
        BlockReader::open(&self.fs, &parent.join(id.to_string()), &self.cache).map(Some)
    }

    /// Deletes blocks that are too old.
    fn retain(&self) -> Result<(), Error> {
        let keep_ms = self.head.options.retention_ms;
        let newest = self.head.state.read().newest;
        let newest = self
            .blocks
            .read()
            .iter()
            .map(|b| b.meta().last.millis())
            .chain([newest])
            .max();
        let Some(newest) = newest.filter(|n| keep_ms > 0 && *n != i64::MIN) else {
            return Ok(());
        };
        let bound = Timestamp::from_millis(newest.saturating_sub(keep_ms));
        let blocks = self.blocks.read().clone();
        let (keep, old): (Vec<_>, Vec<_>) = blocks.iter().cloned().partition(|b| b.meta().range.end > bound);
        if old.is_empty() {
            return Ok(());
        }
        self.publish(keep, self.flushed());
        for block in old {
            block::remove_block(&*self.fs, &self.dir, block.meta().id)?;
            Metrics::add(&self.head.metrics.blocks_deleted, 1);
        }
        Ok(())
    }

    /// Lets go of what is in blocks, as far as nobody uses it.
    fn clean(&self, cleaning: &mut Cleaning) {
        if let Some((bound, readers)) = &cleaning.runs
            && readers.iter().all(|r| r.strong_count() == 0)
        {
            let bound = *bound;
            cleaning.runs = None;
            let _log = self.log.lock();
            let mut state = self.head.state.write();
            state.drop_runs(bound);
            cleaning.columns.get_or_insert((bound, Weak::new())).0 = bound;
        }
        let Some((bound, appenders)) = &cleaning.columns else {
            return;
        };
        if appenders.strong_count() > 0 {
            return;
        }
        let bound = *bound;
        let _numbering = self.numbering.write();
        let mut log = self.log.lock();
        let mut state = self.head.state.write();
        let gone = state.drop_columns(bound);
        for column in &gone {
            if let Some(wal) = &mut log.wal {
                wal.book.forget(*column);
            }
        }
        let idle = state.drop_timelines();
        let marked = idle > 0
            || state
                .columns
                .iter()
                .any(|c| !c.free && c.doomed.load(Ordering::Relaxed));
        cleaning.columns = marked.then(|| (bound, self.appenders.turn()));
        let (dead, all) = (state.dead_series(), state.series.len());
        if !gone.is_empty()
            && dead > all / DEAD_PART
            && let Some(dropped) = state.renumber()
        {
            Metrics::add(&self.head.metrics.series_removed, dropped as u64);
        }
    }

    /// Brings the gauges up to date, and what the meter holds.
    pub(crate) fn measure(&self) {
        self.head.account();
        let metrics = &self.head.metrics;
        let state = self.head.state.read();
        Metrics::set(&metrics.series, state.index.read().len() as u64);
        Metrics::set(
            &metrics.timelines,
            (state.timelines.len() - state.free_timelines.len()) as u64,
        );
        Metrics::set(
            &metrics.columns,
            (state.columns.len() - state.free_columns.len()) as u64,
        );
        let runs = state.timelines.iter().flatten().flat_map(|t| &t.runs);
        Metrics::set(&metrics.run_bytes, runs.map(|r| r.heap_bytes() as u64).sum());
        Metrics::set(&metrics.min_time, state.oldest().unwrap_or(0).max(0).cast_unsigned());
        let newest = if state.newest == i64::MIN { 0 } else { state.newest };
        Metrics::set(&metrics.max_time, newest.max(0).cast_unsigned());
    }

    /// See [`Db::snapshot`].
    pub(crate) fn write_snapshot(&self, head: SnapshotHead) -> Result<String, Error> {
        let _maintenance = self.maintenance.lock();
        let folder = self.dir.join(SNAPSHOTS);
        let name = self.snapshot_name(&folder);
        let temporary = folder.join(format!("{name}.tmp"));
        let written = self.fill_snapshot(head, &temporary).and_then(|()| {
            self.fs.rename(&temporary, &folder.join(&name))?;
            self.fs.sync_dir(&folder)
        });
        if let Err(e) = written {
            if let Err(e) = self.fs.remove_dir_all(&temporary) {
                tracing::debug!(error = %e, "a part of a snapshot stays behind");
            }
            return Err(e);
        }
        Ok(name)
    }

    fn fill_snapshot(&self, head: SnapshotHead, folder: &Path) -> Result<(), Error> {
        self.fs.create_dir_all(folder)?;
        let blocks = self.blocks.read().clone();
        for block in blocks.iter() {
            block::link_block(&*self.fs, &self.dir, block.meta().id, folder)?;
        }
        if head == SnapshotHead::Include {
            self.seal_before(i64::MAX);
            let (oldest, newest) = {
                let state = self.head.state.read();
                (state.oldest(), state.newest)
            };
            // One block for all of it; the head of the store itself stays as it is.
            if let Some(oldest) = oldest.map(|t| t.max(self.flushed())).filter(|t| *t <= newest) {
                let end = newest.saturating_add(1);
                let range = BlockRange::new(Timestamp::from_millis(oldest), Timestamp::from_millis(end));
                self.write_block(folder, range)?;
            }
        }
        self.fs.sync_dir(folder)
    }
}

fn numbers(state: &State, wanted: impl Fn(&crate::timeline::Timeline) -> bool) -> Vec<u32> {
    (0u32..)
        .zip(&state.timelines)
        .filter(|(_, t)| t.as_ref().is_some_and(&wanted))
        .map(|(number, _)| number)
        .collect()
}

/// Runs of the head that become a block.
struct BlockPlan {
    range: BlockRange,
    /// By timeline.
    runs: HashMap<u32, Vec<Arc<Run>>>,
    /// Series in order of their labels.
    series: Vec<u32>,
}

/// A timeline as the block knows it, and where each run begins on it.
struct Laid {
    number: u32,
    starts: Vec<u32>,
    times: Vec<Timestamp>,
}

fn in_head(error: &crate::Malformed, path: &Path) -> Error {
    error.in_file(path, 0)
}

impl BlockPlan {
    fn gather(state: &State, range: BlockRange) -> Self {
        let (start, end) = (range.start.millis(), range.end.millis());
        let mut runs: HashMap<u32, Vec<Arc<Run>>> = HashMap::new();
        for (number, t) in (0u32..).zip(&state.timelines) {
            let own: Vec<Arc<Run>> = t
                .iter()
                .flat_map(|t| &t.runs)
                .filter(|r| r.first >= start && r.last < end)
                .cloned()
                .collect();
            if !own.is_empty() {
                runs.insert(number, own);
            }
        }
        let index = state.index.read();
        let mut series: Vec<u32> = (0..index.len() as u32)
            .filter(|s| state.series.get(*s as usize).is_some_and(|s| s.first != NONE))
            .collect();
        series.sort_by(|a, b| index.compare(*a, *b));
        Self { range, runs, series }
    }

    fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    fn lay(&self, db: &Db, writer: &mut BlockWriter) -> Result<HashMap<u32, Laid>, Error> {
        let mut laid = HashMap::with_capacity(self.runs.len());
        for (timeline, runs) in &self.runs {
            let (mut times, mut starts) = (Vec::new(), Vec::with_capacity(runs.len()));
            let mut own = Vec::new();
            for run in runs {
                own.clear();
                run.times(&mut own).map_err(|e| in_head(&e, &db.dir))?;
                // Two runs may share the time where one ends and the other begins.
                let shared = usize::from(times.last().is_some() && times.last() == own.first());
                starts.push((times.len() - shared) as u32);
                times.extend_from_slice(own.get(shared..).unwrap_or_default());
            }
            let number = writer.timeline(&times)?;
            laid.insert(*timeline, Laid { number, starts, times });
        }
        Ok(laid)
    }

    fn write(&self, db: &Db, mut writer: BlockWriter) -> Result<(), Error> {
        let laid = self.lay(db, &mut writer)?;
        let mut column = ColumnRuns::default();
        for series in &self.series {
            column.clear();
            let (labels, timelines) = {
                let state = db.head.state.read();
                let mut timelines: Vec<u32> = state
                    .columns_of(*series)
                    .map(|(_, c)| c.timeline)
                    .chain(state.left.range((*series, 0)..=(*series, NONE)).map(|(_, t)| *t))
                    .filter(|t| self.runs.contains_key(t))
                    .collect();
                timelines.sort_unstable();
                timelines.dedup();
                let mut epochs = HashMap::new();
                for run in timelines.iter().filter_map(|t| self.runs.get(t)).flatten() {
                    epochs
                        .entry(run.epoch)
                        .or_insert_with(|| state.series_in_epoch(*series, run.epoch).unwrap_or(NONE));
                }
                column.numbers = epochs;
                (state.index.read().labels(*series), timelines)
            };
            for timeline in &timelines {
                if let (Some(runs), Some(laid)) = (self.runs.get(timeline), laid.get(timeline)) {
                    column.add(runs, laid).map_err(|e| in_head(&e, &db.dir))?;
                }
            }
            if timelines.len() > 1 {
                column.merge(&mut writer)?;
            }
            column.ranges.retain(|r| r.values.1 > r.values.0);
            if column.ranges.is_empty() {
                continue;
            }
            let runs: Vec<SeriesRun<'_>> = column
                .ranges
                .iter()
                .map(|r| SeriesRun {
                    timeline: r.timeline,
                    first_row: r.first_row,
                    presence: None,
                    values: column.values.get(r.values.0..r.values.1).unwrap_or_default(),
                })
                .collect();
            writer.series(&labels, &runs)?;
        }
        let meta = writer.finish()?;
        let (from_ms, to_ms) = (self.range.start.millis(), self.range.end.millis());
        tracing::info!(block = %meta.id, series = meta.series, samples = meta.samples, from_ms, to_ms, "wrote a block");
        Ok(())
    }
}

/// Rows of one series that follow each other.
#[derive(Debug)]
struct RowRange {
    timeline: u32,
    first_row: u32,
    values: (usize, usize),
}

/// One series' values, gathered.
#[derive(Debug, Default)]
struct ColumnRuns {
    values: Vec<f64>,
    times: Vec<Timestamp>,
    ranges: Vec<RowRange>,
    numbers: HashMap<u64, u32>,
}

impl ColumnRuns {
    fn clear(&mut self) {
        self.values.clear();
        self.times.clear();
        self.ranges.clear();
    }

    fn add(&mut self, runs: &[Arc<Run>], laid: &Laid) -> Result<(), crate::Malformed> {
        for (run, start) in runs.iter().zip(&laid.starts) {
            let number = self.numbers.get(&run.epoch).copied().unwrap_or(NONE);
            let Some(column) = run.find(number) else { continue };
            let chunk = run.chunk(column)?;
            let mut from = self.values.len();
            chunk.values(run.rows, &mut self.values)?;
            for (first, end) in chunk.ranges(run.rows) {
                let count = (end - first) as usize;
                self.ranges.push(RowRange {
                    timeline: laid.number,
                    first_row: start + first,
                    values: (from, from + count),
                });
                from += count;
                let rows = (start + first) as usize..(start + end) as usize;
                self.times.extend_from_slice(laid.times.get(rows).unwrap_or_default());
            }
        }
        Ok(())
    }

    /// Samples of several timelines: in order of time on a timeline of their own, unless they follow each other.
    fn merge(&mut self, writer: &mut BlockWriter) -> Result<(), Error> {
        let mut samples: Vec<(Timestamp, f64)> = self.times.iter().copied().zip(self.values.iter().copied()).collect();
        if samples.is_sorted_by(|a, b| a.0 < b.0) {
            return Ok(());
        }
        samples.sort_by_key(|s| s.0);
        samples.dedup_by_key(|s| s.0);
        let times: Vec<Timestamp> = samples.iter().map(|s| s.0).collect();
        let timeline = writer.timeline(&times)?;
        self.values = samples.iter().map(|s| s.1).collect();
        self.ranges = vec![RowRange {
            timeline,
            first_row: 0,
            values: (0, samples.len()),
        }];
        Ok(())
    }
}
