//! The real program beside a real Prometheus that was written the same samples: the same statistics, limits, samples of
//! series, and refusals.

use crate::process::{Running, form, free_port, peer, request, tidegauge};
use crate::remote_write::{Series, WriteRequest, packed, series};
use prost::Message;
use serde_json::Value;
use std::path::Path;

/// Samples are this far apart.
const EVERY_MS: i64 = 15_000;
/// How many each series has: 40 minutes, so that Prometheus takes them in any order of series.
const SAMPLES: i64 = 160;

/// Both servers and the time of the first sample.
struct Pair {
    theirs: Running,
    ours: Running,
    start_ms: i64,
    _dir: tempfile::TempDir,
}

fn start(program: &Path, name: &str, dir: &Path, flags: &[&str]) -> Running {
    let port = free_port();
    let file = dir.join(format!("{name}.yml"));
    std::fs::write(&file, "global: {}\n").unwrap();
    let mut args = vec![
        format!("--config.file={}", file.display()),
        format!("--storage.tsdb.path={}", dir.join(name).display()),
        format!("--web.listen-address=127.0.0.1:{port}"),
        "--web.enable-remote-write-receiver".to_owned(),
    ];
    args.extend(flags.iter().map(|f| (*f).to_owned()));
    Running::start(program, &args, port, "/-/ready", &dir.join(format!("{name}.log")))
}

impl Pair {
    fn start(flags: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let theirs = start(&peer("prometheus"), "prometheus", dir.path(), flags);
        let ours = start(&tidegauge(), "tidegauge", dir.path(), flags);
        let time = theirs.api("/api/v1/query", &[("query", "time()")]);
        let now = (time["result"][0].as_f64().unwrap() * 1000.0) as i64;
        let start_ms = (now - (SAMPLES + 10) * EVERY_MS) / 60_000 * 60_000;
        let body = packed(&WriteRequest { series: data(start_ms) }.encode_to_vec());
        let headers = [
            ("Content-Type", "application/x-protobuf"),
            ("Content-Encoding", "snappy"),
            ("X-Prometheus-Remote-Write-Version", "0.1.0"),
        ];
        for server in [&theirs, &ours] {
            let answer = request(server.port, "POST", "/api/v1/write", &headers, &body).unwrap();
            assert_eq!(answer.status, 204, "{}", answer.body);
        }
        Self {
            theirs,
            ours,
            start_ms,
            _dir: dir,
        }
    }

    /// Seconds after the first sample as a parameter.
    fn at(&self, seconds: i64) -> String {
        (self.start_ms / 1000 + seconds).to_string()
    }

    /// What both say to a query: at one time, and over some steps.
    fn both(&self, query: &str, more: &[(&str, &str)]) -> [[(u16, Value); 2]; 2] {
        let (at, from, to) = (self.at(1200), self.at(300), self.at(1500));
        let instant = [&[("query", query), ("time", &at)], more].concat();
        let range = [
            &[("query", query), ("start", &from), ("end", &to), ("step", "60")],
            more,
        ]
        .concat();
        [("query", instant), ("query_range", range)]
            .map(|(path, params)| [&self.theirs, &self.ours].map(|server| ask(server, path, &params)))
    }
}

fn ask(server: &Running, path: &str, params: &[(&str, &str)]) -> (u16, Value) {
    let answer = server
        .get(&format!("/api/v1/{path}?{}", form(params)))
        .expect("an answer");
    let body = serde_json::from_str(&answer.body).unwrap_or_else(|e| panic!("{params:?}: {e}: {}", answer.body));
    (answer.status, body)
}

/// Counters of two jobs, gauges with ends and gaps, buckets, and labels long and short.
fn data(start_ms: i64) -> Vec<Series> {
    let points = |value: &dyn Fn(i64) -> Option<f64>| -> Vec<(i64, f64)> {
        (0..SAMPLES)
            .filter_map(|k| value(k).map(|v| (start_ms + k * EVERY_MS, v)))
            .collect()
    };
    let mut all = Vec::new();
    for i in 0..24i64 {
        let (instance, job) = (format!("host-{i}:9100"), if i % 3 == 0 { "a" } else { "b" });
        let labels = [("__name__", "m_total"), ("instance", instance.as_str()), ("job", job)];
        all.push(series(&labels, &points(&|k| Some((k * (i + 3)) as f64))));
    }
    for i in 0..9i64 {
        let instance = format!("host-{i}:9100");
        let labels = [("__name__", "gauge"), ("instance", instance.as_str())];
        // Some begin late, some end early, one has a hole.
        let here = |k: i64| (i % 3 != 0 || k > 40) && (i % 4 != 1 || k < 90) && (i != 5 || !(50..80).contains(&k));
        all.push(series(&labels, &points(&|k| here(k).then(|| ((k * i) % 17) as f64))));
    }
    for le in ["0.1", "1", "10", "+Inf"] {
        let bound = le.parse::<f64>().unwrap_or(30.0);
        let labels = [("__name__", "h_bucket"), ("job", "a"), ("le", le)];
        all.push(series(
            &labels,
            &points(&|k| Some((k as f64 * bound.min(20.0)).floor())),
        ));
    }
    let long = "x".repeat(300);
    for i in 0..40 {
        let n = format!("{i}");
        let labels = [
            ("__name__", "some"),
            ("long", long.as_str()),
            ("n", n.as_str()),
            ("name", "na\u{ef}ve"),
        ];
        let labels = if i % 2 == 0 { &labels[..] } else { &labels[..3] };
        all.push(series(labels, &points(&|_| Some(f64::from(i)))));
    }
    all
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
    let pair = Pair::start(&["--enable-feature=promql-per-step-stats"]);
    let mut wrong = Vec::new();
    let mut compared = 0;
    for query in COUNTED.iter().chain(COUNTED_AT_ONE_TIME) {
        let kinds = if COUNTED_AT_ONE_TIME.contains(query) { 1 } else { 2 };
        for [(_, theirs), (_, ours)] in pair.both(query, &[("stats", "all")]).into_iter().take(kinds) {
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
    let [[theirs, ours], _] = pair.both("m_total", &[("stats", "1")]);
    assert_eq!(theirs.1["data"]["stats"]["samples"], ours.1["data"]["stats"]["samples"]);
}

#[test]
#[ignore = "needs TIDEGAUGE_PEERS"]
fn a_limit_on_samples_refuses_what_prometheus_refuses() {
    let pair = Pair::start(&["--query.max-samples=600"]);
    let mut refused = 0;
    let mut wrong = Vec::new();
    for query in COUNTED {
        for [theirs, ours] in pair.both(query, &[]) {
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
    let pair = Pair::start(&["--enable-feature=promql-experimental-functions"]);
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
            for [(_, theirs), (_, ours)] in pair.both(&query, &[]) {
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
