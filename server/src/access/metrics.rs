//! What is counted where requests and connections are let in or not.

use crate::api::Listing;
use crate::http::REFUSED;
use std::sync::atomic::{AtomicU64, Ordering};
use tidegauge_model::MetricKind;

/// Why a request was not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// No credentials, or wrong ones.
    Credentials,
    /// Credentials that are for less.
    Role,
    /// `rate_limit`.
    Rate,
    /// Too many passwords to check.
    Busy,
}

/// Counters; relaxed throughout, as each stands for itself.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    refused: [AtomicU64; 4],
    computed: AtomicU64,
    remembered: AtomicU64,
    handshakes_failed: AtomicU64,
}

const REASONS: [(Refusal, &str); 4] = [
    (Refusal::Credentials, "credentials"),
    (Refusal::Role, "role"),
    (Refusal::Rate, "rate"),
    (Refusal::Busy, "busy"),
];

impl Metrics {
    pub(super) fn refused(&self, why: Refusal) {
        let of = REASONS
            .iter()
            .zip(&self.refused)
            .find(|((reason, _), _)| *reason == why);
        if let Some((_, count)) = of {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn computed(&self) {
        self.computed.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn remembered(&self) {
        self.remembered.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn handshake_failed(&self) {
        self.handshakes_failed.fetch_add(1, Ordering::Relaxed);
    }

    #[cfg(test)]
    pub(super) fn computed_total(&self) -> u64 {
        self.computed.load(Ordering::Relaxed)
    }

    pub(super) fn list(&self) -> Vec<Listing> {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed) as f64;
        let one = |count: &AtomicU64| vec![(Vec::new(), of(count))];
        let refused = REASONS.iter().zip(&self.refused);
        vec![
            (
                REFUSED.0,
                REFUSED.1,
                MetricKind::Counter,
                refused
                    .map(|((_, reason), count)| (vec![("reason", (*reason).to_owned())], of(count)))
                    .collect(),
            ),
            (
                "tidegauge_http_passwords_computed_total",
                "Passwords whose hash was computed.",
                MetricKind::Counter,
                one(&self.computed),
            ),
            (
                "tidegauge_http_passwords_remembered_total",
                "Passwords that were known from an earlier request.",
                MetricKind::Counter,
                one(&self.remembered),
            ),
            (
                "tidegauge_http_tls_handshakes_failed_total",
                "Connections that ended before TLS was agreed on.",
                MetricKind::Counter,
                one(&self.handshakes_failed),
            ),
        ]
    }
}
