//! What looking at many autoscalers costs: run with a release build (TIDEGAUGE_BIN) and `--ignored --nocapture measure_hpa`.

use crate::apiserver::{ApiServer, Asked};
use crate::process::{Running, tidegauge};
use serde_json::json;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tidegauge_model::{Appendable, Clock, Labels, OnReject};
use tidegauge_server::clock::SystemClock;
use tidegauge_tsdb::{Db, Fsync, Options};

const AUTOSCALERS: usize = 100;
const PODS_EACH: usize = 5;
const MEASURED: Duration = Duration::from_secs(60);
const HPAS: &str = "/apis/autoscaling/v2/horizontalpodautoscalers";

/// Half an hour of what pods use, until now and a minute beyond: nothing is scraped while it is measured.
fn store(dir: &Path) {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let now = clock.now();
    let options = Options {
        fsync: Fsync::Never,
        retention_ms: 0,
        maintenance: None,
        ..Options::default()
    };
    let db = Db::open(dir, options, clock).expect("a fresh store opens");
    for step in 0..120i64 {
        let mut appender = db.appender();
        let timeline = appender.timeline("kubelet").expect("a timeline");
        let mut row = Vec::new();
        for pod in 0..AUTOSCALERS * PODS_EACH {
            let name = format!("web-{}-{}", pod / PODS_EACH, pod % PODS_EACH);
            for (metric, value) in [
                ("container_cpu_usage_seconds_total", 1.0 + step as f64 * 1.5),
                ("container_memory_working_set_bytes", 64e6),
                ("container_start_time_seconds", 1.7e9),
                ("requests_waiting", 10.0),
                ("container_threads", 7.0),
            ] {
                let labels = [
                    ("__name__", metric),
                    ("namespace", "shop"),
                    ("pod", name.as_str()),
                    ("container", "app"),
                    ("node", "n1"),
                ];
                let labels = Labels::from_pairs(labels).expect("labels");
                row.push((appender.resolve(Some(timeline), &labels).expect("a series"), value));
            }
        }
        let at = now.saturating_sub((116 - step) * 15_000);
        appender.append_row(timeline, at, &row).expect("it is taken");
        appender.commit(OnReject::Fail).expect("it is written");
    }
    db.close().expect("it closes");
}

/// A cluster with many Deployments, each scaled by cpu and by what waits for each pod.
fn cluster() -> ApiServer {
    let api = ApiServer::plain();
    api.open("/api/v1/nodes");
    api.others(|asked: &Asked| {
        let name = asked.path.strip_suffix("/scale")?.rsplit('/').next()?.to_owned();
        let scale = json!({"spec": {"replicas": PODS_EACH}, "status": {"replicas": PODS_EACH, "selector": format!("app={name}")}});
        Some((200, scale.to_string()))
    });
    for no in 0..AUTOSCALERS {
        let name = format!("web-{no}");
        for pod in 0..PODS_EACH {
            api.put_object(
                "/api/v1/pods",
                json!({
                    "metadata": {"name": format!("{name}-{pod}"), "namespace": "shop", "labels": {"app": name}},
                    "spec": {"nodeName": "n1", "containers": [{"name": "app", "resources": {"requests": {"cpu": "200m"}}}]},
                    "status": {"phase": "Running", "startTime": "2024-01-01T00:00:00Z", "podIP": "10.0.0.1",
                        "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2024-01-01T00:00:20Z"}]},
                }),
            );
        }
        api.put_object(
            HPAS,
            json!({
                "metadata": {"name": name, "namespace": "shop"},
                "spec": {
                    "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}, "maxReplicas": 20,
                    "metrics": [
                        {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}},
                        {"type": "Pods", "pods": {"metric": {"name": "requests_waiting"}, "target": {"type": "AverageValue", "averageValue": "10"}}},
                    ],
                },
            }),
        );
    }
    api
}

#[test]
#[ignore = "takes two minutes, and a machine that does nothing else"]
fn measure_hpa_looks() {
    let dir = tempfile::tempdir().unwrap();
    let api = cluster();
    let kubeconfig = format!("--kubernetes.kubeconfig={}", api.kubeconfig(dir.path(), "t").display());
    let mut shares = Vec::new();
    for (name, period) in [("off", "0"), ("on", "15s")] {
        store(&dir.path().join(name));
        let period = format!("--kubernetes.hpa-sync-period={period}");
        let mut server = Running::serve(
            &tidegauge(),
            name,
            dir.path(),
            "scrape_configs: []\n",
            &[&kubeconfig, &period],
        );
        let metric = |server: &Running, name: &str| -> f64 {
            let page = server.get("/metrics").map_or(String::new(), |answer| answer.body);
            let found = page
                .lines()
                .find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
            found.unwrap_or(0.0)
        };
        let looks = "tidegauge_hpa_looks_total ";
        if name == "on" {
            server.wait_for(|server| metric(server, looks) >= AUTOSCALERS as f64, "a look at each");
        }
        let (began, cpu, looked) = (
            Instant::now(),
            metric(&server, "process_cpu_seconds_total "),
            metric(&server, looks),
        );
        while began.elapsed() < MEASURED {
            std::thread::park_timeout(MEASURED.saturating_sub(began.elapsed()));
        }
        let share = (metric(&server, "process_cpu_seconds_total ") - cpu) / began.elapsed().as_secs_f64();
        println!(
            "{name}: {:.2} % of a core, {} looks, {} failed",
            share * 100.0,
            metric(&server, looks) - looked,
            metric(&server, "tidegauge_hpa_look_failures_total "),
        );
        if name == "on" {
            let list = server.get("/api/v1/hpa").expect("an answer").body;
            assert!(list.contains("\"ratio\":1.0"), "{}", &list[..list.len().min(2000)]);
        }
        shares.push(share);
    }
    println!(
        "{AUTOSCALERS} autoscalers: {:.2} % of a core",
        (shares[1] - shares[0]) * 100.0
    );
}
