//! The whole way: kubectl asks the API server, its aggregation layer asks the program over TLS as the cluster told it,
//! and the program answers from what it has scraped.

use super::{NAME, Running};
use crate::aggregator::{Aggregator, PROXY};
use crate::hpa::shared;
use crate::program::Program;
use axum::Router;
use axum::extract::State;
use axum::routing::get;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tidegauge_model::Clock;
use tidegauge_server::clock::SystemClock;

const PATIENCE: Duration = Duration::from_secs(60);

/// What a kubelet says of a node with one pod, which uses a quarter of a core. It measures twice a second. A queue stands
/// beside it, and the pod tells of its requests once it is told to.
async fn kubelet(State(tells): State<Arc<AtomicBool>>) -> String {
    let at = SystemClock.now().millis().div_euclid(500) * 500;
    let cpu = |cores: f64| (at % 1_000_000_000) as f64 / 1000.0 * cores;
    let web = r#"{container="front-end",namespace="sock-shop",pod="front-end-1"}"#;
    let mut body = String::new();
    let _ = writeln!(body, "container_cpu_usage_seconds_total{web} {} {at}", cpu(0.25));
    let _ = writeln!(body, "container_memory_working_set_bytes{web} 24117248 {at}");
    let _ = writeln!(body, "container_start_time_seconds{web} 1.7e9");
    let _ = writeln!(body, "node_cpu_usage_seconds_total {} {at}", cpu(0.5));
    let _ = writeln!(body, "node_memory_working_set_bytes 1073741824 {at}");
    let _ = writeln!(body, "rabbitmq_queue_messages_ready{{queue=\"shipping-task\"}} 7");
    if tells.load(Ordering::SeqCst) {
        let _ = writeln!(body, "http_requests{web} 12.5");
    }
    body
}

/// Serves the kubelet until the process ends.
fn serve_kubelet(tells: Arc<AtomicBool>) -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.set_nonblocking(true).expect("a listener");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
            let routes = Router::new().route("/metrics/resource", get(kubelet)).with_state(tells);
            axum::serve(listener, routes).await.expect("it serves");
        });
    });
    address
}

/// A cluster with a node and a pod, and the program that answers for its metrics. The pod tells of its requests once
/// `tells` is set.
fn start(dir: &Path, tells: &Arc<AtomicBool>) -> (Aggregator, Running) {
    let cluster = Aggregator::start();
    let room = json!({"cpu": "2", "memory": "4Gi"});
    cluster.api.put_object(
        "/api/v1/nodes",
        json!({"metadata": {"name": "n1"}, "status": {"allocatable": room, "capacity": room}}),
    );
    cluster.api.put_object(
        "/api/v1/pods",
        json!({"metadata": {"name": "front-end-1", "namespace": "sock-shop", "labels": {"name": "front-end"}},
            "spec": {"nodeName": "n1", "containers": [{"name": "front-end"}]}, "status": {"phase": "Running"}}),
    );
    let config = dir.join("c.yml");
    let text = format!(
        "tidegauge: {{hpa_automatic: true, hpa_metrics: [{{name: rabbitmq_queue_messages_ready, query: max by (queue) \
         (rabbitmq_queue_messages_ready)}}]}}\nscrape_configs:\n- {{job_name: kubelet, scrape_interval: 300ms, scrape_timeout: 300ms, metrics_path: /metrics/resource, \
         honor_labels: true, track_timestamps_staleness: true, static_configs: [{{targets: ['{}'], labels: {{node: n1}}}}]}}\n",
        serve_kubelet(Arc::clone(tells))
    );
    std::fs::write(&config, text).expect("written");
    let kubeconfig = cluster.kubeconfig(dir, "tidegauge");
    let args = [
        format!("--config.file={}", config.display()),
        format!("--kubernetes.kubeconfig={}", kubeconfig.display()),
        "--kubernetes.api.listen-address=127.0.0.1:0".to_owned(),
    ];
    let program = Program::serve(&dir.join("data"), &args.each_ref().map(String::as_str));
    let running = Running::of(program, dir);
    cluster.hand_on(&running.address.to_string(), NAME, &running.bundle);
    (cluster, running)
}

fn kubectl(dir: &Path, kubeconfig: &Path, args: &[&str]) -> Output {
    Command::new("kubectl")
        .arg(format!("--kubeconfig={}", kubeconfig.display()))
        .arg(format!("--cache-dir={}", dir.join("cache").display()))
        .args(args)
        .output()
        .expect("kubectl")
}

/// What it prints, in words, once it does.
fn printed(dir: &Path, kubeconfig: &Path, args: &[&str]) -> Vec<String> {
    let begun = Instant::now();
    loop {
        let output = kubectl(dir, kubeconfig, args);
        let text = String::from_utf8_lossy(&output.stdout);
        if output.status.success() && !text.trim().is_empty() {
            return text.split_whitespace().map(str::to_owned).collect();
        }
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(begun.elapsed() < PATIENCE, "{args:?}: {text}{errors}");
        std::thread::park_timeout(Duration::from_millis(200));
    }
}

#[test]
#[ignore = "needs kubectl"]
fn kubectl_is_answered_through_the_aggregation_layer() {
    let dir = tempfile::tempdir().expect("a folder");
    let (cluster, running) = start(dir.path(), &Arc::default());
    let admin = cluster.kubeconfig(dir.path(), "admin");
    let printed = |args: &[&str]| printed(dir.path(), &admin, args);
    assert_eq!(
        printed(&["top", "pods", "-A", "--no-headers"]),
        ["sock-shop", "front-end-1", "250m", "23Mi"]
    );
    assert_eq!(
        printed(&["top", "nodes", "--no-headers"]),
        ["n1", "500m", "25%", "1024Mi", "25%"]
    );
    let raw = printed(&["get", "--raw", "/apis/metrics.k8s.io/v1beta1/nodes/n1"]).concat();
    let raw: Value = serde_json::from_str(&raw).expect("JSON");
    assert_eq!(
        (&raw["kind"], &raw["usage"]["cpu"]),
        (&"NodeMetrics".into(), &"500m".into())
    );
    let resources = printed(&[
        "api-resources",
        "--api-group=metrics.k8s.io",
        "--no-headers",
        "-o",
        "name",
    ]);
    assert_eq!(resources, ["nodes.metrics.k8s.io", "pods.metrics.k8s.io"]);
    let external = "/apis/external.metrics.k8s.io/v1beta1/namespaces/sock-shop/rabbitmq_queue_messages_ready";
    let external = printed(&["get", "--raw", external]).concat();
    let external: Value = serde_json::from_str(&external).expect("JSON");
    assert_eq!(external["items"][0]["value"], "7");
    // Whom the cluster does not let is told so, in kubectl's own words. Without TLS, kubectl says of nobody who they are.
    cluster.deny("system:anonymous");
    let refused = kubectl(dir.path(), &admin, &["top", "pods", "-n", "elsewhere"]);
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    let cannot = "\"system:anonymous\" cannot list resource \"pods\"";
    assert!(
        !refused.status.success() && told.contains("Forbidden") && told.contains(cannot),
        "{told}"
    );
    let ready = running.caller(None).get("/readyz", &[]);
    assert_eq!((ready.status, &*ready.text), (200, "ok"));
}

#[test]
#[ignore = "needs TIDEGAUGE_SHARED"]
fn what_an_api_server_was_seen_to_ask_is_answered_as_it_was() {
    let dir = tempfile::tempdir().expect("a folder");
    let tells = Arc::<AtomicBool>::default();
    let (cluster, running) = start(dir.path(), &tells);
    let proxy = running.caller(Some(&cluster.front().user(PROXY, &[])));
    let admin = [("X-Remote-User", "admin")];
    super::until(
        "something to tell",
        || proxy.try_ask("GET", "/readyz", &admin),
        super::is(200),
    );
    let recorded = shared("k8s-fixtures/recorded/aggregator-requests.jsonl");
    let mut count = 0;
    for line in recorded.lines() {
        let asked: Value = serde_json::from_str(line).expect("JSON");
        assert_eq!(asked["clientCN"], PROXY);
        let headers: Vec<(&str, &str)> = asked["headers"]
            .as_object()
            .expect("headers")
            .iter()
            // Who asks here sets these two by itself.
            .filter(|(name, _)| !matches!(name.as_str(), "Host" | "Accept-Encoding"))
            .map(|(name, value)| (name.as_str(), value.as_str().expect("a text")))
            .collect();
        let path = asked["path"].as_str().expect("a path");
        if path.contains("/http_requests") && asked["answer"] == 200 && !tells.swap(true, Ordering::SeqCst) {
            super::until("known", || proxy.try_ask("GET", path, &headers), super::is(200));
        }
        let answer = proxy
            .try_ask(asked["method"].as_str().expect("a method"), path, &headers)
            .expect("an answer");
        // What was asked then had no documents.
        let expected = match path.starts_with("/openapi") {
            true => json!(200),
            false => asked["answer"].clone(),
        };
        assert_eq!(answer.status, expected, "{path}: {answer:?}");
        assert!(answer.kind.starts_with("application/json"), "{path}: {answer:?}");
        if path.contains("labelSelector") && answer.status == 200 && !path.contains("scrypt-server") {
            assert_eq!(
                answer.json()["items"].as_array().map(Vec::len),
                Some(1),
                "{path}: {answer:?}"
            );
        }
        count += 1;
    }
    assert!(count > 20, "{count}");
}
