//! Every expression of real dashboards and rules evaluates, on data that its selectors meet, alike on both stores.

use crate::planted::{EVERY_MS, Planted};
use crate::store::{DbStore, TestStore};
use std::path::Path;
use tidegauge_model::testing::MemoryStore;
use tidegauge_model::{Sample, Timestamp};
use tidegauge_query::{Engine, EngineOptions, ParseOptions, Query, QueryError, QueryOutput, Value};

/// The time of the first sample: selectors with offsets look back from here.
const START_MS: i64 = 40 * 24 * 3_600_000;

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
        let mut planted = Planted::default();
        planted.expression(&query.expr, START_MS);
        unmet += planted.unmet;
        let mut memory = MemoryStore::new();
        let mut db = DbStore::new(7);
        for (labels, samples) in &planted.series {
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
