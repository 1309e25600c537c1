//! `tidegauge.hpa_metrics`: metrics for autoscalers, one query each.
//!
//! ```yaml
//! tidegauge:
//!   hpa_metrics:
//!   - {name: http_requests_per_second, object: pod, query: 'sum by (namespace, pod) (rate(http_requests_total[2m]))'}
//!   - {name: queue_length, query: max by (queue) (rabbitmq_queue_messages)}     # no object: an external metric
//!   hpa_automatic: true
//! ```

use super::PromDuration;
use super::de::read;
use super::yaml::{Fault, Node};
use serde::Deserialize;
use std::collections::HashSet;

/// More metrics are refused.
const MAX_METRICS: usize = 1000;

/// What the section says of metrics for autoscalers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HpaMetrics {
    /// In the order of the file.
    pub metrics: Vec<HpaMetric>,
    /// Whether metrics are made of whatever carries the labels of pods; `None`: where there are no rules.
    pub automatic: Option<bool>,
}

/// A metric.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HpaMetric {
    /// What autoscalers call it.
    pub name: String,
    /// PromQL; `<<.LabelMatchers>>` and its kin in it stand for what is asked, as in prometheus-adapter's rules.
    pub query: String,
    /// The label that names the object; `None` for an external metric.
    #[serde(default)]
    pub object: Option<String>,
    /// The kind of the object, where the label is not called by it.
    #[serde(default)]
    pub resource: Option<String>,
    /// The label that names the namespace.
    #[serde(default)]
    pub namespace: Option<String>,
    /// Over what the query looks back.
    #[serde(default)]
    pub window: Option<PromDuration>,
    /// Where it stands.
    #[serde(skip)]
    pub line: usize,
}

impl HpaMetrics {
    /// Reads the section `tidegauge`.
    pub(super) fn read(section: Option<&Node>) -> Result<Self, Fault> {
        let Some(node) = section.filter(|node| !node.is_null()) else {
            return Ok(Self::default());
        };
        Self::of(node).map_err(|fault| fault.below_key("tidegauge", node.at))
    }

    fn of(node: &Node) -> Result<Self, Fault> {
        let automatic = match node.get("hpa_automatic").filter(|node| !node.is_null()) {
            Some(told) => Some(read::<bool>(told).map_err(|f| f.below_key("hpa_automatic", told.at))?),
            None => None,
        };
        let mut metrics = Vec::new();
        if let Some(list) = node.get("hpa_metrics").filter(|node| !node.is_null()) {
            let inside = |fault: Fault| fault.below_key("hpa_metrics", list.at);
            metrics = read::<Vec<HpaMetric>>(list).map_err(inside)?;
            if metrics.len() > MAX_METRICS {
                return Err(inside(Fault::new(list.at, format!("more than {MAX_METRICS} metrics"))));
            }
            let mut seen = HashSet::new();
            for (i, (metric, item)) in metrics.iter_mut().zip(list.items()).enumerate() {
                metric.line = item.at.line;
                let again = !seen.insert((metric.name.clone(), metric.object.clone(), metric.resource.clone()));
                if let Err(why) = metric.check(again) {
                    return Err(inside(Fault::new(item.at, why).below_item(i, item.at)));
                }
            }
        }
        Ok(Self { metrics, automatic })
    }

    /// Reads the content of the section.
    #[cfg(test)]
    pub(crate) fn parse(text: &str) -> Result<Self, Fault> {
        let node = Node::parse(text)?;
        Self::read(Some(&node))
    }
}

impl HpaMetric {
    fn check(&self, again: bool) -> Result<(), String> {
        if self.name.is_empty() || self.name.contains(['/', '%', ' ']) {
            return Err(format!("{:?} is no name of a metric", self.name));
        }
        if self.query.trim().is_empty() {
            return Err("query is missing".to_owned());
        }
        if self.object.as_deref() == Some("") || self.namespace.as_deref() == Some("") {
            return Err("a label has a name".to_owned());
        }
        if self.resource.is_some() && self.object.is_none() {
            return Err("resource says what the label in object names: object is missing".to_owned());
        }
        match again {
            true => Err(format!("a second metric {} of the same objects", self.name)),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_read_with_their_lines() {
        let read = HpaMetrics::parse(
            "presets: []\nhpa_metrics:\n- {name: a, query: up, object: pod, window: 2m}\n- name: b\n  query: up\nhpa_automatic: yes\n",
        )
        .unwrap();
        let lines: Vec<usize> = read.metrics.iter().map(|metric| metric.line).collect();
        assert_eq!((lines, read.automatic), (vec![3, 4], Some(true)));
        assert_eq!(read.metrics[0].window, Some(PromDuration::from_millis(120_000)));
        assert_eq!(HpaMetrics::parse("").unwrap(), HpaMetrics::default());
    }

    #[test]
    fn faults_have_their_place() {
        for (text, path, words) in [
            ("hpa_metrics: {}", "tidegauge.hpa_metrics", "into a list"),
            (
                "hpa_metrics: [{name: a}]",
                "tidegauge.hpa_metrics[0]",
                "field query is missing",
            ),
            (
                "hpa_metrics: [{name: a, querry: up}]",
                "tidegauge.hpa_metrics[0].querry",
                "did you mean query",
            ),
            (
                "hpa_metrics: [{name: a/b, query: up}]",
                "tidegauge.hpa_metrics[0]",
                "no name of a metric",
            ),
            (
                "hpa_metrics: [{name: a, query: ' '}]",
                "tidegauge.hpa_metrics[0]",
                "query is missing",
            ),
            (
                "hpa_metrics: [{name: a, query: up, resource: pod}]",
                "tidegauge.hpa_metrics[0]",
                "object is missing",
            ),
            (
                "hpa_metrics: [{name: a, query: up, object: ''}]",
                "tidegauge.hpa_metrics[0]",
                "a label has a name",
            ),
            (
                "hpa_metrics: [{name: a, query: up}, {name: a, query: down}]",
                "tidegauge.hpa_metrics[1]",
                "a second metric a",
            ),
            ("hpa_automatic: maybe", "tidegauge.hpa_automatic", "into bool"),
        ] {
            let fault = HpaMetrics::parse(text).unwrap_err();
            assert!(fault.message.contains(words), "{text}: {}", fault.message);
            assert_eq!(fault.path.to_string(), path, "{text}");
        }
    }
}
