//! Counts requests by handler and status, and how long they took.

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
    requests: Mutex<BTreeMap<(String, u16), u64>>,
    durations: Mutex<BTreeMap<String, Durations>>,
    panics: Mutex<u64>,
}

#[derive(Debug, Default, Clone)]
struct Durations {
    /// By bound, the last for what is beyond them; not cumulative.
    counts: [u64; BOUNDS.len() + 1],
    sum_seconds: f64,
}

impl Metrics {
    /// Counts one answered request.
    pub(crate) fn observe(&self, handler: &str, status: u16, took: Duration) {
        *self.requests.lock().entry((handler.to_owned(), status)).or_default() += 1;
        let seconds = took.as_secs_f64();
        let mut durations = self.durations.lock();
        if !durations.contains_key(handler) {
            durations.insert(handler.to_owned(), Durations::default());
        }
        if let Some(of_handler) = durations.get_mut(handler) {
            let at = BOUNDS
                .iter()
                .position(|bound| seconds <= *bound)
                .unwrap_or(BOUNDS.len());
            if let Some(count) = of_handler.counts.get_mut(at) {
                *count += 1;
            }
            of_handler.sum_seconds += seconds;
        }
    }

    /// Counts a handler that panicked.
    pub(crate) fn panicked(&self) {
        *self.panics.lock() += 1;
    }

    /// All metrics. The samples of the histogram carry their suffix in the name.
    pub(crate) fn list(&self) -> Vec<Listing> {
        let requests = self.requests.lock();
        let requests = requests
            .iter()
            .map(|((handler, code), count)| {
                (
                    vec![("handler", handler.clone()), ("code", code.to_string())],
                    *count as f64,
                )
            })
            .collect();
        let panics = *self.panics.lock() as f64;
        let mut listings = vec![
            (
                "tidegauge_http_requests_total",
                "HTTP requests answered, by route and status.",
                MetricKind::Counter,
                requests,
            ),
            (
                "tidegauge_http_panics_total",
                "Handlers that panicked and were answered with an error.",
                MetricKind::Counter,
                vec![(vec![], panics)],
            ),
        ];
        listings.push(self.durations());
        listings
    }

    fn durations(&self) -> Listing {
        let mut samples = Vec::new();
        for (handler, durations) in self.durations.lock().iter() {
            let mut total = 0;
            let bounds = BOUNDS.iter().map(ToString::to_string).chain(["+Inf".to_owned()]);
            for (count, bound) in durations.counts.iter().zip(bounds) {
                total += count;
                samples.push((vec![("handler", handler.clone()), ("le", bound)], total as f64));
            }
            samples.push((
                vec![("handler", handler.clone()), ("", "_sum".into())],
                durations.sum_seconds,
            ));
            samples.push((vec![("handler", handler.clone()), ("", "_count".into())], total as f64));
        }
        (
            "tidegauge_http_request_duration_seconds",
            "Time from the head of a request to the head of its answer, by route.",
            MetricKind::Histogram,
            samples,
        )
    }
}
