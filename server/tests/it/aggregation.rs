//! The listener of the metrics APIs, asked as the API server's aggregator asks it, and as others try to.

mod caller;
mod cluster;
mod measure;
mod whole;

use crate::program::Program;
use crate::tls_client::{Authority, Pair};
use caller::{Answer, Caller};
use cluster::Cluster;
use serde::Deserialize;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(30);
/// What its certificate is for outside of a pod, if nothing is said.
const NAME: &str = "tidegauge-metrics-api.tidegauge.svc";
const PODS: &str = "/apis/metrics.k8s.io/v1beta1/namespaces/shop/pods";

/// The program beside a cluster.
struct Running {
    program: Program,
    address: SocketAddr,
    /// What it wants to be believed.
    bundle: String,
}

impl Running {
    fn start(dir: &Path, cluster: &Cluster, args: &[&str]) -> Self {
        let kubeconfig = format!("--kubernetes.kubeconfig={}", cluster.kubeconfig(dir).display());
        let config = dir.join("c.yml");
        std::fs::write(&config, "scrape_configs: []\n").expect("written");
        let config = format!("--config.file={}", config.display());
        let mut all = vec![&*config, &*kubeconfig, "--kubernetes.api.listen-address=127.0.0.1:0"];
        all.extend(args);
        Self::of(Program::serve(&dir.join("data"), &all), dir)
    }

    /// A program whose data lies in `dir`.
    fn of(program: Program, dir: &Path) -> Self {
        let line = program.log_until("serving the Kubernetes metrics APIs");
        let address = line.split("address=").nth(1).and_then(|rest| rest.split(' ').next());
        let bundle = std::fs::read_to_string(dir.join("data/kubernetes-api/ca.crt")).unwrap_or_default();
        Self {
            program,
            address: address.expect("an address").parse().expect("an address"),
            bundle,
        }
    }

    fn caller(&self, shown: Option<&Pair>) -> Caller {
        Caller::new(NAME, self.address, &self.bundle, shown)
    }
}

/// Asks until the answer is as it should be.
fn until(what: &str, ask: impl Fn() -> Result<Answer, String>, done: impl Fn(&Result<Answer, String>) -> bool) {
    let begun = Instant::now();
    loop {
        let answer = ask();
        if done(&answer) {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "never {what}: {answer:?}");
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

fn is(status: u16) -> impl Fn(&Result<Answer, String>) -> bool {
    move |answer| answer.as_ref().is_ok_and(|answer| answer.status == status)
}

const ALICE: &[(&str, &str)] = &[
    ("X-Remote-User", "alice"),
    ("X-Remote-Group", "dev"),
    ("X-Remote-Group", "ops"),
    ("X-Remote-Extra-Scopes", "all"),
];

#[test]
fn a_front_proxy_says_who_asks_and_nobody_else_does() {
    let dir = tempfile::tempdir().expect("a folder");
    let (cluster, front, clients) = (Cluster::start(), Authority::new("front"), Authority::new("clients"));
    cluster.trust(&[&front], &clients);
    cluster.readers(&["alice"]);
    cluster.token("token-of-robot", "robot");
    let running = Running::start(dir.path(), &cluster, &[]);
    let proxy = running.caller(Some(&front.user("front-proxy-client", &[])));
    until("trusted", || proxy.try_ask("GET", "/apis", ALICE), is(200));

    // Whom the headers name is asked about, with all that they say.
    let answer = proxy.get(PODS, ALICE);
    assert!(!matches!(answer.status, 401 | 403 | 500), "{answer:?}");
    assert_eq!(
        cluster.review_of("alice"),
        Some(
            json!({"user": "alice", "groups": ["dev", "ops", "system:authenticated"], "extra": {"scopes": ["all"]},
            "resourceAttributes": {"verb": "list", "group": "metrics.k8s.io", "version": "v1beta1", "namespace": "shop",
                "resource": "pods"}})
        )
    );
    let bob = proxy.get(PODS, &[("X-Remote-User", "bob")]);
    assert_eq!(bob.status, 403);
    assert_eq!(
        bob.json()["message"],
        "pods.metrics.k8s.io is forbidden: User \"bob\" cannot list resource \"pods\" in API group \"metrics.k8s.io\" in the \
         namespace \"shop\": no role says so"
    );
    // Those who may everything are not asked about.
    let reviews = cluster.count_reviews();
    let master = proxy.get(PODS, &[("X-Remote-User", "root"), ("X-Remote-Group", "system:masters")]);
    assert!(!matches!(master.status, 401 | 403 | 500), "{master:?}");
    assert_eq!(cluster.count_reviews(), reviews);
    assert_eq!(proxy.get("/apis", &[]).status, 401, "a front proxy that names nobody");

    // Who has no certificate of a front proxy is whom it shows to be, or nobody, whatever the headers say.
    let client = running.caller(Some(&clients.user("carol", &["of-certificates"])));
    assert_eq!(client.get(PODS, ALICE).status, 403);
    assert_eq!(
        cluster.review_of("carol").expect("asked")["groups"],
        json!(["of-certificates", "system:authenticated"])
    );
    let nobody = running.caller(None);
    for headers in [
        ALICE,
        &[],
        &[("Authorization", "Bearer none")],
        &[("Authorization", "Basic token-of-robot")],
    ] {
        let answer = nobody.get("/apis", headers);
        assert_eq!((answer.status, &*answer.kind), (401, "application/json"), "{headers:?}");
        assert_eq!(answer.json()["reason"], "Unauthorized");
    }
    let token = [("Authorization", "Bearer token-of-robot"), ("X-Remote-User", "alice")];
    assert_eq!(nobody.get("/apis", &token).status, 200);
    assert_eq!(nobody.get(PODS, &token).status, 403);
    assert_eq!(
        cluster.review_of("robot").expect("asked")["groups"],
        json!(["of-tokens", "system:authenticated"])
    );
    for path in ["/healthz", "/livez"] {
        assert_eq!(nobody.get(path, &[]).text, "ok", "{path}");
    }

    // Certificates that are not to be believed.
    for (shown, what) in [
        (front.user("someone", &[]), "a name that is not allowed"),
        (front.expired_user("front-proxy-client"), "one that has expired"),
        (
            Authority::new("front").user("front-proxy-client", &[]),
            "another authority's",
        ),
    ] {
        let told = running.caller(Some(&shown)).try_ask("GET", "/apis", ALICE);
        assert!(told.is_err(), "{what}: {told:?}");
    }
    let (_, metrics) = running.program.ask("GET", "/metrics");
    let line = metrics
        .lines()
        .find(|line| line.starts_with("tidegauge_kubernetes_api_handshakes_failed_total"));
    let failed: f64 = line
        .and_then(|line| line.rsplit(' ').next()?.parse().ok())
        .expect("a number");
    assert!(failed >= 3.0, "{line:?}");
    assert!(metrics.contains(r#"tidegauge_kubernetes_api_requests_total{group="metrics.k8s.io",code="403"}"#));
}

#[test]
fn what_is_served_is_told_and_all_else_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let (cluster, front) = (Cluster::start(), Authority::new("front"));
    cluster.trust(&[&front], &front);
    let running = Running::start(
        dir.path(),
        &cluster,
        &["--kubernetes.api.groups=metrics,external", "--web.max-url-size=1KB"],
    );
    let proxy = running.caller(Some(&front.user("front-proxy-client", &[])));
    until("trusted", || proxy.try_ask("GET", "/apis", ALICE), is(200));
    let list = proxy.get("/apis", ALICE).json();
    let names: Vec<&str> = list["groups"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|group| group["name"].as_str())
        .collect();
    assert_eq!(
        (&list["kind"], names),
        (
            &"APIGroupList".into(),
            vec!["metrics.k8s.io", "external.metrics.k8s.io"]
        )
    );
    let group = proxy.get("/apis/metrics.k8s.io", ALICE).json();
    let version = json!({"groupVersion": "metrics.k8s.io/v1beta1", "version": "v1beta1"});
    assert_eq!(
        group,
        json!({"kind": "APIGroup", "apiVersion": "v1", "name": "metrics.k8s.io", "versions": [version], "preferredVersion": version})
    );
    assert!(proxy.get("/version", ALICE).json()["gitVersion"].is_string());
    let master = &[("X-Remote-User", "a"), ("X-Remote-Group", "system:masters")];
    for (method, path, status) in [
        ("GET", "/apis/custom.metrics.k8s.io", 404),
        ("GET", "/nothing", 404),
        ("POST", PODS, 405),
        ("DELETE", "/apis", 405),
        ("GET", "/apis/metrics.k8s.io/v1beta1/%2e%2e%2fpods", 400),
        ("GET", "/apis/metrics.k8s.io/v1beta1/namespaces/a%2Fb/pods", 400),
    ] {
        let answer = proxy.try_ask(method, path, master).expect("an answer");
        assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
        assert_eq!(
            (&answer.json()["kind"], &answer.json()["code"]),
            (&"Status".into(), &status.into())
        );
    }
    // Every path that is documented is one that is answered.
    let documented = proxy.get("/openapi/v2", ALICE).json();
    let paths = documented["paths"].as_object().expect("paths");
    assert_eq!(paths.len(), 6, "those of two groups");
    for path in paths.keys() {
        let answer = proxy.get(
            &path
                .replace("{namespace}", "shop")
                .replace("{name}", "none")
                .replace("{metric}", "none"),
            ALICE,
        );
        assert!(
            !answer.json()["message"].to_string().contains("requested resource"),
            "{path}: {answer:?}"
        );
    }
    let index = proxy.get("/openapi/v3", ALICE).json();
    let url = index["paths"]["apis/metrics.k8s.io/v1beta1"]["serverRelativeURL"]
        .as_str()
        .expect("a URL")
        .to_owned();
    assert_eq!(proxy.get(&url, ALICE).json()["openapi"], "3.0.0");

    let long = format!("/apis?x={}", "y".repeat(2000));
    assert_eq!(proxy.get(&long, ALICE).status, 400);

    // Who may not ask the cluster says what is missing.
    let failed = proxy.get(PODS, ALICE);
    assert_eq!(failed.status, 500);
    let told = failed.json()["message"].to_string();
    assert!(
        told.contains("subjectaccessreviews.authorization.k8s.io") && told.contains("system:auth-delegator"),
        "{told}"
    );
    // Nothing is scraped.
    let ready = running.caller(None).get("/readyz", &[]);
    assert_eq!(ready.status, 503);
    for told in [
        "[+]authentication ok",
        "[-]metrics.k8s.io failed: no recent samples",
        "[+]external.metrics.k8s.io ok",
    ] {
        assert!(ready.text.contains(told), "{}", ready.text);
    }
}

#[test]
fn whom_to_believe_changes_while_connections_live() {
    let dir = tempfile::tempdir().expect("a folder");
    let (cluster, first, second) = (Cluster::start(), Authority::new("first"), Authority::new("second"));
    let running = Running::start(dir.path(), &cluster, &[]);
    let before = running.caller(Some(&first.user("front-proxy-client", &[])));

    // The ConfigMap may not be read.
    until(
        "told",
        || before.try_ask("GET", "/apis", ALICE),
        |answer| {
            answer.as_ref().is_ok_and(|answer| {
                answer.status == 503 && answer.text.contains("extension-apiserver-authentication-reader")
            })
        },
    );
    let ready = running.caller(None).get("/readyz", &[]);
    assert_eq!(ready.status, 503);
    assert!(
        ready.text.contains("[-]authentication failed: cannot"),
        "{}",
        ready.text
    );
    assert_eq!(running.caller(None).get("/apis", ALICE).status, 401);

    cluster.trust(&[&first], &first);
    until("trusted", || before.try_ask("GET", "/apis", ALICE), is(200));
    cluster.trust(&[&second], &second);
    // The same connection, as long as it lives.
    until(
        "distrusted",
        || before.try_ask("GET", "/apis", ALICE),
        |answer| answer.as_ref().is_ok_and(|answer| answer.status == 401),
    );
    let after = running.caller(Some(&second.user("front-proxy-client", &[])));
    assert_eq!(after.get("/apis", ALICE).status, 200);
    cluster.trust(&[&first, &second], &first);
    until("both trusted", || before.try_ask("GET", "/apis", ALICE), is(200));
    assert_eq!(after.get("/apis", ALICE).status, 200);
}

#[test]
fn certificates_that_are_given_are_exchanged_while_connections_live() {
    let dir = tempfile::tempdir().expect("a folder");
    let (cluster, front) = (Cluster::start(), Authority::new("front"));
    cluster.trust(&[&front], &front);
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let (cert, key) = (dir.path().join("tls.crt"), dir.path().join("tls.key"));
    let write = |by: &Authority| {
        let pair = by.server_called(NAME);
        std::fs::write(&cert, pair.pem).expect("written");
        std::fs::write(&key, pair.key).expect("written");
    };
    write(&old);
    let running = Running::start(
        dir.path(),
        &cluster,
        &[
            &format!("--kubernetes.api.tls-cert-file={}", cert.display()),
            &format!("--kubernetes.api.tls-private-key-file={}", key.display()),
        ],
    );
    let shown = front.user("front-proxy-client", &[]);
    let before = Caller::new(NAME, running.address, old.pem(), Some(&shown));
    until("trusted", || before.try_ask("GET", "/apis", ALICE), is(200));
    write(&new);
    until(
        "exchanged",
        || Caller::new(NAME, running.address, new.pem(), Some(&shown)).try_ask("GET", "/apis", ALICE),
        is(200),
    );
    assert_eq!(
        before.get("/apis", ALICE).status,
        200,
        "a connection keeps what it agreed on"
    );
    assert!(!dir.path().join("data/kubernetes-api").exists());
}

#[test]
fn the_cluster_is_told_and_what_is_somebody_elses_is_left_alone() {
    let dir = tempfile::tempdir().expect("a folder");
    let cluster = Cluster::start();
    let others = json!({"group": "external.metrics.k8s.io", "version": "v1beta1",
        "service": {"namespace": "keda", "name": "keda-metrics-apiserver", "port": 443}});
    cluster.put_api_service("v1beta1.external.metrics.k8s.io", &others);
    let running = Running::start(
        dir.path(),
        &cluster,
        &["--kubernetes.api.register", "--kubernetes.api.service=watch/metrics"],
    );
    let line = running.program.log_until("keda/keda-metrics-apiserver");
    assert!(line.contains("v1beta1.external.metrics.k8s.io"), "{line}");
    assert_eq!(
        cluster.api_service("v1beta1.external.metrics.k8s.io").expect("there")["spec"],
        others
    );
    let told = cluster.api_service("v1beta1.metrics.k8s.io").expect("told");
    let bundle = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, &running.bundle);
    assert_eq!(
        told["spec"],
        json!({"group": "metrics.k8s.io", "version": "v1beta1", "groupPriorityMinimum": 100, "versionPriority": 100,
            "service": {"namespace": "watch", "name": "metrics", "port": 443}, "caBundle": bundle})
    );
    let metrics = running
        .program
        .ask_until("/metrics", "tidegauge_kubernetes_api_registered");
    for (name, done) in [("v1beta2.custom", 1), ("v1beta1.external", 0)] {
        let line = format!("tidegauge_kubernetes_api_registered{{apiservice=\"{name}.metrics.k8s.io\"}} {done}");
        assert!(metrics.contains(&line), "{metrics}");
    }
    // For those who tell their clusters by files, the same is printed.
    let data = dir.path().join("data");
    let args = [
        "kubernetes",
        "apiservices",
        data.to_str().expect("a path"),
        "--service=watch/metrics",
    ];
    let (code, printed, err) = crate::program::texts(&args);
    assert_eq!(code, Some(0), "{err}");
    let objects = serde_yaml_ng::Deserializer::from_str(&printed);
    let objects: Vec<Value> = objects.map(|one| Value::deserialize(one).expect("YAML")).collect();
    let names: Vec<&Value> = objects.iter().map(|one| &one["metadata"]["name"]).collect();
    assert_eq!(names.len(), 4, "{names:?}");
    assert_eq!(objects[0]["spec"], told["spec"]);
    for (args, why) in [
        (
            ["kubernetes", "apiservices", "/nowhere"],
            "/nowhere/kubernetes-api/ca.crt",
        ),
        (
            ["kubernetes", "apiservices", "--ca-file=/dev/null"],
            "something else than certificates",
        ),
        (["kubernetes", "apiservices", "--service=here"], "NAMESPACE/NAME"),
    ] {
        let (code, _, err) = crate::program::texts(&args);
        assert!(code != Some(0) && err.contains(why), "{err}");
    }
    // What is told is what is shown.
    let answer = Caller::new("metrics.watch.svc", running.address, &running.bundle, None).get("/livez", &[]);
    assert_eq!(answer.text, "ok");
}

#[test]
fn without_a_cluster_it_says_how_to_name_one() {
    let dir = tempfile::tempdir().expect("a folder");
    let data = format!("--storage.tsdb.path={}", dir.path().join("data").display());
    let args = [
        &*data,
        "--web.listen-address=127.0.0.1:0",
        "--kubernetes.api.listen-address=127.0.0.1:0",
    ];
    let (code, _, err) = crate::program::texts(&args);
    assert_eq!(code, Some(1));
    assert!(
        err.contains("--kubernetes.kubeconfig") && err.contains("KUBERNETES_SERVICE_HOST"),
        "{err}"
    );
}
