//! The cluster's autoscalers, watched at an API server on loopback: what is told of them, and of what is in the way.

use crate::apiserver::{Answer, ApiServer, Asked};
use crate::certificate::Certificate;
use crate::program::{Program, texts};
use crate::sources::sources;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tidegauge_model::testing::HandClock;
use tidegauge_model::{Appendable, Labels, OnReject, Timestamp};
use tidegauge_query::{Engine, EngineOptions};
use tidegauge_scraper::{ClusterAt, Manager, ScrapeOptions};
use tidegauge_server::hpa::live::scale::TargetScale;
use tidegauge_server::hpa::live::{Autoscalers, Id, Options, Shown, Watcher};
use tidegauge_server::hpa::{Settings, manifest};
use tidegauge_tsdb::{Db, Options as StoreOptions};
use tokio_util::sync::CancellationToken;

const HPAS: &str = "/apis/autoscaling/v2/horizontalpodautoscalers";
const PODS: &str = "/api/v1/pods";
const PATIENCE: Duration = Duration::from_secs(20);
const NOW: Timestamp = Timestamp::from_millis(1_760_000_000_000);

/// The scale of a workload: replicas, selector; or the status that asking for it gets.
type Scales = Arc<Mutex<BTreeMap<String, Result<(i32, &'static str), u16>>>>;

/// A cluster that is watched.
struct Watched {
    api: ApiServer,
    scales: Scales,
    told: Autoscalers,
    db: Arc<Db>,
    scraper: Manager,
    stop: CancellationToken,
    _dir: TempDir,
}

fn status(code: u16, message: &str) -> Answer {
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": code});
    (code, status.to_string())
}

/// Scales of workloads, and what a group of another's has.
fn answer(scales: &Scales, asked: &Asked) -> Option<Answer> {
    if asked.path == "/apis/argoproj.io/v1alpha1" {
        let list = json!({"kind": "APIResourceList", "resources": [
            {"name": "rollouts", "kind": "Rollout"}, {"name": "rollouts/scale", "kind": "Scale"}]});
        return Some((200, list.to_string()));
    }
    let rest = asked.path.strip_suffix("/scale")?;
    let (_, name) = rest.rsplit_once("/namespaces/")?;
    Some(match scales.lock().expect("a lock").get(name) {
        Some(Ok((replicas, selector))) => {
            let scale = json!({"kind": "Scale", "apiVersion": "autoscaling/v1", "spec": {"replicas": replicas},
                "status": {"replicas": replicas, "selector": selector}});
            (200, scale.to_string())
        }
        Some(Err(code)) => status(*code, "it is not for you"),
        None => status(404, "not found"),
    })
}

impl Watched {
    fn start(collections: &[&str]) -> Self {
        drop(rustls::crypto::ring::default_provider().install_default());
        let (dir, api, scales) = (
            tempfile::tempdir().expect("a folder"),
            ApiServer::plain(),
            Scales::default(),
        );
        for collection in collections {
            api.open(collection);
        }
        api.open("/api/v1/nodes");
        let own = Arc::clone(&scales);
        api.others(move |asked| answer(&own, asked));
        let clock = Arc::new(HandClock::at(NOW));
        let options = StoreOptions {
            maintenance: None,
            ..StoreOptions::default()
        };
        let db = Db::open(&dir.path().join("data"), options, clock.clone()).expect("a store");
        let engine = Arc::new(Engine::new(EngineOptions::default()));
        let scraper = Manager::new(db.clone(), clock.clone(), ScrapeOptions::default());
        let at = ClusterAt::Kubeconfig(api.kubeconfig(dir.path(), "t"));
        let cluster = scraper.cluster(at).expect("a cluster");
        let options = Options {
            max_autoscalers: 3,
            settings: Settings {
                sync_ms: 50,
                ..Settings::default()
            },
        };
        let watcher = Watcher::new(Arc::new(sources(db.clone(), engine, clock, cluster)), options);
        let (told, stop) = (watcher.autoscalers(), CancellationToken::new());
        tokio::spawn(watcher.run(stop.clone()));
        Self {
            api,
            scales,
            told,
            db,
            scraper,
            stop,
            _dir: dir,
        }
    }

    fn scale(&self, name: &str, to: Result<(i32, &'static str), u16>) {
        self.scales.lock().expect("a lock").insert(name.to_owned(), to);
    }

    /// Stores samples of one series, so many milliseconds before now each.
    fn store(&self, labels: &[(&str, &str)], samples: &[(i64, f64)]) {
        let mut appender = self.db.appender();
        let labels = Labels::from_pairs(labels.iter().copied()).expect("labels");
        let series = appender.resolve(None, &labels).expect("a series");
        for (ago, value) in samples {
            appender
                .append_at(series, NOW.saturating_sub(*ago), *value)
                .expect("it is taken");
        }
        appender.commit(OnReject::Fail).expect("it is written");
    }

    /// The answer in words once it has all of these.
    async fn told(&self, name: &str, lines: &[&str]) -> String {
        let id = Id::new("shop", name);
        self.until(lines, || self.told.board.explain(&id).map(|told| told.text))
            .await
    }

    async fn until(&self, lines: &[&str], tell: impl Fn() -> Option<String>) -> String {
        let begun = Instant::now();
        loop {
            let text = tell().unwrap_or_default();
            if !text.is_empty() && lines.iter().all(|line| text.contains(line)) {
                return text;
            }
            assert!(begun.elapsed() < PATIENCE, "{lines:?} are not all in\n{text}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn end(self) {
        self.stop.cancel();
        self.scraper.stop().await;
    }
}

/// An autoscaler by cpu utilization of 50 %.
fn hpa(name: &str, api_version: &str, kind: &str, target: &str) -> Value {
    json!({
        "kind": "HorizontalPodAutoscaler", "apiVersion": "autoscaling/v2",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {
            "scaleTargetRef": {"apiVersion": api_version, "kind": kind, "name": target}, "minReplicas": 1, "maxReplicas": 10,
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}}],
        },
        "status": {"currentReplicas": 2, "desiredReplicas": 2, "conditions": []},
    })
}

/// A pod that is ready.
fn pod(name: &str, app: &str, request: &Value) -> Value {
    json!({
        "kind": "Pod", "apiVersion": "v1",
        "metadata": {"name": name, "namespace": "shop", "labels": {"app": app}},
        "spec": {"nodeName": "n1", "containers": [{"name": "app", "resources": {"requests": request}}]},
        "status": {"phase": "Running", "startTime": "2025-10-09T07:00:00Z", "podIP": "10.0.0.1",
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2025-10-09T07:00:20Z"}]},
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn autoscalers_are_looked_at_and_what_is_in_the_way_is_told() {
    let cluster = Watched::start(&[HPAS]);
    cluster.scale("shop/deployments/web", Ok((2, "app=web")));
    cluster.scale("shop/rollouts/canary", Ok((1, "app=canary")));
    cluster.scale("shop/deployments/db", Err(403));
    let cpu = json!({"cpu": "200m"});
    for no in 0..2 {
        cluster.api.put_object(PODS, pod(&format!("web-{no}"), "web", &cpu));
    }
    cluster
        .api
        .put_object(PODS, pod("canary-0", "canary", &json!({"memory": "1Gi"})));
    cluster.api.put_object(HPAS, hpa("web", "apps/v1", "Deployment", "web"));
    cluster
        .api
        .put_object(HPAS, hpa("canary", "argoproj.io/v1alpha1", "Rollout", "canary"));
    cluster.api.put_object(HPAS, hpa("db", "apps/v1", "Deployment", "db"));
    // Nothing is measured here.
    let text = cluster
        .told(
            "web",
            &[
                "Deployment web, 2 -> 2 replicas",
                "no change: invalid metrics (1 invalid out of 1)",
            ],
        )
        .await;
    assert!(text.contains("controller 2 -> 2 replicas, by its status"), "{text}");
    cluster.told("canary", &["Rollout canary, 1 -> 1 replicas"]).await;
    let denied = "cannot get deployments/scale.apps shop/db: it is not for you (the service account needs the verb get on \
        deployments/scale.apps)";
    cluster.told("db", &["blocked", denied]).await;
    cluster.scale("shop/deployments/db", Err(404));
    cluster
        .told("db", &["cannot get deployments/scale.apps shop/db: it is not for you"])
        .await;
    // Another one that controls the same pods keeps both from it.
    cluster.scale("shop/deployments/db", Ok((2, "app in (web,api)")));
    let both = "are controlled by multiple HPAs: [shop/db shop/web]";
    cluster
        .told("web", &[&format!("no change: pods by selector app=web {both}")])
        .await;
    cluster.told("db", &[both]).await;
    cluster.scale("shop/deployments/db", Ok((2, "")));
    cluster
        .told("db", &["no change: the HPA target's scale is missing a selector"])
        .await;
    // It still controls what it controlled, until it is gone.
    cluster
        .api
        .put_object(HPAS, hpa("more", "apps/v1", "Deployment", "web"));
    cluster
        .until(&["\"refused\":1"], || Some(cluster.told.board.json().to_string()))
        .await;
    assert!(cluster.told.board.explain(&Id::new("shop", "more")).is_none());
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_are_those_that_the_apis_answer_with() {
    let cluster = Watched::start(&[HPAS]);
    cluster.scale("shop/deployments/web", Ok((2, "app=web")));
    for no in 0..3 {
        let (name, cpu) = (format!("web-{no}"), json!({"cpu": "200m"}));
        let app = if no < 2 { "web" } else { "other" };
        cluster.api.put_object(PODS, pod(&name, app, &cpu));
        let of = [("namespace", "shop"), ("pod", name.as_str()), ("container", "app")];
        let named = |metric| [&[("__name__", metric)], &of[..]].concat();
        // 120 and 180 thousandths of a core.
        let used = 0.12 + 0.06 * f64::from(no);
        cluster.store(
            &named("container_cpu_usage_seconds_total"),
            &[(20_000, 5.0), (5000, 5.0 + used * 15.0)],
        );
        cluster.store(
            &named("container_memory_working_set_bytes"),
            &[(20_000, 1e7), (5000, 16.0 * 1024.0 * 1024.0)],
        );
        cluster.store(
            &named("container_start_time_seconds"),
            &[(20_000, 1.75e9), (5000, 1.75e9)],
        );
        cluster.store(&named("orders_waiting"), &[(5000, 10.0 * f64::from(no + 1))]);
    }
    let mut web = hpa("web", "apps/v1", "Deployment", "web");
    web["spec"]["metrics"] = json!([
        {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}},
        {"type": "ContainerResource", "containerResource": {"name": "cpu", "container": "app",
            "target": {"type": "AverageValue", "averageValue": "100m"}}},
        {"type": "Resource", "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": "16Mi"}}},
        {"type": "Pods", "pods": {"metric": {"name": "orders_waiting"}, "target": {"type": "AverageValue", "averageValue": "10"}}},
        {"type": "Object", "object": {"metric": {"name": "hits"}, "describedObject": {"kind": "Service", "name": "web", "apiVersion": "v1"},
            "target": {"type": "Value", "value": "10"}}},
        {"type": "External", "external": {"metric": {"name": "queue"}, "target": {"type": "AverageValue", "averageValue": "30"}}},
    ]);
    cluster.api.put_object(HPAS, web);
    let text = cluster
        .told(
            "web",
            &[
                "2 -> 3 replicas",
                "value    300m of 400m requested = 75%, should be 50%",
                "cpu resource, container app",
                "value    300m / 2 = 150m, should be 100m",
                "value    32Mi / 2 = 16Mi, should be 16Mi",
                "value    30 / 2 = 15, should be 10",
                "query    none; /api/v1/hpa/metrics tells",
                "the server could not find the metric hits for service",
                "the server could not find the metric queue for",
                "failed     invalid metrics (2 invalid out of 6)",
            ],
        )
        .await;
    assert!(text.contains("orders_waiting{"), "the query: {text}");
    // What is not measured is said, pod by pod.
    cluster.scale("shop/deployments/api", Ok((2, "app=api")));
    for no in 0..2 {
        let name = format!("api-{no}");
        cluster.api.put_object(PODS, pod(&name, "api", &json!({"cpu": "200m"})));
    }
    let once = [
        ("__name__", "container_cpu_usage_seconds_total"),
        ("namespace", "shop"),
        ("pod", "api-1"),
        ("container", "app"),
    ];
    cluster.store(&once, &[(5000, 7.0)]);
    cluster.api.put_object(HPAS, hpa("api", "apps/v1", "Deployment", "api"));
    cluster
        .told(
            "api",
            &[
                "api-0: no value: nothing is stored of its containers: is its node's kubelet scraped?",
                "api-1: no value: its container app was measured once, 5s ago, and use is told by two",
            ],
        )
        .await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_replicas_and_of_the_spec_is_seen() {
    let cluster = Watched::start(&[HPAS]);
    cluster.scale("shop/deployments/web", Ok((2, "app=web")));
    cluster.api.put_object(HPAS, hpa("web", "apps/v1", "Deployment", "web"));
    cluster
        .told("web", &["2 -> 2 replicas", "no change: invalid metrics"])
        .await;
    cluster.scale("shop/deployments/web", Ok((40, "app=web")));
    cluster
        .told(
            "web",
            &["40 -> 10 replicas", "above maxReplicas, 10: metrics are not looked at"],
        )
        .await;
    cluster.scale("shop/deployments/web", Ok((0, "app=web")));
    cluster.told("web", &["switched off"]).await;
    let mut other = hpa("web", "apps/v1", "Deployment", "web");
    other["spec"]["minReplicas"] = 3.into();
    other["status"]["desiredReplicas"] = 7.into();
    cluster.api.put_object(HPAS, other.clone());
    cluster.scale("shop/deployments/web", Ok((1, "app=web")));
    cluster
        .told("web", &["1 -> 3 replicas", "the controller wants 7, here it is 3"])
        .await;
    other["spec"]["metrics"] = json!([{"type": "Weather"}]);
    cluster.api.put_object(HPAS, other);
    cluster
        .told(
            "web",
            &["it cannot be read: web: unknown metric source type \"Weather\""],
        )
        .await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_only_written_down_is_looked_at_once() {
    let cluster = Watched::start(&[HPAS]);
    cluster.scale("shop/deployments/web", Ok((2, "app=web")));
    cluster.api.put_object(PODS, pod("web-0", "web", &json!({})));
    let once = cluster.told.once.clone().expect("a cluster");
    let read = |text: &str| manifest::read(text).expect("a manifest").remove(0);
    let web = hpa("web", "apps/v1", "Deployment", "web").to_string();
    cluster
        .until(&["web"], || {
            let known = cluster.api.statuses(PODS).len() > 1;
            known.then(|| "web".to_owned())
        })
        .await;
    let look = once.look_once(read(&web)).await;
    assert!(
        look.text().contains("Deployment web, 2 -> 2 replicas"),
        "{}",
        look.text()
    );
    let look = once.look_once(read(&web.replace("\"apps/v1\"", "\"v1\""))).await;
    assert_eq!(look.error(), Some("cannot get /api/v1: the API server answers 403"));
    let look = once
        .look_once(read(&web.replace("\"apps/v1\"", "\"argoproj.io/v1alpha1\"")))
        .await;
    assert_eq!(
        look.error(),
        Some("no matches for kind \"Deployment\" in group \"argoproj.io\"")
    );
    assert!(cluster.told.board.is_empty());
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_permission_that_is_missing_is_named() {
    // The collection is not open: the API server refuses it.
    let cluster = Watched::start(&[]);
    let problem = "autoscalers are not seen";
    let text = cluster
        .until(&[problem], || Some(cluster.told.board.problems().join("\n")))
        .await;
    assert!(
        text.contains("must allow the verbs \"get\", \"list\" and \"watch\"")
            && text.contains("\"horizontalpodautoscalers\" of the API group \"autoscaling\""),
        "{text}"
    );
    cluster.end().await;
}

/// The program in a pod, with `--kubernetes`.
fn in_a_pod(dir: &Path, api: &ApiServer, own: &Certificate, token: &str) -> Program {
    let account = dir.join("account");
    std::fs::create_dir_all(&account).expect("a folder");
    for (file, text) in [
        ("namespace", "monitoring"),
        ("ca.crt", own.pem.as_str()),
        ("token", token),
    ] {
        std::fs::write(account.join(file), text).expect("written");
    }
    let account = format!("--discovery.kubernetes-service-account={}", account.display());
    let environment = [
        ("KUBERNETES_SERVICE_HOST", api.address.ip().to_string()),
        ("KUBERNETES_SERVICE_PORT", api.address.port().to_string()),
    ];
    let args = ["--kubernetes", "--kubernetes.hpa-sync-period=100ms", account.as_str()];
    Program::serve_with(&dir.join("data"), &args, &environment)
}

#[test]
fn the_program_tells_of_the_cluster_it_is_in() {
    let dir = tempfile::tempdir().expect("a folder");
    let (own, scales) = (Certificate::new("127.0.0.1"), Scales::default());
    let api = ApiServer::tls(&own, "token");
    scales
        .lock()
        .expect("a lock")
        .insert("shop/deployments/web".to_owned(), Ok((2, "app=web")));
    let of = Arc::clone(&scales);
    api.others(move |asked| answer(&of, asked));
    api.put_object(PODS, pod("web-0", "web", &json!({})));
    let web = hpa("web", "apps/v1", "Deployment", "web");
    api.put_object(HPAS, web.clone());
    let program = in_a_pod(dir.path(), &api, &own, "token");
    program.ask_until(
        "/api/v1/hpa/shop/web/explain?format=text",
        "Deployment web, 2 -> 2 replicas",
    );
    let url = format!("http://{}", program.address);
    let run = |args: &[&str]| {
        let args = [&["hpa"], args, &["--url", &url]].concat();
        let (code, out, err) = texts(&args);
        (code, out + &err)
    };
    let (code, list) = run(&["list"]);
    let line = list.lines().find(|line| line.starts_with("shop")).unwrap_or_default();
    let cells: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(
        (code, &cells[..8]),
        (
            Some(0),
            &["shop", "web", "Deployment/web", "1", "10", "2", "2", "2"][..]
        ),
        "{list}"
    );
    let (code, text) = run(&["explain", "shop/web"]);
    assert!(code == Some(0) && text.contains("controller 2 -> 2 replicas"), "{text}");
    let (code, text) = run(&["explain", "shop/web", "--format=json"]);
    let json: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(
        (code, &json["decision"]["currentReplicas"]),
        (Some(0), &2.into()),
        "{text}"
    );
    let file = dir.path().join("other.json");
    let mut other = web;
    other["metadata"]["name"] = "other".into();
    std::fs::write(&file, other.to_string()).expect("written");
    let file = file.display().to_string();
    let (code, text) = run(&["explain", "-f", &file]);
    assert!(
        code == Some(0) && text.contains("shop/other at ") && text.contains("2 -> 2 replicas"),
        "{text}"
    );
    for (args, why) in [
        (
            vec!["explain", "shop/nobody"],
            "there is no HorizontalPodAutoscaler shop/nobody here",
        ),
        (vec!["explain", "web"], "\"web\" is not NAMESPACE/NAME"),
        (
            vec!["explain", "-f", &file, "--time", "1760000000"],
            "nothing recorded of",
        ),
    ] {
        let (code, text) = run(&args);
        assert!(code == Some(1) && text.contains(why), "{args:?}: {text}");
    }
    program.ask_until(
        "/metrics",
        "\ntidegauge_hpa_desired_replicas{namespace=\"shop\",name=\"web\"} 2\n",
    );
    program.signal("TERM");
    assert_eq!(program.wait().0, Some(0));
}

#[test]
#[ignore = "needs objects of a real cluster in the folder that TIDEGAUGE_SHARED names"]
fn recorded_autoscalers_and_scales_are_read_as_they_were() {
    let folder = std::env::var("TIDEGAUGE_SHARED").expect("TIDEGAUGE_SHARED names the folder of shared data");
    let read = |file: &str| {
        let path = Path::new(&folder).join("k8s-fixtures/recorded").join(file);
        std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    };
    let list: Value = serde_json::from_str(&read("horizontalpodautoscalers.list.json")).expect("JSON");
    let items = list["items"].as_array().expect("a list");
    for item in items {
        let shown = Shown::read(&item.to_string());
        let hpa = shown.hpa.expect("it can be read");
        let (told, status) = (shown.controller, &item["status"]);
        let number = |key: &str| status[key].as_i64().and_then(|n| i32::try_from(n).ok());
        assert_eq!(
            (told.current, told.desired),
            (number("currentReplicas"), number("desiredReplicas"))
        );
        assert_eq!(told.metrics.len(), hpa.metrics.len(), "{item}");
        assert!(
            told.metrics.iter().all(Option::is_some) && told.scaled_at.is_some(),
            "{item}"
        );
        assert_eq!(
            told.conditions.len(),
            status["conditions"].as_array().expect("conditions").len()
        );
        let conditions = told.conditions.iter();
        assert!(
            conditions
                .clone()
                .all(|one| !one.reason.is_empty() && !one.last_transition_time.is_empty())
        );
        assert!(told.trouble().is_none(), "{item}");
    }
    assert_eq!(items.len(), 3);
    let scale = TargetScale::read(read("deployment-scale.json").as_bytes()).expect("a scale");
    assert_eq!((scale.replicas.spec, scale.selector.as_str()), (6, "app=scrypt-server"));
}
