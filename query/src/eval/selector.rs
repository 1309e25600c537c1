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
use super::row::{MakeSink, Who};
use super::table::is_present;
use crate::error::QueryError;
use crate::functions::extended;
use crate::parser::Extent;
use crate::plan::Select;
use crate::record::{Key, Leaf};
use crate::window::{Frame, Grid, NONE, Span, newest, spans};
use rayon::prelude::*;
use std::ops::Range;
use tidegauge_model::{ColumnBuf, Labels, SelectHints, SeriesGroup, SeriesSet, Timestamp, Values, is_stale};

/// A stretch of series of one group.
pub(crate) struct Piece {
    pub(crate) group: usize,
    pub(crate) series: Range<usize>,
}

/// How many parts a heavy query is cut into. Each may hold accumulators of its own, so there are few.
pub(crate) const PARTS: usize = 4;
/// From how much work on (samples and steps) it is cut.
const HEAVY: u64 = 150_000;
/// The most series of a group that go together; each piece finds the windows of its timeline anew.
const PIECE: usize = 64;

/// How many values per step a part works with.
pub(crate) const BUFFERS: usize = 5;

/// Cuts the series of a selection into parts of about equal work.
pub(crate) fn parts(set: &SeriesSet, steps: usize) -> Vec<Vec<Piece>> {
    let work = |group: &dyn SeriesGroup| (group.timestamps().len() + steps) as u64;
    let total: u64 = set.iter().map(|g| work(&**g) * g.len() as u64).sum();
    let count = if total < HEAVY { 1 } else { PARTS };
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

/// Runs each part, on two threads if there are several, and gives the first error in order of part.
pub(crate) fn run(
    cx: &Cx<'_>,
    parts: &[Vec<Piece>],
    part: impl Fn(usize, &[Piece]) -> Result<(), QueryError> + Sync,
) -> Result<(), QueryError> {
    let run_one = |(index, pieces): (usize, &Vec<Piece>)| part(index, pieces);
    match cx.pool {
        Some(pool) if parts.len() > 1 => {
            let results: Vec<_> = pool.install(|| parts.par_iter().enumerate().map(run_one).collect());
            results.into_iter().collect()
        }
        _ => parts.iter().enumerate().try_for_each(run_one),
    }
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
    if selector.extent == Some(Extent::Anchored) {
        return Err(QueryError::execution(
            "anchored modifier can only be used with range vectors",
        ));
    }
    let frame = selector.instant_frame(grid, cx.lookback_ms);
    let set = select(cx, selector, &frame, "", 0)?;
    let smoothed = selector.extent == Some(Extent::Smoothed);
    let _room = cx.room(grid, PARTS * BUFFERS)?;
    run(cx, &parts(&set, grid.len), |part, pieces| {
        let mut sink = make(part);
        let mut buf = ColumnBuf::default();
        let (mut shared, mut own) = (Vec::new(), Vec::new());
        let mut row = vec![0.0; grid.len];
        let mut counts = StepCounts::new(cx, Key::select(selector), grid);
        for piece in pieces {
            let group = &*set[piece.group];
            shared.clear();
            for series in piece.series.clone() {
                cx.check()?;
                let column = group.read(series, &mut buf)?;
                let values = floats(&column.values, || group.labels(series))?;
                if values.is_empty() {
                    continue;
                }
                counts.read(values.len(), column.dense && !smoothed);
                if smoothed {
                    smoothed_row(column.timestamps, values, &frame, &mut row);
                } else {
                    let found = if column.dense {
                        if shared.is_empty() {
                            newest(column.timestamps, &frame, &mut shared);
                        }
                        &shared
                    } else {
                        newest(column.timestamps, &frame, &mut own);
                        &own
                    };
                    for (cell, index) in row.iter_mut().zip(found) {
                        *cell = if *index == NONE {
                            super::ABSENT
                        } else {
                            values[*index as usize]
                        };
                    }
                    if take == Take::Time {
                        for (cell, index) in row.iter_mut().zip(found) {
                            if is_present(*cell) {
                                *cell = column.timestamps[*index as usize].seconds();
                            }
                        }
                    }
                }
                if counts.present(&row)? {
                    sink.row(&Who::stored(group, series), &row)?;
                }
            }
        }
        counts.finish();
        sink.finish()
    })
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

/// Counts what one part reads, looks at and gives.
pub(crate) struct StepCounts<'c, 'q> {
    cx: &'c Cx<'q>,
    key: Key,
    counted: Leaf,
}

impl<'c, 'q> StepCounts<'c, 'q> {
    pub(crate) fn new(cx: &'c Cx<'q>, key: Key, grid: Grid) -> Self {
        let seen_by_step = cx.recorder.by_step().then(|| vec![0; grid.len]);
        Self {
            cx,
            key,
            counted: Leaf {
                seen_by_step,
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
    pub(crate) fn present(&mut self, row: &[f64]) -> Result<bool, QueryError> {
        let values = row.iter().filter(|v| is_present(**v)).count() as u64;
        self.counted.seen += values;
        if let Some(by_step) = &mut self.counted.seen_by_step {
            for (n, value) in by_step.iter_mut().zip(row) {
                *n += u64::from(is_present(*value));
            }
        }
        self.gives(values)
    }

    /// Counts what windows hold.
    pub(crate) fn windows(&mut self, spans: &[Span], total: u64) {
        let counted = &mut self.counted;
        counted.seen += total;
        if let Some(by_step) = &mut counted.seen_by_step {
            for (n, (first, end)) in by_step.iter_mut().zip(spans) {
                *n += u64::from(end - first);
            }
        }
        let last = spans.last().map_or(0, |(first, end)| u64::from(end - first));
        counted.last_window = counted.last_window.max(last);
    }

    /// Counts the values of a row that came of windows; whether there is any.
    ///
    /// # Errors
    /// There are more than a query may hold.
    pub(crate) fn gave(&mut self, row: &[f64]) -> Result<bool, QueryError> {
        self.gives(row.iter().filter(|v| is_present(**v)).count() as u64)
    }

    fn gives(&mut self, values: u64) -> Result<bool, QueryError> {
        self.counted.values += values;
        self.counted.rows += u64::from(values > 0);
        self.cx.allows(self.counted.values)?;
        Ok(values > 0)
    }

    pub(crate) fn finish(self) {
        self.cx.recorder.leaf(self.key, |leaf| leaf.add(self.counted));
    }
}

pub(crate) fn span_total(spans: &[Span]) -> u64 {
    spans.iter().map(|(first, end)| u64::from(end - first)).sum()
}
