//! Every expression of real dashboards and rules evaluates.

use std::path::Path;
use tidegauge_model::testing::MemoryStore;
use tidegauge_model::{Labels, Timestamp};
use tidegauge_query::{Engine, EngineOptions, ParseOptions, Query, QueryError};

/// Metrics that many of the expressions name, so that more than empty vectors is evaluated.
fn store() -> MemoryStore {
    let store = MemoryStore::new();
    let names = [
        "up",
        "node_cpu_seconds_total",
        "node_memory_MemTotal_bytes",
        "container_cpu_usage_seconds_total",
        "kube_pod_info",
        "apiserver_request_duration_seconds_bucket",
    ];
    for name in names {
        for (i, le) in ["0.1", "1", "+Inf"].into_iter().enumerate() {
            let instance = format!("i{i}");
            let labels = [
                ("__name__", name),
                ("instance", instance.as_str()),
                ("job", "j"),
                ("mode", "idle"),
                ("le", le),
            ];
            let labels = Labels::from_pairs(labels).unwrap();
            for k in 0..60 {
                store.insert(&labels, Timestamp::from_millis(k * 15_000), (k * (i as i64 + 1)) as f64);
            }
        }
    }
    store
}

#[test]
#[ignore = "needs TIDEGAUGE_SHARED"]
fn expressions_of_dashboards_evaluate() {
    let shared = std::env::var("TIDEGAUGE_SHARED").expect("TIDEGAUGE_SHARED names the folder of shared data");
    let text = std::fs::read_to_string(Path::new(&shared).join("dashboards/exprs.json")).unwrap();
    let cases: serde_json::Value = serde_json::from_str(&text).unwrap();
    let engine = Engine::new(EngineOptions::default());
    let store = store();
    let mut evaluated = 0;
    let ms = Timestamp::from_millis;
    for case in cases.as_array().unwrap() {
        let text = case["expr"].as_str().unwrap();
        let query = Query::parse(text, &ParseOptions::default()).unwrap_or_else(|e| panic!("{text}: {e}"));
        let outcomes = [
            engine.instant(&store, &query, ms(900_000)),
            engine.range(&store, &query, ms(300_000), ms(900_000), 60_000),
        ];
        for outcome in outcomes {
            // The data is no cluster's: that series do not match one to one is an answer.
            if let Err(error) = outcome
                && !matches!(&error, QueryError::Execution(why) if why.contains("match") || why.contains("labelset"))
            {
                panic!("{text}: {error}");
            }
        }
        evaluated += 1;
    }
    assert!(evaluated > 1000, "only {evaluated} expressions");
}
