//! Both doors over a map in memory: the oracle that tests compare the real store with.
//!
//! Slow and plain on purpose. Each series is a group of its own; nothing is ever stale, durable or limited.

use crate::{
    AppendError, Appendable, Appender, Column, ColumnBuf, CommitError, Committed, Labels, Limited, Matcher, OnReject,
    Querier, Queryable, ReadContext, RejectReason, Rejected, Sample, SelectError, SelectHints, SeriesGroup, SeriesRef,
    SeriesSet, TimeRange, TimelineRef, Timestamp, Values, is_stale,
};
use parking_lot::RwLock;
use std::collections::{BTreeMap, BTreeSet};

/// A store in memory.
#[derive(Debug, Default)]
pub struct MemoryStore {
    inner: RwLock<Inner>,
}

#[derive(Debug, Default, Clone)]
struct Inner {
    timelines: Vec<String>,
    /// `SeriesRef` is an index into this.
    names: Vec<Labels>,
    samples: BTreeMap<Labels, Vec<Sample>>,
    /// Times of samples that were deleted: new ones are still judged by them.
    deleted: BTreeMap<Labels, BTreeSet<Timestamp>>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts one sample in, wherever in time it lies; a sample of the same time is replaced.
    pub fn insert(&self, labels: &Labels, at: Timestamp, value: f64) {
        let mut inner = self.inner.write();
        let samples = inner.samples.entry(labels.clone()).or_default();
        match samples.binary_search_by_key(&at, |s| s.at) {
            Ok(i) => samples[i].value = value,
            Err(i) => samples.insert(i, Sample { at, value }),
        }
    }

    /// Deletes the samples of all series that meet every matcher, in a range. What comes later stays, and must still be
    /// newer than the newest sample of its series, deleted or not.
    pub fn delete(&self, matchers: &[Matcher], range: TimeRange) {
        let inner = &mut *self.inner.write();
        for (labels, samples) in &inner.samples {
            if matchers.iter().all(|m| m.matches(labels.value(m.name()))) {
                let times = samples.iter().map(|s| s.at).filter(|at| range.contains(*at));
                inner.deleted.entry(labels.clone()).or_default().extend(times);
            }
        }
    }

    /// Drops everything.
    pub fn clear(&self) {
        *self.inner.write() = Inner::default();
    }
}

impl Inner {
    /// What was not deleted.
    fn visible(&self) -> BTreeMap<Labels, Vec<Sample>> {
        let mut samples = self.samples.clone();
        for (labels, times) in &self.deleted {
            if let Some(samples) = samples.get_mut(labels) {
                samples.retain(|s| !times.contains(&s.at));
            }
        }
        samples
    }
}

impl Appendable for MemoryStore {
    fn appender(&self) -> Box<dyn Appender + '_> {
        Box::new(MemoryAppender {
            store: self,
            pending: Vec::new(),
        })
    }
}

/// Ordinal is the place in `pending`; `true` marks a value that repeats a column of its row.
struct MemoryAppender<'a> {
    store: &'a MemoryStore,
    pending: Vec<(SeriesRef, Sample, bool)>,
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
            self.pending
                .push((*series, Sample { at, value: *value }, !seen.insert(*series)));
        }
        Ok(())
    }

    fn append_at(&mut self, series: SeriesRef, at: Timestamp, value: f64) -> Result<(), AppendError> {
        self.pending.push((series, Sample { at, value }, false));
        Ok(())
    }

    fn commit(self: Box<Self>, on_reject: OnReject) -> Result<Committed, CommitError> {
        let mut inner = self.store.inner.write();
        let mut next = inner.clone();
        let mut done = Committed::default();
        for (ordinal, (series, sample, repeated)) in self.pending.iter().enumerate() {
            let Some(labels) = next.names.get(series.bits() as usize).cloned() else {
                return Err(CommitError::Closed("a reference this store never gave".into()));
            };
            let stored = next.samples.entry(labels).or_default();
            let reason = match stored.last() {
                _ if *repeated => Some(RejectReason::Repeated),
                Some(last) if last.at > sample.at => Some(RejectReason::OutOfOrder),
                Some(last) if last.at == sample.at && last.value.to_bits() != sample.value.to_bits() => {
                    Some(RejectReason::Duplicate {
                        at: sample.at,
                        existing: last.value,
                        new: sample.value,
                    })
                }
                Some(last) if last.at == sample.at => None,
                _ => {
                    stored.push(*sample);
                    None
                }
            };
            match reason {
                None => done.samples += 1,
                Some(reason) => {
                    let rejected = Rejected {
                        ordinal: ordinal as u64,
                        series: *series,
                        at: sample.at,
                        reason,
                    };
                    if on_reject == OnReject::Fail {
                        return Err(CommitError::Rejected(rejected));
                    }
                    done.rejected.push(rejected);
                }
            }
        }
        *inner = next;
        Ok(done)
    }
}

impl Queryable for MemoryStore {
    fn querier(&self, range: TimeRange) -> Result<Box<dyn Querier + '_>, SelectError> {
        Ok(Box::new(MemoryQuerier {
            snapshot: self.inner.read().visible(),
            range,
        }))
    }
}

struct MemoryQuerier {
    snapshot: BTreeMap<Labels, Vec<Sample>>,
    range: TimeRange,
}

impl MemoryQuerier {
    fn matching<'a>(
        &'a self,
        matchers: &'a [Matcher],
        range: TimeRange,
    ) -> impl Iterator<Item = (&'a Labels, Vec<Sample>)> {
        let range = TimeRange::new(range.start.max(self.range.start), range.end.min(self.range.end));
        self.snapshot
            .iter()
            .filter(|(labels, _)| matchers.iter().all(|m| m.matches(labels.value(m.name()))))
            .map(move |(labels, samples)| {
                (
                    labels,
                    samples
                        .iter()
                        .copied()
                        .filter(|s| range.contains(s.at))
                        .collect::<Vec<_>>(),
                )
            })
            .filter(|(_, samples)| !samples.is_empty())
    }
}

fn limited<T>(mut items: Vec<T>, limit: usize) -> Limited<Vec<T>> {
    let truncated = limit > 0 && items.len() > limit;
    if truncated {
        items.truncate(limit);
    }
    Limited { items, truncated }
}

impl Querier for MemoryQuerier {
    fn select(&self, matchers: &[Matcher], hints: &SelectHints, cx: &ReadContext) -> Result<SeriesSet, SelectError> {
        cx.cancel.check()?;
        Ok(self
            .matching(matchers, hints.range)
            .map(|(labels, samples)| -> Box<dyn SeriesGroup> {
                Box::new(OneSeries {
                    labels: labels.clone(),
                    timestamps: samples.iter().map(|s| s.at).collect(),
                    values: samples.iter().map(|s| s.value).collect(),
                })
            })
            .collect())
    }

    fn series(&self, matchers: &[Matcher], limit: usize, _: &ReadContext) -> Result<Limited<Vec<Labels>>, SelectError> {
        Ok(limited(
            self.matching(matchers, self.range).map(|(l, _)| l.clone()).collect(),
            limit,
        ))
    }

    fn label_names(
        &self,
        matchers: &[Matcher],
        limit: usize,
        _: &ReadContext,
    ) -> Result<Limited<Vec<String>>, SelectError> {
        let names: BTreeSet<String> = self
            .matching(matchers, self.range)
            .flat_map(|(l, _)| l.iter().map(|(n, _)| n.to_owned()))
            .collect();
        Ok(limited(names.into_iter().collect(), limit))
    }

    fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        limit: usize,
        _: &ReadContext,
    ) -> Result<Limited<Vec<String>>, SelectError> {
        let values: BTreeSet<String> = self
            .matching(matchers, self.range)
            .filter_map(|(l, _)| l.get(name))
            .map(str::to_owned)
            .collect();
        Ok(limited(values.into_iter().collect(), limit))
    }
}

#[derive(Debug)]
struct OneSeries {
    labels: Labels,
    timestamps: Vec<Timestamp>,
    values: Vec<f64>,
}

impl SeriesGroup for OneSeries {
    fn timestamps(&self) -> &[Timestamp] {
        &self.timestamps
    }

    fn len(&self) -> usize {
        1
    }

    fn labels(&self, _series: usize) -> Labels {
        self.labels.clone()
    }

    fn read<'b>(&'b self, _series: usize, buf: &'b mut ColumnBuf) -> Result<Column<'b>, SelectError> {
        buf.values.clone_from(&self.values);
        let has_stale = self.values.iter().any(|v| is_stale(*v));
        Ok(Column {
            timestamps: &self.timestamps,
            values: Values::Float(&buf.values),
            dense: true,
            has_stale,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    fn labels(name: &str) -> Labels {
        Labels::from_pairs([("__name__", name)]).unwrap()
    }

    #[test]
    fn what_was_deleted_is_not_shown_and_still_judges_what_comes() {
        let store = MemoryStore::new();
        let append = |time: i64, value: f64| {
            let mut appender = store.appender();
            let series = appender.resolve(None, &labels("a")).unwrap();
            appender.append_at(series, at(time), value).unwrap();
            appender.commit(OnReject::Skip).unwrap().samples
        };
        let cx = ReadContext::unlimited();
        let shown = |querier: &dyn Querier| querier.series(&[], 0, &cx).unwrap().items.len();
        assert_eq!(append(1, 1.0) + append(5, 2.0), 2);
        let before = store.querier(TimeRange::ALL).unwrap();
        store.delete(&[Matcher::equal("__name__", "b")], TimeRange::ALL);
        assert_eq!(shown(&*store.querier(TimeRange::ALL).unwrap()), 1);
        store.delete(&[Matcher::equal("__name__", "a")], TimeRange::new(at(1), at(9)));
        assert_eq!(append(4, 3.0), 0, "older than what was deleted");
        assert_eq!(shown(&*store.querier(TimeRange::ALL).unwrap()), 0);
        assert_eq!(append(7, 3.0), 1, "what comes later stays");
        assert_eq!(
            (shown(&*store.querier(TimeRange::ALL).unwrap()), shown(&*before)),
            (1, 1)
        );
    }

    /// What the real store must do too; it runs the same steps.
    #[test]
    fn a_commit_is_whole_and_refuses_what_does_not_fit() {
        let store = MemoryStore::new();
        let mut appender = store.appender();
        let timeline = appender.timeline("t").unwrap();
        let a = appender.resolve(Some(timeline), &labels("a")).unwrap();
        let b = appender.resolve(Some(timeline), &labels("b")).unwrap();
        appender
            .append_row(timeline, at(10), &[(a, 1.0), (b, 2.0), (a, 3.0)])
            .unwrap();
        let done = appender.commit(OnReject::Skip).unwrap();
        assert_eq!(
            (done.samples, done.rejected.len(), done.rejected[0].reason),
            (2, 1, RejectReason::Repeated)
        );

        let mut appender = store.appender();
        appender.append_at(b, at(11), 1.0).unwrap();
        appender.append_at(a, at(9), 1.0).unwrap();
        assert!(matches!(appender.commit(OnReject::Fail), Err(CommitError::Rejected(r)) if r.ordinal == 1));

        let querier = store.querier(TimeRange::ALL).unwrap();
        let cx = ReadContext::unlimited();
        let set = querier.select(&[], &SelectHints::range(TimeRange::ALL), &cx).unwrap();
        let mut buf = ColumnBuf::default();
        let read: Vec<_> = set
            .iter()
            .map(|g| match g.read(0, &mut buf).unwrap().values {
                Values::Float(v) => v.to_vec(),
                Values::Histogram(_) => vec![],
            })
            .collect();
        assert_eq!(read, [vec![1.0], vec![2.0]]);
        assert_eq!(
            querier.label_values("__name__", &[], 1, &cx).unwrap(),
            Limited {
                items: vec!["a".into()],
                truncated: true
            }
        );
    }
}
