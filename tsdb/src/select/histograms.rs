//! A series of native histograms: a group of its own, read from blocks and the head.

use super::group::{clip, malformed};
use super::view::select_error;
use crate::block::{BlockReader, Run};
use crate::head::histogram::HistogramPart;
use crate::tombstones::Intervals;
use std::ops::Range;
use std::sync::Arc;
use tidegauge_model::{
    Column, ColumnBuf, ColumnKind, Histogram, Labels, Lease, ReadContext, SelectError, SeriesGroup, TimeRange,
    Timestamp, Values,
};

/// Where a part of the series comes from.
#[derive(Debug)]
enum Part {
    Block {
        reader: Arc<BlockReader>,
        run: Run,
        clip: Range<usize>,
    },
    Head(HistogramPart),
}

/// One series' histograms in a range.
#[derive(Debug)]
pub(super) struct HistogramSeries {
    labels: Labels,
    times: Vec<Timestamp>,
    parts: Vec<Part>,
    /// For each of `times`, which value of the parts it has; `None` if they follow each other.
    order: Option<Vec<usize>>,
    has_stale: bool,
    _lease: Lease,
}

/// Gathers the parts of a series, in order of the blocks they are in, the head last.
#[derive(Debug)]
pub(super) struct Gathering {
    range: TimeRange,
    times: Vec<Timestamp>,
    parts: Vec<Part>,
    /// Which of `times` were deleted, rising.
    gone: Vec<usize>,
    copied: usize,
    has_stale: bool,
}

impl Gathering {
    pub(super) fn new(range: TimeRange) -> Self {
        Self {
            range,
            times: Vec::new(),
            parts: Vec::new(),
            gone: Vec::new(),
            copied: 0,
            has_stale: false,
        }
    }

    /// Takes note of what was deleted of the times from `from` on.
    fn cut(&mut self, from: usize, deleted: Option<&Intervals>) {
        let Some(deleted) = deleted else { return };
        let new = self.times.iter().enumerate().skip(from);
        self.gone
            .extend(new.filter(|(_, at)| deleted.contains(**at)).map(|(i, _)| i));
    }

    pub(super) fn block(
        &mut self,
        reader: &Arc<BlockReader>,
        run: Run,
        deleted: Option<&Intervals>,
    ) -> Result<(), SelectError> {
        let mut times = Vec::new();
        let span = reader.span(run.span).map_err(|e| select_error(&e))?;
        reader
            .span_timestamps(&span, &mut times)
            .map_err(|e| select_error(&e))?;
        let clip = clip(&times, self.range);
        if clip.is_empty() {
            return Ok(());
        }
        let from = self.times.len();
        self.times
            .extend_from_slice(times.get(clip.clone()).unwrap_or_default());
        self.cut(from, deleted);
        self.has_stale |= run.has_stale;
        self.parts.push(Part::Block {
            reader: Arc::clone(reader),
            run,
            clip,
        });
        Ok(())
    }

    pub(super) fn head(&mut self, parts: Vec<HistogramPart>, deleted: Option<&Intervals>) {
        let from = self.times.len();
        for part in parts {
            self.copied += part.heap_bytes();
            self.times.extend_from_slice(&part.times);
            // Only a promise that there is none would have to be kept.
            self.has_stale = true;
            self.parts.push(Part::Head(part));
        }
        self.cut(from, deleted);
    }

    /// The series; `None` if it has no sample in the range.
    pub(super) fn finish(mut self, labels: Labels, cx: &ReadContext) -> Result<Option<HistogramSeries>, SelectError> {
        if self.times.len() == self.gone.len() {
            return Ok(None);
        }
        let lease = cx.meter.lease((self.copied + self.times.len() * 8) as u64)?;
        let mut order = None;
        if !self.gone.is_empty() || !self.times.is_sorted_by(|a, b| a < b) {
            // Deleted, or blocks that overlap. Of samples that share a time the first counts, as with floats.
            let time = |i: &usize| self.times.get(*i).copied();
            let all = 0..self.times.len();
            let mut places: Vec<usize> = all.filter(|i| self.gone.binary_search(i).is_err()).collect();
            places.sort_by_key(time);
            places.dedup_by_key(|i| time(i));
            let times = places.iter().filter_map(time).collect();
            order = Some(places);
            self.times = times;
        }
        Ok(Some(HistogramSeries {
            labels,
            times: self.times,
            parts: self.parts,
            order,
            has_stale: self.has_stale,
            _lease: lease,
        }))
    }
}

impl Part {
    fn read(&self, out: &mut Vec<Arc<Histogram>>) -> Result<(), SelectError> {
        match self {
            Self::Block { reader, run, clip } => {
                let mut all = Vec::new();
                reader.read_histograms(run, &mut all).map_err(|e| select_error(&e))?;
                out.extend(all.drain(clip.start.min(all.len())..clip.end.min(all.len())));
                Ok(())
            }
            Self::Head(part) => part.read(out).map_err(|e| malformed(&e)),
        }
    }
}

impl SeriesGroup for HistogramSeries {
    fn timestamps(&self) -> &[Timestamp] {
        &self.times
    }

    fn len(&self) -> usize {
        1
    }

    fn labels(&self, _series: usize) -> Labels {
        self.labels.clone()
    }

    fn kind(&self, _series: usize) -> ColumnKind {
        ColumnKind::Histogram
    }

    fn chunks(&self, _series: usize) -> usize {
        self.parts.len()
    }

    fn read<'b>(&'b self, _series: usize, buf: &'b mut ColumnBuf) -> Result<Column<'b>, SelectError> {
        buf.histograms.clear();
        for part in &self.parts {
            part.read(&mut buf.histograms)?;
        }
        if let Some(order) = &self.order {
            let picked = order.iter().filter_map(|i| buf.histograms.get(*i).cloned());
            buf.histograms = picked.collect();
        }
        Ok(Column {
            timestamps: &self.times,
            values: Values::Histogram(&buf.histograms),
            dense: true,
            has_stale: self.has_stale,
        })
    }
}
