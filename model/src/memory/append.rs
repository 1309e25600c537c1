//! The door in of the store in memory.

use super::{HistogramSample, MemoryStore};
use crate::{
    AppendError, Appendable, Appender, CommitError, Committed, Exemplar, Histogram, Labels, MAX_EXEMPLAR_CHARS,
    OnReject, RejectReason, Rejected, Sample, SeriesRef, TimelineRef, Timestamp,
};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The most buckets of a histogram.
const MAX_BUCKETS: usize = 8192;

impl Appendable for MemoryStore {
    fn appender(&self) -> Box<dyn Appender + '_> {
        Box::new(MemoryAppender {
            store: self,
            pending: Vec::new(),
            histograms: Vec::new(),
            exemplars: Vec::new(),
            ordinal: 0,
        })
    }
}

struct MemoryAppender<'a> {
    store: &'a MemoryStore,
    /// `repeated` marks a value that repeats a column of its row.
    pending: Vec<Pending<Sample>>,
    histograms: Vec<Pending<HistogramSample>>,
    exemplars: Vec<(SeriesRef, Timestamp, Exemplar)>,
    ordinal: u64,
}

pub(super) struct Pending<T> {
    ordinal: u64,
    series: SeriesRef,
    pub(super) sample: T,
    /// It came in a row.
    pub(super) row: bool,
    repeated: bool,
}

impl MemoryAppender<'_> {
    fn push(&mut self, series: SeriesRef, sample: Sample, row: bool, repeated: bool) {
        self.pending.push(Pending {
            ordinal: self.ordinal,
            series,
            sample,
            row,
            repeated,
        });
        self.ordinal += 1;
    }
}

impl Appender for MemoryAppender<'_> {
    fn timeline(&mut self, key: &str) -> Result<TimelineRef, AppendError> {
        let timelines = &mut self.store.inner.write().timelines;
        let at = timelines.iter().position(|k| k == key).unwrap_or_else(|| {
            timelines.push(key.to_owned());
            timelines.len() - 1
        });
        Ok(TimelineRef::from_bits(at as u64))
    }

    fn resolve(&mut self, _timeline: Option<TimelineRef>, labels: &Labels) -> Result<SeriesRef, AppendError> {
        let names = &mut self.store.inner.write().names;
        let at = names.iter().position(|l| l == labels).unwrap_or_else(|| {
            names.push(labels.clone());
            names.len() - 1
        });
        Ok(SeriesRef::from_bits(at as u64))
    }

    fn append_row(&mut self, _: TimelineRef, at: Timestamp, row: &[(SeriesRef, f64)]) -> Result<(), AppendError> {
        let mut seen = BTreeSet::new();
        for (series, value) in row {
            self.push(*series, Sample { at, value: *value }, true, !seen.insert(*series));
        }
        Ok(())
    }

    fn append_at(&mut self, series: SeriesRef, at: Timestamp, value: f64) -> Result<(), AppendError> {
        self.push(series, Sample { at, value }, false, false);
        Ok(())
    }

    fn append_histogram(
        &mut self,
        series: SeriesRef,
        at: Timestamp,
        histogram: Arc<Histogram>,
    ) -> Result<(), AppendError> {
        histogram.validate(MAX_BUCKETS)?;
        self.histograms.push(Pending {
            ordinal: self.ordinal,
            series,
            sample: (at, histogram),
            row: false,
            repeated: false,
        });
        self.ordinal += 1;
        Ok(())
    }

    fn append_exemplar(&mut self, series: SeriesRef, at: Timestamp, exemplar: &Exemplar) -> Result<(), AppendError> {
        let chars = exemplar.label_chars();
        if chars > MAX_EXEMPLAR_CHARS {
            return Err(AppendError::ExemplarLabels {
                chars,
                limit: MAX_EXEMPLAR_CHARS,
            });
        }
        self.exemplars
            .push((series, exemplar.at.unwrap_or(at), exemplar.clone()));
        Ok(())
    }

    fn commit(self: Box<Self>, on_reject: OnReject) -> Result<Committed, CommitError> {
        let mut inner = self.store.inner.write();
        let mut next = inner.clone();
        let mut done = Committed::default();
        let mut rejected = Vec::new();
        let firsts = self.pending.iter().map(|p| (p.ordinal, p.sample.at));
        let firsts = firsts.chain(self.histograms.iter().map(|h| (h.ordinal, h.sample.0)));
        let bounds = next.bounds(firsts.min().map(|(_, at)| at));
        for one in &self.pending {
            let labels = next.name(one.series)?;
            let reason = if one.repeated {
                Some(RejectReason::Repeated)
            } else {
                next.put(labels, one, bounds)
            };
            rejected.push((one.ordinal, one.series, one.sample.at, reason));
        }
        for one in &self.histograms {
            let labels = next.name(one.series)?;
            let (at, histogram) = &one.sample;
            let reason = next.put_histogram(labels, *at, Arc::clone(histogram), bounds);
            rejected.push((one.ordinal, one.series, *at, reason));
        }
        for (ordinal, series, at, reason) in rejected {
            let Some(reason) = reason else {
                done.samples += 1;
                continue;
            };
            let rejected = Rejected {
                ordinal,
                series,
                at,
                reason,
            };
            if on_reject == OnReject::Fail {
                return Err(CommitError::Rejected(rejected));
            }
            done.rejected.push(rejected);
        }
        done.rejected.sort_by_key(|r| r.ordinal);
        for (place, (series, at, exemplar)) in (0u64..).zip(&self.exemplars) {
            let labels = next.name(*series)?;
            let stored = next.exemplars.entry(labels).or_default();
            match stored.last() {
                Some((last_at, last)) if last.is_repeated_by(*last_at, exemplar, *at) => done.exemplars.repeated += 1,
                Some((last_at, last)) if last.order(*last_at, exemplar, *at).is_gt() => {
                    done.exemplars.out_of_order += 1;
                    done.late_exemplars.push(place);
                }
                _ => {
                    stored.push((*at, exemplar.clone()));
                    done.exemplars.stored += 1;
                }
            }
        }
        *inner = next;
        Ok(done)
    }
}
