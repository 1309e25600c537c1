//! What the other files share: a store in memory, and its whole content as a map.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tidegauge_model::testing::{HandClock, example_histogram};
use tidegauge_model::{
    Appendable, ColumnBuf, ColumnKind, CommitError, Committed, Counts, Histogram, Labels, OnReject, Presence, Querier,
    Queryable, ReadContext, RejectReason, SelectHints, SeriesGroup, Span, TimeRange, Timestamp, Values, is_stale,
};
use tidegauge_tsdb::fs::Fs;
use tidegauge_tsdb::{Db, Error, Fsync, Options};

pub(crate) const DIR: &str = "/data";

/// Series with their samples: floats by bits, histograms by [`fingerprint`] under a label set of [`of_histograms`].
pub(crate) type Content = BTreeMap<Labels, Vec<(i64, u64)>>;

pub(crate) fn at(ms: i64) -> Timestamp {
    Timestamp::from_millis(ms)
}

pub(crate) fn labels(name: &str) -> Labels {
    Labels::from_pairs([("__name__", name), ("job", "test")]).unwrap()
}

pub(crate) fn options(fsync: Fsync) -> Options {
    Options {
        fsync,
        maintenance: None,
        ..Options::default()
    }
}

/// Every round of maintenance moves runs to a file and writes a checkpoint.
pub(crate) fn eager(options: Options) -> Options {
    Options {
        run_file_age: Duration::ZERO,
        checkpoint_age: Duration::ZERO,
        ..options
    }
}

/// The value of a metric that has one.
pub(crate) fn metric(db: &Db, name: &str) -> f64 {
    let families = db.metrics().list();
    families.iter().find(|f| f.0 == name).map(|f| f.3[0].1).unwrap()
}

/// Commits one row of a timeline, without what does not fit.
pub(crate) fn row(db: &Db, key: &str, time: i64, values: &[(&str, f64)]) -> Result<Committed, CommitError> {
    let mut appender = db.appender();
    let timeline = appender.timeline(key).unwrap();
    let row: Vec<_> = values
        .iter()
        .map(|(name, value)| (appender.resolve(Some(timeline), &labels(name)).unwrap(), *value))
        .collect();
    appender.append_row(timeline, at(time), &row).unwrap();
    appender.commit(OnReject::Skip)
}

/// Commits such a row; gives why samples of it were refused.
pub(crate) fn refused_of_row(db: &Db, key: &str, time: i64, values: &[(&str, f64)]) -> Vec<RejectReason> {
    let done = row(db, key, time, values).unwrap();
    done.rejected.iter().map(|r| r.reason).collect()
}

pub(crate) fn open(fs: &Arc<dyn Fs>, options: Options) -> Result<Arc<Db>, Error> {
    let clock = Arc::new(HandClock::at(at(i64::MAX / 4)));
    Db::open_with(Arc::clone(fs), Path::new(DIR), options, clock)
}

/// What a series' histograms are listed under.
pub(crate) fn of_histograms(labels: &Labels) -> Labels {
    let kind = ("kind", "histogram");
    Labels::from_pairs(labels.iter().chain([kind])).unwrap()
}

/// Stands for a histogram, bit by bit.
pub(crate) fn fingerprint(h: &Histogram) -> u64 {
    let mut hasher = DefaultHasher::new();
    let bits = |all: &[f64]| all.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    let spans = |all: &[Span]| all.iter().map(|s| (s.offset, s.length)).collect::<Vec<_>>();
    (h.counts == Counts::Float, h.schema, format!("{:?}", h.reset_hint)).hash(&mut hasher);
    bits(&[h.zero_threshold, h.zero_count, h.count, h.sum]).hash(&mut hasher);
    (spans(&h.positive_spans), bits(&h.positive_buckets)).hash(&mut hasher);
    (spans(&h.negative_spans), bits(&h.negative_buckets)).hash(&mut hasher);
    bits(&h.custom_values).hash(&mut hasher);
    hasher.finish()
}

/// A valid histogram that depends on `n` in all its parts.
pub(crate) fn histogram(n: u32) -> Histogram {
    let n = f64::from(n);
    Histogram {
        counts: if n % 5.0 == 4.0 { Counts::Float } else { Counts::Integer },
        schema: (n % 3.0) as i32,
        ..example_histogram(n)
    }
}

/// All that a store answers for a range, checked against what the door promises.
pub(crate) fn content(store: &dyn Queryable, range: TimeRange) -> Content {
    view_content(&*store.querier(range).unwrap(), range)
}

/// The same of a view.
pub(crate) fn view_content(querier: &dyn Querier, range: TimeRange) -> Content {
    let set = querier
        .select(&[], &SelectHints::range(range), &ReadContext::unlimited())
        .unwrap();
    let mut out = Content::new();
    let mut buf = ColumnBuf::default();
    for group in &set {
        assert!(group.timestamps().is_sorted_by(|a, b| a < b), "times of a group rise");
        for series in 0..group.len() {
            let column = group.read(series, &mut buf).unwrap();
            let (kind, values, stale): (_, Vec<u64>, _) = match column.values {
                Values::Float(values) => (
                    ColumnKind::Float,
                    values.iter().map(|v| v.to_bits()).collect(),
                    values.iter().any(|v| is_stale(*v)),
                ),
                Values::Histogram(values) => (
                    ColumnKind::Histogram,
                    values.iter().map(|h| fingerprint(h)).collect(),
                    values.iter().any(|h| h.is_stale()),
                ),
            };
            assert_eq!(kind, group.kind(series));
            assert_eq!(column.timestamps.len(), values.len());
            assert!(column.timestamps.is_sorted_by(|a, b| a < b), "times of a column rise");
            assert!(column.timestamps.iter().all(|t| range.contains(*t)));
            assert!(!column.dense || column.timestamps == group.timestamps());
            assert!(column.has_stale || !stale, "has_stale is a promise");
            let samples: Vec<_> = column
                .timestamps
                .iter()
                .zip(values)
                .map(|(t, v)| (t.millis(), v))
                .collect();
            check_presence(&**group, series, &samples);
            if !samples.is_empty() {
                let labels = match kind {
                    ColumnKind::Float => group.labels(series),
                    ColumnKind::Histogram => of_histograms(&group.labels(series)),
                };
                assert!(out.insert(labels, samples).is_none(), "no series comes twice");
            }
        }
    }
    out
}

/// What is told of presence is what a read shows: when there are samples, and which of them are stale markers.
fn check_presence(group: &dyn SeriesGroup, series: usize, samples: &[(i64, u64)]) {
    let mut buf = ColumnBuf::default();
    let is_marker = |bits: &u64| is_stale(f64::from_bits(*bits));
    let column = match group.presence(series, &mut buf).unwrap() {
        Presence::Column(column) => column,
        Presence::Full => {
            assert_eq!(group.kind(series), ColumnKind::Float);
            assert!(
                group
                    .timestamps()
                    .iter()
                    .map(|t| t.millis())
                    .eq(samples.iter().map(|s| s.0))
            );
            assert!(!samples.iter().any(|s| is_marker(&s.1)));
            return;
        }
    };
    assert!(
        column
            .timestamps
            .iter()
            .map(|t| t.millis())
            .eq(samples.iter().map(|s| s.0))
    );
    match column.values {
        Values::Float(values) => {
            assert!(
                values
                    .iter()
                    .map(|v| is_stale(*v))
                    .eq(samples.iter().map(|s| is_marker(&s.1)))
            );
            assert!(column.has_stale || !samples.iter().any(|s| is_marker(&s.1)));
        }
        Values::Histogram(values) => assert!(values.iter().map(|h| fingerprint(h)).eq(samples.iter().map(|s| s.1))),
    }
}

pub(crate) fn all(store: &dyn Queryable) -> Content {
    content(store, TimeRange::ALL)
}
