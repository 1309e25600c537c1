//! Counts requests by handler and status, and how long they took.

use super::panics::{PANICS, Place};
use super::refused::{Excess, Refused};
use crate::api::Listing;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::time::Duration;
use tidegauge_model::MetricKind;

/// Upper bounds of the duration histogram in seconds; `+Inf` follows. They are upstream's, less the largest.
const BOUNDS: [f64; 9] = [0.001, 0.005, 0.025, 0.1, 0.2, 0.4, 1.0, 3.0, 8.0];

/// The edge's counters. A handler is a route, so their number is bounded by the program.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    handlers: Mutex<BTreeMap<String, Handler>>,
    panics: Mutex<u64>,
    refused: Refused,
}

/// What is counted of one handler.
#[derive(Debug, Default)]
struct Handler {
    /// Requests by status.
    requests: BTreeMap<u16, u64>,
    /// By bound, the last for what is beyond them; not cumulative.
    counts: [u64; BOUNDS.len() + 1],
    sum_seconds: f64,
}

impl Handler {
    fn observe(&mut self, status: u16, took: Duration) {
        *self.requests.entry(status).or_default() += 1;
        let seconds = took.as_secs_f64();
        let at = BOUNDS.iter().position(|bound| seconds <= *bound);
        if let Some(count) = self.counts.get_mut(at.unwrap_or(BOUNDS.len())) {
            *count += 1;
        }
        self.sum_seconds += seconds;
    }
}

impl Metrics {
    /// Counts one answered request.
    pub(crate) fn observe(&self, handler: &str, status: u16, took: Duration) {
        let mut handlers = self.handlers.lock();
        match handlers.get_mut(handler) {
            Some(handler) => handler.observe(status, took),
            None => handlers.entry(handler.to_owned()).or_default().observe(status, took),
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

    /// All metrics. The samples of the histogram carry their suffix in the name.
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
        let mut listings = vec![
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
        ];
        listings.push(durations(&handlers));
        listings
    }
}

fn durations(handlers: &BTreeMap<String, Handler>) -> Listing {
    let mut samples = Vec::new();
    for (name, handler) in handlers {
        let mut total = 0;
        let bounds = BOUNDS.iter().map(ToString::to_string).chain(["+Inf".to_owned()]);
        for (count, bound) in handler.counts.iter().zip(bounds) {
            total += count;
            samples.push((vec![("handler", name.clone()), ("le", bound)], total as f64));
        }
        samples.push((
            vec![("handler", name.clone()), ("", "_sum".into())],
            handler.sum_seconds,
        ));
        samples.push((vec![("handler", name.clone()), ("", "_count".into())], total as f64));
    }
    (
        "tidegauge_http_request_duration_seconds",
        "Time from the head of a request to the head of its answer, by route.",
        MetricKind::Histogram,
        samples,
    )
}
