//! From the head to blocks: which window is due, and a block of its runs.

use crate::block::{BlockId, BlockRange, BlockReader, BlockSpec, BlockWriter, HistogramRun, SeriesRun};
use crate::column::MAX_VALUES;
use crate::db::Db;
use crate::head::State;
use crate::head::deleted::HeadTombstones;
use crate::head::histogram::HistogramRun as HeadHistograms;
use crate::head::late::{Late, LateSample};
use crate::head::run::Run;
use crate::head::seal::window_start;
use crate::maintain::Cleaning;
use crate::timeline::NONE;
use crate::tombstones::Intervals;
use crate::wal::record;
use crate::{Error, Metrics};
use hashbrown::HashMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tidegauge_model::{Histogram, Timestamp};

impl Db {
    /// The start of the oldest window, if it is complete: half a window behind its end has begun to fill.
    pub(crate) fn due_window(&self) -> Option<i64> {
        let block_ms = self.head.options.block_ms;
        let state = self.head.state.read();
        let start = window_start(self.oldest_row(&state)?, block_ms);
        (state.newest.saturating_sub(start) > block_ms.saturating_add(block_ms / 2)).then_some(start)
    }

    /// The time of the oldest row or histogram that no block holds.
    fn oldest_row(&self, state: &State) -> Option<i64> {
        let bound = self.flushed();
        let timelines = state.timelines.iter().flatten();
        let all = timelines.flat_map(|t| t.runs.iter().map(|r| r.first).chain(t.times.first().copied()));
        all.filter(|first| *first >= bound)
            .chain(state.histograms.oldest_from(bound))
            .min()
    }

    /// Where the windows end that no row is in or will come to, unless a block holds it.
    pub(crate) fn late_bound(&self) -> i64 {
        let block_ms = self.head.options.block_ms;
        let state = self.head.state.read();
        let open = self.oldest_row(&state);
        let open = open.map(|oldest| oldest.min(state.newest.saturating_sub(block_ms / 2)));
        open.map_or(i64::MIN, |open| window_start(open, block_ms))
            .max(self.flushed())
    }

    /// Makes a block of one window and lets the head go of it.
    pub(crate) fn write_window(&self, start: i64, cleaning: &mut Cleaning) -> Result<(), Error> {
        let end = start.saturating_add(self.head.options.block_ms);
        let late = {
            // From here on no row enters the window; those that are in it are sealed below. Late samples that come from
            // here on wait for a block of their own.
            let _log = self.log.lock();
            let mut state = self.head.state.write();
            state.min_valid = state.min_valid.max(end);
            state.late.clone()
        };
        self.seal_before(end);
        self.sync_late(&late)?;
        let range = BlockRange::new(Timestamp::from_millis(start), Timestamp::from_millis(end));
        let written = self.write_block(&self.dir, range, &late, Content::All)?;
        if written.is_none() {
            // All of it was deleted. No block tells the next start that the window is done with: a checkpoint of before
            // would bring its rows back, and what deleted them may leave the log below.
            self.drop_checkpoints()?;
        }
        let mut blocks: Vec<Arc<BlockReader>> = self.blocks.read().to_vec();
        blocks.extend(written);
        self.publish(blocks, end);
        let runs = cleaning.runs.get_or_insert((end, Vec::new()));
        runs.0 = end;
        runs.1.push(self.readers.turn());
        self.drop_late(&late, start..end, cleaning)?;
        self.cut_log()
    }

    /// Makes blocks of the late samples whose windows no row comes to any more.
    pub(crate) fn write_late(&self, cleaning: &mut Cleaning) -> Result<(), Error> {
        let (bound, block_ms) = (self.late_bound(), self.head.options.block_ms);
        let late = self.head.state.read().late.clone();
        let windows = late.windows(bound, block_ms).map_err(|e| e.in_file(&self.dir, 0))?;
        let Some(first) = windows.first().copied() else {
            return Ok(());
        };
        self.sync_late(&late)?;
        let (mut done, mut written) = (first, Ok(()));
        for start in windows {
            let end = start.saturating_add(block_ms).min(bound);
            let range = BlockRange::new(Timestamp::from_millis(start), Timestamp::from_millis(end));
            match self.write_block(&self.dir, range, &late, Content::Late) {
                Ok(block) => {
                    // Until they leave the head, views find these samples twice, which are one to them.
                    let mut blocks: Vec<Arc<BlockReader>> = self.blocks.read().to_vec();
                    blocks.extend(block);
                    self.publish(blocks, self.flushed().max(end));
                    Metrics::add(&self.head.metrics.late_blocks, 1);
                    done = end;
                }
                Err(e) => {
                    written = Err(e);
                    break;
                }
            }
        }
        self.drop_late(&late, first..done, cleaning)?;
        written?;
        self.cut_log()
    }

    /// Late samples may reach a block before the log of their commit reaches the disk: a power cut must not halve it.
    fn sync_late(&self, late: &Late) -> Result<(), Error> {
        if late.is_empty() { Ok(()) } else { self.sync() }
    }

    /// Lets the head go of late samples that blocks have: those of `taken` in `range`. The log is told, so that they do
    /// not come back when it is read.
    fn drop_late(&self, taken: &Late, range: Range<i64>, cleaning: &mut Cleaning) -> Result<(), Error> {
        let mut guard = self.log.lock();
        let log = &mut *guard;
        let rest = {
            let mut state = self.head.state.write();
            let lost = state.late.take_out(taken, range.clone());
            let lost = lost.map_err(|e| e.in_file(&self.dir, 0))?;
            if lost.is_empty() {
                return Ok(());
            }
            state.late_leaving.extend(lost);
            state.late_appends(&range).map_err(|e| e.in_file(&self.dir, 0))?
        };
        let runs = cleaning.runs.get_or_insert((self.flushed(), Vec::new()));
        runs.1.push(self.readers.turn());
        let Some(wal) = &mut log.wal else { return Ok(()) };
        wal.prepare()?;
        let mut told = Vec::new();
        {
            let state = self.head.state.read();
            record::encode_late_done(&range, &rest, &state, &state.index.read(), &mut wal.book, &mut told);
        }
        let newest = rest.iter().map(|l| l.at).max();
        wal.append(&told, newest.unwrap_or(i64::MIN), newest.is_some())?;
        // The log may be cut where they stood before.
        newest.map_or(Ok(()), |_| wal.sync())
    }

    /// Deletes the segments of the log that hold nothing but what blocks have.
    fn cut_log(&self) -> Result<(), Error> {
        let flushed = self.flushed();
        let mut log = self.log.lock();
        let Some(wal) = &mut log.wal else { return Ok(()) };
        wal.begin_segment()?;
        let late = self.head.state.read().late.oldest();
        if late.is_none_or(|oldest| oldest >= flushed) {
            wal.late_is_in_blocks();
        }
        wal.cut(flushed)
    }

    /// A name behind those of all blocks, whatever the clock says: of several samples of one time, readers take that of
    /// the oldest block.
    pub(crate) fn block_id(&self, parent: &Path) -> BlockId {
        let now = self.clock.now().millis().max(0).cast_unsigned();
        let name = u128::from(self.names.fetch_add(1, Ordering::Relaxed));
        let mut id = BlockId::new(now, name << 64 | u128::from(std::process::id()));
        let newest = self.blocks.read().iter().map(|b| b.meta().id).max();
        while newest.is_some_and(|newest| newest >= id) || self.fs.exists(&parent.join(id.to_string())) {
            // The clock went back, or stands still. A block that is being made meanwhile takes another step.
            let last = newest.map_or(id, |newest| newest.max(id));
            id = BlockId::from_bits(last.bits().wrapping_add(1 + name));
        }
        id
    }

    /// Writes what the head holds of a range as a block, without what was deleted; `None` if nothing is left.
    pub(crate) fn write_block(
        &self,
        parent: &Path,
        range: BlockRange,
        late: &Late,
        content: Content,
    ) -> Result<Option<Arc<BlockReader>>, Error> {
        let plan = BlockPlan::gather(&self.head.state.read(), range, late, content);
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
        let begun = BlockWriter::create(&self.fs, parent, spec);
        let written = begun.and_then(|mut writer| {
            if !plan.histograms.is_empty() {
                writer = writer.with_histograms();
            }
            plan.write(self, writer)
        });
        let written = written.inspect_err(|_| self.leftovers.note_unfinished())?;
        plan.forget_cached();
        if !written {
            return Ok(None);
        }
        Metrics::add(&self.head.metrics.blocks_written, 1);
        let opened = BlockReader::open(&self.fs, &parent.join(id.to_string()), &self.cache);
        opened.map(Some).inspect_err(|_| self.leftovers.add([id]))
    }
}

/// What of the head a block gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    /// Sealed runs and late samples.
    All,
    /// Late samples: the runs are in a block.
    Late,
}

/// What of the head becomes a block.
struct BlockPlan<'a> {
    range: BlockRange,
    /// By timeline.
    runs: HashMap<u32, Vec<Arc<Run>>>,
    late: &'a Late,
    /// Series in order of their labels.
    series: Vec<u32>,
    deleted: Arc<HeadTombstones>,
    /// By series.
    histograms: HashMap<u32, Vec<Arc<HeadHistograms>>>,
}

/// A timeline as the block knows it, and where each run begins on it.
struct Laid {
    number: u32,
    starts: Vec<u32>,
    times: Vec<Timestamp>,
}

/// The timeline of a series' histograms in the block, and they.
type LaidHistograms = (u32, Vec<Arc<Histogram>>);

impl<'a> BlockPlan<'a> {
    fn gather(state: &State, range: BlockRange, late: &'a Late, content: Content) -> Self {
        let (start, end) = (range.start.millis(), range.end.millis());
        let mut runs: HashMap<u32, Vec<Arc<Run>>> = HashMap::new();
        for (number, t) in (0u32..).zip(&state.timelines) {
            let own: Vec<Arc<Run>> = t
                .iter()
                .flat_map(|t| &t.runs)
                .filter(|r| content == Content::All && r.first >= start && r.last < end)
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
        if content == Content::Late {
            series.retain(|s| late.overlaps(*s, start, end.saturating_sub(1)));
        }
        series.sort_by(|a, b| index.compare(*a, *b));
        let deleted = state.deleted.current();
        let numbers = state.histograms.numbers().filter(|_| content == Content::All);
        let histograms = numbers.map(|series| (series, state.histograms.runs_in(series, start, end)));
        Self {
            range,
            runs,
            late,
            series,
            deleted,
            histograms: histograms.filter(|(_, runs)| !runs.is_empty()).collect(),
        }
    }

    fn is_empty(&self) -> bool {
        let (start, last) = (self.range.start.millis(), self.range.end.millis().saturating_sub(1));
        self.runs.is_empty()
            && self.histograms.is_empty()
            && !self.series.iter().any(|s| self.late.overlaps(*s, start, last))
    }

    /// The histograms of a series, and the timeline they make in the block.
    fn histograms(
        &self,
        series: u32,
        deleted: Option<&Intervals>,
        db: &Db,
        writer: &mut BlockWriter,
    ) -> Result<Option<LaidHistograms>, Error> {
        let Some(runs) = self.histograms.get(&series) else {
            return Ok(None);
        };
        let (mut times, mut values) = (Vec::new(), Vec::new());
        for run in runs {
            run.times(&mut times).map_err(|e| e.in_file(&db.dir, 0))?;
            run.histograms(&mut values).map_err(|e| e.in_file(&db.dir, 0))?;
        }
        if let Some(deleted) = deleted {
            let left = times.into_iter().zip(values).filter(|(at, _)| !deleted.contains(*at));
            (times, values) = left.unzip();
            if times.is_empty() {
                return Ok(None);
            }
        }
        // Equal timelines are kept once: histograms that come together share theirs.
        Ok(Some((writer.timeline(&times)?, values)))
    }

    /// The runs' files were read from end to end and will hardly be again.
    fn forget_cached(&self) {
        let runs = self.runs.values().flatten();
        let files: HashMap<u64, _> = runs.filter_map(|r| r.file()).map(|(f, _)| (f.number, f)).collect();
        files.values().for_each(|f| f.forget_cached());
    }

    fn lay(&self, writer: &mut BlockWriter) -> Result<HashMap<u32, Laid>, Error> {
        let mut laid = HashMap::with_capacity(self.runs.len());
        for (timeline, runs) in &self.runs {
            let (mut times, mut starts) = (Vec::new(), Vec::with_capacity(runs.len()));
            let mut own = Vec::new();
            for run in runs {
                own.clear();
                run.times(&mut own).map_err(|e| run.corrupt(&e))?;
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

    /// Writes all series; whether there is a block of them.
    fn write(&self, db: &Db, mut writer: BlockWriter) -> Result<bool, Error> {
        let laid = self.lay(&mut writer)?;
        let mut column = ColumnRuns::default();
        let mut any = false;
        for series in &self.series {
            column.clear();
            let (labels, timelines, deleted) = {
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
                let deleted = self.deleted.get(&state, *series).cloned();
                (state.index.read().labels(*series), timelines, deleted)
            };
            for timeline in &timelines {
                if let (Some(runs), Some(laid)) = (self.runs.get(timeline), laid.get(timeline)) {
                    column.add(runs, laid)?;
                }
            }
            if let Some(deleted) = &deleted {
                column.cut(deleted);
            }
            // Late samples that were deleted are gone from where they are kept.
            let range = self.range.start.millis()..self.range.end.millis();
            let late = self.late.read(*series, range).map_err(|e| e.in_file(&db.dir, 0))?;
            if timelines.len() > 1 || !late.is_empty() {
                column.merge(&late, &mut writer)?;
            }
            column.ranges.retain(|r| r.values.1 > r.values.0);
            let histograms = self.histograms(*series, deleted.as_ref(), db, &mut writer)?;
            if column.ranges.is_empty() && histograms.is_none() {
                continue;
            }
            any = true;
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
            let histograms = histograms.as_ref().map(|(timeline, values)| HistogramRun {
                timeline: *timeline,
                first_row: 0,
                presence: None,
                values,
            });
            writer.series_of_kinds(&labels, &runs, histograms.as_slice())?;
        }
        if !any {
            // Dropped, the writer takes away what it began.
            return Ok(false);
        }
        let meta = writer.finish()?;
        let (from_ms, to_ms) = (self.range.start.millis(), self.range.end.millis());
        tracing::info!(block = %meta.id, series = meta.series, samples = meta.samples, from_ms, to_ms, "wrote a block");
        Ok(true)
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

    fn add(&mut self, runs: &[Arc<Run>], laid: &Laid) -> Result<(), Error> {
        for (run, start) in runs.iter().zip(&laid.starts) {
            let number = self.numbers.get(&run.epoch).copied().unwrap_or(NONE);
            let Some(column) = run.find(number).map_err(|e| run.corrupt(&e))? else {
                continue;
            };
            let chunk = run.chunk(column).map_err(|e| run.corrupt(&e))?;
            let mut from = self.values.len();
            chunk.values(run.rows, &mut self.values).map_err(|e| run.corrupt(&e))?;
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

    /// Leaves out what was deleted. Ranges are of one timeline each, so times rise in them.
    fn cut(&mut self, deleted: &Intervals) {
        let (values, times) = (std::mem::take(&mut self.values), std::mem::take(&mut self.times));
        for range in std::mem::take(&mut self.ranges) {
            let mut goes_on = false;
            for (row, at) in (range.first_row..).zip(range.values.0..range.values.1) {
                let (Some(value), Some(time)) = (values.get(at), times.get(at)) else {
                    break;
                };
                if deleted.contains(*time) {
                    goes_on = false;
                    continue;
                }
                self.values.push(*value);
                self.times.push(*time);
                let end = self.values.len();
                match self.ranges.last_mut().filter(|_| goes_on) {
                    Some(last) => last.values.1 = end,
                    None => self.ranges.push(RowRange {
                        timeline: range.timeline,
                        first_row: row,
                        values: (end - 1, end),
                    }),
                }
                goes_on = true;
            }
        }
    }

    /// Samples of several timelines and late ones: in order of time on a timeline of their own, unless they follow each
    /// other. Of a late sample and one in order at the same time, the latter stays.
    fn merge(&mut self, late: &[LateSample], writer: &mut BlockWriter) -> Result<(), Error> {
        let mut samples: Vec<(Timestamp, f64)> = self.times.iter().copied().zip(self.values.iter().copied()).collect();
        if late.is_empty() && samples.is_sorted_by(|a, b| a.0 < b.0) {
            return Ok(());
        }
        samples.extend(late.iter().map(|(at, value)| (Timestamp::from_millis(*at), *value)));
        samples.sort_by_key(|s| s.0);
        samples.dedup_by_key(|s| s.0);
        let times: Vec<Timestamp> = samples.iter().map(|s| s.0).collect();
        self.values = samples.iter().map(|s| s.1).collect();
        self.ranges.clear();
        for (nth, times) in times.chunks(MAX_VALUES).enumerate() {
            let from = nth * MAX_VALUES;
            self.ranges.push(RowRange {
                timeline: writer.timeline(times)?,
                first_row: 0,
                values: (from, from + times.len()),
            });
        }
        Ok(())
    }
}
