//! What others than discovery see of an API server.

use super::super::Kind;
use super::super::Pod;
use super::super::cluster::{Call, Cluster, ClusterAt, Watching};
use super::api::list;
use super::finder::{PATIENCE, Shared};
use super::replay::{line, pod};
use super::{Api, Finder, Reply, options};
use serde_json::{Value, json};
use std::path::PathBuf;
use tempfile::TempDir;
use tidegauge_model::Timestamp;

const PODS: &str = "/api/v1/pods";

/// A kubeconfig that leads to a server.
fn kubeconfig(api: &Api) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config");
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "clusters": [{"name": "k", "cluster": {"server": api.url}}],
        "users": [{"name": "u", "user": {"token": "secret"}}],
    });
    std::fs::write(&path, config.to_string()).unwrap();
    (dir, path)
}

fn cluster(shared: &Shared, api: &Api) -> (TempDir, Cluster) {
    let (dir, path) = kubeconfig(api);
    (dir, Cluster::new(shared.hub(), ClusterAt::Kubeconfig(path)).unwrap())
}

async fn until<T>(watching: &Watching<T>, done: impl Fn(&Watching<T>) -> bool) {
    let wait = async {
        while !done(watching) {
            watching.changed().await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap();
}

#[tokio::test]
async fn a_pod_is_seen_as_an_autoscaler_looks_at_it_and_followed() {
    let api = Api::start().await;
    let at = |text: &str| Timestamp::from_millis(text.parse::<jiff::Timestamp>().unwrap().as_millisecond());
    let web = json!({
        "metadata": {"name": "web-1", "namespace": "shop", "labels": {"app": "web"}, "deletionTimestamp": null},
        "spec": {
            "resources": {"requests": {"cpu": "1"}},
            "initContainers": [{"name": "proxy", "restartPolicy": "Always"}, {"name": "once"}],
            "containers": [{"name": "web", "resources": {"requests": {"cpu": "250m", "memory": "64Mi"}}}],
        },
        "status": {"phase": "Running", "startTime": "2026-03-02T08:00:00Z", "conditions": [
            {"type": "Ready", "status": "True", "lastTransitionTime": "2026-03-02T08:00:07Z"}]},
    });
    api.set_list(PODS, list("10", &[web.to_string()]));
    let shared = Shared::new(options());
    let (_dir, cluster) = cluster(&shared, &api);
    let pods = cluster.pods(None);
    until(&pods, Watching::is_complete).await;
    assert_eq!(pods.problem(), None);
    let seen = pods.look("shop", "web-1", |pod| {
        assert_eq!((pod.phase(), pod.meta().labels().get("app")), ("Running", Some("web")));
        assert_eq!(pod.started(), Some(at("2026-03-02T08:00:00Z")));
        assert_eq!(pod.ready(), Some(("true", at("2026-03-02T08:00:07Z"))));
        assert_eq!((pod.is_deleting(), pod.requests().get("cpu")), (false, Some("1")));
        let containers = pod.containers().iter();
        let containers = containers.map(|c| {
            (
                c.name().to_owned(),
                c.is_init(),
                c.is_sidecar(),
                c.requests().get("cpu").map(str::to_owned),
            )
        });
        containers.collect::<Vec<_>>()
    });
    let expected = [
        ("web", false, false, Some("250m")),
        ("proxy", true, true, None),
        ("once", true, false, None),
    ];
    let expected = expected.map(|(name, init, sidecar, cpu)| (name.to_owned(), init, sidecar, cpu.map(str::to_owned)));
    assert_eq!(seen.unwrap(), expected);

    let mut leaving = web.clone();
    leaving["metadata"]["deletionTimestamp"] = "2026-03-02T09:00:00Z".into();
    api.write(PODS, line("MODIFIED", &leaving.to_string())).await;
    until(&pods, |pods| pods.look("shop", "web-1", Pod::is_deleting) == Some(true)).await;
    api.write(PODS, line("DELETED", &leaving.to_string())).await;
    until(&pods, |pods| {
        let mut count = 0;
        pods.each(|_| count += 1);
        count == 0
    })
    .await;
}

#[tokio::test]
async fn documents_are_their_json_and_refusals_say_which_right_is_missing() {
    let api = Api::start().await;
    let path = "/api/v1/namespaces/kube-system/configmaps";
    let map = json!({"metadata": {"name": "trust", "namespace": "kube-system", "resourceVersion": "7",
        "managedFields": [{"manager": "x"}]}, "data": {"ca": "text"}});
    api.set_list(path, list("10", &[map.to_string()]));
    let shared = Shared::new(options());
    let (_dir, cluster) = cluster(&shared, &api);
    let maps = cluster.config_map("kube-system", "trust");
    until(&maps, Watching::is_complete).await;
    let json = maps.look("kube-system", "trust", |map| map.json().to_owned()).unwrap();
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        json,
        json!({"metadata": {"name": "trust", "namespace": "kube-system"}, "data": {"ca": "text"}})
    );
    assert!(
        api.requests()
            .iter()
            .any(|r| r.starts_with(path) && r.contains("fieldSelector=metadata.name%3Dtrust"))
    );

    for _ in 0..3 {
        api.then(
            "/apis/autoscaling/v2/horizontalpodautoscalers",
            Reply::status(403, "Forbidden"),
        );
    }
    let autoscalers = cluster.autoscalers();
    until(&autoscalers, |a| a.problem().is_some()).await;
    let problem = autoscalers.problem().unwrap();
    assert!(
        problem.contains("on the resource \"horizontalpodautoscalers\" of the API group \"autoscaling\""),
        "{problem}"
    );
}

#[tokio::test]
async fn a_call_gives_the_answer_whatever_its_status() {
    let api = Api::start().await;
    let shared = Shared::new(options());
    let (_dir, cluster) = cluster(&shared, &api);
    api.then("/apis/x", Reply::Answer(201, &[], "made".to_owned()));
    let reply = cluster.call(Call::post("/apis/x?dryRun=All", "{}")).await.unwrap();
    assert_eq!((reply.status, &*reply.body), (201, &b"made"[..]));
    api.then("/apis/x", Reply::status(404, "NotFound"));
    assert_eq!(cluster.call(Call::get("/apis/x")).await.unwrap().status, 404);
    assert_eq!(api.authorizations()[0], "Bearer secret");
}

#[tokio::test]
async fn a_watch_is_shared_with_discovery() {
    let api = Api::start().await;
    api.set_list(PODS, list("10", &[pod("a", 5, "10.0.0.1")]));
    let shared = Shared::new(options());
    let (_dir, path) = kubeconfig(&api);
    let section = format!("{{role: pod, kubeconfig_file: {}}}", path.display());
    let mut finder = Finder::start(&shared, &api.url, &section);
    finder.until_addresses(&["10.0.0.1:80"]).await;
    let cluster = Cluster::new(shared.hub(), ClusterAt::Kubeconfig(path)).unwrap();
    let pods = cluster.pods(None);
    assert!(pods.is_complete() && pods.look("shop", "a", |_| ()).is_some());
    assert_eq!(shared.metrics.kubernetes.watches.get(Kind::Pod), 1);
}
