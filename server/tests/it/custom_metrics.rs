//! Custom and external metrics as the API server's aggregation layer asks for them, over a store on disk and an API server
//! on loopback.

use crate::aggregator::Aggregator;
use crate::apiserver::ApiServer;
use crate::process::request;
use crate::program::{Program, texts};
use axum::body::{Body, to_bytes};
use axum::http::Request;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tidegauge_model::testing::HandClock;
use tidegauge_model::{Appendable as _, Clock, OnReject, Timestamp};
use tidegauge_query::parser::{ParseOptions, parse_metric};
use tidegauge_query::{Engine, EngineOptions};
use tidegauge_scraper::{ClusterAt, Manager, ScrapeOptions};
use tidegauge_server::config::HpaMetrics;
use tidegauge_server::kubeapi::{Adapter, Sources, custom, external};
use tidegauge_tsdb::{Db, Options};
use tower::ServiceExt as _;

/// 2026-03-02T08:00:41.5Z
const NOW_MS: i64 = 1_772_438_441_500;
const V1: &str = "/apis/custom.metrics.k8s.io/v1beta1";
const V2: &str = "/apis/custom.metrics.k8s.io/v1beta2";
const EXTERNAL: &str = "/apis/external.metrics.k8s.io/v1beta1";

/// Rules for what a shop has.
const RULES: &str = r#"
rules:
- seriesQuery: http_requests_total{namespace!=""}
  resources: {overrides: {namespace: {resource: namespace}, pod: {resource: pod}, service: {resource: service}}}
  name: {matches: "^(.*)_total$", as: "${1}_per_second"}
  metricsQuery: sum(rate(<<.Series>>{<<.LabelMatchers>>}[2m])) by (<<.GroupBy>>)
- seriesQuery: traefik_requests_total{ingress!=""}
  resources: {overrides: {namespace: {resource: namespace}, ingress: {group: networking.k8s.io, resource: ingress}}}
  name: {matches: "^(.*)_total$", as: "${1}_per_second"}
  metricsQuery: sum(rate(<<.Series>>{<<.LabelMatchers>>}[2m])) by (<<.GroupBy>>)
- seriesQuery: queue_depth{deployment!=""}
  resources: {overrides: {namespace: {resource: namespace}, deployment: {group: apps, resource: deployment}}}
  metricsQuery: max(<<.Series>>{<<.LabelMatchers>>}) by (<<.GroupBy>>)
- seriesQuery: disk_used_bytes{node!=""}
  resources: {overrides: {node: {resource: node}}}
  metricsQuery: max(<<.Series>>{<<.LabelMatchers>>}) by (<<.GroupBy>>)
- seriesQuery: cheddar{brand!=""}
  resources: {overrides: {namespace: {resource: namespace}, brand: {group: cheese.io, resource: brand}}}
  metricsQuery: max(<<.Series>>{<<.LabelMatchers>>}) by (<<.GroupBy>>)
- seriesQuery: doubled{pod!=""}
  resources: {overrides: {namespace: {resource: namespace}, pod: {resource: pod}}}
  metricsQuery: <<.Series>>{<<.LabelMatchers>>}
externalRules:
- seriesQuery: rabbitmq_queue_messages{queue!=""}
  resources: {overrides: {namespace: {resource: namespace}}}
  metricsQuery: sum(<<.Series>>{<<.LabelMatchers>>}) by (queue)
"#;

/// Everything that answers.
struct Cluster {
    api: ApiServer,
    /// Queries of lists that are no watches.
    listed: Arc<Mutex<Vec<String>>>,
    sources: Arc<Sources>,
    adapter: Arc<Adapter>,
    app: axum::Router,
    _dir: TempDir,
}

impl Cluster {
    async fn start(rules: &str) -> Self {
        Self::with(rules, |_| {}).await
    }

    /// With series that are there from the start.
    async fn with(rules: &str, store: impl FnOnce(&Db)) -> Self {
        Self::beside(ApiServer::plain(), rules, store).await
    }

    /// With the rules that come with the program.
    async fn automatic(store: impl FnOnce(&Db)) -> Self {
        Self::of(ApiServer::plain(), None, store).await
    }

    async fn beside(api: ApiServer, rules: &str, store: impl FnOnce(&Db)) -> Self {
        Self::of(api, Some(rules), store).await
    }

    async fn of(api: ApiServer, rules: Option<&str>, store: impl FnOnce(&Db)) -> Self {
        drop(rustls::crypto::ring::default_provider().install_default());
        let dir = tempfile::tempdir().unwrap();
        api.open("/api/v1/nodes");
        let listed = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&listed);
        api.others(move |asked| {
            seen.lock().unwrap().push(format!("{}?{}", asked.path, asked.query));
            others(&asked.path)
        });
        let clock: Arc<dyn Clock> = Arc::new(HandClock::at(Timestamp::from_millis(NOW_MS)));
        let options = Options {
            maintenance: None,
            ..Options::default()
        };
        let db = Db::open(&dir.path().join("data"), options, clock.clone()).unwrap();
        store(&db);
        let engine = Arc::new(Engine::new(EngineOptions::default()));
        let scraper = Manager::new(db.clone(), clock.clone(), ScrapeOptions::default());
        let cluster = scraper
            .cluster(ClusterAt::Kubeconfig(api.kubeconfig(dir.path(), "t")))
            .unwrap();
        let file = rules.map(|rules| {
            let file = dir.path().join("rules.yaml");
            fs::write(&file, rules).unwrap();
            file
        });
        let own = HpaMetrics::default();
        let adapter = Adapter::open(db.clone(), engine.clone(), clock.clone(), file, own).unwrap();
        let sources = Sources::new(db.clone(), engine, clock, cluster, adapter.clone());
        let sources = Arc::new(sources);
        Self {
            app: custom::routes(sources.clone()).merge(external::routes(sources.clone())),
            api,
            listed,
            sources,
            adapter,
            _dir: dir,
        }
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = self.app.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        assert_eq!(response.headers()["content-type"], "application/json", "{path}");
        let body = to_bytes(response.into_body(), 16 << 20).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap())
    }

    async fn ok(&self, path: &str) -> Value {
        let (status, body) = self.get(path).await;
        assert_eq!(status, 200, "{path}: {body:#}");
        body
    }

    /// Waits for the watches to know so many pods.
    async fn until_pods(&self, count: usize) {
        let wait = async {
            loop {
                let mut seen = 0;
                self.sources.pods.each(|_| seen += 1);
                if seen == count && self.sources.pods.is_complete() && self.sources.nodes.is_complete() {
                    return;
                }
                tokio::select! {
                    () = self.sources.pods.changed() => {}
                    () = self.sources.nodes.changed() => {}
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(30), wait).await.unwrap();
    }

    fn pod(&self, namespace: &str, name: &str, app: &str) {
        let meta = json!({"name": name, "namespace": namespace, "labels": {"name": app}});
        self.api
            .put_object("/api/v1/pods", json!({"metadata": meta, "spec": {}, "status": {}}));
    }
}

/// Lists of what is not watched, and which kinds there are.
fn others(path: &str) -> Option<(u16, String)> {
    let kinds = |kinds: &[(&str, &str)]| {
        let kinds = kinds.iter().map(|(name, kind)| {
            json!({"name": name, "singularName": "", "namespaced": true, "kind": kind, "verbs": ["get", "list"]})
        });
        json!({"kind": "APIResourceList", "resources": kinds.collect::<Vec<_>>()})
    };
    let group =
        |name: &str| json!({"name": name, "preferredVersion": {"groupVersion": format!("{name}/v1"), "version": "v1"}});
    let named = |name: &str| json!({"metadata": {"name": name}});
    let answer = match path {
        "/api/v1" => kinds(&[("pods", "Pod"), ("pods/status", "Pod")]),
        "/apis" => json!({"groups": [group("cheese.io"), group("down.io"), group("custom.metrics.k8s.io")]}),
        "/apis/cheese.io/v1" => kinds(&[("brands", "Brand")]),
        "/apis/apps/v1/namespaces/shop/deployments" => json!({"items": [named("worker"), named("idle")]}),
        "/apis/cheese.io/v1/namespaces/shop/brands" => json!({"items": [named("gouda")]}),
        "/api/v1/namespaces/shop/services" => {
            let message = "services is forbidden: User \"tidegauge\" cannot list resource \"services\"";
            return Some((403, json!({"kind": "Status", "message": message}).to_string()));
        }
        _ => return None,
    };
    Some((200, answer.to_string()))
}

/// Ten minutes of a series that grows by so much a second; one that stands at `level` where it does not grow. Its samples
/// are where a rate over two minutes is exact.
fn grows(db: &Db, series: &str, level: f64, per_second: f64) {
    let labels = parse_metric(series, &ParseOptions::default()).unwrap();
    let mut appender = db.appender();
    let series = appender.resolve(None, &labels).unwrap();
    for i in 0..=10 {
        let at = Timestamp::from_millis(NOW_MS - 30_000 - (10 - i) * 60_000);
        appender
            .append_at(series, at, level + per_second * 60.0 * i as f64)
            .unwrap();
    }
    appender.commit(OnReject::Fail).unwrap();
}

fn is(db: &Db, series: &str, value: f64) {
    grows(db, series, value, 0.0);
}

/// The front end of a shop, its ingress and its queues, in the numbers of the recorded answers.
fn shop(db: &Db) {
    for (pod, rate) in [("6mcw7", 12.5), ("7n228", 11.0), ("bn6t6", 13.75), ("lsm6z", 12.75)] {
        let pod = format!("front-end-6f9db4fd44-{pod}");
        let labels = format!(r#"namespace="sock-shop",pod="{pod}",service="front-end""#);
        grows(db, &format!("http_requests_total{{{labels}}}"), 0.0, rate);
    }
    let rest = r#"http_requests_total{namespace="sock-shop",pod="catalogue-1",service="catalogue"}"#;
    grows(db, rest, 0.0, 950.0);
    for (code, rate) in [("200", 48.3335), ("500", 1.0)] {
        let labels = format!(r#"namespace="sock-shop",ingress="front-end",code="{code}""#);
        grows(db, &format!("traefik_requests_total{{{labels}}}"), 0.0, rate);
    }
    is(
        db,
        r#"queue_depth{namespace="sock-shop",deployment="queue-master"}"#,
        4.0,
    );
    is(db, r#"disk_used_bytes{node="n1"}"#, 1e9);
    for (queue, value) in [("shipping-task", 120.0), ("shipping-retry", 30.5)] {
        let labels = format!(r#"namespace="sock-shop",queue="{queue}""#);
        is(db, &format!("rabbitmq_queue_messages{{{labels}}}"), value);
    }
}

fn numbers(list: &Value) -> Vec<(String, String)> {
    let items = list["items"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    items
        .map(|item| (text(&item["describedObject"]["name"]), text(&item["value"])))
        .collect()
}

fn told(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
}

#[tokio::test]
async fn objects_are_selected_by_their_labels() {
    let cluster = Cluster::with(RULES, |db| {
        for (namespace, pod, rate) in [
            ("shop", "web-1", 12.5),
            ("shop", "web-2", 1000.0),
            ("shop", "api-1", 3.0),
            ("other", "web-1", 9.0),
        ] {
            let labels = format!(r#"namespace="{namespace}",pod="{pod}",service="{}""#, &pod[..3]);
            grows(db, &format!("http_requests_total{{{labels}}}"), 0.0, rate);
        }
        is(db, r#"queue_depth{namespace="shop",deployment="worker"}"#, 4.0);
        is(db, r#"disk_used_bytes{node="n1"}"#, 1e9);
        is(db, r#"cheddar{namespace="shop",brand="gouda"}"#, 0.25);
    })
    .await;
    for (namespace, name, app) in [
        ("shop", "web-1", "web"),
        ("shop", "web-2", "web"),
        ("shop", "web-new", "web"),
        ("shop", "api-1", "api"),
        ("other", "web-1", "web"),
    ] {
        cluster.pod(namespace, name, app);
    }
    let node = json!({"metadata": {"name": "n1", "labels": {"zone": "a"}}, "status": {}});
    cluster.api.put_object("/api/v1/nodes", node);
    cluster.until_pods(5).await;

    let metric = "http_requests_per_second";
    // As the autoscaler asks.
    let web = cluster
        .ok(&format!(
            "{V2}/namespaces/shop/pods/%2A/{metric}?labelSelector=name%3Dweb"
        ))
        .await;
    assert_eq!(numbers(&web), told(&[("web-1", "12500m"), ("web-2", "1k")]));
    let expected = json!({
        "describedObject": {"kind": "Pod", "namespace": "shop", "name": "web-1", "apiVersion": "v1"},
        "metric": {"name": metric, "selector": null},
        "timestamp": "2026-03-02T08:00:41Z",
        "value": "12500m",
    });
    assert_eq!(web["items"][0], expected);
    for (path, expected) in [
        (
            format!("namespaces/shop/pods/*/{metric}"),
            told(&[("api-1", "3"), ("web-1", "12500m"), ("web-2", "1k")]),
        ),
        (
            format!("namespaces/shop/pods/web-1/{metric}"),
            told(&[("web-1", "12500m")]),
        ),
        (
            format!("namespaces/shop/services/web/{metric}"),
            told(&[("web", "1012500m")]),
        ),
        (
            format!("namespaces/shop/metrics/{metric}"),
            told(&[("shop", "1015500m")]),
        ),
        (format!("namespaces/shop/{metric}"), told(&[("shop", "1015500m")])),
        (
            "namespaces/shop/deployments.apps/*/queue_depth?labelSelector=tier+in+(a,b)".to_owned(),
            told(&[("worker", "4")]),
        ),
        (
            "namespaces/shop/deployments.apps/worker/queue_depth".to_owned(),
            told(&[("worker", "4")]),
        ),
        (
            "nodes/*/disk_used_bytes?labelSelector=zone=a".to_owned(),
            told(&[("n1", "1G")]),
        ),
        ("nodes/n1/disk_used_bytes".to_owned(), told(&[("n1", "1G")])),
        (
            "namespaces/shop/brands.cheese.io/*/cheddar".to_owned(),
            told(&[("gouda", "250m")]),
        ),
    ] {
        for version in [V1, V2] {
            let list = cluster.ok(&format!("{version}/{path}")).await;
            assert_eq!(numbers(&list), expected, "{version}/{path}");
        }
    }
    let listed = cluster.listed.lock().unwrap();
    let deployments: Vec<&String> = listed.iter().filter(|path| path.contains("deployments")).collect();
    // Asked once for both versions.
    assert_eq!(
        deployments,
        ["/apis/apps/v1/namespaces/shop/deployments?labelSelector=tier%20in%20%28a%2Cb%29&limit=500"]
    );
    assert!(
        !listed.iter().any(|path| path.contains("metrics.k8s.io/")),
        "{listed:?}"
    );
}

#[tokio::test]
async fn what_cannot_be_told_is_a_status_with_its_reason() {
    let cluster = Cluster::with(RULES, |db| {
        shop(db);
        for x in ["1", "2"] {
            is(db, &format!(r#"doubled{{namespace="sock-shop",pod="a",x="{x}"}}"#), 1.0);
        }
    })
    .await;
    let pods = |metric: &str, rest: &str| format!("{V2}/namespaces/sock-shop/pods/*/{metric}{rest}");
    let per_second = "http_requests_per_second";
    cluster.pod("sock-shop", "a", "front-end");
    cluster.until_pods(1).await;
    let not_found = |what: &str| (404, "NotFound", format!("the server could not find the metric {what}"));
    for (path, (code, reason, words)) in [
        (pods("http_requests", ""), not_found("http_requests for pods")),
        (
            pods(per_second, "?labelSelector=name=nobody"),
            not_found(&format!("{per_second} for pods")),
        ),
        (
            format!("{V2}/namespaces/sock-shop/services/gone/{per_second}"),
            not_found(&format!("{per_second} for services gone")),
        ),
        (
            format!("{V1}/namespaces/gone/metrics/{per_second}"),
            not_found(&format!("{per_second} for namespaces gone")),
        ),
        (
            format!("{V1}/namespaces/x/what/y/{per_second}"),
            not_found(&format!("{per_second} for what")),
        ),
        (
            format!("{EXTERNAL}/namespaces/sock-shop/what"),
            not_found("what for namespaces sock-shop"),
        ),
        (
            pods(per_second, "?labelSelector=a+b"),
            (400, "BadRequest", "unable to parse requirement".to_owned()),
        ),
        (
            pods(per_second, "?metricLabelSelector=,"),
            (400, "BadRequest", "unable to parse requirement".to_owned()),
        ),
        (
            format!("{V2}/namespaces/sock-shop/pods/a/doubled"),
            (500, "InternalError", "several series for pod \"a\"".to_owned()),
        ),
        (
            format!("{V2}/namespaces/shop/services/*/{per_second}"),
            (500, "InternalError", "cannot list resource \"services\"".to_owned()),
        ),
    ] {
        let (status, body) = cluster.get(&path).await;
        assert_eq!(
            (status, body["reason"].as_str(), body["kind"].as_str()),
            (code, Some(reason), Some("Status")),
            "{path}"
        );
        let message = body["message"].as_str().unwrap();
        assert!(message.contains(&words), "{path}: {message}");
        assert_eq!(body["code"], code);
    }
    // One of the two is one number.
    let one = cluster
        .ok(&format!(
            "{V2}/namespaces/sock-shop/pods/a/doubled?metricLabelSelector=x%3D1"
        ))
        .await;
    assert_eq!(numbers(&one), told(&[("a", "1")]));
    let empty = cluster
        .ok(&format!("{EXTERNAL}/namespaces/empty/rabbitmq_queue_messages"))
        .await;
    assert_eq!(empty["items"], json!([]));
}

#[tokio::test]
async fn pods_that_are_not_known_are_not_none() {
    let api = ApiServer::plain();
    api.want("a token that nobody has");
    let series = r#"doubled{namespace="shop",pod="a"}"#;
    let cluster = Cluster::beside(api, RULES, |db| is(db, series, 1.0)).await;
    let (status, body) = cluster.get(&format!("{V2}/namespaces/shop/pods/*/doubled")).await;
    assert_eq!(
        (status, body["reason"].as_str()),
        (503, Some("ServiceUnavailable")),
        "{body:#}"
    );
    assert!(
        body["message"]
            .as_str()
            .unwrap()
            .contains("the pods of the cluster are not known")
    );
    // By its name a pod is found all the same.
    let one = cluster.ok(&format!("{V2}/namespaces/shop/pods/a/doubled")).await;
    assert_eq!(numbers(&one), told(&[("a", "1")]));
}

fn without_times(mut value: Value) -> Value {
    for item in value["items"].as_array_mut().unwrap() {
        let at = item.as_object_mut().unwrap().remove("timestamp");
        assert_eq!(at, Some("2026-03-02T08:00:41Z".into()));
    }
    value
}

#[tokio::test]
#[ignore = "needs TIDEGAUGE_SHARED"]
async fn answers_are_those_of_the_documented_json() {
    let shared = std::env::var("TIDEGAUGE_SHARED").expect("TIDEGAUGE_SHARED names the shared folder");
    let folder = Path::new(&shared).join("k8s-fixtures/metrics-api");
    let recorded =
        |name: &str| -> Value { serde_json::from_str(&fs::read_to_string(folder.join(name)).unwrap()).unwrap() };
    let cluster = Cluster::with(RULES, shop).await;
    for pod in ["6mcw7", "7n228", "bn6t6", "lsm6z"] {
        cluster.pod("sock-shop", &format!("front-end-6f9db4fd44-{pod}"), "front-end");
    }
    cluster.until_pods(4).await;
    let per_second = "http_requests_per_second";
    for (version, name) in [(V1, "v1beta1"), (V2, "v1beta2")] {
        for (file, path) in [
            ("pods-all", format!("namespaces/sock-shop/pods/%2A/{per_second}?labelSelector=name%3Dfront-end")),
            ("service", format!("namespaces/sock-shop/services/front-end/{per_second}")),
            ("namespace", format!("namespaces/sock-shop/metrics/{per_second}")),
            (
                "ingress-selector",
                "namespaces/sock-shop/ingresses.networking.k8s.io/front-end/traefik_requests_per_second?metricLabelSelector=code%3D200"
                    .to_owned(),
            ),
        ] {
            let answer = cluster.ok(&format!("{version}/{path}")).await;
            let expected = recorded(&format!("custom-{name}-{file}.json"));
            assert_eq!(without_times(answer), without_times(expected), "{name} {file}");
        }
        let list = cluster.ok(version).await;
        let expected = recorded(&format!("apis-custom.metrics.k8s.io-{name}.json"));
        let entries = |list: &Value| -> BTreeSet<String> {
            list["resources"]
                .as_array()
                .unwrap()
                .iter()
                .map(Value::to_string)
                .collect()
        };
        // Beside those of the recorded list, the namespace has what its ingresses and queues have.
        assert!(entries(&list).is_superset(&entries(&expected)), "{list:#}");
        assert_eq!(
            (&list["kind"], &list["groupVersion"]),
            (&expected["kind"], &expected["groupVersion"])
        );
    }
    for (file, path) in [
        (
            "custom-notfound.json",
            "namespaces/sock-shop/pods/*/http_requests".to_owned(),
        ),
        (
            "custom-object-notfound.json",
            format!("namespaces/other/services/front-end/{per_second}"),
        ),
    ] {
        let (status, answer) = cluster.get(&format!("{V2}/{path}")).await;
        assert_eq!((status, answer), (404, recorded(file)), "{file}");
    }
    assert_eq!(
        cluster.ok(EXTERNAL).await,
        recorded("apis-external.metrics.k8s.io-v1beta1.json")
    );
    let queues = cluster
        .ok(&format!("{EXTERNAL}/namespaces/sock-shop/rabbitmq_queue_messages"))
        .await;
    let in_order = |list: Value| {
        let list = without_times(list);
        list["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(Value::to_string)
            .collect::<BTreeSet<_>>()
    };
    assert_eq!(in_order(queues), in_order(recorded("external.json")));
    let none = cluster
        .ok(&format!("{EXTERNAL}/namespaces/x/rabbitmq_queue_messages"))
        .await;
    assert_eq!(none, recorded("external-empty.json"));
}

#[test]
#[ignore = "needs TIDEGAUGE_SHARED"]
fn rules_of_others_are_read() {
    let shared = std::env::var("TIDEGAUGE_SHARED").expect("TIDEGAUGE_SHARED names the shared folder");
    let folder = Path::new(&shared).join("k8s-fixtures/monitoring-coreos");
    let dir = tempfile::tempdir().unwrap();
    let inner = dir.path().join("rules.yaml");
    let map: Value =
        serde_yaml_ng::from_str(&fs::read_to_string(folder.join("prometheusAdapter-configMap.yaml")).unwrap()).unwrap();
    fs::write(&inner, map["data"]["config.yaml"].as_str().unwrap()).unwrap();
    for (file, rules, words) in [
        (
            folder.join("prometheus-adapter-sample-config.yaml"),
            6,
            "line 30, 42, 55",
        ),
        (inner, 0, "resourceRules have no effect"),
    ] {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let report = runtime.block_on(async {
            let cluster = Cluster::start(&fs::read_to_string(&file).unwrap()).await;
            cluster.adapter.report().await
        });
        assert_eq!(report["rules"].as_array().unwrap().len(), rules, "{report:#}");
        assert!(report["notes"].to_string().contains(words), "{report:#}");
    }
}

/// Processor time of this process.
pub(crate) fn cpu() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

/// 100 autoscalers with two metrics each, every 15 s, are to take less than 2 % of a core.
#[tokio::test]
#[ignore = "measures: run it with --release, on a machine that does nothing else"]
async fn measure_what_a_hundred_autoscalers_cost() {
    const ROUNDS: u32 = 20;
    let cluster = Cluster::with(RULES, |db| {
        for app in 0..100 {
            for pod in 0..5 {
                let labels = format!(r#"namespace="shop",pod="app-{app}-{pod}",service="app-{app}""#);
                for code in ["200", "404", "500"] {
                    let labels = format!(r#"{labels},code="{code}""#);
                    grows(db, &format!("http_requests_total{{{labels}}}"), 0.0, f64::from(pod));
                    is(db, &format!("other_total{{{labels}}}"), 1.0);
                }
            }
            let labels = format!(r#"namespace="shop",queue="q-{app}""#);
            is(db, &format!("rabbitmq_queue_messages{{{labels}}}"), 3.0);
        }
    })
    .await;
    for app in 0..100 {
        for pod in 0..5 {
            cluster.pod("shop", &format!("app-{app}-{pod}"), &format!("app-{app}"));
        }
    }
    cluster.until_pods(500).await;
    let round = async || {
        for app in 0..100 {
            let pods = format!("{V2}/namespaces/shop/pods/%2A/http_requests_per_second?labelSelector=name%3Dapp-{app}");
            assert_eq!(cluster.ok(&pods).await["items"].as_array().unwrap().len(), 5);
            let queue = format!("{EXTERNAL}/namespaces/shop/rabbitmq_queue_messages?labelSelector=queue%3Dq-{app}");
            assert_eq!(cluster.ok(&queue).await["items"].as_array().unwrap().len(), 1);
        }
    };
    let (began, before) = (Instant::now(), cpu());
    round().await;
    println!(
        "the first round: {:?} of processor time, {:?}",
        cpu() - before,
        began.elapsed()
    );
    let (began, before) = (Instant::now(), cpu());
    for _ in 0..ROUNDS {
        round().await;
    }
    let (each, took) = ((cpu() - before) / ROUNDS, began.elapsed() / ROUNDS);
    let share = each.as_secs_f64() / 15.0 * 100.0;
    println!("a round of 200 questions: {each:?} of processor time, {took:?}: {share:.2} % of a core");
    assert!(share < 2.0, "{share:.2} % of a core");
}

#[test]
fn check_adapter_tells_what_is_in_a_file_and_what_is_wrong_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let (good, bad) = (path("good.yaml"), path("bad.yaml"));
    fs::write(&good, format!("{RULES}resourceRules: {{window: 1m}}\n")).unwrap();
    fs::write(
        &bad,
        "rules:\n- seriesQuery: up\n  metricsQuery: '<<.Series | printf>>'\n",
    )
    .unwrap();
    let (code, out, err) = texts(&["check", "adapter", &good]);
    let told = "ok, 6 rules for custom and 1 for external metrics\n  resourceRules have no effect";
    assert!(
        code == Some(0) && err.is_empty() && out.starts_with(&format!("{good}: {told}")),
        "{out}{err}"
    );
    let (code, _, err) = texts(&["check", "adapter", &good, &bad]);
    assert!(
        code == Some(1) && err.contains("bad.yaml:3:17: rules[0].metricsQuery: pipelines"),
        "{err}"
    );
}

/// The rules of a running server, by the flag and by its configuration.
#[test]
fn a_server_takes_rules_anew() {
    let dir = tempfile::tempdir().unwrap();
    let (config, rules) = (dir.path().join("c.yml"), dir.path().join("rules.yaml"));
    let (config_flag, rules_flag) = (
        format!("--config.file={}", config.display()),
        format!("--kubernetes.adapter-config={}", rules.display()),
    );
    let flags = [config_flag.as_str(), rules_flag.as_str(), "--web.enable-lifecycle"];
    fs::write(&config, "tidegauge: {hpa_metrics: [{name: lag, query: max(lag)}]}\n").unwrap();
    fs::write(&rules, "rules:\n- seriesQuery: up\n").unwrap();
    let data = dir.path().join("data");
    let path = format!("--storage.tsdb.path={}", data.display());
    let (code, _, log) = texts(&[
        "serve",
        "--web.listen-address=127.0.0.1:0",
        &path,
        &config_flag,
        &rules_flag,
    ]);
    assert_eq!(code, Some(1));
    assert!(
        log.contains("rules.yaml:2:3: rules[0].metricsQuery: metricsQuery is missing"),
        "{log}"
    );

    fs::write(&rules, RULES).unwrap();
    let program = Program::serve(&data, &flags);
    let made = |program: &Program| {
        let report: Value = serde_json::from_str(&program.ask("GET", "/api/v1/hpa/metrics").1).unwrap();
        let rules = report["data"]["rules"].as_array().unwrap().len();
        (rules, report["data"]["metrics"].as_u64().unwrap())
    };
    assert_eq!(made(&program), (8, 1));
    fs::write(&config, "tidegauge: {hpa_metrics: [{name: lag, query: 'max(lag'}]}\n").unwrap();
    let (status, refused) = program.ask("POST", "/-/reload");
    assert_eq!(status, 500);
    assert!(refused.contains("tidegauge.hpa_metrics[0].query: "), "{refused}");
    assert_eq!(made(&program), (8, 1));
    fs::write(&config, "tidegauge: {hpa_metrics: []}\n").unwrap();
    fs::write(&rules, "rules: []\n").unwrap();
    assert_eq!(program.ask("POST", "/-/reload").0, 200);
    assert_eq!(made(&program), (0, 0));
}

/// The list of what the automatic rules make of 100,000 series, as the aggregation layer asks for it again and again.
#[tokio::test]
#[ignore = "measures: run it with --release, on a machine that does nothing else"]
async fn measure_what_a_look_costs() {
    let cluster = Cluster::automatic(|db| {
        let mut appender = db.appender();
        for name in 0..200 {
            for pod in 0..500 {
                let kind = if name % 2 == 0 { "total" } else { "bytes" };
                let labels = format!(
                    r#"metric_{name}_{kind}{{namespace="shop",pod="app-{pod}",node="n{}",job="pods",instance="10.0.0.{pod}:80"}}"#,
                    pod % 3
                );
                let series = appender.resolve(None, &parse_metric(&labels, &ParseOptions::default()).unwrap()).unwrap();
                appender.append_at(series, Timestamp::from_millis(NOW_MS - 15_000), 1.0).unwrap();
            }
        }
        appender.commit(OnReject::Fail).unwrap();
    })
    .await;
    for what in ["the first look", "a list that is known"] {
        let (began, before) = (Instant::now(), cpu());
        let list = cluster.ok(V2).await;
        println!("{what}: {:?} of processor time, {:?}", cpu() - before, began.elapsed());
        assert_eq!(list["resources"].as_array().unwrap().len(), 400);
    }
}

/// A target whose metrics are always these; ends with the process.
fn target(metrics: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = [0; 4096];
            while stream.read(&mut request).is_ok_and(|bytes| bytes > 0) {
                let length = metrics.len();
                let head = format!("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\n\r\n");
                if stream.write_all((head + metrics).as_bytes()).is_err() {
                    break;
                }
            }
        }
    });
    address
}

/// The program beside a cluster that hands the metrics APIs on to it, with a target of two pods.
fn whole(dir: &Path) -> (Program, Aggregator) {
    let cluster = Aggregator::start();
    for name in ["web-1", "web-2", "web-new"] {
        let meta = json!({"name": name, "namespace": "shop", "labels": {"name": "web"}});
        cluster
            .api
            .put_object("/api/v1/pods", json!({"metadata": meta, "spec": {}, "status": {}}));
    }
    let address = target(
        "queue_length{namespace=\"shop\",pod=\"web-1\"} 12.5\nqueue_length{namespace=\"shop\",pod=\"web-2\"} 1000\n\
         lag{topic=\"orders\"} 30.5\n",
    );
    let config = dir.join("c.yml");
    let text = format!(
        "scrape_configs: [{{job_name: web, honor_labels: true, scrape_interval: 1s, static_configs: [{{targets: ['{address}']}}]}}]\n\
         tidegauge: {{hpa_automatic: true, hpa_metrics: [{{name: lag, query: max by (topic) (lag)}}]}}\n"
    );
    fs::write(&config, text).unwrap();
    let flags = [
        format!("--config.file={}", config.display()),
        format!(
            "--kubernetes.kubeconfig={}",
            cluster.kubeconfig(dir, "tidegauge").display()
        ),
        "--kubernetes.api.listen-address=127.0.0.1:0".to_owned(),
    ];
    let program = Program::serve(&dir.join("data"), &flags.each_ref().map(String::as_str));
    let line = program.log_until("serving the Kubernetes metrics APIs");
    let address = line.split("address=").nth(1).and_then(|rest| rest.split(' ').next());
    let bundle = fs::read_to_string(dir.join("data/kubernetes-api/ca.crt")).unwrap();
    cluster.hand_on(address.unwrap(), "tidegauge-metrics-api.tidegauge.svc", &bundle);
    (program, cluster)
}

/// Asks the API server until it answers as is wanted.
fn until(cluster: &Aggregator, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let begun = Instant::now();
    loop {
        let answer = request(cluster.api.address.port(), "GET", path, &[], b"").unwrap();
        let told: Value = serde_json::from_str(&answer.body).unwrap();
        if answer.status == 200 && wanted(&told) {
            return told;
        }
        assert!(
            begun.elapsed() < Duration::from_secs(30),
            "{path}: {} {told:#}",
            answer.status
        );
        std::thread::park_timeout(Duration::from_millis(100));
    }
}

const QUEUES: &str =
    "/apis/custom.metrics.k8s.io/v1beta2/namespaces/shop/pods/%2A/queue_length?labelSelector=name%3Dweb";
const LAG: &str = "/apis/external.metrics.k8s.io/v1beta1/namespaces/shop/lag?labelSelector=topic%3Dorders";

#[test]
fn what_is_scraped_reaches_an_autoscaler_through_the_api_server() {
    let dir = tempfile::tempdir().unwrap();
    let (program, cluster) = whole(dir.path());
    let queues = until(&cluster, QUEUES, |told| {
        told["items"].as_array().is_some_and(|items| items.len() == 2)
    });
    assert_eq!(numbers(&queues), told(&[("web-1", "12500m"), ("web-2", "1k")]));
    let lag = until(&cluster, LAG, |told| told["items"][0]["value"] == "30500m");
    assert_eq!(lag["items"][0]["metricLabels"], json!({"topic": "orders"}));
    let list = until(&cluster, "/apis/custom.metrics.k8s.io/v1beta1", |_| true);
    let names = list["resources"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["name"].as_str().unwrap());
    let names: BTreeSet<&str> = names.collect();
    assert!(
        names.contains("pods/queue_length") && names.contains("namespaces/queue_length"),
        "{names:?}"
    );

    // A user who may not is told so.
    cluster.deny("system:anonymous");
    let path = "/apis/custom.metrics.k8s.io/v1beta2/namespaces/shop/pods/web-1/queue_length";
    let refused = request(cluster.api.address.port(), "GET", path, &[], b"").unwrap();
    assert_eq!(refused.status, 403);

    let (status, report) = program.ask("GET", "/api/v1/hpa/metrics");
    let report: Value = serde_json::from_str(&report).unwrap();
    let asked = report.pointer("/data/rules/1/metrics").unwrap().as_array().unwrap();
    let asked = asked
        .iter()
        .find(|one| one["name"] == "queue_length" && one["resource"] == "pods");
    let last = &asked.unwrap()["lastQuery"];
    assert_eq!(
        (status, &last["namespace"], &last["values"]),
        (200, &json!("shop"), &json!(2)),
        "{report:#}"
    );
}

#[test]
#[ignore = "needs kubectl"]
fn kubectl_reads_the_metrics() {
    let dir = tempfile::tempdir().unwrap();
    let (_program, cluster) = whole(dir.path());
    let queues = until(&cluster, QUEUES, |told| {
        told["items"].as_array().is_some_and(|items| items.len() == 2)
    });
    let raw = |path: &str| -> Value {
        let output = std::process::Command::new("kubectl")
            .arg(format!(
                "--kubeconfig={}",
                cluster.kubeconfig(dir.path(), "admin").display()
            ))
            .arg(format!("--cache-dir={}", dir.path().join("cache").display()))
            .args(["get", "--raw", path])
            .output()
            .expect("kubectl");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{path}: {errors}");
        serde_json::from_slice(&output.stdout).unwrap()
    };
    assert_eq!(numbers(&raw(QUEUES)), numbers(&queues));
    assert_eq!(raw(LAG)["items"][0]["value"], "30500m");
    for group in ["custom", "external"] {
        let list = raw(&format!("/apis/{group}.metrics.k8s.io/v1beta1"));
        assert_eq!(list["kind"], "APIResourceList");
    }
}
