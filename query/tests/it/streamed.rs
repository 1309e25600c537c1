//! What is streamed through an aggregation, or read without its values, gives what it gives by way of a table of all
//! values: on the store in memory and on the real one, wherever the samples lie.

use crate::store::{DbStore, Layout, TestStore};
use std::collections::BTreeMap;
use tidegauge_model::testing::MemoryStore;
use tidegauge_model::{Labels, Queryable, Sample, Timestamp, stale_marker};
use tidegauge_query::{Engine, EngineOptions, Features, ParseOptions, Query, QueryOutput, StatsLevel, Value};

const STEP_MS: i64 = 15_000;

fn at(ms: i64) -> Timestamp {
    Timestamp::from_millis(ms)
}

/// 24 series of `m`, and as many of `other`: whole ones, some with gaps, with stale markers in the middle or at the end,
/// some that come late; NaN and infinities among their values.
fn fill(store: &mut dyn TestStore) {
    for (name, scale) in [("m", 1.0), ("other", -0.5)] {
        for i in 0..24i64 {
            let (pod, job) = (format!("p{}", i % 5), format!("j{}", i / 8));
            let pairs = [("__name__", name), ("job", &job), ("nr", &i.to_string()), ("pod", &pod)];
            let labels = Labels::from_pairs(pairs).unwrap();
            let value = |k: i64| match (i * 31 + k * 17) % 97 {
                3 => f64::NAN,
                5 => f64::NEG_INFINITY,
                7 => -0.0,
                // No sum of these is rounded, in whatever order they come.
                n => (n - 40) as f64 * 0.25 * scale,
            };
            let there = |k: i64| match i {
                2 | 11 => k % 7 != 3,
                5 => k >= 25,
                17 => k < 30,
                _ => true,
            };
            let stale = |k: i64| matches!((i, k), (4, 20) | (4, 21) | (9, 39) | (20, 3));
            let samples: Vec<Sample> = (0..40)
                .filter(|k| there(*k))
                .map(|k| Sample {
                    at: at(k * STEP_MS),
                    value: if stale(k) { stale_marker() } else { value(k) },
                })
                .collect();
            store.add(&labels, &samples);
        }
    }
}

/// Series with their points by bits (any NaN is as good as another), what was noted (but for where), and what was counted.
#[derive(Debug, PartialEq)]
struct Told {
    series: BTreeMap<String, Vec<(i64, u64)>>,
    notes: Vec<String>,
    samples: u64,
    samples_per_step: Option<Vec<(Timestamp, u64)>>,
}

fn told(output: QueryOutput) -> Told {
    let Value::Matrix(series) = output.value else {
        panic!("no matrix");
    };
    let bits = |value: f64| if value.is_nan() { f64::NAN } else { value }.to_bits();
    Told {
        series: series
            .iter()
            .map(|s| {
                (
                    s.labels.to_string(),
                    s.points.iter().map(|p| (p.at.millis(), bits(p.value))).collect(),
                )
            })
            .collect(),
        notes: [output.annotations.warnings(), output.annotations.infos()]
            .concat()
            .iter()
            .map(|note| {
                note.rsplit_once(" (")
                    .map_or(note.as_str(), |(what, _)| what)
                    .to_owned()
            })
            .collect(),
        samples: output.stats.samples,
        samples_per_step: output.stats.samples_per_step,
    }
}

fn ask(store: &dyn Queryable, text: &str, features: Features) -> Result<Told, String> {
    let engine = Engine::new(EngineOptions {
        features,
        ..EngineOptions::default()
    });
    let mut query = Query::parse(
        text,
        &ParseOptions {
            features,
            ..ParseOptions::default()
        },
    )
    .unwrap();
    query.stats = StatsLevel::PerStep;
    // From before the first sample to beyond the lookback after the last.
    let output = engine.range(store, &query, at(-60_000), at(960_000), 20_000);
    output.map(told).map_err(|e| e.to_string())
}

/// What takes rows one by one.
const OPERANDS: [&str; 31] = [
    "m",
    "m * 2",
    "2 - m",
    "m / time()",
    "1 / m",
    "m % 7",
    "7 ^ m",
    "m atan2 2",
    "-m",
    "-(-m)",
    "m > 2",
    "2 >= m",
    "m == bool 0",
    "(m < 5) * 3",
    "-(m != 3)",
    "abs(m)",
    "sgn(m)",
    "hour(m)",
    "round(m, 2)",
    "clamp(m, -2, 3)",
    "clamp_max(m, 1) > -1",
    "clamp(m, time(), 300)",
    "timestamp(m)",
    "timestamp(-m)",
    "rate(m[1m]) * 100",
    "abs(rate(m[2m])) > bool 0.1",
    "-max_over_time(m[1m])",
    "count_over_time(m[1m])",
    "present_over_time(m[45s])",
    "ts_of_last_over_time(m[1m])",
    "max_over_time((m * 2)[2m:30s])",
];

/// What takes the rows. A sum looks at values in order of series, which a table does not change.
const AGGREGATIONS: [&str; 9] = [
    "sum",
    "avg",
    "min",
    "max",
    "count",
    "group",
    "stddev",
    "sum by (pod)",
    "count by (job)",
];

#[test]
fn rows_give_what_a_table_gives() {
    let mut stores: Vec<Box<dyn TestStore>> = vec![Box::new(MemoryStore::new())];
    stores.extend(Layout::ALL.map(|layout| Box::new(DbStore::laid_out(layout)) as Box<dyn TestStore>));
    for store in &mut stores {
        fill(&mut **store);
        store.prepare();
    }
    let features = |delayed_name_removal| Features {
        delayed_name_removal,
        experimental_functions: true,
        ..Features::default()
    };
    for features in [features(false), features(true)] {
        for operand in OPERANDS {
            for aggregation in AGGREGATIONS {
                let streamed = format!("{aggregation} ({operand})");
                // A function of whole vectors that changes nothing.
                let by_table = format!("{aggregation} (label_replace({operand}, \"x\", \"\", \"pod\", \"none\"))");
                for store in &stores {
                    let expect = ask(store.queryable(), &by_table, features);
                    assert!(
                        expect.as_ref().is_ok_and(|told| !told.series.is_empty()),
                        "{by_table}: {expect:?}"
                    );
                    assert_eq!(ask(store.queryable(), &streamed, features), expect, "{streamed}");
                }
            }
        }
    }
}

/// Where only the presence of samples matters, the store need not decode: what it says must be the same.
#[test]
fn presence_is_that_of_the_values() {
    let mut memory = MemoryStore::new();
    fill(&mut memory);
    for layout in Layout::ALL {
        let mut store = DbStore::laid_out(layout);
        fill(&mut store);
        store.prepare();
        for text in [
            "count(sum by (pod) (m))",
            "count(m and on (pod, nr) other > 2)",
            "sum by (job) (m unless on (nr) (other offset 5m))",
            "sum by (job) (m and on (nr) (other offset 5m))",
            "count(m + on (nr) other)",
            "count(m or other)",
            "absent(m{nr=\"17\"})",
            "absent(m{nr=\"4\"} * 2)",
            "absent_over_time(m{nr=\"5\"}[1m])",
            "count(rate(m[1m]))",
            "count(irate(m[30s]))",
            "count_over_time(m[1m])",
            "count_over_time(m[10m:20s])",
            "sum by (pod) (count_over_time(m[2m]))",
            "count by (__name__) ({__name__=~\".+\",job=~\"j.*\"})",
            "group by (pod, job) (m @ 300)",
            "count(count_over_time(m[1m] offset 1m)) + count(m offset -1m)",
        ] {
            let features = Features::default();
            let expect = ask(&memory, text, features);
            assert!(
                expect.as_ref().is_ok_and(|told| !told.series.is_empty()),
                "{text}: {expect:?}"
            );
            assert_eq!(ask(store.queryable(), text, features), expect, "{text} {layout:?}");
        }
    }
}

/// Series of several metrics that become one by losing their names are an error, with or without a table.
#[test]
fn twins_are_refused_where_they_meet() {
    let mut memory = MemoryStore::new();
    fill(&mut memory);
    let twins = "vector cannot contain metrics with the same labelset";
    for text in [
        "sum(-{__name__=~\"m|other\"})",
        "count(abs({__name__=~\"m|other\"}))",
        "sum(abs(-{__name__=~\"m|other\"}))",
        "max({__name__=~\"m|other\"} * 2)",
        "min(clamp_max({__name__=~\"m|other\"}, 1))",
        "sum(rate({__name__=~\"m|other\"}[1m]) * 2)",
    ] {
        assert_eq!(ask(&memory, text, Features::default()).unwrap_err(), twins, "{text}");
        let delayed = Features {
            delayed_name_removal: true,
            ..Features::default()
        };
        assert!(ask(&memory, text, delayed).is_ok(), "{text}");
    }
    assert!(ask(&memory, "sum({__name__=~\"m|other\"} > 1)", Features::default()).is_ok());
}
