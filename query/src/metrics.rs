//! The engine's own counters.

use crate::value::QueryStats;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tidegauge_model::{MetricKind, Summary, SummarySamples};

/// The parts of a query's time, under upstream's names.
const SLICES: [&str; 4] = ["queue_time", "prepare_time", "inner_eval", "result_sort"];
/// Upstream's.
const QUANTILES: [f64; 3] = [0.5, 0.9, 0.99];

/// Counters and gauges of the engine. Reading them costs nothing and disturbs nobody.
#[derive(Debug, Default)]
pub struct Metrics {
    pub(crate) queries: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) running: AtomicU64,
    pub(crate) waiting: AtomicU64,
    pub(crate) samples: AtomicU64,
    pub(crate) series: AtomicU64,
    pub(crate) eval_us: AtomicU64,
    pub(crate) queue_us: AtomicU64,
    pub(crate) timed_out: AtomicU64,
    pub(crate) canceled: AtomicU64,
    pub(crate) over_samples: AtomicU64,
    pub(crate) over_memory: AtomicU64,
    /// How long each of [`SLICES`] took.
    slices: Mutex<[Summary; SLICES.len()]>,
}

/// One metric for the text format: name, help, kind, and its samples by labels.
pub type MetricRow = (
    &'static str,
    &'static str,
    MetricKind,
    Vec<(Vec<(&'static str, String)>, f64)>,
);

impl Metrics {
    /// All metrics, for the server to render.
    pub fn list(&self) -> Vec<MetricRow> {
        let get = |a: &AtomicU64| a.load(Ordering::Relaxed) as f64;
        let one = |a: &AtomicU64| vec![(Vec::new(), get(a))];
        let seconds = |a: &AtomicU64| vec![(Vec::new(), get(a) / 1e6)];
        let why = |reason: &str, a: &AtomicU64| (vec![("reason", reason.to_owned())], get(a));
        vec![
            (
                "tidegauge_query_queries_total",
                "Queries evaluated, with or without success.",
                MetricKind::Counter,
                one(&self.queries),
            ),
            (
                "tidegauge_query_failed_total",
                "Queries that ended in an error.",
                MetricKind::Counter,
                one(&self.failed),
            ),
            (
                "tidegauge_query_running",
                "Queries being evaluated.",
                MetricKind::Gauge,
                one(&self.running),
            ),
            (
                "tidegauge_query_waiting",
                "Queries waiting for a place among the running ones.",
                MetricKind::Gauge,
                one(&self.waiting),
            ),
            (
                "tidegauge_query_samples_total",
                "Samples that steps of queries looked at.",
                MetricKind::Counter,
                one(&self.samples),
            ),
            (
                "tidegauge_query_series_total",
                "Series read for queries.",
                MetricKind::Counter,
                one(&self.series),
            ),
            (
                "tidegauge_query_eval_seconds_total",
                "Time spent on evaluation.",
                MetricKind::Counter,
                seconds(&self.eval_us),
            ),
            (
                "tidegauge_query_queue_seconds_total",
                "Time spent waiting for a place.",
                MetricKind::Counter,
                seconds(&self.queue_us),
            ),
            (
                "tidegauge_query_refused_total",
                "Queries stopped by a limit, by reason.",
                MetricKind::Counter,
                vec![
                    why("timeout", &self.timed_out),
                    why("canceled", &self.canceled),
                    why("max_samples", &self.over_samples),
                    why("memory", &self.over_memory),
                ],
            ),
            (
                "tidegauge_query_duration_seconds",
                "How long the parts of queries that succeeded took, quantiles over the last minutes.",
                MetricKind::Summary,
                self.durations(),
            ),
        ]
    }

    fn durations(&self) -> SummarySamples {
        let now = Instant::now();
        let mut slices = self.slices.lock();
        let named = SLICES.iter().zip(&mut *slices);
        named
            .flat_map(|(name, summary)| summary.samples(now, &[("slice", (*name).to_owned())], &QUANTILES))
            .collect()
    }

    /// Counts what a query took that ended well.
    pub(crate) fn took(&self, stats: &QueryStats) {
        Self::add_time(&self.eval_us, stats.eval);
        Self::add_time(&self.queue_us, stats.queue);
        let now = Instant::now();
        let mut slices = self.slices.lock();
        for (summary, took) in slices
            .iter_mut()
            .zip([stats.queue, stats.prepare, stats.eval, stats.sort])
        {
            summary.observe_time(now, took);
        }
    }

    pub(crate) fn add(counter: &AtomicU64, by: u64) {
        counter.fetch_add(by, Ordering::Relaxed);
    }

    fn add_time(counter: &AtomicU64, took: Duration) {
        counter.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}
