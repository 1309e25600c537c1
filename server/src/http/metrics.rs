//! Counts requests by handler and status, how long they took, and how long their answers were.

use super::histogram::Histogram;
use super::panics::{PANICS, Place};
use super::refused::{Excess, Refused};
use crate::api::Listing;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::time::Duration;
use tidegauge_model::MetricKind;

/// Upper bounds of durations in seconds: upstream's, and some below them.
const SECONDS: &[f64] = &[0.001, 0.005, 0.025, 0.1, 0.2, 0.4, 1.0, 3.0, 8.0, 20.0, 60.0, 120.0];
/// Upper bounds of sizes in bytes: upstream's.
const BYTES: &[f64] = &[1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];

/// The edge's counters. A handler is a route, so their number is bounded by the program.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    handlers: Mutex<BTreeMap<String, Handler>>,
    panics: Mutex<u64>,
    refused: Refused,
}

/// What is counted of one handler.
#[derive(Debug)]
struct Handler {
    /// Requests by status.
    requests: BTreeMap<u16, u64>,
    seconds: Histogram,
    bytes: Histogram,
}

impl Default for Handler {
    fn default() -> Self {
        Self {
            requests: BTreeMap::new(),
            seconds: Histogram::new(SECONDS),
            bytes: Histogram::new(BYTES),
        }
    }
}

impl Metrics {
    /// Counts one answered request.
    pub(crate) fn observe(&self, handler: &str, status: u16, took: Duration) {
        self.with(handler, |handler| {
            *handler.requests.entry(status).or_default() += 1;
            handler.seconds.observe(took.as_secs_f64());
        });
    }

    /// Counts an answer's body, once it is sent or its client is gone.
    pub(crate) fn sent(&self, handler: &str, bytes: u64) {
        self.with(handler, |handler| handler.bytes.observe(bytes as f64));
    }

    fn with(&self, handler: &str, count: impl FnOnce(&mut Handler)) {
        let mut handlers = self.handlers.lock();
        match handlers.get_mut(handler) {
            Some(handler) => count(handler),
            None => count(handlers.entry(handler.to_owned()).or_default()),
        }
    }

    /// Counts a handler that panicked.
    pub(crate) fn panicked(&self) {
        *self.panics.lock() += 1;
    }

    /// Counts a request that asks for more than it may have.
    pub(crate) fn refused(&self, why: Excess) {
        self.refused.count(why);
    }

    /// All metrics.
    pub(crate) fn list(&self) -> Vec<Listing> {
        let handlers = self.handlers.lock();
        let mut requests = Vec::new();
        for (name, handler) in &*handlers {
            for (code, count) in &handler.requests {
                let labels = vec![("handler", name.clone()), ("code", code.to_string())];
                requests.push((labels, *count as f64));
            }
        }
        let panics = *self.panics.lock() as f64;
        let histograms = |of: fn(&Handler) -> &Histogram| {
            let by_name = handlers.iter();
            by_name.flat_map(move |(name, handler)| of(handler).samples(&[("handler", name.clone())]))
        };
        vec![
            (
                "tidegauge_http_requests_total",
                "HTTP requests answered, by route and status.",
                MetricKind::Counter,
                requests,
            ),
            (
                PANICS.0,
                PANICS.1,
                MetricKind::Counter,
                vec![(Place::Handler.labels(), panics)],
            ),
            self.refused.list(),
            (
                "tidegauge_http_request_duration_seconds",
                "Time from the head of a request to the head of its answer, by route.",
                MetricKind::Histogram,
                histograms(|handler| &handler.seconds).collect(),
            ),
            (
                "tidegauge_http_response_size_bytes",
                "Bytes of the bodies of answers as they were sent, by route.",
                MetricKind::Histogram,
                histograms(|handler| &handler.bytes).collect(),
            ),
        ]
    }
}
