//! What the receiver counts.

use super::offer::Taken;
use crate::api::Listing;
use axum::http::StatusCode;
use std::sync::atomic::{AtomicU64, Ordering};

/// The receiver's counters.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    stored: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
    samples: AtomicU64,
    body_bytes: AtomicU64,
    invalid_series: AtomicU64,
    refused_series: AtomicU64,
    histograms: AtomicU64,
    exemplars: AtomicU64,
    unordered: AtomicU64,
}

impl Metrics {
    pub(super) fn requests(&self, status: StatusCode) -> &AtomicU64 {
        match status.as_u16() {
            200..300 => &self.stored,
            400..500 => &self.refused,
            _ => &self.failed,
        }
    }

    pub(super) fn count(&self, taken: &Taken, body_bytes: usize) {
        for (counter, count) in [
            (&self.samples, taken.samples),
            (&self.body_bytes, body_bytes as u64),
            (&self.invalid_series, taken.invalid_series),
            (&self.refused_series, taken.refused_series),
            (&self.histograms, taken.histograms),
            (&self.exemplars, taken.exemplars),
            (&self.unordered, taken.unordered),
        ] {
            counter.fetch_add(count, Ordering::Relaxed);
        }
    }

    pub(crate) fn list(&self) -> Vec<Listing> {
        use tidegauge_model::MetricKind::Counter;
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
        let by = |label: &'static str, values: &[(&str, &AtomicU64)]| {
            values
                .iter()
                .map(|(value, counter)| (vec![(label, (*value).to_owned())], get(counter)))
                .collect::<Vec<_>>()
        };
        let one = |counter: &AtomicU64| vec![(vec![], get(counter))];
        vec![
            (
                "tidegauge_remote_write_requests_total",
                "Requests of remote-write senders, by outcome.",
                Counter,
                by(
                    "outcome",
                    &[
                        ("stored", &self.stored),
                        ("refused", &self.refused),
                        ("failed", &self.failed),
                    ],
                ),
            ),
            (
                "tidegauge_remote_write_samples_total",
                "Samples stored from remote write, exact repeats among them.",
                Counter,
                one(&self.samples),
            ),
            (
                "tidegauge_remote_write_body_bytes_total",
                "Bytes of stored requests as they arrived.",
                Counter,
                one(&self.body_bytes),
            ),
            (
                "tidegauge_remote_write_series_left_out_total",
                "Series of requests left out, by reason.",
                Counter,
                by(
                    "reason",
                    &[
                        ("invalid_labels", &self.invalid_series),
                        ("limit", &self.refused_series),
                    ],
                ),
            ),
            (
                "tidegauge_remote_write_left_out_total",
                "Parts of requests left out: histograms that are not valid, exemplars that do not fit, and samples behind a newer one of the same request.",
                Counter,
                by(
                    "kind",
                    &[
                        ("invalid_histogram", &self.histograms),
                        ("exemplar", &self.exemplars),
                        ("unordered_sample", &self.unordered),
                    ],
                ),
            ),
        ]
    }
}
