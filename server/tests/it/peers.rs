//! The real program beside a real Prometheus, both scraping the same real node_exporter: the same questions get the
//! same answers.

use crate::process::{Running, free_port, peer, tidegauge};
use serde_json::Value;
use std::collections::BTreeMap;

/// Expressions whose values stand still between two scrapes of a machine: compared in series and value.
const STEADY: &[&str] = &[
    "up",
    "node_boot_time_seconds",
    "node_memory_MemTotal_bytes",
    "node_uname_info",
    "node_os_info",
    "node_network_mtu_bytes",
    "node_filesystem_size_bytes",
    "node_filesystem_readonly == 0",
    "node_exporter_build_info",
    "node_memory_MemTotal_bytes / 1024 / 1024",
    "count(node_cpu_seconds_total)",
    "count by (mode) (node_cpu_seconds_total)",
    "count without (cpu) (node_cpu_seconds_total)",
    "sum by (device) (node_network_mtu_bytes)",
    "max(node_filesystem_size_bytes) by (fstype)",
    "topk(2, node_filesystem_size_bytes)",
    "sort_desc(node_network_mtu_bytes)",
    "label_replace(node_uname_info, \"host\", \"$1\", \"nodename\", \"(.*)\")",
    "node_memory_MemTotal_bytes * on (instance, job) group_left (sysname) node_uname_info",
    "node_filesystem_size_bytes{fstype!~\"tmpfs|ramfs\"} unless node_filesystem_readonly == 1",
    "absent(node_no_such_metric)",
    "absent(up{job=\"node\"})",
    "scalar(count(node_cpu_seconds_total))",
    "vector(1)",
    "clamp_max(node_network_mtu_bytes, 1000)",
    "round(node_memory_MemTotal_bytes, 1000000)",
    "abs(-node_network_mtu_bytes)",
    "min_over_time(node_memory_MemTotal_bytes[1m])",
    "changes(node_boot_time_seconds[1m])",
    "rate(node_boot_time_seconds[1m])",
    "node_network_mtu_bytes > 2000 or node_network_mtu_bytes",
    "count({__name__=~\"node_(cpu|memory)_.*\"})",
    "histogram_quantile(0.9, sum by (le) (prometheus_http_request_duration_seconds_bucket{job=\"none\"}))",
    "(node_memory_MemTotal_bytes offset 1s) - node_memory_MemTotal_bytes",
];

/// Expressions whose values move: compared in series only.
const MOVING: &[&str] = &[
    "node_cpu_seconds_total",
    "node_load1",
    "rate(node_cpu_seconds_total[1m])",
    "irate(node_cpu_seconds_total{mode=\"idle\"}[1m])",
    "increase(node_network_receive_bytes_total[1m])",
    "avg by (mode) (rate(node_cpu_seconds_total[1m]))",
    "1 - node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes",
    "scrape_duration_seconds",
    "node_disk_io_time_seconds_total",
    "avg_over_time(node_memory_MemFree_bytes[1m])",
];

const CONFIG: &str = "global: {scrape_interval: 1s, scrape_timeout: 1s}
scrape_configs:
- job_name: node
  static_configs: [{targets: ['127.0.0.1:NODE'], labels: {env: test}}]
  relabel_configs:
  - {source_labels: [__address__], regex: '(.*):.*', target_label: host}
  metric_relabel_configs:
  - {source_labels: [__name__], regex: 'node_scrape_collector_.*', action: drop}
";

/// The result of an instant query, by label set.
fn result(server: &Running, query: &str, time: &str) -> BTreeMap<String, String> {
    let data = server.api("/api/v1/query", &[("query", query), ("time", time)]);
    if data["resultType"] == "scalar" {
        return BTreeMap::from([("scalar".to_owned(), data["result"][1].as_str().unwrap().to_owned())]);
    }
    let rows = data["result"].as_array().unwrap_or_else(|| panic!("{query}: {data}"));
    rows.iter()
        .map(|r| (r["metric"].to_string(), r["value"][1].as_str().unwrap().to_owned()))
        .collect()
}

fn equal(a: &str, b: &str) -> bool {
    let (x, y): (f64, f64) = (a.parse().unwrap(), b.parse().unwrap());
    a == b || (x - y).abs() <= 1e-9 * x.abs().max(y.abs())
}

#[test]
#[ignore = "needs TIDEGAUGE_PEERS"]
fn queries_agree_with_prometheus_on_a_real_node_exporter() {
    let dir = tempfile::tempdir().unwrap();
    let node_port = free_port();
    let node_args = [format!("--web.listen-address=127.0.0.1:{node_port}")];
    let _node = Running::start(
        &peer("prometheus-node-exporter"),
        &node_args,
        node_port,
        "/metrics",
        &dir.path().join("node.log"),
    );
    let config = CONFIG.replace("NODE", &node_port.to_string());
    let mut theirs = Running::serve(&peer("prometheus"), "prometheus", dir.path(), &config, &[]);
    let mut ours = Running::serve(&tidegauge(), "tidegauge", dir.path(), &config, &[]);
    for server in [&mut theirs, &mut ours] {
        server.wait_for(
            |s| {
                let seen = s.api("/api/v1/query", &[("query", "count_over_time(up[1m])")]);
                seen["result"][0]["value"][1]
                    .as_str()
                    .is_some_and(|n| n.parse::<f64>().unwrap() >= 5.0)
            },
            "five scrapes",
        );
    }
    let now = theirs.api("/api/v1/query", &[("query", "time()")])["result"][0]
        .as_f64()
        .unwrap();
    let time = format!("{:.3}", now - 0.5);

    let mut wrong = Vec::new();
    for (queries, values) in [(STEADY, true), (MOVING, false)] {
        for query in queries {
            let (a, b) = (result(&theirs, query, &time), result(&ours, query, &time));
            if !a.keys().eq(b.keys()) {
                wrong.push(format!(
                    "{query}: series differ\n  theirs {:?}\n  ours   {:?}",
                    a.keys(),
                    b.keys()
                ));
            } else if values && !a.iter().zip(&b).all(|((_, x), (_, y))| equal(x, y)) {
                wrong.push(format!("{query}: values differ\n  theirs {a:?}\n  ours   {b:?}"));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        STEADY.len() + MOVING.len(),
        wrong.join("\n")
    );

    let (a, b) = (labels(&theirs, &time), labels(&ours, &time));
    assert_eq!(a, b, "label names and values");
}

/// Label names, and the values of some, as `/labels` and `/label/…/values` give them.
fn labels(server: &Running, time: &str) -> Vec<Value> {
    let range = [("start", "0"), ("end", time)];
    let mut all = vec![server.api("/api/v1/labels", &range)];
    for name in ["__name__", "job", "instance", "mode", "host", "env"] {
        all.push(server.api(&format!("/api/v1/label/{name}/values"), &range));
    }
    let series = [&range[..], &[("match[]", "{__name__=~\"node_network_.*\"}")]].concat();
    let mut series = server.api("/api/v1/series", &series).as_array().unwrap().clone();
    series.sort_by_key(Value::to_string);
    all.push(Value::Array(series));
    all
}
