//! The memory limit of the process, divided among its parts, and what `/metrics` shows of it.

use crate::api::Listing;
use tidegauge_model::{Budget, Meter, MetricKind};

/// How the whole is divided, in percent; the rest is for what is not metered (stacks, code, sockets).
const HEAD_PERCENT: u64 = 45;
const QUERY_PERCENT: u64 = 30;
const BODY_PERCENT: u64 = 10;

/// One meter for each part that takes memory by the amount of its work.
#[derive(Debug, Clone)]
pub(crate) struct Shares {
    /// Series and samples that no block holds yet.
    pub(crate) head: Meter,
    /// All running queries.
    pub(crate) queries: Meter,
    /// Bodies of scrapes under way.
    pub(crate) bodies: Meter,
}

impl Shares {
    /// Divides a limit.
    pub(crate) fn new(limit_bytes: u64) -> Self {
        let budget = Budget::new(limit_bytes);
        Self {
            head: budget.share("head", HEAD_PERCENT),
            queries: budget.share("queries", QUERY_PERCENT),
            bodies: budget.share("scrape bodies", BODY_PERCENT),
        }
    }

    /// For `/metrics`.
    pub(crate) fn list(&self) -> Vec<Listing> {
        let by_share = |value: fn(&Meter) -> u64| {
            [&self.head, &self.queries, &self.bodies]
                .map(|m| (vec![("share", m.name().to_owned())], value(m) as f64))
                .to_vec()
        };
        vec![
            (
                "tidegauge_memory_share_used_bytes",
                "Metered bytes in use, by share of the memory limit.",
                MetricKind::Gauge,
                by_share(Meter::used),
            ),
            (
                "tidegauge_memory_share_limit_bytes",
                "Bytes that a share of the memory limit may use.",
                MetricKind::Gauge,
                by_share(Meter::limit),
            ),
            (
                "tidegauge_memory_share_refused_total",
                "Newcomers refused because a share of the memory limit was used up.",
                MetricKind::Counter,
                by_share(Meter::refused),
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_leave_room_for_what_is_not_metered() {
        let shares = Shares::new(1000);
        let sum = shares.head.limit() + shares.queries.limit() + shares.bodies.limit();
        assert_eq!(sum, 850);
        assert_eq!(shares.list()[1].3[0], (vec![("share", "head".to_owned())], 450.0));
    }
}
