//! Several blocks as one: series by series in order of labels, each read, put in order of time and written.
//!
//! What is held at a time is one series' values, a frame of each input, and the index of the new block. Kinds of values
//! are merged each by itself.
//!
//! Runs of a series that lie apart in time keep their rows, on the chain of their timelines ([`Chains`]). Runs that
//! share time are put in order sample by sample, on a timeline of their own that series of equal times share. **Of
//! samples of one time the first input's stays**: inputs are in the order in which readers prefer them, see
//! [`super::precedence`].

use super::Stopped;
use super::column::{Column, Value};
use super::timelines::{Chains, Target, piece_rows};
use super::walk::{Met, Walk};
use crate::Error;
use crate::block::{BlockReader, BlockWriter, FrameStream, Run, SeriesRun, Span};
use crate::tombstones::Intervals;
use std::ops::Range;
use std::sync::Arc;
use tidegauge_model::{Histogram, TimeRange, Timestamp};

/// Writes what the inputs hold; `stop` is asked before each series.
pub(super) fn merge(
    inputs: &[Arc<BlockReader>],
    writer: &mut BlockWriter,
    stop: &dyn Fn() -> bool,
) -> Result<Result<(), Stopped>, Error> {
    let chains = match Chains::find(inputs, stop)? {
        Ok(chains) => chains,
        Err(stopped) => return Ok(Err(stopped)),
    };
    let mut merger = Merger {
        shared: Shared {
            inputs,
            chains,
            streams: inputs.iter().map(|_| FrameStream::default()).collect(),
        },
        floats: Lane::default(),
        histograms: Lane::default(),
    };
    let mut walk = Walk::new(inputs)?;
    while let Some(series) = walk.next()? {
        if stop() {
            return Ok(Err(Stopped));
        }
        merger.series(&series, writer)?;
    }
    Ok(Ok(()))
}

struct Merger<'i> {
    shared: Shared<'i>,
    floats: Lane<f64>,
    histograms: Lane<Arc<Histogram>>,
}

struct Shared<'i> {
    inputs: &'i [Arc<BlockReader>],
    chains: Chains,
    streams: Vec<FrameStream>,
}

/// What the current series has of one kind.
struct Lane<T> {
    column: Column<T>,
    rows: Vec<Rows>,
}

impl<T> Default for Lane<T> {
    fn default() -> Self {
        Self {
            column: Column::default(),
            rows: Vec::new(),
        }
    }
}

/// Values of the column that are rows of the new block which follow each other.
struct Rows {
    target: Target,
    values: Range<usize>,
}

/// A run of a series in an input.
struct Part<'i> {
    input: usize,
    block: &'i BlockReader,
    run: Run,
    span: Span,
}

/// What is deleted of a series in an input.
type Deleted<'i> = (usize, &'i Intervals);

fn deleted_in<'i>(deleted: &[Deleted<'i>], input: usize) -> Option<&'i Intervals> {
    deleted.iter().find(|d| d.0 == input).map(|d| d.1)
}

impl<'i> Merger<'i> {
    fn series(&mut self, series: &Met<'_, '_>, writer: &mut BlockWriter) -> Result<(), Error> {
        let mut parts = Vec::new();
        let mut deleted: Vec<Deleted<'i>> = Vec::new();
        let inputs: &'i [Arc<BlockReader>] = self.shared.inputs;
        for (input, runs) in series.runs() {
            let Some(block) = inputs.get(input) else { continue };
            for run in runs {
                parts.push(Part {
                    input,
                    block,
                    run: *run,
                    span: block.span(run.span)?,
                });
            }
            let gone = block.deleted(series.number(input));
            deleted.extend(gone.map(|intervals| (input, intervals)));
        }
        // Floats first, as in each block: values are read in the order in which they lie.
        self.floats.fill(&mut parts, &deleted, &mut self.shared, writer)?;
        self.histograms.fill(&mut parts, &deleted, &mut self.shared, writer)?;
        let (floats, histograms) = (self.floats.runs(), self.histograms.runs());
        if floats.is_empty() && histograms.is_empty() {
            return Ok(());
        }
        writer.series_of_kinds(&series.labels, &floats, &histograms)
    }
}

impl<T: Value> Lane<T> {
    fn fill<'i>(
        &mut self,
        parts: &mut Vec<Part<'i>>,
        deleted: &[Deleted<'i>],
        shared: &mut Shared<'i>,
        writer: &mut BlockWriter,
    ) -> Result<(), Error> {
        self.column.clear();
        self.rows.clear();
        let mut own: Vec<Part<'i>> = parts.extract_if(.., |p| p.span.kind == T::KIND).collect();
        // Stable: the runs of an input stay in order.
        own.sort_by_key(|p| p.span.first);
        let mut rest = own.as_mut_slice();
        while let Some((together, behind)) = split_together(rest) {
            if let [part] = together {
                self.add(part, deleted_in(deleted, part.input), shared, writer)?;
            } else {
                // Back in the order of inputs, in which samples win.
                together.sort_by_key(|p| (p.input, p.span.first));
                self.interleave(together, deleted, shared, writer)?;
            }
            rest = behind;
        }
        Ok(())
    }

    fn runs(&self) -> Vec<SeriesRun<'_, T>> {
        let rows = self.rows.iter();
        rows.map(|r| {
            self.column
                .rows(r.target.timeline, r.target.first_row, r.values.clone())
        })
        .collect()
    }

    fn read(&mut self, part: &Part<'_>, shared: &mut Shared<'_>) -> Result<(), Error> {
        match shared.streams.get_mut(part.input) {
            Some(stream) => self.column.read(part.block, stream, &part.run),
            None => Ok(()),
        }
    }

    /// A run that shares time with no other: its rows are those of the chain.
    fn add(
        &mut self,
        part: &Part<'_>,
        deleted: Option<&Intervals>,
        shared: &mut Shared<'_>,
        writer: &mut BlockWriter,
    ) -> Result<(), Error> {
        let mut at = self.column.len();
        let from = at;
        self.read(part, shared)?;
        let mut ranges: Vec<Range<u32>> = Vec::new();
        part.block.rows(&part.span, |rows| ranges.push(rows))?;
        let own = TimeRange::new(part.span.first, part.span.last);
        if let Some(deleted) = deleted.filter(|d| d.overlap(own)) {
            let times = part.block.timestamps(part.span.timeline)?;
            let mut places = Vec::new();
            ranges = without(&ranges, &times, deleted, &mut places);
            self.column.keep(from, &places);
        }
        let rows = &mut self.rows;
        for range in ranges {
            let source = (part.input, part.span.timeline);
            shared.chains.targets(shared.inputs, writer, source, range, |target| {
                let values = at..at + target.rows as usize;
                at = values.end;
                rows.push(Rows { target, values });
            })?;
        }
        Ok(())
    }

    /// Runs that share time: their samples in order, each time once.
    fn interleave(
        &mut self,
        parts: &[Part<'_>],
        deleted: &[Deleted<'_>],
        shared: &mut Shared<'_>,
        writer: &mut BlockWriter,
    ) -> Result<(), Error> {
        let from = self.column.len();
        let (mut times, mut samples): (Vec<Timestamp>, Vec<(Timestamp, u32)>) = (Vec::new(), Vec::new());
        for part in parts {
            self.read(part, shared)?;
            times.clear();
            part.block.span_timestamps(&part.span, &mut times)?;
            let gone = deleted_in(deleted, part.input);
            let first = (self.column.len() - from - times.len()) as u32;
            let placed = times.iter().copied().zip(first..);
            samples.extend(placed.filter(|(at, _)| !gone.is_some_and(|gone| gone.contains(*at))));
        }
        samples.sort_unstable();
        samples.dedup_by_key(|s| s.0);
        let places: Vec<u32> = samples.iter().map(|s| s.1).collect();
        self.column.keep(from, &places);
        times.clear();
        times.extend(samples.iter().map(|s| s.0));
        let mut at = from;
        for piece in times.chunks(piece_rows(times.len())) {
            let target = Target {
                timeline: writer.timeline(piece)?,
                first_row: 0,
                rows: piece.len() as u32,
            };
            let values = at..at + piece.len();
            at = values.end;
            self.rows.push(Rows { target, values });
        }
        Ok(())
    }
}

/// Splits off the first parts that share time with each other; parts are in order of their first times.
fn split_together<'p, 'i>(parts: &'p mut [Part<'i>]) -> Option<(&'p mut [Part<'i>], &'p mut [Part<'i>])> {
    let mut last = parts.first()?.span.last;
    let more = parts.iter().skip(1).take_while(|p| {
        let shares = p.span.first <= last;
        last = last.max(p.span.last);
        shares
    });
    let count = 1 + more.count();
    parts.split_at_mut_checked(count)
}

/// The rows that are not deleted; `places` are those of their values.
fn without(ranges: &[Range<u32>], times: &[Timestamp], deleted: &Intervals, places: &mut Vec<u32>) -> Vec<Range<u32>> {
    let mut kept: Vec<Range<u32>> = Vec::new();
    for (place, row) in (0u32..).zip(ranges.iter().cloned().flatten()) {
        let at = times.get(row as usize);
        if at.is_none_or(|at| deleted.contains(*at)) {
            continue;
        }
        places.push(place);
        match kept.last_mut() {
            Some(before) if before.end == row => before.end = row + 1,
            _ => kept.push(row..row + 1),
        }
    }
    kept
}
