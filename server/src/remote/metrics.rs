//! What the receiver counts.

use super::content::ProtoMessage;
use super::declared::Declared;
use super::ledger::Taken;
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
    rejected: AtomicU64,
    messages: [AtomicU64; 2],
}

impl Metrics {
    pub(super) fn requests(&self, status: StatusCode) -> &AtomicU64 {
        match status.as_u16() {
            200..300 => &self.stored,
            400..500 => &self.refused,
            _ => &self.failed,
        }
    }

    pub(super) fn count(&self, taken: &Taken, version: ProtoMessage, body_bytes: usize) {
        let [v1, v2] = &self.messages;
        let messages = match version {
            ProtoMessage::V1 => v1,
            ProtoMessage::V2 => v2,
        };
        for (counter, count) in [
            (&self.samples, taken.samples),
            (&self.body_bytes, body_bytes as u64),
            (&self.invalid_series, taken.invalid_series),
            (&self.refused_series, taken.refused_series),
            (&self.histograms, taken.histograms),
            (&self.exemplars, taken.exemplars),
            (&self.unordered, taken.unordered),
            (&self.rejected, taken.rejected),
            (messages, 1),
        ] {
            counter.fetch_add(count, Ordering::Relaxed);
        }
    }

    pub(crate) fn list(&self, declared: &Declared) -> Vec<Listing> {
        use tidegauge_model::MetricKind::{Counter, Gauge};
        let [v1, v2] = &self.messages;
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
                "tidegauge_remote_write_messages_total",
                "Requests of remote-write senders that were stored, in part or whole, by the version of their message.",
                Counter,
                by("version", &[("1.0", v1), ("2.0", v2)]),
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
                "Parts of requests left out: histograms that are not valid, exemplars that do not fit, samples behind a newer one of the same request, and samples of 2.0 that do not fit what is stored.",
                Counter,
                by(
                    "kind",
                    &[
                        ("invalid_histogram", &self.histograms),
                        ("exemplar", &self.exemplars),
                        ("unordered_sample", &self.unordered),
                        ("rejected_sample", &self.rejected),
                    ],
                ),
            ),
            (
                "tidegauge_remote_write_metadata_metrics",
                "Metrics whose type, help or unit senders told and which are remembered.",
                Gauge,
                vec![(vec![], declared.len() as f64)],
            ),
            (
                "tidegauge_remote_write_metadata_left_out_total",
                "Times that metadata was not remembered because of a limit, or because it is no text.",
                Counter,
                vec![(vec![], declared.left_out() as f64)],
            ),
        ]
    }
}
