//! Properties of the engine on random data and expressions.

use proptest::prelude::*;
use std::collections::BTreeMap;
use tidegauge_model::testing::MemoryStore;
use tidegauge_model::{Labels, Timestamp, stale_marker};
use tidegauge_query::{Engine, EngineOptions, Features, ParseOptions, Query, Value};

const STEP_MS: i64 = 20_000;
const STEPS: i64 = 12;

/// Samples every 15 s or so, with gaps, resets, stale markers, NaN and infinities.
fn column() -> impl Strategy<Value = Vec<Option<(i64, f64)>>> {
    let value = prop_oneof![
        20 => (-20i32..100).prop_map(f64::from),
        1 => Just(stale_marker()),
        1 => Just(f64::NAN),
        1 => Just(f64::INFINITY),
        1 => Just(0.0),
    ];
    proptest::collection::vec(proptest::option::weighted(0.85, (-5000i64..5000, value)), 0..30)
}

fn data() -> impl Strategy<Value = Vec<Vec<Option<(i64, f64)>>>> {
    proptest::collection::vec(column(), SERIES.len()..=SERIES.len())
}

/// Name, `a`, `b`.
const SERIES: [(&str, &str, &str); 8] = [
    ("x_total", "1", "1"),
    ("x_total", "1", "2"),
    ("x_total", "2", "1"),
    ("x_total", "2", "2"),
    ("y", "1", "1"),
    ("y", "2", "1"),
    ("y", "3", "1"),
    ("z", "1", ""),
];

fn fill(columns: &[Vec<Option<(i64, f64)>>]) -> MemoryStore {
    let store = MemoryStore::new();
    for ((name, a, b), column) in SERIES.iter().zip(columns) {
        let labels = Labels::from_pairs([("__name__", *name), ("a", *a), ("b", *b)]).unwrap();
        for (i, sample) in column.iter().enumerate() {
            if let Some((jitter, value)) = sample {
                store.insert(&labels, Timestamp::from_millis(i as i64 * 15_000 + jitter), *value);
            }
        }
    }
    store
}

fn selector() -> impl Strategy<Value = String> {
    let name = prop_oneof![
        Just("x_total"),
        Just("y"),
        Just("z"),
        Just("x_total{a=\"1\"}"),
        Just("y{b!~\"2|\"}")
    ];
    let modifier = prop_oneof![6 => Just(""), 1 => Just(" offset 40s"), 1 => Just(" offset -30s"), 1 => Just(" @ 150"), 1 => Just(" @ end()")];
    (name, modifier).prop_map(|(name, modifier)| format!("{name}{modifier}"))
}

fn range_call() -> impl Strategy<Value = String> {
    let name = prop_oneof![Just("x_total"), Just("y"), Just("z")];
    let function = proptest::sample::select(vec![
        "rate",
        "increase",
        "delta",
        "irate",
        "idelta",
        "sum_over_time",
        "avg_over_time",
        "min_over_time",
        "max_over_time",
        "count_over_time",
        "last_over_time",
        "stddev_over_time",
        "changes",
        "resets",
        "deriv",
        "present_over_time",
        "absent_over_time",
    ]);
    let range = prop_oneof![
        Just("[1m]"),
        Just("[35s]"),
        Just("[2m:20s]"),
        Just("[90s:15s] offset 20s"),
        Just("[1m] @ 120")
    ];
    (function, name, range).prop_map(|(f, name, range)| format!("{f}({name}{range})"))
}

/// Vectors. `end()` differs between a range query and its instants, so it stays out of what is compared.
fn vector() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        selector().prop_filter("depends on the end", |s| !s.contains("end()")),
        range_call()
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        let aggregate = proptest::sample::select(vec![
            "sum",
            "sum by (a)",
            "avg without (b)",
            "min by (b)",
            "max",
            "count by (a)",
            "group by (a)",
            "stddev",
            "quantile by (a)",
            "count_values without (a)",
        ]);
        let operator = proptest::sample::select(vec![
            "+",
            "-",
            "*",
            "/",
            "%",
            "==",
            "> bool",
            "<",
            "and",
            "or",
            "unless",
            "+ on (a) group_left ()",
            "- on (a)",
            "* ignoring (b)",
            "and on (a)",
            "unless on (b)",
        ]);
        let function = proptest::sample::select(vec!["abs", "-", "ceil", "sgn", "timestamp", "absent", "sqrt", "hour"]);
        prop_oneof![
            (aggregate, inner.clone()).prop_map(|(op, e)| match op.split_once(' ') {
                Some(("quantile", rest)) => format!("quantile {rest} (0.4, {e})"),
                Some(("count_values", rest)) => format!("count_values {rest} (\"v\", {e})"),
                _ => format!("{op} ({e})"),
            }),
            (inner.clone(), operator, inner.clone()).prop_map(|(l, op, r)| format!("({l}) {op} ({r})")),
            (function, inner.clone()).prop_map(|(f, e)| format!("{f}({e})")),
            (inner.clone(), -3i32..4).prop_map(|(e, n)| format!("({e}) > {n}")),
            inner.clone().prop_map(|e| format!("2 ^ ({e})")),
            inner.clone().prop_map(|e| format!("max_over_time(({e})[1m:20s])")),
            inner
                .clone()
                .prop_map(|e| format!("label_replace({e}, \"c\", \"$1\", \"a\", \"(.*)\")")),
            inner.prop_map(|e| format!("vector(scalar({e}))")),
        ]
    })
}

fn close(a: f64, b: f64) -> bool {
    a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan() || (a - b).abs() <= 1e-9 * (1.0 + a.abs().max(b.abs()))
}

type ByStep = BTreeMap<i64, BTreeMap<Labels, f64>>;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// A range query gives at each step what an instant query at that time gives, or fails as one of those does.
    #[test]
    fn range_is_the_sequence_of_instants(columns in data(), text in vector(), delayed in any::<bool>()) {
        // With delayed removal a series of `or` that keeps its name at some steps only has it at all, as upstream's.
        let delayed = delayed && !text.contains(" or ");
        let features = Features { delayed_name_removal: delayed, ..Features::default() };
        let engine = Engine::new(EngineOptions { threads: 1, features, ..EngineOptions::default() });
        let store = fill(&columns);
        let query = Query::parse(&text, &ParseOptions { features, ..ParseOptions::default() }).unwrap();
        let ms = Timestamp::from_millis;
        let range = engine.range(&store, &query, ms(0), ms(STEPS * STEP_MS), STEP_MS);
        let mut failed = None;
        let mut expect = ByStep::new();
        for step in 0..=STEPS {
            match engine.instant(&store, &query, ms(step * STEP_MS)) {
                Ok(output) => {
                    let Value::Vector(samples) = output.value else { panic!("no vector") };
                    for s in samples {
                        let twice = expect.entry(step * STEP_MS).or_default().insert(s.labels, s.value).is_some();
                        prop_assert!(!twice, "{} at step {} gives a series twice", text, step);
                    }
                }
                Err(error) => failed = Some(error.to_string()),
            }
        }
        match (range, failed) {
            (Ok(output), None) => {
                let Value::Matrix(series) = output.value else { panic!("no matrix") };
                prop_assert!(series.is_sorted_by(|a, b| a.labels < b.labels));
                let mut got = ByStep::new();
                for s in series {
                    for p in s.points {
                        got.entry(p.at.millis()).or_default().insert(s.labels.clone(), p.value);
                    }
                }
                let keys = |m: &ByStep| m.iter().map(|(t, v)| (*t, v.keys().cloned().collect::<Vec<_>>())).collect::<Vec<_>>();
                prop_assert_eq!(keys(&got), keys(&expect), "{}", text);
                for (at, values) in &expect {
                    for (labels, value) in values {
                        prop_assert!(close(got[at][labels], *value), "{} at {}: {} {} not {}", text, at, labels, got[at][labels], value);
                    }
                }
            }
            (Err(_), Some(_)) => {}
            (Err(error), None) => prop_assert!(false, "{}: the range query fails alone: {}", text, error),
            (Ok(_), Some(error)) => prop_assert!(false, "{}: only an instant query fails: {}", text, error),
        }
    }
}
