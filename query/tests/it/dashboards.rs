//! Every expression of real dashboards and rules evaluates, on data that its selectors meet, alike on both stores.

use crate::store::{DbStore, TestStore};
use std::collections::BTreeMap;
use std::path::Path;
use tidegauge_model::testing::MemoryStore;
use tidegauge_model::{Labels, Matcher, Sample, Timestamp};
use tidegauge_query::parser::{DurationExpr, Expr, VectorSelector};
use tidegauge_query::{Engine, EngineOptions, ParseOptions, Query, QueryError, QueryOutput, Value};

/// The time of the first sample: selectors with offsets look back from here.
const START_MS: i64 = 40 * 24 * 3_600_000;
const EVERY_MS: i64 = 15_000;
const SAMPLES: i64 = 60;

/// What values of labels are tried, until one meets the matcher.
const WORDS: &[&str] = &[
    "x",
    "node",
    "1",
    "0",
    "200",
    "500",
    "idle",
    "GET",
    "LIST",
    "eth0",
    "sda",
    "ext4",
    "/",
    "default",
    "a-b",
    "a/b",
    "true",
    "pod/x",
    "kubelet",
    "Running",
    "cpu",
    "memory",
    "http://x",
    "x:9100",
    "10.0.0.1:9100",
    "nvme0n1",
    "x_y",
    "X",
    "",
];

/// A value of a label that meets all matchers on it.
fn value_for(matchers: &[&Matcher]) -> Option<String> {
    let listed = matchers
        .iter()
        .filter(|m| !m.is_negative())
        .filter_map(|m| m.literals());
    let listed = listed.flatten().map(str::to_owned);
    let with_prefix = matchers
        .iter()
        .filter(|m| !m.is_negative())
        .flat_map(|m| WORDS.iter().map(move |w| format!("{}{w}", m.prefix())));
    let mut candidates = listed.chain(with_prefix).chain(WORDS.iter().map(|w| (*w).to_owned()));
    candidates.find(|value| matchers.iter().all(|m| m.matches(value)))
}

/// Series that a selector meets: one, or for a histogram one for each bucket.
fn series_for(selector: &VectorSelector) -> Option<Vec<Labels>> {
    let mut by_name: BTreeMap<&str, Vec<&Matcher>> = BTreeMap::new();
    for matcher in &selector.matchers {
        by_name.entry(matcher.name()).or_default().push(matcher);
    }
    let mut pairs: BTreeMap<String, String> = BTreeMap::new();
    for (name, matchers) in by_name {
        pairs.insert(name.to_owned(), value_for(&matchers)?);
    }
    // Labels that most joins and groups name.
    for (name, value) in [("instance", "x:9100"), ("job", "node")] {
        pairs.entry(name.to_owned()).or_insert_with(|| value.to_owned());
    }
    let bucket = pairs.get("__name__").is_some_and(|n| n.ends_with("_bucket"));
    let bounds: &[&str] = if bucket && !pairs.contains_key("le") {
        &["0.1", "1", "+Inf"]
    } else {
        &[""]
    };
    let made = bounds.iter().map(|le| {
        let mut pairs = pairs.clone();
        if !le.is_empty() {
            pairs.insert("le".to_owned(), (*le).to_owned());
        }
        pairs.retain(|_, v| !v.is_empty());
        Labels::from_pairs(pairs).unwrap()
    });
    Some(made.collect())
}

/// The series of all selectors of an expression with their samples; and how many selectors nothing could be made for.
fn data_for(expr: &Expr) -> (BTreeMap<Labels, BTreeMap<Timestamp, f64>>, usize) {
    let mut data: BTreeMap<Labels, BTreeMap<Timestamp, f64>> = BTreeMap::new();
    let mut unmet = 0;
    for selector in expr.selectors() {
        let Some(series) = series_for(selector) else {
            unmet += 1;
            continue;
        };
        let offset_ms = selector.offset.as_ref().and_then(DurationExpr::plain_ms).unwrap_or(0);
        for labels in series {
            let factor = (labels.value("le").len() + labels.value("__name__").len() % 7 + 1) as f64;
            let samples = data.entry(labels).or_default();
            for k in 0..SAMPLES {
                let at = START_MS + k * EVERY_MS;
                samples.insert(Timestamp::from_millis(at), k as f64 * factor);
                samples.insert(Timestamp::from_millis(at - offset_ms), k as f64 * factor);
            }
        }
    }
    (data, unmet)
}

fn text_of(value: &Value) -> Vec<String> {
    let mut lines = match value {
        Value::Scalar(sample) => vec![sample.value.to_string()],
        Value::String { text, .. } => vec![text.clone()],
        Value::Vector(samples) => samples.iter().map(|s| format!("{} {}", s.labels, s.value)).collect(),
        Value::Matrix(series) => series
            .iter()
            .map(|s| {
                let points: Vec<String> = s
                    .points
                    .iter()
                    .map(|p| format!("{}@{}", p.value, p.at.millis()))
                    .collect();
                format!("{} {}", s.labels, points.join(" "))
            })
            .collect(),
    };
    lines.sort();
    lines
}

/// What each of the stores answers at one time and over some steps.
fn answers(engine: &Engine, store: &dyn TestStore, query: &Query) -> [Result<Vec<String>, String>; 2] {
    let ms = |k: i64| Timestamp::from_millis(START_MS + k * EVERY_MS);
    let store = store.queryable();
    let text = |outcome: Result<QueryOutput, QueryError>| match outcome {
        Ok(output) => Ok(text_of(&output.value)),
        Err(error) => Err(error.to_string()),
    };
    [
        text(engine.instant(store, query, ms(58))),
        text(engine.range(store, query, ms(20), ms(58), 60_000)),
    ]
}

#[test]
#[ignore = "needs TIDEGAUGE_SHARED"]
fn expressions_of_dashboards_evaluate() {
    let shared = std::env::var("TIDEGAUGE_SHARED").expect("TIDEGAUGE_SHARED names the folder of shared data");
    let text = std::fs::read_to_string(Path::new(&shared).join("dashboards/exprs.json")).unwrap();
    let cases: serde_json::Value = serde_json::from_str(&text).unwrap();
    let engine = Engine::new(EngineOptions::default());
    let (mut evaluated, mut filled, mut unmet) = (0, 0, 0);
    let mut wrong = Vec::new();
    for case in cases.as_array().unwrap() {
        let text = case["expr"].as_str().unwrap();
        let query = Query::parse(text, &ParseOptions::default()).unwrap_or_else(|e| panic!("{text}: {e}"));
        let (data, without) = data_for(&query.expr);
        unmet += without;
        let mut memory = MemoryStore::new();
        let mut db = DbStore::new(7);
        for (labels, samples) in &data {
            let samples: Vec<Sample> = samples
                .iter()
                .map(|(at, value)| Sample { at: *at, value: *value })
                .collect();
            memory.add(labels, &samples);
            db.add(labels, &samples);
        }
        db.prepare();
        let (a, b) = (answers(&engine, &memory, &query), answers(&engine, &db, &query));
        if a != b {
            wrong.push(format!("{text}\n  memory {a:?}\n  tsdb   {b:?}"));
        }
        for outcome in &a {
            if let Err(why) = outcome {
                wrong.push(format!("{text}: {why}"));
            }
        }
        evaluated += 1;
        filled += usize::from(a.iter().any(|r| r.as_ref().is_ok_and(|lines| !lines.is_empty())));
    }
    println!("{evaluated} evaluated, {filled} with a result, {unmet} selectors not met");
    assert!(
        wrong.is_empty(),
        "{} of {evaluated}:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert!(evaluated > 1000, "only {evaluated} expressions");
    assert!(
        filled * 100 > evaluated * 85,
        "only {filled} of {evaluated} have a result"
    );
}
