//! What autoscalers want, as metrics: so that a dashboard can plot it beside what is.

use super::board::Board;
use crate::api::Listing;
use tidegauge_model::MetricKind;

/// An autoscaler has few metrics; of one that has many, these.
const MAX_METRICS: usize = 10;

impl Board {
    /// What `/metrics` shows.
    pub fn list(&self) -> Vec<Listing> {
        let inner = self.inner.lock();
        let (mut current, mut desired, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (id, entry) in &inner.entries {
            let labels = || vec![("namespace", id.namespace.to_string()), ("name", id.name.to_string())];
            if let Some(replicas) = entry.shown.controller.desired {
                theirs.push((labels(), f64::from(replicas)));
            }
            let Some(look) = &entry.look else { continue };
            let Some(decided) = look.decided() else { continue };
            current.push((labels(), f64::from(decided.decision.current)));
            desired.push((labels(), f64::from(decided.decision.desired)));
            let metrics = decided.decision.metrics.iter().zip(&look.hpa.metrics).enumerate();
            for (no, (proposal, metric)) in metrics.take(MAX_METRICS) {
                let Some(first) = proposal.trace.first else { continue };
                let mut labels = labels();
                labels.push(("metric", metric.name().to_owned()));
                // Two metrics may bear one name.
                labels.push(("number", (no + 1).to_string()));
                ratios.push((labels, first.ratio));
            }
        }
        let one = |value: f64| vec![(Vec::new(), value)];
        let gauge = MetricKind::Gauge;
        vec![
            (
                "tidegauge_hpa_autoscalers",
                "Autoscalers of the cluster that are looked at.",
                gauge,
                one(inner.entries.len() as f64),
            ),
            (
                "tidegauge_hpa_autoscalers_refused",
                "Autoscalers of the cluster that are not looked at, as there are more than --kubernetes.max-hpas.",
                gauge,
                one(inner.refused as f64),
            ),
            (
                "tidegauge_hpa_looks_total",
                "Looks at autoscalers.",
                MetricKind::Counter,
                one(inner.looks as f64),
            ),
            (
                "tidegauge_hpa_look_failures_total",
                "Looks at which the scale, the pods or a metric could not be had.",
                MetricKind::Counter,
                one(inner.failures as f64),
            ),
            (
                "tidegauge_hpa_current_replicas",
                "Replicas that an autoscaler's target is asked to have.",
                gauge,
                current,
            ),
            (
                "tidegauge_hpa_desired_replicas",
                "Replicas that an autoscaler wants, as computed here.",
                gauge,
                desired,
            ),
            (
                "tidegauge_hpa_controller_desired_replicas",
                "Replicas that an autoscaler wants, as its status says.",
                gauge,
                theirs,
            ),
            (
                "tidegauge_hpa_metric_ratio",
                "What is used over what should be, of each metric of an autoscaler.",
                gauge,
                ratios,
            ),
        ]
    }
}
