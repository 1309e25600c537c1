//! The metrics APIs, asked in process: what they would answer the controller, without the way through the API server.

use super::answers::{Answer, Metrics, Which};
use crate::hpa::pods::PodValue;
use crate::hpa::spec::{MetricId, ObjectRef};
use crate::kubeapi::{Sources, resource};
use resource::{ContainerUsage, PodUsage};
use std::cell::OnceCell;
use std::collections::{HashMap, HashSet};
use tidegauge_model::Timestamp;

/// What the metrics APIs answer at one look.
#[derive(Debug)]
pub struct Sourced<'a> {
    sources: &'a Sources,
    /// All metrics of a look are of the same pods.
    usage: OnceCell<Result<Vec<PodUsage>, String>>,
}

impl<'a> Sourced<'a> {
    /// For one look.
    pub fn new(sources: &'a Sources) -> Self {
        Self {
            sources,
            usage: OnceCell::new(),
        }
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
        // On the way through the API server a time loses its fraction.
        at: Timestamp::from_millis(pod.at.millis().div_euclid(1000).saturating_mul(1000)),
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

fn unserved<T>() -> Answer<T> {
    Answer {
        query: String::new(),
        values: Err("no metrics API serves it here".to_owned()),
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

    fn pods(&self, _: Which<'_>, _: &MetricId) -> Answer<Vec<Option<PodValue>>> {
        unserved()
    }

    fn object(&self, _: &str, _: &ObjectRef, _: &MetricId) -> Answer<i64> {
        unserved()
    }

    fn external(&self, _: &str, _: &MetricId) -> Answer<Vec<i64>> {
        unserved()
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
