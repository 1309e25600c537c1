//! A query heavy enough to be cut into parts gives at each step what an instant query, which is not, gives there.

use std::collections::BTreeMap;
use tidegauge_model::testing::MemoryStore;
use tidegauge_model::{Labels, Timestamp};
use tidegauge_query::{Engine, EngineOptions, ParseOptions, Query, Value};

const STEP_MS: i64 = 15_000;
const STEPS: i64 = 40;

fn at(ms: i64) -> Timestamp {
    Timestamp::from_millis(ms)
}

/// 2,400 series of 60 samples, at 40 steps: well above where work is cut. Whole numbers, so that sums do not depend on their order; some series come late, some go, some have no number.
fn store() -> MemoryStore {
    let store = MemoryStore::new();
    for i in 0..2400i64 {
        let (instance, pod, le) = (
            format!("i{i:04}"),
            format!("p{}", i % 7),
            ["1", "2.5", "+Inf"][i as usize % 3],
        );
        let pairs = [
            ("__name__", "m_total"),
            ("instance", &instance),
            ("pod", &pod),
            ("le", le),
        ];
        let labels = Labels::from_pairs(pairs).unwrap();
        let (first, last) = (if i % 11 == 5 { 25 } else { 0 }, if i % 13 == 2 { 20 } else { 60 });
        for k in first..last {
            // Each has its own way up, and falls now and then.
            let value = match (i * 7919 + k * 104_729) % 101 {
                0 if i % 17 == 1 => f64::NAN,
                n => (k * (i % 29 + 1) % 173 * 10 + n % 5) as f64,
            };
            store.insert(&labels, at(k * STEP_MS - 300_000), value);
        }
    }
    store
}

/// Bits of values by labels; any NaN is as good as another.
type Found = BTreeMap<String, u64>;

fn bits(value: f64) -> u64 {
    if value.is_nan() {
        f64::NAN.to_bits()
    } else {
        value.to_bits()
    }
}

#[test]
fn a_heavy_query_gives_at_each_step_what_an_instant_one_gives() {
    let store = store();
    let engine = Engine::new(EngineOptions::default());
    for text in [
        "sum by (pod) (m_total)",
        "sum(m_total)",
        "avg by (pod, le) (m_total)",
        "min without (instance, le) (m_total)",
        "max by (pod) (max_over_time(m_total[2m]))",
        "max by (pod) (min_over_time(m_total[2m]))",
        "sum by (pod) (sum_over_time(m_total[3m]))",
        "sum by (le) (changes(m_total[3m])) + sum by (le) (resets(m_total[3m]))",
        "count by (pod) (m_total)",
        "group by (le) (m_total)",
        "quantile by (pod) (0.3, m_total)",
        "topk(9, m_total)",
        "topk by (pod) (3, m_total)",
        "bottomk by (le) (40, m_total)",
        "count_values by (le) (\"value\", m_total)",
        "topk(5, increase(m_total[2m]))",
        "max by (le) (rate(m_total[2m]))",
        "count(m_total > 300)",
        "sum by (pod) (rate(m_total[2m]) * 100)",
        "sum(-m_total)",
        "max by (le) (abs(200 - m_total))",
        "avg by (pod) (clamp_max(m_total, 300))",
        "count by (pod) (count_over_time(m_total[2m]))",
        "topk(3, m_total % 97)",
        "absent(m_total > 5000)",
        "sum(m_total - on (instance) (m_total offset 1m))",
        "histogram_quantile(0.4, sum by (pod, le) (m_total))",
        "histogram_quantile(0.9, sum without (instance) (m_total))",
        "count by (x) (label_replace(m_total, \"x\", \"$1\", \"instance\", \"i(.).*\"))",
    ] {
        let query = Query::parse(text, &ParseOptions::default()).unwrap();
        let steps = 0..STEPS;
        let whole = engine
            .range(&store, &query, at(0), at((STEPS - 1) * STEP_MS), STEP_MS)
            .unwrap();
        let Value::Matrix(series) = whole.value else {
            panic!("{text} gave {}", whole.value.kind());
        };
        let mut by_step: BTreeMap<i64, Found> = BTreeMap::new();
        for one in &series {
            for point in &one.points {
                let found = by_step.entry(point.at.millis()).or_default();
                found.insert(one.labels.to_string(), bits(point.value));
            }
        }
        for step in steps {
            let now = step * STEP_MS;
            let Value::Vector(samples) = engine.instant(&store, &query, at(now)).unwrap().value else {
                panic!("{text} gave no vector");
            };
            let expect: Found = samples.iter().map(|s| (s.labels.to_string(), bits(s.value))).collect();
            assert_eq!(by_step.remove(&now).unwrap_or_default(), expect, "{text} at {now}");
        }
        assert!(by_step.is_empty());
    }
}
