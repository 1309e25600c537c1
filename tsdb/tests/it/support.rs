//! What the other files share: a store in memory, and its whole content as a map.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tidegauge_model::testing::HandClock;
use tidegauge_model::{ColumnBuf, Labels, Queryable, ReadContext, SelectHints, TimeRange, Timestamp, Values, is_stale};
use tidegauge_tsdb::fs::Fs;
use tidegauge_tsdb::{Db, Error, Fsync, Options};

pub(crate) const DIR: &str = "/data";

/// Series with their samples, values by bits.
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

pub(crate) fn counter(db: &Db, name: &str) -> f64 {
    db.metrics()
        .list()
        .iter()
        .find(|f| f.0 == name)
        .map(|f| f.3[0].1)
        .unwrap()
}

pub(crate) fn open(fs: &Arc<dyn Fs>, options: Options) -> Result<Arc<Db>, Error> {
    let clock = Arc::new(HandClock::at(at(i64::MAX / 4)));
    Db::open_with(Arc::clone(fs), Path::new(DIR), options, clock)
}

/// All that a store answers for a range, checked against what the door promises.
pub(crate) fn content(store: &dyn Queryable, range: TimeRange) -> Content {
    let querier = store.querier(range).unwrap();
    let set = querier
        .select(&[], &SelectHints::range(range), &ReadContext::unlimited())
        .unwrap();
    let mut out = Content::new();
    let mut buf = ColumnBuf::default();
    for group in &set {
        assert!(group.timestamps().is_sorted_by(|a, b| a < b), "times of a group rise");
        for series in 0..group.len() {
            let column = group.read(series, &mut buf).unwrap();
            let Values::Float(values) = column.values else {
                panic!("a float column")
            };
            assert_eq!(column.timestamps.len(), values.len());
            assert!(column.timestamps.is_sorted_by(|a, b| a < b), "times of a column rise");
            assert!(column.timestamps.iter().all(|t| range.contains(*t)));
            assert!(!column.dense || column.timestamps == group.timestamps());
            assert!(
                column.has_stale || !values.iter().any(|v| is_stale(*v)),
                "has_stale is a promise"
            );
            let samples: Vec<_> = column
                .timestamps
                .iter()
                .zip(values)
                .map(|(t, v)| (t.millis(), v.to_bits()))
                .collect();
            if !samples.is_empty() {
                assert!(
                    out.insert(group.labels(series), samples).is_none(),
                    "no series comes twice"
                );
            }
        }
    }
    out
}

pub(crate) fn all(store: &dyn Queryable) -> Content {
    content(store, TimeRange::ALL)
}
