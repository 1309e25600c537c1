//! The metrics APIs, asked in process.

use super::answers::{Answer, Metrics, Which};
use crate::hpa::pods::PodValue;
use crate::hpa::spec::{MetricId, ObjectRef};
use crate::kubeapi::Sources;

/// What the metrics APIs answer at one look.
#[derive(Debug)]
pub struct Sourced<'a> {
    sources: &'a Sources,
}

impl<'a> Sourced<'a> {
    /// For one look.
    pub fn new(sources: &'a Sources) -> Self {
        Self { sources }
    }
}

fn unserved<T>() -> Answer<T> {
    Answer {
        query: String::new(),
        values: Err("no metrics API serves it here".to_owned()),
    }
}

impl Metrics for Sourced<'_> {
    fn resource(&self, _: Which<'_>, _: &str, _: Option<&str>) -> Answer<Vec<Option<PodValue>>> {
        let _ = self.sources;
        unserved()
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
