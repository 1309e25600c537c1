//! A HorizontalPodAutoscaler as the API server shows it: what it is told to do, and what its controller says of it.

use crate::hpa::manifest;
use crate::hpa::spec::Hpa;
use serde::Deserialize;
use serde_json::Value;
use std::sync::Arc;
use tidegauge_model::Timestamp;

/// An autoscaler of the cluster.
#[derive(Debug, Clone)]
pub struct Shown {
    /// What it is told to do, or why that cannot be read.
    pub hpa: Result<Arc<Hpa>, String>,
    /// What its controller says.
    pub controller: Arc<Controller>,
}

/// The status of an autoscaler, which its controller writes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Controller {
    /// Replicas that it saw; `None` before its first look.
    pub current: Option<i32>,
    /// Replicas that it wants.
    pub desired: Option<i32>,
    /// When it last changed them.
    pub scaled_at: Option<Timestamp>,
    /// What the metrics were, in the order of the spec, in words.
    pub metrics: Vec<Option<String>>,
    /// Its conditions.
    pub conditions: Vec<StatusCondition>,
}

/// A condition as it stands in a status.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusCondition {
    /// Which.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// Since when.
    #[serde(default)]
    pub last_transition_time: String,
    /// Why, in one word.
    #[serde(default)]
    pub reason: String,
    /// Why, in a sentence.
    #[serde(default)]
    pub message: String,
}

impl Shown {
    /// Reads an object of autoscaling/v2 as the API gives it, inside of a list or alone.
    pub fn read(json: &str) -> Self {
        Self {
            hpa: manifest::read_object(json).map(Arc::new).map_err(|error| {
                let error = anyhow::Error::from(error);
                format!("{error:#}")
            }),
            controller: Arc::new(Controller::read(json)),
        }
    }
}

impl Controller {
    /// What cannot be read of a status is as if it were not there.
    fn read(json: &str) -> Self {
        let Ok(Object { status }) = serde_json::from_str::<Object>(json) else {
            return Self::default();
        };
        let conditions = status.conditions.into_iter().flatten();
        Self {
            current: status.current_replicas.or(status.desired_replicas.map(|_| 0)),
            desired: status.desired_replicas,
            scaled_at: status.last_scale_time.as_deref().and_then(time),
            metrics: status.current_metrics.iter().flatten().map(measured).collect(),
            conditions: conditions.filter_map(|one| serde_json::from_value(one).ok()).collect(),
        }
    }

    /// Whether it was the controller who took the last replica.
    pub fn scaled_to_zero(&self) -> bool {
        self.conditions
            .iter()
            .any(|one| one.kind == "ScaledToZero" && one.status == "True")
    }

    /// A condition that does not hold, but should.
    pub fn trouble(&self) -> Option<&StatusCondition> {
        let wanted = |one: &&StatusCondition| matches!(one.kind.as_str(), "AbleToScale" | "ScalingActive");
        self.conditions.iter().filter(wanted).find(|one| one.status == "False")
    }
}

/// RFC 3339, as Kubernetes writes times.
fn time(text: &str) -> Option<Timestamp> {
    let time: jiff::Timestamp = text.parse().ok()?;
    Some(Timestamp::from_millis(time.as_millisecond()))
}

/// What a metric of a status was: `52%`, `115m a pod`, `30`. One that failed stands there with an empty type.
fn measured(metric: &Value) -> Option<String> {
    let source = match metric.get("type")?.as_str()? {
        "Resource" => "resource",
        "ContainerResource" => "containerResource",
        "Pods" => "pods",
        "Object" => "object",
        "External" => "external",
        _ => return None,
    };
    let current = metric.get(source)?.get("current")?;
    let text = |key: &str| current.get(key).and_then(Value::as_str);
    if let Some(percent) = current.get("averageUtilization").and_then(Value::as_i64) {
        return Some(format!("{percent}%"));
    }
    let average = text("averageValue").map(|average| format!("{average} a pod"));
    average.or_else(|| text("value").map(str::to_owned))
}

#[derive(Deserialize)]
struct Object {
    #[serde(default)]
    status: Status,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    current_replicas: Option<i32>,
    desired_replicas: Option<i32>,
    last_scale_time: Option<String>,
    current_metrics: Option<Vec<Value>>,
    conditions: Option<Vec<Value>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const OBJECT: &str = r#"{"metadata":{"name":"web","namespace":"shop","managedFields":[{"manager":"kubectl"}]},
        "spec":{"scaleTargetRef":{"kind":"Deployment","name":"web","apiVersion":"apps/v1"},"minReplicas":1,"maxReplicas":10,
        "metrics":[{"type":"Resource","resource":{"name":"cpu","target":{"type":"Utilization","averageUtilization":50}}},
        {"type":"Pods","pods":{"metric":{"name":"requests"},"target":{"type":"AverageValue","averageValue":"10"}}}]},
        "status":{"lastScaleTime":"2026-11-21T02:55:07Z","currentReplicas":2,"desiredReplicas":3,
        "currentMetrics":[{"type":"Resource","resource":{"name":"cpu","current":{"averageUtilization":52,"averageValue":"104m"}}},
        {"type":""}],"conditions":[{"type":"AbleToScale","status":"True","lastTransitionTime":"2026-11-21T02:54:32Z",
        "reason":"ReadyForNewScale","message":"recommended size matches current size"},{"type":"ScalingActive","status":"False"}]}}"#;

    #[test]
    fn an_object_says_what_to_do_and_how_it_is() {
        let shown = Shown::read(OBJECT);
        let hpa = shown.hpa.unwrap();
        assert_eq!(
            (hpa.namespace.as_str(), hpa.name.as_str(), hpa.metrics.len()),
            ("shop", "web", 2)
        );
        let told = shown.controller;
        assert_eq!((told.current, told.desired), (Some(2), Some(3)));
        assert_eq!(told.scaled_at, Some(Timestamp::from_millis(1_795_229_707_000)));
        assert_eq!(told.metrics, [Some("52%".to_owned()), None]);
        assert_eq!(told.trouble().unwrap().kind, "ScalingActive");
        assert!(!told.scaled_to_zero());
    }

    #[test]
    fn what_is_odd_is_said_and_what_is_not_there_is_none() {
        let fresh = r#"{"metadata":{"name":"a","namespace":"b"},"spec":{"scaleTargetRef":{"kind":"Deployment","name":"a"},
            "maxReplicas":3},"status":{"desiredReplicas":0,"currentMetrics":null}}"#;
        let shown = Shown::read(fresh);
        assert!(shown.hpa.is_ok());
        assert_eq!((shown.controller.desired, shown.controller.metrics.len()), (Some(0), 0));
        let odd = r#"{"metadata":{"name":"a","namespace":"b"},"spec":{"scaleTargetRef":{"kind":"Deployment","name":"a"},
            "maxReplicas":3,"metrics":[{"type":"Moon"}]}}"#;
        let shown = Shown::read(odd);
        assert_eq!(shown.hpa.unwrap_err(), "a: unknown metric source type \"Moon\"");
        assert_eq!(*shown.controller, Controller::default());
        assert!(Shown::read("{").hpa.is_err());
    }
}
