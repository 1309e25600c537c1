//! From what a kubelet says to what is answered: by the real scraper, in real time.

use super::JSON;
use super::cluster::{Cluster, Objects, node, pod};
use crate::process::PATIENCE;
use axum::Router;
use axum::extract::State;
use axum::routing::get;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use tidegauge_model::Clock;
use tidegauge_server::clock::SystemClock;

/// How often the kubelet measures; it is scraped more often, so that times repeat.
const MEASURED_MS: i64 = 500;

#[derive(Debug)]
struct Kubelet {
    began_ms: i64,
    /// The sidecar has ended.
    lonely: AtomicBool,
}

impl Kubelet {
    /// When it measured last, and what this many cores had used by then.
    fn used(&self, cores: f64) -> (i64, f64) {
        let now = SystemClock.now().millis();
        let at = now - now.rem_euclid(MEASURED_MS);
        (at, 10.0 + (at - self.began_ms) as f64 / 1000.0 * cores)
    }
}

async fn resource(State(kubelet): State<Arc<Kubelet>>) -> String {
    let web = r#"{container="web",namespace="shop",pod="web-1"}"#;
    let mut body = String::new();
    let (at, cpu) = kubelet.used(0.25);
    let _ = writeln!(body, "container_cpu_usage_seconds_total{web} {cpu} {at}");
    let _ = writeln!(body, "container_memory_working_set_bytes{web} 24117248 {at}");
    let _ = writeln!(body, "container_start_time_seconds{web} 1.7e9");
    let (at, cpu) = kubelet.used(0.5);
    let _ = writeln!(body, "node_cpu_usage_seconds_total {cpu} {at}");
    let _ = writeln!(body, "node_memory_working_set_bytes 1048576 {at}");
    body
}

async fn cadvisor(State(kubelet): State<Arc<Kubelet>>) -> String {
    let mut body = String::new();
    let containers = [
        ("web", "/kubepods/a", 1.0),
        ("sidecar", "/kubepods/b", 0.125),
        ("", "/kubepods", 2.0),
    ];
    for (container, id, cores) in containers {
        if container == "sidecar" && kubelet.lonely.load(Ordering::SeqCst) {
            continue;
        }
        let (at, cpu) = kubelet.used(cores);
        let labels = format!(r#"container="{container}",id="{id}",namespace="shop",pod="web-1""#);
        let _ = writeln!(
            body,
            "container_cpu_usage_seconds_total{{{labels},cpu=\"total\"}} {cpu} {at}"
        );
        let _ = writeln!(body, "container_memory_working_set_bytes{{{labels}}} 1048576 {at}");
    }
    body
}

/// Waits until an answer is as it should be; fails with the last one.
async fn until(cluster: &Cluster, path: &str, done: impl Fn(&Value) -> bool) -> Value {
    let began = Instant::now();
    loop {
        let (_, answer) = cluster.ask(path, JSON).await;
        if done(&answer) {
            return answer;
        }
        assert!(began.elapsed() < PATIENCE, "{answer}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scraped_kubelet_is_answered_by_its_own_times() {
    let objects = Objects {
        pods: vec![pod("shop", "web-1", &json!({}))],
        nodes: vec![node("n1", &json!({}))],
        refuses: false,
    };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let began_ms = clock.now().millis().div_euclid(MEASURED_MS) * MEASURED_MS;
    let cluster = Cluster::over(tempfile::tempdir().unwrap(), objects, clock).await;
    let kubelet = Arc::new(Kubelet {
        began_ms,
        lonely: AtomicBool::new(false),
    });
    let routes = Router::new()
        .route("/metrics/resource", get(resource))
        .route("/metrics/cadvisor", get(cadvisor))
        .with_state(kubelet.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move { axum::serve(listener, routes).await });
    let job = |name: &str| {
        format!(
            "- {{job_name: {name}, scrape_interval: 200ms, scrape_timeout: 200ms, metrics_path: /metrics/{name}, honor_labels: true, \
             track_timestamps_staleness: true, static_configs: [{{targets: ['{address}'], labels: {{node: n1}}}}]}}\n"
        )
    };
    let file = cluster.dir.path().join("prometheus.yml");
    std::fs::write(
        &file,
        format!("scrape_configs:\n{}{}", job("resource"), job("cadvisor")),
    )
    .unwrap();
    let config = tidegauge_server::config::load(&file).unwrap();
    let applied = cluster.scraper.apply(config.jobs().to_vec(), config.external_labels());
    applied.unwrap();

    // Until the kubelet's own word on it is there, cAdvisor's counts.
    let whole = |answer: &Value| answer["containers"][1]["usage"]["memory"] == "23Mi";
    let answer = until(&cluster, "/namespaces/shop/pods/web-1", whole).await;
    let container =
        |name: &str, cpu: &str, memory: &str| json!({"name": name, "usage": {"cpu": cpu, "memory": memory}});
    let web = container("web", "250m", "23Mi");
    assert_eq!(answer["containers"], json!([container("sidecar", "125m", "1Mi"), web]));
    let node = until(&cluster, "/nodes/n1", |answer| answer["kind"] == "NodeMetrics").await;
    assert_eq!(node["usage"], json!({"cpu": "500m", "memory": "1Mi"}));

    kubelet.lonely.store(true, Ordering::SeqCst);
    let alone = |answer: &Value| answer["containers"].as_array().map_or(0, Vec::len) == 1;
    let answer = until(&cluster, "/namespaces/shop/pods/web-1", alone).await;
    assert_eq!(
        answer["containers"],
        json!([web]),
        "within its look-back, by its marker"
    );

    cluster.scraper.stop().await;
    serving.abort();
}
