//! What explain tells: the plan as a tree, with what was read, given and held.

use tidegauge_model::testing::MemoryStore;
use tidegauge_model::{Labels, Timestamp};
use tidegauge_query::{Engine, EngineOptions, ExplainPart, ParseOptions, Query, StatsLevel};

fn at(ms: i64) -> Timestamp {
    Timestamp::from_millis(ms)
}

/// Ten counters of two jobs; one has a gap.
fn store() -> MemoryStore {
    let store = MemoryStore::new();
    for i in 0..10 {
        let instance = format!("i{i}");
        let job = if i < 4 { "a" } else { "b" };
        let labels = Labels::from_pairs([("__name__", "m_total"), ("instance", &instance), ("job", job)]).unwrap();
        for k in 0..40 {
            if i != 9 || k % 7 != 3 {
                store.insert(&labels, at(k * 15_000), (k * (i + 3)) as f64);
            }
        }
    }
    store
}

fn explain(text: &str) -> (ExplainPart, String) {
    let mut query = Query::parse(text, &ParseOptions::default()).unwrap();
    query.stats = StatsLevel::Explain;
    let engine = Engine::new(EngineOptions::default());
    let output = engine
        .range(&store(), &query, at(300_000), at(540_000), 60_000)
        .unwrap();
    let explain = output.explain.unwrap();
    (explain.root.clone(), explain.to_string())
}

#[test]
fn the_plan_is_a_tree_with_what_each_part_did() {
    let (root, text) = explain("sum by (job) (rate(m_total{instance!=\"i0\"}[1m] offset 30s)) > 2");
    assert_eq!(
        (root.what.as_str(), root.parts.len(), root.steps),
        (">", 2, 5),
        "{text}"
    );
    let sum = &root.parts[0];
    assert_eq!(
        (sum.what.as_str(), sum.rows_in, sum.rows, sum.values),
        ("sum by (job)", 9, 2, 10),
        "{text}"
    );
    assert!(
        !sum.streamed && sum.held_bytes.is_some() && sum.wall <= root.wall,
        "{text}"
    );
    let rate = &sum.parts[0];
    assert_eq!(
        (rate.what.as_str(), rate.streamed, rate.rows, rate.values),
        ("rate", true, 9, 45),
        "{text}"
    );
    let selector = &rate.parts[0];
    assert_eq!(selector.what, "m_total{instance!=\"i0\"}[1m] offset 30s", "{text}");
    let read = selector.selection.as_ref().unwrap();
    assert_eq!((read.series, read.chunks), (9, 9), "{text}");
    assert_eq!(
        (read.windows_shared + read.windows_own, read.windows_own <= 1),
        (9, true),
        "{text}"
    );
    // 4 samples a window, but for those that the gap takes; from 210.001 s to 510 s there are 20 of each.
    assert!(
        (150..=180).contains(&read.samples) && (170..=180).contains(&read.seen),
        "{text}"
    );
    for part in [
        "steps    5, first at 300, one every 1m",
        "├─ sum by (job)",
        "│  └─ rate",
        "streamed, 9 rows in, 9 out",
        "9 series on",
    ] {
        assert!(text.contains(part), "{part}:\n{text}");
    }
}

#[test]
fn parts_that_are_the_same_at_each_step_and_subqueries_are_marked() {
    let (root, text) = explain("max_over_time(avg(m_total)[2m:30s]) - scalar(sum(m_total @ 300))");
    let (over, scalar) = (&root.parts[0], &root.parts[1]);
    assert_eq!(over.parts[0].what, "subquery [2m:30s]", "{text}");
    assert_eq!(
        (over.parts[0].steps, over.parts[0].parts[0].what.as_str()),
        (12, "avg"),
        "{text}"
    );
    assert!(scalar.once && scalar.steps == 1, "{text}");
    assert_eq!(scalar.parts[0].parts[0].what, "m_total @ 300", "{text}");
    assert!(text.contains("once for all steps"), "{text}");
}

#[test]
fn it_costs_nothing_that_is_not_asked_for() {
    let query = Query::parse("sum(m_total)", &ParseOptions::default()).unwrap();
    let engine = Engine::new(EngineOptions::default());
    let output = engine.instant(&store(), &query, at(300_000)).unwrap();
    assert!(output.explain.is_none() && output.stats.samples_per_step.is_none());
    assert_eq!((output.stats.samples, output.stats.series), (10, 10));
}
