//! Selectors: what the store gives, cut into parts for threads, and the newest sample of each step.
//!
//! ```text
//!   select --parts--> part 0: [ group 0: series 0.. ][ group 1 ]  --row--> sink 0 --finish-->
//!                     part 1: [ group 1 ][ group 2 ]              --row--> sink 1 --finish-->   in order of part
//! ```
//!
//! How work is cut into parts depends on the data alone, so the same query on the same data gives the same bits
//! however many threads take part.

use super::Cx;
use super::row::{MakeSink, Row, Who};
use super::table::is_present;
use crate::error::QueryError;
use crate::functions::extended;
use crate::parser::Extent;
use crate::plan::Select;
use crate::record::{Key, Leaf};
use crate::window::{Frame, Grid, NONE, Windowing, newest, spans};
use std::ops::Range;
use tidegauge_model::{ColumnBuf, Labels, Presence, SelectHints, SeriesGroup, SeriesSet, Timestamp, Values, is_stale};

/// A stretch of series of one group.
pub(crate) struct Piece {
    pub(crate) group: usize,
    pub(crate) series: Range<usize>,
}

/// How many parts a heavy query is cut into. Each may hold accumulators of its own, so there are few.
pub(crate) const PARTS: usize = 4;
/// From how much work on (samples and steps) it is cut.
const HEAVY: u64 = 150_000;
/// The most series of a group that go together.
const PIECE: usize = 64;
/// After how many series it is asked again whether to go on.
const CHECK_EVERY: usize = 16;

/// How many values per step a part works with.
pub(crate) const BUFFERS: usize = 5;

/// Cuts the series of a selection into parts of about equal work.
pub(crate) fn parts(set: &SeriesSet, steps: usize) -> Vec<Vec<Piece>> {
    let work = |group: &dyn SeriesGroup| (group.timestamps().len() + steps) as u64;
    let total: u64 = set.iter().map(|g| work(&**g) * g.len() as u64).sum();
    let count = if is_heavy(total) { PARTS } else { 1 };
    let share = total / count as u64 + 1;
    let mut parts: Vec<Vec<Piece>> = (0..count).map(|_| Vec::new()).collect();
    let mut done = 0u64;
    for (index, group) in set.iter().enumerate() {
        let mut start = 0;
        while start < group.len() {
            let end = (start + PIECE).min(group.len());
            let part = usize::try_from(done / share).unwrap_or(0).min(count - 1);
            parts[part].push(Piece {
                group: index,
                series: start..end,
            });
            done += work(&**group) * (end - start) as u64;
            start = end;
        }
    }
    parts
}

/// Whether so much work is cut into parts.
pub(crate) fn is_heavy(work: u64) -> bool {
    work >= HEAVY
}

/// Runs each part, with help from another thread if there are several, and gives the first error in order of part.
pub(crate) fn run(
    cx: &Cx<'_>,
    parts: &[Vec<Piece>],
    part: impl Fn(usize, &[Piece]) -> Result<(), QueryError> + Sync,
) -> Result<(), QueryError> {
    cx.helpers.share(parts.len(), |index| part(index, &parts[index]))
}

/// Asks now and then whether to go on: at the first series of a piece, and after some more.
pub(crate) fn check_now_and_then(cx: &Cx<'_>, piece: &Piece, series: usize) -> Result<(), QueryError> {
    if (series - piece.series.start).is_multiple_of(CHECK_EVERY) {
        cx.check()?;
    }
    Ok(())
}

/// Asks the store for the series of a selector.
pub(crate) fn select(
    cx: &Cx<'_>,
    select: &Select,
    frame: &Frame,
    func: &str,
    window_ms: i64,
) -> Result<SeriesSet, QueryError> {
    cx.check()?;
    let hints = SelectHints {
        range: frame.range(),
        step_ms: if frame.grid.len > 1 { frame.grid.step_ms } else { 0 },
        func: func.to_owned(),
        window_ms,
        labels_only: false,
    };
    let began = cx.recorder.begin();
    let set = cx.querier.select(&select.matchers, &hints, &cx.read)?;
    cx.recorder.selected(Key::select(select), &set, began);
    Ok(set)
}

/// A column's floats.
pub(crate) fn floats<'v>(values: &Values<'v>, labels: impl Fn() -> Labels) -> Result<&'v [f64], QueryError> {
    match values {
        Values::Float(values) => Ok(values),
        Values::Histogram([]) => Ok(&[]),
        Values::Histogram(_) => Err(QueryError::execution(format!(
            "native histograms cannot be evaluated yet, and {} is one",
            labels()
        ))),
    }
}

/// What of the newest sample is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Take {
    Value,
    /// Its time in seconds (`timestamp`).
    Time,
}

/// The rows of an instant selector.
pub(crate) fn instant_rows(
    cx: &Cx<'_>,
    selector: &Select,
    grid: Grid,
    take: Take,
    make: &MakeSink<'_>,
) -> Result<(), QueryError> {
    // Upstream's `timestamp` asks for samples by themselves, and does not look at these modifiers.
    let extent = selector.extent.filter(|_| take == Take::Value);
    if extent == Some(Extent::Anchored) {
        return Err(QueryError::execution(
            "anchored modifier can only be used with range vectors",
        ));
    }
    let frame = selector.instant_frame(grid, cx.lookback_ms, extent);
    let smoothed = extent == Some(Extent::Smoothed);
    // Without a function, and at one step, the newest sample of each series is all that is looked at.
    let set = select(cx, selector, &frame, if smoothed { "smoothed" } else { "" }, 0)?;
    let _room = cx.room(grid, PARTS * BUFFERS)?;
    let by_step = wants_steps(cx, &set, grid);
    run(cx, &parts(&set, grid.len), |part, pieces| {
        let mut sink = make(part);
        let mut buf = ColumnBuf::default();
        let (mut shared, mut own) = (Newest::default(), Newest::default());
        let mut row = vec![0.0; grid.len];
        let mut counts = StepCounts::new(cx, Key::select(selector), grid, by_step);
        for piece in pieces {
            let group = &*set[piece.group];
            for series in piece.series.clone() {
                check_now_and_then(cx, piece, series)?;
                let who = Who::stored(group, series);
                let column = match read(selector, group, series, &mut buf)? {
                    Presence::Column(column) => column,
                    Presence::Full => {
                        counts.read(0, true);
                        shared.find_of(piece.group, group.timestamps(), &frame);
                        let row = shared.presence(take, group.timestamps());
                        if counts.present(row)? {
                            sink.row(&who, row)?;
                        }
                        continue;
                    }
                };
                let values = floats(&column.values, || group.labels(series))?;
                if values.is_empty() {
                    continue;
                }
                let mut full = false;
                counts.read(values.len(), column.dense && !smoothed);
                if smoothed {
                    smoothed_row(column.timestamps, values, &frame, &mut row);
                } else {
                    let found = if column.dense {
                        shared.find_of(piece.group, column.timestamps, &frame);
                        &shared
                    } else {
                        own.find(column.timestamps, &frame);
                        &own
                    };
                    full = found.all && !column.has_stale;
                    found.take(values, &mut row);
                    if take == Take::Time {
                        found.times(column.timestamps, &mut row);
                    }
                }
                let row = Row { values: &row, full };
                if counts.present(row)? {
                    sink.row(&who, row)?;
                }
            }
        }
        counts.finish();
        sink.finish()
    })
}

/// Reads a series; if nobody looks at its values, only when it has some.
pub(crate) fn read<'b>(
    selector: &Select,
    group: &'b dyn SeriesGroup,
    series: usize,
    buf: &'b mut ColumnBuf,
) -> Result<Presence<'b>, QueryError> {
    if selector.presence_only {
        return Ok(group.presence(series, buf)?);
    }
    Ok(Presence::Column(group.read(series, buf)?))
}

/// The newest sample of each step.
#[derive(Debug, Default)]
struct Newest {
    indices: Vec<u32>,
    /// Whether each step has one.
    all: bool,
    /// The group whose timestamps these are of.
    of: Option<usize>,
    /// A row that has a value wherever there is one, once it was asked for.
    row: Vec<f64>,
}

impl Newest {
    fn find(&mut self, timestamps: &[Timestamp], frame: &Frame) {
        newest(timestamps, frame, &mut self.indices);
        self.row.clear();
        self.all = self.indices.iter().all(|index| *index != NONE);
    }

    /// As [`Newest::find`] for the timestamps of a group, which are looked at once.
    fn find_of(&mut self, group: usize, timestamps: &[Timestamp], frame: &Frame) {
        if self.of != Some(group) {
            self.find(timestamps, frame);
            self.of = Some(group);
        }
    }

    /// The row of a series that has a sample at each of these times, of which nobody looks at the value.
    fn presence(&mut self, take: Take, timestamps: &[Timestamp]) -> Row<'_> {
        if self.row.is_empty() {
            let present = |index: &u32| if *index == NONE { super::ABSENT } else { 1.0 };
            self.row.extend(self.indices.iter().map(present));
            if take == Take::Time {
                let mut row = std::mem::take(&mut self.row);
                self.times(timestamps, &mut row);
                self.row = row;
            }
        }
        Row {
            values: &self.row,
            full: self.all,
        }
    }

    /// Puts the times of samples in place of their values.
    fn times(&self, timestamps: &[Timestamp], row: &mut [f64]) {
        for (cell, index) in row.iter_mut().zip(&self.indices) {
            if is_present(*cell) {
                *cell = timestamps[*index as usize].seconds();
            }
        }
    }

    fn take(&self, values: &[f64], row: &mut [f64]) {
        for (cell, index) in row.iter_mut().zip(&self.indices) {
            // No sample has the number that stands for none.
            *cell = values.get(*index as usize).copied().unwrap_or(super::ABSENT);
        }
    }
}

fn smoothed_row(timestamps: &[Timestamp], values: &[f64], frame: &Frame, row: &mut [f64]) {
    let mut kept = (Vec::new(), Vec::new());
    let (timestamps, values) = without_stale(timestamps, values, &mut kept);
    let mut found = Vec::new();
    spans(timestamps, frame, &mut found);
    for (step, (cell, (first, end))) in row.iter_mut().zip(&found).enumerate() {
        let window = *first as usize..*end as usize;
        *cell = extended::smoothed_value(&timestamps[window.clone()], &values[window], frame.right(step));
    }
}

/// The samples that are no stale markers.
pub(crate) fn without_stale<'a>(
    timestamps: &'a [Timestamp],
    values: &'a [f64],
    kept: &'a mut (Vec<Timestamp>, Vec<f64>),
) -> (&'a [Timestamp], &'a [f64]) {
    if !values.iter().any(|v| is_stale(*v)) {
        return (timestamps, values);
    }
    kept.0.clear();
    kept.1.clear();
    for (t, v) in timestamps.iter().zip(values) {
        if !is_stale(*v) {
            kept.0.push(*t);
            kept.1.push(*v);
        }
    }
    (&kept.0, &kept.1)
}

/// Whether values of a selection are to be counted by step.
pub(crate) fn wants_steps(cx: &Cx<'_>, set: &SeriesSet, grid: Grid) -> bool {
    let series: usize = set.iter().map(|group| group.len()).sum();
    cx.wants_steps((series as u64).saturating_mul(grid.len as u64))
}

/// Counts what one part reads, looks at and gives.
pub(crate) struct StepCounts<'c, 'q> {
    cx: &'c Cx<'q>,
    key: Key,
    counted: Leaf,
}

impl<'c, 'q> StepCounts<'c, 'q> {
    /// `by_step`: samples and values are counted by step, too.
    pub(crate) fn new(cx: &'c Cx<'q>, key: Key, grid: Grid, by_step: bool) -> Self {
        let by_step = by_step.then(|| vec![0; grid.len]);
        Self {
            cx,
            key,
            counted: Leaf {
                seen_by_step: by_step.clone(),
                values_by_step: by_step,
                ..Leaf::default()
            },
        }
    }

    /// Counts a series that was decoded, and whether it uses the windows of its timeline.
    pub(crate) fn read(&mut self, samples: usize, shared: bool) {
        self.counted.read += samples as u64;
        if shared {
            self.counted.windows_shared += 1;
        } else {
            self.counted.windows_own += 1;
        }
    }

    /// Counts the values of a row, each of which is a sample looked at; whether there is any.
    ///
    /// # Errors
    /// There are more than a query may hold.
    pub(crate) fn present(&mut self, row: Row<'_>) -> Result<bool, QueryError> {
        let values = row.present() as u64;
        self.counted.seen += values;
        if let Some(by_step) = &mut self.counted.seen_by_step {
            row.count_into(by_step);
        }
        self.gave_values(row, values)
    }

    /// Counts what windows hold.
    pub(crate) fn windows(&mut self, windows: &Windowing) {
        let counted = &mut self.counted;
        counted.seen += windows.total;
        if let Some(by_step) = &mut counted.seen_by_step {
            for (n, (first, end)) in by_step.iter_mut().zip(&windows.spans) {
                *n += u64::from(end - first);
            }
        }
        let last = windows.spans.last().map_or(0, |(first, end)| u64::from(end - first));
        counted.last_window = counted.last_window.max(last);
    }

    /// Counts the values that a row gives; whether there is any.
    ///
    /// # Errors
    /// There are more than a query may hold.
    pub(crate) fn gave(&mut self, row: Row<'_>) -> Result<bool, QueryError> {
        self.gave_values(row, row.present() as u64)
    }

    /// As [`StepCounts::gave`], for who has counted the row's values.
    fn gave_values(&mut self, row: Row<'_>, values: u64) -> Result<bool, QueryError> {
        self.counted.values += values;
        if let Some(by_step) = &mut self.counted.values_by_step {
            row.count_into(by_step);
        }
        self.counted.rows += u64::from(values > 0);
        self.cx.allows(self.counted.values)?;
        Ok(values > 0)
    }

    pub(crate) fn finish(self) {
        self.cx.recorder.leaf(self.key, |leaf| leaf.add(self.counted));
    }
}
