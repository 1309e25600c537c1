//! The metrics APIs, asked in process: what they would answer the controller, without the way through the API server.

use super::answers::{Answer, Metrics, Which};
use super::missing;
use crate::hpa::pods::PodValue;
use crate::hpa::spec::{MetricId, ObjectRef};
use crate::kubeapi::custom::{self, Asked, Objects};
use crate::kubeapi::resource::{self, ContainerUsage, PodUsage};
use crate::kubeapi::{Failure, Selector, Sources, external};
use std::cell::OnceCell;
use std::collections::{HashMap, HashSet};
use tidegauge_model::Timestamp;
use tokio::runtime::Handle;

/// What the controller takes a value to be over that does not say so.
const USUAL_WINDOW_MS: i64 = 60_000;
/// Said where a query would stand.
const WHY_NOT: &str = "none; /api/v1/hpa/metrics tells which metrics there are, and why one is not";

/// What the metrics APIs answer at one look. Not to be asked where tasks run: it waits for them.
#[derive(Debug)]
pub struct Sourced<'a> {
    sources: &'a Sources,
    /// Runs what has to wait; `None` outside of a runtime.
    runtime: Option<Handle>,
    /// All metrics of a look are of the same pods.
    usage: OnceCell<Result<Vec<PodUsage>, String>>,
}

impl<'a> Sourced<'a> {
    /// For one look.
    pub fn new(sources: &'a Sources) -> Self {
        Self {
            sources,
            runtime: Handle::try_current().ok(),
            usage: OnceCell::new(),
        }
    }

    /// Waits for an answer.
    fn wait<T>(&self, answer: impl Future<Output = Result<T, Failure>>) -> Result<T, String> {
        let runtime = self.runtime.as_ref().ok_or("nothing runs that could answer")?;
        runtime.block_on(answer).map_err(|failure| failure.message().to_owned())
    }

    fn usage(&self, pods: Which<'_>) -> Result<&[PodUsage], String> {
        let read = || {
            let names: HashSet<&str> = pods.names.iter().map(|name| &**name).collect();
            let usage = resource::pods(self.sources, Some(pods.namespace), |_, name| names.contains(name));
            usage.map_err(|error| format!("samples cannot be read: {error}"))
        };
        self.usage.get_or_init(read).as_deref().map_err(Clone::clone)
    }
}

/// The thousandths of a resource that a container uses, as they are of a quantity: rounded up.
fn milli(container: &ContainerUsage, resource: &str) -> Option<i64> {
    match resource {
        "cpu" => Some(container.cpu_nano.saturating_add(999_999).div_euclid(1_000_000)),
        "memory" => Some(container.memory_bytes.saturating_mul(1000)),
        _ => None,
    }
}

/// A pod's value: of one container, or of all of them.
fn value(pod: &PodUsage, resource: &str, container: Option<&str>) -> Option<PodValue> {
    let mut counted = pod
        .containers
        .iter()
        .filter(|one| container.is_none_or(|wanted| wanted == one.name))
        .peekable();
    counted.peek()?;
    let sum = counted
        .map(|one| milli(one, resource))
        .try_fold(0i64, |sum, milli| Some(sum.saturating_add(milli?)))?;
    Some(PodValue {
        milli: sum,
        at: whole_seconds(pod.at),
        window_ms: pod.window_ms,
    })
}

/// What a resource is read from.
fn source(resource: &str) -> String {
    match resource {
        "cpu" => "metrics.k8s.io: container_cpu_usage_seconds_total, the last two samples of each container".to_owned(),
        "memory" => "metrics.k8s.io: container_memory_working_set_bytes, the last sample of each container".to_owned(),
        other => format!("metrics.k8s.io: it has cpu and memory, and no {other}"),
    }
}

/// The selector of a metric's series.
fn series(metric: &MetricId) -> Selector {
    metric.selector.as_ref().map(Selector::from).unwrap_or_default()
}

/// A time as it comes through the API server, where it loses its fraction.
fn whole_seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_millis(at.millis().div_euclid(1000).saturating_mul(1000))
}

/// An object's kind as the custom metrics API takes it: `ingress.networking.k8s.io`.
fn qualified(object: &ObjectRef) -> String {
    let kind = object.kind.to_lowercase();
    match object.api_version.split_once('/') {
        Some((group, _)) => format!("{kind}.{group}"),
        None => kind,
    }
}

impl Metrics for Sourced<'_> {
    fn resource(&self, pods: Which<'_>, resource: &str, container: Option<&str>) -> Answer<Vec<Option<PodValue>>> {
        let values = self.usage(pods).map(|usage| {
            let by_name: HashMap<&str, &PodUsage> = usage.iter().map(|pod| (pod.name.as_str(), pod)).collect();
            let of = |name: &str| value(by_name.get(name)?, resource, container);
            pods.names.iter().map(|name| of(name)).collect()
        });
        Answer {
            query: source(resource),
            values,
        }
    }

    fn why_missing(&self, namespace: &str, pod: &str, container: Option<&str>) -> Option<String> {
        missing::why(self.sources, namespace, pod, container)
    }

    fn pods(&self, pods: Which<'_>, metric: &MetricId) -> Answer<Vec<Option<PodValue>>> {
        let ask = || {
            let selector = Selector::parse(pods.selector)?;
            self.wait(custom::values(
                self.sources,
                &Asked {
                    namespace: Some(pods.namespace),
                    resource: "pods",
                    objects: Objects::Selected(&selector),
                    metric: &metric.name,
                    metric_selector: &series(metric),
                },
            ))
        };
        let values = ask();
        let query = values.as_ref().map_or(WHY_NOT.to_owned(), |values| {
            values.first().map(|first| first.query.to_string()).unwrap_or_default()
        });
        let values = values.map(|values| {
            let by_name: HashMap<&str, &custom::Value> = values.iter().map(|one| (one.object.as_str(), one)).collect();
            let of = |name: &str| {
                by_name.get(name).map(|one| PodValue {
                    milli: one.milli,
                    at: whole_seconds(one.at),
                    window_ms: one.window_ms.unwrap_or(USUAL_WINDOW_MS),
                })
            };
            pods.names.iter().map(|name| of(name)).collect()
        });
        Answer { query, values }
    }

    fn object(&self, namespace: &str, object: &ObjectRef, metric: &MetricId) -> Answer<i64> {
        let resource = qualified(object);
        // The controller asks for its own namespace where a namespace is meant, whatever the name.
        let (of, name) = match resource.as_str() {
            "namespace" => (None, namespace),
            _ => (Some(namespace), object.name.as_str()),
        };
        let values = self.wait(custom::values(
            self.sources,
            &Asked {
                namespace: of,
                resource: &resource,
                objects: Objects::Named(name),
                metric: &metric.name,
                metric_selector: &series(metric),
            },
        ));
        match values.map(|values| values.into_iter().next()) {
            Ok(Some(value)) => Answer {
                query: value.query.to_string(),
                values: Ok(value.milli),
            },
            Ok(None) => Answer {
                query: WHY_NOT.to_owned(),
                values: Err(format!("{resource} {name} has no value")),
            },
            Err(why) => Answer {
                query: WHY_NOT.to_owned(),
                values: Err(why),
            },
        }
    }

    fn external(&self, namespace: &str, metric: &MetricId) -> Answer<Vec<i64>> {
        let values = self.wait(external::values(self.sources, namespace, &metric.name, &series(metric)));
        Answer {
            query: values.as_ref().map_or(WHY_NOT.to_owned(), |values| {
                values.first().map(|first| first.query.to_string()).unwrap_or_default()
            }),
            values: values.map(|values| values.iter().map(|one| one.milli).collect()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_uses_what_its_containers_use_each_rounded_up() {
        let container = |name: &str, cpu_nano, memory_bytes| ContainerUsage {
            name: name.to_owned(),
            cpu_nano,
            memory_bytes,
        };
        let pod = PodUsage {
            namespace: "shop".to_owned(),
            name: "web".to_owned(),
            at: Timestamp::from_millis(1_760_000_000_900),
            window_ms: 15_000,
            containers: vec![container("app", 100_000_001, 64 << 20), container("log", 1, 1)],
        };
        for (resource, of, expected) in [
            ("cpu", None, Some(102)),
            ("cpu", Some("app"), Some(101)),
            ("memory", None, Some(((64 << 20) + 1) * 1000)),
            ("cpu", Some("db"), None),
            ("nvidia.com/gpu", None, None),
        ] {
            let told = value(&pod, resource, of);
            assert_eq!(told.map(|told| told.milli), expected, "{resource} {of:?}");
            assert!(told.is_none_or(|told| told.at.millis() == 1_760_000_000_000));
        }
    }
}
