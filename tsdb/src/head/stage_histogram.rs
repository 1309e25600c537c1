//! Decides about the native histograms of a commit, and about floats where a series holds histograms.
//!
//! A series has one newest sample, whatever its kind. If that is a histogram, floats are measured against it here; a
//! float stale marker becomes the marker of a histogram.

use super::histogram::StagedHistogram;
use super::stage::{Stage, Verdict, item_of};
use crate::timeline::NONE;
use std::sync::Arc;
use tidegauge_model::{Histogram, RejectReason, Rejected, SeriesRef, Timestamp, is_stale};

/// A histogram that an appender has collected.
#[derive(Debug, Clone)]
pub(crate) struct PendingHistogram {
    pub(crate) series: SeriesRef,
    pub(crate) at: i64,
    pub(crate) histogram: Arc<Histogram>,
    pub(crate) ordinal: u64,
}

impl Stage<'_> {
    /// The newest histogram of a series, the staged ones included.
    fn last_histogram(&self, series: u32) -> Option<(i64, &Arc<Histogram>)> {
        let plan = &self.plan;
        let staged = plan
            .newest_histograms
            .get(&series)
            .and_then(|i| plan.histograms.get(*i));
        match staged {
            Some(staged) => Some((staged.at, &staged.histogram)),
            None => self.state.histograms.last(series),
        }
    }

    /// The newest histogram of a series, if it is its newest sample.
    fn newest_is_histogram(&self, series: u32) -> Option<(i64, &Arc<Histogram>)> {
        if self.plan.histograms.is_empty() && self.state.histograms.is_empty() {
            return None;
        }
        let (at, histogram) = self.last_histogram(series)?;
        let float = self.last_of(self.owner(series)).map(|(at, _)| at);
        float.is_none_or(|float| float < at).then_some((at, histogram))
    }

    /// What becomes of a float, if histograms decide it.
    pub(super) fn float_among_histograms(&mut self, series: u32, column: u32, at: i64, value: f64) -> Option<Verdict> {
        let (last_at, _) = self.newest_is_histogram(series)?;
        if is_stale(value) {
            return Some(match self.histogram_verdict(series, column, at, &Histogram::stale()) {
                Verdict::Accept => {
                    self.take(series, column, at, Arc::new(Histogram::stale()));
                    // It goes no further as a float.
                    Verdict::Stored
                }
                other => other,
            });
        }
        if at < last_at {
            return Some(Verdict::Reject(RejectReason::OutOfOrder));
        }
        (at == last_at).then_some(Verdict::Reject(RejectReason::HistogramExists {
            at: Timestamp::from_millis(at),
            new: value,
        }))
    }

    fn histogram_verdict(&self, series: u32, column: u32, at: i64, histogram: &Histogram) -> Verdict {
        let owner = self.owner(series);
        if owner != NONE && owner != column && histogram.is_stale() {
            return Verdict::Foreign;
        }
        let last = self.last_histogram(series);
        let float = self.last_of(owner).map(|(at, _)| at);
        let newest = last.map(|l| l.0).max(float);
        if newest.is_some_and(|newest| at < newest) {
            return Verdict::Reject(RejectReason::OutOfOrder);
        }
        if newest.is_none_or(|newest| at > newest) {
            return Verdict::Accept;
        }
        match last {
            Some((last_at, last)) if last_at == at && last.same_bits(histogram) => Verdict::Stored,
            _ => Verdict::Reject(RejectReason::DuplicateHistogram {
                at: Timestamp::from_millis(at),
            }),
        }
    }

    /// Stages a histogram that fits; its column owns the series from here on.
    fn take(&mut self, series: u32, column: u32, at: i64, histogram: Arc<Histogram>) {
        let owner = self.owner(series);
        // Rows of whole timelines are taken without a look at each series: not where a histogram may be in the way.
        for column in [owner, column] {
            let timeline = self.location(column).0;
            if timeline != NONE {
                self.plan.foreign.insert(timeline);
            }
        }
        if owner != column {
            self.plan.owners.insert(series, column);
        }
        self.plan.newest_histograms.insert(series, self.plan.histograms.len());
        self.plan.histograms.push(StagedHistogram {
            series,
            column,
            at,
            histogram,
        });
    }

    /// Plans the histograms of a commit, behind its floats.
    pub(crate) fn histograms(&mut self, pending: &[PendingHistogram]) -> Result<(), Rejected> {
        for one in pending {
            let item = item_of(one.series, 0.0, one.ordinal);
            let verdict = match (self.out_of_bounds(one.at), self.series_of(item.column)) {
                (Some(reason), _) => Verdict::Reject(reason),
                (None, None) => Verdict::Reject(RejectReason::OutOfOrder),
                (None, Some(series)) => self.histogram_verdict(series, item.column, one.at, &one.histogram),
            };
            if self.settle(&item, one.at, &verdict)?
                && let Some(series) = self.series_of(item.column)
            {
                self.take(series, item.column, one.at, Arc::clone(&one.histogram));
            }
        }
        Ok(())
    }

    /// Takes a histogram that the log has: it fitted when it was written.
    pub(crate) fn logged_histogram(&mut self, series: SeriesRef, at: i64, histogram: &Arc<Histogram>) {
        let column = series.bits() as u32;
        let Some(series) = self.series_of(column) else { return };
        // Two segments may tell the same after a cut that failed half way.
        if self.last_histogram(series).is_none_or(|(last, _)| last < at) {
            self.take(series, column, at, Arc::clone(histogram));
        }
    }

    fn series_of(&self, column: u32) -> Option<u32> {
        self.state.column(column).map(|c| c.series)
    }
}
