//! Answers held to recorded ones, which lie in the shared folder.

use super::NOW;
use super::cluster::{Cluster, Objects, Used, pod};
use crate::hpa::shared;
use serde_json::{Value, json};
use tidegauge_server::hpa::quantity::Quantity;

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

pub(super) fn fixture(name: &str) -> Value {
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
pub(super) async fn as_recorded() -> Cluster {
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
