//! What is counted of requests to the metrics APIs.

use super::groups::Group;
use crate::api::Listing;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::time::Duration;
use tidegauge_model::MetricKind;

/// Requests by group and status, and how long they took. Both are few: groups are known, and so are the statuses that are
/// answered.
#[derive(Debug, Default)]
pub(super) struct Metrics(Mutex<BTreeMap<(&'static str, u16), Counts>>);

#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    requests: u64,
    seconds: f64,
}

impl Metrics {
    /// Counts one answered request.
    pub(super) fn observe(&self, group: Option<Group>, status: u16, took: Duration) {
        let mut counts = self.0.lock();
        let counts = counts.entry((group.map_or("other", Group::name), status)).or_default();
        counts.requests += 1;
        counts.seconds += took.as_secs_f64();
    }

    /// For `/metrics`.
    pub(super) fn list(&self) -> Vec<Listing> {
        let counts = self.0.lock();
        let of = |value: fn(&Counts) -> f64| {
            let rows = counts.iter().map(|((group, status), counts)| {
                let labels = vec![("group", (*group).to_owned()), ("code", status.to_string())];
                (labels, value(counts))
            });
            rows.collect::<Vec<_>>()
        };
        vec![
            (
                "tidegauge_kubernetes_api_requests_total",
                "Requests to the Kubernetes metrics APIs that were answered, by group and status.",
                MetricKind::Counter,
                of(|counts| counts.requests as f64),
            ),
            (
                "tidegauge_kubernetes_api_request_seconds_total",
                "Time from the head of such a request to the head of its answer.",
                MetricKind::Counter,
                of(|counts| counts.seconds),
            ),
        ]
    }
}
