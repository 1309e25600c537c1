//! `deploy/rules/hpa.yml` beside the autoscaler's own arithmetic: the rules are evaluated over a made-up history as a rule
//! manager would, and what they propose is compared with the formula at each step.

use crate::process::peer;
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;
use tidegauge_model::testing::HandClock;
use tidegauge_model::{Appendable, Labels, LabelsBuilder, OnReject, Timestamp, stale_marker};
use tidegauge_query::{Engine, EngineOptions, ParseOptions, Query, Value};
use tidegauge_server::hpa::formula::{Reading, Request, Scale, Sight, Tolerance, propose};
use tidegauge_server::hpa::pods::{Phase, Pod, PodValue, Ready, Status};
use tidegauge_server::hpa::spec::{Metric, Source, Target};
use tidegauge_server::hpa::{Hpa, Settings, manifest};
use tidegauge_tsdb::{Db, Fsync, Options};

const BEGIN: i64 = 1_760_000_000_000;
const STEP: i64 = 15_000;
const STEPS: i64 = 360;
const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/rules/hpa.yml");

fn at(step: i64) -> Timestamp {
    Timestamp::from_millis(BEGIN + step * STEP)
}

/// The rules in their order: name, expression.
fn rules() -> Vec<(String, Query)> {
    let text = std::fs::read_to_string(FILE).expect("the rules");
    let file: Json = serde_yaml_ng::from_str(&text).expect("YAML");
    let groups = file["groups"].as_array().expect("groups").iter();
    let rules = groups.flat_map(|group| group["rules"].as_array().expect("rules"));
    let rules = rules.map(|rule| {
        let text = |key: &str| rule[key].as_str().expect("a text");
        let query = Query::parse(text("expr"), &ParseOptions::default()).expect("an expression");
        (text("record").to_owned(), query)
    });
    rules.collect()
}

/// What one autoscaler scales over time.
struct World {
    hpa: Hpa,
    /// The pods' owner, and what that belongs to.
    owner: (&'static str, &'static str),
    /// Thousandths that each pod requests.
    request: i64,
    /// Replicas, and the use of each in thousandths, by step; a pod without a use has no series.
    play: fn(i64) -> (i64, Vec<Option<i64>>),
}

fn hpa(name: &str, kind: &str, target: i32, min: i32, max: i32) -> Hpa {
    let text = format!(
        "{{apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, metadata: {{name: {name}, namespace: shop}}, spec: \
         {{scaleTargetRef: {{apiVersion: apps/v1, kind: {kind}, name: {name}}}, minReplicas: {min}, maxReplicas: {max}, \
         metrics: [{{type: Resource, resource: {{name: cpu, target: {{type: Utilization, averageUtilization: {target}}}}}}}]}}}}"
    );
    manifest::read(&text).expect("a manifest").remove(0)
}

fn worlds() -> Vec<World> {
    vec![
        // The load moves through the whole band, up and down, slowly and in jumps.
        World {
            hpa: hpa("web", "Deployment", 50, 2, 8),
            owner: ("ReplicaSet", "web-5d9c7"),
            request: 200,
            play: |step| {
                let replicas = 2 + step / 45;
                let used = |no: i64| Some((step * 7 + no * 31) % 190 + 1);
                (replicas, (0..replicas).map(used).collect())
            },
        },
        // A pod that has no use yet now and then: the one thing in which the rules know less.
        World {
            hpa: hpa("db", "StatefulSet", 80, 1, 5),
            owner: ("StatefulSet", "db"),
            request: 250,
            play: |step| {
                let used = |no: i64| (no < 2 || (step / 20) % 3 == 1).then_some((step * 3 + no * 11) % 400 + 10);
                (3, (0..3).map(used).collect())
            },
        },
        // Switched off.
        World {
            hpa: hpa("off", "Deployment", 50, 1, 5),
            owner: ("ReplicaSet", "off-1"),
            request: 100,
            play: |_| (0, Vec::new()),
        },
    ]
}

/// A row of one moment.
struct Moment<'a> {
    db: &'a Db,
    samples: Vec<(Labels, f64)>,
}

impl Moment<'_> {
    fn add(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        let labels = [&[("__name__", name)], labels].concat();
        let labels = Labels::from_pairs(labels.iter().copied()).expect("labels");
        self.samples.push((labels, value));
    }

    fn commit(self, at: Timestamp) {
        let mut appender = self.db.appender();
        for (labels, value) in self.samples {
            let series = appender.resolve(None, &labels).expect("a series");
            appender.append_at(series, at, value).expect("it is taken");
        }
        appender.commit(OnReject::Fail).expect("it is written");
    }
}

/// Cores that pods have used, since they began.
type Used = BTreeMap<String, f64>;

fn record(world: &World, step: i64, used: &mut Used, into: &mut Moment<'_>) {
    let (name, ns) = (world.hpa.name.as_str(), ("namespace", "shop"));
    let hpa = ("horizontalpodautoscaler", name);
    let (replicas, pods) = (world.play)(step);
    let target = [
        ("scaletargetref_api_version", "apps/v1"),
        ("scaletargetref_kind", world.hpa.target.kind.as_str()),
        ("scaletargetref_name", name),
    ];
    let instance = [("instance", "ksm:8080"), ("job", "kube-state-metrics")];
    let with = |more: &[(&'static str, &'static str)]| more.to_vec();
    let mut ksm = |metric: &str, labels: &[(&str, &str)], value: f64| {
        into.add(metric, &[&[ns], &instance[..], labels].concat(), value);
    };
    ksm(
        "kube_horizontalpodautoscaler_info",
        &[&[hpa], &target[..]].concat(),
        1.0,
    );
    let bounds = [("min", world.hpa.min_replicas), ("max", world.hpa.max_replicas)];
    for (which, bound) in bounds {
        ksm(
            &format!("kube_horizontalpodautoscaler_spec_{which}_replicas"),
            &[hpa],
            f64::from(bound),
        );
    }
    let Target::Utilization(percent) = world.hpa.metrics[0].target else {
        panic!("a utilization")
    };
    let of = with(&[("metric_name", "cpu"), ("metric_target_type", "utilization")]);
    ksm(
        "kube_horizontalpodautoscaler_spec_target_metric",
        &[&[hpa], &of[..]].concat(),
        f64::from(percent),
    );
    let (metric, label) = match world.hpa.target.kind.as_str() {
        "Deployment" => ("kube_deployment_spec_replicas", "deployment"),
        _ => ("kube_statefulset_replicas", "statefulset"),
    };
    ksm(metric, &[(label, name)], replicas as f64);
    let (owner_kind, owner_name) = world.owner;
    if owner_kind == "ReplicaSet" {
        let of = [
            ("replicaset", owner_name),
            ("owner_kind", "Deployment"),
            ("owner_name", name),
        ];
        ksm("kube_replicaset_owner", &of, 1.0);
    }
    for no in 0..pods.len() {
        let pod = format!("{owner_name}-{no}");
        let pod = ("pod", pod.as_str());
        ksm(
            "kube_pod_owner",
            &[pod, ("owner_kind", owner_kind), ("owner_name", owner_name)],
            1.0,
        );
        for (container, part) in [("app", world.request - 50), ("sidecar", 50)] {
            let of = [pod, ("container", container), ("resource", "cpu"), ("unit", "core")];
            ksm("kube_pod_container_resource_requests", &of, part as f64 / 1000.0);
        }
    }
    record_use(&pods, owner_name, used, into);
}

/// What the pods have used since they began, as cAdvisor and the kubelet both give it.
fn record_use(pods: &[Option<i64>], owner: &str, used: &mut Used, into: &mut Moment<'_>) {
    let ns = ("namespace", "shop");
    for (no, milli) in pods.iter().enumerate() {
        let pod = format!("{owner}-{no}");
        let pod = ("pod", pod.as_str());
        let Some(milli) = milli else { continue };
        let total = used.entry(pod.1.to_owned()).or_default();
        *total += *milli as f64 / 1000.0 * (STEP as f64 / 1000.0);
        let total = *total;
        for job in ["cadvisor", "resource"] {
            for (container, share) in [("app", 0.75), ("sidecar", 0.25)] {
                let of = [ns, pod, ("container", container), ("job", job)];
                into.add("container_cpu_usage_seconds_total", &of, total * share);
            }
        }
        // The pod's own cgroup is no container.
        into.add(
            "container_cpu_usage_seconds_total",
            &[ns, pod, ("container", ""), ("job", "cadvisor")],
            total,
        );
    }
}

/// The series that each rule gave at the moment before.
type Given = BTreeMap<String, Vec<Labels>>;

/// Evaluates the rules at one moment, each after those before it, and keeps what they give; what they do not give any more
/// ends, as a rule manager has it.
fn evaluate(
    db: &Db,
    engine: &Engine,
    rules: &[(String, Query)],
    now: Timestamp,
    before: &mut Given,
) -> BTreeMap<String, f64> {
    let mut told = BTreeMap::new();
    for (record, query) in rules {
        let output = engine
            .instant(db, query, now)
            .unwrap_or_else(|error| panic!("{record}: {error}"));
        let Value::Vector(samples) = output.value else {
            panic!("{record} is no vector")
        };
        let mut moment = Moment {
            db,
            samples: Vec::new(),
        };
        for sample in samples {
            let labels = LabelsBuilder::from_labels(&sample.labels)
                .set("__name__", record)
                .build();
            let key = format!(
                "{record} {} {}",
                labels.value("horizontalpodautoscaler"),
                labels.value("pod")
            );
            assert_eq!(
                told.insert(key.trim_end().to_owned(), sample.value),
                None,
                "{record} {labels:?}"
            );
            moment.samples.push((labels, sample.value));
        }
        let given: Vec<Labels> = moment.samples.iter().map(|(labels, _)| labels.clone()).collect();
        for gone in before.insert(record.clone(), given.clone()).unwrap_or_default() {
            if !given.contains(&gone) {
                moment.samples.push((gone, stale_marker()));
            }
        }
        moment.commit(now);
    }
    told
}

/// What the formula says of the pods of which the rules know the use, and of all.
fn formula(
    world: &World,
    told: &BTreeMap<String, f64>,
    now: Timestamp,
    replicas: i64,
    pods: usize,
) -> [Option<i32>; 2] {
    let metric = Metric {
        source: Source::Resource { name: "cpu".to_owned() },
        target: world.hpa.metrics[0].target,
    };
    let names = (0..pods).map(|no| format!("{}-{no}", world.owner.1));
    let used: Vec<(String, Option<i64>)> = names
        .map(|name| {
            let milli = told.get(&format!("namespace_pod:container_cpu_usage_millicores:sum  {name}"));
            (name, milli.map(|milli| *milli as i64))
        })
        .collect();
    let propose = |used: Vec<&(String, Option<i64>)>| {
        let pods: Vec<Pod> = used.iter().map(|(name, _)| pod(name, now)).collect();
        let values: Vec<Option<PodValue>> = used
            .iter()
            .map(|(_, milli)| {
                milli.map(|milli| PodValue {
                    milli,
                    at: now,
                    window_ms: STEP,
                })
            })
            .collect();
        let requests = vec![Request::Milli(world.request); used.len()];
        let settings = Settings::default();
        let replicas = i32::try_from(replicas).expect("few");
        let sight = Sight {
            now,
            scale: Scale {
                spec: replicas,
                status: replicas,
            },
            pods: &pods,
            tolerance: Tolerance::of(&world.hpa, &settings),
            settings: &settings,
            namespace: "shop",
        };
        let reading = Reading::Pods {
            values: &values,
            strangers: &[],
            requests: &requests,
        };
        propose(&metric, reading, &sight).outcome.ok()
    };
    let known = used.iter().filter(|(_, milli)| milli.is_some()).collect();
    [propose(known), propose(used.iter().collect())]
}

fn pod(name: &str, now: Timestamp) -> Pod {
    Pod {
        name: name.into(),
        phase: Phase::Running,
        deleting: false,
        started: Some(now.saturating_sub(3_600_000)),
        ready: Some(Ready {
            status: Status::True,
            since: now.saturating_sub(3_590_000),
        }),
    }
}

#[test]
fn the_rules_propose_what_the_formula_proposes() {
    let dir = tempfile::tempdir().expect("a folder");
    let clock = Arc::new(HandClock::at(at(STEPS)));
    let options = Options {
        fsync: Fsync::Never,
        retention_ms: 0,
        maintenance: None,
        ..Options::default()
    };
    let db = Db::open(dir.path(), options, clock).expect("a fresh store opens");
    let engine = Engine::new(EngineOptions::default());
    let (rules, worlds) = (rules(), worlds());
    let (mut used, mut before) = (Used::new(), Given::new());
    let (mut compared, mut clamped, mut less_known, mut within) = (0, 0, 0, 0);
    for step in 0..STEPS {
        let mut moment = Moment {
            db: &db,
            samples: Vec::new(),
        };
        for world in &worlds {
            record(world, step, &mut used, &mut moment);
        }
        moment.commit(at(step));
        let told = evaluate(&db, &engine, &rules, at(step), &mut before);
        for world in &worlds {
            let (replicas, pods) = (world.play)(step);
            let of = |rule: &str| {
                let value = told.get(&format!("namespace_horizontalpodautoscaler:{rule} {}", world.hpa.name));
                value.map(|value| *value as i32)
            };
            let (proposed, desired) = (of("hpa_replicas:proposed"), of("hpa_replicas:desired"));
            if replicas == 0 {
                assert_eq!((proposed, desired), (None, None), "step {step}");
                continue;
            }
            let [known, all] = formula(world, &told, at(step), replicas, pods.len());
            assert_eq!(proposed, known, "step {step} of {}: {told:#?}", world.hpa.name);
            let Some(proposed) = proposed else { continue };
            let bounded = proposed.clamp(world.hpa.min_replicas, world.hpa.max_replicas);
            assert_eq!(desired, Some(bounded), "step {step} of {}", world.hpa.name);
            compared += 1;
            clamped += usize::from(bounded != proposed);
            within += usize::from(i64::from(proposed) == replicas);
            // Where a pod is not measured the controller assumes something, and the rules do not.
            let all_measured = of("hpa_cpu_pods:count") == i32::try_from(pods.len()).ok();
            assert!(
                all == Some(proposed) || !all_measured,
                "step {step} of {}",
                world.hpa.name
            );
            less_known += usize::from(all != Some(proposed));
        }
    }
    println!("{compared} compared, {within} in the band, {clamped} clamped, {less_known} where pods are not measured");
    assert!(compared > 600 && within > 50 && clamped > 30 && less_known > 10);
    db.close().expect("it closes");
}

#[test]
#[ignore = "needs promtool in the folder that TIDEGAUGE_PEERS names"]
fn promtool_takes_the_rules() {
    let checked = Command::new(peer("promtool"))
        .args(["check", "rules", FILE])
        .output()
        .expect("promtool runs");
    let said = String::from_utf8_lossy(&checked.stdout).into_owned() + &String::from_utf8_lossy(&checked.stderr);
    assert!(checked.status.success() && said.contains("12 rules found"), "{said}");
}
