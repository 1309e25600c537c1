//! Counts requests that ask for more than they may have: too long, too large, too slow.

use crate::api::Listing;
use std::sync::atomic::{AtomicU64, Ordering};
use tidegauge_model::MetricKind;

/// The name and help of the metric, for all who refuse requests: here, and [`crate::access`] for who may ask.
pub(crate) const REFUSED: (&str, &str) = (
    "tidegauge_http_requests_refused_total",
    "Requests that were refused before they were looked into, by reason: wrong credentials, too low a role, the rate, or \
     too many passwords to check; a URL, a head or a body that is too large, or a body that comes too slowly.",
);

/// Which bound a request passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Excess {
    /// `--web.max-url-size`.
    Url,
    /// `--web.max-form-size`, or that of remote write.
    Body,
    /// `--web.read-timeout`, by the body.
    Slow,
}

const REASONS: [(Excess, &str); 3] = [(Excess::Url, "url"), (Excess::Body, "body"), (Excess::Slow, "slow")];

/// Counters; relaxed throughout, as each stands for itself.
#[derive(Debug, Default)]
pub(super) struct Refused([AtomicU64; REASONS.len()]);

impl Refused {
    pub(super) fn count(&self, why: Excess) {
        let of = REASONS.iter().zip(&self.0).find(|((reason, _), _)| *reason == why);
        if let Some((_, count)) = of {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn list(&self) -> Listing {
        let counts = REASONS.iter().zip(&self.0).map(|((_, reason), count)| {
            let labels = vec![("reason", (*reason).to_owned())];
            (labels, count.load(Ordering::Relaxed) as f64)
        });
        (REFUSED.0, REFUSED.1, MetricKind::Counter, counts.collect())
    }
}
