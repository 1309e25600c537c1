//! The values of one series while it is merged. What kind they are matters here and nowhere else in a merge.

use crate::Error;
use crate::block::{BlockReader, FrameStream, Run, SeriesRun};
use std::ops::Range;
use std::sync::Arc;
use tidegauge_model::{ColumnKind, Histogram};

/// A kind of values.
pub(super) trait Value: Clone {
    const KIND: ColumnKind;

    /// Appends the values of a run.
    fn read(block: &BlockReader, stream: &mut FrameStream, run: &Run, out: &mut Vec<Self>) -> Result<(), Error>;
}

impl Value for f64 {
    const KIND: ColumnKind = ColumnKind::Float;

    fn read(block: &BlockReader, stream: &mut FrameStream, run: &Run, out: &mut Vec<Self>) -> Result<(), Error> {
        block.stream_values(stream, run, out)
    }
}

impl Value for Arc<Histogram> {
    const KIND: ColumnKind = ColumnKind::Histogram;

    fn read(block: &BlockReader, stream: &mut FrameStream, run: &Run, out: &mut Vec<Self>) -> Result<(), Error> {
        block.stream_histograms(stream, run, out)
    }
}

/// Values in the order they were read; what happens to them is told by their places.
#[derive(Debug)]
pub(super) struct Column<T>(Vec<T>);

impl<T> Default for Column<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Value> Column<T> {
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Appends the values of a run.
    pub(super) fn read(&mut self, block: &BlockReader, stream: &mut FrameStream, run: &Run) -> Result<(), Error> {
        T::read(block, stream, run, &mut self.0)
    }

    /// Of the values from `from` on, keeps those at these places, which count from `from`, in this order.
    pub(super) fn keep(&mut self, from: usize, places: &[u32]) {
        let old = self.0.get(from..).unwrap_or_default();
        let kept: Vec<T> = places.iter().filter_map(|p| old.get(*p as usize)).cloned().collect();
        self.0.truncate(from);
        self.0.extend(kept);
    }

    /// Some of the values as rows of a timeline of the new block.
    pub(super) fn rows(&self, timeline: u32, first_row: u32, values: Range<usize>) -> SeriesRun<'_, T> {
        SeriesRun {
            timeline,
            first_row,
            presence: None,
            values: self.0.get(values).unwrap_or_default(),
        }
    }
}
