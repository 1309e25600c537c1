//! The autoscaler's arithmetic against recorded and published cases, which lie in the shared folder.

use serde_json::Value;
use std::path::PathBuf;
use tidegauge_model::Timestamp;
use tidegauge_server::hpa::behavior::{self, Changes, Recorded, Wish};
use tidegauge_server::hpa::formula::{Reading, Request, Scale, Sight, Tolerance, propose};
use tidegauge_server::hpa::pods::{Phase, Pod, PodValue, Ready, Status};
use tidegauge_server::hpa::quantity::{Format, Quantity};
use tidegauge_server::hpa::spec::{Metric, MetricId, ObjectRef, Source, Target};
use tidegauge_server::hpa::{History, Hpa, Path, Settings, Situation, decide, manifest};

const NOW: Timestamp = Timestamp::from_millis(1_760_000_000_000);

pub(crate) fn shared(path: &str) -> String {
    let folder = std::env::var("TIDEGAUGE_SHARED").expect("TIDEGAUGE_SHARED names the folder of shared data");
    let path = PathBuf::from(folder).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn ago(value: &Value) -> Timestamp {
    NOW.saturating_sub(value.as_i64().unwrap_or(0) * 1000)
}

fn int(value: &Value) -> i32 {
    i32::try_from(value.as_i64().unwrap()).unwrap()
}

fn list<T>(value: &Value, read: impl Fn(&Value) -> T) -> Vec<T> {
    value.as_array().into_iter().flatten().map(read).collect()
}

fn pod(value: &Value) -> Pod {
    Pod {
        name: value["name"].as_str().unwrap().into(),
        phase: match value["phase"].as_str() {
            Some("Pending") => Phase::Pending,
            Some("Failed") => Phase::Failed,
            None | Some("Running") => Phase::Running,
            Some(other) => panic!("phase {other}"),
        },
        deleting: value["deleting"].as_bool().unwrap_or(false),
        started: Some(ago(&value["startedSecondsAgo"])),
        ready: Some(Ready {
            status: if value["ready"].as_bool().unwrap_or(true) {
                Status::True
            } else {
                Status::False
            },
            since: ago(&value["readyTransitionSecondsAgo"]),
        }),
    }
}

fn metric(vector: &Value) -> Metric {
    let name = || vector["resource"].as_str().unwrap().to_owned();
    let id = || MetricId {
        name: "m".to_owned(),
        selector: None,
    };
    let source = match vector["type"].as_str().unwrap() {
        "Resource" => Source::Resource { name: name() },
        "ContainerResource" => Source::ContainerResource {
            name: name(),
            container: "c".to_owned(),
        },
        "Pods" => Source::Pods { metric: id() },
        "External" => Source::External { metric: id() },
        "Object" => Source::Object {
            metric: id(),
            object: ObjectRef {
                api_version: String::new(),
                kind: "Ingress".to_owned(),
                name: "i".to_owned(),
            },
        },
        other => panic!("type {other}"),
    };
    let target = &vector["target"];
    let milli = |key: &str| Quantity::from_milli(target[key].as_i64().unwrap(), Format::Decimal);
    let target = match target["type"].as_str().unwrap() {
        "Utilization" => Target::Utilization(int(&target["averageUtilization"])),
        "AverageValue" => Target::AverageValue(milli("averageValueMilli")),
        "Value" => Target::Value(milli("valueMilli")),
        other => panic!("target {other}"),
    };
    Metric { source, target }
}

/// One metric -> proposal and what the status shows.
fn check_proposal(vector: &Value) -> Result<(), String> {
    let seconds = |key: &str, default: i64| vector[key].as_i64().map_or(default, |s| s * 1000);
    let defaults = Settings::default();
    let settings = Settings {
        cpu_initialization_ms: seconds("cpuInitializationPeriodSeconds", defaults.cpu_initialization_ms),
        initial_readiness_ms: seconds("initialReadinessDelaySeconds", defaults.initial_readiness_ms),
        ..defaults
    };
    let mut pods = list(&vector["pods"], pod);
    for no in 0..vector["readyPods"].as_u64().unwrap_or(0) {
        pods.push(pod(&serde_json::json!({"name": format!("ready-{no}")})));
    }
    let values = list(&vector["pods"], |one| {
        one["valueMilli"].as_i64().map(|milli| PodValue {
            milli,
            at: ago(&one["metricSecondsAgo"]),
            window_ms: one["windowSeconds"].as_i64().unwrap_or(60) * 1000,
        })
    });
    let requests = list(&vector["pods"], |one| match one["requestMilli"].as_i64() {
        Some(milli) => Request::Milli(milli),
        None => Request::NoContainerRequest("c".into()),
    });
    let strangers: Vec<i64> = vector["metricsOfUnknownPods"]
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(_, value)| value.as_i64())
        .collect();
    let totals = list(&vector["values"], |value| value.as_i64().unwrap());
    let metric = metric(vector);
    let reading = match metric.source {
        Source::Object { .. } | Source::External { .. } => Reading::Values(&totals),
        _ => Reading::Pods {
            values: &values,
            strangers: &strangers,
            requests: &requests,
        },
    };
    let current = int(&vector["currentReplicas"]);
    let sight = Sight {
        now: NOW,
        scale: Scale {
            spec: current,
            status: current,
        },
        pods: &pods,
        tolerance: Tolerance {
            down: vector["tolerance"]["scaleDown"].as_f64().unwrap(),
            up: vector["tolerance"]["scaleUp"].as_f64().unwrap(),
        },
        settings: &settings,
        namespace: "default",
    };
    let got = propose(&metric, reading, &sight);
    let expected = &vector["expected"];
    let right = match (&got.outcome, expected["error"].as_str()) {
        (Err(error), Some(text)) => error.to_string().contains(text),
        (Ok(replicas), None) => {
            let shown = got.current.value_milli.or(got.current.average_milli);
            *replicas == int(&expected["replicas"])
                && got.current.utilization.map(i64::from) == expected["utilization"].as_i64()
                && expected["averageValueMilli"]
                    .as_i64()
                    .is_none_or(|v| got.current.average_milli == Some(v))
                && expected["usageMilli"].as_i64().is_none_or(|v| shown == Some(v))
        }
        _ => false,
    };
    if right {
        Ok(())
    } else {
        Err(format!("{:?} {:?} {:?}", got.outcome, got.current, got.trace))
    }
}

/// An autoscaler with a behaviour, and a metric that asks for whatever it is told to, in a world without tolerance.
fn told(vector: &Value, metrics: usize) -> Hpa {
    let external = serde_json::json!({"type": "External", "external": {
        "metric": {"name": "m"}, "target": {"type": "AverageValue", "averageValue": "1"}}});
    let mut spec = serde_json::json!({
        "scaleTargetRef": {"kind": "Deployment", "name": "d"},
        "minReplicas": vector.get("minReplicas").unwrap_or(&serde_json::json!(0)),
        "maxReplicas": vector.get("maxReplicas").unwrap_or(&serde_json::json!(100_000)),
        "metrics": vec![external; metrics],
    });
    if !vector["behavior"].is_null() {
        spec["behavior"] = vector["behavior"].clone();
    }
    let object = serde_json::json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "h"}, "spec": spec});
    manifest::read(&object.to_string()).unwrap().remove(0)
}

fn recorded(value: &Value, key: &str) -> Vec<Recorded> {
    list(value, |one| Recorded {
        at: ago(&one["secondsAgo"]),
        replicas: int(&one[key]),
    })
}

fn check_step(vector: &Value) -> Result<(), String> {
    let hpa = told(vector, 1);
    let wish = Wish {
        current: vector["currentReplicas"]
            .as_i64()
            .map_or(0, |v| i32::try_from(v).unwrap()),
        desired: int(&vector["desiredReplicas"]),
        min: hpa.min_replicas,
        max: hpa.max_replicas,
    };
    let settings = Settings::default();
    let (added, removed) = (
        recorded(&vector["scaleUpEvents"], "change"),
        recorded(&vector["scaleDownEvents"], "change"),
    );
    let changes = Changes {
        added: &added,
        removed: &removed,
    };
    let recommended = recorded(&vector["recommendations"], "replicas");
    let (replicas, reason) = match (vector["stage"].as_str().unwrap(), &hpa.behavior) {
        ("stabilize", None) => {
            let got = behavior::stabilize_by_default(wish.desired, &recommended, NOW, &settings);
            (got.replicas, None)
        }
        ("stabilize", Some(rules)) => {
            let got = behavior::stabilize(wish.current, wish.desired, rules, &recommended, NOW, &settings);
            (got.replicas, None)
        }
        (_, None) => {
            let got = behavior::limit_by_default(wish);
            (got.replicas, Some(got.by.reason()))
        }
        (_, Some(rules)) => {
            let got = behavior::limit(wish, rules, changes, NOW);
            (got.replicas, Some(got.by.reason()))
        }
    };
    let expected = &vector["expected"];
    if replicas == int(&expected["replicas"]) && reason == expected["reason"].as_str() {
        Ok(())
    } else {
        Err(format!("{replicas} {reason:?}"))
    }
}

fn check_decision(vector: &Value) -> Result<(), String> {
    let proposals = vector["proposals"].as_array().unwrap();
    let hpa = told(vector, proposals.len());
    let current = int(&vector["currentReplicas"]);
    let totals: Vec<Option<Vec<i64>>> = proposals.iter().map(|p| p.as_i64().map(|p| vec![p * 1000])).collect();
    let readings: Vec<Reading<'_>> = totals
        .iter()
        .map(|total| match total {
            Some(total) => Reading::Values(total),
            None => Reading::Failed("error"),
        })
        .collect();
    let mut history = History::of(
        recorded(&vector["recommendations"], "replicas"),
        recorded(&vector["scaleUpEvents"], "change"),
        recorded(&vector["scaleDownEvents"], "change"),
        vector["scaledToZero"].as_bool().unwrap_or(false),
    );
    let settings = Settings {
        tolerance: 0.0,
        ..Settings::default()
    };
    let situation = Situation {
        now: NOW,
        scale: Scale {
            spec: current,
            status: current,
        },
        pods: &[],
        readings: &readings,
        barred: None,
    };
    let got = decide(&hpa, &settings, &situation, &mut history);
    let (reason, stabilized) = match &got.path {
        Path::Disabled => ("ScalingDisabled", None),
        Path::AboveMax => ("above maxReplicas: metrics are not read", None),
        Path::BelowMin => ("below minReplicas: metrics are not read", None),
        Path::Failed { .. } => ("error: metrics invalid, no change", None),
        Path::Metrics {
            stabilized, limited, ..
        } => (limited.by.reason(), Some(stabilized.replicas)),
    };
    let expected = &vector["expected"];
    let right = got.desired == int(&expected["replicas"])
        && Some(reason) == expected["reason"].as_str()
        && expected["stabilized"]
            .as_i64()
            .is_none_or(|v| stabilized.map(i64::from) == Some(v));
    if right { Ok(()) } else { Err(format!("{got:?}")) }
}

#[test]
#[ignore = "needs TIDEGAUGE_SHARED"]
fn every_published_case_comes_out_the_same() {
    let file: Value = serde_json::from_str(&shared("docs/hpa-vectors.json")).unwrap();
    let vectors = file["vectors"].as_array().unwrap();
    let mut wrong = Vec::new();
    for vector in vectors {
        let checked = match vector["stage"].as_str() {
            None => check_proposal(vector),
            Some("decide") => check_decision(vector),
            Some(_) => check_step(vector),
        };
        if let Err(got) = checked {
            wrong.push(format!("{}: {}: got {got}", vector["id"], vector["expected"]));
        }
    }
    assert!(vectors.len() >= 221, "{}", vectors.len());
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        vectors.len(),
        wrong.join("\n")
    );
}

#[test]
#[ignore = "needs TIDEGAUGE_SHARED"]
fn recorded_autoscalers_are_read_and_named_alike() {
    for file in [
        "k8s-fixtures/horizontalpodautoscalers.list.json",
        "k8s-fixtures/recorded/horizontalpodautoscalers.list.json",
    ] {
        let text = shared(file);
        let hpas = manifest::read(&text).unwrap();
        let objects: Value = serde_json::from_str(&text).unwrap();
        let objects = objects["items"].as_array().unwrap();
        assert_eq!(hpas.len(), objects.len());
        for (hpa, object) in hpas.iter().zip(objects) {
            assert_eq!(object["metadata"]["name"], hpa.name.as_str());
            for condition in object["status"]["conditions"].as_array().unwrap() {
                if condition["reason"] != "ValidMetricFound" {
                    continue;
                }
                let message = condition["message"].as_str().unwrap();
                let names: Vec<String> = hpa.metrics.iter().map(Metric::description).collect();
                assert!(
                    names
                        .iter()
                        .any(|name| message.ends_with(&format!(" count from {name}"))),
                    "{message}: {names:?}"
                );
            }
        }
    }
}

#[test]
#[ignore = "needs TIDEGAUGE_SHARED"]
fn quantities_are_printed_and_read_as_kubernetes_does() {
    let file: Value = serde_json::from_str(&shared("k8s-fixtures/metrics-api/quantities.json")).unwrap();
    for case in file["cases"].as_array().unwrap() {
        let value = case["value"].as_str().unwrap();
        let value: f64 = value.split(' ').next().unwrap().parse().unwrap();
        let format = match case["format"].as_str() {
            Some("BinarySI") => Format::Binary,
            _ => Format::Decimal,
        };
        let quantity = Quantity::from_nano((value * 1e9).round() as i64, format);
        assert_eq!(quantity.to_string(), case["string"].as_str().unwrap());
    }
    for case in file["parse"].as_array().unwrap() {
        let quantity: Quantity = case["string"].as_str().unwrap().parse().unwrap();
        assert_eq!(quantity.milli(), case["milli"].as_i64().unwrap(), "{case}");
    }
}
