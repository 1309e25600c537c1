//! Both doors over a map in memory: the oracle that tests compare the real store with.
//!
//! Slow and plain on purpose. Each series is a group of its own; nothing is ever stale, durable or limited. What is old
//! is decided as the real store does, once it is told the same [`Rules`].

use crate::{
    AppendError, Appendable, Appender, Column, ColumnBuf, ColumnKind, CommitError, Committed, Exemplar,
    ExemplarQueryable, Histogram, Labels, Limited, MAX_EXEMPLAR_CHARS, Matcher, OnReject, Querier, Queryable,
    ReadContext, RejectReason, Rejected, Sample, SelectError, SelectHints, SeriesExemplars, SeriesGroup, SeriesRef,
    SeriesSet, TimeRange, TimelineRef, Timestamp, Values, is_stale,
};
use parking_lot::RwLock;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The most buckets of a histogram.
const MAX_BUCKETS: usize = 8192;

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

/// The rules in terms of time, as they are when a commit begins.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    oldest: Timestamp,
    late: Option<Timestamp>,
}

#[derive(Debug, Default, Clone)]
struct Inner {
    timelines: Vec<String>,
    /// `SeriesRef` is an index into this.
    names: Vec<Labels>,
    samples: BTreeMap<Labels, Vec<Sample>>,
    /// Times of histograms that were deleted: new ones are still judged by them.
    deleted: BTreeMap<Labels, BTreeSet<Timestamp>>,
    histograms: BTreeMap<Labels, Vec<HistogramSample>>,
    exemplars: BTreeMap<Labels, Vec<(Timestamp, Exemplar)>>,
    /// The newest sample of each series that came in order, and its value if it is a float.
    newest: BTreeMap<Labels, (Timestamp, Option<f64>)>,
    rules: Rules,
}

type HistogramSample = (Timestamp, Arc<Histogram>);

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
        let newer = inner.newest.get(labels).is_none_or(|last| last.0 <= at);
        if newer {
            inner.newest.insert(labels.clone(), (at, Some(value)));
        }
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
        let meets = |labels: &Labels| matchers.iter().all(|m| m.matches(labels.value(m.name())));
        // New samples are still judged by `newest`.
        for (_, samples) in inner.samples.iter_mut().filter(|(l, _)| meets(l)) {
            samples.retain(|s| !range.contains(s.at));
        }
        for (labels, histograms) in inner.histograms.iter().filter(|(l, _)| meets(l)) {
            let times = histograms.iter().map(|h| h.0).filter(|at| range.contains(*at));
            inner.deleted.entry(labels.clone()).or_default().extend(times);
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

impl Inner {
    /// What was not deleted.
    fn visible(&self) -> Self {
        let mut left = self.clone();
        for (labels, times) in &self.deleted {
            if let Some(histograms) = left.histograms.get_mut(labels) {
                histograms.retain(|s| !times.contains(&s.0));
            }
        }
        left
    }
}

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

struct Pending<T> {
    ordinal: u64,
    series: SeriesRef,
    sample: T,
    /// It came in a row.
    row: bool,
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

impl Inner {
    fn name(&self, series: SeriesRef) -> Result<Labels, CommitError> {
        let name = self.names.get(series.bits() as usize).cloned();
        name.ok_or_else(|| CommitError::Closed("a reference this store never gave".into()))
    }

    fn bounds(&self, first: Option<Timestamp>) -> Bounds {
        let newest = self.newest.values().map(|(at, _)| *at).max().or(first);
        let newest = newest.unwrap_or(Timestamp::MIN).millis();
        let behind = |ms: i64| Timestamp::from_millis(newest.saturating_sub(ms));
        let window = self.rules.out_of_order_ms;
        Bounds {
            oldest: behind(self.rules.behind_ms),
            late: (window > 0).then(|| behind(window)),
        }
    }

    /// Puts a sample in, or says why not.
    fn put(&mut self, labels: Labels, pending: &Pending<Sample>, bounds: Bounds) -> Option<RejectReason> {
        let sample = pending.sample;
        let newest = self.newest.get(&labels).copied();
        if sample.at >= bounds.oldest && matches!(newest, Some((_, None))) && is_stale(sample.value) {
            return self.put_histogram(labels, sample.at, Arc::new(Histogram::stale()), bounds);
        }
        if sample.at >= bounds.oldest {
            match newest {
                Some((last, _)) if last > sample.at => {}
                Some((last, Some(existing))) if last == sample.at => {
                    return (existing.to_bits() != sample.value.to_bits()).then_some(RejectReason::Duplicate {
                        at: sample.at,
                        existing,
                        new: sample.value,
                    });
                }
                Some((last, None)) if last == sample.at => {
                    return Some(RejectReason::HistogramExists {
                        at: sample.at,
                        new: sample.value,
                    });
                }
                _ => {
                    self.newest.insert(labels.clone(), (sample.at, Some(sample.value)));
                    self.insert(labels, sample);
                    return None;
                }
            }
        }
        match bounds.late {
            Some(oldest) if sample.at < oldest => Some(RejectReason::TooOld),
            Some(_) if pending.row && is_stale(sample.value) => Some(RejectReason::OutOfOrder),
            Some(_) => {
                self.insert(labels, sample);
                None
            }
            None if sample.at < bounds.oldest => Some(RejectReason::OutOfBounds),
            None => Some(RejectReason::OutOfOrder),
        }
    }

    /// What is stored for a time stays.
    fn insert(&mut self, labels: Labels, sample: Sample) {
        let samples = self.samples.entry(labels).or_default();
        if let Err(i) = samples.binary_search_by_key(&sample.at, |s| s.at) {
            samples.insert(i, sample);
        }
    }

    /// Histograms never come late.
    fn put_histogram(
        &mut self,
        labels: Labels,
        at: Timestamp,
        histogram: Arc<Histogram>,
        bounds: Bounds,
    ) -> Option<RejectReason> {
        if at < bounds.oldest {
            return Some(match bounds.late {
                Some(oldest) if at < oldest => RejectReason::TooOld,
                Some(_) => RejectReason::OutOfOrder,
                None => RejectReason::OutOfBounds,
            });
        }
        match self.newest.get(&labels) {
            Some((last, _)) if *last > at => match bounds.late {
                Some(oldest) if at < oldest => return Some(RejectReason::TooOld),
                _ => return Some(RejectReason::OutOfOrder),
            },
            Some((last, float)) if *last == at => {
                let same = self.histograms.get(&labels).and_then(|h| h.last());
                let same = float.is_none() && same.is_some_and(|h| h.1.same_bits(&histogram));
                return (!same).then_some(RejectReason::DuplicateHistogram { at });
            }
            _ => {
                self.newest.insert(labels.clone(), (at, None));
                self.histograms.entry(labels).or_default().push((at, histogram));
            }
        }
        None
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
        for (series, at, exemplar) in &self.exemplars {
            let labels = next.name(*series)?;
            let stored = next.exemplars.entry(labels).or_default();
            match stored.last() {
                Some((last_at, last)) if last.is_repeated_by(*last_at, exemplar, *at) => done.exemplars.repeated += 1,
                Some((last_at, last)) if last.order(*last_at, exemplar, *at).is_gt() => {
                    done.exemplars.out_of_order += 1;
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

impl Queryable for MemoryStore {
    fn querier(&self, range: TimeRange) -> Result<Box<dyn Querier + '_>, SelectError> {
        Ok(Box::new(MemoryQuerier {
            snapshot: self.inner.read().visible(),
            range,
        }))
    }
}

impl ExemplarQueryable for MemoryStore {
    fn exemplars(
        &self,
        selectors: &[Vec<Matcher>],
        range: TimeRange,
        cx: &ReadContext,
    ) -> Result<Vec<SeriesExemplars>, SelectError> {
        cx.cancel.check()?;
        let inner = self.inner.read();
        let found = inner.exemplars.iter().filter(|(labels, _)| {
            let meets = |all: &Vec<Matcher>| all.iter().all(|m| m.matches(labels.value(m.name())));
            selectors.iter().any(meets)
        });
        Ok(found
            .map(|(labels, stored)| SeriesExemplars {
                labels: labels.clone(),
                exemplars: stored
                    .iter()
                    .filter(|(at, _)| range.contains(*at))
                    .map(|(at, exemplar)| Exemplar {
                        at: Some(*at),
                        ..exemplar.clone()
                    })
                    .collect(),
            })
            .filter(|series| !series.exemplars.is_empty())
            .collect())
    }
}

struct MemoryQuerier {
    snapshot: Inner,
    range: TimeRange,
}

impl MemoryQuerier {
    /// Series of one kind with their samples in the range.
    fn matching<'a, T: Clone>(
        &'a self,
        stored: &'a BTreeMap<Labels, Vec<T>>,
        at: fn(&T) -> Timestamp,
        matchers: &'a [Matcher],
        range: TimeRange,
    ) -> impl Iterator<Item = (&'a Labels, Vec<T>)> {
        let range = TimeRange::new(range.start.max(self.range.start), range.end.min(self.range.end));
        stored
            .iter()
            .filter(|(labels, _)| matchers.iter().all(|m| m.matches(labels.value(m.name()))))
            .map(move |(labels, samples)| {
                let inside = samples.iter().filter(|s| range.contains(at(s)));
                (labels, inside.cloned().collect::<Vec<_>>())
            })
            .filter(|(_, samples)| !samples.is_empty())
    }

    fn floats<'a>(
        &'a self,
        matchers: &'a [Matcher],
        range: TimeRange,
    ) -> impl Iterator<Item = (&'a Labels, Vec<Sample>)> {
        self.matching(&self.snapshot.samples, |s| s.at, matchers, range)
    }

    fn histograms<'a>(
        &'a self,
        matchers: &'a [Matcher],
        range: TimeRange,
    ) -> impl Iterator<Item = (&'a Labels, Vec<HistogramSample>)> {
        self.matching(&self.snapshot.histograms, |s| s.0, matchers, range)
    }

    /// The label sets that match, whatever the kind of their samples.
    fn label_sets(&self, matchers: &[Matcher]) -> BTreeSet<Labels> {
        let floats = self.floats(matchers, self.range).map(|(l, _)| l.clone());
        floats
            .chain(self.histograms(matchers, self.range).map(|(l, _)| l.clone()))
            .collect()
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
        let floats = self
            .floats(matchers, hints.range)
            .map(|(labels, samples)| -> Box<dyn SeriesGroup> {
                Box::new(OneSeries {
                    labels: labels.clone(),
                    timestamps: samples.iter().map(|s| s.at).collect(),
                    values: samples.iter().map(|s| s.value).collect(),
                })
            });
        let histograms = self
            .histograms(matchers, hints.range)
            .map(|(labels, samples)| -> Box<dyn SeriesGroup> {
                Box::new(OneHistogram {
                    labels: labels.clone(),
                    timestamps: samples.iter().map(|s| s.0).collect(),
                    values: samples.into_iter().map(|s| s.1).collect(),
                })
            });
        Ok(floats.chain(histograms).collect())
    }

    fn series(&self, matchers: &[Matcher], limit: usize, _: &ReadContext) -> Result<Limited<Vec<Labels>>, SelectError> {
        Ok(limited(self.label_sets(matchers).into_iter().collect(), limit))
    }

    fn label_names(
        &self,
        matchers: &[Matcher],
        limit: usize,
        _: &ReadContext,
    ) -> Result<Limited<Vec<String>>, SelectError> {
        let names: BTreeSet<String> = self
            .label_sets(matchers)
            .iter()
            .flat_map(|l| l.iter().map(|(n, _)| n.to_owned()))
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
            .label_sets(matchers)
            .iter()
            .filter_map(|l| l.get(name).map(str::to_owned))
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

#[derive(Debug)]
struct OneHistogram {
    labels: Labels,
    timestamps: Vec<Timestamp>,
    values: Vec<Arc<Histogram>>,
}

impl SeriesGroup for OneHistogram {
    fn timestamps(&self) -> &[Timestamp] {
        &self.timestamps
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

    fn read<'b>(&'b self, _series: usize, _buf: &'b mut ColumnBuf) -> Result<Column<'b>, SelectError> {
        Ok(Column {
            timestamps: &self.timestamps,
            values: Values::Histogram(&self.values),
            dense: true,
            has_stale: self.values.iter().any(|h| h.is_stale()),
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
