//! A cluster on loopback: an API server that lists pods and nodes and passes a group on to routes, and a store with
//! what the kubelets would have said.

use crate::apiserver::{ApiServer, Asked};
use crate::process::PATIENCE;
use crate::sources::sources;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{Request, Uri, header};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use tempfile::TempDir;
use tidegauge_model::testing::HandClock;
use tidegauge_model::{Appendable, Clock, Labels, OnReject, Timestamp};
use tidegauge_query::{Engine, EngineOptions};
use tidegauge_scraper::{ClusterAt, Manager, ScrapeOptions};
use tidegauge_server::kubeapi::{Sources, resource};
use tidegauge_tsdb::{Db, Options};
use tower::ServiceExt;

/// What the API server has.
#[derive(Default)]
pub(super) struct Objects {
    pub(super) pods: Vec<Value>,
    pub(super) nodes: Vec<Value>,
    /// Lists are refused.
    pub(super) refuses: bool,
}

impl Objects {
    /// A server of them that hands the group on.
    fn serve(self, group: &Arc<OnceLock<Router>>) -> ApiServer {
        let server = ApiServer::plain();
        for (collection, objects) in [("/api/v1/pods", self.pods), ("/api/v1/nodes", self.nodes)] {
            server.open(collection);
            for object in objects {
                server.put_object(collection, object);
            }
            if self.refuses {
                server.close(collection);
            }
        }
        let group = Arc::clone(group);
        server.others(move |asked| {
            let told = |json: Value| Some((200, json.to_string()));
            let version = json!({"groupVersion": "metrics.k8s.io/v1beta1", "version": "v1beta1"});
            let found = json!({"name": "metrics.k8s.io", "versions": [version], "preferredVersion": version});
            match asked.path.as_str() {
                "/api" => told(json!({"kind": "APIVersions", "versions": ["v1"]})),
                "/apis" => told(json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": [found]})),
                path if path.starts_with("/apis/metrics.k8s.io/") => Some(hand_on(group.get()?, asked)),
                _ => None,
            }
        });
        server
    }
}

/// Asks the group as the API server was asked.
fn hand_on(group: &Router, asked: &Asked) -> (u16, String) {
    let mut request = Request::builder()
        .method(asked.method.as_str())
        .uri(format!("{}?{}", asked.path, asked.query));
    for (name, value) in &asked.headers {
        request = request.header(name, value);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let response = group
            .clone()
            .oneshot(request.body(Body::empty()).unwrap())
            .await
            .unwrap();
        let (head, body) = response.into_parts();
        let body = axum::body::to_bytes(body, 64 << 20).await.unwrap();
        (head.status.as_u16(), String::from_utf8(body.to_vec()).unwrap())
    })
}

/// The whole of it.
pub(super) struct Cluster {
    pub(super) sources: Arc<Sources>,
    pub(super) routes: Router,
    pub(super) scraper: Manager,
    pub(super) kubeconfig: PathBuf,
    pub(super) dir: TempDir,
}

impl Cluster {
    /// One with an empty store, at a time.
    pub(super) async fn start(objects: Objects, now: Timestamp) -> Self {
        Self::over(tempfile::tempdir().unwrap(), objects, Arc::new(HandClock::at(now))).await
    }

    /// One over a store that may have been there before.
    pub(super) async fn over(dir: TempDir, objects: Objects, clock: Arc<dyn Clock>) -> Self {
        // Once per process; a second choice is refused, which is fine.
        drop(rustls::crypto::ring::default_provider().install_default());
        let refuses = objects.refuses;
        let group = Arc::new(OnceLock::new());
        let server = objects.serve(&group);
        let kubeconfig = server.kubeconfig(dir.path(), "secret");

        let db = Db::open(&dir.path().join("data"), Options::default(), clock.clone()).unwrap();
        let scraper = Manager::new(db.clone(), clock.clone(), ScrapeOptions::default());
        let cluster = scraper.cluster(ClusterAt::Kubeconfig(kubeconfig.clone())).unwrap();
        let engine = Arc::new(Engine::new(EngineOptions::default()));
        let sources = Arc::new(sources(db, engine, clock, cluster));
        let known = async {
            while !refuses && !sources.pods.is_complete() {
                sources.pods.changed().await;
            }
            while !refuses && !sources.nodes.is_complete() {
                sources.nodes.changed().await;
            }
            while refuses && sources.pods.problem().is_none() {
                sources.pods.changed().await;
            }
        };
        tokio::time::timeout(PATIENCE, known).await.unwrap();
        let routes = resource::routes(Arc::clone(&sources));
        assert!(group.set(routes.clone()).is_ok());
        Self {
            sources,
            routes,
            scraper,
            kubeconfig,
            dir,
        }
    }

    /// Closes the store; what is left of the cluster is its folder.
    pub(super) fn stop(self) -> TempDir {
        self.sources.store.close().unwrap();
        self.dir
    }

    /// Asks, below the group's version; gives the status and the JSON.
    pub(super) async fn ask(&self, path: &str, accept: &str) -> (u16, Value) {
        self.send("GET", path, accept).await
    }

    /// The same with another method.
    pub(super) async fn send(&self, method: &str, path: &str, accept: &str) -> (u16, Value) {
        let (status, body) = self.raw(method, path, accept).await;
        let json = serde_json::from_slice(&body).unwrap_or_else(|e| panic!("{path}: {e}: {body:?}"));
        (status, json)
    }

    /// The same, and the body as it comes.
    pub(super) async fn raw(&self, method: &str, path: &str, accept: &str) -> (u16, Bytes) {
        let uri: Uri = format!("/apis/metrics.k8s.io/v1beta1{path}").parse().unwrap();
        let request = Request::builder()
            .method(method)
            .uri(uri)
            .header(header::ACCEPT, accept);
        let response = self
            .routes
            .clone()
            .oneshot(request.body(Body::empty()).unwrap())
            .await
            .unwrap();
        let (head, body) = response.into_parts();
        assert_eq!(head.headers["content-type"], "application/json", "{path}");
        (
            head.status.as_u16(),
            axum::body::to_bytes(body, 64 << 20).await.unwrap(),
        )
    }

    /// What a node's kubelet says of itself, by two samples that make these numbers.
    pub(super) fn node(&self, name: &str, used: Used) {
        store_node(&self.sources.store, name, used);
    }

    /// What a node's kubelet says of a container.
    pub(super) fn container(&self, namespace: &str, pod: &str, container: &str, used: Used) {
        store_container(&self.sources.store, namespace, pod, container, used);
    }
}

pub(super) fn store_node(db: &Db, name: &str, used: Used) {
    let labels = [("node", name), ("job", "kubelet"), ("instance", name)];
    let names = ["node_cpu_usage_seconds_total", "node_memory_working_set_bytes"];
    store(db, &names, &labels, used);
}

pub(super) fn store_container(db: &Db, namespace: &str, pod: &str, container: &str, used: Used) {
    let labels = [
        ("namespace", namespace),
        ("pod", pod),
        ("container", container),
        ("job", "kubelet"),
    ];
    let names = [
        "container_cpu_usage_seconds_total",
        "container_memory_working_set_bytes",
    ];
    store(db, &names, &labels, used);
}

fn store(db: &Db, names: &[&str; 2], labels: &[(&str, &str)], used: Used) {
    let mut appender = db.appender();
    let before = used.at_ms - used.window_ms;
    // The middle of what is cut off to the number: no rounding of floats leads to its neighbours.
    let cpu_ns = (used.cpu_nano as f64 + 0.5) * used.window_ms as f64 / 1000.0;
    let cpu = [(before, 1.0), (used.at_ms, 1.0 + cpu_ns / 1e9)];
    let memory = [(used.at_ms, used.memory_bytes as f64)];
    for (name, samples) in names.iter().zip([&cpu[..], &memory[..]]) {
        let labels = Labels::from_pairs(labels.iter().copied().chain([("__name__", *name)])).unwrap();
        let series = appender.resolve(None, &labels).unwrap();
        for (at, value) in samples {
            appender.append_at(series, Timestamp::from_millis(*at), *value).unwrap();
        }
    }
    appender.commit(OnReject::Fail).unwrap();
}

/// What is to be the answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Used {
    pub(super) at_ms: i64,
    pub(super) window_ms: i64,
    pub(super) cpu_nano: i64,
    pub(super) memory_bytes: i64,
}

/// A pod that runs.
pub(super) fn pod(namespace: &str, name: &str, labels: &Value) -> Value {
    json!({
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {"nodeName": "n1", "containers": [{"name": "web"}]},
        "status": {"phase": "Running"},
    })
}

/// A node with room for two cores and 4 GiB.
pub(super) fn node(name: &str, labels: &Value) -> Value {
    json!({
        "metadata": {"name": name, "labels": labels},
        "status": {"allocatable": {"cpu": "2", "memory": "4Gi"}, "capacity": {"cpu": "2", "memory": "4Gi"}},
    })
}
