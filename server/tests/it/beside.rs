//! The real program beside a real Prometheus that was written the same samples: the same statistics, limits, samples of
//! series, and refusals.

use crate::pair::Pair;
use crate::process::{Running, form};
use serde_json::Value;

const CONFIG: &str = "global: {}\n";

/// What both say to a query: at one time, and over some steps.
fn both(pair: &Pair, query: &str, more: &[(&str, &str)]) -> [[(u16, Value); 2]; 2] {
    let (at, from, to) = (pair.at(1200), pair.at(300), pair.at(1500));
    let instant = [&[("query", query), ("time", &at)], more].concat();
    let range = [
        &[("query", query), ("start", &from), ("end", &to), ("step", "60")],
        more,
    ]
    .concat();
    [("query", instant), ("query_range", range)]
        .map(|(path, params)| [&pair.theirs, &pair.ours].map(|server| ask(server, path, &params)))
}

fn ask(server: &Running, path: &str, params: &[(&str, &str)]) -> (u16, Value) {
    let answer = server
        .get(&format!("/api/v1/{path}?{}", form(params)))
        .expect("an answer");
    let body = serde_json::from_str(&answer.body).unwrap_or_else(|e| panic!("{params:?}: {e}: {}", answer.body));
    (answer.status, body)
}

/// What statistics are compared on: every kind of part, alone and inside others.
const COUNTED: &[&str] = &[
    "1",
    "m_total",
    "m_total{job=\"a\"} offset 1m",
    "nothing",
    "gauge",
    "-m_total",
    "(m_total)",
    "m_total * 2",
    "2 * m_total > bool 3",
    "m_total > 100",
    "m_total + m_total",
    "m_total{job=\"a\"} + m_total",
    "m_total and m_total{job=\"a\"}",
    "m_total or gauge",
    "m_total unless m_total{job=\"a\"}",
    "m_total * on (instance) group_left () (gauge > 3)",
    "sum(m_total)",
    "sum by (job) (m_total)",
    "avg by (job) (rate(m_total[5m]))",
    "max without (instance) (m_total) * 3",
    "quantile(0.5, m_total)",
    "topk(3, m_total)",
    "bottomk by (job) (2, m_total)",
    "count_values(\"v\", gauge)",
    "stddev(gauge)",
    "rate(m_total[5m])",
    "rate(m_total[1m])",
    "increase(m_total[2m] offset 1m)",
    "irate(m_total[1m] @ end())",
    "sum(rate(m_total[5m])) / sum(rate(m_total[1m]))",
    "histogram_quantile(0.9, rate(h_bucket[5m]))",
    "histogram_quantile(0.9, sum by (le) (rate(h_bucket[5m])))",
    "max_over_time(gauge[3m])",
    "quantile_over_time(0.5, gauge[3m])",
    "predict_linear(gauge[10m], 60)",
    "absent(nothing)",
    "absent(m_total)",
    "absent_over_time(nothing[5m])",
    "absent_over_time(m_total[5m])",
    "abs(m_total)",
    "clamp(m_total, 1, 2)",
    "round(m_total)",
    "sort(m_total)",
    "scalar(sum(m_total))",
    "vector(3)",
    "vector(1) + scalar(sum(m_total))",
    "time()",
    "time() - m_total",
    "timestamp(m_total)",
    "timestamp(sum(m_total))",
    "label_replace(m_total, \"x\", \"$1\", \"job\", \"(.)\")",
    "label_join(m_total, \"x\", \"-\", \"job\", \"instance\")",
    "hour(m_total)",
    "hour()",
    "m_total @ end()",
    "sum(m_total @ end())",
    "m_total - m_total @ start()",
    "max_over_time(m_total[5m:1m])",
    "max_over_time(sum(rate(m_total[1m]))[5m:30s])",
    "rate(m_total[5m:15s] offset 30s)",
    "max_over_time(avg_over_time(gauge[2m])[5m:1m])",
    "sum(max_over_time(m_total[5m:1m])) by (job)",
    "deriv(sum_over_time(gauge[1m:15s])[4m:1m])",
];

/// Range vectors and texts, for instant queries only.
const COUNTED_AT_ONE_TIME: &[&str] = &[
    "m_total[5m]",
    "gauge[10m]",
    "m_total[5m:1m]",
    "sum(m_total)[3m:1m]",
    "\"x\"",
];

#[test]
#[ignore = "needs TIDEGAUGE_PEERS"]
fn statistics_are_those_of_prometheus() {
    let pair = Pair::start(CONFIG, &["--enable-feature=promql-per-step-stats"]);
    let mut wrong = Vec::new();
    let mut compared = 0;
    for query in COUNTED.iter().chain(COUNTED_AT_ONE_TIME) {
        let kinds = if COUNTED_AT_ONE_TIME.contains(query) { 1 } else { 2 };
        for [(_, theirs), (_, ours)] in both(&pair, query, &[("stats", "all")]).into_iter().take(kinds) {
            let (a, b) = (&theirs["data"]["stats"], &ours["data"]["stats"]);
            assert!(a["samples"]["peakSamples"].is_number(), "{query}: {theirs}");
            if a["samples"] != b["samples"] {
                wrong.push(format!("{query}\n  theirs {}\n  ours   {}", a["samples"], b["samples"]));
            }
            let names = |v: &Value| -> Vec<String> { v["timings"].as_object().unwrap().keys().cloned().collect() };
            assert_eq!(names(a), names(b), "{query}");
            compared += 1;
        }
    }
    assert!(
        compared > 120 && wrong.is_empty(),
        "{} of {compared}:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    // Any other text than `all` leaves the steps out.
    let [[theirs, ours], _] = both(&pair, "m_total", &[("stats", "1")]);
    assert_eq!(theirs.1["data"]["stats"]["samples"], ours.1["data"]["stats"]["samples"]);
}

#[test]
#[ignore = "needs TIDEGAUGE_PEERS"]
fn a_limit_on_samples_refuses_what_prometheus_refuses() {
    let pair = Pair::start(CONFIG, &["--query.max-samples=600"]);
    let mut refused = 0;
    let mut wrong = Vec::new();
    for query in COUNTED {
        for [theirs, ours] in both(&pair, query, &[]) {
            let of = |(status, body): &(u16, Value)| (*status, body["errorType"].clone(), body["error"].clone());
            if of(&theirs) != of(&ours) {
                wrong.push(format!("{query}\n  theirs {:?}\n  ours   {:?}", of(&theirs), of(&ours)));
            }
            refused += usize::from(ours.0 == 422);
        }
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(refused > 20 && refused < COUNTED.len() * 2 - 20, "{refused} refused");
}

#[test]
#[ignore = "needs TIDEGAUGE_PEERS"]
fn limit_ratio_chooses_the_same_series() {
    let pair = Pair::start(CONFIG, &["--enable-feature=promql-experimental-functions"]);
    let mut chosen = 0;
    for ratio in ["0.1", "0.5", "0.9", "1", "-0.1", "-0.5", "-0.99", "scalar(vector(0.3))"] {
        for of in [
            "some",
            "m_total",
            "{__name__=~\".+\"}",
            "rate(m_total[1m])",
            "sum by (instance) (gauge)",
        ] {
            let query = format!("limit_ratio({ratio}, {of})");
            for [(_, theirs), (_, ours)] in both(&pair, &query, &[]) {
                let names = |body: &Value| -> Vec<String> {
                    let rows = body["data"]["result"]
                        .as_array()
                        .unwrap_or_else(|| panic!("{query}: {body}"));
                    let mut names: Vec<String> = rows.iter().map(|r| r["metric"].to_string()).collect();
                    names.sort();
                    names
                };
                assert_eq!(names(&theirs), names(&ours), "{query}");
                chosen += names(&ours).len();
            }
        }
    }
    assert!(chosen > 500, "{chosen}");
}
