//! `metrics.k8s.io` by its answers: JSON as documented, and what the real `kubectl` makes of it.

mod cluster;
mod kubectl;
mod measure;
mod recorded;
mod scraped;

use cluster::{Cluster, Objects, Used, node, pod};
use serde_json::{Value, json};
use std::sync::Arc;
use tidegauge_model::testing::HandClock;
use tidegauge_model::{Appendable, Labels, OnReject, Timestamp};
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
