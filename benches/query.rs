//! 100 targets of 1,000 series with an hour of samples every 15 s: finding one of them, and rates over all of a metric.
#![allow(
    missing_docs,
    clippy::expect_used,
    reason = "criterion's macros make public items without docs; a bench that cannot start stops"
)]

use criterion::{Criterion, criterion_group, criterion_main};
use std::sync::Arc;
use tidegauge_benches::Cluster;
use tidegauge_model::testing::HandClock;
use tidegauge_model::{
    Appendable, ColumnBuf, Matcher, OnReject, Queryable, ReadContext, SelectHints, TimeRange, Timestamp,
};
use tidegauge_query::{Engine, EngineOptions, ParseOptions, Query};
use tidegauge_tsdb::{Db, Fsync, Options};

const START_MS: i64 = 1_700_006_400_000;
const STEP_MS: i64 = 15_000;
const ROWS: i64 = 240;

fn at(row: i64) -> Timestamp {
    Timestamp::from_millis(START_MS + row * STEP_MS)
}

fn filled(dir: &std::path::Path) -> Arc<Db> {
    let clock = Arc::new(HandClock::at(at(ROWS)));
    let db = Db::open(
        dir,
        Options {
            fsync: Fsync::Never,
            ..Options::default()
        },
        clock,
    )
    .expect("a fresh store opens");
    let mut cluster = Cluster::new(100, 1000, 7);
    for row in 0..ROWS {
        for target in 0..cluster.targets() {
            let mut appender = db.appender();
            let timeline = appender.timeline(&format!("bench/{target}")).expect("a timeline");
            let mut values = Vec::new();
            for (labels, value) in cluster.labels(target).zip(cluster.values(target)) {
                values.push((appender.resolve(Some(timeline), labels).expect("a column"), *value));
            }
            appender
                .append_row(timeline, at(row), &values)
                .expect("the columns are known");
            appender.commit(OnReject::Skip).expect("the log takes it");
        }
        cluster.tick();
    }
    db
}

fn select(c: &mut Criterion, db: &Db) {
    let matchers = [
        Matcher::equal("__name__", "http_requests_total"),
        Matcher::equal("pod", "app-42-7d9f8b6c5d-00003"),
        Matcher::equal("slot", "4"),
    ];
    let range = TimeRange::new(at(0), at(ROWS));
    c.bench_function("select/1 of 100k series", |b| {
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

fn rate(c: &mut Criterion, db: &Db) {
    let engine = Engine::new(EngineOptions::default());
    for (name, text) in [
        (
            "rate/12k series, 1 h at 60 s",
            "sum by (namespace) (rate(http_requests_total[5m]))",
        ),
        (
            "rate/of one namespace",
            "sum by (pod) (rate(http_requests_total{namespace=\"shop\"}[5m]))",
        ),
    ] {
        let query = Query::parse(text, &ParseOptions::default()).expect("it parses");
        c.bench_function(name, |b| {
            b.iter(|| {
                engine
                    .range(db, &query, at(20), at(ROWS - 1), 60_000)
                    .expect("an answer")
            });
        });
    }
}

fn query(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a folder for the bench");
    let db = filled(dir.path());
    select(c, &db);
    rate(c, &db);
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = query
}
criterion_main!(benches);
