//! Any query over a small store: it is answered or refused, within its limits.
//!
//! ```text
//!   0          1        2        3
//!   +----------+--------+--------+------------------
//!   | features | start  | steps  | the query's text
//!   +----------+--------+--------+------------------
//! ```
//!
//! A bit of `features` for each part of the language; `start` in tens of seconds; `steps` 0 for an instant query, else
//! its low four bits count the steps and its high three choose how far apart they are.

use crate::parser::{Features, ParseOptions};
use crate::{Engine, EngineOptions, Query, QueryError, StatsLevel};
use std::sync::LazyLock;
use std::time::Duration;
use tidegauge_model::testing::MemoryStore;
use tidegauge_model::{Labels, LabelsBuilder, Meter, Timestamp, stale_marker};

/// The memory one query may have.
const MEMORY_BYTES: u64 = 8 << 20;
const MAX_SAMPLES: u64 = 50_000;
/// A query that takes longer is refused.
const TIMEOUT: Duration = Duration::from_secs(2);

const STEPS_MS: [i64; 8] = [10_000, 1, 15_000, 60_000, 7_301, 3_600_000, 1_000, i64::MAX / 32];

/// What the bits of the first byte switch on, from the lowest.
const FLAGS: [&str; 7] = [
    "promql-experimental-functions",
    "promql-duration-expr",
    "promql-extended-range-selectors",
    "promql-binop-fill-modifiers",
    "promql-delayed-name-removal",
    "type-and-unit-labels",
    "promql-per-step-stats",
];

/// Evaluates a query with little room.
pub(super) fn run(bytes: &[u8]) {
    let [features, start, steps, text @ ..] = bytes else {
        return;
    };
    let bit = |n: u8| features & (1 << n) != 0;
    let mut features = Features::default();
    for (n, flag) in (0..).zip(FLAGS) {
        assert!(!bit(n) || features.enable(flag), "{flag} is a part of the language");
    }
    let Ok(mut query) = Query::parse(&String::from_utf8_lossy(text), &ParseOptions::with_features(features)) else {
        return;
    };
    query.stats = match (bit(6), bit(7)) {
        (false, false) => StatsLevel::Totals,
        (true, _) => StatsLevel::PerStep,
        (false, true) => StatsLevel::Explain,
    };
    let memory = Meter::new("queries", MEMORY_BYTES);
    let engine = Engine::new(EngineOptions {
        max_samples: MAX_SAMPLES,
        timeout: TIMEOUT,
        features,
        memory: memory.clone(),
        threads: 1,
        ..EngineOptions::default()
    });
    let start = i64::from(*start) * 10_000;
    let at = Timestamp::from_millis;
    let outcome = if *steps == 0 {
        engine.instant(&*STORE, &query, at(start))
    } else {
        let step_ms = STEPS_MS.get(usize::from(steps >> 5)).copied().unwrap_or(1);
        let end = start.saturating_add(step_ms.saturating_mul(i64::from(steps & 15)));
        engine.range(&*STORE, &query, at(start), at(end), step_ms)
    };
    assert_eq!(memory.used(), 0, "a query holds memory after its end");
    assert!(!matches!(outcome, Err(QueryError::Storage(_))), "the store is whole");
    match outcome {
        Ok(output) => {
            assert!(output.stats.peak_bytes <= MEMORY_BYTES && output.stats.peak_samples <= MAX_SAMPLES);
            let _texts = (output.annotations.warnings(), output.annotations.infos());
        }
        Err(error) => drop(error.to_string()),
    }
}

/// Ten minutes of a few metrics of each kind.
static STORE: LazyLock<MemoryStore> = LazyLock::new(|| {
    let store = MemoryStore::new();
    for (number, job) in ["a", "b", "c"].into_iter().enumerate() {
        let scale = (number + 1) as f64;
        for k in 0..40i64 {
            let at = Timestamp::from_millis(k * 15_000 + number as i64 * 700);
            let x = k as f64;
            let put = |name: &str, more: (&str, &str), value: f64| store.insert(&labels(name, job, more), at, value);
            put("requests_total", ("code", "200"), (x % 17.0) * scale);
            put("requests_total", ("code", "500"), x * 0.1);
            put("gauge", ("unit", "ü"), (x - 20.0) * (x - 11.0) / scale);
            put("odd", ("", ""), odd(k + number as i64));
            put("target_info", ("version", if k < 20 { "1" } else { "2" }), 1.0);
            for (le, share) in [("0.1", 0.3), ("1", 0.7), ("10", 0.6), ("+Inf", 1.0), ("x", 0.1)] {
                put("latency_bucket", ("le", le), x * share * scale);
            }
        }
    }
    store
});

fn labels(name: &str, job: &str, (more, value): (&str, &str)) -> Labels {
    let mut builder = LabelsBuilder::new();
    builder.set("__name__", name).set("job", job).set("instance", "i1");
    if !more.is_empty() {
        builder.set(more, value);
    }
    builder.build()
}

fn odd(k: i64) -> f64 {
    match k % 9 {
        0 => f64::NAN,
        1 => f64::INFINITY,
        2 => stale_marker(),
        3 => -0.0,
        4 => f64::MAX,
        5 => f64::NEG_INFINITY,
        6 => f64::MIN_POSITIVE,
        n => n as f64,
    }
}

/// Queries over that store that give something, of each kind of node.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    let texts = [
        "sum by (job) (rate(requests_total{code=~\"2..|\"}[1m])) / on (job) group_left (unit) gauge",
        "histogram_quantile(0.9, sum by (le, job) (increase(latency_bucket[2m]))) > bool 3",
        "topk by (code) (2, {__name__=~\".+_total|odd\"}) or vector(time())",
        "max_over_time(deriv(odd[1m])[3m:20s] offset -1m @ end())",
        "quantile_over_time(0.3, odd[2m]) + avg without (instance) (-odd ^ 2)",
        "label_replace(count_values(\"v\", gauge), \"new\", \"$1x\", \"v\", \"(.*)0\") unless absent(nothing)",
        "predict_linear(gauge[5m], 3600) - double_exponential_smoothing(gauge[5m], 0.5, 0.5)",
        "info(requests_total, {version=~\".+\"}) * ignoring (version, code) group_left () sgn(gauge)",
        "increase(requests_total[1m] smoothed) - on (job, code) fill (0) delta(requests_total[1m] anchored)",
        "sort_desc(limitk(3, histogram_fraction(0, scalar(odd), latency_bucket)))",
        "stddev(round(clamp(gauge, -1, 1e9), 0.5)) % hour(odd) atan2 days_in_month()",
        "absent_over_time(gauge{job=\"z\"}[90s] @ start()) + count(sum_over_time(vector(1)[5m:1s]))",
    ];
    let heads: [[u8; 3]; 3] = [[0b0111_1111, 30, 0], [0b0000_1111, 0, 0x4f], [0b0001_1111, 59, 0x05]];
    let seed = |(text, head): (&&str, [u8; 3])| [&head, text.as_bytes()].concat();
    texts.iter().zip(heads.into_iter().cycle()).map(seed).collect()
}
