//! Queries over stores filled by rows, 15 s apart: finding one of 100,000 series; rates, quantiles, ranking, labels
//! changed and matched over many.
//!
//! | store | what is in it |
//! |---|---|
//! | wide | 100 targets of 1,000 series of twelve metrics, an hour |
//! | counters | 10 targets of 1,000 counters, one in a hundred with a reset now and then, six hours |
//! | buckets | 10 targets of 100 histograms of 12 buckets, an hour |
#![allow(
    missing_docs,
    clippy::expect_used,
    reason = "criterion's macros make public items without docs; a bench that cannot start stops"
)]

use criterion::{Criterion, criterion_group, criterion_main};
use std::cell::LazyCell;
use std::sync::Arc;
use tidegauge_benches::{Cluster, Rng, storage};
use tidegauge_model::testing::HandClock;
use tidegauge_model::{
    Appendable, ColumnBuf, Labels, Matcher, OnReject, Queryable, ReadContext, SelectHints, SeriesRef, TimeRange,
    Timestamp,
};
use tidegauge_query::{Engine, EngineOptions, ParseOptions, Query, QueryOutput, Value};
use tidegauge_tsdb::Db;

const START_MS: i64 = 1_700_006_400_000;
const STEP_MS: i64 = 15_000;
const HOUR: i64 = 240;

fn at(row: i64) -> Timestamp {
    Timestamp::from_millis(START_MS + row * STEP_MS)
}

/// Series of some targets, and the next row of each.
trait Source {
    fn targets(&self) -> usize;
    fn labels(&self, target: usize) -> Vec<Labels>;
    fn values(&mut self, target: usize, out: &mut Vec<f64>);
}

impl Source for Cluster {
    fn targets(&self) -> usize {
        Cluster::targets(self)
    }

    fn labels(&self, target: usize) -> Vec<Labels> {
        Cluster::labels(self, target).cloned().collect()
    }

    fn values(&mut self, target: usize, out: &mut Vec<f64>) {
        if target == 0 {
            self.tick();
        }
        out.extend_from_slice(Cluster::values(self, target));
    }
}

/// Whole-numbered counters.
struct Counters {
    rng: Rng,
    now: Vec<Vec<f64>>,
}

impl Counters {
    const SERIES: usize = 1000;

    fn new(targets: usize) -> Self {
        Self {
            rng: Rng::new(11),
            now: vec![vec![0.0; Self::SERIES]; targets],
        }
    }
}

impl Source for Counters {
    fn targets(&self) -> usize {
        self.now.len()
    }

    fn labels(&self, target: usize) -> Vec<Labels> {
        (0..Self::SERIES)
            .map(|i| {
                let pairs = [
                    ("__name__", "requests_total".to_owned()),
                    ("code", ["200", "204", "404", "500"][i % 4].to_owned()),
                    ("instance", format!("10.1.0.{target}:9100")),
                    ("job", "web".to_owned()),
                    ("namespace", ["shop", "payments", "search"][i % 3].to_owned()),
                    ("pod", format!("web-{target}-{:03}", i / 4)),
                ];
                Labels::from_pairs(pairs).expect("a label set")
            })
            .collect()
    }

    fn values(&mut self, target: usize, out: &mut Vec<f64>) {
        for (i, now) in self.now[target].iter_mut().enumerate() {
            let reset = i % 100 == 7 && self.rng.below(400) == 0;
            *now = if reset { 0.0 } else { *now + self.rng.below(40) as f64 };
        }
        out.extend_from_slice(&self.now[target]);
    }
}

/// Latencies that fall into buckets.
struct Buckets {
    rng: Rng,
    now: Vec<Vec<f64>>,
}

impl Buckets {
    const HISTOGRAMS: usize = 100;
    const BOUNDS: [&'static str; 12] = [
        "0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "+Inf",
    ];

    fn new(targets: usize) -> Self {
        Self {
            rng: Rng::new(13),
            now: vec![vec![0.0; Self::HISTOGRAMS * Self::BOUNDS.len()]; targets],
        }
    }
}

impl Source for Buckets {
    fn targets(&self) -> usize {
        self.now.len()
    }

    fn labels(&self, target: usize) -> Vec<Labels> {
        let one = |route: usize, le: &str| {
            let pairs = [
                ("__name__", "latency_seconds_bucket".to_owned()),
                ("instance", format!("10.2.0.{target}:9100")),
                ("job", "api".to_owned()),
                ("le", le.to_owned()),
                ("route", format!("/api/{route}")),
            ];
            Labels::from_pairs(pairs).expect("a label set")
        };
        (0..Self::HISTOGRAMS)
            .flat_map(|route| Self::BOUNDS.map(|le| one(route, le)))
            .collect()
    }

    fn values(&mut self, target: usize, out: &mut Vec<f64>) {
        for buckets in self.now[target].chunks_mut(Self::BOUNDS.len()) {
            for _ in 0..self.rng.below(20) {
                let lowest = (self.rng.below(4) + self.rng.below(4) + self.rng.below(6)) as usize;
                buckets.iter_mut().skip(lowest).for_each(|count| *count += 1.0);
            }
        }
        out.extend_from_slice(&self.now[target]);
    }
}

/// A store on disk for as long as it lives.
struct Filled {
    db: Arc<Db>,
    _dir: tempfile::TempDir,
}

fn filled(source: &mut dyn Source, rows: i64) -> Filled {
    let dir = tempfile::tempdir().expect("a folder for the bench");
    let clock = Arc::new(HandClock::at(at(0)));
    let db = Db::open(dir.path(), storage::options(), clock.clone()).expect("a fresh store opens");
    let mut columns: Vec<Vec<SeriesRef>> = vec![Vec::new(); source.targets()];
    let (mut values, mut row) = (Vec::new(), Vec::new());
    for number in 0..rows {
        clock.set(at(number));
        for (target, columns) in columns.iter_mut().enumerate() {
            let mut appender = db.appender();
            let timeline = appender.timeline(&format!("bench/{target}")).expect("a timeline");
            if columns.is_empty() {
                for labels in source.labels(target) {
                    columns.push(appender.resolve(Some(timeline), &labels).expect("a column"));
                }
            }
            values.clear();
            source.values(target, &mut values);
            row.clear();
            row.extend(columns.iter().copied().zip(values.iter().copied()));
            appender
                .append_row(timeline, at(number), &row)
                .expect("the columns are known");
            appender.commit(OnReject::Skip).expect("the log takes it");
        }
        if number % 20 == 19 {
            db.maintain().expect("maintenance");
        }
    }
    Filled { db, _dir: dir }
}

/// A store that is filled once somebody measures something on it.
type Store = LazyCell<Filled, Box<dyn FnOnce() -> Filled>>;

fn store<S: Source + 'static>(mut source: S, rows: i64) -> Store {
    LazyCell::new(Box::new(move || filled(&mut source, rows)))
}

fn select(c: &mut Criterion, store: &Store) {
    let matchers = [
        Matcher::equal("__name__", "http_requests_total"),
        Matcher::equal("pod", "app-42-7d9f8b6c5d-00003"),
        Matcher::equal("slot", "4"),
    ];
    let range = TimeRange::new(at(0), at(HOUR));
    c.bench_function("select/1 of 100k series", |b| {
        let db = &store.db;
        let mut buf = ColumnBuf::default();
        b.iter(|| {
            let querier = db.querier(range).expect("a view");
            let cx = ReadContext::unlimited();
            let set = querier
                .select(&matchers, &SelectHints::range(range), &cx)
                .expect("an answer");
            let group = set.first().expect("the series is there");
            group.read(0, &mut buf).expect("its samples").timestamps.len()
        });
    });
}

/// When a query is evaluated.
#[derive(Clone, Copy)]
enum When {
    /// At a row.
    Once(i64),
    /// From one row to another, at a step.
    Steps(i64, i64, i64),
}

fn run(engine: &Engine, db: &Db, query: &Query, when: When) -> QueryOutput {
    match when {
        When::Once(row) => engine.instant(db, query, at(row)),
        When::Steps(first, last, step_ms) => engine.range(db, query, at(first), at(last), step_ms),
    }
    .expect("an answer")
}

/// Measures an expression, which answers with so many series.
fn expression(c: &mut Criterion, store: &Store, name: &str, text: &str, when: When, series: usize) {
    c.bench_function(name, |b| {
        let engine = Engine::new(EngineOptions::default());
        let query = Query::parse(text, &ParseOptions::default()).expect("it parses");
        let found = match run(&engine, &store.db, &query, when).value {
            Value::Vector(samples) => samples.len(),
            Value::Matrix(series) => series.len(),
            Value::Scalar(_) | Value::String { .. } => 0,
        };
        assert_eq!(found, series, "{text}");
        b.iter(|| run(&engine, &store.db, &query, when));
    });
}

fn wide(c: &mut Criterion) {
    let store = store(Cluster::new(100, 1000, 7), HOUR);
    select(c, &store);
    let (last, minute) = (HOUR - 1, 60_000);
    for (name, text, when, series) in [
        (
            "rate/8k series, 1 h at 60 s",
            "sum by (namespace) (rate(http_requests_total[5m]))",
            When::Steps(20, last, minute),
            4,
        ),
        (
            "rate/of one namespace",
            "sum by (pod) (rate(http_requests_total{namespace=\"shop\"}[5m]))",
            When::Steps(20, last, minute),
            200,
        ),
        (
            "over_time/peak of 9k series, 1 h at 60 s",
            "max by (namespace) (max_over_time(container_memory_working_set_bytes[5m]))",
            When::Steps(20, last, minute),
            4,
        ),
        (
            "over_time/mean of 8k series, 1 h at 60 s",
            "avg by (namespace) (avg_over_time(go_gc_heap_ratio[5m]))",
            When::Steps(20, last, minute),
            4,
        ),
        (
            "topk/of 100k series, instant",
            "topk(20, {job=\"pods\"})",
            When::Once(last),
            20,
        ),
        (
            "topk/of 100k series, 1 h at 60 s",
            "count(topk(20, {job=\"pods\"}))",
            When::Steps(20, last, minute),
            1,
        ),
        (
            "labels/label_replace over 100k series",
            "label_replace({job=\"pods\"}, \"target\", \"$1\", \"pod\", \"app-([0-9]+)-.*\")",
            When::Once(last),
            100_000,
        ),
        (
            "labels/regex over 100k series",
            "count({pod=~\"app-.*[0-9]-.*c[0-9]d-.*[02468]\"})",
            When::Once(last),
            1,
        ),
        (
            "labels/count 100k series by name",
            "count by (__name__) ({job=\"pods\"})",
            When::Once(last),
            12,
        ),
        (
            "binary/two times 8k series, 1 h at 60 s",
            "count(http_requests_total / on (instance, pod, slot) (http_requests_total offset 5m))",
            When::Steps(20, last, minute),
            1,
        ),
    ] {
        expression(c, &store, name, text, when, series);
    }
}

fn counters(c: &mut Criterion) {
    let store = store(Counters::new(10), 6 * HOUR);
    expression(
        c,
        &store,
        "rate/10k series, 6 h at 60 s",
        "sum by (namespace) (rate(requests_total[5m]))",
        When::Steps(20, 6 * HOUR - 1, 60_000),
        3,
    );
}

fn buckets(c: &mut Criterion) {
    let store = store(Buckets::new(10), HOUR);
    expression(
        c,
        &store,
        "histogram_quantile/1k x 12 buckets, 1 h at 60 s",
        "histogram_quantile(0.99, rate(latency_seconds_bucket[5m]))",
        When::Steps(20, HOUR - 1, 60_000),
        1000,
    );
    expression(
        c,
        &store,
        "histogram_quantile/1k x 12 buckets by route",
        "histogram_quantile(0.99, sum by (le, route) (rate(latency_seconds_bucket[5m])))",
        When::Steps(20, HOUR - 1, 60_000),
        100,
    );
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = wide, counters, buckets
}
criterion_main!(benches);
