//! What discovery counts, under the names that upstream gives it, so that its dashboards and alerts go on.

use crate::metrics::{Count, Family};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tidegauge_model::{MetricKind, Summary, SummarySamples};

/// Refreshes of the providers of one mechanism in one job.
#[derive(Debug, Default)]
pub(crate) struct Refreshes {
    pub(crate) failures: Count,
    times: Mutex<Summary>,
}

impl Refreshes {
    /// One has ended, well or not.
    pub(crate) fn note(&self, took: Duration) {
        self.times.lock().observe_time(Instant::now(), took);
    }

    fn samples(&self, labels: &[(&'static str, String)]) -> SummarySamples {
        self.times.lock().samples(Instant::now(), labels, &QUANTILES)
    }
}

/// Upstream's.
const QUANTILES: [f64; 3] = [0.5, 0.9, 0.99];

/// Counters and gauges of discovery.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// By mechanism and job; never forgotten, as a counter that goes and comes again misleads.
    refreshes: Mutex<BTreeMap<(&'static str, String), Arc<Refreshes>>>,
    /// Targets found, by job.
    targets: Mutex<BTreeMap<String, usize>>,
    /// When files of targets last changed, in seconds.
    file_times: Mutex<BTreeMap<String, f64>>,
    pub(crate) failed_configs: Count,
    pub(crate) received: Count,
    pub(crate) syncs: Count,
    pub(crate) delayed: Count,
    pub(crate) http_failures: Count,
    pub(crate) dns_lookups: Count,
    pub(crate) dns_failures: Count,
    pub(crate) file_read_errors: Count,
    pub(crate) file_watch_errors: Count,
    pub(crate) file_scans: Refreshes,
}

impl Counts {
    pub(crate) fn refreshes(&self, mechanism: &'static str, job: &str) -> Arc<Refreshes> {
        let mut all = self.refreshes.lock();
        Arc::clone(all.entry((mechanism, job.to_owned())).or_default())
    }

    /// How many targets a job has found.
    pub(crate) fn set_targets(&self, job: &str, count: usize) {
        self.targets.lock().insert(job.to_owned(), count);
    }

    /// A job that is gone has no number.
    pub(crate) fn forget_job(&self, job: &str) {
        self.targets.lock().remove(job);
    }

    pub(crate) fn set_file_time(&self, path: String, seconds: f64) {
        self.file_times.lock().insert(path, seconds);
    }

    pub(crate) fn forget_file(&self, path: &str) {
        self.file_times.lock().remove(path);
    }

    /// All of them, as they are now.
    pub(crate) fn list(&self) -> Vec<Family> {
        let scrape = || ("name", "scrape".to_owned());
        let named = |count: &Count| vec![(vec![scrape()], count.get() as f64)];
        let plain = |count: &Count| vec![(Vec::new(), count.get() as f64)];
        let targets = self.targets.lock();
        let targets = targets
            .iter()
            .map(|(job, count)| (vec![scrape(), ("config", job.clone())], *count as f64));
        let files = self.file_times.lock();
        let files = files
            .iter()
            .map(|(path, seconds)| (vec![("filename", path.clone())], *seconds));
        let (failures, durations) = self.refresh_samples();
        vec![
            (
                "prometheus_sd_discovered_targets",
                "Current number of discovered targets.",
                MetricKind::Gauge,
                targets.collect(),
            ),
            (
                "prometheus_sd_failed_configs",
                "Current number of service discovery configurations that failed to load.",
                MetricKind::Gauge,
                named(&self.failed_configs),
            ),
            (
                "prometheus_sd_received_updates_total",
                "Total number of update events received from the SD providers.",
                MetricKind::Counter,
                named(&self.received),
            ),
            (
                "prometheus_sd_updates_total",
                "Total number of times the targets of a job were brought up to date.",
                MetricKind::Counter,
                named(&self.syncs),
            ),
            (
                "prometheus_sd_updates_delayed_total",
                "Total number of update events that had to wait because the one before was too recent.",
                MetricKind::Counter,
                named(&self.delayed),
            ),
            (
                "prometheus_sd_refresh_failures_total",
                "Number of refresh failures for the given SD mechanism.",
                MetricKind::Counter,
                failures,
            ),
            (
                "prometheus_sd_refresh_duration_seconds",
                "The duration of a refresh in seconds for the given SD mechanism.",
                MetricKind::Summary,
                durations,
            ),
            (
                "prometheus_sd_http_failures_total",
                "Number of HTTP service discovery refresh failures.",
                MetricKind::Counter,
                plain(&self.http_failures),
            ),
            (
                "prometheus_sd_dns_lookups_total",
                "The number of DNS-SD lookups.",
                MetricKind::Counter,
                plain(&self.dns_lookups),
            ),
            (
                "prometheus_sd_dns_lookup_failures_total",
                "The number of DNS-SD lookup failures.",
                MetricKind::Counter,
                plain(&self.dns_failures),
            ),
            (
                "prometheus_sd_file_read_errors_total",
                "The number of File-SD read errors.",
                MetricKind::Counter,
                plain(&self.file_read_errors),
            ),
            (
                "prometheus_sd_file_watcher_errors_total",
                "The number of File-SD errors caused by filesystem watch failures.",
                MetricKind::Counter,
                plain(&self.file_watch_errors),
            ),
            (
                "prometheus_sd_file_scan_duration_seconds",
                "The duration of the File-SD scan in seconds.",
                MetricKind::Summary,
                self.file_scans.samples(&[]),
            ),
            (
                "prometheus_sd_file_mtime_seconds",
                "Timestamp (mtime) of files read by FileSD. Timestamp is set at read time.",
                MetricKind::Gauge,
                files.collect(),
            ),
        ]
    }

    fn refresh_samples(&self) -> (SummarySamples, SummarySamples) {
        let mut failures = Vec::new();
        let mut durations = Vec::new();
        for ((mechanism, job), refreshes) in &*self.refreshes.lock() {
            // Files are watched, not asked.
            if *mechanism == "file" {
                continue;
            }
            let labels = vec![("mechanism", (*mechanism).to_owned()), ("config", job.clone())];
            failures.push((labels.clone(), refreshes.failures.get() as f64));
            durations.extend(refreshes.samples(&labels));
        }
        (failures, durations)
    }
}
