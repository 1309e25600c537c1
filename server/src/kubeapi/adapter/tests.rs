use super::asking::{Answer, ExternalAnswer, Problem};
use super::*;
use crate::kubeapi::Selector;
use tidegauge_model::Timestamp;
use tidegauge_model::testing::{HandClock, MemoryStore};
use tidegauge_query::EngineOptions;

/// A time that rates end at.
const NOW_MS: i64 = 1_772_438_441_500;

/// Rules over a store in memory.
struct Bench {
    store: Arc<MemoryStore>,
    clock: Arc<HandClock>,
    adapter: Arc<Adapter>,
    dir: tempfile::TempDir,
}

impl Bench {
    fn new(rules: &str) -> Self {
        Self::with(Some(rules), HpaMetrics::default())
    }

    fn own(text: &str) -> Self {
        Self::with(None, HpaMetrics::parse(text).unwrap())
    }

    fn with(rules: Option<&str>, own: HpaMetrics) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(MemoryStore::new());
        let clock = Arc::new(HandClock::at(Timestamp::from_millis(NOW_MS)));
        let file = rules.map(|rules| {
            let file = dir.path().join("rules.yaml");
            std::fs::write(&file, rules).unwrap();
            file
        });
        let engine = Arc::new(Engine::new(EngineOptions::default()));
        let adapter = Adapter::open(store.clone(), engine, clock.clone(), file, own).unwrap();
        Self {
            store,
            clock,
            adapter,
            dir,
        }
    }

    /// A series that grows by so much a second; one that stands at `level` where it does not grow. Its samples are where a
    /// rate over two minutes is exact.
    fn grows(&self, series: &str, level: f64, per_second: f64) {
        let labels = tidegauge_query::parser::parse_metric(series, &ParseOptions::default()).unwrap();
        for i in 0..=10 {
            let at = NOW_MS - 30_000 - (10 - i) * 60_000;
            let value = level + per_second * 60.0 * i as f64;
            self.store.insert(&labels, Timestamp::from_millis(at), value);
        }
    }

    fn is(&self, series: &str, value: f64) {
        self.grows(series, value, 0.0);
    }

    async fn custom(&self, namespace: &str, kind: &str, metric: &str, names: &[&str]) -> Result<Answer, Problem> {
        self.selected(namespace, kind, metric, names, "").await
    }

    async fn selected(
        &self,
        namespace: &str,
        kind: &str,
        metric: &str,
        names: &[&str],
        selector: &str,
    ) -> Result<Answer, Problem> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let resources = self.adapter.resources();
        let kind = resources.find_qualified(kind).unwrap();
        let namespace = Some(namespace).filter(|namespace| !namespace.is_empty());
        let selector = Selector::parse(selector).unwrap();
        self.adapter
            .custom(None, kind, metric, namespace, &names, &selector)
            .await
    }

    async fn external(&self, namespace: &str, metric: &str, selector: &str) -> Result<ExternalAnswer, Problem> {
        let selector = Selector::parse(selector).unwrap();
        self.adapter.external(None, metric, namespace, &selector).await
    }

    async fn report(&self) -> serde_json::Value {
        self.adapter.report().await
    }
}

fn values(answer: &Result<Answer, Problem>) -> Vec<(&str, i64)> {
    let answer = answer.as_ref().unwrap();
    answer
        .values
        .iter()
        .map(|(name, milli)| (name.as_str(), *milli))
        .collect()
}

const RULES: &str = include_str!("../../../../testdata/adapter/rules.yaml");

#[tokio::test]
async fn rules_make_metrics_of_objects() {
    let bench = Bench::new(RULES);
    bench.grows(
        r#"http_requests_total{namespace="shop",pod="web-1",service="web",code="200"}"#,
        0.0,
        12.0,
    );
    bench.grows(
        r#"http_requests_total{namespace="shop",pod="web-1",service="web",code="500"}"#,
        0.0,
        0.5,
    );
    bench.grows(
        r#"http_requests_total{namespace="shop",pod="web-2",service="web",code="200"}"#,
        0.0,
        11.0,
    );
    bench.grows(
        r#"http_requests_total{namespace="other",pod="web-1",service="web",code="200"}"#,
        0.0,
        99.0,
    );
    bench.is(r#"queue_depth{namespace="shop",kube_apps_deployment="worker"}"#, 7.0);
    let known = bench.adapter.all(None).await;
    let names: Vec<String> = known
        .custom
        .keys()
        .map(|(kind, name)| format!("{kind}/{name}"))
        .collect();
    assert_eq!(
        names,
        [
            "deployments.apps/queue_depth",
            "namespaces/http_requests_per_second",
            "namespaces/queue_depth",
            "pods/http_requests_per_second",
            "services/http_requests_per_second",
        ]
    );

    let metric = "http_requests_per_second";
    let pods = bench.custom("shop", "pods", metric, &["web-1", "web-2", "gone"]).await;
    assert_eq!(values(&pods), [("web-1", 12_500), ("web-2", 11_000)]);
    assert_eq!(
        &*pods.unwrap().query,
        r#"sum(rate(http_requests_total{namespace="shop",pod=~"web-1|web-2|gone"}[2m])) by (pod)"#
    );
    let service = bench.custom("shop", "services", metric, &["web"]).await;
    assert_eq!(values(&service), [("web", 23_500)]);
    let namespace = bench.custom("", "namespaces", metric, &["shop"]).await;
    assert_eq!(values(&namespace), [("shop", 23_500)]);
    let failing = bench
        .selected("shop", "pods", metric, &["web-1", "web-2"], "code=500")
        .await;
    assert_eq!(values(&failing), [("web-1", 500)]);
    let worker = bench
        .custom("shop", "deployments.apps", "queue_depth", &["worker"])
        .await;
    assert_eq!(values(&worker), [("worker", 7000)]);
    assert_eq!(worker.unwrap().at.millis(), NOW_MS);

    for (kind, metric, names) in [
        ("pods", "http_requests", &["web-1"][..]),
        ("nodes", metric, &["web-1"]),
        ("pods", metric, &[]),
    ] {
        let answer = bench.custom("shop", kind, metric, names).await;
        assert_eq!(answer, Err(Problem::Unknown), "{kind} {metric}");
    }
    let larger = bench.selected("shop", "pods", metric, &["web-1"], "code>4").await;
    assert!(matches!(larger, Err(Problem::Failed(why)) if why.contains("whether code is larger")));
}

#[tokio::test]
async fn rules_make_external_metrics() {
    let bench = Bench::new(RULES);
    bench.is(
        r#"rabbitmq_queue_messages{namespace="shop",queue="shipping-task"}"#,
        120.0,
    );
    bench.is(
        r#"rabbitmq_queue_messages{namespace="shop",queue="shipping-retry"}"#,
        30.5,
    );
    bench.is(
        r#"rabbitmq_queue_messages{namespace="other",queue="shipping-task"}"#,
        9.0,
    );
    bench.is("licences_left", 3.0);
    let told = |answer: &ExternalAnswer| {
        let rows = answer.rows.iter().map(|row| format!("{:?} {}", row.labels, row.milli));
        rows.collect::<std::collections::BTreeSet<String>>()
            .into_iter()
            .collect::<Vec<_>>()
    };
    let metric = "rabbitmq_queue_messages";
    let all = bench.external("shop", metric, "").await.unwrap();
    assert_eq!(
        told(&all),
        [
            r#"[("queue", "shipping-retry")] 30500"#,
            r#"[("queue", "shipping-task")] 120000"#,
        ]
    );
    let one = bench.external("shop", metric, "queue=shipping-task").await.unwrap();
    assert_eq!(told(&one), [r#"[("queue", "shipping-task")] 120000"#]);
    assert_eq!(
        &*one.query,
        r#"sum(rabbitmq_queue_messages{queue="shipping-task",namespace="shop"}) by (queue)"#
    );
    assert!(bench.external("empty", metric, "").await.unwrap().rows.is_empty());
    let licences = bench.external("shop", "licences", "").await.unwrap();
    assert_eq!(told(&licences), [r#"[("__name__", "licences_left")] 3000"#]);
    assert_eq!(bench.external("shop", "licences_left", "").await, Err(Problem::Unknown));

    bench.is("licences_left", f64::NAN);
    let answer = bench.external("shop", "licences", "").await;
    assert!(matches!(answer, Err(Problem::Failed(why)) if why.contains("is NaN")));
}

#[tokio::test]
async fn a_query_of_ours_needs_no_series() {
    let bench = Bench::own(
        "hpa_metrics:
        - {name: rps, object: pod, window: 2m, query: 'sum by (namespace, pod) (rate(hits_total[2m]))'}
        - {name: load, object: node, query: 'max by (node) (node_load1)'}
        - {name: cpu_of_app, object: app, resource: deployment, query: 'sum(cpu{<<.LabelMatchers>>}) by (<<.GroupBy>>)'}
        - {name: lag, query: 'max by (topic, namespace) (lag)', namespace: namespace}
        - {name: answer, query: '42'}",
    );
    bench.grows(r#"hits_total{namespace="shop",pod="a"}"#, 0.0, 2.0);
    bench.grows(r#"hits_total{namespace="other",pod="a"}"#, 0.0, 9.0);
    bench.is(r#"node_load1{node="n1"}"#, 1.25);
    bench.is(r#"cpu{namespace="shop",app="web"}"#, 0.194);
    bench.is(r#"lag{namespace="shop",topic="t"}"#, 5.0);
    bench.is(r#"lag{namespace="other",topic="t"}"#, 6.0);
    let pods = bench.custom("shop", "pods", "rps", &["a", "b"]).await;
    assert_eq!(values(&pods), [("a", 2000)]);
    assert_eq!(pods.unwrap().window_ms, Some(120_000));
    assert_eq!(
        values(&bench.custom("", "nodes", "load", &["n1", "n2"]).await),
        [("n1", 1250)]
    );
    let app = bench.custom("shop", "deployments.apps", "cpu_of_app", &["web"]).await;
    assert_eq!(values(&app), [("web", 194)]);
    let lag = bench.external("shop", "lag", "topic=t").await.unwrap();
    assert_eq!(lag.rows.iter().map(|row| row.milli).collect::<Vec<_>>(), [5000]);
    assert!(bench.external("shop", "lag", "topic=u").await.unwrap().rows.is_empty());
    let answer = bench.external("anywhere", "answer", "").await.unwrap();
    assert_eq!((answer.rows[0].milli, answer.rows[0].labels.len()), (42_000, 0));
    assert_eq!(bench.adapter.all(None).await.custom.len(), 3);
}

#[tokio::test]
async fn what_is_not_one_number_is_none() {
    let bench = Bench::new(
        r#"
rules:
- seriesQuery: many{pod!=""}
  resources: &resources {overrides: {namespace: {resource: namespace}, pod: {resource: pod}}}
  metricsQuery: <<.Series>>{<<.LabelMatchers>>}
- seriesQuery: lost{pod!=""}
  resources: *resources
  metricsQuery: sum(<<.Series>>{<<.LabelMatchers>>})
- seriesQuery: odd{pod!=""}
  resources: *resources
  metricsQuery: <<.Series>>{<<.LabelMatchers>>} / 0
- seriesQuery: broken{pod!=""}
  resources: *resources
  metricsQuery: sum(<<.Series>>{<<.LabelMatchers>>}
- seriesQuery: text{pod!=""}
  resources: *resources
  metricsQuery: '"x"'
- seriesQuery: nowhere{pod!=""}
  resources: {overrides: {pod: {resource: pod}}}
  metricsQuery: <<.Series>>{<<.LabelMatchers>>}
"#,
    );
    for series in ["many", "lost", "odd", "broken", "text", "nowhere"] {
        bench.is(&format!(r#"{series}{{namespace="shop",pod="a",x="1"}}"#), 1.0);
    }
    bench.is(r#"many{namespace="shop",pod="a",x="2"}"#, 2.0);
    bench.is(r#"odd{namespace="shop",pod="b"}"#, 0.0);
    for (metric, failed, words) in [
        ("many", true, "the query gives several series for pod \"a\""),
        ("lost", false, "none of the results matched the resource name"),
        ("odd", false, "which is no quantity"),
        ("broken", true, "parse error"),
        ("text", true, "the query gives a string, not a vector"),
        ("nowhere", true, "no label of the rule stands for namespaces"),
    ] {
        let answer = bench.custom("shop", "pods", metric, &["a", "b"]).await;
        match &answer {
            Ok(answer) => assert!(!failed && answer.values.is_empty(), "{metric}: {answer:?}"),
            Err(Problem::Failed(why)) => assert!(failed && why.contains(words), "{metric}: {why}"),
            Err(Problem::Unknown) => panic!("{metric} is not known"),
        }
        let report = bench.report().await;
        let rules = report["rules"].as_array().unwrap();
        let metrics = rules.iter().flat_map(|rule| rule["metrics"].as_array().unwrap());
        let mut metrics = metrics.filter(|one| one["name"] == metric && one["resource"] == "pods");
        let told = metrics.next().unwrap()["lastFailure"]["problem"].to_string();
        assert!(told.replace("\\\"", "\"").contains(words), "{metric}: {told}");
    }
    // Narrowed to one series it is one number.
    let one = bench.selected("shop", "pods", "many", &["a"], "x=2").await;
    assert_eq!(values(&one), [("a", 2000)]);
    assert_eq!(
        bench.report().await["rules"][3]["problems"][0]
            .as_str()
            .unwrap()
            .split(": ")
            .next(),
        Some("metricsQuery")
    );
}

#[tokio::test]
async fn it_is_told_why_a_metric_is_not_there() {
    let bench = Bench::new(
        r#"
rules:
- seriesQuery: absent{pod!=""}
  resources: {overrides: {namespace: {resource: namespace}, pod: {resource: pod}}}
  metricsQuery: <<.Series>>{<<.LabelMatchers>>}
- seriesQuery: '{__name__=~"^a_.*"}'
  seriesFilters: [{isNot: _sum$}]
  name: {matches: "^a_(.*)_total$"}
  resources: {overrides: {pod: {resource: pod}, brand: {group: cheese.io, resource: brand}}}
  metricsQuery: <<.Series>>{<<.LabelMatchers>>}
- seriesQuery: '{__name__=~"^a_.*"}'
  metricsQuery: <<.Series>>{<<.LabelMatchers>>}
- seriesQuery: a_x_total
  name: {as: x}
  resources: {overrides: {pod: {resource: pod}}}
  metricsQuery: <<.Series>>{<<.LabelMatchers>>}
resourceRules: {window: 1m}
"#,
    );
    bench.is(r#"a_x_total{pod="a",job="j"}"#, 1.0);
    bench.is(r#"a_y_sum{pod="a"}"#, 1.0);
    bench.is(r#"a_z_total{job="j"}"#, 1.0);
    let report = bench.report().await;
    let rule = |no: usize| &report["rules"][no];
    let problems = |no: usize| rule(no)["problems"].to_string();
    assert!(problems(0).contains("no series matches absent"), "{report:#}");
    assert!(problems(1).contains("no kind brand.cheese.io"), "{report:#}");
    assert!(problems(1).contains("series a_z_total has no label that names an object"));
    assert_eq!(rule(1)["seriesLeftOut"].to_string(), r#"["a_y_sum"]"#);
    assert_eq!(rule(1)["labels"].to_string(), r#"{"pod":"pods"}"#);
    assert_eq!(rule(1)["otherLabels"].to_string(), r#"["job"]"#);
    assert_eq!(
        (rule(1)["seriesFound"].as_u64(), rule(1)["line"].as_u64()),
        (Some(3), Some(6))
    );
    assert!(problems(2).contains("`resources` says of no label"));
    assert!(problems(3).contains("pods/x is also made of series a_x_total by the rule before"));
    assert_eq!(rule(1)["metrics"][0]["shadowed"], true);
    assert!(
        report["notes"][0]
            .as_str()
            .unwrap()
            .contains("resourceRules have no effect")
    );
    assert_eq!(report["metrics"], 1);
}

#[tokio::test]
async fn a_metric_is_there_once_its_series_is_and_stays() {
    let bench = Bench::new(RULES);
    let metric = "http_requests_per_second";
    assert_eq!(
        bench.custom("shop", "pods", metric, &["a"]).await,
        Err(Problem::Unknown)
    );
    bench.grows(r#"http_requests_total{namespace="shop",pod="a"}"#, 0.0, 1.0);
    // A look takes its time to be due again.
    bench.adapter.looked.lock().await.at = None;
    assert_eq!(
        values(&bench.custom("shop", "pods", metric, &["a"]).await),
        [("a", 1000)]
    );

    // Long after the series ended there is no value, but the metric.
    bench.clock.advance(48 * 3600 * 1000);
    bench.adapter.looked.lock().await.at = None;
    assert!(values(&bench.custom("shop", "pods", metric, &["a"]).await).is_empty());
    assert_eq!(bench.adapter.all(None).await.custom.len(), 2);

    // A rule that is not there any more takes its metrics along; one that only moved does not.
    let file = bench.dir.path().join("rules.yaml");
    std::fs::write(&file, format!("# moved\n{RULES}")).unwrap();
    bench.adapter.take(bench.adapter.load(HpaMetrics::default()).unwrap());
    assert!(values(&bench.custom("shop", "pods", metric, &["a"]).await).is_empty());
    std::fs::write(&file, "rules: []").unwrap();
    bench.adapter.take(bench.adapter.load(HpaMetrics::default()).unwrap());
    assert_eq!(
        bench.custom("shop", "pods", metric, &["a"]).await,
        Err(Problem::Unknown)
    );
}

#[tokio::test]
async fn a_changed_file_is_taken_and_a_bad_one_is_not() {
    let bench = Bench::new(RULES);
    let rules = |bench: &Bench| bench.adapter.in_force.read().all.len();
    assert_eq!(rules(&bench), 4);
    let file = bench.dir.path().join("rules.yaml");
    let look = async || {
        bench.adapter.loading.lock().looked = None;
        bench.adapter.look_at_file().await;
    };
    std::fs::write(&file, "rules:\n- seriesQuery: up\n  metricsQuery: up\n").unwrap();
    look().await;
    assert_eq!(rules(&bench), 1);
    std::fs::write(&file, "rules:\n- seriesQuery: up\n  metricQuery: up\n").unwrap();
    look().await;
    assert_eq!(rules(&bench), 1);
    let report = bench.report().await;
    let problem = report["source"]["problem"].as_str().unwrap();
    assert!(problem.contains("rules.yaml:3:3: rules[0].metricQuery"), "{problem}");
    let listed = bench.adapter.list();
    let listed = listed.iter().find(|one| one.0.ends_with("reload_successful")).unwrap();
    assert_eq!(listed.3[0].1, 0.0);
    std::fs::write(&file, RULES).unwrap();
    look().await;
    assert_eq!(
        (rules(&bench), bench.report().await["source"]["problem"].is_null()),
        (4, true)
    );
}

#[tokio::test]
async fn several_labels_for_one_kind_are_told_apart_by_the_series() {
    let bench = Bench::new(
        r#"
rules:
- seriesQuery: '{__name__=~"old|new"}'
  resources: {overrides: {namespace: {resource: namespace}, pod_name: {resource: pod}, pod: {resource: pod}}}
  metricsQuery: sum(<<.Series>>{<<.LabelMatchers>>}) by (<<.GroupBy>>)
"#,
    );
    bench.is(r#"old{namespace="shop",pod_name="a"}"#, 1.0);
    bench.is(r#"new{namespace="shop",pod="a"}"#, 2.0);
    for (metric, milli) in [("old", 1000), ("new", 2000)] {
        assert_eq!(
            values(&bench.custom("shop", "pods", metric, &["a"]).await),
            [("a", milli)]
        );
    }
}
