use super::*;
use crate::kubeapi::resource::gather::range;
use tidegauge_model::testing::MemoryStore;
use tidegauge_model::{Labels, Meter, Queryable, ReadContext, stale_marker};

const LOOKBACK_MS: i64 = 300_000;
/// Now, in seconds.
const NOW: i64 = 10_000;

const CPU: &str = "container_cpu_usage_seconds_total";
const MEMORY: &str = "container_memory_working_set_bytes";
const START: &str = "container_start_time_seconds";

/// Who tells, beside namespace, pod and container.
const RESOURCE: &[(&str, &str)] = &[
    ("job", "kubelet"),
    ("metrics_path", "/metrics/resource"),
    ("node", "n1"),
];
const CADVISOR: &[(&str, &str)] = &[
    ("job", "kubelet"),
    ("metrics_path", "/metrics/cadvisor"),
    ("node", "n1"),
    ("id", "/kubepods/x"),
];

#[derive(Default)]
struct Store(MemoryStore);

impl Store {
    /// Samples at times in seconds, in order.
    fn series(&self, name: &str, labels: &[&[(&str, &str)]], samples: &[(i64, f64)]) {
        let pairs = labels.concat().into_iter().chain([("__name__", name)]);
        let labels = Labels::from_pairs(pairs).unwrap();
        for (at, value) in samples {
            let value = if value.is_nan() { stale_marker() } else { *value };
            self.0.insert(&labels, Timestamp::from_millis(at * 1000), value);
        }
    }

    /// A container that uses `cpu` cores and `memory` bytes, as told by a source up to a time.
    fn container(&self, from: &[(&str, &str)], of: (&str, &str, &str), until: i64, cpu: f64, memory: f64) {
        let name = [("namespace", of.0), ("pod", of.1), ("container", of.2)];
        let total: &[(&str, &str)] = if from == CADVISOR { &[("cpu", "total")] } else { &[] };
        let used = [(until - 15, 100.0), (until, 100.0 + cpu * 15.0)];
        self.series(CPU, &[from, &name, total], &used);
        self.series(MEMORY, &[from, &name], &[(until - 15, 1.0), (until, memory)]);
        self.series(START, &[from, &name], &[(until - 15, 50.0), (until, 50.0)]);
    }

    fn ask<T>(&self, ask: impl FnOnce(&Reading<'_>) -> Result<T, SelectError>) -> T {
        self.ask_with(&ReadContext::unlimited(), ask).unwrap()
    }

    fn ask_with<T>(
        &self,
        cx: &ReadContext,
        ask: impl FnOnce(&Reading<'_>) -> Result<T, SelectError>,
    ) -> Result<T, SelectError> {
        let at = Timestamp::from_millis(NOW * 1000);
        let querier = self.0.querier(range(at, LOOKBACK_MS)).unwrap();
        let reading = Reading {
            querier: &*querier,
            at,
            lookback_ms: LOOKBACK_MS,
            cx,
        };
        ask(&reading)
    }

    fn pods_in(&self, scope: Scope<'_>) -> Vec<String> {
        let pods = self.ask(|reading| pods(reading, scope, &|_, pod| pod != "unwanted"));
        pods.iter().map(line).collect()
    }

    fn pods(&self) -> Vec<String> {
        self.pods_in(Scope::default())
    }

    fn nodes(&self) -> Vec<String> {
        let nodes = self.ask(nodes);
        let line = |n: &NodeUsage| {
            let milli = n.cpu_nano / 1_000_000;
            format!(
                "{} {} {} {milli}m {}",
                n.name,
                n.at.millis() / 1000 - NOW,
                n.window_ms,
                n.memory_bytes
            )
        };
        nodes.iter().map(line).collect()
    }
}

/// `namespace/name age window container=cpu,memory…`
fn line(pod: &PodUsage) -> String {
    let age = pod.at.millis() / 1000 - NOW;
    let mut line = format!("{}/{} {age} {}", pod.namespace, pod.name, pod.window_ms);
    for c in &pod.containers {
        line += &format!(" {}={}m,{}", c.name, c.cpu_nano / 1_000_000, c.memory_bytes);
    }
    line
}

#[test]
fn pods_come_sorted_with_their_containers_and_the_oldest_time() {
    let store = Store::default();
    store.container(RESOURCE, ("shop", "web-b", "web"), NOW - 4, 0.25, 1000.0);
    store.container(RESOURCE, ("shop", "web-a", "web"), NOW - 5, 0.5, 2000.0);
    store.container(RESOURCE, ("shop", "web-a", "exporter"), NOW - 9, 0.125, 10.0);
    store.container(RESOURCE, ("kube-system", "dns", "dns"), NOW - 1, 2.0, 5.0);
    store.container(RESOURCE, ("shop", "unwanted", "web"), NOW - 4, 0.25, 1000.0);
    let dns = "kube-system/dns -1 15000 dns=2000m,5";
    let web = [
        "shop/web-a -9 15000 exporter=125m,10 web=500m,2000",
        "shop/web-b -4 15000 web=250m,1000",
    ];
    assert_eq!(store.pods(), [dns, web[0], web[1]]);
    let named = |namespace, names| store.pods_in(Scope { namespace, names });
    assert_eq!(named(Some("shop"), None), web);
    assert_eq!(named(Some("shop"), Some(&["web-a"][..])), web[..1]);
    assert_eq!(named(None, Some(&["dns", "web-b", "gone"][..])), [dns, web[1]]);
    assert_eq!(named(Some("shop"), Some(&["dns"][..])), [""; 0]);
    assert_eq!(named(None, Some(&[][..])), [""; 0]);
    // What the index cannot look for by name is found by looking at all.
    assert_eq!(named(Some("shop"), Some(&["web-a", "a.b"][..])), web);
}

#[test]
fn a_container_that_two_jobs_tell_of_counts_once() {
    let store = Store::default();
    let other = [("job", "other"), ("node", "n1")];
    store.container(CADVISOR, ("shop", "web", "web"), NOW - 4, 1.0, 1000.0);
    store.container(RESOURCE, ("shop", "web", "web"), NOW - 9, 0.5, 900.0);
    store.container(&other, ("shop", "web", "web"), NOW - 19, 0.25, 800.0);
    assert_eq!(store.pods(), ["shop/web -9 15000 web=500m,900"]);
}

#[test]
fn cadvisor_fills_in_container_by_container() {
    let store = Store::default();
    store.container(CADVISOR, ("shop", "web", "web"), NOW - 4, 1.0, 1000.0);
    store.container(CADVISOR, ("shop", "web", "sidecar"), NOW - 4, 0.5, 500.0);
    store.container(RESOURCE, ("shop", "web", "sidecar"), NOW - 3, 0.25, 400.0);
    // The pod's cgroup, the pause container, one processor of several.
    store.container(CADVISOR, ("shop", "web", ""), NOW - 4, 9.0, 9000.0);
    store.container(CADVISOR, ("shop", "web", "POD"), NOW - 4, 9.0, 9000.0);
    let name = [
        ("namespace", "shop"),
        ("pod", "web"),
        ("container", "web"),
        ("cpu", "cpu00"),
    ];
    store.series(CPU, &[CADVISOR, &name], &[(NOW - 14, 1.0), (NOW - 2, 2.0)]);
    assert_eq!(store.pods(), ["shop/web -4 15000 sidecar=250m,400 web=1000m,1000"]);
}

#[test]
fn a_pod_of_which_a_part_is_not_known_is_left_out() {
    let whole = |store: &Store| {
        store.container(RESOURCE, ("shop", "web", "web"), NOW - 4, 0.5, 1000.0);
        store.container(RESOURCE, ("shop", "other", "web"), NOW - 4, 0.5, 1000.0);
    };
    let name = [("namespace", "shop"), ("pod", "web"), ("container", "new")];
    for (why, name_of, samples) in [
        ("one sample only", CPU, vec![(NOW - 4, 3.0)]),
        ("memory without cpu", MEMORY, vec![(NOW - 4, 3.0)]),
        ("cpu without memory", CPU, vec![(NOW - 19, 1.0), (NOW - 4, 3.0)]),
    ] {
        let store = Store::default();
        whole(&store);
        store.series(name_of, &[RESOURCE, &name], &samples);
        assert_eq!(store.pods(), ["shop/other -4 15000 web=500m,1000"], "{why}");
    }
}

#[test]
fn what_has_gone_does_not_stay_in_the_way() {
    let store = Store::default();
    store.container(RESOURCE, ("shop", "web", "web"), NOW - 4, 0.5, 1000.0);
    // Ended by markers; ended without one; the container before a restart, by another id.
    store.container(RESOURCE, ("shop", "web", "init"), NOW - 30, 0.5, 1000.0);
    let init = [("namespace", "shop"), ("pod", "web"), ("container", "init")];
    for name in [CPU, MEMORY, START] {
        store.series(name, &[RESOURCE, &init], &[(NOW - 15, f64::NAN)]);
    }
    store.container(RESOURCE, ("shop", "web", "slow-init"), NOW - 120, 0.5, 1000.0);
    // All of a pod, by markers and by time.
    store.container(RESOURCE, ("shop", "gone", "web"), NOW - 30, 0.5, 1000.0);
    let gone = [("namespace", "shop"), ("pod", "gone"), ("container", "web")];
    for name in [CPU, MEMORY, START] {
        store.series(name, &[RESOURCE, &gone], &[(NOW - 15, f64::NAN)]);
    }
    store.container(RESOURCE, ("shop", "old", "web"), NOW - 300, 0.5, 1000.0);
    assert_eq!(store.pods(), ["shop/web -4 15000 web=500m,1000"]);
}

#[test]
fn a_restarted_container_of_cadvisor_is_another_series() {
    let store = Store::default();
    let name = [("namespace", "shop"), ("pod", "web"), ("container", "web")];
    let new = [("job", "kubelet"), ("node", "n1"), ("id", "/kubepods/y")];
    store.container(CADVISOR, ("shop", "web", "web"), NOW - 30, 0.5, 1000.0);
    store.series(CPU, &[&new, &name, &[("cpu", "total")]], &[(NOW - 4, 1.2)]);
    store.series(MEMORY, &[&new, &name], &[(NOW - 4, 70.0)]);
    store.series(START, &[&new, &name], &[(NOW - 4, (NOW - 12) as f64)]);
    assert_eq!(store.pods(), [""; 0], "too fresh, and the old one does not stand in");
    store.series(CPU, &[&new, &name, &[("cpu", "total")]], &[(NOW - 1, 1.5)]);
    store.series(MEMORY, &[&new, &name], &[(NOW - 1, 80.0)]);
    store.series(START, &[&new, &name], &[(NOW - 1, (NOW - 12) as f64)]);
    assert_eq!(store.pods(), ["shop/web -1 11000 web=136m,80"]);
}

#[test]
fn nodes_are_named_by_the_label_or_the_target() {
    let store = Store::default();
    let node = |labels: &[(&str, &str)], cpu: f64| {
        store.series(
            "node_cpu_usage_seconds_total",
            &[labels],
            &[(NOW - 20, 10.0), (NOW - 5, 10.0 + cpu * 15.0)],
        );
        store.series("node_memory_working_set_bytes", &[labels], &[(NOW - 5, 4096.0)]);
    };
    node(&[("node", "b"), ("instance", "10.0.0.1:10250")], 1.5);
    node(&[("instance", "a.example:10250")], 0.5);
    node(&[("instance", "c")], 0.25);
    node(&[("job", "nameless")], 0.25);
    let root = [("id", "/"), ("node", "d")];
    store.series(CPU, &[&root, &[("cpu", "total")]], &[(NOW - 12, 1.0), (NOW - 2, 3.0)]);
    store.series(MEMORY, &[&root], &[(NOW - 2, 5.0)]);
    // cAdvisor's word on a node that the kubelet tells of as well.
    let root = [("id", "/"), ("node", "b")];
    store.series(CPU, &[&root, &[("cpu", "total")]], &[(NOW - 12, 1.0), (NOW - 2, 3.0)]);
    store.series(MEMORY, &[&root], &[(NOW - 2, 5.0)]);
    assert_eq!(
        store.nodes(),
        [
            "a.example -5 15000 500m 4096",
            "b -5 15000 1500m 4096",
            "c -5 15000 250m 4096",
            "d -2 10000 200m 5"
        ]
    );
    assert_eq!(store.pods(), [""; 0]);
}

#[test]
fn samples_of_later_times_are_not_seen() {
    let store = Store::default();
    store.container(RESOURCE, ("shop", "web", "web"), NOW, 0.5, 1000.0);
    let name = [("namespace", "shop"), ("pod", "web"), ("container", "web")];
    store.series(CPU, &[RESOURCE, &name], &[(NOW + 15, 300.0)]);
    store.series(MEMORY, &[RESOURCE, &name], &[(NOW + 15, 2000.0)]);
    assert_eq!(store.pods(), ["shop/web 0 15000 web=500m,1000"]);
}

#[test]
fn what_takes_too_much_memory_is_refused() {
    let store = Store::default();
    for pod in 0..10 {
        store.container(RESOURCE, ("shop", &format!("web-{pod}"), "web"), NOW, 0.5, 1000.0);
    }
    for (limit, fits) in [(4000, false), (40_000, true)] {
        let cx = ReadContext {
            meter: Meter::new("queries", limit),
            ..ReadContext::unlimited()
        };
        let told = store.ask_with(&cx, |reading| pods(reading, Scope::default(), &|_, _| true));
        assert_eq!(told.is_ok(), fits, "{told:?}");
        assert_eq!(cx.meter.used(), 0, "all is given back");
    }
}
