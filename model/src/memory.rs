//! Both doors over a map in memory: the oracle that tests compare the real store with.
//!
//! Slow and plain on purpose. Each series is a group of its own; nothing is ever stale, durable or limited. What is old
//! is decided as the real store does, once it is told the same [`Rules`].

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

/// Which samples are too old or late.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Samples further than this behind the newest one of all are out of bounds, unless they may come late.
    pub behind_ms: i64,
    /// How far behind the newest sample of all a late sample may be; 0: none may come late.
    pub out_of_order_ms: i64,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            behind_ms: i64::MAX,
            out_of_order_ms: 0,
        }
    }
}

#[derive(Debug, Default, Clone)]
struct Inner {
    timelines: Vec<String>,
    /// `SeriesRef` is an index into this.
    names: Vec<Labels>,
    samples: BTreeMap<Labels, Vec<Sample>>,
    /// The newest sample of each series that came in order.
    newest: BTreeMap<Labels, Sample>,
    rules: Rules,
}

/// The rules in terms of time, as they are when a commit begins.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    oldest: Timestamp,
    late: Option<Timestamp>,
}

impl Inner {
    fn bounds(&self, first: Option<Timestamp>) -> Bounds {
        let newest = self.newest.values().map(|s| s.at).max().or(first);
        let newest = newest.unwrap_or(Timestamp::MIN).millis();
        let behind = |ms: i64| Timestamp::from_millis(newest.saturating_sub(ms));
        let window = self.rules.out_of_order_ms;
        Bounds {
            oldest: behind(self.rules.behind_ms),
            late: (window > 0).then(|| behind(window)),
        }
    }

    /// Puts a sample in, or says why not.
    fn put(&mut self, labels: &Labels, pending: &Pending, bounds: Bounds) -> Result<(), RejectReason> {
        let sample = pending.sample;
        if sample.at >= bounds.oldest {
            match self.newest.get(labels) {
                Some(last) if last.at > sample.at => {}
                Some(last) if last.at == sample.at && last.value.to_bits() == sample.value.to_bits() => return Ok(()),
                Some(last) if last.at == sample.at => {
                    return Err(RejectReason::Duplicate {
                        at: sample.at,
                        existing: last.value,
                        new: sample.value,
                    });
                }
                _ => {
                    self.newest.insert(labels.clone(), sample);
                    self.insert(labels, sample);
                    return Ok(());
                }
            }
        }
        match bounds.late {
            Some(oldest) if sample.at < oldest => Err(RejectReason::TooOld),
            Some(_) if pending.row && is_stale(sample.value) => Err(RejectReason::OutOfOrder),
            Some(_) => {
                self.insert(labels, sample);
                Ok(())
            }
            None if sample.at < bounds.oldest => Err(RejectReason::OutOfBounds),
            None => Err(RejectReason::OutOfOrder),
        }
    }

    /// What is stored for a time stays.
    fn insert(&mut self, labels: &Labels, sample: Sample) {
        let samples = self.samples.entry(labels.clone()).or_default();
        if let Err(i) = samples.binary_search_by_key(&sample.at, |s| s.at) {
            samples.insert(i, sample);
        }
    }
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty store with rules about what is old.
    pub fn with_rules(rules: Rules) -> Self {
        let store = Self::default();
        store.set_rules(rules);
        store
    }

    /// Changes the rules for commits from now on.
    pub fn set_rules(&self, rules: Rules) {
        self.inner.write().rules = rules;
    }

    /// Puts one sample in, wherever in time it lies; a sample of the same time is replaced.
    pub fn insert(&self, labels: &Labels, at: Timestamp, value: f64) {
        let mut inner = self.inner.write();
        let newer = inner.newest.get(labels).is_none_or(|last| last.at <= at);
        if newer {
            inner.newest.insert(labels.clone(), Sample { at, value });
        }
        let samples = inner.samples.entry(labels.clone()).or_default();
        match samples.binary_search_by_key(&at, |s| s.at) {
            Ok(i) => samples[i].value = value,
            Err(i) => samples.insert(i, Sample { at, value }),
        }
    }

    /// Drops everything but the rules.
    pub fn clear(&self) {
        let mut inner = self.inner.write();
        *inner = Inner {
            rules: inner.rules,
            ..Inner::default()
        };
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

/// A sample on its way in.
struct Pending {
    series: SeriesRef,
    sample: Sample,
    /// It came in a row.
    row: bool,
    /// It repeats a column of its row.
    repeated: bool,
}

/// Ordinal is the place in `pending`.
struct MemoryAppender<'a> {
    store: &'a MemoryStore,
    pending: Vec<Pending>,
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
            self.pending.push(Pending {
                series: *series,
                sample: Sample { at, value: *value },
                row: true,
                repeated: !seen.insert(*series),
            });
        }
        Ok(())
    }

    fn append_at(&mut self, series: SeriesRef, at: Timestamp, value: f64) -> Result<(), AppendError> {
        self.pending.push(Pending {
            series,
            sample: Sample { at, value },
            row: false,
            repeated: false,
        });
        Ok(())
    }

    fn commit(self: Box<Self>, on_reject: OnReject) -> Result<Committed, CommitError> {
        let mut inner = self.store.inner.write();
        let mut next = inner.clone();
        let mut done = Committed::default();
        let bounds = next.bounds(self.pending.first().map(|p| p.sample.at));
        for (ordinal, pending) in self.pending.iter().enumerate() {
            let Some(labels) = next.names.get(pending.series.bits() as usize).cloned() else {
                return Err(CommitError::Closed("a reference this store never gave".into()));
            };
            let put = if pending.repeated {
                Err(RejectReason::Repeated)
            } else {
                next.put(&labels, pending, bounds)
            };
            match put {
                Ok(()) => done.samples += 1,
                Err(reason) => {
                    let rejected = Rejected {
                        ordinal: ordinal as u64,
                        series: pending.series,
                        at: pending.sample.at,
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
            snapshot: self.inner.read().samples.clone(),
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

    #[test]
    fn what_is_old_is_late_or_refused_by_the_rules() {
        let offer = |store: &MemoryStore, at_ms: i64, value: f64| {
            let mut appender = store.appender();
            let series = appender.resolve(None, &labels("a")).unwrap();
            appender.append_at(series, at(at_ms), value).unwrap();
            let done = appender.commit(OnReject::Skip).unwrap();
            done.rejected.first().map(|r| r.reason)
        };
        let rules = |out_of_order_ms| {
            MemoryStore::with_rules(Rules {
                behind_ms: 50,
                out_of_order_ms,
            })
        };
        let strict = rules(0);
        assert_eq!(offer(&strict, 100, 1.0), None);
        assert_eq!(offer(&strict, 99, 1.0), Some(RejectReason::OutOfOrder));
        assert_eq!(offer(&strict, 49, 1.0), Some(RejectReason::OutOfBounds));
        let lenient = rules(70);
        for (at_ms, reason) in [(100, None), (99, None), (30, None), (29, Some(RejectReason::TooOld))] {
            assert_eq!(offer(&lenient, at_ms, 1.0), reason);
        }
        assert_eq!(offer(&lenient, 99, 2.0), None, "what is stored stays");
        assert!(matches!(
            offer(&lenient, 100, 2.0),
            Some(RejectReason::Duplicate { .. })
        ));
        let stored = lenient.inner.read().samples[&labels("a")].clone();
        let stored: Vec<(i64, f64)> = stored.iter().map(|s| (s.at.millis(), s.value)).collect();
        assert_eq!(stored, [(30, 1.0), (99, 1.0), (100, 1.0)]);
    }
}
