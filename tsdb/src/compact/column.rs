//! The values of one series while it is merged: the only place that knows what kind they are.

use crate::Error;
use crate::block::{BlockReader, FrameStream, Run, SeriesRun};
use std::ops::Range;

/// Values in the order they were read; what happens to them is told by their places.
#[derive(Debug, Default)]
pub(super) struct Column {
    floats: Vec<f64>,
}

impl Column {
    pub(super) fn clear(&mut self) {
        self.floats.clear();
    }

    pub(super) fn len(&self) -> usize {
        self.floats.len()
    }

    /// Appends the values of a run.
    pub(super) fn read(&mut self, block: &BlockReader, stream: &mut FrameStream, run: &Run) -> Result<(), Error> {
        block.stream_values(stream, run, &mut self.floats)
    }

    /// Of the values from `from` on, keeps those at these places, which count from `from`, in this order.
    pub(super) fn keep(&mut self, from: usize, places: &[u32]) {
        let old = self.floats.get(from..).unwrap_or_default();
        let kept: Vec<f64> = places.iter().filter_map(|p| old.get(*p as usize)).copied().collect();
        self.floats.truncate(from);
        self.floats.extend(kept);
    }

    /// Some of the values as rows of a timeline of the new block.
    pub(super) fn rows(&self, timeline: u32, first_row: u32, values: Range<usize>) -> SeriesRun<'_> {
        SeriesRun {
            timeline,
            first_row,
            presence: None,
            values: self.floats.get(values).unwrap_or_default(),
        }
    }
}
