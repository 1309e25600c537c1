//! What a metric answered, held; a [`Reading`] lends it to the formula.

use super::formula::{Reading, Request};
use super::pods::PodValue;
use std::borrow::Cow;

/// What a metric answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// Values of pods.
    Pods {
        /// One place for each pod, in their order.
        values: Vec<Option<PodValue>>,
        /// What each pod requests; empty where the target is no utilization.
        requests: Vec<Request>,
    },
    /// Thousandths of an object, or from outside.
    Values(Vec<i64>),
    /// Nothing, and why.
    Failed(Cow<'static, str>),
}

impl Seen {
    /// As the formula takes it.
    pub fn reading(&self) -> Reading<'_> {
        match self {
            Self::Pods { values, requests } => Reading::Pods {
                values,
                strangers: &[],
                requests,
            },
            Self::Values(values) => Reading::Values(values),
            Self::Failed(why) => Reading::Failed(why),
        }
    }
}
