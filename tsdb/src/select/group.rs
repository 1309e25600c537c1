//! A group: series that share their parts, read one after another into one list of values.

use super::view::select_error;
use crate::block::{BlockReader, Run as BlockRun};
use crate::codec::Malformed;
use crate::head::State;
use crate::head::run::{Hidden, Run};
use crate::head::series::Index;
use crate::timeline::{NONE, OpenColumn, Presence as RowPresence, decode_changes, decode_open, holds};
use crate::tombstones::Intervals;
use parking_lot::RwLock;
use std::ops::Range;
use std::sync::Arc;
use tidegauge_model::{
    Column, ColumnBuf, Labels, Lease, Presence, ReadContext, SelectError, SeriesGroup, TimeRange, Timestamp, Values,
    is_stale,
};

pub(crate) fn malformed(error: &Malformed) -> SelectError {
    SelectError::Corrupt {
        path: "head".into(),
        offset: error.offset as u64,
        what: error.what.into(),
    }
}

/// An error in the bytes of a run.
pub(crate) fn in_run(run: &Run, error: &Malformed) -> SelectError {
    select_error(&run.corrupt(error))
}

/// What a series reads from one part of its group.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Cell {
    Block(BlockRun),
    /// The series' number in the head.
    Head(u32),
    /// Its open columns: a range of [`Group::open`].
    Open(u32, u32),
    /// All that the part has: it is of this series alone.
    Plain,
}

/// A source of samples: what cells of a column of the group read from.
#[derive(Debug)]
pub(crate) enum Source {
    Block(Arc<BlockReader>),
    Run {
        run: Arc<Run>,
        /// What the view must not see of it.
        hidden: Option<Arc<Hidden>>,
        renumbered: Vec<Arc<[u32]>>,
    },
    Open {
        group_of: Vec<u32>,
        presence: Vec<RowPresence>,
    },
    /// Late samples, or what was merged: a value for each time.
    Plain(Vec<f64>),
}

#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) source: Source,
    /// Which of the source's times lie in the range.
    pub(crate) clip: Range<usize>,
    /// Where they begin in the group's.
    pub(crate) at: usize,
    /// What of it was deleted, of each of the group's series.
    pub(crate) deleted: Option<Intervals>,
}

/// What a series is called by.
#[derive(Debug, Clone)]
pub(crate) enum Named {
    Labels(Labels),
    Head(u32),
}

/// Series with equal parts.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) times: Vec<Timestamp>,
    pub(crate) parts: Vec<Part>,
    pub(crate) names: Vec<Named>,
    /// `parts.len()` for each series.
    pub(crate) cells: Vec<Cell>,
    pub(crate) open: Vec<OpenColumn>,
    pub(crate) chains: Vec<u8>,
    pub(crate) index: Arc<RwLock<Index>>,
    pub(crate) _lease: Option<Lease>,
}

pub(crate) fn clip(times: &[Timestamp], range: TimeRange) -> Range<usize> {
    let start = times.partition_point(|t| *t < range.start);
    let end = times.partition_point(|t| *t <= range.end);
    start..end.max(start)
}

impl Group {
    pub(crate) fn copy_open(&mut self, state: &State, timeline: u32, series: u32) -> Cell {
        let first = self.open.len() as u32;
        if let Some(t) = state.timeline(timeline) {
            let here = state
                .columns_of(series)
                .filter(|(_, c)| c.timeline == timeline && c.place != NONE)
                .map(|(_, c)| c.place);
            let before = t.left.iter().filter(|(s, _)| *s == series).map(|(_, place)| *place);
            for place in here.chain(before) {
                if let Some(column) = t.copy_column(place, &mut self.chains) {
                    self.open.push(column);
                }
            }
        }
        Cell::Open(first, self.open.len() as u32 - first)
    }

    /// Puts the parts one behind another; where they overlap, every series becomes a group of its own, and of samples
    /// of one time that of the part given first stays.
    pub(crate) fn lay_out(mut self, part_times: &[Vec<Timestamp>], cx: &ReadContext) -> Result<Vec<Self>, SelectError> {
        // Time order of parts, cells with them.
        let start = |i: &usize| {
            let times = part_times.get(*i)?;
            times.get(self.parts.get(*i)?.clip.start).copied()
        };
        let mut order: Vec<usize> = (0..self.parts.len()).collect();
        order.sort_by_key(|i| start(i).unwrap_or(Timestamp::MAX));
        let own = |i: &usize| part_times.get(*i)?.get(self.parts.get(*i)?.clip.clone());
        let mut last = None;
        let apart = order.iter().filter_map(own).all(|times| {
            let apart = times.first().is_none_or(|first| last.is_none_or(|last| last < *first));
            last = times.last().copied().or(last);
            apart
        });
        if !apart {
            order = (0..self.parts.len()).collect();
        }
        let sorted = order.is_sorted();
        if !sorted {
            let n = self.parts.len();
            let cells = std::mem::take(&mut self.cells);
            self.cells = cells
                .chunks(n)
                .flat_map(|row| order.iter().filter_map(|i| row.get(*i).copied()))
                .collect();
            let mut parts: Vec<Option<Part>> = std::mem::take(&mut self.parts).into_iter().map(Some).collect();
            self.parts = order
                .iter()
                .filter_map(|i| parts.get_mut(*i).and_then(Option::take))
                .collect();
        }
        let mut times: Vec<Timestamp> = Vec::new();
        for (part, i) in self.parts.iter_mut().zip(&order) {
            let own = part_times
                .get(*i)
                .and_then(|t| t.get(part.clip.clone()))
                .unwrap_or_default();
            part.at = times.len();
            times.extend_from_slice(own);
        }
        if apart {
            self.times = times;
            return Ok(vec![self]);
        }
        self.times = times;
        let mut buf = ColumnBuf::default();
        (0..self.names.len())
            .map(|series| self.merged(series, &mut buf, cx))
            .collect()
    }

    /// One series of overlapping parts as a group with a part of its own.
    fn merged(&self, series: usize, buf: &mut ColumnBuf, cx: &ReadContext) -> Result<Self, SelectError> {
        cx.cancel.check()?;
        let n = self.parts.len();
        let cells = self.cells.get(series * n..(series + 1) * n).unwrap_or_default();
        let mut samples: Vec<(Timestamp, f64)> = Vec::new();
        // The sort keeps the order of parts: blocks by precedence, then the head, then late samples.
        for (part, cell) in self.parts.iter().zip(cells) {
            let mut sink = Sink::new(buf, Wanted::Values);
            self.read_left(part, *cell, &mut sink)?;
            let own = if sink.dense {
                self.times.get(part.at..).unwrap_or_default()
            } else {
                sink.timestamps.as_slice()
            };
            samples.extend(own.iter().copied().zip(sink.values.iter().copied()));
        }
        samples.sort_by_key(|s| s.0);
        samples.dedup_by_key(|s| s.0);
        let lease = cx.meter.lease(samples.len() as u64 * 16)?;
        let name = match self.names.get(series) {
            Some(Named::Labels(labels)) => Named::Labels(labels.clone()),
            Some(Named::Head(series)) => Named::Head(*series),
            None => Named::Head(NONE),
        };
        let (times, values): (Vec<Timestamp>, Vec<f64>) = samples.into_iter().unzip();
        Ok(Self {
            parts: vec![Part {
                clip: 0..times.len(),
                source: Source::Plain(values),
                at: 0,
                // What was deleted is left out already.
                deleted: None,
            }],
            times,
            names: vec![name],
            cells: vec![Cell::Plain],
            open: Vec::new(),
            chains: Vec::new(),
            index: Arc::clone(&self.index),
            _lease: Some(lease),
        })
    }
}

/// What a reader looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Values,
    /// When there are samples, and which are stale markers: [`ANY`] will do for all others.
    Presence,
}

/// Stands for values that nobody looks at.
const ANY: f64 = 1.0;

/// Values on their way into a lent buffer: timestamps of their own only once a value is missing.
struct Sink<'b> {
    wanted: Wanted,
    values: &'b mut Vec<f64>,
    timestamps: &'b mut Vec<Timestamp>,
    /// Which of a part's times have a value, while it is read.
    places: &'b mut Vec<u32>,
    dense: bool,
    has_stale: bool,
}

impl<'b> Sink<'b> {
    fn new(buf: &'b mut ColumnBuf, wanted: Wanted) -> Self {
        buf.values.clear();
        buf.timestamps.clear();
        Self {
            wanted,
            values: &mut buf.values,
            timestamps: &mut buf.timestamps,
            places: &mut buf.places,
            dense: true,
            has_stale: false,
        }
    }

    /// Whether it does not matter what values are that cannot be stale markers.
    fn takes_any(&self, may_be_stale: bool) -> bool {
        self.wanted == Wanted::Presence && !may_be_stale
    }

    /// A part holds fewer values than times: the `due` values in front of it get theirs, and from here on each value
    /// brings its own.
    fn go_sparse(&mut self, times: &[Timestamp], due: usize) {
        if self.dense {
            self.dense = false;
            self.timestamps.extend_from_slice(times.get(..due).unwrap_or_default());
        }
    }

    /// Puts the values from `from` on in order of their places; of several at one place the first stays.
    fn sort_places(&mut self, from: usize) {
        let values = self.values.get(from..).unwrap_or_default();
        let mut samples: Vec<(u32, f64)> = self.places.iter().copied().zip(values.iter().copied()).collect();
        samples.sort_by_key(|s| s.0);
        samples.dedup_by_key(|s| s.0);
        self.values.truncate(from);
        self.places.clear();
        self.values.extend(samples.iter().map(|s| s.1));
        self.places.extend(samples.iter().map(|s| s.0));
    }

    /// Takes out what was deleted of the values from `from` on; each has its time.
    fn cut(&mut self, from: usize, deleted: &Intervals) {
        let mut kept = from;
        for i in from..self.values.len() {
            let (Some(value), Some(at)) = (self.values.get(i).copied(), self.timestamps.get(i).copied()) else {
                break;
            };
            if deleted.contains(at) {
                continue;
            }
            if let (Some(v), Some(t)) = (self.values.get_mut(kept), self.timestamps.get_mut(kept)) {
                (*v, *t) = (value, at);
            }
            kept += 1;
        }
        self.values.truncate(kept);
        self.timestamps.truncate(kept);
    }
}

impl Group {
    /// Reads a part without what was deleted of it.
    fn read_left(&self, part: &Part, cell: Cell, sink: &mut Sink<'_>) -> Result<(), SelectError> {
        let Some(deleted) = &part.deleted else {
            return self.read_part(part, cell, sink);
        };
        let from = sink.values.len();
        sink.go_sparse(&self.times, from);
        self.read_part(part, cell, sink)?;
        sink.cut(from, deleted);
        Ok(())
    }

    fn read_part(&self, part: &Part, cell: Cell, sink: &mut Sink<'_>) -> Result<(), SelectError> {
        let times = self.times.get(part.at..part.at + part.clip.len()).unwrap_or_default();
        match (&part.source, cell) {
            (Source::Block(reader), Cell::Block(run)) => {
                let from = sink.values.len();
                if sink.takes_any(run.has_stale) {
                    sink.values.resize(from + part.clip.len(), ANY);
                } else {
                    reader.read_values(&run, sink.values).map_err(|e| select_error(&e))?;
                    keep(sink.values, from, &part.clip);
                }
                sink.has_stale |= run.has_stale;
                if !sink.dense {
                    sink.timestamps.extend_from_slice(times);
                }
                Ok(())
            }
            (
                Source::Run {
                    run,
                    hidden,
                    renumbered,
                },
                Cell::Head(series),
            ) => {
                let (series, clip) = in_run_of(renumbered, hidden.as_deref(), series, &part.clip);
                self.read_run(run, series, clip, times, sink)
            }
            (Source::Open { group_of, presence }, Cell::Open(first, count)) => {
                self.read_open(group_of, presence, first..first + count, part, times, sink)
            }
            (Source::Plain(values), Cell::Plain) => {
                sink.has_stale |= values.iter().any(|v| is_stale(*v));
                sink.values.extend_from_slice(values);
                if !sink.dense {
                    sink.timestamps.extend_from_slice(times);
                }
                Ok(())
            }
            _ => {
                sink.go_sparse(&self.times, sink.values.len());
                Ok(())
            }
        }
    }

    fn read_run(
        &self,
        run: &Run,
        series: u32,
        clip: Range<usize>,
        times: &[Timestamp],
        sink: &mut Sink<'_>,
    ) -> Result<(), SelectError> {
        let Some(column) = run.find(series).map_err(|e| in_run(run, &e))? else {
            sink.go_sparse(&self.times, sink.values.len());
            return Ok(());
        };
        let chunk = run.chunk(column).map_err(|e| in_run(run, &e))?;
        sink.has_stale |= chunk.has_stale;
        let from = sink.values.len();
        let any = sink.takes_any(chunk.has_stale);
        if chunk.dense && clip.len() == times.len() {
            if any {
                sink.values.resize(from + clip.len(), ANY);
            } else {
                chunk.values(run.rows, sink.values).map_err(|e| in_run(run, &e))?;
                keep(sink.values, from, &clip);
            }
            if !sink.dense {
                sink.timestamps.extend_from_slice(times);
            }
            return Ok(());
        }
        sink.go_sparse(&self.times, from);
        if !any {
            chunk.values(run.rows, sink.values).map_err(|e| in_run(run, &e))?;
        }
        // Places of the clip among the values, and the times of those.
        let (mut skip, mut taken) = (0, 0);
        for (start, end) in chunk.ranges(run.rows) {
            let (start, end) = (start as usize, end as usize);
            let inside = start.max(clip.start)..end.min(clip.end);
            skip += end.min(clip.start).saturating_sub(start);
            if inside.start < inside.end {
                let own = inside.start - clip.start..inside.end - clip.start;
                sink.timestamps.extend_from_slice(times.get(own).unwrap_or_default());
                taken += inside.len();
            }
        }
        if any {
            sink.values.resize(from + taken, ANY);
        } else {
            keep(sink.values, from, &(skip..skip + taken));
        }
        Ok(())
    }

    fn read_open(
        &self,
        group_of: &[u32],
        presence: &[RowPresence],
        columns: Range<u32>,
        part: &Part,
        times: &[Timestamp],
        sink: &mut Sink<'_>,
    ) -> Result<(), SelectError> {
        let columns = self
            .open
            .get(columns.start as usize..columns.end as usize)
            .unwrap_or_default();
        let from = sink.values.len();
        sink.places.clear();
        let (values, places) = (&mut *sink.values, &mut *sink.places);
        let mut has_stale = false;
        for column in columns {
            decode_open(column, self.chain(column), group_of.len() as u32, |row, value| {
                let group = group_of.get(row as usize).copied().unwrap_or(0);
                if part.clip.contains(&(group as usize))
                    && presence.get(row as usize).is_some_and(|p| holds(p, column.place))
                {
                    has_stale |= is_stale(value);
                    values.push(value);
                    places.push(group - part.clip.start as u32);
                }
            })
            .map_err(|e| malformed(&e))?;
        }
        sink.has_stale |= has_stale;
        if columns.len() > 1 {
            sink.sort_places(from);
        }
        if sink.places.len() != times.len() {
            sink.go_sparse(&self.times, from);
        }
        if !sink.dense {
            let own = sink.places.iter().filter_map(|place| times.get(*place as usize));
            sink.timestamps.extend(own);
        }
        Ok(())
    }
}

impl Group {
    fn column<'b>(&'b self, series: usize, buf: &'b mut ColumnBuf, wanted: Wanted) -> Result<Column<'b>, SelectError> {
        let mut sink = Sink::new(buf, wanted);
        for (part, cell) in self.parts.iter().zip(self.cells_of(series)) {
            self.read_left(part, *cell, &mut sink)?;
        }
        let (dense, has_stale) = (sink.dense, sink.has_stale);
        Ok(Column {
            timestamps: if dense { &self.times } else { &buf.timestamps },
            values: Values::Float(&buf.values),
            dense,
            has_stale,
        })
    }

    /// The changes of an open column.
    fn chain(&self, column: &OpenColumn) -> &[u8] {
        let (start, len) = (column.chain.0 as usize, column.chain.1 as usize);
        self.chains.get(start..start + len).unwrap_or_default()
    }

    /// A series' cell of each part.
    fn cells_of(&self, series: usize) -> &[Cell] {
        let n = self.parts.len();
        self.cells.get(series * n..(series + 1) * n).unwrap_or_default()
    }

    /// Whether a cell has a value at each time of its part, and none that is a stale marker. Only open rows and what was
    /// merged have to be looked at.
    fn is_full(&self, part: &Part, cell: Cell, buf: &mut ColumnBuf) -> Result<bool, SelectError> {
        if part.deleted.is_some() {
            return Ok(false);
        }
        match (&part.source, cell) {
            // Series with the span of the part have a value at each time of it.
            (Source::Block(_), Cell::Block(run)) => Ok(!run.has_stale),
            (
                Source::Run {
                    run,
                    hidden,
                    renumbered,
                },
                Cell::Head(series),
            ) => {
                let (series, clip) = in_run_of(renumbered, hidden.as_deref(), series, &part.clip);
                let Some(column) = run.find(series).map_err(|e| in_run(run, &e))? else {
                    return Ok(false);
                };
                // Most of its columns are asked for: what holds for all of them is found out once.
                if self.names.len() >= run.columns as usize / 2 && run.is_whole().map_err(|e| in_run(run, &e))? {
                    return Ok(clip == part.clip);
                }
                let chunk = run.chunk(column).map_err(|e| in_run(run, &e))?;
                Ok(chunk.dense && !chunk.has_stale && clip == part.clip)
            }
            (Source::Open { presence, .. }, Cell::Open(first, 1)) if presence.iter().all(Option::is_none) => {
                let Some(column) = self.open.get(first as usize) else {
                    return Ok(false);
                };
                let rows = presence.len() as u32;
                let mut stale = false;
                let changed = |rows: Range<u32>, value: f64| stale |= !rows.is_empty() && is_stale(value);
                decode_changes(column, self.chain(column), rows, changed).map_err(|e| malformed(&e))?;
                // There may be fewer times than rows, never more: who starts so early has a value at all of them.
                Ok(!stale && column.start as usize <= part.clip.start && column.end >= rows)
            }
            _ => {
                let mut sink = Sink::new(buf, Wanted::Presence);
                self.read_part(part, cell, &mut sink)?;
                Ok(!sink.has_stale && sink.dense && sink.values.len() == part.clip.len())
            }
        }
    }

    /// Whether something was deleted of its series.
    pub(crate) fn has_deleted(&self) -> bool {
        self.parts.iter().any(|p| p.deleted.is_some())
    }

    /// Lets go of series of which deletions leave nothing.
    pub(crate) fn drop_deleted(&mut self, cx: &ReadContext) -> Result<(), SelectError> {
        // Each series of a block's part has a value at each of its times; of the head's, one has to look.
        let left = |part: &Part| {
            let times = self.times.get(part.at..part.at + part.clip.len()).unwrap_or_default();
            match &part.deleted {
                Some(deleted) => deleted.leave_any(times),
                None => !times.is_empty(),
            }
        };
        if self
            .parts
            .iter()
            .any(|p| matches!(p.source, Source::Block(_)) && left(p))
        {
            return Ok(());
        }
        let mut keep = Vec::with_capacity(self.names.len());
        let mut buf = ColumnBuf::default();
        let any = self.parts.iter().any(left);
        for series in 0..self.names.len() {
            cx.cancel.check()?;
            keep.push(any && !self.read(series, &mut buf)?.timestamps.is_empty());
        }
        let n = self.parts.len();
        let mut cell = 0;
        self.cells.retain(|_| {
            let series = cell / n.max(1);
            cell += 1;
            keep.get(series).copied().unwrap_or(false)
        });
        let mut kept = keep.iter();
        self.names.retain(|_| kept.next().copied().unwrap_or(false));
        Ok(())
    }
}

/// What a run calls a series, and which rows of `clip` a view sees of it there.
fn in_run_of(
    renumbered: &[Arc<[u32]>],
    hidden: Option<&Hidden>,
    mut series: u32,
    clip: &Range<usize>,
) -> (u32, Range<usize>) {
    for old in renumbered {
        series = old.get(series as usize).copied().unwrap_or(NONE);
    }
    let mut clip = clip.clone();
    if let Some(hidden) = hidden
        && hidden.series.binary_search(&series).is_ok()
    {
        clip.end = clip.end.min(hidden.row as usize).max(clip.start);
    }
    (series, clip)
}

/// Of the values from `from` on, keeps those at the places of `clip`.
fn keep(values: &mut Vec<f64>, from: usize, clip: &Range<usize>) {
    values.truncate(from + clip.end);
    if clip.start > 0 {
        values.drain(from..(from + clip.start).min(values.len()));
    }
}

impl SeriesGroup for Group {
    fn timestamps(&self) -> &[Timestamp] {
        &self.times
    }

    fn len(&self) -> usize {
        self.names.len()
    }

    fn labels(&self, series: usize) -> Labels {
        match self.names.get(series) {
            Some(Named::Labels(labels)) => labels.clone(),
            Some(Named::Head(series)) => self.index.read().labels(*series),
            None => Labels::empty(),
        }
    }

    fn visit_labels(&self, series: usize, label: &mut dyn FnMut(&str, &str)) {
        match self.names.get(series) {
            Some(Named::Labels(labels)) => labels.iter().for_each(|(name, value)| label(name, value)),
            Some(Named::Head(series)) => self
                .index
                .read()
                .texts(*series)
                .for_each(|(name, value)| label(name, value)),
            None => {}
        }
    }

    fn chunks(&self, _series: usize) -> usize {
        self.parts.len()
    }

    fn read<'b>(&'b self, series: usize, buf: &'b mut ColumnBuf) -> Result<Column<'b>, SelectError> {
        self.column(series, buf, Wanted::Values)
    }

    fn presence<'b>(&'b self, series: usize, buf: &'b mut ColumnBuf) -> Result<Presence<'b>, SelectError> {
        let cells = self.cells_of(series);
        for (part, cell) in self.parts.iter().zip(cells) {
            if !self.is_full(part, *cell, buf)? {
                return self.column(series, buf, Wanted::Presence).map(Presence::Column);
            }
        }
        Ok(Presence::Full)
    }
}
