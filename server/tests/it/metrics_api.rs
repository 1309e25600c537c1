//! `metrics.k8s.io` by its answers: JSON as documented, and what the real `kubectl` makes of it.

mod cluster;
mod measure;
mod scraped;

use crate::hpa::shared;
use cluster::{Cluster, Objects, Used, node, pod};
use serde_json::{Value, json};
use std::process::Command;
use std::sync::Arc;
use tidegauge_model::testing::HandClock;
use tidegauge_model::{Appendable, Labels, OnReject, Timestamp};
use tidegauge_server::hpa::quantity::Quantity;
use tidegauge_server::kubeapi::resource;

/// 2026-03-02T08:00:41Z
const NOW: Timestamp = Timestamp::from_millis(1_772_438_441_000);
const JSON: &str = "application/json";
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

fn used(age_s: i64, window_ms: i64, cpu_nano: i64, memory_bytes: i64) -> Used {
    Used {
        at_ms: NOW.millis() - age_s * 1000,
        window_ms,
        cpu_nano,
        memory_bytes,
    }
}

/// Two nodes; pods that run in two namespaces, one that is done, one that nobody has heard of.
fn objects() -> Objects {
    let mut done = pod("shop", "job-1", &json!({"app": "job"}));
    done["status"]["phase"] = json!("Succeeded");
    Objects {
        pods: vec![
            pod("shop", "web-1", &json!({"app": "web", "tier": "front"})),
            pod("shop", "web-2", &json!({"app": "web"})),
            pod("shop", "db", &json!({})),
            pod("shop", "silent", &json!({"app": "web"})),
            pod("kube-system", "dns", &json!({"k8s-app": "dns"})),
            done,
        ],
        nodes: vec![node("n1", &json!({"zone": "a"})), node("n2", &json!({"zone": "b"}))],
        refuses: false,
    }
}

async fn started(objects: Objects) -> Cluster {
    let cluster = Cluster::start(objects, NOW).await;
    fill(&cluster);
    cluster
}

fn fill(cluster: &Cluster) {
    for (namespace, pod, container, used) in [
        ("shop", "web-1", "web", used(12, 15_000, 194_000_000, 24_117_248)),
        ("shop", "web-1", "proxy", used(11, 15_000, 1, 1536)),
        ("shop", "web-2", "web", used(2, 15_000, 29_412_887, 77_594_624)),
        ("shop", "db", "db", used(2, 15_000, 1_500_000_000, 1 << 30)),
        ("kube-system", "dns", "dns", used(3, 60_500, 2_000_000, 1 << 20)),
        ("shop", "job-1", "job", used(12, 15_000, 194_000_000, 24_117_248)),
        ("shop", "deleted", "web", used(12, 15_000, 194_000_000, 24_117_248)),
    ] {
        cluster.container(namespace, pod, container, used);
    }
    cluster.node("n1", used(5, 15_000, 268_431_997, 1_507_852_288));
    cluster.node("n2", used(5, 15_000, 1_000_000_000, 1 << 20));
    cluster.node("gone", used(5, 15_000, 1_000_000_000, 1 << 20));
}

/// `namespace/name` of what a list holds.
fn names(list: &Value) -> String {
    let name = |item: &Value| {
        let meta = &item["metadata"];
        let namespace = meta["namespace"].as_str().map(|n| format!("{n}/")).unwrap_or_default();
        format!("{namespace}{}", meta["name"].as_str().unwrap())
    };
    let items = list["items"].as_array().unwrap_or_else(|| panic!("{list}"));
    items.iter().map(name).collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn lists_hold_who_is_there_and_is_meant() {
    let cluster = started(objects()).await;
    for (path, expected) in [
        ("/pods", "kube-system/dns shop/db shop/web-1 shop/web-2"),
        ("/namespaces/shop/pods", "shop/db shop/web-1 shop/web-2"),
        ("/namespaces/nowhere/pods", ""),
        ("/pods?labelSelector=app%3Dweb", "shop/web-1 shop/web-2"),
        ("/pods?labelSelector=app+in+(web,x),!tier", "shop/web-2"),
        ("/namespaces/kube-system/pods?labelSelector=app%3Dweb", ""),
        ("/pods?fieldSelector=metadata.name%3Ddns", "kube-system/dns"),
        ("/pods?fieldSelector=metadata.namespace!%3Dshop", "kube-system/dns"),
        (
            "/pods?fieldSelector=metadata.namespace%3Dshop&labelSelector=!app&limit=1",
            "shop/db",
        ),
        (
            "/namespaces/shop/pods?fieldSelector=metadata.namespace%3Dkube-system",
            "",
        ),
        ("/namespaces/%73hop/pods?watch=false", "shop/db shop/web-1 shop/web-2"),
        ("/nodes", "n1 n2"),
        ("/nodes?labelSelector=zone%3Db", "n2"),
        ("/nodes?fieldSelector=metadata.name%3Dn1", "n1"),
    ] {
        let (status, list) = cluster.ask(path, "application/vnd.kubernetes.protobuf, */*").await;
        assert_eq!((status, names(&list).as_str()), (200, expected), "{path}");
    }
}

#[tokio::test]
async fn objects_are_as_documented() {
    let cluster = started(objects()).await;
    let (_, group) = cluster.ask("", JSON).await;
    let of = |resource: &Value| format!("{} {} {}", resource["name"], resource["kind"], resource["verbs"]);
    let resources: Vec<String> = group["resources"].as_array().unwrap().iter().map(of).collect();
    let verbs = r#"["get","list"]"#;
    assert_eq!(
        resources,
        [
            format!(r#""nodes" "NodeMetrics" {verbs}"#),
            format!(r#""pods" "PodMetrics" {verbs}"#)
        ]
    );
    let (_, pod) = cluster.ask("/namespaces/shop/pods/web-1", JSON).await;
    assert_eq!(
        pod,
        json!({
            "kind": "PodMetrics", "apiVersion": "metrics.k8s.io/v1beta1",
            "metadata": {"name": "web-1", "namespace": "shop", "creationTimestamp": "2026-03-02T08:00:41Z", "labels": {"app": "web", "tier": "front"}},
            "timestamp": "2026-03-02T08:00:29Z", "window": "15s",
            "containers": [
                {"name": "proxy", "usage": {"cpu": "1n", "memory": "1536"}},
                {"name": "web", "usage": {"cpu": "194m", "memory": "23Mi"}},
            ],
        })
    );
    let (_, node) = cluster.ask("/nodes/n1", JSON).await;
    assert_eq!(
        node,
        json!({
            "kind": "NodeMetrics", "apiVersion": "metrics.k8s.io/v1beta1",
            "metadata": {"name": "n1", "creationTimestamp": "2026-03-02T08:00:41Z", "labels": {"zone": "a"}},
            "timestamp": "2026-03-02T08:00:36Z", "window": "15s", "usage": {"cpu": "268431997n", "memory": "1438Mi"},
        })
    );
    let (_, list) = cluster.ask("/namespaces/kube-system/pods", JSON).await;
    assert_eq!(
        (&list["kind"], &list["metadata"]),
        (&json!("PodMetricsList"), &json!({}))
    );
    assert_eq!(list["items"][0]["window"], "1m0.5s");
    let (_, table) = cluster.ask("/namespaces/shop/pods?limit=500", TABLE).await;
    let rows: Vec<&Value> = table["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| &row["cells"])
        .collect();
    assert_eq!(rows[1], &json!(["web-1", "194000001n", "24118784", "15s"]));
    assert_eq!(
        table["rows"][1]["object"]["metadata"]["labels"],
        json!({"app": "web", "tier": "front"})
    );
    let partial = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
    let (_, meta) = cluster.ask("/nodes/n2", partial).await;
    assert_eq!(
        (&meta["kind"], &meta["metadata"]["name"]),
        (&json!("PartialObjectMetadata"), &json!("n2"))
    );
}

#[tokio::test]
async fn what_cannot_be_answered_is_a_status() {
    let cluster = started(objects()).await;
    let pods = |name: &str| format!("podmetrics.metrics.k8s.io \"{name}\" not found");
    for (method, path, code, reason, message) in [
        (
            "GET",
            "/namespaces/shop/pods/silent",
            404,
            "NotFound",
            pods("shop/silent"),
        ),
        (
            "GET",
            "/namespaces/shop/pods/deleted",
            404,
            "NotFound",
            pods("shop/deleted"),
        ),
        (
            "GET",
            "/namespaces/shop/pods/job-1",
            404,
            "NotFound",
            pods("shop/job-1"),
        ),
        (
            "GET",
            "/namespaces/a%22b/pods/c%2Fd",
            404,
            "NotFound",
            pods("a\\\"b/c/d"),
        ),
        (
            "GET",
            "/nodes/gone",
            404,
            "NotFound",
            "nodemetrics.metrics.k8s.io \"gone\" not found".into(),
        ),
        ("GET", "/nodes/%ff", 400, "BadRequest", String::new()),
        (
            "GET",
            "/pods?labelSelector=a%3D%3D%3D",
            400,
            "BadRequest",
            String::new(),
        ),
        (
            "GET",
            "/pods?fieldSelector=spec.nodeName%3Dn1",
            400,
            "BadRequest",
            String::new(),
        ),
        ("GET", "/pods?includeObject=some", 400, "BadRequest", String::new()),
        (
            "GET",
            "/namespaces/shop/pods/web-1?watch=true",
            405,
            "MethodNotAllowed",
            "watch is not supported on resources of kind \"pods.metrics.k8s.io\"".into(),
        ),
        (
            "GET",
            "/nodes?watch=true",
            405,
            "MethodNotAllowed",
            "watch is not supported on resources of kind \"nodes.metrics.k8s.io\"".into(),
        ),
        (
            "DELETE",
            "/namespaces/shop/pods/web-1",
            405,
            "MethodNotAllowed",
            String::new(),
        ),
        ("POST", "/nodes", 405, "MethodNotAllowed", String::new()),
    ] {
        let (status, json) = cluster.send(method, path, JSON).await;
        assert_eq!(
            (status, &json["code"], &json["reason"]),
            (code, &json!(code), &json!(reason)),
            "{path}: {json}"
        );
        assert_eq!(
            (&json["kind"], &json["status"]),
            (&json!("Status"), &json!("Failure")),
            "{path}"
        );
        let told = json["message"].as_str().unwrap();
        assert!(
            if message.is_empty() {
                !told.is_empty()
            } else {
                told == message
            },
            "{path}: {told}"
        );
    }
}

#[tokio::test]
async fn without_the_api_server_samples_alone_are_served() {
    let refused = Objects {
        refuses: true,
        ..Objects::default()
    };
    let cluster = started(refused).await;
    let (_, list) = cluster.ask("/namespaces/shop/pods", JSON).await;
    assert_eq!(names(&list), "shop/db shop/deleted shop/job-1 shop/web-1 shop/web-2");
    assert_eq!(list["items"][0]["metadata"].get("labels"), None);
    assert_eq!(cluster.ask("/nodes/gone", JSON).await.0, 200);
    let (status, failure) = cluster.ask("/pods?labelSelector=app%3Dweb", JSON).await;
    assert_eq!((status, &failure["reason"]), (503, &json!("ServiceUnavailable")));
    let told = failure["message"].as_str().unwrap();
    assert!(
        told.starts_with("cannot select by labels: pods are not known:") && told.contains(r#"on the resource "pods""#),
        "{told}"
    );
    let problems = resource::problems(&cluster.sources);
    assert!(
        problems[0].contains(r#"on the resource "pods""#) && problems.len() == 2,
        "{problems:?}"
    );
}

#[tokio::test]
async fn it_says_when_there_is_nothing_to_serve() {
    let cluster = Cluster::start(objects(), NOW).await;
    let problems = resource::problems(&cluster.sources);
    assert!(
        problems[0].contains("nothing scrapes the kubelets") && problems.len() == 1,
        "{problems:?}"
    );
    assert_eq!(names(&cluster.ask("/pods", JSON).await.1), "");
    cluster.container("shop", "web-1", "web", used(299, 15_000, 1, 1));
    assert_eq!(resource::problems(&cluster.sources), [""; 0]);
}

#[tokio::test]
async fn a_restart_answers_at_once_from_the_disk() {
    let cluster = started(objects()).await;
    let before = cluster.ask("/pods", JSON).await;
    let nodes = cluster.ask("/nodes", JSON).await;
    let dir = cluster.stop();
    let cluster = Cluster::over(dir, objects(), Arc::new(HandClock::at(NOW))).await;
    assert_eq!(cluster.ask("/pods", JSON).await, before);
    assert_eq!(cluster.ask("/nodes", JSON).await, nodes);
    assert_eq!(names(&before.1), "kube-system/dns shop/db shop/web-1 shop/web-2");
    // The first sample after it makes a pair with the last before it.
    let labels = [
        ("__name__", "container_cpu_usage_seconds_total"),
        ("namespace", "shop"),
        ("pod", "db"),
        ("container", "db"),
        ("job", "kubelet"),
    ];
    let mut appender = cluster.sources.store.appender();
    let series = appender.resolve(None, &Labels::from_pairs(labels).unwrap()).unwrap();
    appender.append_at(series, NOW, 24.5).unwrap();
    appender.commit(OnReject::Fail).unwrap();
    let (_, db) = cluster.ask("/namespaces/shop/pods/db", JSON).await;
    // What was stored before is some nanoseconds more than 23.5 s.
    assert_eq!(
        (&db["window"], &db["containers"][0]["usage"]["cpu"]),
        (&json!("2s"), &json!("499999996n"))
    );
}

/// A duration of a recorded answer, such as `17.412s`.
fn window_ms(text: &str) -> i64 {
    (text.trim_end_matches('s').parse::<f64>().unwrap() * 1000.0).round() as i64
}

/// What must have been measured for a recorded object.
fn recorded(object: &Value, usage: &Value) -> Used {
    let at: jiff::Timestamp = object["timestamp"].as_str().unwrap().parse().unwrap();
    let amount = |name: &str| usage[name].as_str().unwrap().parse::<Quantity>().unwrap().approximate();
    Used {
        at_ms: at.as_millisecond(),
        window_ms: window_ms(object["window"].as_str().unwrap()),
        cpu_nano: (amount("cpu") * 1e9).round() as i64,
        memory_bytes: amount("memory") as i64,
    }
}

fn fixture(name: &str) -> Value {
    let mut json = serde_json::from_str(&shared(&format!("k8s-fixtures/metrics-api/{name}.json"))).unwrap();
    canonical(&mut json);
    json
}

/// Amounts of memory as Kubernetes itself prints them: recorded ones are the same, but not always in their largest unit.
fn canonical(json: &mut Value) {
    match json {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value.as_str().and_then(|text| text.parse::<Quantity>().ok()) {
                    Some(amount) if name == "memory" => *value = json!(amount.to_string()),
                    _ => canonical(value),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(canonical),
        _ => {}
    }
}

/// A cluster that is to answer as was recorded.
async fn as_recorded() -> Cluster {
    let (nodes, pods) = (fixture("nodemetrics.list"), fixture("podmetrics.list"));
    let list = |list: &Value| list["items"].as_array().unwrap().clone();
    // Names and labels are those of the recorded answers; what a node has room for is in its own list.
    let cluster_nodes: Value = serde_json::from_str(&shared("k8s-fixtures/nodes.list.json")).unwrap();
    let known = list(&nodes).into_iter().map(|metrics| {
        let name = &metrics["metadata"]["name"];
        let mut node = list(&cluster_nodes)
            .into_iter()
            .find(|n| &n["metadata"]["name"] == name)
            .unwrap();
        node["metadata"]["labels"] = metrics["metadata"]["labels"].clone();
        node
    });
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let objects = Objects {
        nodes: known.collect(),
        pods: list(&pods)
            .iter()
            .map(|p| {
                pod(
                    &text(&p["metadata"]["namespace"]),
                    &text(&p["metadata"]["name"]),
                    &p["metadata"]["labels"],
                )
            })
            .collect(),
        refuses: false,
    };
    let cluster = Cluster::start(objects, NOW).await;
    for node in list(&nodes) {
        cluster.node(&text(&node["metadata"]["name"]), recorded(&node, &node["usage"]));
    }
    for pod in list(&pods) {
        let meta = &pod["metadata"];
        for container in pod["containers"].as_array().unwrap() {
            let used = recorded(&pod, &container["usage"]);
            cluster.container(
                &text(&meta["namespace"]),
                &text(&meta["name"]),
                &text(&container["name"]),
                used,
            );
        }
    }
    cluster
}

#[tokio::test]
#[ignore = "needs TIDEGAUGE_SHARED"]
async fn answers_are_the_recorded_ones() {
    let cluster = as_recorded().await;
    for (path, name) in [
        ("", "apis-metrics.k8s.io-v1beta1"),
        ("/nodes", "nodemetrics.list"),
        ("/nodes/digital-ocean-pool-bdy6", "nodemetrics.get"),
        ("/pods", "podmetrics.list"),
        ("/namespaces/sock-shop/pods", "podmetrics.list"),
        (
            "/namespaces/sock-shop/pods/orders-db-5cfc68c4cf-pf7sq",
            "podmetrics.get",
        ),
        (
            "/namespaces/sock-shop/pods/user-db-99685d75b-gvbsp",
            "podmetrics.notfound",
        ),
    ] {
        let (_, mut answer) = cluster.ask(path, "application/vnd.kubernetes.protobuf, */*").await;
        // The recorded single node is without the labels that it has in the list.
        if name == "nodemetrics.get" {
            answer["metadata"].as_object_mut().unwrap().remove("labels").unwrap();
        }
        assert_eq!(answer, fixture(name), "{path}");
    }
}

/// What `kubectl` prints: words of each line.
fn kubectl(cluster: &Cluster, args: &[&str]) -> Vec<Vec<String>> {
    let output = Command::new("kubectl")
        .arg(format!("--kubeconfig={}", cluster.kubeconfig.display()))
        .arg(format!("--cache-dir={}", cluster.dir.path().join("cache").display()))
        .args(args)
        .output()
        .expect("kubectl");
    let text = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {text}{errors}");
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect();
    text.lines().map(words).collect()
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
    assert_eq!(kubectl(&cluster, &["top", "nodes", "--no-headers"]), expected);
    assert_eq!(
        kubectl(&cluster, &["top", "node", "digital-ocean-pool-bdyl", "--no-headers"]),
        expected[1..2]
    );

    let front_end = [
        "sock-shop front-end-6f9db4fd44-6mcw7 30m 74Mi",
        "sock-shop front-end-6f9db4fd44-7n228 20m 68Mi",
        "sock-shop front-end-6f9db4fd44-bn6t6 28m 66Mi",
        "sock-shop front-end-6f9db4fd44-lsm6z 25m 79Mi",
    ];
    let all = [&front_end[..], &["sock-shop orders-db-5cfc68c4cf-pf7sq 6m 68Mi"]].concat();
    let top = |args: &[&str]| kubectl(&cluster, &[&["top", "pods", "--no-headers"], args].concat());
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
            &cluster,
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
        kubectl(&cluster, &["get", "nodes.metrics.k8s.io", "--no-headers"])[1],
        words(&["digital-ocean-pool-bdyl 164m 1296Mi 15.064s"])[0]
    );
    let raw = [
        "get",
        "--raw",
        "/apis/metrics.k8s.io/v1beta1/namespaces/sock-shop/pods?labelSelector=name%3Dorders-db",
    ];
    let raw: Value = serde_json::from_str(&kubectl(&cluster, &raw).concat().concat()).unwrap();
    assert_eq!(raw["items"][0]["containers"], fixture("podmetrics.get")["containers"]);
}
