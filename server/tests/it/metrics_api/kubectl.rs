//! What the real `kubectl` makes of the answers.

use super::cluster::{Used, node, pod, store_container, store_node};
use super::recorded::{as_recorded, fixture};
use crate::aggregator::Aggregator;
use crate::process::PATIENCE;
use crate::program::Program;
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;
use tidegauge_model::Clock;
use tidegauge_model::testing::HandClock;
use tidegauge_server::clock::SystemClock;
use tidegauge_tsdb::{Db, Options};

/// Words of each line of what `kubectl` prints, or what it complains of.
fn try_kubectl(kubeconfig: &Path, args: &[&str]) -> Result<Vec<Vec<String>>, String> {
    let output = Command::new("kubectl")
        .arg(format!("--kubeconfig={}", kubeconfig.display()))
        .arg(format!("--cache-dir={}.cache", kubeconfig.display()))
        .args(args)
        .output()
        .expect("kubectl");
    let text = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("{args:?}: {text}{errors}"));
    }
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect();
    Ok(text.lines().map(words).collect())
}

fn kubectl(kubeconfig: &Path, args: &[&str]) -> Vec<Vec<String>> {
    try_kubectl(kubeconfig, args).unwrap_or_else(|complaint| panic!("{complaint}"))
}

fn words(lines: &[&str]) -> Vec<Vec<String>> {
    lines
        .iter()
        .map(|line| line.split_whitespace().map(str::to_owned).collect())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs TIDEGAUGE_SHARED and kubectl"]
async fn kubectl_top_prints_what_is_used() {
    let cluster = as_recorded().await;
    let nodes = fixture("kubectl-top.expected");
    let expected: Vec<Vec<String>> = nodes["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|n| {
            let percent = |name: &str| format!("{}%", n[name]);
            let text = |name: &str| n[name].as_str().unwrap().to_owned();
            vec![
                text("name"),
                text("cpu"),
                percent("cpuPercent"),
                text("memory"),
                percent("memoryPercent"),
            ]
        })
        .collect();
    assert_eq!(
        kubectl(&cluster.kubeconfig, &["top", "nodes", "--no-headers"]),
        expected
    );
    assert_eq!(
        kubectl(
            &cluster.kubeconfig,
            &["top", "node", "digital-ocean-pool-bdyl", "--no-headers"]
        ),
        expected[1..2]
    );

    let front_end = [
        "sock-shop front-end-6f9db4fd44-6mcw7 30m 74Mi",
        "sock-shop front-end-6f9db4fd44-7n228 20m 68Mi",
        "sock-shop front-end-6f9db4fd44-bn6t6 28m 66Mi",
        "sock-shop front-end-6f9db4fd44-lsm6z 25m 79Mi",
    ];
    let all = [&front_end[..], &["sock-shop orders-db-5cfc68c4cf-pf7sq 6m 68Mi"]].concat();
    let top = |args: &[&str]| kubectl(&cluster.kubeconfig, &[&["top", "pods", "--no-headers"], args].concat());
    assert_eq!(top(&["-A"]), words(&all));
    assert_eq!(top(&["-A", "-l", "name=front-end"]), words(&front_end));
    assert_eq!(
        top(&["-n", "sock-shop", "--containers", "-l", "name in (orders-db)"]),
        words(&[
            "orders-db-5cfc68c4cf-pf7sq exporter 2m 11Mi",
            "orders-db-5cfc68c4cf-pf7sq orders-db 5m 57Mi"
        ])
    );
    assert_eq!(
        top(&["-n", "sock-shop", "--sort-by=cpu"])[0],
        words(&["front-end-6f9db4fd44-6mcw7 30m 74Mi"])[0]
    );
    assert_eq!(
        kubectl(
            &cluster.kubeconfig,
            &[
                "get",
                "pods.metrics.k8s.io",
                "-n",
                "sock-shop",
                "orders-db-5cfc68c4cf-pf7sq"
            ]
        ),
        words(&[
            "NAME CPU MEMORY WINDOW",
            "orders-db-5cfc68c4cf-pf7sq 5524427n 69836Ki 17.412s"
        ])
    );
    assert_eq!(
        kubectl(&cluster.kubeconfig, &["get", "nodes.metrics.k8s.io", "--no-headers"])[1],
        words(&["digital-ocean-pool-bdyl 164m 1296Mi 15.064s"])[0]
    );
    let raw = [
        "get",
        "--raw",
        "/apis/metrics.k8s.io/v1beta1/namespaces/sock-shop/pods?labelSelector=name%3Dorders-db",
    ];
    let raw: Value = serde_json::from_str(&kubectl(&cluster.kubeconfig, &raw).concat().concat()).unwrap();
    assert_eq!(raw["items"][0]["containers"], fixture("podmetrics.get")["containers"]);
}

/// What a program that was here before has stored of the last seconds.
fn fill(data: &Path) {
    let now = SystemClock.now();
    let db = Db::open(data, Options::default(), Arc::new(HandClock::at(now))).unwrap();
    let used = |cpu_nano, memory_bytes| Used {
        at_ms: now.millis() - 5000,
        window_ms: 15_000,
        cpu_nano,
        memory_bytes,
    };
    store_container(&db, "shop", "web-1", "web", used(194_000_000, 23 << 20));
    store_container(&db, "shop", "web-1", "proxy", used(1_000_001, 1 << 20));
    store_container(&db, "kube-system", "dns", "dns", used(2_500_000, 12 << 20));
    store_node(&db, "n1", used(500_000_000, 1 << 30));
    db.close().unwrap();
}

/// Through an API server that hands requests on over TLS, to the real program, which knows no more than what is on its disk.
#[test]
#[ignore = "needs kubectl"]
fn kubectl_asks_the_program_through_an_api_server() {
    let dir = tempfile::tempdir().unwrap();
    let aggregator = Aggregator::start();
    for (namespace, name, app) in [
        ("shop", "web-1", "web"),
        ("kube-system", "dns", "dns"),
        ("shop", "silent", "web"),
    ] {
        aggregator
            .api
            .put_object("/api/v1/pods", pod(namespace, name, &json!({"app": app})));
    }
    for name in ["n1", "n2"] {
        aggregator.api.put_object("/api/v1/nodes", node(name, &json!({})));
    }
    fill(&dir.path().join("data"));
    let config = dir.path().join("prometheus.yml");
    std::fs::write(&config, "scrape_configs: []\n").unwrap();
    let program = Program::serve(
        &dir.path().join("data"),
        &[
            &format!("--config.file={}", config.display()),
            &format!(
                "--kubernetes.kubeconfig={}",
                aggregator.kubeconfig(dir.path(), "tidegauge").display()
            ),
            "--kubernetes.api.listen-address=127.0.0.1:0",
        ],
    );
    let line = program.log_until("serving the Kubernetes metrics APIs");
    let address = line
        .split("address=")
        .nth(1)
        .and_then(|rest| rest.split(' ').next())
        .unwrap();
    let bundle = std::fs::read_to_string(dir.path().join("data/kubernetes-api/ca.crt")).unwrap();
    aggregator.hand_on(address, "tidegauge-metrics-api.tidegauge.svc", &bundle);

    let kubeconfig = aggregator.kubeconfig(dir.path(), "somebody");
    let top = || {
        try_kubectl(
            &kubeconfig,
            &["top", "pods", "-A", "-l", "app in (web, dns)", "--no-headers"],
        )
    };
    let began = Instant::now();
    // Whom to believe and who is there it learns after its start.
    while let Err(complaint) = top() {
        assert!(began.elapsed() < PATIENCE, "{complaint}");
    }
    assert_eq!(top(), Ok(words(&["kube-system dns 3m 12Mi", "shop web-1 196m 24Mi"])));
    let containers = ["top", "pods", "-n", "shop", "--containers", "--no-headers"];
    assert_eq!(
        kubectl(&kubeconfig, &containers),
        words(&["web-1 proxy 2m 1Mi", "web-1 web 194m 23Mi"])
    );
    let nodes = kubectl(&kubeconfig, &["top", "nodes", "--no-headers"]);
    assert_eq!(nodes[0], words(&["n1 500m 25% 1024Mi 25%"])[0]);
    assert_eq!(nodes[1][0], "n2", "it has no samples: {nodes:?}");
    let raw = [
        "get",
        "--raw",
        "/apis/metrics.k8s.io/v1beta1/namespaces/shop/pods/web-1",
    ];
    let raw: Value = serde_json::from_str(&kubectl(&kubeconfig, &raw).concat().concat()).unwrap();
    assert_eq!(raw["containers"][1]["usage"], json!({"cpu": "194m", "memory": "23Mi"}));

    // Over plain HTTP kubectl does not say who it is. What it was not asked before nobody remembers to be allowed.
    aggregator.deny("system:anonymous");
    let complaint = try_kubectl(&kubeconfig, &["top", "pods", "-n", "kube-system"]).unwrap_err();
    let expected = r#"User "system:anonymous" cannot list resource "pods""#;
    assert!(complaint.contains(expected), "{complaint}");
}
