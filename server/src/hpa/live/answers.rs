//! The door to metrics: what a look asks, whoever answers.

use crate::hpa::pods::PodValue;
use crate::hpa::spec::{MetricId, ObjectRef};
use std::sync::Arc;

/// What was answered, and by what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer<T> {
    /// Where the values came from, in PromQL or in words; empty if it did not get that far.
    pub query: String,
    /// The values, or why there are none.
    pub values: Result<T, String>,
}

/// Pods that are asked for.
#[derive(Debug, Clone, Copy)]
pub struct Which<'a> {
    /// Their namespace.
    pub namespace: &'a str,
    /// The label selector that chooses them.
    pub selector: &'a str,
    /// Those that it chooses, by name.
    pub names: &'a [Arc<str>],
}

/// Answers as the metrics APIs of a cluster do, in process.
pub trait Metrics {
    /// The use of a resource, `cpu` or `memory`: one place for each pod. Of all containers together, or of one; a pod of which a
    /// container is not known has no value.
    fn resource(&self, pods: Which<'_>, resource: &str, container: Option<&str>) -> Answer<Vec<Option<PodValue>>>;

    /// Why a pod has no value of a resource, if that is known. Asked of few.
    fn why_missing(&self, _namespace: &str, _pod: &str, _container: Option<&str>) -> Option<String> {
        None
    }

    /// A metric that pods have: one place for each pod.
    fn pods(&self, pods: Which<'_>, metric: &MetricId) -> Answer<Vec<Option<PodValue>>>;

    /// The thousandths of a metric that an object has.
    fn object(&self, namespace: &str, object: &ObjectRef, metric: &MetricId) -> Answer<i64>;

    /// The thousandths of all items of a metric from outside.
    fn external(&self, namespace: &str, metric: &MetricId) -> Answer<Vec<i64>>;
}
