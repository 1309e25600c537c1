//! What `kubectl top pods -A` costs where there is much else in the store.

use super::cluster::{Cluster, Objects, pod};
use super::{JSON, NOW};
use crate::custom_metrics::cpu;
use serde_json::json;
use std::time::{Duration, Instant};
use tidegauge_model::{Appendable, Labels, OnReject, SeriesRef, Timestamp};

const PODS: usize = 500;
const NODES: usize = 5;
/// Series of each pod beside those of its containers.
const OTHERS: usize = 100;
const STEP_MS: i64 = 15_000;
/// An hour.
const STEPS: i64 = 240;

struct Filler {
    db: std::sync::Arc<tidegauge_tsdb::Db>,
}

fn name(no: usize) -> String {
    format!("web-{:03}-5d9c7f6b8-x{no:04}", no / 10)
}

impl Filler {
    /// A kubelet's answer, each container stamped with its own time, as kubelets do.
    fn kubelet(&self, node: usize, at: i64, no: i64) {
        let node_name = format!("node-{node}");
        let mut appender = self.db.appender();
        for pod in (0..PODS).filter(|pod| pod % NODES == node) {
            for container in ["web", "proxy"].iter().take(1 + pod % 2) {
                let pod_name = name(pod);
                let at = Timestamp::from_millis(at - (pod as i64 * 97) % 10_000);
                for (metric, value) in [
                    ("container_cpu_usage_seconds_total", 1.0 + no as f64 * 0.3),
                    (
                        "container_memory_working_set_bytes",
                        (pod + 1) as f64 * 65_536.0 + (no % 7) as f64,
                    ),
                    ("container_start_time_seconds", 1.7e9),
                ] {
                    let labels = Labels::from_pairs([
                        ("__name__", metric),
                        ("namespace", "shop"),
                        ("pod", &pod_name),
                        ("container", container),
                        ("instance", &node_name),
                        ("node", &node_name),
                        ("job", "kubelet"),
                        ("metrics_path", "/metrics/resource"),
                    ]);
                    let series = appender.resolve(None, &labels.unwrap()).unwrap();
                    appender.append_at(series, at, value).unwrap();
                }
            }
        }
        appender.commit(OnReject::Fail).unwrap();
    }

    /// A pod's own metrics.
    fn others(&self, pod: usize, at: i64, no: i64, columns: &mut Vec<SeriesRef>) {
        let mut appender = self.db.appender();
        let timeline = appender.timeline(&name(pod)).unwrap();
        if columns.is_empty() {
            for other in 0..OTHERS {
                let (metric, pod) = (format!("http_requests_{}_total", other / 10), name(pod));
                let code = (other % 10).to_string();
                let labels = [
                    ("__name__", metric.as_str()),
                    ("namespace", "shop"),
                    ("pod", &pod),
                    ("code", &code),
                ];
                columns.push(
                    appender
                        .resolve(Some(timeline), &Labels::from_pairs(labels).unwrap())
                        .unwrap(),
                );
            }
        }
        let row: Vec<(SeriesRef, f64)> = columns.iter().map(|column| (*column, no as f64)).collect();
        appender.append_row(timeline, Timestamp::from_millis(at), &row).unwrap();
        appender.commit(OnReject::Fail).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "prints figures; for a build with optimizations"]
async fn measure_kubectl_top_pods() {
    let objects = Objects {
        pods: (0..PODS)
            .map(|no| {
                pod(
                    "shop",
                    &name(no),
                    &json!({"app": "web", "pod-template-hash": "5d9c7f6b8"}),
                )
            })
            .collect(),
        ..Objects::default()
    };
    let cluster = Cluster::start(objects, NOW).await;
    let filler = Filler {
        db: cluster.sources.store.clone(),
    };
    let began = Instant::now();
    let mut columns = vec![Vec::new(); PODS];
    for no in 0..STEPS {
        let at = NOW.millis() - (STEPS - 1 - no) * STEP_MS;
        for node in 0..NODES {
            filler.kubelet(node, at, no);
        }
        for (pod, columns) in columns.iter_mut().enumerate() {
            filler.others(pod, at, no, columns);
        }
    }
    println!("filled in {:.1} s", began.elapsed().as_secs_f64());
    for path in [
        "/pods",
        "/namespaces/shop/pods?labelSelector=app%3Dweb",
        "/namespaces/shop/pods/web-000-5d9c7f6b8-x0007",
    ] {
        let (_, list) = cluster.ask(path, JSON).await;
        let pods = list["items"].as_array().map_or(1, Vec::len);
        assert!(pods == PODS || pods == 1, "{pods}");
        let mut took: Vec<Duration> = Vec::new();
        let before = cpu();
        for _ in 0..300 {
            let began = Instant::now();
            let (status, bytes) = cluster.raw("GET", path, JSON).await;
            took.push(began.elapsed());
            assert_eq!((status, bytes.is_empty()), (200, false));
        }
        let cpu_ms = (cpu() - before).as_secs_f64() * 1000.0 / took.len() as f64;
        took.sort_unstable();
        let ms = |at: usize| took[at].as_secs_f64() * 1000.0;
        println!(
            "{path}: p50 {:.2} ms, p99 {:.2} ms, most {:.2} ms; {cpu_ms:.2} ms of a processor",
            ms(150),
            ms(297),
            ms(299)
        );
    }
}
